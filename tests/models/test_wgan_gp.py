from functools import partial
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan.errors import ConfigError
from jaxgan.losses import wgan_gp_penalty
from jaxgan.models import sngan, wgan_gp, wgan_gp_cnn
from tests.models import plain

close = partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5)
LABEL = np.array([2, 0, 1, 2])
FAMILIES = [wgan_gp, wgan_gp_cnn]


def normal(*shape):
    return np.random.default_rng(1).normal(size=shape).astype(np.float32)


def initialised(module, *args):
    key = jax.random.key(0, impl="rbg")  # compiles in a fraction of the default's time
    return jax.jit(partial(module.init, train=True))(key, *args)


def shapes(module, *args):
    return jax.eval_shape(lambda: module.init(jax.random.key(0), *args, train=True))


def count(module, *args):
    return sum(p.size for p in jax.tree.leaves(shapes(module, *args)["params"]))


def generated(generator, params, *args):
    """Pictures of a training batch."""
    return jax.jit(partial(generator.apply, train=True, mutable=["batch_stats"]))({"params": params}, *args)[0]


def judged(discriminator, params, *args):
    return jax.jit(partial(discriminator.apply, train=True))({"params": params}, *args)


def test_parameters_of_the_residual_networks():
    """By hand: per block two 3x3 and (where it halves or doubles) one 1x1 convolution, each with biases."""
    conv3, conv1 = 9 * 128 * 128 + 128, 128 * 128 + 128
    dense, out = 129 * 16 * 128, 9 * 128 * 3 + 3
    assert count(wgan_gp.Generator(), normal(2, 128)) == dense + 3 * (2 * conv3 + conv1 + 4 * 128) + 2 * 128 + out
    first = 9 * 3 * 128 + 128 + conv3 + 3 * 128 + 128
    x = normal(2, 32, 32, 3)
    assert count(wgan_gp.Discriminator(), x) == first + 2 * conv3 + conv1 + 4 * conv3 + 128 + 1


def test_the_later_libraries_generator_is_sngans():
    ours = shapes(wgan_gp.Generator(widths=(256,) * 4, classes=10), normal(4, 128), LABEL)
    assert ours == shapes(sngan.Generator(classes=10), normal(4, 128), LABEL)


def test_parameters_of_the_convolutional_networks():
    dense = 128 * 16 * 512
    norms = 2 * (512 + 256 + 128)
    kernels = 25 * (512 * 256 + 256 * 128 + 128 * 3) + 3
    assert count(wgan_gp_cnn.Generator(), normal(2, 128)) == dense + norms + kernels
    widths = (3, 128, 256, 512)
    expected = sum(25 * a * b + b for a, b in pairwise(widths)) + 16 * 512 + 1
    assert count(wgan_gp_cnn.Discriminator(), normal(2, 32, 32, 3)) == expected


def test_initial_weights_of_the_residual_networks_layer_by_layer():
    generator = wgan_gp.Generator((8, 8, 3), (24, 16), classes=3)
    plain.assert_glorot(initialised(generator, normal(4, 32), LABEL)["params"])
    discriminator = wgan_gp.Discriminator((16, 24), 1, classes=3, heads=("class",))
    plain.assert_glorot(initialised(discriminator, normal(4, 8, 8, 3), LABEL)["params"])


def test_initial_weights_of_the_convolutional_networks():
    """4 / (fan_in + fan_out), the reduced side's fan being k^2 / 4 a channel."""
    generator = wgan_gp_cnn.Generator((8, 8, 3), (48, 32))
    params = initialised(generator, normal(2, 64))["params"]
    np.testing.assert_allclose(jnp.std(params["Dense_0"]["kernel"]), (2 / (64 + 4 * 48)) ** 0.5, rtol=0.03)
    for layer, features, channels in (("ConvTranspose_0", 32, 48), ("ConvTranspose_1", 3, 32)):
        kernel, std = params[layer]["kernel"], (4 / (25 * (features + channels / 4))) ** 0.5
        assert kernel.shape == (5, 5, features, channels)
        np.testing.assert_allclose(jnp.std(kernel), std, rtol=0.03)
        assert jnp.max(jnp.abs(kernel)) <= 3**0.5 * std
    for name in ("ConditionalBatchNorm_0", "ConditionalBatchNorm_1"):
        np.testing.assert_array_equal(params[name]["norm"]["scale"], 1.0)
    kernel = wgan_gp_cnn.strided_init()(jax.random.key(0), (5, 5, 48, 40))
    np.testing.assert_allclose(jnp.std(kernel), (4 / (25 * 48 + 25 * 40 / 4)) ** 0.5, rtol=0.03)


def residual_generator(p, z, label):
    x = plain.dense(p["Dense_0"], z).reshape(4, 2, 3, 6)
    for i in range(2):
        x = plain.generator_block(p[f"GeneratorBlock_{i}"], x, label)
    return np.tanh(plain.conv(p["Conv_0"], plain.relu(plain.norm(p["ConditionalBatchNorm_0"], x))))


def convolutional_generator(p, z, label):
    x = plain.dense(p["Dense_0"], z).reshape(4, 2, 3, 6)
    for i in range(2):
        x = plain.relu(plain.norm(p[f"ConditionalBatchNorm_{i}"], x, label))
        x = plain.conv_transpose(p[f"ConvTranspose_{i}"], x)
    return np.tanh(x)


