"""Precision, recall, density and coverage against brute force, torch-fidelity and prdc, and closed forms."""

import importlib.util

import numpy as np
import pytest

from jaxgan.metrics import neighbours as module
from jaxgan.metrics.frechet import frechet_distance_from_features
from jaxgan.metrics.inception_score import inception_score
from jaxgan.metrics.kid import kid_subsets
from jaxgan.metrics.ms_ssim import ms_ssim
from jaxgan.metrics.neighbours import density_coverage, expected_coverage, nearest, neighbourhoods, precision_recall
from tests.metrics import peers


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


def squares(a, b):
    a, b = a.astype(np.float64), b.astype(np.float64)
    return np.stack([((x - b) ** 2).sum(1) for x in a])


def brute_force(real, fake, k):
    """Precision, recall, density, coverage."""

    def radii(x):
        among = squares(x, x)
        np.fill_diagonal(among, np.inf)
        return np.sort(among, axis=1)[:, k - 1]

    across = squares(real, fake)
    at_real, at_fake = across <= radii(real)[:, None], across <= radii(fake)
    inside = across < radii(real)[:, None]
    return at_real.any(0).mean(), at_fake.any(1).mean(), inside.sum() / (k * len(fake)), inside.any(1).mean()


def ours(real, fake, k):
    found = *precision_recall(real, fake, k), *density_coverage(real, fake, k)
    radii = neighbourhoods(real, k)  # kept from one call to the next, they change nothing
    assert found == (*precision_recall(real, fake, k, radii), *density_coverage(real, fake, k, radii))
    return found


X = normal(10, 90, 20).astype(np.float32)
NEAR = 1e-5 * normal(11, 80, 20)
SETS = {
    "correlated features": tuple(f[:150] for f in peers.features(3)),
    "unequal sizes": (normal(0, 60, 3), 1.2 * normal(1, 90, 3) + 0.2),
    "one feature": (normal(0, 60, 1), normal(1, 50, 1)),
    "more features than are summed at a time": (normal(0, 60, 1400), normal(1, 50, 1400)),
    "a lattice, full of ties": (normal(2, 120, 2).round(), normal(3, 80, 2).round()),
    "real ones that come twice": (np.concatenate([X, X]), X[:50]),
    "a copy": (X, X.copy()),
    "a collapsed generator": (X, np.tile(X[:1], (60, 1))),
    "a generator of three examples with noise": (1000 + X, 1000 + X[np.arange(80) % 3] + NEAR),
    "far from the data": (X, 1e3 + 100 * NEAR),
    "far from 0": (X.astype(np.float64) + 1e5, X[::-1] * 1.1 + 1e5),
    "tiny": (1e-20 * X, 1e-20 * X[:50] * 1.1),
    "huge": (1e25 * X, 1e25 * X[:50] * 1.1),
    "huge, with a dead feature": tuple(1e25 * np.pad(x, ((0, 0), (0, 1))) for x in (X, X[:50] * 1.1)),
    "all the same": (np.ones((20, 4)), np.ones((15, 4))),
    "one outlier": (np.concatenate([X, 1e4 * X[:1]]), X * 1.05),
}


@pytest.mark.parametrize("block", [17, 2000])
@pytest.mark.parametrize("k", [1, 3, 5])
@pytest.mark.parametrize("name", SETS)
def test_against_brute_force(monkeypatch, name, k, block):
    monkeypatch.setattr(module, "_BLOCK", block)
    real, fake = SETS[name]
    assert ours(real, fake, k) == pytest.approx(brute_force(real, fake, k), abs=1e-12)


@pytest.mark.parametrize("block", [17, 2000])
@pytest.mark.parametrize("k", [1, 3, 5])
@pytest.mark.parametrize("name", SETS)
def test_the_radii_against_brute_force(monkeypatch, name, k, block):
    monkeypatch.setattr(module, "_BLOCK", block)
    for x in SETS[name]:
        among = squares(x, x)
        np.fill_diagonal(among, np.inf)
        np.testing.assert_allclose(module._radii(x, k), np.sort(among, axis=1)[:, k - 1], rtol=1e-12)


@pytest.mark.parametrize("block", [17, 2000])
@pytest.mark.parametrize(("scale", "offset"), [(1.0, 0.0), (1e-3, 5.0), (1e3, -5.0)])
def test_float32_suffices_to_find_the_candidates_of_ordinary_features(monkeypatch, block, scale, offset):
    monkeypatch.setattr(module, "_BLOCK", block)
    again = []
    monkeypatch.setattr(module, "_again", lambda x, y, rows: again.extend(rows) or ())
    real, fake = (scale * normal(seed, 150, 24) + offset for seed in (0, 1))
    assert ours(real, fake, 3) == pytest.approx(brute_force(real, fake, 3), abs=1e-12)
    expected = np.argsort(squares(fake, real), axis=1)[:, :4]
    np.testing.assert_array_equal(nearest(fake, real, 4)[0], expected)
    assert not again


