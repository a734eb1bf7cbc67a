"""The terms of VAEs and of vector quantisation against loops in NumPy float64, closed forms and extremes."""

import functools
import inspect
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan import losses

SHAPES = [(3,), (4, 2), (2, 3, 2, 1)]


@functools.cache
def compiled(function):
    """One for all tests: what has the same shapes is compiled once."""
    return jax.jit(function)


def by_name(function):
    return getattr(function, "__name__", str(function))


def gaussian_kl(mean, log_variance):
    loss = np.zeros(len(mean))
    for i in np.ndindex(mean.shape):
        loss[i[0]] += (mean[i] ** 2 + math.exp(log_variance[i]) - 1 - log_variance[i]) / 2
    return loss


def bernoulli_nll(logits, target):
    loss = np.zeros(len(logits))
    for i in np.ndindex(logits.shape):
        p = 1 / (1 + math.exp(-logits[i]))
        loss[i[0]] -= target[i] * math.log(p) + (1 - target[i]) * math.log(1 - p)
    return loss


def gaussian_nll(mean, target, log_variance=None):
    loss = np.zeros(len(mean))
    for i in np.ndindex(mean.shape):
        variance = 1.0 if log_variance is None else math.exp(log_variance[i])
        density = math.exp(-((target[i] - mean[i]) ** 2) / (2 * variance)) / math.sqrt(2 * math.pi * variance)
        loss[i[0]] -= math.log(density)
    return loss


def squared_norm(encoded, quantized):
    return ((encoded - quantized) ** 2).sum(-1)


REFERENCE = {
    losses.gaussian_kl: gaussian_kl,
    losses.bernoulli_nll: bernoulli_nll,
    losses.gaussian_nll: gaussian_nll,
    losses.vq_codebook_loss: squared_norm,
    losses.vq_commitment_loss: squared_norm,
    losses.straight_through: lambda encoded, quantized: quantized,
}
FUNCTIONS = list(REFERENCE)
SMOOTH = FUNCTIONS[:3]


def arguments(function, shape, seed=0, dtype=np.float32):
    """The two arguments of a function; the target of a Bernoulli lies in [0, 1]."""
    rng = np.random.default_rng(seed)
    second = rng.uniform(size=shape) if function is losses.bernoulli_nll else rng.normal(size=shape)
    return rng.normal(size=shape).astype(dtype), second.astype(dtype)


def in_double(*arrays):
    return [np.asarray(x, np.float64) for x in arrays]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("function", FUNCTIONS, ids=by_name)
