"""The distance against closed forms and an implementation in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan.metrics.sliced_wasserstein import sliced_wasserstein_distance

KEY = jax.random.key(0)


def normal(seed, n=200, d=3):
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


def test_in_one_dimension_it_is_the_distance_of_sorted_values():
    """A unit direction on the line is 1 or -1, so nothing is left to chance."""
    real, fake = np.array([[3.0], [0.0], [1.0]]), np.array([[5.0], [6.0], [8.0]])
    assert float(sliced_wasserstein_distance(real, fake, KEY)) == pytest.approx((5 + 5 + 5) / 3)
    assert float(sliced_wasserstein_distance(real, real[[1, 2, 0]], KEY)) == 0.0


def test_against_numpy():
    real, fake = normal(0), 2 * normal(1) + 0.5
    angles = np.random.default_rng(2).normal(size=(3, 20_000))
    angles /= np.sqrt((angles**2).sum(axis=0))
    expected = np.mean([np.abs(np.sort(real @ a) - np.sort(fake @ a)).mean() for a in angles.T])
    ours = sliced_wasserstein_distance(real, fake, KEY, directions=4096)
    assert float(ours) == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize("dimension", [16, 256])
def test_a_shift_has_the_closed_form_of_the_docstring(dimension):
    real = normal(0, 50, dimension)
    shift = normal(1, 1, dimension)
    expected = np.linalg.norm(shift) * np.sqrt(2 / (np.pi * dimension))
    ours = sliced_wasserstein_distance(real, real + shift, KEY, directions=4096)
    assert float(ours) == pytest.approx(expected, rel=0.06)


def test_it_is_a_distance():
    a, b, c = normal(0), normal(1) + 1.0, 3 * normal(2)
    d = jax.jit(sliced_wasserstein_distance)
    assert float(d(a, a, KEY)) == 0.0
    assert float(d(a, b, KEY)) == pytest.approx(float(d(b, a, KEY)), rel=1e-6)
    assert float(d(a, c, KEY)) <= float(d(a, b, KEY)) + float(d(b, c, KEY))
    assert float(d(5 * a, 5 * b, KEY)) == pytest.approx(5 * float(d(a, b, KEY)), rel=1e-5)
    assert float(d(a + 7, b + 7, KEY)) == pytest.approx(float(d(a, b, KEY)), rel=1e-4)


def test_the_order_of_the_examples_does_not_matter():
    real, fake = normal(0), normal(1) + 1.0
    shuffled = np.random.default_rng(0).permutation(fake)
    ours = [float(sliced_wasserstein_distance(real, x, KEY)) for x in (fake, shuffled)]
    assert ours[0] == pytest.approx(ours[1], rel=1e-6)


def test_a_missing_mode_costs_more_than_a_small_noise():
    modes = np.array([[-1.0, 0.0], [1.0, 0.0]])
    real, one_mode = np.tile(modes, (100, 1)), np.tile(modes[:1], (200, 1))
    noisy = real + 0.05 * normal(0, 200, 2)
    distances = [float(sliced_wasserstein_distance(real, x, KEY)) for x in (real, noisy, one_mode)]
    assert distances == sorted(distances) and distances[0] == 0.0


def test_the_result_is_a_float32_scalar_and_the_key_matters():
    ours = [sliced_wasserstein_distance(normal(0), normal(1), jax.random.key(i), directions=4) for i in (0, 0, 1)]
    assert ours[0].shape == () and ours[0].dtype == jnp.float32
    assert float(ours[0]) == float(ours[1]) != float(ours[2])


@pytest.mark.parametrize("shapes", [((4, 2), (5, 2)), ((4, 2), (4, 3)), ((4,), (4,)), ((4, 2, 1), (4, 2, 1))])
def test_what_cannot_be_compared_is_refused_with_both_shapes(shapes):
    with pytest.raises(ValueError) as error:
        sliced_wasserstein_distance(*map(jnp.zeros, shapes), KEY)
    assert all(str(shape) in str(error.value) for shape in shapes)
