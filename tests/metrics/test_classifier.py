"""The shipped classifiers: pinned weights, what they are said to reach, and a Frechet distance that sees damage."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan.data import raw
from jaxgan.errors import ConfigError, DataError
from jaxgan.metrics.frechet import frechet_distance_from_features
from jaxgan.metrics.networks import classifier, train_classifier

NAMES = sorted(classifier.KNOWN)
# As the docstring of classifier.py states them.
ACCURACY = {"digits": 0.986, "garments": 0.904}


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """The 4,000 digits that the classifier was trained on, and the 1,000 others."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("TFDS_DATA_DIR", str(tmp_path_factory.mktemp("digits")))
        return train_classifier.load_data("digits")


@pytest.fixture(scope="module")
def params():
    return classifier.load("digits")[0]


def some_pictures(count):
    return np.random.RandomState(0).randint(0, 256, (count, 28, 28, 1), np.uint8)


@pytest.mark.parametrize("name", NAMES)
def test_features_and_logits_have_their_shapes_jitted_or_not(name):
    params, sha256, class_names = classifier.load(name)
    plain = classifier.apply(params, some_pictures(3))
    jitted = jax.jit(classifier.apply)(params, some_pictures(3))
    assert {kind: (x.shape, x.dtype) for kind, x in plain.items()} == {
        "features": ((3, classifier.SIZE), jnp.float32),
        "logits": ((3, 10), jnp.float32),
    }
    for kind in plain:
        np.testing.assert_allclose(plain[kind], jitted[kind], rtol=1e-5, atol=1e-5)
    assert len(sha256) == 64 and len(class_names) == len(set(class_names)) == 10


@pytest.mark.parametrize("name", NAMES)
def test_an_example_s_features_do_not_depend_on_its_batch(name):
    params = classifier.load(name)[0]
    together = classifier.apply(params, some_pictures(5))["features"]
    alone = classifier.apply(params, some_pictures(5)[3:4])["features"]
    np.testing.assert_allclose(together[3:4], alone, rtol=1e-5, atol=1e-5)


def test_stacked_digits_are_three_digits_side_by_side(params):
    pictures = some_pictures(9).reshape(3, 3, 28, 28).transpose(0, 2, 3, 1)
    found = classifier.apply_stacked(params, pictures)
    single = [classifier.apply(params, pictures[..., c : c + 1]) for c in range(3)]
    np.testing.assert_allclose(found["features"], np.concatenate([s["features"] for s in single], axis=1), atol=1e-4)
    logits = np.asarray(found["logits"])
    assert logits.shape == (3, 1000)
    for mode in (0, 7, 40, 365, 999):
        a, b, c = mode // 100, mode // 10 % 10, mode % 10
        expected = sum(s["logits"][:, digit] for s, digit in zip(single, (a, b, c), strict=True))
        np.testing.assert_allclose(logits[:, mode], expected, rtol=1e-4, atol=1e-4)
    with pytest.raises(ConfigError, match=r"\[B, 28, 28, 3\]"):
        classifier.apply_stacked(params, pictures[..., :1])


def test_no_picture_at_all_gives_no_features(params):
    assert classifier.apply(params, some_pictures(0))["features"].shape == (0, classifier.SIZE)


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_file_is_small_and_holds_float16_numbers_only(name):
    file = classifier.FOLDER / f"{name}.npz"
    assert file.stat().st_size < 1_000_000
    with np.load(file, allow_pickle=False) as arrays:
        assert {arrays[path].dtype for path in arrays.files} == {np.dtype(np.float16)}


def copy(folder, name="digits"):
    content = bytearray((classifier.FOLDER / f"{name}.npz").read_bytes())
    return folder / f"{name}.npz", content


@pytest.mark.parametrize("place", [0, 1000, -1])
def test_a_flipped_bit_is_refused(tmp_path, monkeypatch, place):
    file, content = copy(tmp_path)
    monkeypatch.setattr(classifier, "FOLDER", tmp_path)
    file.write_bytes(content)
    classifier.load("digits")
    content[place] ^= 1
    file.write_bytes(content)
    with pytest.raises(DataError, match="damaged or replaced") as error:
        classifier.load("digits")
    assert str(file) in str(error.value)


def test_weights_under_another_name_are_refused(tmp_path, monkeypatch):
    _, content = copy(tmp_path, "garments")
    (tmp_path / "digits.npz").write_bytes(content)
    monkeypatch.setattr(classifier, "FOLDER", tmp_path)
    with pytest.raises(DataError, match="damaged or replaced"):
        classifier.load("digits")


def test_a_missing_file_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(classifier, "FOLDER", tmp_path)
    with pytest.raises(DataError, match="Install jaxgan again") as error:
        classifier.load("garments")
    assert str(tmp_path / "garments.npz") in str(error.value)


def test_an_unknown_classifier_is_refused_with_the_known_ones():
    with pytest.raises(ConfigError, match="no classifier 'letters'; there are digits, garments"):
        classifier.load("letters")