def test_values(function, shape, strict):
    x, y = arguments(function, shape)
    expected = REFERENCE[function](*in_double(x, y))
    for calculate in (function, compiled(function)):
        value = calculate(x, y)
        assert value.shape == expected.shape and value.dtype == jnp.float32
        np.testing.assert_allclose(value, expected, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("function", FUNCTIONS, ids=by_name)
def test_half_precision_is_computed_in_float32_and_double_precision_stays(function):
    pair = arguments(function, (4, 2))
    for dtype in (jnp.bfloat16, jnp.float16):
        half = [x.astype(dtype) for x in pair]
        value = compiled(function)(*half)
        assert value.dtype == jnp.float32
        np.testing.assert_allclose(value, REFERENCE[function](*in_double(*half)), rtol=2e-5, atol=2e-6)
    with jax.enable_x64(True):
        double = arguments(function, (4, 2), dtype=np.float64)
        value = compiled(function)(*double)
        assert value.dtype == jnp.float64
        np.testing.assert_allclose(value, REFERENCE[function](*double), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("function", FUNCTIONS, ids=by_name)
def test_single_precision_stays_with_float64_enabled(function):
    with jax.enable_x64(True):
        assert compiled(function)(*arguments(function, (4, 2))).dtype == jnp.float32
        assert compiled(function)(*arguments(function, (4, 2), dtype=jnp.bfloat16)).dtype == jnp.float32


@pytest.mark.parametrize("function", FUNCTIONS, ids=by_name)
def test_vmap_is_a_loop(function):
    x, y = arguments(function, (3, 4, 2))
    function = compiled(function)
    expected = np.stack([function(a, b) for a, b in zip(x, y, strict=True)])
    np.testing.assert_allclose(jax.vmap(function)(x, y), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("function", FUNCTIONS, ids=by_name)
def test_different_shapes_and_whole_numbers_raise(function):
    x = jnp.zeros((4, 2))
    with pytest.raises(ValueError, match=r"\(4, 2\).*\(4, 1\)"):
        function(x, x[:, :1])
    names = list(inspect.signature(function).parameters)
    for pair, name in zip(((x.astype(int), x), (x, x.astype(int))), names[:2], strict=True):
        with pytest.raises(TypeError, match=f"^{name} must be floating point, not int32"):
            function(*pair)


@pytest.mark.parametrize("function", SMOOTH, ids=by_name)
def test_derivatives_by_finite_differences_of_the_reference(function):
    x, y = arguments(function, (2, 3), dtype=np.float64)
    dx, dy = arguments(losses.gaussian_kl, (2, 3), seed=1, dtype=np.float64)
    if function is losses.bernoulli_nll:
        y, dy = 0.2 + 0.6 * y, 0.1 * dy  # stays in [0, 1]
    weights = np.array([1.0, 1.7])

    def along(h):
        return weights @ REFERENCE[function](x + h * dx, y + h * dy)

    def derivatives(x, y):
        slope = jax.grad(lambda x, y: (weights * function(x, y)).sum(), (0, 1))
        return [(a * dx).sum() + (b * dy).sum() for a, b in jax.jvp(slope, (x, y), (dx, dy))]

    h = 1e-3
    with jax.enable_x64(True):
        first, second = jax.jit(derivatives)(x, y)
    np.testing.assert_allclose(first, (along(h) - along(-h)) / (2 * h), rtol=1e-4)
    np.testing.assert_allclose(second, (along(h) - 2 * along(0) + along(-h)) / h**2, rtol=1e-4)


# Divergence from the prior


def test_the_divergence_of_equal_gaussians_is_zero():
    np.testing.assert_array_equal(losses.gaussian_kl(jnp.zeros((4, 2)), jnp.zeros((4, 2))), 0)


def test_the_divergence_is_an_expected_difference_of_log_likelihoods():
    # KL = -entropy of q - E_q log p, and E_q log p is -gaussian_nll at the mean minus half the variance.
    mean, log_variance = arguments(losses.gaussian_kl, (4, 2))
    entropy = 0.5 * (1 + math.log(2 * math.pi) + log_variance.astype(np.float64)).sum(-1)
    cross = np.asarray(losses.gaussian_nll(np.zeros_like(mean), mean)) + np.exp(log_variance).sum(-1) / 2
    np.testing.assert_allclose(compiled(losses.gaussian_kl)(mean, log_variance), cross - entropy, rtol=1e-5)


@pytest.mark.parametrize("x", [1e-2, -1e-2, 1e-3, -1e-3, 2e-4])
def test_the_divergence_near_the_prior_keeps_its_digits(x):
    # e^v - 1 - v in float32 has none left; the series has.
    expected = x**2 / 2 + x**3 / 6  # two latents, each with half of it
    value = compiled(losses.gaussian_kl)(np.zeros((1, 2), np.float32), np.full((1, 2), x, np.float32))
    np.testing.assert_allclose(value, expected, rtol=1e-3 if abs(x) > 5e-4 else 1e-2)


def test_the_divergence_of_extreme_variances():
    mean = np.zeros((4, 2), np.float32)
    value = compiled(losses.gaussian_kl)(mean, np.full((4, 2), -1e4, np.float32))
    np.testing.assert_allclose(value, 2 * (1e4 - 1) / 2)
    value = compiled(losses.gaussian_kl)(mean + 1e4, np.full((4, 2), 80, np.float32))
    np.testing.assert_allclose(value, 1e8 + math.exp(80), rtol=1e-5)


# Likelihoods


def test_bernoulli_likelihoods_add_up_to_one():
    logits = np.array([[-2.0, 0.3], [-2.0, 0.3], [-2.0, 0.3], [-2.0, 0.3]], np.float32)
    targets = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32)
    np.testing.assert_allclose(np.exp(-compiled(losses.bernoulli_nll)(logits, targets)).sum(), 1.0, rtol=1e-6)


def test_bernoulli_nll_of_extreme_logits():
    logits = np.array([[1e4, -1e4], [1e4, -1e4], [1e4, 1e4], [-1e4, -1e4]], np.float32)
    targets = np.array([[1, 0], [0, 1], [0.5, 1], [0.25, 0]], np.float32)
    value, pullback = jax.vjp(compiled(losses.bernoulli_nll), logits, targets)
    np.testing.assert_allclose(value, [0, 2e4, 5e3, 2.5e3])
    slope, _ = pullback(jnp.ones(4))
    np.testing.assert_allclose(slope, [[0, 0], [1, -1], [0.5, 0], [-0.25, 0]])


def test_the_gaussian_likelihood_is_a_density():
    x = np.linspace(-15, 15, 4001, dtype=np.float32)[:, None]
    for log_variance in (0.0, 0.8):
        nll = losses.gaussian_nll(np.full_like(x, 0.7), x, log_variance)
        total = np.exp(-np.asarray(nll, np.float64)).sum() * (x[1, 0] - x[0, 0])
        np.testing.assert_allclose(total, 1.0, rtol=1e-4)


def test_the_gaussian_likelihood_with_a_variance_for_each_number_or_for_all(strict):
    mean, target = arguments(losses.gaussian_nll, (4, 2))
    log_variance = np.random.default_rng(1).normal(size=(4, 2)).astype(np.float32)
    value = losses.gaussian_nll(mean, target, log_variance)
    assert value.dtype == jnp.float32
    np.testing.assert_allclose(value, gaussian_nll(*in_double(mean, target, log_variance)), rtol=2e-5)
    one = np.full((4, 2), -0.5)
    expected = gaussian_nll(*in_double(mean, target), one)
    for scalar in (-0.5, np.float32(-0.5), jnp.asarray(-0.5), jnp.asarray(-0.5, jnp.bfloat16).astype(jnp.float32)):
        np.testing.assert_allclose(losses.gaussian_nll(mean, target, scalar), expected, rtol=2e-5)


def test_the_gaussian_likelihood_with_a_variance_of_another_shape_raises():
    x = jnp.zeros((4, 2))
    for shape in ((2,), (4, 1), (1, 1)):
        with pytest.raises(ValueError) as error:
            losses.gaussian_nll(x, x, jnp.zeros(shape))
        assert f"mean (4, 2) and log_variance {shape} must" in str(error.value)
    with pytest.raises(TypeError, match="int32"):
        losses.gaussian_nll(x, x, jnp.zeros((4, 2), int))


def test_the_best_variance_is_the_squared_error():
    mean, target = arguments(losses.gaussian_nll, (4, 2))
    slope = jax.jit(jax.grad(lambda v: losses.gaussian_nll(mean, target, v).sum()))
    np.testing.assert_allclose(slope(2 * np.log(np.abs(target - mean))), 0, atol=1e-5)
    np.testing.assert_allclose(slope(2 * np.log(np.abs(target - mean)) + 30), 0.5, atol=1e-5)


def test_info_gan_s_codes_have_the_same_likelihood():
    mean, codes = arguments(losses.gaussian_nll, (4, 2))
    log_std = np.random.default_rng(1).normal(size=(4, 2)).astype(np.float32)
    np.testing.assert_allclose(
        losses.info_gan_gaussian_loss(mean, log_std, codes), losses.gaussian_nll(mean, codes, 2 * log_std), rtol=1e-5
    )


# Vector quantisation


@pytest.mark.parametrize(
    "function, encoded_slope, quantized_slope",
    [(losses.vq_codebook_loss, 0, -2), (losses.vq_commitment_loss, 2, 0)],
    ids=["codebook", "commitment"],
)
def test_each_term_of_vq_moves_one_side(function, encoded_slope, quantized_slope):
    encoded, quantized = arguments(function, (4, 2))
    slopes = jax.jit(jax.grad(lambda e, q: function(e, q).sum(), (0, 1)))(encoded, quantized)
    np.testing.assert_allclose(slopes[0], encoded_slope * (encoded - quantized), rtol=1e-6)
    np.testing.assert_allclose(slopes[1], quantized_slope * (encoded - quantized), rtol=1e-6)


def test_straight_through_has_the_value_of_the_code_and_the_gradient_of_the_encoding():
    encoded, quantized = arguments(losses.straight_through, (4, 2))
    weights = np.arange(8, dtype=np.float32).reshape(4, 2)

    def loss(e, q):
        out = losses.straight_through(e, q)
        return (weights * out**2).sum(), out

    slopes, value = jax.jit(jax.grad(loss, (0, 1), has_aux=True))(encoded, quantized)
    np.testing.assert_allclose(value, quantized, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(slopes[0], 2 * weights * quantized, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(slopes[1], 0)
