"""Augmentations against the same done by hand for each example."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan import augment

KEY = jax.random.key(3)


def pictures(n=64):
    return jnp.asarray(np.random.default_rng(0).normal(size=(n, 6, 5, 2)).astype(np.float32))


def test_flip_mirrors_about_half_of_the_pictures():
    x = pictures()
    out = np.asarray(augment.flip(KEY, x))
    same = np.array([np.array_equal(a, b) for a, b in zip(out, x, strict=True)])
    mirrored = np.array([np.array_equal(a, b[:, ::-1]) for a, b in zip(out, x, strict=True)])
    assert (same ^ mirrored).all() and 16 < mirrored.sum() < 48


def test_shift_moves_by_up_to_so_many_pixels_and_reflects():
    x = pictures()
    out = np.asarray(augment.shift(KEY, x, 2))
    seen = set()
    for a, b in zip(out, np.asarray(x), strict=True):
        padded = np.pad(b, ((2, 2), (2, 2), (0, 0)), mode="reflect")
        found = [(i, j) for i in range(5) for j in range(5) if np.array_equal(a, padded[i : i + 6, j : j + 5])]
        assert len(found) == 1
        seen.add(found[0])
    assert {i for i, _ in seen} == {j for _, j in seen} == {0, 1, 2, 3, 4}


def test_a_shift_past_the_picture_raises():
    with pytest.raises(ValueError, match=r"6x5.*5 pixels"):
        augment.shift(KEY, pictures(), 5)


def test_noise_has_its_standard_deviation_and_the_type_of_x():
    x = jnp.ones((2000, 3), jnp.bfloat16)
    out = augment.noise(KEY, x, 0.25)
    assert out.dtype == jnp.bfloat16
    added = np.asarray(out.astype(jnp.float32)) - 1.0
    np.testing.assert_allclose([added.mean(), added.std()], [0.0, 0.25], atol=0.01)


@pytest.mark.parametrize("function", [augment.flip, augment.shift, lambda k, x: augment.noise(k, x, 0.1)])
def test_an_example_s_draw_does_not_depend_on_the_batch_around_it(function):
    x = jnp.pad(pictures(8), ((0, 0), (0, 2), (0, 3), (0, 0)))
    keys = jax.random.split(KEY, 8)
    whole = function(keys, x)
    np.testing.assert_allclose(function(keys[5:7], x[5:7]), whole[5:7], rtol=1e-6)
    gradient = jax.grad(lambda x: function(keys, x).sum())(x)
    np.testing.assert_allclose(gradient.sum(), x.size, rtol=0.5)  # differentiable: pixels come from pixels
