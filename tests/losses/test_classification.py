"""Classes, codes, rotations and contrastive terms against loops in NumPy float64, invariances and extremes."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan import losses

# The functions of (logits [..., K], labels [...]) that are cross-entropies.
CROSS_ENTROPIES = [losses.ac_gan_loss, losses.info_gan_categorical_loss, losses.rotation_loss]
CLASS_LOSSES = [*CROSS_ENTROPIES, losses.multi_hinge_loss, losses.multi_hinge_generator_loss]
CONTRASTIVE = [losses.conditional_contrastive_loss, losses.data_to_data_cross_entropy_loss]
SHAPES = [(6, 4), (2, 3, 5), (4, 2), (3,)]


def by_name(function):
    return getattr(function, "__name__", str(function))


@functools.cache
def compiled(function):
    """One for all tests: what has the same shapes is compiled once."""
    return jax.jit(function)


def slope_and_curvature(loss, arguments, directions):
    """First and second derivative of a scalar along a direction: reverse mode, and forward over reverse."""
    numbers = range(len(arguments))

    def along(*x):
        first, second = jax.jvp(jax.grad(loss, tuple(numbers)), x, tuple(directions))
        return [sum((part[i] * directions[i]).sum() for i in numbers) for part in (first, second)]

    with jax.enable_x64(True):
        return [float(x) for x in jax.jit(along)(*arguments)]


def differences(loss, arguments, directions, h=1e-3):
    """The same of a function in NumPy, by central differences."""
    low, middle, high = (loss(*(x + s * d for x, d in zip(arguments, directions, strict=True))) for s in (-h, 0, h))
    return [(high - low) / (2 * h), (high - 2 * middle + low) / h**2]


def class_logits(shape, seed=0, classes=None):
    rng = np.random.default_rng(seed)
    return rng.normal(0, 2, shape).astype(np.float32), rng.integers(0, classes or shape[-1], shape[:-1])


def cross_entropy(logits, labels):
    loss = np.empty(labels.shape)
    for i in np.ndindex(labels.shape):
        e = [math.exp(x) for x in logits[i]]
        loss[i] = -math.log(e[labels[i]] / sum(e))
    return loss


def multi_hinge(logits, labels):
    loss = np.empty(labels.shape)
    for i in np.ndindex(labels.shape):
        wrong = [c for k, c in enumerate(logits[i]) if k != labels[i]]
        loss[i] = max(0.0, 1.0 - logits[i][labels[i]] + max(wrong))
    return loss


def reference_of(function):
    return cross_entropy if function in CROSS_ENTROPIES else multi_hinge


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("function", CLASS_LOSSES, ids=by_name)
def test_class_losses(function, shape, strict):
    logits, labels = class_logits(shape)
    expected = reference_of(function)(logits.astype(np.float64), labels)
    for kind in (np.int32, np.int8, np.uint8) if shape == SHAPES[0] else (np.int32,):
        value = function(logits, labels.astype(kind))
        assert value.shape == shape[:-1] and value.dtype == jnp.float32
        np.testing.assert_allclose(value, expected, rtol=2e-5, atol=2e-6)
    np.testing.assert_allclose(compiled(function)(logits, labels), expected, rtol=2e-5, atol=2e-6)
    assert (expected > 0).any()


@pytest.mark.parametrize("function", CLASS_LOSSES, ids=by_name)
def test_class_losses_under_vmap_are_a_loop(function):
    logits, labels = class_logits((3, 4, 5))
    expected = np.stack([compiled(function)(x, y) for x, y in zip(logits, labels, strict=True)])
    np.testing.assert_allclose(jax.vmap(compiled(function))(logits, labels), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("function", CLASS_LOSSES, ids=by_name)
def test_class_losses_ignore_a_constant_added_to_all_classes(function):
    logits, labels = class_logits((6, 4))
    function = compiled(function)
    np.testing.assert_allclose(function(logits + 5, labels), function(logits, labels), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("function", CLASS_LOSSES, ids=by_name)
def test_class_losses_in_half_and_double_precision(function):
    logits, labels = class_logits((6, 4))
    reference, function = reference_of(function), compiled(function)
    for dtype in (jnp.bfloat16, jnp.float16):
        half = logits.astype(dtype)
        value = function(half, labels)
        assert value.dtype == jnp.float32
        np.testing.assert_allclose(value, function(half.astype(np.float32), labels), rtol=1e-6)
        np.testing.assert_allclose(value, function(logits, labels), rtol=0.05, atol=0.05)
    with jax.enable_x64(True):
        double = logits.astype(np.float64) / 3
        value = function(double, labels)
        assert value.dtype == jnp.float64
        np.testing.assert_allclose(value, reference(double, labels), rtol=1e-12)
        assert function(logits, labels).dtype == jnp.float32


@pytest.mark.parametrize("function", CROSS_ENTROPIES, ids=by_name)
def test_cross_entropies_of_extreme_logits(function):
    logits = jnp.array([[1e4, -1e4], [1e4, -1e4], [1e4, 1e4], [-1e4, -1e4]])
    labels = jnp.array([0, 1, 0, 1])
    value, pullback = jax.vjp(lambda x: compiled(function)(x, labels), logits)
    np.testing.assert_allclose(value, [0, 2e4, math.log(2), math.log(2)], rtol=1e-3)
    (gradient,) = pullback(jnp.ones(4))
    np.testing.assert_allclose(gradient, [[0, 0], [1, -1], [-0.5, 0.5], [0.5, -0.5]], atol=1e-3)


@pytest.mark.parametrize("function", CLASS_LOSSES, ids=by_name)
def test_class_losses_derivatives(function):
    logits, labels = class_logits((3, 4), seed=1)  # no margin of the hinge within reach of the step
    arguments, directions = [logits.astype(np.float64)], [np.random.default_rng(2).normal(size=(3, 4))]
    weights = np.array([1.0, 1.5, 1.2])
    ours = slope_and_curvature(lambda x: (weights * function(x, labels)).sum(), arguments, directions)
    expected = differences(lambda x: (weights * reference_of(function)(x, labels)).sum(), arguments, directions)
    np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-6)


def test_equal_logits_cost_the_logarithm_of_the_number_of_classes():
    for function in CROSS_ENTROPIES:
        np.testing.assert_allclose(function(jnp.zeros((6, 4)), jnp.arange(6) % 4), math.log(4), rtol=1e-6)


def test_multi_hinge_is_flat_where_the_right_class_leads_by_one():
    gradient = jax.jit(jax.grad(losses.multi_hinge_loss))
    assert losses.multi_hinge_loss(jnp.array([0.0, 3.0, 2.0]), 1) == 0
    np.testing.assert_array_equal(gradient(jnp.array([0.0, 3.01, 2.0]), 1), [0, 0, 0])
    # Within the margin, and on the wrong side: the right class up, the best wrong one down, the others left alone.
    np.testing.assert_array_equal(gradient(jnp.array([0.0, 2.99, 2.0]), 1), [0, -1, 1])
    np.testing.assert_array_equal(gradient(jnp.array([5.0, -9.0, 2.0]), 1), [1, -1, 0])


def test_multi_hinge_of_extreme_logits_is_finite():
    logits = jnp.array([[1e4, -1e4, 0.0], [1e4, -1e4, 0.0], [-1e4, -1e4, -1e4]])
    labels = jnp.array([0, 1, 2])
    np.testing.assert_allclose(compiled(losses.multi_hinge_loss)(logits, labels), [0, 20001, 1])
    gradient = jax.jit(jax.grad(lambda x: losses.multi_hinge_loss(x, labels).sum()))(logits)
    np.testing.assert_array_equal(gradient[:2], [[0, 0, 0], [1, -1, 0]])
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("shape", [(6, 4), (2, 3, 5), (4,)], ids=str)
def test_multi_hinge_pair(shape):
    real, labels = class_logits(shape, classes=shape[-1] - 1)
    fake, _ = class_logits(shape, seed=1)
    r, f, generated = real.astype(np.float64), fake.astype(np.float64), np.full(shape[:-1], shape[-1] - 1)
    for function in (losses.multi_hinge_discriminator_loss, jax.jit(losses.multi_hinge_discriminator_loss)):
        value = function(real, fake, labels)
        assert value.shape == shape[:-1] and value.dtype == jnp.float32
        np.testing.assert_allclose(value, multi_hinge(r, labels) + multi_hinge(f, generated), rtol=2e-5, atol=2e-6)
    np.testing.assert_allclose(
        losses.multi_hinge_generator_loss(fake, labels), multi_hinge(f, labels), rtol=2e-5, atol=2e-6
    )


def test_multi_hinge_discriminator_s_errors_and_types():
    real, labels = class_logits((3, 4))
    with pytest.raises(ValueError, match=r"\(3, 4\).*\(4, 3\)"):
        losses.multi_hinge_discriminator_loss(real, real.T, labels)
    with pytest.raises(ValueError, match=r"\(3, 4\).*\(2,\)"):
        losses.multi_hinge_discriminator_loss(real, real, labels[:2])
    with pytest.raises(TypeError, match="float32"):
        losses.multi_hinge_discriminator_loss(real, real, labels.astype(np.float32))
    half = jnp.asarray(real, jnp.bfloat16)
    assert losses.multi_hinge_discriminator_loss(half, half, labels).dtype == jnp.float32
    with jax.enable_x64(True):
        double = jax.jit(losses.multi_hinge_discriminator_loss)(real.astype(float), real.astype(float), labels)
        assert double.dtype == jnp.float64


@pytest.mark.parametrize("function", CLASS_LOSSES, ids=by_name)
@pytest.mark.parametrize(
    "logits_shape, labels_shape", [((5, 3), (4,)), ((5, 3), (5, 1)), ((5, 3), (5, 3)), ((3,), (1,)), ((), ())], ids=str
)
def test_labels_that_do_not_fit_raise_with_both_shapes(function, logits_shape, labels_shape):
    with pytest.raises(ValueError) as error:
        function(jnp.zeros(logits_shape), jnp.zeros(labels_shape, int))
    assert str(logits_shape) in str(error.value) and str(labels_shape) in str(error.value)


@pytest.mark.parametrize("function", CLASS_LOSSES, ids=by_name)
def test_labels_must_be_whole_numbers_and_logits_must_not(function):
    logits, labels = class_logits((4, 2))
    for kind, name in ((np.float32, "float32"), (bool, "bool")):
        with pytest.raises(TypeError, match=name):
            function(logits, labels.astype(kind))
    with pytest.raises(TypeError, match="int32"):
        function(logits.astype(np.int32), labels)


# Continuous codes


def info_gan_gaussian(mean, log_std, codes):
    loss = np.zeros(mean.shape[0])
    for i, d in np.ndindex(mean.shape):
        std = math.exp(log_std[i, d])
        density = math.exp(-(((codes[i, d] - mean[i, d]) / std) ** 2) / 2) / (std * math.sqrt(2 * math.pi))
        loss[i] -= math.log(density)
    return loss


def gaussian_codes(shape=(5, 3), seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=shape), rng.normal(0, 0.5, shape), rng.normal(size=shape)


def test_info_gan_gaussian(strict):
    double = gaussian_codes()
    single = [x.astype(np.float32) for x in double]
    for function in (losses.info_gan_gaussian_loss, jax.jit(losses.info_gan_gaussian_loss)):
        value = function(*single)
        assert value.shape == (5,) and value.dtype == jnp.float32
        np.testing.assert_allclose(value, info_gan_gaussian(*double), rtol=2e-5)


def test_info_gan_gaussian_s_types():
    double = gaussian_codes()
    half = [x.astype(jnp.bfloat16) for x in double]
    value = compiled(losses.info_gan_gaussian_loss)(*half)
    assert value.dtype == jnp.float32
    np.testing.assert_allclose(value, info_gan_gaussian(*(np.asarray(x, np.float64) for x in half)), rtol=2e-5)
    with jax.enable_x64(True):
        value = compiled(losses.info_gan_gaussian_loss)(*double)
        assert value.dtype == jnp.float64
        np.testing.assert_allclose(value, info_gan_gaussian(*double), rtol=1e-12)


def test_info_gan_gaussian_is_minus_the_logarithm_of_a_density():
    x = np.linspace(-12, 12, 4001, dtype=np.float32)[:, None]
    loss = compiled(losses.info_gan_gaussian_loss)(np.full_like(x, 0.7), np.full_like(x, math.log(1.3)), x)
    np.testing.assert_allclose(np.exp(-np.asarray(loss, np.float64)).sum() * (x[1, 0] - x[0, 0]), 1.0, rtol=1e-4)


def test_info_gan_gaussian_derivatives():
    arguments, directions = gaussian_codes(), gaussian_codes(seed=1)
    ours = slope_and_curvature(lambda *x: losses.info_gan_gaussian_loss(*x).sum(), arguments, directions)
    expected = differences(lambda *x: info_gan_gaussian(*x).sum(), arguments, directions)
    np.testing.assert_allclose(ours, expected, rtol=1e-4)


def test_the_best_standard_deviation_is_the_distance_of_the_code():
    mean, _, codes = (x.astype(np.float32) for x in gaussian_codes())
    slope = jax.jit(jax.grad(lambda s: losses.info_gan_gaussian_loss(mean, s, codes).sum()))
    np.testing.assert_allclose(slope(np.log(np.abs(codes - mean))), 0, atol=1e-5)


@pytest.mark.parametrize("which", [1, 2])
def test_info_gan_gaussian_with_different_shapes_raises_with_both(which):
    arguments = [jnp.zeros((4, 2))] * 3
    arguments[which] = jnp.zeros((4, 1))
    with pytest.raises(ValueError, match=r"\(4, 2\).*\(4, 1\)"):
        losses.info_gan_gaussian_loss(*arguments)


# Rotations


@pytest.mark.parametrize("kind", [np.float32, np.float16, np.uint8])
def test_rotations_are_those_of_each_picture(kind):
    x = np.random.default_rng(0).integers(0, 255, (3, 4, 4, 2)).astype(kind)
    for function in (losses.rotate_four_ways, jax.jit(losses.rotate_four_ways)):
        turned, labels = function(x)
        assert turned.dtype == kind and turned.shape == (12, 4, 4, 2) and labels.dtype == jnp.int32
        np.testing.assert_array_equal(labels, [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3])
        for i in range(12):
            np.testing.assert_array_equal(turned[i], np.rot90(x[i % 3], labels[i]))


def test_a_quarter_turn_is_counter_clockwise():
    corner = np.zeros((1, 3, 3, 1), np.float32)
    corner[0, 0, 2] = 1  # top right goes to top left, bottom left, bottom right
    turned, _ = compiled(losses.rotate_four_ways)(corner)
    assert [tuple(np.argwhere(t)[0][:2].tolist()) for t in turned] == [(0, 2), (0, 0), (2, 0), (2, 2)]


def test_rotations_keep_their_types_with_float64_enabled():
    with jax.enable_x64(True):
        turned, labels = losses.rotate_four_ways(np.zeros((1, 2, 2, 1)))
        assert turned.dtype == jnp.float64
        assert labels.dtype == jnp.int32
        assert losses.rotation_loss(jnp.zeros((4, 4), jnp.float32), labels).dtype == jnp.float32


@pytest.mark.parametrize("shape", [(2, 3, 4, 1), (2, 3, 3), (1, 2, 3, 3, 1)], ids=str)
def test_rotations_of_anything_but_squares_raise_with_the_shape(shape):
    with pytest.raises(ValueError) as error:
        losses.rotate_four_ways(np.zeros(shape))
    assert str(shape) in str(error.value)


# Contrastive losses


def cosine(a, b):
    return float(a @ b) / (math.sqrt(float(a @ a)) * math.sqrt(float(b @ b)))


def conditional_contrastive(embeddings, proxies, labels, temperature=1.0):
    loss = []
    for i in range(len(labels)):
        own = math.exp(cosine(embeddings[i], proxies[i]) / temperature)
        kin = everyone = own
        for k in range(len(labels)):
            if k != i:
                e = math.exp(cosine(embeddings[i], embeddings[k]) / temperature)
                everyone += e
                kin += e if labels[k] == labels[i] else 0.0
        loss.append(-math.log(kin / everyone))
    return np.array(loss)


def data_to_data(embeddings, proxies, labels, temperature=0.5, margin=0.98):
    loss = []
    for i in range(len(labels)):
        own = math.exp(min(0.0, cosine(embeddings[i], proxies[i]) - margin) / temperature)
        others = 0.0
        for k in range(len(labels)):
            if labels[k] != labels[i]:
                others += math.exp(max(0.0, cosine(embeddings[i], embeddings[k]) - (1 - margin)) / temperature)
        loss.append(-math.log(own / (own + others)))
    return np.array(loss)


CONTRASTIVE_REFERENCE = dict(zip(CONTRASTIVE, [conditional_contrastive, data_to_data], strict=True))
LABELS = np.array([0, 1, 0, 2, 1, 0, 3])


def embedded(seed=0, labels=LABELS, size=3):
    """Embeddings and the proxies of their classes; two examples lie within a margin of 0.02 of theirs."""
    rng = np.random.default_rng(seed)
    embeddings = rng.normal(size=(len(labels), size))
    proxies = rng.normal(size=(5, size))[labels]
    embeddings[1] = 3 * proxies[1] + 0.01
    embeddings[2] = proxies[2] / 2
    return embeddings.astype(np.float32), proxies.astype(np.float32), labels


@pytest.mark.parametrize("function", CONTRASTIVE, ids=by_name)
def test_contrastive_losses(function, strict):
    embeddings, proxies, labels = embedded()
    e, p = embeddings.astype(np.float64), proxies.astype(np.float64)
    for kwargs in ({}, {"temperature": 0.3}, {"temperature": 2.0}):
        expected = CONTRASTIVE_REFERENCE[function](e, p, labels, **kwargs)
        for calculate in (function, compiled(function)):
            value = calculate(embeddings, proxies, labels, **kwargs)
            assert value.shape == (7,) and value.dtype == jnp.float32
            np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-6)


def test_data_to_data_with_other_margins():
    embeddings, proxies, labels = embedded()
    e, p = embeddings.astype(np.float64), proxies.astype(np.float64)
    loss = compiled(losses.data_to_data_cross_entropy_loss)
    for margin in (1.0, 0.5, 0.0):
        value = loss(embeddings, proxies, labels, temperature=1.0, margin=margin)
        np.testing.assert_allclose(value, data_to_data(e, p, labels, 1.0, margin), rtol=1e-4, atol=1e-6)


def test_the_margins_matter_at_the_default():
    """Or the values above would say nothing about them: some similarities lie on either side of each."""
    e, p, labels = embedded()
    to_proxy = [cosine(e[i], p[i]) for i in range(7)]
    between = [cosine(e[i], e[k]) for i in range(7) for k in range(7) if labels[i] != labels[k]]
    assert min(to_proxy) < 0.5 and max(to_proxy) > 0.98
    assert min(between) < -0.5 and max(between) > 0.5


@pytest.mark.parametrize("function", CONTRASTIVE, ids=by_name)
def test_contrastive_losses_in_half_and_double_precision(function):
    embeddings, proxies, labels = embedded()
    reference, function = CONTRASTIVE_REFERENCE[function], compiled(function)
    for dtype in (jnp.bfloat16, jnp.float16):
        e, p = embeddings.astype(dtype), proxies.astype(dtype)
        value = function(e, p, labels)
        assert value.dtype == jnp.float32
        exact = function(e.astype(np.float32), p.astype(np.float32), labels)
        np.testing.assert_allclose(value, exact, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(value, function(embeddings, proxies, labels), rtol=0.05, atol=0.05)
    with jax.enable_x64(True):
        e, p = embeddings.astype(np.float64), proxies.astype(np.float64)
        value = function(e, p, labels)
        assert value.dtype == jnp.float64
        np.testing.assert_allclose(value, reference(e, p, labels), rtol=1e-12)
        assert function(embeddings, proxies, labels).dtype == jnp.float32


@pytest.mark.parametrize("function", CONTRASTIVE, ids=by_name)
def test_contrastive_losses_see_directions_and_not_lengths(function):
    embeddings, proxies, labels = embedded()
    lengths = np.array([1e-3, 0.1, 1, 10, 100, 1e3, 2], np.float32)[:, None]
    function = compiled(function)
    value = function(embeddings * lengths, proxies * lengths[::-1], labels)
    np.testing.assert_allclose(value, function(embeddings, proxies, labels), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("function", CONTRASTIVE, ids=by_name)
def test_contrastive_losses_do_not_depend_on_the_order_or_the_names_of_classes(function):
    embeddings, proxies, labels = embedded()
    function = compiled(function)
    value = np.asarray(function(embeddings, proxies, labels))
    order = np.random.default_rng(1).permutation(7)
    np.testing.assert_allclose(
        function(embeddings[order], proxies[order], labels[order]), value[order], rtol=1e-5, atol=1e-6
    )
    np.testing.assert_array_equal(function(embeddings, proxies, 10 - 3 * labels), value)
    np.testing.assert_allclose(function(embeddings, proxies, labels.astype(np.uint8)), value, rtol=1e-6)


@pytest.mark.parametrize("function", CONTRASTIVE, ids=by_name)
def test_contrastive_losses_of_one_class_or_one_example_are_zero(function):
    embeddings, proxies, labels = embedded()
    function = compiled(function)
    np.testing.assert_allclose(function(embeddings, proxies, np.zeros_like(labels)), 0, atol=1e-6)
    np.testing.assert_array_equal(function(embeddings[:1], proxies[:1], labels[:1]), [0.0])


def test_contrastive_losses_of_two_examples_in_closed_form():
    e, p = jnp.eye(2), jnp.eye(2)
    # Similarities 1 to the own proxy and 0 to the other example, of another class.
    np.testing.assert_allclose(
        compiled(losses.conditional_contrastive_loss)(e, p, jnp.array([0, 1])), math.log(1 + math.exp(-1)), rtol=1e-6
    )
    # Beyond both margins: every exponent is 0.
    np.testing.assert_allclose(
        compiled(losses.data_to_data_cross_entropy_loss)(e, p, jnp.array([0, 1])), math.log(2), rtol=1e-6
    )


@pytest.mark.parametrize("function", CONTRASTIVE, ids=by_name)
def test_contrastive_losses_of_zero_rows_and_small_temperatures_are_finite(function):
    embeddings, proxies, labels = embedded()
    with_zeros = embeddings.copy(), proxies.copy()
    with_zeros[0][[0, 3]] = 0
    with_zeros[1][[3, 4]] = 0
    everything = jax.jit(jax.value_and_grad(lambda e, p, t: function(e, p, labels, temperature=t).sum(), (0, 1)))
    for e, p, temperature in ((*with_zeros, 1.0), (embeddings, proxies, 1e-3)):
        value, gradients = everything(e, p, temperature)
        assert np.isfinite(value) and value > 0
        assert all(np.isfinite(g).all() and (np.abs(g) > 0).any() for g in gradients)


@pytest.mark.parametrize("function", CONTRASTIVE, ids=by_name)
def test_rows_shorter_than_1e_8_are_divided_by_1e_8(function):
    proxies = np.eye(2, dtype=np.float32)
    for length, similarity in ((1e-9, 0.1), (5e-9, 0.5), (2e-8, 1.0), (1e-7, 1.0)):
        value = compiled(function)(np.float32(length) * proxies, proxies, np.array([0, 1]), temperature=1.0)
        # The other example is at a right angle, whatever the length.
        exponent = similarity if function is CONTRASTIVE[0] else min(0, similarity - 0.98)
        np.testing.assert_allclose(value, math.log(1 + math.exp(-exponent)), rtol=1e-5)


@pytest.mark.parametrize("function", CONTRASTIVE, ids=by_name)
def test_contrastive_losses_derivatives(function):
    # D2D-CE has kinks at its margins; no similarity is within reach of the step for this seed.
    rng = np.random.default_rng(5)
    labels, weights = np.array([0, 1, 0, 2]), np.array([1.0, 1.5, 1.2, 1.9])
    arguments, directions = (rng.normal(size=(2, 4, 3)) for _ in range(2))
    ours = slope_and_curvature(lambda e, p: (weights * function(e, p, labels)).sum(), arguments, directions)
    reference = CONTRASTIVE_REFERENCE[function]
    expected = differences(lambda e, p: (weights * reference(e, p, labels)).sum(), arguments, directions)
    # A second difference is off by h^2 times a fourth derivative.
    np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=2e-4)


@pytest.mark.parametrize("function", CONTRASTIVE, ids=by_name)
def test_contrastive_losses_under_vmap_are_a_loop(function):
    first, second = embedded(seed=0), embedded(seed=1, labels=LABELS[::-1])
    e, p, y = (np.stack(pair) for pair in zip(first, second, strict=True))
    function = compiled(function)
    expected = [function(*first), function(*second)]
    np.testing.assert_allclose(jax.vmap(function)(e, p, y), np.stack(expected), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("function", CONTRASTIVE, ids=by_name)
def test_contrastive_losses_refuse_what_does_not_fit(function):
    x, y = jnp.zeros((4, 3)), jnp.zeros(4, int)
    with pytest.raises(ValueError, match=r"\(4, 3\).*\(4, 2\)"):
        function(x, x[:, :2], y)
    with pytest.raises(ValueError, match=r"\(4, 3\).*\(3,\)"):
        function(x, x, y[:3])
    with pytest.raises(ValueError, match=r"\(4, 3\).*\(4, 1\)"):
        function(x, x, y[:, None])
    for shape in ((4,), (4, 3, 2)):
        with pytest.raises(ValueError, match=r"\[B, D\]"):
            function(jnp.zeros(shape), jnp.zeros(shape), y)
    with pytest.raises(TypeError, match="float32"):
        function(x, x, y.astype(jnp.float32))
    with pytest.raises(TypeError, match="int32"):
        function(x.astype(int), x, y)
