"""Reconstruction, feature and perceptual losses against NumPy float64: values, gradients, which side they reach."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan import losses

# Elementwise functions of two arrays.
ELEMENTWISE = {
    losses.l1_loss: lambda x, y: abs(x - y),
    losses.l2_loss: lambda x, y: (x - y) ** 2,
    losses.charbonnier_loss: lambda x, y: math.sqrt((x - y) ** 2 + 0.001**2),
    losses.cycle_loss: lambda x, y: abs(x - y),
    losses.identity_loss: lambda x, y: abs(x - y),
}
SHAPES = [(), (5,), (4, 3), (2, 3, 2, 1)]


@functools.cache
def compiled(function):
    """One for all tests: what has the same shapes is compiled once."""
    return jax.jit(function)


def by_name(function):
    return getattr(function, "__name__", str(function))


def pair(shape, seed=0, dtype=np.float32):
    rng = np.random.default_rng(seed)
    return rng.normal(size=shape).astype(dtype), rng.normal(size=shape).astype(dtype)


def in_double(*arrays):
    return [np.asarray(x, np.float64) for x in arrays]


def entry_by_entry(function, x, y):
    return np.vectorize(ELEMENTWISE[function], otypes=[float])(*in_double(x, y))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("function", ELEMENTWISE, ids=by_name)
def test_elementwise_values(function, shape, strict):
    x, y = pair(shape)
    for calculate in (function, compiled(function)):
        value = calculate(x, y)
        assert value.shape == shape and value.dtype == jnp.float32
        np.testing.assert_allclose(value, entry_by_entry(function, x, y), rtol=1e-5)


@pytest.mark.parametrize("function", ELEMENTWISE, ids=by_name)
def test_elementwise_types_and_shapes(function):
    for dtype in (jnp.bfloat16, jnp.float16):
        x, y = pair((4, 3), dtype=dtype)
        value = compiled(function)(x, y)
        assert value.dtype == jnp.float32
        np.testing.assert_allclose(value, entry_by_entry(function, x, y), rtol=1e-5)
    with jax.enable_x64(True):
        x, y = pair((4, 3), dtype=np.float64)
        value = compiled(function)(x, y)
        assert value.dtype == jnp.float64
        np.testing.assert_allclose(value, entry_by_entry(function, x, y), rtol=1e-12)
        assert compiled(function)(*pair((4, 3))).dtype == jnp.float32
    with pytest.raises(ValueError) as error:
        function(jnp.zeros(4), jnp.zeros((4, 1)))
    assert "(4,)" in str(error.value) and "(4, 1)" in str(error.value)
    for arguments in ((jnp.zeros(3, int), jnp.zeros(3)), (jnp.zeros(3), jnp.zeros(3, int))):
        with pytest.raises(TypeError, match="int32"):
            function(*arguments)


@pytest.mark.parametrize("function", [losses.l1_loss, losses.l2_loss, losses.charbonnier_loss], ids=by_name)
def test_errors_name_the_right_argument(function):
    with pytest.raises(ValueError, match=r"^x \(4,\) and target \(4, 1\) "):
        function(jnp.zeros(4), jnp.zeros((4, 1)))
    with pytest.raises(TypeError, match=r"^target must be floating point, not int32"):
        function(jnp.zeros(3), jnp.zeros(3, int))


@pytest.mark.parametrize(
    "function, slope",
    [
        (losses.l1_loss, np.sign),
        (losses.cycle_loss, np.sign),
        (losses.identity_loss, np.sign),
        (losses.l2_loss, lambda d: 2 * d),
        (losses.charbonnier_loss, lambda d: d / np.sqrt(d**2 + 1e-6)),
    ],
    ids=by_name,
)
def test_elementwise_gradients_reach_both_arguments(function, slope):
    x, y = (np.append(a, np.float32(0)) for a in pair(5))  # the last two are equal: the gradient there is 0
    first, second = jax.jit(jax.grad(lambda x, y: function(x, y).sum(), (0, 1)))(x, y)
    expected = slope(x.astype(np.float64) - y)
    np.testing.assert_allclose(first, expected, rtol=1e-5)
    np.testing.assert_allclose(second, -expected, rtol=1e-5)


def test_charbonnier_s_eps():
    zero = jnp.zeros(2)
    np.testing.assert_allclose(losses.charbonnier_loss(zero, zero), 1e-3, rtol=1e-6)
    np.testing.assert_allclose(losses.charbonnier_loss(zero, zero, eps=0.5), 0.5, rtol=1e-6)
    np.testing.assert_allclose(losses.charbonnier_loss(zero + 3, zero, eps=4.0), 5.0, rtol=1e-6)
    # Curved like a parabola at 0, straight far from it.
    second = jax.grad(jax.grad(lambda x: losses.charbonnier_loss(x, jnp.float32(0.0), eps=0.5)))
    np.testing.assert_allclose(second(0.0), 2.0, rtol=1e-6)
    assert second(1e3) < 1e-6


@pytest.mark.parametrize("function", ELEMENTWISE, ids=by_name)
def test_elementwise_losses_of_extreme_numbers_are_finite(function):
    x, y = jnp.array([1e4, -1e4, 1e4, 0.0]), jnp.array([-1e4, 1e4, 1e4, 0.0])
    value, pullback = jax.vjp(compiled(function), x, y)
    assert np.isfinite(value).all() and all(np.isfinite(g).all() for g in pullback(jnp.ones(4)))


# Features

LAYERS = [(3, 4), (3, 2, 2, 5), (3,)]


def activations(shapes=LAYERS, seed=0, dtype=np.float32):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=shape).astype(dtype) for shape in shapes]


def feature_matching(real, fake):
    """Loops over layers and examples."""
    loss = np.zeros(len(real[0]))
    for a, b in zip(real, fake, strict=True):
        for i in range(len(a)):
            loss[i] += np.abs(np.asarray(a[i], np.float64) - np.asarray(b[i], np.float64)).mean() / len(real)
    return loss


def mean_feature_matching(real, fake):
    layers = zip(real, fake, strict=True)
    return sum(((np.mean(in_double(*a), axis=0) - np.mean(in_double(*b), axis=0)) ** 2).sum() for a, b in layers)


FEATURES = {
    losses.feature_matching_loss: feature_matching,
    losses.mean_feature_matching_loss: mean_feature_matching,
}


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("function", FEATURES, ids=by_name)
def test_feature_losses(function, count, strict):
    real, fake = activations()[:count], activations(seed=1)[:count]
    expected = FEATURES[function](real, fake)
    for calculate in (function, compiled(function)):
        value = calculate(real, fake)
        assert value.shape == np.shape(expected) and value.dtype == jnp.float32
        np.testing.assert_allclose(value, expected, rtol=1e-5)
    np.testing.assert_array_equal(function(real, real), 0)
    np.testing.assert_allclose(function(tuple(real), tuple(fake)), expected, rtol=1e-5)


@pytest.mark.parametrize("function", FEATURES, ids=by_name)
def test_feature_losses_types(function):
    for dtype in (jnp.bfloat16, jnp.float16):
        real, fake = activations(dtype=dtype), activations(seed=1, dtype=dtype)
        value = compiled(function)(real, fake)
        assert value.dtype == jnp.float32
        np.testing.assert_allclose(value, FEATURES[function](real, fake), rtol=1e-5)
    with jax.enable_x64(True):
        real, fake = activations(dtype=np.float64), activations(seed=1, dtype=np.float64)
        value = compiled(function)(real, fake)
        assert value.dtype == jnp.float64
        np.testing.assert_allclose(value, FEATURES[function](real, fake), rtol=1e-12)
        assert compiled(function)(activations(), activations(seed=1)).dtype == jnp.float32


def test_feature_matching_s_gradient_goes_to_the_generated_side_only():
    real, fake = activations(), activations(seed=1)
    slopes = jax.jit(jax.grad(lambda r, f: losses.feature_matching_loss(r, f).sum(), (0, 1)))(real, fake)
    for a, b, to_real, to_fake in zip(real, fake, *slopes, strict=True):
        np.testing.assert_array_equal(to_real, 0)
        np.testing.assert_allclose(to_fake, np.sign(b - a) / a[0].size / 3, rtol=1e-6)


def test_mean_feature_matching_s_gradient_goes_to_the_generated_side_only():
    real, fake = activations(), activations(seed=1)
    slopes = jax.jit(jax.grad(losses.mean_feature_matching_loss, (0, 1)))(real, fake)
    for a, b, to_real, to_fake in zip(real, fake, *slopes, strict=True):
        np.testing.assert_array_equal(to_real, 0)
        expected = np.broadcast_to(2 / 3 * (b.mean(0) - a.mean(0)), b.shape)
        np.testing.assert_allclose(to_fake, expected, rtol=1e-4, atol=1e-6)


def test_mean_feature_matching_compares_batches_of_different_sizes_and_any_order():
    real, fake = activations(), [a[:2] for a in activations(seed=1)]
    expected = mean_feature_matching(real, fake)
    np.testing.assert_allclose(losses.mean_feature_matching_loss(real, fake), expected, rtol=1e-5)
    np.testing.assert_allclose(
        losses.mean_feature_matching_loss([a[::-1] for a in real], [b[::-1] for b in fake]), expected, rtol=1e-5
    )
    with pytest.raises(ValueError, match=r"\(3, 4\).*\(2, 4\)"):
        losses.feature_matching_loss(real, fake)
    with pytest.raises(ValueError, match=r"\(3, 4\).*\(2, 5\)"):
        losses.mean_feature_matching_loss(real[:1], [np.zeros((2, 5), np.float32)])


@pytest.mark.parametrize("function", FEATURES, ids=by_name)
def test_feature_losses_refuse_what_does_not_fit(function):
    real = activations()
    with pytest.raises(ValueError, match=r"3 layers.* 2;"):
        function(real, real[:2])
    with pytest.raises(ValueError, match=r"2 layers.* 3;"):
        function(real[:2], real)
    with pytest.raises(ValueError, match="0 layers"):
        function([], [])
    with pytest.raises(ValueError, match=r"\(3, 4\).*\(3, 4, 1\)"):
        function(real[:1], [real[0][..., None]])
    for arguments, name in (((real[0].astype(int), real[0]), "real"), ((real[0], real[0].astype(int)), "fake")):
        with pytest.raises(TypeError, match=rf"{name}_features .*int"):
            function(*([a] for a in arguments))


# Total variation


def total_variation(x):
    loss = np.zeros(len(x))
    for b, h, w, c in np.ndindex(x.shape):
        if h + 1 < x.shape[1]:
            loss[b] += abs(x[b, h + 1, w, c] - x[b, h, w, c])
        if w + 1 < x.shape[2]:
            loss[b] += abs(x[b, h, w + 1, c] - x[b, h, w, c])
    return loss


@pytest.mark.parametrize("shape", [(2, 3, 4, 2), (3, 1, 5, 1), (1, 4, 1, 3)], ids=str)
def test_total_variation(shape, strict):
    x, _ = pair(shape)
    for calculate in (losses.total_variation, compiled(losses.total_variation)):
        value = calculate(x)
        assert value.shape == shape[:1] and value.dtype == jnp.float32
        np.testing.assert_allclose(value, total_variation(x.astype(np.float64)), rtol=1e-5)


def test_total_variation_s_types_and_errors():
    x, _ = pair((2, 3, 4, 2))
    half = x.astype(jnp.bfloat16)
    value = losses.total_variation(half)
    assert value.dtype == jnp.float32
    np.testing.assert_allclose(value, total_variation(half.astype(np.float64)), rtol=1e-5)
    with jax.enable_x64(True):
        value = compiled(losses.total_variation)(x.astype(np.float64))
        assert value.dtype == jnp.float64
        np.testing.assert_allclose(value, total_variation(x.astype(np.float64)), rtol=1e-12)
    for shape in ((3, 4, 2), (1, 2, 3, 4, 2)):
        with pytest.raises(ValueError) as error:
            losses.total_variation(jnp.zeros(shape))
        assert str(shape) in str(error.value)
    with pytest.raises(TypeError, match="int32"):
        losses.total_variation(jnp.zeros((1, 2, 2, 1), int))


def test_total_variation_of_flat_and_of_turned_pictures():
    x, _ = pair((2, 3, 3, 2))
    np.testing.assert_array_equal(losses.total_variation(np.ones_like(x)), 0)
    np.testing.assert_allclose(
        losses.total_variation(np.rot90(x, axes=(1, 2))), losses.total_variation(x), rtol=1e-5
    )


# Perceptual loss


def seen(x):
    """What a network of two layers sees: `[B, H, W, 2]` and, of the whole picture, `[B, 3]`."""
    first = jnp.stack([x[..., 0] * x[..., 1] + 0.3, jnp.sin(x[..., 0])], axis=-1)
    return [first, jnp.stack([x.sum((1, 2, 3)), jnp.square(x).sum((1, 2, 3)), x[:, 0, 0, 0]], axis=-1)]


def seen_in_numpy(x):
    first = np.stack([x[..., 0] * x[..., 1] + 0.3, np.sin(x[..., 0])], axis=-1)
    return [first, np.stack([x.sum((1, 2, 3)), (x**2).sum((1, 2, 3)), x[:, 0, 0, 0]], axis=-1)]


def perceptual(x, target, normalize=False):
    loss = np.zeros(len(x))
    for a, b in zip(seen_in_numpy(x), seen_in_numpy(target), strict=True):
        for i in range(len(x)):
            u, v = a[i].reshape(-1, a.shape[-1]), b[i].reshape(-1, b.shape[-1])
            if normalize:
                u, v = (w / np.sqrt((w**2).sum(-1, keepdims=True)) for w in (u, v))
                loss[i] += ((u - v) ** 2).sum(-1).mean()
            else:
                loss[i] += ((u - v) ** 2).mean()
    return loss


@functools.cache
def compiled_perceptual(normalize):
    return jax.jit(functools.partial(losses.perceptual_loss, seen, normalize=normalize))


@pytest.mark.parametrize("normalize", [False, True])
def test_perceptual_loss(normalize):
    x, y = pair((3, 2, 2, 2))
    expected = perceptual(*in_double(x, y), normalize)
    for value in (losses.perceptual_loss(seen, x, y, normalize=normalize), compiled_perceptual(normalize)(x, y)):
        assert value.shape == (3,) and value.dtype == jnp.float32
        np.testing.assert_allclose(value, expected, rtol=2e-5)
    if not normalize:
        np.testing.assert_allclose(losses.perceptual_loss(seen, x, y), expected, rtol=2e-5)
    # The compiler may contract the two sides differently: equal pictures differ by a rounding error, squared.
    np.testing.assert_allclose(compiled_perceptual(normalize)(x, x), 0, atol=1e-12)


@pytest.mark.parametrize("normalize", [False, True])
def test_perceptual_loss_in_half_and_double_precision(normalize):
    function = compiled_perceptual(normalize)
    half = pair((3, 2, 2, 2), dtype=jnp.bfloat16)
    value = function(*half)
    assert value.dtype == jnp.float32
    # The network itself sees float32.
    np.testing.assert_allclose(value, perceptual(*in_double(*half), normalize), rtol=1e-4)
    with jax.enable_x64(True):
        double = pair((3, 2, 2, 2), dtype=np.float64)
        value = function(*double)
        assert value.dtype == jnp.float64
        np.testing.assert_allclose(value, perceptual(*double, normalize), rtol=1e-12)
        assert function(*pair((3, 2, 2, 2))).dtype == jnp.float32


def test_networks_in_half_precision_have_their_features_compared_in_float32():
    x, y = pair((3, 4))
    half = losses.perceptual_loss(lambda x: [x.astype(jnp.bfloat16)], x, y)
    assert half.dtype == jnp.float32
    exact = (x.astype(jnp.bfloat16).astype(np.float64) - y.astype(jnp.bfloat16).astype(np.float64)) ** 2
    np.testing.assert_allclose(half, exact.mean(-1), rtol=1e-5)


@pytest.mark.parametrize("normalize", [False, True])
def test_perceptual_derivatives_reach_both_pictures(normalize):
    (x, y), (dx, dy) = (pair((2, 2, 2, 2), seed=seed, dtype=np.float64) for seed in (0, 1))

    def derivatives(x, y, dx, dy):
        slope = jax.grad(lambda x, y: losses.perceptual_loss(seen, x, y, normalize=normalize).sum(), (0, 1))
        first, second = jax.jvp(slope, (x, y), (dx, dy))
        return [(part[0] * dx).sum() + (part[1] * dy).sum() for part in (first, second)]

    with jax.enable_x64(True):
        calculate = jax.jit(derivatives)
        for u, v in ((dx, 0 * dy), (0 * dx, dy), (dx, dy)):
            first, second = calculate(x, y, u, v)
            h = 1e-4
            low, middle, high = (perceptual(x + s * u, y + s * v, normalize).sum() for s in (-h, 0, h))
            np.testing.assert_allclose(first, (high - low) / (2 * h), rtol=1e-4)
            np.testing.assert_allclose(second, (high - 2 * middle + low) / h**2, rtol=1e-3)


def test_normalized_features_differ_by_at_most_their_directions():
    a, b = jnp.array([[3.0, 4.0]]), jnp.array([[-4.0, 3.0]])

    def distance(x, y):
        return losses.perceptual_loss(lambda x: [x], x, y, normalize=True)

    np.testing.assert_allclose(distance(a, b), 2.0, rtol=1e-6)  # at a right angle
    np.testing.assert_allclose(distance(a, -7 * a), 4.0, rtol=1e-6)
    np.testing.assert_allclose(distance(a, 1e-4 * a), 0.0, atol=1e-6)


def test_normalized_features_shorter_than_1e_10_are_divided_by_1e_10():
    direction, zero = jnp.array([[0.6, 0.8]]), jnp.zeros((1, 2))
    for length, scaled in ((1e-11, 0.1), (5e-11, 0.5), (2e-10, 1.0), (1e-9, 1.0)):
        value = losses.perceptual_loss(lambda x: [x], length * direction, zero, normalize=True)
        np.testing.assert_allclose(value, scaled**2, rtol=1e-4)


def test_normalized_features_of_zeros_have_a_finite_gradient():
    slopes = jax.grad(lambda x, y: losses.perceptual_loss(lambda x: [x], x, y, normalize=True).sum(), (0, 1))
    x = jnp.array([[0.0, 0.0], [1.0, 2.0]])
    for arguments in ((x, jnp.ones((2, 2))), (x, x)):
        assert all(np.isfinite(g).all() for g in slopes(*arguments))


def test_perceptual_loss_refuses_what_does_not_fit():
    x = jnp.zeros((3, 2))
    with pytest.raises(ValueError, match=r"\(3, 2\).*\(3, 1\)"):
        losses.perceptual_loss(lambda x: [x], x, x[:, :1])
    with pytest.raises(ValueError, match="0 layers"):
        losses.perceptual_loss(lambda x: [], x, x)
    with pytest.raises(TypeError, match="int32"):
        losses.perceptual_loss(lambda x: [x], x.astype(int), x)
