"""DiffAugment against the same done by hand for each picture."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jaxgan import augment
from jaxgan.augment import diffaugment

KEYS = jax.random.split(jax.random.key(5), 256)
run = jax.jit(augment.diff_augment, static_argnames="policy")
SHAPES = [(28, 28, 1), (32, 32, 3), (9, 6, 3)]


def pictures(n, shape):
    return np.random.default_rng(1).uniform(-1, 1, (n, *shape)).astype(np.float32)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_colours_change_brightness_then_saturation_then_contrast(shape):
    x, draws = pictures(3, shape), np.array([[0.3, -0.2, 0.0], [0.4, 1.7, 1.0], [0.6, 1.4, 1.0]], np.float32)
    expected = []
    for picture, (brightness, saturation, contrast) in zip(x.astype(np.float64), draws.T, strict=True):
        y = picture + brightness
        y = (y - y.mean(2, keepdims=True)) * saturation + y.mean(2, keepdims=True) if shape[2] == 3 else y
        expected.append((y - y.mean()) * contrast + y.mean())
    np.testing.assert_allclose(jax.jit(diffaugment.jitter)(x, *draws), expected, atol=1e-6)


@pytest.mark.parametrize(("shape", "furthest"), list(zip(SHAPES, [(4, 4), (4, 4), (1, 1)], strict=True)), ids=str)
def test_translation_moves_by_up_to_an_eighth_and_zeros_come_in(shape, furthest):
    x = pictures(256, shape)
    out = np.asarray(run(KEYS, jnp.asarray(x), "translation"))
    seen = set()
    for a, b in zip(out, x, strict=True):
        padded = np.pad(b, [(furthest[0],) * 2, (furthest[1],) * 2, (0, 0)])
        places = [(i, j) for i in range(2 * furthest[0] + 1) for j in range(2 * furthest[1] + 1)]
        found = [p for p in places if np.array_equal(a, padded[p[0] : p[0] + shape[0], p[1] : p[1] + shape[1]])]
        assert len(found) == 1
        seen.update(found)
    for axis in (0, 1):
        assert {p[axis] for p in seen} == set(range(2 * furthest[axis] + 1))


@pytest.mark.parametrize("shape", SHAPES[1:], ids=str)
def test_cutout_hides_a_rectangle_of_half_the_sides_that_may_stick_out(shape):
    out = np.asarray(run(KEYS, jnp.ones((256, *shape)), ("cutout",)))
    half = [int(side / 2 + 0.5) for side in shape[:2]]
    middles = set()
    for picture in out:
        assert set(np.unique(picture)) == {0.0, 1.0}
        rows, columns = (np.flatnonzero(~picture[..., 0].all(axis=1 - axis)) for axis in (0, 1))
        assert (picture[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] == 0).all()
        assert (picture == 0).all(2).sum() == len(rows) * len(columns)
        for seen, whole, side in zip((rows, columns), half, shape[:2], strict=True):
            assert len(seen) == whole or (len(seen) >= (whole + 1) // 2 and (seen[0] == 0 or seen[-1] == side - 1))
        middles.add((rows[0], rows[-1]))
    assert {len(range(a, b + 1)) for a, b in middles} == set(range((half[0] + 1) // 2, half[0] + 1))


def test_an_operation_s_draws_do_not_depend_on_the_policy():
    x = jnp.asarray(pictures(8, (12, 12, 3)))
    keys = KEYS[:8]
    both = run(keys, x, ("translation", "cutout"))
    np.testing.assert_array_equal(both, run(keys, run(keys, x, ("translation",)), "cutout"))
    assert not np.array_equal(both, run(keys, x, "cutout, translation"))
    np.testing.assert_array_equal(augment.diff_augment(keys, x, ()), x)


def test_draws_belong_to_examples_and_compiling_changes_nothing():
    x = jnp.asarray(pictures(8, (32, 32, 3)))
    np.testing.assert_allclose(augment.diff_augment(KEYS[3:5], x[3:5]), run(KEYS[:8], x)[3:5], atol=1e-6)


def test_one_key_is_split_for_the_examples():
    x, key = jnp.asarray(pictures(8, (4, 4, 1))), jax.random.key(2)
    np.testing.assert_array_equal(run(key, x, "cutout"), run(jax.random.split(key, 8), x, "cutout"))


def test_its_gradients_are_those_of_finite_differences():
    x, draws = jnp.asarray(pictures(2, (6, 6, 3))), jnp.asarray([[0.3, -0.2], [0.4, 1.7], [0.6, 1.4]])
    places = jnp.asarray([[1, 0], [-1, 1]])

    def wave(x):
        moved = diffaugment.translate(diffaugment.jitter(x, *draws), places, (1, 1))
        return jnp.sin(diffaugment.cut_out(moved, 3 + places, (3, 3)))

    check_grads(jax.jit(wave), (x,), order=2, modes=["rev"], atol=0.02, rtol=0.02, eps=1e-2)
    slope = jax.jit(jax.grad(lambda x: jnp.sum(augment.diff_augment(KEYS[:2], x))))(x)
    assert jnp.isfinite(slope).all() and (slope != 0).any()


def test_it_keeps_the_type_and_names_what_it_does_not_know():
    assert jax.eval_shape(augment.diff_augment, KEYS[:2], jnp.ones((2, 4, 4, 1), jnp.bfloat16)).dtype == jnp.bfloat16
    with pytest.raises(ValueError, match=r"color, translation, cutout.*'flip'"):
        augment.diff_augment(KEYS[:2], jnp.ones((2, 4, 4, 1)), ("color", "flip"))


def test_it_runs_where_jax_is_at_its_strictest(strict):
    assert jax.eval_shape(augment.diff_augment, KEYS[:2], jnp.ones((2, 4, 4, 3))).shape == (2, 4, 4, 3)
