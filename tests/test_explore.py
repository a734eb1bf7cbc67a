"""Tools that look into a generator: what their pictures show, and what they say of runs that do not fit.

The runs are not trained: a checkpoint of first weights, some of them made larger so that samples differ, is as good.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from PIL import Image

from experiments import cgan, dcgan, stylegan2_ada, toy2d
from jaxgan import build, distributed, explore, pictures
from jaxgan.checkpoint import Checkpoints
from jaxgan.data import Dataset
from jaxgan.errors import CheckpointError, ConfigError, DataError
from jaxgan.explore import opened as opened_run
from jaxgan.explore.directions import latent_weights, stretched
from jaxgan.explore.interpolation import label_walk
from jaxgan.explore.neighbours import nearness
from jaxgan.explore.projection import _starts, read_picture
from jaxgan.explore.style_mixing import mixed_styles
from jaxgan.models import biggan, mlp
from jaxgan.sampling import Generator
from jaxgan.workdir import Workdir

SIDE = 28  # of the digits, which a grid shows at twice their size with a margin of two of their pixels
DIGITS = tuple("0123456789")


def new_run(folder, config, *, shape=(SIDE, SIDE, 1), names=DIGITS, gain=1.0):
    """A work folder with a checkpoint at step 0, the averaged generator's kernels times `gain`."""
    counts = [500] * len(names)
    experiment = build.make_experiment(config, shape, 5000, counts)
    shapes = jax.eval_shape(experiment.new_state).replace(key=jnp.zeros(()))
    example = {"real": jnp.zeros((2, *shape)), "index": jnp.arange(2), "label": jnp.zeros(2, jnp.int32)}

    @jax.jit  # which leaves out the discriminator
    def generator():
        params, _, variables = experiment.game.init(jax.random.key(0), example)
        return jax.tree.map(lambda x: gain * x if x.ndim >= 2 else x, params), variables["generator"]

    params, variables = generator()
    state = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    state = state.replace(ema_g=params, ema_variables=variables, key=jax.random.key(0))
    facts = {"name": config.data.name, "shape": shape, "examples": 5000, "label_names": names, "label_counts": counts}
    Workdir(folder).claim(config, {}, facts)
    checkpoints = Checkpoints(Workdir(folder).checkpoints)
    checkpoints.save(state, {})
    checkpoints.wait()
    checkpoints.close()
    return str(folder)