@pytest.mark.parametrize("many", [-1, 10**8])
def test_rows_that_are_left_open_are_computed_again_a_part_at_a_time(monkeypatch, many):
    monkeypatch.setattr(module, "_MANY", many)
    monkeypatch.setattr(module, "_BLOCK", 9)  # 81 // 60: one row at a time
    x, y = normal(0, 40, 5) + 30, normal(1, 60, 5) + 30
    rows = np.array([0, 7, 8, 39])
    parts = list(module._again(x, y, rows))
    np.testing.assert_array_equal(np.concatenate([part for part, _ in parts]), rows)
    np.testing.assert_allclose(np.concatenate([s for _, s in parts]), squares(x[rows], y), rtol=1e-10)
    assert [len(part) for part, _ in parts] == [1, 1, 1, 1]
    monkeypatch.setattr(module, "_BLOCK", 12)
    assert [len(part) for part, _ in module._again(x, y, rows)] == [2, 2]
    monkeypatch.setattr(module, "_BLOCK", 2)
    assert [len(part) for part, _ in module._again(x, y, rows)] == [1, 1, 1, 1]
    assert not list(module._again(x, y, rows[:0]))


def test_products_are_for_many(monkeypatch):
    """Ten times as many differences are taken for rows that stay open as for the pairs of a block."""
    asked = []
    products = module._products
    monkeypatch.setattr(module, "_products", lambda x, y: asked.append(len(x)) or products(x, y))
    x, y = normal(0, 40, 5), normal(1, 60, 5)
    for many, expected in ((120, []), (119, [4])):
        monkeypatch.setattr(module, "_MANY", many)
        list(module._again(x, y, np.arange(4)))  # 4 rows with 60 of 5 features each
        assert asked == expected
    asked.clear()
    real, fake = (np.zeros((6, 5)), np.zeros((7, 5)))  # all 42 pairs stay open
    for many, expected in ((210, []), (209, [6])):
        monkeypatch.setattr(module, "_MANY", many)
        (block,) = module._blocks(*module._rounded_together(real, fake))
        block.inside(np.less_equal, of_rows=np.zeros(6))
        assert asked == expected


def test_differences_are_taken_a_part_at_a_time(monkeypatch):
    x, y = normal(0, 9, 5), normal(1, 9, 5)
    i, j = np.divmod(np.arange(81), 9)
    for at_a_time in (3, 5, 50, 2**19):
        monkeypatch.setattr(module, "_DIFFERENCES", at_a_time)
        np.testing.assert_allclose(module._squares(x, y, i, j), squares(x, y).ravel(), rtol=1e-14)


@pytest.mark.parametrize("name", ["correlated features", "unequal sizes", "a generator of three examples with noise"])
def test_products_in_place_of_differences_change_nothing_without_ties(monkeypatch, name):
    monkeypatch.setattr(module, "_MANY", -1)
    monkeypatch.setattr(module, "_SPARE", 0)
    monkeypatch.setattr(module, "_BLOCK", 17)
    real, fake = SETS[name]
    assert ours(real, fake, 3) == pytest.approx(brute_force(real, fake, 3), abs=1e-12)
    among, x = real.astype(np.float64), fake.astype(np.float64)
    expected = np.argsort(squares(x, among), axis=1, kind="stable")[:, :4]
    np.testing.assert_array_equal(nearest(x, among, 4)[0], expected)


