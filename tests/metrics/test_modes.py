"""Mode counts by PacGAN's protocol on samples whose modes are known, and of labels."""

import numpy as np
import pytest

from jaxgan.data import toy
from jaxgan.metrics.modes import POINTS, label_histogram, labelled_modes, mode_coverage, reverse_kl

CENTRES = np.array([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])


@pytest.mark.parametrize("name", ["ring", "grid"])
def test_real_points_find_every_mode(name):
    mixture = toy.MIXTURES[name]
    points = toy.load(name, n=POINTS, seed=3).arrays["real"]
    result = mode_coverage(points, mixture.centres(), mixture.std)
    assert result.modes == len(mixture.centres())
    assert result.high_quality == pytest.approx(1 - np.exp(-4.5), abs=4 * np.sqrt(0.011 / POINTS))
    assert 0.0 < result.reverse_kl < 0.02 and 0.0 < result.reverse_kl_good < 0.02


def test_published_counts_are_of_2500_points():
    assert POINTS == 2500


def test_good_is_strictly_within_three_deviations_of_the_nearest_centre():
    points = [[10.0, 0.0], [10.0, 1.4], [11.5, 0.0], [11.49, 0.0], [0.0, -1.51], [4.9, 0.0], [5.1, 0.0], [0.0, 9.0]]
    result = mode_coverage(points, CENTRES, 0.5)
    assert result.high_quality == pytest.approx(4 / 8)
    assert result.modes == 2
    # By the nearest centre: (0, 0) 2, (10, 0) 5, (0, 10) 1; good ones: 0, 3, 1.
    shares = np.array([2, 5, 1]) / 8
    assert result.reverse_kl == pytest.approx(np.sum(shares * np.log(3 * shares)))
    shares = np.array([3, 1]) / 4
    assert result.reverse_kl_good == pytest.approx(np.sum(shares * np.log(3 * shares)))


def test_the_distance_is_euclidean_not_along_an_axis():
    corner = [[1.2, 1.2]]
    assert mode_coverage(corner, CENTRES, 0.5).high_quality == 0.0
    assert mode_coverage([[1.2, 0.0]], CENTRES, 0.5).high_quality == 1.0


def test_both_thresholds_can_be_moved():
    points = [[0.0, 0.0], [0.0, 0.9], [10.0, 0.0]]
    assert mode_coverage(points, CENTRES, 0.5).modes == 2
    assert mode_coverage(points, CENTRES, 0.5, least=2).modes == 1
    assert mode_coverage(points, CENTRES, 0.5, least=3).modes == 0
    assert mode_coverage(points, CENTRES, 0.5, within=1.0).high_quality == pytest.approx(2 / 3)


def test_a_collapsed_generator_finds_one_mode():
    result = mode_coverage(np.tile(CENTRES[1], (50, 1)), CENTRES, 0.5)
    assert result == (1, 1.0, pytest.approx(np.log(3)), pytest.approx(np.log(3)))


def test_without_good_points_nothing_is_found():
    result = mode_coverage([[5.0, 5.0], [6.0, 6.0]], CENTRES, 0.5)
    assert result[:2] == (0, 0.0)
    assert np.isnan(result.reverse_kl_good) and not np.isnan(result.reverse_kl)


def test_results_are_plain_numbers():
    result = mode_coverage(CENTRES, CENTRES, 0.5)
    assert result == (3, 1.0, 0.0, 0.0)
    assert [type(x) for x in result] == [int, float, float, float]
    assert [type(x) for x in labelled_modes([0], 1)] == [int, float]


@pytest.mark.parametrize(
    "shapes",
    [((5,), (3, 2)), ((5, 2), (2,)), ((5, 3), (3, 2)), ((0, 2), (3, 2)), ((5, 2), (0, 2)), ((5, 2, 1), (3, 2))],
)
def test_shapes_that_do_not_fit_are_refused(shapes):
    with pytest.raises(ValueError) as error:
        mode_coverage(*map(np.ones, shapes), 0.5)
    assert all(str(shape) in str(error.value) for shape in shapes)


def test_points_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="finite"):
        mode_coverage([[np.nan, 0.0]], CENTRES, 0.5)
    with pytest.raises(ValueError, match="finite"):
        mode_coverage(CENTRES, [[np.inf, 0.0]], 0.5)


def test_labelled_modes():
    labels = np.array([0, 0, 0, 2, 2, 999])
    shares = np.array([3, 2, 1]) / 6
    modes, divergence = labelled_modes(labels, 1000)
    assert modes == 3
    assert divergence == pytest.approx(np.sum(shares * np.log(1000 * shares)))
    assert labelled_modes(np.arange(1000), 1000) == (1000, 0.0)
    assert labelled_modes([7], 1000) == (1, pytest.approx(np.log(1000)))


def test_uniform_labels_have_the_divergence_that_the_docstring_tells():
    labels = np.random.default_rng(0).integers(1000, size=26_000)
    modes, divergence = labelled_modes(labels, 1000)
    assert modes == 1000
    assert divergence == pytest.approx(999 / 52_000, rel=0.15)


def test_the_reverse_divergence_of_the_docstring():
    assert reverse_kl([5, 5]) == 0.0
    assert reverse_kl([8, 0, 0, 0]) == pytest.approx(np.log(4))
    assert reverse_kl([1, 3]) == pytest.approx(0.25 * np.log(0.5) + 0.75 * np.log(1.5))
    assert np.isnan(reverse_kl([0, 0]))
    assert all(reverse_kl(counts) >= 0.0 for counts in ([1] * 7, [3] * 49, [1] * 1000))


def test_the_histogram():
    np.testing.assert_array_equal(label_histogram(np.array([2, 0, 2], np.uint8), 4), [1, 0, 2, 0])
    np.testing.assert_array_equal(label_histogram([], 3), [0, 0, 0])
    assert label_histogram([0], 2).dtype == np.int64


@pytest.mark.parametrize("labels", [[0.0, 1.0], [[0, 1]], [-1, 0], [0, 3], [3]])
def test_what_are_no_labels_is_refused(labels):
    with pytest.raises(ValueError, match="labels"):
        labelled_modes(labels, 3)
    with pytest.raises(ValueError, match="no labels"):
        labelled_modes([], 3)