@pytest.fixture(scope="module", autouse=True)
def read_once():
    """A run is read and its generator compiled once for all tests; reading has tests of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(opened_run, "load_trained", functools.cache(opened_run.load_trained))
        yield


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    # Without the gain a DCGAN's first samples are all the same grey.
    return new_run(tmp_path_factory.mktemp("explore") / "dcgan", dcgan.get_config("tiny"), gain=10.0)


@pytest.fixture(scope="module")
def conditional(tmp_path_factory):
    return new_run(tmp_path_factory.mktemp("explore") / "cgan", cgan.get_config("tiny"))


@pytest.fixture(scope="module")
def styled(tmp_path_factory):
    config = stylegan2_ada.get_config("tiny")
    stylegan2_ada.networks(config, (8, 8), w_size=8)
    return new_run(tmp_path_factory.mktemp("explore") / "stylegan2", config)


@pytest.fixture(scope="module")
def points(tmp_path_factory):
    config = toy2d.get_config("tiny")
    return new_run(tmp_path_factory.mktemp("explore") / "toy2d", config, shape=(2,), names=())


def opened(workdir, seed=0):
    return opened_run.open_run(workdir, "last", seed)


def cells(file):
    """The pictures [rows, columns, 28, 28] of a grid of digits."""
    with Image.open(file) as image:
        assert image.format == "PNG"
        pixels = np.asarray(image)[::2, ::2]
    rows, columns = ((side - 2) // (SIDE + 2) for side in pixels.shape)
    assert pixels.shape == (rows * (SIDE + 2) + 2, columns * (SIDE + 2) + 2)
    tiles = pixels[2:, 2:].reshape(rows, SIDE + 2, columns, SIDE + 2).transpose(0, 2, 1, 3)
    return tiles[:, :, :SIDE, :SIDE]


def shown(made):
    return pictures.to_uint8(made)[..., 0]


def assert_same_picture(a, b):
    """To a step of grey: batches of other sizes are rounded otherwise."""
    assert np.abs(a.astype(int) - b.astype(int)).max() <= 1


def test_a_walk_ends_at_the_samples_of_its_latents(plain):
    file = explore.explore(plain, "interpolation", seed=3, rows=2, columns=4, checkpoint="0")
    assert file.parent == Workdir(plain).samples and "interpolation" in file.name and "seed_3" in file.name
    grid, run = cells(file), opened(plain, 3)
    assert grid.shape[:2] == (2, 4)
    ends = shown(run.decode(run.latents(4), None))
    assert_same_picture(grid[:, 0], ends[:2])
    assert_same_picture(grid[:, -1], ends[2:])
    assert np.abs(grid[0, 0].astype(int) - grid[0, -1]).max() > 30


def test_a_tools_picture_follows_from_the_seed(plain):
    once, again, other = (explore.interpolation(plain, seed=s, rows=1, columns=2).read_bytes() for s in (5, 5, 6))
    assert once == again != other


def test_a_conditional_generator_also_walks_between_classes(conditional):
    file = explore.interpolation(conditional, rows=2, columns=3, classes=("7", "1"))
    grid, run = cells(file), opened(conditional)
    assert grid.shape[:2] == (4, 3)
    z = run.latents(2)
    for column, label in ((0, 7), (2, 1)):
        assert_same_picture(grid[2:, column], shown(run.decode(z, np.full(2, label))))
    assert_same_picture(grid[:2, 0], shown(run.decode(z, run.labels(2))))


def test_a_label_on_its_way_is_a_mixed_one_hot_vector(conditional):
    run = opened(conditional)
    z, share = run.latents(3), np.array([0.0, 0.25, 1.0], np.float32)
    first, last = np.array([1, 2, 3]), np.array([4, 5, 6])
    made, other = label_walk(run.game.decode, *run.networks, z, first, last, share)
    np.testing.assert_array_equal(made, other)
    one_hot = np.eye(10, dtype=np.float32)
    mixed = (1 - share)[:, None] * one_hot[first] + share[:, None] * one_hot[last]
    generator = mlp.Generator(hidden=run.config.model.generator.hidden)
    expected = generator.apply({"params": run.networks[0]}, np.concatenate([z, mixed], axis=1), train=False)
    np.testing.assert_allclose(made, expected, atol=1e-5)


class Embedding(nn.Module):
    @nn.compact
    def __call__(self, z, label):
        return z + nn.Embed(3, 4, name="table")(label)


def test_a_label_on_its_way_is_a_mixed_embedding():
    z, module = jnp.zeros((2, 4)), Embedding()
    params = module.init(jax.random.key(0), z, jnp.zeros(2, jnp.int32))["params"]
    first, last = jnp.array([0, 1]), jnp.array([2, 2])

    def decode(params, variables, z, label):
        return module.apply({"params": params}, z, label)

    made, other = label_walk(decode, params, {}, z, first, last, jnp.array([0.5, 0.25]))
    table = params["table"]["embedding"]
    np.testing.assert_allclose(made, [(table[0] + table[2]) / 2, 0.75 * table[1] + 0.25 * table[2]], atol=1e-6)
    np.testing.assert_array_equal(made, other)


def test_labels_that_cannot_be_mixed_are_told_and_classes_shown_instead(conditional, monkeypatch):
    def decode(params, variables, z, label):
        return z + jax.nn.one_hot(label, 4)  # no layer that could be mixed

    made, other = label_walk(
        decode, {}, {}, jnp.zeros((1, 4)), jnp.array([0]), jnp.array([1]), jnp.array([0.5])
    )
    assert np.abs(made - other).max() == 1
    module = explore.interpolation.__globals__  # the package's name for the module is its function's
    monkeypatch.setitem(module, "label_walk", lambda *given: (jnp.zeros(len(given[3])), jnp.ones(len(given[3]))))
    grid, run = cells(explore.interpolation(conditional, rows=1, columns=2)), opened(conditional)
    assert_same_picture(grid[1], shown(run.decode(np.repeat(run.latents(1), 2, axis=0), np.array([0, 9]))))


def test_the_diagonal_of_mixed_styles_is_unmixed(styled):
    file = explore.style_mixing(styled, sources=3, seed=1)
    grid, run = cells(file), opened(styled, 1)
    assert grid.shape[:2] == (4, 4)
    unmixed = shown(run.decode(run.latents(3), run.labels(3)))
    diagonal = grid[1:, 1:][np.arange(3), np.arange(3)]
    for part in (diagonal, grid[0, 1:], grid[1:, 0]):
        assert_same_picture(part, unmixed)
    assert np.abs(grid[1, 2].astype(int) - grid[1, 1]).max() > 1


def test_coarse_layers_come_from_the_row_and_the_rest_from_the_column():
    rows, columns = np.array([[1.0], [2.0]]), np.array([[10.0], [20.0], [30.0]])
    mixed = mixed_styles(rows, columns, layers=4, coarse=1)
    assert mixed.shape == (2, 3, 4, 1)
    np.testing.assert_array_equal(mixed[1, 2, :, 0], [2, 30, 30, 30])


@pytest.fixture(scope="module")
def own_sample(plain, tmp_path_factory):
    """A picture that the generator made, and its file."""
    run, file = opened(plain, 9), tmp_path_factory.mktemp("picture") / "own.png"
    sample = shown(run.decode(run.latents(1), None))[0]
    Image.fromarray(sample).save(file)
    return sample, str(file)


def test_a_projection_finds_the_generators_own_sample(plain, own_sample):
    sample, picture = own_sample
    file = explore.projection(plain, picture, steps=200, starts=4)
    grid, found = cells(file), np.load(file.with_suffix(".npz"))
    assert grid.shape[:2] == (4, 7)
    np.testing.assert_array_equal(grid[:, 0], np.broadcast_to(sample, (4, SIDE, SIDE)))
    np.testing.assert_array_equal(found["target"][..., 0], sample)
    at_first, at_last = found["losses"]
    assert found["loss"] == at_last.min() < 0.05 * at_first.min()  # the best of the random latents
    run = opened(plain)
    assert_same_picture(found["reconstruction"][..., 0], shown(run.decode(found["z"][None], None))[0])
    # The first row is the best start, from its random latent to what was found.
    best = at_last.argmin()
    assert_same_picture(grid[0, 1], shown(run.decode(run.latents(4)[best : best + 1], None))[0])
    assert_same_picture(grid[0, -1], found["reconstruction"][..., 0])


def test_a_projection_finds_a_style(styled, own_sample):
    file = explore.projection(styled, own_sample[1], steps=2, starts=2)
    found, run = np.load(file.with_suffix(".npz")), opened(styled)
    assert found["w"].shape == (8,) and "label" not in found
    x, _, _ = _starts(run, 2, "")
    np.testing.assert_allclose(x[0], run.styles.mean(axis=0), rtol=1e-6)  # from the mean, and from random ones
    assert cells(file).shape[:2] == (2, 4)


@pytest.mark.parametrize(("label", "expected"), [("4", {4}), ("", set(range(10)))])
def test_a_conditional_generators_starts_have_the_label_or_all_in_turn(conditional, label, expected):
    z, labels, _ = _starts(opened(conditional), 10, label)
    assert z.shape == (10, 100) and set(labels.tolist()) == expected


@pytest.mark.parametrize("shape", [(4, 4, 1), (4, 8, 3)])
def test_a_picture_is_cut_and_resized_like_the_data(shape, tmp_path):
    pixels = np.zeros((8, 20, 3), np.uint8)
    pixels[:, 2:18] = 200  # wider than either cut-out
    Image.fromarray(pixels).save(tmp_path / "p.png")
    np.testing.assert_array_equal(read_picture(str(tmp_path / "p.png"), shape), np.full(shape, 200))


def test_a_planted_training_picture_is_found_at_distance_0(plain, monkeypatch, tmp_path):
    run = opened(plain, 2)
    real = np.random.default_rng(0).integers(0, 256, (60, SIDE, SIDE, 1), np.uint8)
    planted = pictures.to_uint8(Generator(run.game).samples(run.trained.state, run.key, 8))[5]
    real[17] = planted
    monkeypatch.setattr(build, "load_data", lambda config: Dataset("mnist5k", {"real": real}, ()))
    monkeypatch.setitem(explore.neighbours.__globals__, "default_data_dir", lambda: tmp_path)
    file = explore.neighbours(plain, seed=2, num_samples=8, rows=3, k=4)
    found = np.load(file.with_suffix(".npz"))
    assert found["indices"].shape == found["distances"].shape == (8, 4)
    assert found["indices"][5, 0] == 17 and found["distances"][5, 0] == 0
    assert found["samples"].shape == found["held_out"].shape == (2,)
    with Image.open(file) as image:
        height, width = 2 * SIDE + 12 + 2, 2 * SIDE + 2
        assert image.size == (5 * width + 2, 3 * height + 2)
        pixels = np.asarray(image)
    twice = planted[..., 0].repeat(2, axis=0).repeat(2, axis=1)
    for left in (2, 2 + width):  # the copy comes first, beside what it copies
        np.testing.assert_array_equal(pixels[2 : 2 + 2 * SIDE, left : left + 2 * SIDE], twice)


def test_nearness_of_copies_and_of_fresh_points():
    rng = np.random.default_rng(0)
    real = rng.normal(size=(4000, 1))
    assert nearness(real[:50], real) == (1.0, 0.0)
    assert nearness(rng.normal(size=(4000, 1)), real).share == pytest.approx(2 / 3, abs=0.03)
    assert nearness(np.array([[1.0]]), np.array([[0.0], [0.5], [5.0]])) == (0.0, 0.5)


def test_stretched_directions_are_the_eigenvectors_of_the_largest_values():
    a = np.random.default_rng(0).normal(size=(20, 6)).astype(np.float32)
    axes, values = stretched(a)
    np.testing.assert_allclose(axes @ axes.T, np.eye(6), atol=1e-6)
    np.testing.assert_allclose(a.T @ a @ axes.T, axes.T * values, rtol=1e-4, atol=1e-4)
    assert np.all(np.diff(values) <= 0)
    assert np.all(np.take_along_axis(axes, np.abs(axes).argmax(1)[:, None], 1) > 0)
    axes, values = stretched(np.diag([1.0, 3.0, 2.0]))
    np.testing.assert_allclose(values, [9, 4, 1])
    np.testing.assert_array_equal(axes, [[0, 1, 0], [0, 0, 1], [1, 0, 0]])


def weights_of(run):
    return latent_weights(run.space, run.networks, run.latents(1).shape[1], run.labels(1))


def test_the_weights_on_the_latents_are_those_of_the_first_dense_layer(plain, conditional):
    run = opened(plain)
    np.testing.assert_allclose(weights_of(run), run.networks[0]["Dense_0"]["kernel"].T, atol=1e-6)
    run = opened(conditional)  # whose kernel has the label's ten rows below
    np.testing.assert_allclose(weights_of(run), run.networks[0]["Dense_0"]["kernel"][:-10].T, atol=1e-6)


def test_the_weights_on_styles_are_those_of_all_layers(styled):
    run = opened(styled)
    found = latent_weights(run.space, run.networks, 8, None)
    layers = [layer for layer in run.networks[0]["synthesis_network"].values() if isinstance(layer, dict)]
    kernels = [layer["style"]["kernel"].T / np.sqrt(8) for layer in layers]
    assert len(kernels) == 5  # three convolutions and two to grey
    expected = sum(kernel.T @ kernel for kernel in kernels)
    np.testing.assert_allclose(found.T @ found, expected, rtol=1e-4, atol=1e-5)


def test_the_weights_on_latents_in_chunks_are_those_on_the_first_chunk():
    module = biggan.Generator(shape=(4, 4, 1), widths=(4, 4), attention=0, classes=3, shared_size=2)
    z, label = jnp.zeros((1, 6)), jnp.zeros(1, jnp.int32)
    variables = jax.jit(lambda: module.init(jax.random.key(0), z, label, train=False))()

    def decode(params, variables, z, label):
        return module.apply({"params": params, **variables}, z, label, train=False)

    params = variables.pop("params")
    found = latent_weights(opened_run.Space("z", decode), (params, variables), 6, label)
    np.testing.assert_allclose(found[:, :3], params["first"]["kernel"].T, atol=1e-6)
    np.testing.assert_array_equal(found[:, 3:], 0)


def test_a_generator_without_a_dense_layer_has_no_weights_on_its_latents():
    with pytest.raises(ConfigError, match="no fully connected layer"):
        latent_weights(opened_run.Space("z", lambda params, variables, z, label: z), ({}, {}), 3, None)


@pytest.mark.parametrize("kind", ["plain", "conditional", "styled"])
def test_directions_lead_through_the_sample_in_the_middle(kind, request):
    workdir = request.getfixturevalue(kind)
    grid, run = cells(explore.directions(workdir, count=2, columns=3)), opened(workdir)
    assert grid.shape[:2] == (2, 3)
    middle = shown(run.decode(run.latents(1), run.labels(1)))
    assert_same_picture(grid[:, 1], np.repeat(middle, 2, axis=0))
    assert np.abs(grid[:, 0].astype(int) - grid[:, 2]).max(axis=(1, 2)).min() > 1


@pytest.mark.parametrize("tool", ["interpolation", "directions"])
def test_points_become_paths(points, tool):
    with Image.open(explore.explore(points, tool)) as image:
        assert image.size == (500, 500)


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"what": "morphing"}, ConfigError, "known: interpolation, style_mixing, projection, neighbours, directions"),
        ({"what": "directions", "picture": "p.png"}, ConfigError, "takes no picture; it takes checkpoint, seed, count"),
        ({"what": "projection", "picture": ""}, ConfigError, "--picture=FILE"),
        ({"what": "projection", "picture": "nowhere.png"}, DataError, "no picture nowhere.png"),
        ({"what": "projection", "picture": __file__}, DataError, "is no picture that can be read"),
        ({"what": "projection", "picture": "p.png", "steps": 0}, ConfigError, "steps=0 must be 1 or more"),
        ({"what": "interpolation", "columns": 1}, ConfigError, "columns=1 must be 2 or more"),
        ({"what": "interpolation", "classes": ["1", "2"]}, ConfigError, "trained without labels"),
        ({"what": "interpolation", "checkpoint": "5"}, ConfigError, "--checkpoint=5"),
        ({"what": "style_mixing"}, ConfigError, "dcgan has no styles"),
        ({"what": "style_mixing", "sources": 1001}, ConfigError, "sources=1001 must be from 1 to 1000"),
        ({"what": "neighbours", "k": 0}, ConfigError, "k=0 must be 1 or more"),
    ],
)
def test_what_does_not_fit_is_told(plain, options, error, says):
    before = set(Workdir(plain).samples.iterdir())
    with pytest.raises(error, match=says):
        explore.explore(plain, **options)
    assert set(Workdir(plain).samples.iterdir()) == before


def test_several_processes_are_refused(plain, monkeypatch):
    monkeypatch.setattr(distributed, "count", lambda: 2)
    with pytest.raises(ConfigError, match="--mode=explore is for one process"):
        explore.explore(plain, "interpolation")


@pytest.mark.parametrize("tool", ["projection", "neighbours"])
def test_tools_for_pictures_take_no_points(points, tool):
    with pytest.raises(DataError, match="Points can be explored with"):
        explore.explore(points, tool, picture="p.png" if tool == "projection" else None)


def test_classes_are_two_known_ones(conditional):
    for classes, says in ((("1",), "two ends"), (("1", "ten"), "no class 'ten'; known: 0, 1")):
        with pytest.raises(ConfigError, match=says):
            explore.interpolation(conditional, rows=1, columns=2, classes=classes)


def test_a_folder_without_a_run(tmp_path):
    with pytest.raises(CheckpointError, match="holds no run"):
        explore.explore(str(tmp_path), "interpolation")
