"""What a network computes with when it is spectrally normalised, and what is left alone."""

from math import prod

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan.games import networks
from jaxgan.models.conditioning import ConditionalBatchNorm, Judge
from jaxgan.models.layers import BatchNorm, Conv, ConvTranspose, Dropout
from tests.small import assert_close, assert_equal

KEY = jax.random.key(2)
X = np.random.default_rng(0).normal(size=(4, 4, 4, 2)).astype(np.float32)
LABEL = jnp.array([0, 2, 2, 1])


def fading(axis):
    """Kernels whose matrix [inputs, outputs] has the singular values 3, 3/4, 3/16, ...: few iterations find them."""

    def init(key, shape, dtype=jnp.float32):
        outputs = shape[axis]
        rest = tuple(n for i, n in enumerate(shape) if i != axis % len(shape))
        rank, draws = min(outputs, prod(rest)), np.random.default_rng(prod(shape))
        left, right = (np.linalg.qr(draws.normal(size=(n, rank)))[0] for n in (prod(rest), outputs))
        matrix = (left * 3.0 * 0.25 ** np.arange(rank)) @ right.T
        return jnp.asarray(np.moveaxis(matrix.reshape(*rest, outputs), -1, axis), dtype)

    return init


class Everything(nn.Module):
    """One of each kind of parameters; gives those that it was handed to compute with."""

    axis_name: str | None = None

    @nn.compact
    def __call__(self, x, label, *, train, index=None):
        x = Conv(3, kernel=2, kernel_init=fading(-1))(x)
        x = ConditionalBatchNorm(classes=3)(x, label, train=train)
        x = ConvTranspose(3, kernel=2, kernel_init=fading(-2))(x)
        x = ConditionalBatchNorm(kernel_init=fading(-1))(x, x[:, 0, 0], train=train)  # from a vector
        x = BatchNorm()(x, train=train).reshape(x.shape[0], -1)
        x = nn.Dense(4, kernel_init=fading(-1))(x)
        judge = Judge(3, True, kernel_init=fading(-1), embedding_init=fading(-1), name="judge")
        judge(x, label)
        return self.variables["params"]


@pytest.fixture(scope="module")
def made():
    return jax.jit(lambda key: networks.initialise(Everything(), key, (X, LABEL), True))(KEY)


def by_path(tree):
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="."): np.asarray(leaf) for path, leaf in leaves}


def sigma(kernel, axis):
    return np.linalg.svd(np.moveaxis(kernel, axis, -1).reshape(-1, kernel.shape[axis]), compute_uv=False)[0]


NORMALISED = {
    "Conv_0.kernel": -1,
    "ConvTranspose_0.kernel": -2,
    "ConditionalBatchNorm_1.Modulation_0.scale.kernel": -1,
    "ConditionalBatchNorm_1.Modulation_0.bias.kernel": -1,
    "Dense_0.kernel": -1,
    "judge.logit.kernel": -1,
    "judge.projection.embedding": -1,
}
TABLES = ("ConditionalBatchNorm_0.Modulation_0.scale.embedding", "ConditionalBatchNorm_0.Modulation_0.bias.embedding")


def test_every_kernel_has_vectors_but_the_tables_of_a_norm_have_none(made):
    params, collections = made
    assert set(collections["spectral"]) == set(NORMALISED)
    wide = {name for name, leaf in by_path(params).items() if leaf.ndim >= 2}
    assert wide - set(NORMALISED) == set(TABLES)


def test_a_training_pass_computes_with_sigma_1(made):
    params, collections = made
    raw = by_path(params)
    shown, after = jax.jit(lambda p, c: networks.apply(Everything(), p, c, (X, LABEL), None, KEY, None))(*made)
    shown = by_path(shown)
    for name, axis in NORMALISED.items():
        assert sigma(raw[name], axis) == pytest.approx(3.0, rel=1e-4)
        np.testing.assert_allclose(sigma(shown[name], axis), 1.0, rtol=1e-4, err_msg=name)
        np.testing.assert_allclose(shown[name], raw[name] / 3.0, rtol=1e-3, atol=1e-5, err_msg=name)
    for name in set(raw) - set(NORMALISED):
        np.testing.assert_array_equal(shown[name], raw[name], err_msg=name)
    assert_equal(after["spectral"], collections["spectral"])  # a pass reads the vectors, `iterate` moves them
    assert not np.allclose(after["batch_stats"]["BatchNorm_0"]["norm"]["mean"], 0.0)


