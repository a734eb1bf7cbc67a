"""Samples that depend on nothing but their number, paths on the sphere, a distance that orders; the album of a run."""

from types import SimpleNamespace

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxgan import pictures
from jaxgan.album import Album, draw_paths, draw_samples, rows_of_labels
from jaxgan.data.dataset import make_dataset
from jaxgan.games import standard
from jaxgan.losses import ADVERSARIAL
from jaxgan.models import mlp
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
    book.finish(moved, 20)
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
    book.finish(state, 5)
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


class Tell(nn.Module):
    """Gives back its latent, moved by a number, and after it its label."""

    axis_name: str | None = None

    @nn.compact
    def __call__(self, z, label, *, train, index=None):
        shift = self.param("shift", nn.initializers.zeros, ())
        return jnp.concatenate([z + shift, label[:, None].astype(z.dtype)], axis=1)


SHARES = (0.1, 0.2, 0.7)
TELL_GAME = standard.make_game(
    Tell(), mlp.Discriminator(classes=3), ADVERSARIAL["hinge"], latent_size=3, label_shares=SHARES
)
TELL = Generator(TELL_GAME)
TELLING = affine_state(raw=100.0, ema=0.0)


def latents(n, **options):
    return np.asarray(TELL_GAME.latents(KEY, jnp.arange(n), **options))


@pytest.mark.parametrize("n", [1, 11, 1100])  # parts that do not fill the devices; more than one part
def test_samples_have_the_labels_that_they_are_given(n):
    labels = np.arange(n) * 7 % 3
    found = TELL.samples(TELLING, KEY, n, labels=labels)
    np.testing.assert_array_equal(found[:, 3], labels)
    np.testing.assert_allclose(found[:, :3], latents(n), rtol=1e-6)
    assert TELL.is_conditional and not GENERATOR.is_conditional


def test_labels_by_default_are_such_as_the_data_has_and_belong_to_the_sample():
    many = TELL.samples(TELLING, KEY, 3000)
    counts = np.bincount(many[:, 3].astype(int), minlength=3)
    expected = 3000 * np.array(SHARES)
    assert np.sum((counts - expected) ** 2 / expected) < 13.8  # the 99.9th percentile at 2 degrees of freedom
    np.testing.assert_allclose(many[:, :3], latents(3000), rtol=1e-6)
    for first, n in ((0, 7), (1020, 20), (2999, 1)):
        np.testing.assert_allclose(TELL.samples(TELLING, KEY, n, first=first), many[first : first + n], rtol=1e-6)
    # What is drawn says nothing about the latent: each class has the mean of them all.
    means = np.stack([many[many[:, 3] == label, :3].mean(axis=0) for label in range(3)])
    assert np.abs(means).max() < 0.25  # of 300 draws and more from N(0, 1)


def test_labels_and_truncation_do_not_know_the_devices():
    one = Generator(TELL_GAME, jax.devices()[:1])
    for options in ({}, {"labels": np.arange(13) % 3, "truncation": 0.4}):
        one_device, all_devices = (generator.samples(TELLING, KEY, 13, **options) for generator in (one, TELL))
        np.testing.assert_array_equal(one_device, all_devices)


def test_truncation_bounds_the_latents_of_samples():
    found = TELL.samples(TELLING, KEY, 300, truncation=0.7)[:, :3]
    assert 0.65 < np.abs(found).max() <= 0.7
    np.testing.assert_allclose(found, latents(300, truncation=0.7), rtol=1e-6)
    np.testing.assert_allclose(TELL.samples(TELLING, KEY, 20, first=280, truncation=0.7)[:, :3], found[280:], rtol=1e-6)
    assert np.abs(TELL.samples(TELLING, KEY, 300)[:, :3]).max() > 1.5


def test_classes_are_rows_and_a_column_has_one_latent():
    labels = np.array([2, 0, 1, 2])
    grid = TELL.classes(TELLING, KEY, labels, 5).reshape(4, 5, 4)
    np.testing.assert_array_equal(grid[:, :, 3], np.repeat(labels[:, None], 5, axis=1))
    np.testing.assert_allclose(grid[:, :, :3], np.tile(latents(5), (4, 1, 1)), rtol=1e-6)
    raw = TELL.classes(TELLING, KEY, labels, 5, ema=False).reshape(4, 5, 4)
    np.testing.assert_allclose(raw[:, :, :3], grid[:, :, :3] + 100.0, rtol=1e-5)
    cut = TELL.classes(TELLING, KEY, labels, 5, truncation=0.3).reshape(4, 5, 4)
    np.testing.assert_allclose(cut[:, :, :3], np.tile(latents(5, truncation=0.3), (4, 1, 1)), rtol=1e-6)


def test_between_keeps_the_label_of_its_row():
    paths = TELL.between(TELLING, KEY, 3, 4, np.array([1, 0, 2]))
    np.testing.assert_array_equal(paths[:, :, 3], [[1] * 4, [0] * 4, [2] * 4])
    np.testing.assert_allclose(paths[:, 0, :3], latents(6)[:3], atol=1e-5)
    np.testing.assert_allclose(paths[:, -1, :3], latents(6)[3:], atol=1e-5)


@pytest.mark.parametrize(
    "classes, rows, expected",
    [(3, 8, [0, 1, 2]), (3, 3, [0, 1, 2]), (10, 4, [0, 3, 6, 9]), (1000, 2, [0, 999]), (10, 1, [0])],
)
def test_the_labels_of_a_grid_s_rows(classes, rows, expected):
    np.testing.assert_array_equal(rows_of_labels(classes, rows), expected)


def test_the_album_of_a_conditional_run_has_a_class_in_each_row(tmp_path):
    networks = mlp.Generator(shape=(8, 8, 1), hidden=(4,), classes=3), mlp.Discriminator(hidden=(4,), classes=3)
    game = standard.make_game(*networks, ADVERSARIAL["hinge"], 4, label_shares=SHARES)
    example = {"real": jnp.zeros((2, 8, 8, 1)), "index": jnp.arange(2), "label": jnp.zeros(2, jnp.int32)}
    params, _, variables = jax.jit(game.init)(jax.random.key(0), example)
    nets = {"params_g": params, "ema_g": params, "variables": variables, "ema_variables": variables["generator"]}
    state, generator = SimpleNamespace(**nets), Generator(game)
    data = make_dataset("noise", small_pictures(10)["real"], np.arange(10) % 3, ("a", "b", "c"))
    book, _ = album(tmp_path, generator, data)  # of 2 rows and 3 columns
    book.add(state, 0)
    book.finish(state, 0)
    z = jnp.tile(game.latents(jax.random.split(KEY)[0], jnp.arange(3)), (2, 1))
    expected = game.decode(params, variables, z, jnp.repeat(jnp.array([0, 2]), 3))
    found = np.asarray(Image.open(tmp_path / "samples" / "final.png"), int)
    np.testing.assert_allclose(found, np.asarray(draw_samples(np.asarray(expected), 3), int), atol=1)
    interpolation = Image.open(tmp_path / "samples" / "interpolation.png")
    assert interpolation.size == ((6 * 10 + 2) * 7, (2 * 10 + 2) * 7)
