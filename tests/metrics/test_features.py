"""Feature networks by name, and their application to sets of pictures."""

import hashlib
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial
from PIL import Image

from jaxgan.data import load
from jaxgan.errors import ConfigError, DataError
from jaxgan.metrics import features as module
from jaxgan.metrics.features import INCEPTION_VARIABLE, NAMES, Features, extract, load_features
from jaxgan.metrics.networks import classifier, inception
from jaxgan.metrics.resize import CONVENTIONS
from jaxgan.metrics.weights import inception_params, write_npz
from tests.metrics.inception_goldens import FEW, PATH, pictures, random_state_dict

GOLDENS = np.load(PATH)


@pytest.fixture(autouse=True)
def no_variable(monkeypatch):
    monkeypatch.delenv(INCEPTION_VARIABLE, raising=False)


@pytest.fixture(scope="module")
def inception_file(tmp_path_factory):
    """Random weights in our own format."""
    file = str(tmp_path_factory.mktemp("weights") / "random.npz")
    write_npz(file, inception_params(random_state_dict()))
    return file


def counting(pictures):
    """Features that tell the pictures apart."""
    x = pictures.astype(jnp.float32)
    return {"features": jnp.stack([x.mean((1, 2, 3)), x[:, 0, 0, 0]], 1), "logits": x[:, 0, :2, 0]}


COUNTING = Features("counting", 2, "", "none", "float32", counting, ("a", "b"))


def test_inception_from_a_file_agrees_with_torch_fidelity(inception_file, monkeypatch, caplog):
    """Named by the environment, over all devices, with a last batch that is not full."""
    monkeypatch.setenv(INCEPTION_VARIABLE, inception_file)
    with caplog.at_level("WARNING"):
        network = load_features("inception")
    sha256 = hashlib.sha256(pathlib.Path(inception_file).read_bytes()).hexdigest()
    assert sha256 in caplog.text and inception_file in caplog.text  # the weights are nobody's
    assert network[:5] == ("inception", 2048, sha256, "tf1", "float32")
    assert len(network.class_names) == 1008

    out = extract(network, pictures()[:5], batch_size=4)
    assert out["features"].shape == (5, 2048) and out["logits"].shape == (5, 1008)
    for ours, reference in (
        (out["features"], GOLDENS["features/2048"][:5]),
        (out["logits"][:FEW], GOLDENS["features/logits_unbiased"]),
    ):
        assert np.linalg.norm(ours - reference) < 1e-5 * np.linalg.norm(reference)


@pytest.mark.parametrize("resize", CONVENTIONS)
def test_every_resize_comes_with_its_scaling_and_grey_becomes_colour(inception_file, resize, monkeypatch):
    network = load_features("inception", weights=inception_file, resize=resize)
    assert network.resize == resize
    monkeypatch.setattr(inception, "apply", lambda params, x: {"2048": x, "logits_unbiased": None})
    x = pictures(2)[..., :1]
    given = network.apply(x)["features"]
    enlarged = CONVENTIONS[resize](x, 299)
    expected = 2 * enlarged / 255 - 1 if resize == "torch" else (enlarged - 128) / 128
    assert given.shape == (2, 299, 299, 3)
    np.testing.assert_allclose(given, np.broadcast_to(expected, given.shape), atol=1e-6)
    with pytest.raises(ConfigError, match="grey or colour"):
        network.apply(np.zeros((1, 8, 8, 4), np.uint8))


def test_loading_the_same_network_again_compiles_nothing_again(inception_file):
    first, second = (load_features("inception", weights=inception_file) for _ in range(2))
    assert jax.tree.structure(first.apply) == jax.tree.structure(second.apply)


def test_without_a_file_the_message_says_where_such_files_come_from(tmp_path, monkeypatch):
    with pytest.raises(DataError) as caught:
        load_features("inception")
    for word in (INCEPTION_VARIABLE, "pytorch-fid", "pt_inception-2015-12-05-6726825d.pth", "torch-fidelity", ".pb"):
        assert word in str(caught.value)
    monkeypatch.setenv(INCEPTION_VARIABLE, str(tmp_path / "missing.pth"))
    with pytest.raises(DataError, match=r"no file .*missing\.pth.*pytorch-fid"):
        load_features("inception")


def test_the_file_that_is_named_goes_before_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv(INCEPTION_VARIABLE, str(tmp_path / "environment.pth"))
    with pytest.raises(DataError, match=r"argument\.pth"):
        load_features("inception", weights=str(tmp_path / "argument.pth"))


def test_a_file_of_another_network_is_refused(tmp_path):
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    with pytest.raises(DataError, match=r"other\.npz is not Inception"):
        load_features("inception", weights=str(tmp_path / "other.npz"))


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"name": "vgg"}, NAMES),
        ({"name": "inception", "resize": "bicubic"}, tuple(CONVENTIONS)),
        ({"name": "raw", "resize": "tf1"}, ("raw", "tf1")),
        ({"name": "digits", "weights": "file.npz"}, ("digits", "file.npz")),
    ],
    ids=str,
)
def test_arguments_that_do_not_fit_are_refused_with_the_known_ones(arguments, words):
    with pytest.raises(ConfigError) as caught:
        load_features(**arguments)
    assert all(word in str(caught.value) for word in words)


