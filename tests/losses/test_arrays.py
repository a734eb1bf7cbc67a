"""What the losses share: the types they compute in, the shapes they refuse, the draws that belong to an example."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jaxgan.losses import arrays


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32], ids=lambda d: d.__name__)
def test_half_and_single_precision_become_float32(dtype):
    x = arrays.as_float(jnp.array([0.1, -2.0], dtype))
    assert x.dtype == jnp.float32
    np.testing.assert_array_equal(x, np.asarray(jnp.array([0.1, -2.0], dtype), np.float32))


def test_double_precision_stays():
    with jax.enable_x64(True):
        x = arrays.as_float(np.array([0.1, 1 / 3]))
        assert x.dtype == jnp.float64
        np.testing.assert_array_equal(x, [0.1, 1 / 3])


@pytest.mark.parametrize("x", [np.arange(3, dtype=np.int32), np.array([True]), np.uint8(3)], ids=lambda x: str(x.dtype))
def test_numbers_that_are_not_floating_point_raise_with_their_type(x):
    with pytest.raises(TypeError, match=f"^logits must be floating point, not {x.dtype}"):
        arrays.as_float(x)
    with pytest.raises(TypeError, match=f"^codes must be floating point, not {x.dtype}"):
        arrays.as_float(x, "codes")


def test_a_pair_keeps_its_order_and_each_its_own_type():
    with jax.enable_x64(True):
        a, b = arrays.as_pair(jnp.array([1.0, 2.0], jnp.bfloat16), np.array([3.0, 4.0]))
        assert a.dtype == jnp.float32 and b.dtype == jnp.float64
        np.testing.assert_array_equal(a, [1.0, 2.0])
        np.testing.assert_array_equal(b, [3.0, 4.0])


def test_a_pair_s_errors_name_the_right_array():
    x, n = np.zeros(2, np.float32), np.zeros(2, np.int32)
    for arguments, name in [((n, x), "real_logits"), ((x, n), "fake_logits"), ((n, x, ("a", "b")), "a")]:
        with pytest.raises(TypeError, match=f"^{name} must"):
            arrays.as_pair(*arguments)
    with pytest.raises(TypeError, match=r"^b must"):
        arrays.as_pair(x, n, ("a", "b"))
    with pytest.raises(ValueError, match=r"^real_logits \(2,\) and fake_logits \(3,\) "):
        arrays.as_pair(x, np.zeros(3, np.float32))
    with pytest.raises(ValueError, match=r"^a \(2,\) and b \(1, 2\) "):
        arrays.as_pair(x, x[None], ("a", "b"))


def test_equal_shapes_are_let_through():
    assert arrays.require_same_shape(jnp.zeros((2, 3)), jnp.ones((2, 3)), ("a", "b")) is None


@pytest.mark.parametrize("shape", [(4,), (4, 3), (4, 2, 3, 5)], ids=str)
def test_sums_and_means_are_of_an_example(shape):
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    flat = x.astype(np.float64).reshape(4, -1)
    for function, expected in ((arrays.example_sum, flat.sum(1)), (arrays.example_mean, flat.mean(1))):
        value = function(jnp.asarray(x))
        assert value.shape == (4,)
        np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-6)


def test_the_root_s_value_and_gradient():
    x = jnp.array([0.0, 1e-30, 0.25, 4.0, 1e30])
    np.testing.assert_allclose(arrays.safe_sqrt(x), np.sqrt(np.asarray(x, np.float64)), rtol=1e-6)
    gradient = jax.vmap(jax.grad(arrays.safe_sqrt))(x)
    np.testing.assert_allclose(gradient, [0.0, 0.5e15, 1.0, 0.25, 0.5e-15], rtol=1e-5)
    assert jax.grad(jax.grad(arrays.safe_sqrt))(0.0) == 0.0
    check_grads(arrays.safe_sqrt, (jnp.array([0.5, 2.0, 5.0]),), order=2, atol=1e-2, rtol=1e-2, eps=1e-2)


def test_the_magnitude_has_no_slope_at_zero():
    x = jnp.array([-2.0, -0.0, 0.0, 3.0])
    np.testing.assert_array_equal(arrays.magnitude(x), [2.0, 0.0, 0.0, 3.0])
    np.testing.assert_array_equal(jax.vmap(jax.grad(arrays.magnitude))(x), [-1.0, 0.0, 0.0, 1.0])


@pytest.mark.parametrize("make", [jax.random.key, jax.random.PRNGKey], ids=["typed", "raw"])
@pytest.mark.parametrize("sampler", [jax.random.uniform, jax.random.normal])
@pytest.mark.parametrize("shape", [(3,), (3, 1), (3, 2, 4)], ids=str)
def test_draws_with_one_key_and_with_a_key_for_each_example(make, sampler, shape):
    key = make(5)
    np.testing.assert_array_equal(arrays.draw(sampler, key, shape, jnp.float32), sampler(key, shape, jnp.float32))
    keys = jax.random.split(key, 3)
    x = arrays.draw(sampler, keys, shape, jnp.float32)
    np.testing.assert_array_equal(x, np.stack([sampler(k, shape[1:], jnp.float32) for k in keys]))
    # The last two examples alone get what they got in the batch of three.
    np.testing.assert_array_equal(arrays.draw(sampler, keys[1:], (2, *shape[1:]), jnp.float32), x[1:])


def test_draws_are_the_same_float32_numbers_with_float64_enabled():
    key = jax.random.key(0)
    for keys in (key, jax.random.split(key, 4)):
        x = arrays.draw(jax.random.normal, keys, (4, 2), jnp.float32)
        with jax.enable_x64(True):
            y = arrays.draw(jax.random.normal, keys, (4, 2), jnp.float64)
        assert x.dtype == jnp.float32 and y.dtype == jnp.float64
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("make", [jax.random.key, jax.random.PRNGKey], ids=["typed", "raw"])
def test_another_number_of_keys_than_examples_raises_with_both(make):
    with pytest.raises(ValueError, match=r"^3 keys for 4 examples"):
        arrays.draw(jax.random.normal, jax.random.split(make(0), 3), (4, 3), jnp.float32)


@pytest.mark.parametrize("make", [jax.random.key, jax.random.PRNGKey], ids=["typed", "raw"])
def test_a_key_splits_in_two_and_keys_of_examples_each_in_two(make):
    def data(key):
        return jax.random.key_data(key) if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else key

    key = make(7)
    for ours, expected in zip(arrays.split(key), jax.random.split(key), strict=True):
        np.testing.assert_array_equal(data(ours), data(expected))
    keys = jax.random.split(key, 4)
    first, second = arrays.split(keys)
    assert first.shape == second.shape == keys.shape
    for i in range(4):
        a, b = jax.random.split(keys[i])
        np.testing.assert_array_equal(data(first[i]), data(a))
        np.testing.assert_array_equal(data(second[i]), data(b))
