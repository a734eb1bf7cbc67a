"""The Frechet distance against closed forms, SciPy's root, the nuclear norm and torch-fidelity's number."""

import numpy as np
import pytest

from jaxgan.metrics import frechet
from jaxgan.metrics.frechet import (
    as_features,
    frechet_distance,
    frechet_distance_from_features,
    frechet_distance_infinity,
    mean_and_covariance,
)
from tests.metrics import peers


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


def rotation(seed, d):
    return np.linalg.qr(normal(seed, d, d))[0]


def covariance(seed, d):
    x = normal(seed, d, 3 * d)
    return x @ x.T / (3 * d)


def exact(real, fake):
    """By the singular values of the product of the centred features: no root of a noisy eigenvalue is taken."""
    x, y = (f - f.mean(0) for f in (real, fake))
    cross = np.linalg.svd(x @ y.T, compute_uv=False).sum() / np.sqrt((len(x) - 1) * (len(y) - 1))
    traces = (x * x).sum() / (len(x) - 1) + (y * y).sum() / (len(y) - 1)
    return ((real.mean(0) - fake.mean(0)) ** 2).sum() + traces - 2 * cross


@pytest.mark.parametrize("d", [2, 5, 32, 128])
@pytest.mark.parametrize("rotated", [False, True])
def test_gaussians_with_common_axes_have_the_closed_form(d, rotated):
    rng = np.random.default_rng(d)
    a, b, mean1, mean2 = rng.uniform(0.01, 9.0, d), rng.uniform(0.01, 9.0, d), rng.normal(size=d), rng.normal(size=d)
    turn = rotation(d, d) if rotated else np.eye(d)
    expected = np.sum((np.sqrt(a) - np.sqrt(b)) ** 2) + np.sum((mean1 - mean2) ** 2)
    ours = frechet_distance(mean1, turn * a @ turn.T, mean2, turn * b @ turn.T)
    assert ours == pytest.approx(expected, rel=1e-10)
    assert isinstance(ours, float)


def test_the_distance_of_two_points_is_that_of_their_means():
    assert frechet_distance([1.0, 2.0], np.zeros((2, 2)), [4.0, 6.0], np.zeros((2, 2))) == pytest.approx(25.0)


@pytest.mark.parametrize("d", [8, 64])
def test_against_the_root_of_scipy(d):
    linalg = pytest.importorskip("scipy.linalg")
    mean1, mean2, cov1, cov2 = normal(0, d), normal(1, d), covariance(2, d), covariance(3, d)
    root = linalg.sqrtm(cov1 @ cov2)
    expected = np.sum((mean1 - mean2) ** 2) + np.trace(cov1 + cov2 - 2 * np.real(root))
    assert frechet_distance(mean1, cov1, mean2, cov2) == pytest.approx(expected, rel=1e-9)


def test_full_rank_covariances_against_the_eigenvalues_of_their_product():
    mean1, mean2, cov1, cov2 = normal(0, 40), normal(1, 40), covariance(2, 40), covariance(3, 40)
    root = np.sqrt(np.linalg.eigvals(cov1 @ cov2).astype(complex)).real.sum()
    expected = np.sum((mean1 - mean2) ** 2) + np.trace(cov1 + cov2) - 2 * root
    assert frechet_distance(mean1, cov1, mean2, cov2) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("n", "m", "d"), [(20, 30, 128), (30, 20, 128), (40, 300, 64), (300, 40, 64), (65, 66, 64)])
def test_singular_covariances_against_the_nuclear_norm(n, m, d):
    real, fake = normal(0, n, d) * 1.5, normal(1, m, d) + 0.3
    ours = frechet_distance(*mean_and_covariance(real), *mean_and_covariance(fake))
    assert ours == pytest.approx(exact(real, fake), abs=1e-5)
    assert frechet_distance_from_features(real, fake) == pytest.approx(exact(real, fake), abs=1e-5)


@pytest.mark.parametrize(("n", "m"), [(2, 2), (20, 33), (64, 64), (65, 64), (64, 300), (300, 2)])
def test_few_examples_of_either_kind_take_the_exact_form(monkeypatch, n, m):
    monkeypatch.setattr(np.linalg, "eigvalsh", lambda *_: pytest.fail("roots of zeros are noise"))
    real, fake = normal(0, n, 64) * 1.5, normal(1, m, 64) + 0.3
    assert frechet_distance_from_features(real, fake) == pytest.approx(exact(real, fake), rel=1e-12)