@pytest.mark.parametrize("d", [1, 16, 1023, 3000])
@pytest.mark.parametrize("offset", [0.0, 30.0])
def test_the_bounds_hold_and_are_narrow(d, offset):
    """Features of one sign and size are the worst case: all roundings of a sum may point the same way."""
    for x, y in [(normal(0, 40, d), normal(1, 30, d)), (np.ones((40, d)) / 3, np.full((30, d), 0.1))]:
        a, b = module._rounded(x + offset, np.zeros(d), 0.25), module._rounded(y + offset, np.zeros(d), 0.25)
        block = module._block(a, b, slice(3, 40), slice(0, 30))
        true = squares(x[3:] + offset, y + offset) / 16
        rows, columns = np.indices(true.shape)
        width = block.width(rows, columns)
        assert (block.lower <= true).all()
        assert (true <= block.lower + width).all()
        np.testing.assert_allclose(width, 2 * a.slack * (a.squares[3:, None] + b.squares), rtol=1e-5)
    assert a.slack == (min(d, 1024) + d // 1024 + 16) / 2**24


def test_most_comparisons_are_settled_in_float32(monkeypatch):
    """What is computed again are the pairs near a radius: a few for each example, of hundreds."""
    real, fake = (normal(seed, 400, 64).astype(np.float32) for seed in (0, 1))
    asked = []
    differences = module._squares
    monkeypatch.setattr(module, "_squares", lambda x, y, i, j: asked.append(len(i)) or differences(x, y, i, j))
    monkeypatch.setattr(module, "_products", lambda *_: pytest.fail("no clumps here"))
    precision_recall(real, fake)
    assert sum(asked) < 3 * 800
    asked.clear()
    nearest(real, fake)
    assert sum(asked) <= 4 * 400


def test_against_torch_fidelity():
    golden = np.load(peers.PATH)
    real, fake = peers.features(peers.SEED)
    precision, recall = precision_recall(real, fake)
    assert round(precision * len(fake)) == round(float(golden["prc/precision"]) * len(fake))
    assert round(recall * len(real)) == round(float(golden["prc/recall"]) * len(real))


@pytest.mark.parametrize(("n", "m"), peers.SIZES)
def test_against_prdc(n, m):
    golden = np.load(peers.PATH)
    density, coverage = density_coverage(*peers.features(peers.SEED, n, m))
    assert round(density * 5 * m) == round(float(golden[f"prdc/{n}_{m}_density"]) * 5 * m)
    assert round(coverage * n) == round(float(golden[f"prdc/{n}_{m}_coverage"]) * n)
    # Without ties, < and <= are the same.
    precision, recall = precision_recall(*peers.features(peers.SEED, n, m), k=5)
    assert precision == pytest.approx(float(golden[f"prdc/{n}_{m}_precision"]), abs=1e-12)
    assert recall == pytest.approx(float(golden[f"prdc/{n}_{m}_recall"]), abs=1e-12)


def test_the_neighbours_are_the_third_and_the_fifth_by_default():
    real, fake = SETS["unequal sizes"]
    assert precision_recall(real, fake) == precision_recall(real, fake, 3) != precision_recall(real, fake, 2)
    assert density_coverage(real, fake) == density_coverage(real, fake, 5) != density_coverage(real, fake, 4)


def test_a_distance_equal_to_the_radius():
    """The one convention in which the two papers' codes differ."""
    real, fake = np.array([[0.0], [2.0], [100.0]]), np.array([[4.0], [6.0]])
    assert precision_recall(real, fake, 1) == (1.0, pytest.approx(1 / 3))  # 4 is 2 from 2, whose radius is 2
    assert density_coverage(real[:2], fake, 1) == (0.0, 0.0)
    assert density_coverage(real[:2], fake - 0.1, 1) == (0.5, 0.5)


def test_real_examples_that_come_twice_have_no_neighbourhood():
    assert density_coverage(np.concatenate([X, X]), X, 1) == (0.0, 0.0)
    assert precision_recall(np.concatenate([X, X]), X, 1).precision == 1.0


@pytest.mark.parametrize(("n", "m", "k"), [(400, 400, 5), (400, 400, 3), (300, 600, 5)])
def test_the_coverage_between_equal_distributions_has_the_closed_form(n, m, k):
    results = [density_coverage(normal(2 * s, n, 8), normal(2 * s + 1, m, 8), k) for s in range(8)]
    coverages = [result.coverage for result in results]
    error = np.std(coverages, ddof=1) / np.sqrt(8)
    assert abs(np.mean(coverages) - expected_coverage(n, m, k)) < 4 * error
    assert np.mean([result.density for result in results]) == pytest.approx(1.0, abs=0.1)


def test_the_closed_form():
    assert expected_coverage(1500, 1500) == pytest.approx(0.9689, abs=5e-5)
    assert expected_coverage(1500, 1500, 3) == pytest.approx(0.8753, abs=5e-5)
    assert expected_coverage(1500, 3000) == pytest.approx(0.9959, abs=5e-5)
    # One real example's only neighbour is another; which of three lies nearest is chance.
    assert expected_coverage(2, 2, 1) == pytest.approx(2 / 3)


def test_a_missing_mode_costs_recall_and_coverage_and_noise_costs_precision_and_density():
    centres = np.array([[-4.0, 0.0], [4.0, 0.0]])
    real = centres[np.arange(400) % 2] + normal(0, 400, 2)
    missing = centres[0] + normal(1, 400, 2)
    noisy = centres[np.arange(400) % 2] + 4 * normal(1, 400, 2)
    result = precision_recall(real, missing)
    assert result.precision > 0.9 and result.recall < 0.6
    result = precision_recall(real, noisy)
    assert result.recall > 0.9 and result.precision < 0.8
    assert density_coverage(real, missing).coverage < 0.55
    assert density_coverage(real, noisy).density < 0.5


@pytest.mark.parametrize("block", [17, 2000])
@pytest.mark.parametrize("k", [1, 4])
@pytest.mark.parametrize("name", SETS)
def test_the_nearest_against_brute_force(monkeypatch, name, k, block):
    monkeypatch.setattr(module, "_BLOCK", block)
    among, x = SETS[name]
    indices, distances = nearest(x, among, k)
    every = squares(x, among)
    np.testing.assert_array_equal(indices, np.argsort(every, axis=1, kind="stable")[:, :k])
    np.testing.assert_allclose(distances, np.sqrt(np.sort(every, axis=1)[:, :k]), rtol=1e-12)
    assert indices.dtype == np.int64 and distances.dtype == np.float64


def test_all_may_be_asked_for():
    x, among = normal(0, 4, 2), normal(1, 6, 2)
    np.testing.assert_array_equal(nearest(x, among, 6)[0], np.argsort(squares(x, among), axis=1))
    assert nearest(x, among)[0].shape == (4, 1)
    for k in (0, 7):
        with pytest.raises(ValueError, match="nearest of 6 rows"):
            nearest(x, among, k)


@pytest.mark.parametrize("function", [precision_recall, density_coverage])
def test_what_cannot_be_compared_is_refused(function):
    for shapes in [((9, 2), (9, 3)), ((9,), (9,))]:
        with pytest.raises(ValueError, match="features must be"):
            function(*map(np.ones, shapes))
    with pytest.raises(ValueError, match="finite"):
        function(np.full((9, 2), np.inf), np.ones((9, 2)))
    with pytest.raises(ValueError, match="there are 9"):
        function(X[:9], X[:9], 9)
    with pytest.raises(ValueError, match="0-th neighbour"):
        function(X[:9], X[:9], 0)
    function(X[:9], X[:9], 8)


def test_only_precision_needs_neighbours_among_the_generated():
    with pytest.raises(ValueError, match="there are 9 and 3"):
        precision_recall(X[:9], X[:3], 3)
    assert 1 / 3 <= density_coverage(X[:9], X[:1], 3).density <= 3
    assert precision_recall(X[:9], X[:4], 3).precision == 1.0


@pytest.mark.slow
def test_the_peers_live_on_other_features():
    """Every number of peers.py, with another seed than the goldens'."""
    for library in ("torch_fidelity", "prdc", "pytorch_msssim"):
        if importlib.util.find_spec(library) is None:
            pytest.skip(f"{library} is not installed")
    seed = peers.SEED + 1
    expected = peers.compute(seed)
    real, fake = peers.features(seed)
    found = {"fid/value": frechet_distance_from_features(real, fake)}
    found |= zip(("prc/precision", "prc/recall"), precision_recall(real, fake), strict=True)
    kid = kid_subsets(real, fake, subsets=peers.KID_SUBSETS, subset_size=peers.KID_SUBSET_SIZE)
    found |= zip(("kid/mean", "kid/std"), kid, strict=True)
    for name, shuffle_seed in (("shuffled", 2020), ("in_order", None)):
        score = inception_score(peers.logits(seed), shuffle_seed=shuffle_seed)
        found |= zip((f"isc/{name}_mean", f"isc/{name}_std"), score, strict=True)
    for n, m in peers.SIZES:
        sets = peers.features(seed, n, m)
        values = *precision_recall(*sets, k=5), *density_coverage(*sets)
        names = ("precision", "recall", "density", "coverage")
        found |= {f"prdc/{n}_{m}_{name}": value for name, value in zip(names, values, strict=True)}
    found |= {f"ms_ssim/{i}": float(value) for i, value in enumerate(ms_ssim(*peers.pictures(seed)))}
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        tolerance = 1e-5 if name.startswith(("fid", "kid", "ms_ssim")) else 1e-6
        assert found[name] == pytest.approx(value, rel=tolerance), name


def test_neighbourhoods_are_those_of_brute_force_and_only_for_these_examples():
    real, fake = normal(0, 40, 3), normal(1, 30, 3)
    among = squares(real, real)
    np.testing.assert_array_equal(neighbourhoods(real, 4), np.sort(among, axis=1)[:, 4])  # the first is itself
    with pytest.raises(ValueError, match=r"radii .* 40 real"):
        precision_recall(real, fake, 4, neighbourhoods(fake, 4))
