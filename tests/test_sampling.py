"""Samples that depend on nothing but their number, paths on the sphere, a distance that orders; the album of a run."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from jaxgan import pictures
from jaxgan.album import Album, draw_paths, draw_samples
from jaxgan.data.dataset import make_dataset
from jaxgan.parallel import Parallel
from jaxgan.sampling import Generator, spherical_interpolation
from jaxgan.workdir import Workdir
from tests.small import dcgan_game, mlp_game, new_state, sgd
from tests.small import pictures as small_pictures

KEY = jax.random.key(3)
GAME = mlp_game()
STATE = new_state(GAME, sgd())
GENERATOR = Generator(GAME)
POINTS = np.random.default_rng(0).normal(size=(50, 2)).astype(np.float32)


def affine_game():
    """G(z) = z + shift: a game whose samples can be worked out by hand."""

    def latents(key, index, truncation=None):
        return jax.vmap(lambda i: jax.random.normal(jax.random.fold_in(key, i), (2,)))(index)

    def decode(params_g, variables, z, condition=None, truncation=None):
        return z + params_g["shift"]

    return SimpleNamespace(latents=latents, decode=decode, conditions=None)


def affine_state(raw, ema):
    return SimpleNamespace(
        params_g={"shift": jnp.asarray(raw)},
        ema_g={"shift": jnp.asarray(ema)},
        variables={"generator": {}},
        ema_variables={},
    )


def test_a_sample_depends_on_its_number_alone():
    many = GENERATOR.samples(STATE, KEY, 300)  # more than one part of 256
    assert many.shape == (300, 8, 8, 1)
    for first, n in ((0, 1), (0, 7), (250, 20), (299, 1)):
        some = GENERATOR.samples(STATE, KEY, n, first=first)
        np.testing.assert_allclose(some, many[first : first + n], atol=1e-6)


def test_samples_differ_from_each_other_and_between_keys():
    one, two = GENERATOR.samples(STATE, KEY, 8), GENERATOR.samples(STATE, jax.random.key(4), 8)
    everything = np.concatenate([one, two]).reshape(16, -1)
    assert len(np.unique(everything, axis=0)) == 16


def test_samples_are_the_game_s_own():
    expected = jax.jit(GAME.sample, static_argnums=3)(STATE.ema_g, {"generator": STATE.ema_variables}, KEY, 5)
    np.testing.assert_allclose(GENERATOR.samples(STATE, KEY, 5), expected, atol=1e-6)


def test_raw_and_averaged_networks():
    generator = Generator(affine_game())
    state = affine_state(raw=[10.0, 0.0], ema=[0.0, 10.0])
    z = np.asarray(affine_game().latents(KEY, jnp.arange(4)))
    np.testing.assert_allclose(generator.samples(state, KEY, 4), z + np.array([0, 10]), rtol=1e-6)
    np.testing.assert_allclose(generator.samples(state, KEY, 4, ema=False), z + np.array([10, 0]), rtol=1e-6)


def test_the_averaged_network_has_its_own_statistics():
    game = dcgan_game()
    state = new_state(game, sgd())
    shifted = jax.tree.map(lambda x: x + 1.0, state.variables["generator"])
    other = state.replace(variables={**state.variables, "generator": shifted})
    generator = Generator(game)
    averaged, raw = (generator.samples(other, KEY, 3, ema=ema) for ema in (True, False))
    np.testing.assert_array_equal(averaged, generator.samples(state, KEY, 3))
    assert not np.allclose(raw, averaged)
    expected = jax.jit(game.sample, static_argnums=3)(other.params_g, other.variables, KEY, 3)
    np.testing.assert_allclose(raw, expected, atol=1e-6)


def test_a_state_on_four_devices_gives_the_same_samples():
    replicated = Parallel("pmap", jax.devices()[:4]).replicate(STATE)
    np.testing.assert_array_equal(GENERATOR.samples(replicated, KEY, 5), GENERATOR.samples(STATE, KEY, 5))


def test_spherical_interpolation():
    generator = np.random.default_rng(0)
    a, b = (generator.normal(size=(5, 7)) for _ in range(2))
    b *= np.linalg.norm(a, axis=1, keepdims=True) / np.linalg.norm(b, axis=1, keepdims=True)
    path = np.asarray(spherical_interpolation(jnp.asarray(a), jnp.asarray(b), 9))
    assert path.shape == (5, 9, 7)
    np.testing.assert_allclose(path[:, 0], a, atol=1e-5)
    np.testing.assert_allclose(path[:, -1], b, atol=1e-5)
    radius = np.linalg.norm(a, axis=1)
    np.testing.assert_allclose(np.linalg.norm(path, axis=2), np.tile(radius[:, None], 9), rtol=1e-5)
    unit = path / radius[:, None, None]
    angles = np.arccos(np.sum(unit[:, 1:] * unit[:, :-1], axis=2))
    np.testing.assert_allclose(angles, np.tile(angles[:, :1], 8), atol=2e-3)  # equal steps along the arc


def test_spherical_interpolation_by_hand():
    quarter = spherical_interpolation(jnp.array([[2.0, 0.0]]), jnp.array([[0.0, 2.0]]), 3)
    np.testing.assert_allclose(quarter[0], [[2, 0], [2**0.5, 2**0.5], [0, 2]], atol=1e-6)


def test_spherical_interpolation_where_there_is_no_arc():
    a = jnp.array([[1.0, 2.0], [1.0, 0.0]])
    path = spherical_interpolation(a, jnp.array([[2.0, 4.0], [-1.0, 0.0]]), 3)
    np.testing.assert_allclose(path, [[[1, 2], [1.5, 3], [2, 4]], [[1, 0], [0, 0], [-1, 0]]], atol=1e-5)


def test_between_leads_from_one_sample_to_another():
    rows, columns = 3, 5
    paths = GENERATOR.between(STATE, KEY, rows, columns)
    assert paths.shape == (rows, columns, 8, 8, 1)
    ends = GENERATOR.samples(STATE, KEY, 2 * rows)
    np.testing.assert_allclose(paths[:, 0], ends[:rows], atol=1e-5)
    np.testing.assert_allclose(paths[:, -1], ends[rows:], atol=1e-5)


class Board:
    def __init__(self):
        self.added = []

    def picture(self, name, image, step):
        self.added.append((name, image.size, step))


def album(tmp_path, generator, dataset):
    folder, board = Workdir(tmp_path), Board()
    folder.samples.mkdir(parents=True)
    return Album(generator, dataset, folder, board, KEY, 2, 3), board


def test_the_album_of_pictures(tmp_path):
    data = make_dataset("noise", small_pictures(10)["real"], np.zeros(10), ())
    book, board = album(tmp_path, GENERATOR, data)
    moved = STATE.replace(params_g=jax.tree.map(lambda x: x + 0.5, STATE.params_g))
    book.add(STATE, 0)
    book.add(moved, 20)
    book.finish(moved)
    files = {path.name: Image.open(path) for path in (tmp_path / "samples").iterdir()}
    frames = [f"step_{step:09}_{kind}.png" for step in (0, 20) for kind in ("raw", "ema")]
    assert sorted(files) == sorted([*frames, "final.png", "interpolation.png", "training.gif"])
    factor = 56 // 8
    assert files["final.png"].size == ((3 * 10 + 2) * factor, (2 * 10 + 2) * factor)
    assert files["interpolation.png"].size == ((6 * 10 + 2) * factor, (2 * 10 + 2) * factor)
    before, after = (np.asarray(files[name]) for name in (frames[0], frames[2]))
    assert not np.array_equal(before, after)
    assert np.array_equal(before, np.asarray(files[frames[1]]))  # the average was the network at the start
    assert np.array_equal(np.asarray(files["final.png"]), np.asarray(files[frames[3]]))
    assert [(name, step) for name, _, step in board.added] == [
        (f"samples_{kind}", step) for step in (0, 20) for kind in ("raw", "ema")
    ]
    again, _ = album(tmp_path / "again", GENERATOR, data)  # the latents come from the key, as after a restart
    again.add(STATE, 0)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "again" / "samples" / frames[0])), before)


def test_the_album_of_points(tmp_path):
    book, _ = album(tmp_path, Generator(affine_game()), make_dataset("points", POINTS, np.zeros(50), ()))
    state = affine_state(raw=[0.0, 0.0], ema=[1.0, 1.0])
    book.add(state, 5)
    book.finish(state)
    assert {path.name for path in (tmp_path / "samples").iterdir()} == {
        "step_000000005_raw.png", "step_000000005_ema.png", "final.png", "interpolation.png", "training.gif",
    }
    raw, ema = (Image.open(tmp_path / "samples" / f"step_000000005_{kind}.png") for kind in ("raw", "ema"))
    assert raw.size == ema.size == (500, 500) and not np.array_equal(np.asarray(raw), np.asarray(ema))


def test_draw_samples_and_paths():
    samples = np.random.default_rng(0).uniform(-1, 1, (2, 3, 8, 8, 1)).astype(np.float32)
    flat = pictures.to_uint8(samples.reshape(6, 8, 8, 1))
    for image, columns in ((draw_paths(samples), 3), (draw_samples(samples.reshape(6, 8, 8, 1), 2), 2)):
        np.testing.assert_array_equal(np.asarray(image), np.asarray(pictures.grid(flat, columns)))