@pytest.mark.parametrize("label", [None, LABEL], ids=["unconditional", "conditional"])
@pytest.mark.parametrize(
    ("generator", "formula"),
    [
        (wgan_gp.Generator((8, 12, 3), (6, 5, 4), classes=3), residual_generator),
        (wgan_gp_cnn.Generator((8, 12, 3), (6, 5), classes=3), convolutional_generator),
    ],
)
def test_generators_against_their_formulas(generator, formula, label):
    z = normal(4, 9)
    params = plain.random_params(generator, z, label, train=True)
    expected = formula(plain.to_numpy(params), z, label)
    assert np.mean(np.abs(expected) < 0.99) > 0.3
    close(generated(generator, params, z, label), expected)


@pytest.mark.parametrize("pool", ["mean", "sum"])
def test_residual_discriminator_against_its_formula(pool):
    discriminator, x = wgan_gp.Discriminator((4, 6, 6), 2, pool), normal(4, 8, 12, 3)
    params = plain.random_params(discriminator, x, train=True)
    p, h = plain.to_numpy(params), x
    for i in range(3):
        h = plain.discriminator_block(p[f"DiscriminatorBlock_{i}"], h, down=i < 2, first=i == 0)
    h = getattr(plain.relu(h), pool)((1, 2))
    close(judged(discriminator, params, x), plain.judge(p["Judge_0"], h))


def test_convolutional_discriminator_against_its_formula():
    discriminator, x = wgan_gp_cnn.Discriminator((4, 6), classes=3, projection=True), normal(4, 8, 12, 3)
    params = plain.random_params(discriminator, x, LABEL, train=True)
    p, h = plain.to_numpy(params), x
    for i in range(2):
        h = plain.relu(plain.conv(p[f"Conv_{i}"], h, 2), 0.2)
    close(judged(discriminator, params, x, LABEL), plain.judge(p["Judge_0"], h.reshape(4, -1), LABEL))


@pytest.mark.parametrize("family", FAMILIES)
def test_labels_reach_the_discriminator_through_the_class_head(family):
    discriminator = family.Discriminator((4, 4), classes=3, heads=("class",))
    x = normal(4, 8, 8, 1)
    params = plain.random_params(discriminator, x, LABEL, train=True)
    assert set(params["Judge_0"]) == {"logit", "class"}
    logits, heads = judged(discriminator, params, x, LABEL)
    assert logits.shape == (4,) and heads["class"].shape == (4, 3)


@pytest.mark.parametrize("family", FAMILIES)
def test_28_by_28_grey_pictures_are_made_and_judged(family):
    """And judged with the paper's gradient penalty, whose gradient is finite."""
    halvings = {wgan_gp: (4, 4, 4), wgan_gp_cnn: (4, 4)}[family]
    generator, discriminator = family.Generator((28, 28, 1), halvings), family.Discriminator((4, 4))
    variables = initialised(generator, normal(4, 8))
    assert set(variables) == {"params", "batch_stats"}
    pictures = jax.jit(partial(generator.apply, train=False))(variables, normal(4, 8))
    assert pictures.shape == (4, 28, 28, 1) and pictures.dtype == jnp.float32
    assert jnp.max(jnp.abs(pictures)) <= 1.0 and jnp.std(pictures) > 0.01
    real = normal(*pictures.shape)
    params = plain.random_params(discriminator, pictures, train=True)
    assert set(shapes(discriminator, real)) == {"params"}

    def loss(params):
        critic = partial(discriminator.apply, {"params": params}, train=True)
        logits = critic(pictures)
        assert logits.shape == (4,) and logits.dtype == jnp.float32
        return jnp.mean(wgan_gp_penalty(critic, real, pictures, jax.random.key(2))) + jnp.mean(logits)

    gradients = jax.jit(jax.grad(loss))(params)
    assert all(jnp.all(jnp.isfinite(g)) and jnp.any(g != 0) for g in jax.tree.leaves(gradients))


def test_what_cannot_be_made_or_judged():
    with pytest.raises(ConfigError, match=r"wgan_gp: 3 halvings.*multiples of 8.*not with 28x28. Nearest is 32x32"):
        shapes(wgan_gp.Generator((28, 28, 1)), normal(2, 8))
    with pytest.raises(ConfigError, match=r"wgan_gp: 2 halvings.*not with 30x28. Nearest is 32x28"):
        shapes(wgan_gp.Discriminator(), normal(2, 30, 28, 1))
    for module, inputs in (
        (wgan_gp_cnn.Generator((28, 28, 1)), normal(2, 8)),
        (wgan_gp_cnn.Discriminator(), normal(2, 28, 28, 1)),
    ):
        with pytest.raises(ConfigError, match=r"wgan_gp_cnn: 3 halvings.*Nearest is 32x32"):
            shapes(module, inputs)
    with pytest.raises(ConfigError, match="wgan_gp: unknown pool 'max'; known: mean, sum"):
        shapes(wgan_gp.Discriminator(pool="max"), normal(2, 32, 32, 1))
