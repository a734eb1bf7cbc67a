import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan.models import layers


def test_initialisers():
    kernel = layers.normal_init()(jax.random.key(0), (200, 500))
    scale = layers.scale_init()(jax.random.key(1), (100_000,))
    np.testing.assert_allclose([jnp.mean(kernel), jnp.std(kernel)], [0.0, 0.02], atol=2e-4)
    np.testing.assert_allclose([jnp.mean(scale), jnp.std(scale)], [1.0, 0.02], atol=3e-4)


@pytest.mark.parametrize("use_bias", [True, False])
def test_convolutions_shapes_and_biases(use_bias):
    x = jnp.zeros((2, 6, 8, 3))
    for layer, shape, kernel in (
        (layers.Conv(5, use_bias=use_bias), (2, 3, 4, 5), (4, 4, 3, 5)),
        (layers.ConvTranspose(5, use_bias=use_bias), (2, 12, 16, 5), (4, 4, 5, 3)),
    ):
        out, variables = layer.init_with_output(jax.random.key(0), x)
        assert out.shape == shape
        assert variables["params"]["kernel"].shape == kernel
        assert ("bias" in variables["params"]) == use_bias


def test_bias_is_added():
    x = jnp.zeros((1, 4, 4, 2))
    for layer in (layers.Conv(3), layers.ConvTranspose(3)):
        params = layer.init(jax.random.key(0), x)["params"]
        out = layer.apply({"params": {**params, "bias": jnp.array([1.0, 2.0, 3.0])}}, x)
        np.testing.assert_array_equal(out, jnp.broadcast_to(jnp.array([1.0, 2.0, 3.0]), out.shape))


def batch_norm(x, axis_name=None):
    norm = layers.BatchNorm(axis_name=axis_name)
    variables = layers.BatchNorm().init(jax.random.key(0), x, train=False)
    return norm.apply(variables, x, train=True, mutable=["batch_stats"]), variables


def test_batch_norm_formula():
    x = 3.0 + 2.0 * jax.random.normal(jax.random.key(1), (8, 5, 5, 4))
    (out, updated), variables = batch_norm(x)
    a = np.asarray(x, np.float64)
    mean, var = a.mean((0, 1, 2)), a.var((0, 1, 2))
    scale = np.asarray(variables["params"]["norm"]["scale"])
    np.testing.assert_allclose(out, (a - mean) / np.sqrt(var + 1e-5) * scale, atol=1e-5)
    running = updated["batch_stats"]["norm"]
    np.testing.assert_allclose(running["mean"], 0.1 * mean, rtol=1e-5)
    np.testing.assert_allclose(running["var"], 0.9 + 0.1 * var, rtol=1e-5)
    at_rest = layers.BatchNorm().apply({"params": variables["params"], **updated}, x, train=False)
    expected = (a - running["mean"]) / np.sqrt(np.asarray(running["var"]) + 1e-5) * scale
    np.testing.assert_allclose(at_rest, expected, rtol=1e-4, atol=1e-5)


def test_batch_norm_over_devices_is_that_of_the_whole_batch():
    devices = jax.local_devices()
    if len(devices) < 4:
        pytest.skip("needs four devices, see tests/conftest.py")
    x = jax.random.normal(jax.random.key(1), (8, 3, 3, 4)) * jnp.arange(1.0, 9.0)[:, None, None, None]
    (whole, stats), _ = batch_norm(x)
    shards = x.reshape(4, 2, 3, 3, 4)

    def over_devices(axis_name):
        return jax.pmap(lambda x: batch_norm(x, axis_name)[0], axis_name="batch", devices=devices[:4])(shards)

    parts, part_stats = over_devices("batch")
    np.testing.assert_allclose(parts.reshape(x.shape), whole, rtol=1e-5, atol=1e-5)
    for device in range(4):
        jax.tree.map(lambda a, b, d=device: np.testing.assert_allclose(a[d], b, rtol=1e-5), part_stats, stats)
    alone, _ = over_devices(None)
    assert jnp.max(jnp.abs(alone.reshape(x.shape) - whole)) > 0.1


def dropout(x, index=None, rate=0.3, train=True):
    return layers.Dropout(rate).apply({}, x, train=train, index=index, rngs={"dropout": jax.random.key(7)})


def test_dropout_keeps_the_mean_and_rescales():
    out = dropout(jnp.ones((50, 400)))
    assert set(np.unique(out)) == {np.float32(0.0), np.float32(1.0) / np.float32(0.7)}
    np.testing.assert_allclose(jnp.mean(out == 0.0), 0.3, atol=0.02)
    np.testing.assert_array_equal(dropout(jnp.ones((5, 4)), train=False), 1.0)
    np.testing.assert_array_equal(dropout(jnp.ones((5, 4)), rate=0.0), 1.0)


def test_dropout_belongs_to_the_examples_index():
    x = jnp.ones((6, 100))
    whole = dropout(x)
    halves = [dropout(x[:3], jnp.arange(3)), dropout(x[3:], jnp.arange(3, 6))]
    np.testing.assert_array_equal(whole, jnp.concatenate(halves))
    assert not np.array_equal(halves[0], halves[1])
    order = jnp.array([4, 0, 5, 1, 3, 2])
    np.testing.assert_array_equal(dropout(x, order), whole[order])


@pytest.mark.parametrize("slope", [0.1, 0.2])
def test_leaky_relu_and_its_derivatives_are_flax_s(slope):
    x = jnp.array([-3.0, -1e-30, -0.0, 0.0, 2.0, jnp.inf, -jnp.inf])

    def ours(x):
        return layers.leaky_relu(x, slope)

    def flax(x):
        return nn.leaky_relu(x, slope)

    np.testing.assert_array_equal(ours(x), flax(x))
    np.testing.assert_array_equal(jax.vmap(jax.grad(ours))(x), jax.vmap(jax.grad(flax))(x))
    assert ours(jnp.bfloat16(-1)).dtype == jnp.bfloat16
    assert jnp.isnan(ours(jnp.float32(jnp.nan)))


@pytest.mark.parametrize("use_bias", [True, False])
def test_pointwise_is_a_dense_layer(use_bias):
    x = jax.random.normal(jax.random.key(0), (2, 3, 4, 5))
    ours, dense = layers.Pointwise(7, use_bias=use_bias), nn.Dense(7, use_bias=use_bias)
    variables = dense.init(jax.random.key(1), x)
    assert jax.tree.map(jnp.shape, ours.init(jax.random.key(1), x)) == jax.tree.map(jnp.shape, variables)
    np.testing.assert_allclose(ours.apply(variables, x), dense.apply(variables, x), rtol=1e-6, atol=1e-6)
    assert ours.apply(variables, x.astype(jnp.bfloat16)).dtype == jnp.bfloat16