def test_the_outputs_of_a_transposed_convolution_are_its_second_last_axis(made):
    """Taken as [.., inputs, outputs] the same kernel would have another sigma, so the tests above can tell."""
    kernel = by_path(made[0])["ConvTranspose_0.kernel"]
    assert abs(sigma(kernel, -1) - sigma(kernel, -2)) > 0.05
    vectors = made[1]["spectral"]["ConvTranspose_0.kernel"]
    assert vectors.u.shape == (kernel.shape[-2],)
    assert vectors.v.shape == (kernel.size // kernel.shape[-2],)


def test_an_evaluation_finds_the_vectors_again(made):
    """Averaged vectors point nearly the right way and are too short."""
    params, collections = made
    blurred = {**collections, "spectral": jax.tree.map(lambda x: 0.7 * x + 0.05, collections["spectral"])}
    shown = by_path(jax.jit(lambda p, c: networks.evaluate(Everything(), p, c, (X, LABEL)))(params, blurred))
    for name, axis in NORMALISED.items():
        np.testing.assert_allclose(sigma(shown[name], axis), 1.0, rtol=1e-3, err_msg=name)


def test_iterations_follow_kernels_that_have_moved(made):
    params, collections = made
    moved = jax.tree.map(lambda x: x + 0.3 * jnp.cos(jnp.arange(x.size, dtype=x.dtype)).reshape(x.shape), params)
    errors = []
    for iterations in (0, 1, 40):
        vectors = networks.iterate(moved, collections, iterations)["spectral"]
        estimates = {
            name: float(pair.v @ np.moveaxis(by_path(moved)[name], axis, -1).reshape(len(pair.v), -1) @ pair.u)
            for (name, axis), pair in ((item, vectors[item[0]]) for item in NORMALISED.items())
        }
        errors.append(max(abs(1 - estimates[n] / sigma(by_path(moved)[n], axis)) for n, axis in NORMALISED.items()))
    assert errors[2] < 1e-4 and errors[2] < errors[1] < errors[0]


def test_a_network_that_is_not_normalised_is_left_alone(made):
    params, collections = jax.jit(lambda key: networks.initialise(Everything(), key, (X, LABEL)))(KEY)
    assert_equal(params, made[0])
    assert set(collections) == {"batch_stats"}
    assert networks.iterate(params, collections) is collections
    assert_equal(networks.evaluate(Everything(), params, collections, (X, LABEL)), params)


def test_no_gradient_goes_through_the_vectors(made):
    """d/dW of c . W / sigma, with sigma = v^T W u and u, v constants."""
    params, collections = made
    c = jnp.cos(jnp.arange(params["Dense_0"]["kernel"].size)).reshape(params["Dense_0"]["kernel"].shape)

    def value(params):
        moved = networks.iterate(params, collections)
        shown, _ = networks.apply(Everything(), params, moved, (X, LABEL), None, KEY, None)
        return jnp.sum(c * shown["Dense_0"]["kernel"])

    grads = jax.jit(jax.grad(value))(params)
    w, (u, v) = np.asarray(params["Dense_0"]["kernel"]), collections["spectral"]["Dense_0.kernel"]
    expected = c / 3.0 - np.sum(c * w) / 9.0 * np.outer(v, u)
    np.testing.assert_allclose(grads["Dense_0"]["kernel"], expected, rtol=1e-3, atol=1e-4)
    others = {name: leaf for name, leaf in by_path(grads).items() if name != "Dense_0.kernel"}
    assert not any(leaf.any() for leaf in others.values())


class Small(nn.Module):
    """Knows no labels; has a method beside its `__call__`."""

    axis_name: str | None = None

    def setup(self):
        self.dense, self.drop = nn.Dense(3), Dropout(0.5)

    def __call__(self, x, *, train, index=None):
        return self.drop(self.half(x, train=train), train=train, index=index)

    def half(self, x, *, train, times=1.0):
        return times * self.dense(x)


def test_what_is_none_is_not_passed_on():
    x = X.reshape(4, -1)
    params, collections = networks.initialise(Small(), KEY, (x, None))
    assert collections == {}
    expected = x @ np.asarray(params["dense"]["kernel"])
    np.testing.assert_allclose(networks.evaluate(Small(), params, {}, (x, None)), expected, rtol=1e-4, atol=1e-5)
    tripled = networks.evaluate(Small(), params, {}, (x,), "half", times=3.0)
    np.testing.assert_allclose(tripled, 3.0 * expected, rtol=1e-4, atol=1e-5)
    out, after = networks.apply(Small(), params, {}, (x, None), jnp.arange(4), KEY, None)
    assert after == {}
    kept = np.asarray(out) != 0.0
    assert 0 < kept.sum() < kept.size  # a training pass drops; what it keeps is doubled
    np.testing.assert_allclose(out[kept], 2.0 * expected[kept], rtol=1e-4, atol=1e-5)
    again, _ = networks.apply(Small(), params, {}, (x[::-1], None), jnp.arange(4)[::-1], KEY, None)
    assert_close(again[::-1], out)  # the mask is the example's
