"""The mixtures in the plane, against the geometry that their papers state."""

import numpy as np
import pytest

from jaxgan.data import toy


def test_ring_is_eight_points_of_the_unit_circle():
    centres = toy.ring_centres()
    expected = [np.exp(2j * np.pi * k / 8) for k in range(8)]
    np.testing.assert_allclose(centres[:, 0] + 1j * centres[:, 1], expected, atol=1e-6)
    assert toy.MIXTURES["ring"].std == 0.01


def test_grid_is_every_even_point_of_the_square():
    expected = {(x, y) for x in (-4, -2, 0, 2, 4) for y in (-4, -2, 0, 2, 4)}
    assert {tuple(centre) for centre in toy.grid_centres().tolist()} == expected and len(toy.grid_centres()) == 25
    assert toy.MIXTURES["grid"].std == 0.05


@pytest.mark.parametrize("name", ["ring", "grid"])
def test_points_scatter_around_the_centre_of_their_label(name):
    centres, std = toy.MIXTURES[name].centres(), toy.MIXTURES[name].std
    points = toy.load(name, seed=3)
    real, label = points.arrays["real"], points.arrays["label"]
    assert real.shape == (toy.NUM_POINTS, 2) and real.dtype == np.float32 and label.dtype == np.int32
    for mode, centre in enumerate(centres):
        own = real[label == mode]
        # Five standard errors; each mode has its fair share of the points.
        assert np.abs(own.mean(0) - centre).max() < 5 * std / np.sqrt(len(own))
        np.testing.assert_allclose(own.std(0), std, rtol=5 / np.sqrt(2 * len(own)))
        share = 1 / len(centres)
        assert abs(len(own) - share * len(real)) < 5 * np.sqrt(len(real) * share * (1 - share))
        assert abs(np.corrcoef(own.T)[0, 1]) < 5 / np.sqrt(len(own))


def test_label_names_count_the_modes():
    assert toy.load("grid", n=10).label_names == tuple(str(mode) for mode in range(25))


def test_same_seed_same_points():
    one, same, other = (toy.load("ring", n=100, seed=seed).arrays for seed in (1, 1, 2))
    np.testing.assert_array_equal(one["real"], same["real"])
    np.testing.assert_array_equal(one["label"], same["label"])
    assert not np.array_equal(one["real"], other["real"])