def test_many_examples_take_covariances(monkeypatch):
    real, fake = normal(0, 65, 64) * 1.5, normal(1, 65, 64) + 0.3
    expected = exact(real, fake)
    monkeypatch.setattr(np.linalg, "svd", lambda *_, **__: pytest.fail("slower"))
    assert frechet_distance_from_features(real, fake) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("n", [201, 400])
def test_small_eigenvalues_are_kept(n):
    """Variances over eight orders of magnitude, where a root by eigenvectors is off by 1e-5."""
    mix = normal(2, 200, 200) * np.logspace(0, -4, 200)
    real, fake = normal(0, n, 200) @ mix, 1.3 * normal(1, n + 3, 200) @ mix
    ours = frechet_distance(*mean_and_covariance(real), *mean_and_covariance(fake))
    assert ours == pytest.approx(exact(real, fake), abs=1e-9)


def test_dead_features_do_not_matter():
    real, fake = normal(0, 200, 16), 2 * normal(1, 200, 16)
    dead = [np.concatenate([x, np.zeros((200, 9))], axis=1) for x in (real, fake)]
    expected = frechet_distance_from_features(real, fake)
    assert frechet_distance_from_features(*dead) == pytest.approx(expected, rel=1e-9)
    constant = [x + np.where(np.arange(25) < 16, 0.0, 3.7) for x in dead]
    assert frechet_distance_from_features(*constant) == pytest.approx(expected, rel=1e-7)


def test_nearly_singular_covariances_against_the_closed_form():
    """Cholesky's factor exists, but would bring noise of the size of the smallest roots."""
    a, b = np.logspace(0, -15, 16), np.logspace(0, -15, 16)[::-1]
    turn = rotation(0, 16)
    expected = np.sum((np.sqrt(a) - np.sqrt(b)) ** 2)
    assert frechet_distance(np.zeros(16), turn * a @ turn.T, np.zeros(16), turn * b @ turn.T) == pytest.approx(
        expected, abs=1e-6
    )


def test_laws():
    real, fake = normal(0, 90, 12) @ normal(5, 12, 12), 2 * normal(1, 80, 12) + 0.5
    statistics = *mean_and_covariance(real), *mean_and_covariance(fake)
    d = frechet_distance(*statistics)
    assert frechet_distance(*statistics[2:], *statistics[:2]) == pytest.approx(d, rel=1e-8)
    assert frechet_distance(*statistics[:2], *statistics[:2]) == pytest.approx(0.0, abs=1e-8)
    assert frechet_distance_from_features(real + 7.0, fake + 7.0) == pytest.approx(d, rel=1e-8)
    assert frechet_distance_from_features(3 * real, 3 * fake) == pytest.approx(9 * d, rel=1e-8)
    turn = rotation(6, 12)
    assert frechet_distance_from_features(real @ turn, fake @ turn) == pytest.approx(d, rel=1e-8)
    shift = normal(7, 12)
    assert frechet_distance_from_features(real, real + shift) == pytest.approx(shift @ shift, rel=1e-8)


def test_it_is_never_negative():
    real = normal(0, 50, 30)
    for scale in (1e-9, 1.0, 1e6):
        assert frechet_distance_from_features(scale * real, scale * real) >= 0.0


def test_against_torch_fidelity():
    golden = np.load(peers.PATH)["fid/value"]
    assert frechet_distance_from_features(*peers.features(peers.SEED)) == pytest.approx(float(golden), rel=1e-5)


@pytest.mark.parametrize("rows", [7, 4096])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_mean_and_covariance_are_numpys(monkeypatch, rows, dtype):
    monkeypatch.setattr(frechet, "_ROWS", rows)
    features = (normal(0, 53, 6) @ normal(1, 6, 6) + 20.0).astype(dtype)
    mean, cov = mean_and_covariance(features)
    assert mean.dtype == cov.dtype == np.float64
    np.testing.assert_allclose(mean, features.astype(np.float64).mean(0), rtol=1e-14)
    np.testing.assert_allclose(cov, np.cov(features.astype(np.float64), rowvar=False), rtol=1e-12, atol=1e-13)


def test_two_examples_have_a_covariance():
    mean, cov = mean_and_covariance([[0.0, 2.0], [4.0, 2.0]])
    np.testing.assert_array_equal(mean, [2.0, 2.0])
    np.testing.assert_array_equal(cov, [[8.0, 0.0], [0.0, 0.0]])


