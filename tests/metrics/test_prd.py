"""The curve against its closed form, the summaries' extremes, and clusters that are plain to see."""

import numpy as np
import pytest

from jaxgan.metrics.prd import f_score, k_means, prd, prd_curve


def slope_one(curve):
    """Both numbers at 45 degrees, the middle one of an odd number of angles."""
    return tuple(x[len(x) // 2] for x in curve[:2])


def test_the_curve_is_the_closed_form():
    p, q = np.array([0.5, 0.3, 0.2, 0.0]), np.array([0.1, 0.3, 0.0, 0.6])
    precision, recall = prd_curve(p, q, 7)
    for i, angle in enumerate(np.linspace(0, np.pi / 2, 7)):
        if 0 < i < 6:
            expected = sum(min(np.tan(angle) * a, b) for a, b in zip(p, q, strict=True))
            assert precision[i] == pytest.approx(expected, rel=1e-9)
            assert recall[i] == pytest.approx(expected / np.tan(angle), rel=1e-9)
    assert (precision[0], recall[0]) == pytest.approx((0.0, 0.8), abs=1e-9)  # of p where q is
    assert (precision[6], recall[6]) == pytest.approx((0.4, 0.0), abs=1e-9)  # of q where p is
    assert precision.shape == recall.shape == (7,)


def test_by_default_there_are_1001_angles():
    assert prd_curve([1.0], [1.0])[0].shape == (1001,)


def test_identical_and_disjoint_distributions():
    p = np.array([0.2, 0.5, 0.3])
    curve = prd_curve(p, p)
    assert slope_one(curve) == pytest.approx((1.0, 1.0), abs=1e-9)
    assert f_score(*curve, 8.0) == f_score(*curve, 1 / 8) == pytest.approx(1.0, abs=1e-9)
    curve = prd_curve([1.0, 0.0], [0.0, 1.0])
    assert np.max(curve) == 0.0
    assert f_score(*curve, 8.0) == 0.0


def test_exchanging_the_distributions_exchanges_precision_and_recall():
    p, q = np.random.default_rng(0).dirichlet(np.ones(9), size=2)
    forward, backward = prd_curve(p, q, 101), prd_curve(q, p, 101)
    np.testing.assert_allclose(forward[0], backward[1][::-1], atol=1e-8)
    assert f_score(*forward, 8.0) == pytest.approx(f_score(*backward, 1 / 8), rel=1e-6)
    assert all(np.all((x >= 0) & (x <= 1)) for x in forward)


def test_the_f_score_is_the_largest_and_weighs_recall_by_beta():
    precision, recall = np.array([0.9, 0.5, 0.1, 0.0]), np.array([0.2, 0.5, 0.6, 0.0])

    def f(p, r, beta):
        return (1 + beta**2) * p * r / (beta**2 * p + r)

    assert f_score(precision, recall, 1.0) == pytest.approx(0.5)
    assert f_score(precision, recall, 8.0) == pytest.approx(max(f(0.5, 0.5, 8), f(0.1, 0.6, 8)))
    assert f_score(precision, recall, 1 / 8) == pytest.approx(f(0.9, 0.2, 1 / 8))
    assert f_score([0.0], [0.0], 8.0) == 0.0


def test_a_lost_half_costs_recall_and_a_false_half_costs_precision():
    lost = prd_curve([0.5, 0.5], [1.0, 0.0])
    assert max(lost[1]) == pytest.approx(0.5) and max(lost[0]) == pytest.approx(1.0)
    assert f_score(*lost, 1 / 8) > 0.95 and f_score(*lost, 8.0) < 0.6
    false = prd_curve([1.0, 0.0], [0.5, 0.5])
    assert f_score(*false, 8.0) > 0.95 and f_score(*false, 1 / 8) < 0.6


def clumps(seed, sizes, d=5):
    """Far apart, and how many points are in each."""
    rng = np.random.default_rng(seed)
    centres = 100 * np.eye(len(sizes), d)
    return np.concatenate([c + rng.normal(size=(n, d)) for c, n in zip(centres, sizes, strict=True)])


def test_the_clusters_are_the_clumps():
    x = clumps(0, (30, 10, 20)).astype(np.float32)
    for seed in range(5):
        labels = k_means(x, 3, np.random.RandomState(seed))
        groups = [set(part.tolist()) for part in np.split(labels, [30, 40])]
        assert [len(group) for group in groups] == [1, 1, 1]
        assert set.union(*groups) == {0, 1, 2}


def test_the_clusters_are_a_fixed_point_of_lloyds_algorithm():
    x = np.random.default_rng(0).normal(size=(60, 2)).astype(np.float32)
    labels = k_means(x, 4, np.random.RandomState(1))
    centres = np.stack([x[labels == i].mean(0) for i in range(4)])
    np.testing.assert_array_equal(((x[:, None] - centres) ** 2).sum(-1).argmin(1), labels)


def plain_k_means(x, clusters, rng, iterations=30):
    """With the same draws, point by point in float64."""
    x = x.astype(np.float64)
    chosen = [rng.randint(len(x))]
    while len(chosen) < clusters:
        nearest = np.array([min(np.sum((point - x[c]) ** 2) for c in chosen) for point in x])
        draw = rng.uniform() * nearest.sum()
        chosen.append(next((i for i in range(len(x)) if nearest[: i + 1].sum() > draw), len(x) - 1))
    centres = list(x[chosen])
    for _ in range(iterations):
        labels = [int(np.argmin([np.sum((point - c) ** 2) for c in centres])) for point in x]
        for cluster in set(labels):
            centres[cluster] = np.mean([p for p, label in zip(x, labels, strict=True) if label == cluster], axis=0)
    return np.array(labels)


@pytest.mark.parametrize(("n", "clusters"), [(40, 1), (40, 3), (40, 12), (15, 14)])
def test_the_clusters_are_those_of_plain_loops(n, clusters):
    for seed in range(10):
        x = np.random.default_rng(seed).normal(size=(n, 3)).astype(np.float32)
        ours = k_means(x, clusters, np.random.RandomState(seed))
        np.testing.assert_array_equal(ours, plain_k_means(x, clusters, np.random.RandomState(seed)))


def test_a_cluster_that_loses_its_points_stays_where_it_was():
    """Two centres on equal points: the second never has any."""
    x = np.array([[1.0], [1.0], [1.0], [9.0], [9.2]], np.float32)
    for seed in range(10):
        labels = k_means(x, 4, np.random.RandomState(seed))
        assert len({*labels[:3].tolist()}) == 1 and len({labels[0], labels[3], labels[4]}) == 3


def test_rounding_does_not_lead_above_1():
    shares = [np.full(states, 1 / states) for states in range(2, 200)]
    assert max(p.sum() for p in shares) > 1.0
    assert all(np.max(prd_curve(p, p, 5)) <= 1.0 for p in shares)


def test_the_first_centres_are_drawn_by_the_square_of_the_distance():
    """From the clump of three points, the lone point far away is nearly always the second centre."""
    x = np.array([[0.0], [0.1], [0.2], [1000.0]], np.float32)
    for seed in range(20):
        labels = k_means(x, 2, np.random.RandomState(seed))
        assert labels[0] == labels[1] == labels[2] != labels[3]


def test_there_may_be_fewer_points_than_clusters():
    x = np.repeat(np.eye(3, dtype=np.float32), 4, axis=0)
    labels = k_means(x, 7, np.random.RandomState(0))
    assert len(set(labels.tolist())) == 3
    assert all(len(set(part.tolist())) == 1 for part in np.split(labels, 3))


def test_the_curve_of_features_is_that_of_their_clusters():
    real, fake = clumps(0, (50, 50, 0)), clumps(1, (25, 0, 75))
    result = prd(real, fake, clusters=3, runs=2, angles=11)
    np.testing.assert_allclose((result.precision, result.recall), prd_curve([0.5, 0.5, 0], [0.25, 0, 0.75], 11))
    assert result.f8 == f_score(result.precision, result.recall, 8.0)
    assert result.f_one_eighth == f_score(result.precision, result.recall, 0.125)
    assert isinstance(result.f8, float)


def test_it_tells_a_lost_mode_from_a_false_one():
    real, lost, false = clumps(0, (100, 100, 0)), clumps(1, (200, 0, 0)), clumps(2, (70, 70, 60))
    result = prd(real, lost)
    assert result.f8 < 0.6 and result.f_one_eighth > 0.9
    result = prd(real, false)
    assert result.f8 > 0.9 and result.f_one_eighth < 0.8
    same = prd(real, clumps(3, (100, 100, 0)))
    assert min(same.f8, same.f_one_eighth) > 0.85


def test_runs_are_averaged_and_the_seed_matters():
    real, fake = (np.random.default_rng(s).normal(size=(100, 3)) + 0.5 * s for s in (0, 1))
    one, again, other = (prd(real, fake, runs=1, seed=seed) for seed in (0, 0, 1))
    assert one.f8 == again.f8 != other.f8
    assert one.precision.shape == (1001,)
    rng = np.random.RandomState(0)
    both = np.concatenate([real, fake])
    both = (both - both.mean(0)).astype(np.float32)
    curves = []
    for _ in range(10):
        labels = k_means(both, 20, rng)
        curves.append(prd_curve(*(np.bincount(part, minlength=20) / 100 for part in np.split(labels, 2))))
    result = prd(real, fake)
    np.testing.assert_allclose((result.precision, result.recall), np.mean(curves, axis=0), rtol=1e-12)


def test_an_offset_does_not_matter():
    real, fake = clumps(0, (50, 50, 0)), clumps(1, (25, 0, 75))
    far = prd(real + 1e6, fake + 1e6, clusters=3, angles=11)
    np.testing.assert_allclose(far.precision, prd(real, fake, clusters=3, angles=11).precision)


@pytest.mark.parametrize(
    ("shapes", "arguments", "message"),
    [
        (((9, 2), (8, 2)), {}, "equally many"),
        (((9, 2), (9, 3)), {}, "features must be"),
        (((9, 2), (9, 2)), {"clusters": 19}, "19 clusters of 18"),
        (((9, 2), (9, 2)), {"clusters": 0}, "0 clusters"),
        (((9, 2), (9, 2)), {"clusters": 2, "runs": 0}, "0 runs"),
        (((9, 2), (9, 2)), {"clusters": 2, "angles": 2}, "2 angles"),
    ],
)
def test_what_makes_no_curve_is_refused(shapes, arguments, message):
    with pytest.raises(ValueError, match=message):
        prd(*map(np.ones, shapes), **arguments)


def test_as_many_clusters_as_examples_and_three_angles_will_do():
    real, fake = np.arange(4.0)[:, None], np.arange(4.0)[:, None] + 0.1
    assert prd(real, fake, clusters=8, runs=1, angles=3).f8 == 0.0
    assert prd(real, fake, clusters=1, runs=1, angles=3).f8 == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("p", "q"),
    [([0.5, 0.5], [1.0]), ([[1.0]], [[1.0]]), ([0.5, 0.4], [0.5, 0.5]), ([1.0, 0.0], [1.5, -0.5])],
)
def test_what_is_no_distribution_is_refused(p, q):
    for pair in ((p, q), (q, p)):
        with pytest.raises(ValueError, match="distribution"):
            prd_curve(*pair)