@pytest.mark.parametrize("shape", [(2, 32, 32, 1), (2, 28, 28, 3), (2, 28, 28), (28, 28, 1), (2, 1, 28, 28)])
def test_pictures_of_another_shape_are_refused(params, shape):
    with pytest.raises(ConfigError, match=r"28x28.*choose other features"):
        classifier.apply(params, np.zeros(shape, np.uint8))


@pytest.mark.parametrize("dtype", [np.float32, np.int32, bool])
def test_pictures_that_are_no_bytes_are_refused(params, dtype):
    with pytest.raises(TypeError, match="uint8"):
        classifier.apply(params, np.zeros((2, 28, 28, 1), dtype))


def accuracy(params, pictures):
    return np.mean(train_classifier.outputs(params, pictures.real)["logits"].argmax(1) == pictures.label)


def test_held_out_digits_are_recognised_as_well_as_stated(params, digits):
    seen, unseen = digits
    assert (len(seen.real), len(unseen.real)) == (4000, 1000)
    rows = {picture.tobytes() for picture in seen.real}
    assert not any(picture.tobytes() in rows for picture in unseen.real)
    # Two of a thousand may fall otherwise where another device rounds otherwise.
    assert accuracy(params, unseen) >= ACCURACY["digits"] - 0.002


GARMENTS = raw.SYSTEM_FOLDERS["fashion_mnist"]


@pytest.fixture(scope="module")
def garments():
    """The 60,000 garments that the classifier was trained on, and the 10,000 others, read where they lie."""
    if not GARMENTS.exists():
        pytest.skip("Fashion-MNIST's files are not installed")

    def read(name, count):
        files = [next(GARMENTS.glob(f"{name}-{kind}*")) for kind in ("images", "labels")]
        return train_classifier.Pictures(
            raw.read_idx(files[0], (count, 28, 28))[..., None], raw.read_idx(files[1], (count,))
        )

    return read("train", 60_000), read("t10k", 10_000)


@pytest.mark.slow
def test_held_out_garments_are_recognised_as_well_as_stated(garments):
    params = classifier.load("garments")[0]
    assert accuracy(params, garments[1]) >= ACCURACY["garments"] - 0.002
    features = train_classifier.outputs(params, garments[1].real)["features"]
    assert train_classifier.live_dimensions(features) == (classifier.SIZE, classifier.SIZE)


def test_every_feature_is_alive_and_none_is_a_combination_of_others(params, digits):
    features = train_classifier.outputs(params, digits[1].real)["features"]
    assert train_classifier.live_dimensions(features) == (classifier.SIZE, classifier.SIZE)


def test_each_feature_varies_by_1_over_the_digits_trained_on(params, digits):
    features = train_classifier.outputs(params, digits[0].real)["features"]
    # float16, which the weights were rounded to, holds 11 bits.
    np.testing.assert_allclose(features.std(0), 1.0, atol=2e-3)


def test_dead_and_dependent_features_are_counted():
    x = np.random.RandomState(0).normal(size=(500, 6)).astype(np.float32)
    x[:, 4], x[:, 5] = 7.0, 2.0 * x[:, 0]
    assert train_classifier.live_dimensions(x) == (5, 4)


def check_damages(params, reference, sample, seen_from, **strengths):
    """Row 19 of the reference: the order of strengths; the floor under 5 % of each from one strength on."""
    real = train_classifier.outputs(params, reference.real)["features"]

    def distance(pictures):
        return frechet_distance_from_features(real, train_classifier.outputs(params, pictures)["features"])

    floor = distance(sample.real)
    kinds = set()
    damages = train_classifier.damages(sample, **strengths)
    for kind, group in itertools.groupby(damages, key=lambda damage: damage[0]):
        distances = [distance(pictures) for _, _, pictures in group]
        kinds.add(kind)
        assert len(distances) == 3 and [floor, *distances] == sorted([floor, *distances]), kind
        assert floor < 0.05 * distances[seen_from], (kind, floor, distances)
    assert kinds == {"blur", "noise", "dropped classes"}


def test_the_distance_of_digits_grows_with_damage_and_its_floor_is_far_below_the_strongest(params, digits):
    both = train_classifier.Pictures(*(np.concatenate(parts) for parts in zip(*digits, strict=True)))
    # The floor falls as 1 / N: halves of the few digits cannot have it under 5 % of slight damage too.
    check_damages(params, *train_classifier.halves(both), seen_from=2)


def test_the_distance_of_digits_grows_with_strong_damage_and_its_floor_is_far_below_each(params, digits):
    """Row 19 to the letter, from the strengths on of which 2,500 digits tell."""
    both = train_classifier.Pictures(*(np.concatenate(parts) for parts in zip(*digits, strict=True)))
    strengths = {"blurs": (1.5, 2.0, 3.0), "noises": (60, 80, 100), "dropped": (3, 5, 7)}
    check_damages(params, *train_classifier.halves(both), seen_from=0, **strengths)


@pytest.mark.slow
def test_the_distance_of_garments_grows_with_damage_and_its_floor_is_far_below(garments):
    # From the second strength on: the floor is 5.1 % of what a blur of half a pixel makes.
    check_damages(classifier.load("garments")[0], *garments, seen_from=1)