def test_the_extrapolation_is_the_line_through_the_distances_of_subsets():
    real, fake = normal(0, 4000, 8), normal(1, 3000, 8) + 0.3
    result = frechet_distance_infinity(real, fake, points=4, smallest=300, seed=5)
    assert result.sizes == (300, 1200, 2100, 3000)
    rng = np.random.RandomState(5)
    reference = mean_and_covariance(real)
    for size, distance in zip(result.sizes, result.distances, strict=True):
        subset = fake[rng.permutation(3000)[:size]]
        assert distance == pytest.approx(frechet_distance(*reference, *mean_and_covariance(subset)), rel=1e-12)
    inverse = 1 / np.array(result.sizes)
    line = np.polynomial.Polynomial.fit(inverse, result.distances, 1).convert().coef
    assert (result.value, result.slope) == pytest.approx(tuple(line), rel=1e-6)
    assert frechet_distance_infinity(real, fake, points=4, smallest=300, seed=5) == result
    assert frechet_distance_infinity(real, fake, points=4, smallest=300) != result
    default = frechet_distance_infinity(real, fake, points=4, smallest=300, seed=0)
    assert frechet_distance_infinity(real, fake, points=4, smallest=300) == default
    assert frechet_distance_infinity(real[:2], fake, points=2, smallest=300).sizes == (300, 3000)


def test_the_extrapolation_takes_away_most_of_the_bias():
    """Of equal distributions it is 0 but for the finite reference's part."""
    real, fake = normal(0, 40_000, 32), normal(1, 2000, 32)
    result = frechet_distance_infinity(real, fake, points=5, smallest=200)
    assert result.slope > 0
    assert abs(result.value) < 0.2 * result.distances[-1] < result.distances[0]


def test_the_extrapolation_has_the_published_sizes_by_default():
    real, fake = normal(0, 100, 2), normal(1, 5014, 2)
    assert frechet_distance_infinity(real, fake).sizes == tuple(range(5000, 5015))


@pytest.mark.parametrize(
    ("real", "fake", "expected"),
    [
        (np.float32, np.float32, np.float32),
        (np.float16, np.float32, np.float32),
        (np.float64, np.float32, np.float64),
        (np.uint8, np.uint8, np.float32),
        (np.int64, np.float32, np.float64),
    ],
)
def test_features_keep_a_precision_that_holds_them(real, fake, expected):
    ours = as_features(np.ones((3, 2), real), np.ones((4, 2), fake))
    assert [x.dtype for x in ours] == [expected] * 2
    assert [x.shape for x in as_features(np.ones((1, 2)), np.ones((1, 2)))] == [(1, 2)] * 2


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (((5, 2), (5, 3)), "(5, 2) and (5, 3)"),
        (((5,), (5,)), "(5,) and (5,)"),
        (((5, 2, 1), (5, 2)), "(5, 2, 1) and (5, 2)"),
        (((1, 2), (5, 2)), "1 and 5"),
        (((5, 2), (1, 2)), "5 and 1"),
    ],
)
def test_features_that_do_not_fit_are_refused(shapes, message):
    with pytest.raises(ValueError) as error:
        frechet_distance_from_features(*map(np.ones, shapes))
    assert message in str(error.value)


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_refused(place, value):
    sets = [normal(0, 5, 2), normal(1, 5, 2)]
    sets[place][3, 1] = value
    with pytest.raises(ValueError, match="finite"):
        frechet_distance_from_features(*sets)
    statistics = [np.zeros(2), np.eye(2), np.zeros(2), np.eye(2)]
    for i in range(4):
        broken = [x.copy() for x in statistics]
        broken[i].flat[1] = value
        with pytest.raises(ValueError, match="finite"):
            frechet_distance(*broken)


@pytest.mark.parametrize(
    "shapes", [((2,), (2, 2), (3,), (3, 3)), ((2,), (2, 3), (2,), (2, 3)), ((2, 1), (2, 2), (2, 1), (2, 2))]
)
def test_statistics_that_do_not_fit_are_refused(shapes):
    with pytest.raises(ValueError) as error:
        frechet_distance(*map(np.ones, shapes))
    assert all(str(shape) in str(error.value) for shape in shapes)


@pytest.mark.parametrize("shape", [(5,), (1, 3), (2, 2, 2)])
def test_there_is_no_covariance_of_less_than_two_examples(shape):
    with pytest.raises(ValueError, match="two examples"):
        mean_and_covariance(np.ones(shape))


@pytest.mark.parametrize("arguments", [{"points": 1}, {"smallest": 10}, {"smallest": 1}, {"smallest": 11}])
def test_an_extrapolation_needs_two_sizes(arguments):
    with pytest.raises(ValueError, match="sizes"):
        frechet_distance_infinity(normal(0, 10, 2), normal(1, 10, 2), **{"points": 2, "smallest": 5, **arguments})
    assert frechet_distance_infinity(normal(0, 10, 2), normal(1, 10, 2), points=2, smallest=2).sizes == (2, 10)
