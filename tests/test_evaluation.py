"""Numbers with their protocol: names, references, floors, and what cannot be measured."""

import hashlib

import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan import evaluation
from jaxgan.data import Dataset
from jaxgan.data.toy import MIXTURES
from jaxgan.data.toy import load as load_toy
from jaxgan.errors import ConfigError
from jaxgan.evaluation import Evaluator, lower_is_better, make_evaluator
from jaxgan.metrics.features import Features
from jaxgan.metrics.frechet import frechet_distance, frechet_distance_from_features, mean_and_covariance
from jaxgan.reference import Extracted, Reference, make_reference, read_statistics

RNG = np.random.default_rng(0)


def seen(pictures):
    """Two means and three "classes" by brightness."""
    x = jnp.asarray(pictures, jnp.float32).reshape(len(pictures), -1) / 255.0
    features = jnp.stack([x.mean(1), x[:, ::2].mean(1), x.std(1)], axis=1)
    return {"features": features, "logits": -50.0 * jnp.abs(x.mean(1, keepdims=True) - jnp.array([0.2, 0.5, 0.8]))}


EYE = Features("eye", 3, "ab" * 32, "none", "float32", seen, ("dark", "grey", "bright"))


def pictures(n, low=0, high=256, seed=0):
    rng = np.random.default_rng(seed)
    base = rng.integers(low, high, (n, 1, 1, 1))
    return np.clip(base + rng.integers(-20, 21, (n, 4, 4, 1)), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def evaluator():
    return Evaluator(EYE, make_reference(EYE, pictures(300), "train[:80%]"))


def test_everything_that_can_be_measured_is_and_says_under_which_protocol(evaluator):
    assert evaluator.metrics == ("fid", "kid", "is", "precision_recall", "density_coverage", "swd")
    values = evaluator.measure(pictures(200, seed=1))
    assert set(values) == {f"{n}200_train80_eye" for n in evaluator.numbers}
    assert set(evaluator.numbers) == {"fid", "kid", "is", "precision", "recall", "density", "coverage", "swd"}
    protocol = evaluator.protocol(200)
    assert protocol["samples"] == 200 and protocol["reference"]["size"] == 300
    assert protocol["features"] == {"name": "eye", "size": 3, "sha256": "ab" * 32}
    assert len(protocol["reference"]["sha256"]) == 64


def test_samples_like_the_data_are_at_the_floor_and_others_are_not(evaluator):
    lowest = evaluator.floor()
    like = evaluator.measure_features(evaluator.extract(pictures(200, seed=1)))
    dark = evaluator.measure_features(evaluator.extract(pictures(200, high=60, seed=1)))
    for name in evaluator.numbers:
        worse = dark[name] > like[name] if lower_is_better(name) else dark[name] < like[name]
        assert worse or name in ("precision", "density"), name  # dark pictures are real ones too
    assert dark["fid"] > 20 * lowest["fid"] and like["fid"] < 5 * lowest["fid"]
    assert evaluator.floor() == lowest  # the same halves every time


def test_the_distance_is_that_of_the_features(evaluator):
    fake = pictures(150, seed=2)
    features = [np.asarray(seen(x)["features"]) for x in (pictures(300), fake)]
    expected = frechet_distance_from_features(*features)
    assert evaluator.measure(fake)["fid150_train80_eye"] == pytest.approx(expected, rel=1e-5)


def test_the_distance_of_efficientnet_lite0_is_never_called_fid():
    reference = make_reference(EYE, pictures(300), "train")
    measured = Evaluator(EYE._replace(name="efflite0"), reference)
    values = measured.measure(pictures(200, seed=1))
    assert measured.metrics == ("fd", "kid", "is", "precision_recall", "density_coverage", "swd")
    assert set(values) == {f"{n}200_train_efflite0" for n in measured.numbers} and not any("fid" in n for n in values)
    called_fid = Evaluator(EYE, reference).measure(pictures(200, seed=1))
    assert values["fd200_train_efflite0"] == called_fid["fid200_train_eye"]
    asked = Evaluator(EYE._replace(name="efflite0"), reference, ["fd_infinity"])
    assert [*asked.floor().values()] == [*Evaluator(EYE, reference, ["fid_infinity"]).floor().values()]
    for wrong in ("fid", "fid_infinity"):
        with pytest.raises(ConfigError, match=f"metric '{wrong}' needs .*of these it is 'fd'.*efflite0"):
            Evaluator(EYE._replace(name="efflite0"), reference, [wrong])
    with pytest.raises(ConfigError, match=r"metric 'fd' needs .*of these it is 'fid'.*eye"):
        Evaluator(EYE, reference, ["fd"])
    assert lower_is_better("fd") and lower_is_better("fd_infinity")


def test_the_histogram_counts_the_classes(evaluator):
    fake = np.concatenate([pictures(7, 40, 60), pictures(5, 120, 130), pictures(3, 200, 220)])
    assert evaluator.histogram(evaluator.extract(fake)) == {"dark": 7, "grey": 5, "bright": 3}


def test_the_reference_s_features_are_kept_under_all_that_they_depend_on(tmp_path):
    real = pictures(20)

    def is_new(features=EYE, examples=real):
        before = set(tmp_path.iterdir())
        make_reference(features, examples, "train", tmp_path)
        return len(set(tmp_path.iterdir()) - before) == 1

    assert is_new() and not is_new()
    for other in ({"resize": "tf1"}, {"weights_sha256": "cd" * 32}, {"dtype": "bfloat16"}, {"name": "ear"}):
        assert is_new(EYE._replace(**other)) and not is_new(EYE._replace(**other))
    assert is_new(examples=255 - real)
    kept = sorted(tmp_path.iterdir())
    kept[0].write_bytes(b"damaged")
    before = make_reference(EYE, real, "train").examples
    for _ in range(2):
        np.testing.assert_array_equal(make_reference(EYE, real, "train", tmp_path).examples.features, before.features)
    assert sorted(tmp_path.iterdir()) == kept


@pytest.mark.parametrize("kind", ["TTUR", "ADM"])
def test_statistics_from_a_file(kind, tmp_path):
    mean, covariance = mean_and_covariance(RNG.normal(size=(50, 3)))
    # ADM's files hold the pictures, too, and statistics of spatial features for another distance.
    others = {"arr_0": pictures(5), "mu_s": np.zeros(7), "sigma_s": np.eye(7)} if kind == "ADM" else {}
    np.savez(tmp_path / "cifar-10.npz", mu=mean, sigma=covariance, **others)
    reference = read_statistics(str(tmp_path / "cifar-10.npz"), 3)
    by_file = Evaluator(EYE, reference)
    assert by_file.metrics == ("fid", "is") and by_file.floor() == {}
    assert reference.digest == hashlib.sha256((tmp_path / "cifar-10.npz").read_bytes()).hexdigest()
    fake = pictures(60)
    expected = frechet_distance(mean, covariance, *mean_and_covariance(seen(fake)["features"]))
    assert by_file.measure(fake)["fid60_cifar10_eye"] == pytest.approx(expected, rel=1e-5)
    with pytest.raises(ConfigError, match=r"kid.*real examples' features"):
        Evaluator(EYE, reference, ["kid"])


def test_points_are_their_own_features_and_their_modes_are_counted():
    ring = load_toy("ring", n=2000)
    measured = make_evaluator(ring, metrics=("swd", "modes"))
    real = ring.arrays["real"]
    values = measured.measure(load_toy("ring", n=500, seed=1).arrays["real"])
    assert values["modes500_train_raw"] == 8.0 and values["high_quality500_train_raw"] > 0.95
    right = real[real[:, 0] > 0.5]
    assert measured.measure(right[:500])["modes500_train_raw"] == 3.0
    assert measured.measure(right[:500])["swd500_train_raw"] > 5 * values["swd500_train_raw"]
    with pytest.raises(ConfigError, match="'is' needs a network with classes"):
        make_evaluator(ring, metrics=("is",))
    assert values["reverse_kl500_train_raw"] < 0.03
    assert measured.measure(right[:500])["reverse_kl500_train_raw"] == pytest.approx(np.log(8 / 3), abs=0.02)
    nowhere = measured.measure(np.full((500, 2), 9.0, np.float32))
    assert nowhere["modes500_train_raw"] == 0.0 and nowhere["reverse_kl500_train_raw"] == pytest.approx(np.log(8))
    with pytest.raises(ConfigError, match="'modes' needs points of a mixture"):
        make_evaluator(Dataset("heap", ring.arrays, ()), metrics=("modes",))
    assert set(MIXTURES) == {"ring", "grid"}


def test_what_takes_long_is_measured_where_it_is_asked_for():
    reference = make_reference(EYE, pictures(300), "train")
    asked = Evaluator(EYE, reference, ["fid_infinity", "prd"])
    assert asked.numbers == ("fid_infinity", "f8", "f_one_eighth")
    dark, like = (asked.measure_features(asked.extract(pictures(300, high=h, seed=1))) for h in (60, 256))
    assert like["fid_infinity"] < 0.05 * dark["fid_infinity"]
    assert like["f8"] > 0.9 and dark["f8"] < 0.6 and dark["f_one_eighth"] > dark["f8"]


def test_classes_of_the_data_are_modes():
    with pytest.raises(ConfigError, match="'labelled_modes' needs a network that knows the data's classes"):
        Evaluator(EYE, make_reference(EYE, pictures(300), "train"), ["labelled_modes"])
    digits = Evaluator(EYE._replace(name="digits"), make_reference(EYE, pictures(300), "train"), ["labelled_modes"])
    values = digits.measure_features(digits.extract(pictures(300, high=80, seed=1)))
    assert values == {"modes": 1.0, "reverse_kl": pytest.approx(np.log(3))}
    many = EYE._replace(class_names=tuple(map(str, range(1000))))
    assert Evaluator(many, make_reference(EYE, pictures(9), "train")).histogram(digits.extract(pictures(3))) == {}


def test_the_limit_takes_some_of_the_real_examples():
    data = load_toy("grid", n=500)
    assert make_evaluator(data, limit=100).reference_size == 100
    assert make_evaluator(data, limit=900).reference_size == make_evaluator(data).reference_size == 500


def test_unknown_names_list_the_known(evaluator):
    with pytest.raises(ConfigError, match="unknown metric fit; known: fid, fid_infinity, fd, fd_infinity, kid"):
        Evaluator(EYE, Reference(Extracted(np.zeros((3, 3)), None), "train", 3, ""), ["fit"])
    with pytest.raises(ConfigError, match="unknown metric 'fit'; known: fid"):
        lower_is_better("fit")


@pytest.mark.parametrize("n, text", [(5000, "5k"), (1000, "1k"), (2500, "2500"), (16, "16"), (0, "0")])
def test_numbers_in_names(n, text):
    assert evaluation.count_text(n) == text


def test_what_is_measured_unless_asked():
    assert evaluation.choose_features("auto", "mnist5k", (28, 28, 1)) == "digits"
    assert evaluation.choose_features("auto", "fashion_mnist", (28, 28, 1)) == "garments"
    assert evaluation.choose_features("auto", "mnist5k", (32, 32, 1)) == "raw"
    assert evaluation.choose_features("auto", "mnist5k", (32, 32, 1), "clean") == "digits"
    assert evaluation.choose_features("auto", "mnist5k", (32, 32, 1), "none") == "raw"
    assert evaluation.choose_features("auto", "mnist5k", (32, 32, 3), "clean") == "raw"
    assert evaluation.choose_features("auto", "stacked_mnist5k", (28, 28, 3)) == "stacked_digits"
    assert evaluation.choose_features("auto", "stacked_mnist5k", (28, 28, 1)) == "raw"
    assert evaluation.default_metrics("stacked_digits", "stacked_mnist5k") == ("labelled_modes", "fid")
    assert evaluation.choose_features("auto", "ring", (2,)) == "raw"
    assert evaluation.choose_features("inception", "ring", (2,)) == "inception"
    assert evaluation.default_metrics("digits", "mnist5k")[0] == "fid"
    assert evaluation.default_metrics("efflite0", "cifar10")[0] == "fd"
    assert evaluation.default_metrics("raw", "cifar10") == ("swd",)
    assert evaluation.default_metrics("raw", "ring") == ("swd", "modes")