def test_raw_features_are_the_pixels_over_255():
    x = pictures(3, 5)
    network = load_features("raw")
    assert network[:5] == ("raw", 0, "", "none", "float32") and network.class_names == ()
    out = extract(network, x)
    assert out.keys() == {"features"}
    np.testing.assert_allclose(out["features"], x.reshape(3, -1) / 255, rtol=1e-6)


@pytest.mark.parametrize("name", ["digits", "garments"])
def test_the_small_classifiers_are_found_by_name(name, monkeypatch):
    params, names = classifier.init(jax.random.key(0)), tuple("abcdefghij")
    monkeypatch.setattr(classifier, "load", lambda given: (params, f"hash of {given}", names))
    network = load_features(name, resize="none")
    assert network[:5] == (name, classifier.SIZE, f"hash of {name}", "none", "float32")
    assert network.class_names == names
    x = pictures(3, 28)[..., :1]
    out = extract(network, x)
    for what, expected in classifier.apply(params, x).items():
        np.testing.assert_allclose(out[what], expected, atol=1e-5)


@pytest.mark.parametrize("resize", CONVENTIONS)
def test_the_small_classifiers_see_pictures_of_other_sizes_resized(resize):
    digits, stacked, seen = load_features("digits", resize=resize), load_features("stacked_digits", resize=resize), {}
    x = pictures(4, 32)
    for channel in range(3):
        resized = CONVENTIONS[resize](x[..., channel : channel + 1], 28)
        seen[channel] = classifier.forward(classifier.load("digits")[0], resized / 127.5 - 1.0)
    assert digits.resize == stacked.resize == resize
    out = extract(digits, x[..., :1])
    for what in ("features", "logits"):
        np.testing.assert_allclose(out[what], seen[0][what], rtol=1e-4, atol=1e-4)
    expected = np.concatenate([seen[channel]["features"] for channel in range(3)], axis=1)
    np.testing.assert_allclose(extract(stacked, x)["features"], expected, rtol=1e-4, atol=1e-4)


def test_enlarged_digits_are_told_by_their_reduced_pictures():
    dataset = load("mnist5k")
    real, labels = dataset.arrays["real"][:500, ..., 0], dataset.arrays["label"][:500]
    enlarged = np.stack([np.asarray(Image.fromarray(x).resize((32, 32), Image.Resampling.LANCZOS)) for x in real])
    found = extract(load_features("digits", resize="clean"), enlarged[..., None])["logits"].argmax(1)
    assert (found == labels).mean() > 0.98


@pytest.mark.parametrize("count", [1, 4, 7, 8, 9])
@pytest.mark.parametrize("devices", [1, 3, 4])
def test_every_picture_has_its_row_whatever_the_batches(count, devices):
    x = pictures(count, 6)
    out = extract(COUNTING, x, batch_size=4, devices=jax.devices()[:devices])
    for name, expected in counting(x).items():
        assert out[name].shape == expected.shape and out[name].dtype == np.float32
        np.testing.assert_allclose(out[name], expected, rtol=1e-6)


def test_a_network_is_compiled_once_and_its_weights_are_arguments():
    traced = []

    def apply(weight, x):
        traced.append(x.shape)
        return {"features": x.reshape(len(x), -1)[:, :3] * weight}

    network = COUNTING._replace(apply=Partial(apply, jnp.float32(2)))
    for weight in (2.0, 3.0):
        network = network._replace(apply=Partial(apply, jnp.float32(weight)))
        out = extract(network, pictures(10, 4), batch_size=4)
        assert np.array_equal(out["features"], pictures(10, 4).reshape(10, -1)[:, :3] * np.float32(weight))
    assert traced == [(1, 4, 4, 3)]  # the part of one of four devices


def test_progress_is_told_after_every_batch_in_order():
    told = []
    extract(COUNTING, pictures(10, 4), batch_size=4, progress=lambda done, total: told.append((done, total)))
    assert told == [(4, 10), (8, 10), (10, 10)]


@pytest.mark.parametrize(("resize", "first"), [("none", 64), ("tf1", 8), ("clean", 8)])
def test_a_processor_takes_few_enlarged_pictures_at_a_time(resize, first):
    told = []
    extract(COUNTING._replace(resize=resize), pictures(70, 4), progress=lambda done, total: told.append(done))
    assert told[0] == first and told[-1] == 70


def test_pictures_may_lie_on_disk(tmp_path):
    np.save(tmp_path / "x.npy", pictures(5, 4))
    out = extract(COUNTING, np.load(tmp_path / "x.npy", mmap_mode="r"), batch_size=2)
    np.testing.assert_allclose(out["features"], counting(pictures(5, 4))["features"], rtol=1e-6)


@pytest.mark.parametrize(
    "x", [np.zeros((2, 4, 4, 3), np.float32), np.zeros((4, 4, 3), np.uint8), np.zeros((0, 4, 4, 3), np.uint8)]
)
def test_what_is_not_a_set_of_uint8_pictures_is_refused(x):
    with pytest.raises(ValueError, match=r"uint8 \[N, H, W, C\]"):
        extract(COUNTING, x)
    with pytest.raises(ValueError, match="batch_size 0"):
        extract(COUNTING, pictures(2, 4), batch_size=0)


def test_the_table_of_the_docstring_has_all_names():
    assert all(f'`"{name}"`' in module.__doc__ for name in NAMES)
