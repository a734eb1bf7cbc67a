from functools import partial
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan.errors import ConfigError
from jaxgan.losses import r1_penalty
from jaxgan.models import sngan
from tests.models import plain

close = partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5)
LABEL = np.array([2, 0, 1, 2])


def normal(*shape):
    return np.random.default_rng(1).normal(size=shape).astype(np.float32)


def initialised(module, *args):
    key = jax.random.key(0, impl="rbg")  # compiles in a fraction of the default's time
    return jax.jit(partial(module.init, train=True))(key, *args)


def shapes(module, *args):
    return jax.eval_shape(lambda: module.init(jax.random.key(0), *args, train=True))["params"]


def count(params):
    return sum(p.size for p in jax.tree.leaves(params))


def generated(generator, params, *args):
    """Pictures of a training batch."""
    return jax.jit(partial(generator.apply, train=True, mutable=["batch_stats"]))({"params": params}, *args)[0]


def judged(discriminator, params, *args):
    return jax.jit(partial(discriminator.apply, train=True))({"params": params}, *args)


def test_parameters_at_32_are_as_many_as_published():
    """StudioGAN's log of its class-conditional run says 4.28M and 1.06M."""
    z, x = np.zeros((2, 128)), np.zeros((2, 32, 32, 3))
    assert count(shapes(sngan.Generator(), z)) == 4_276_739
    assert f"{4_276_739 / 1e6:.2f}" == "4.28"
    assert count(shapes(sngan.Discriminator(), x)) == 1_053_824
    projecting = count(shapes(sngan.Discriminator(classes=10), x, LABEL[:2]))
    assert projecting == 1_053_824 + 10 * 128
    assert f"{projecting / 1e6:.2f}" == "1.06"


def generator_count(base, widths, channels=3):
    total = 128 * base * base * widths[0] + base * base * widths[0]
    for a, b in pairwise(widths):
        total += 2 * a + (9 * a + 1) * b + 2 * b + (9 * b + 1) * b + (a + 1) * b
    return total + 2 * widths[-1] + (9 * widths[-1] + 1) * channels


def discriminator_count(widths, downsampled, channels=3):
    first = widths[0]
    total = (9 * channels + 1) * first + (9 * first + 1) * first + (channels + 1) * first
    for i, (a, b) in enumerate(pairwise(widths), 1):
        total += (9 * a + 1) * a + (9 * a + 1) * b + ((a + 1) * b if a != b or i < downsampled else 0)
    return total + widths[-1]


@pytest.mark.parametrize(
    ("size", "base", "widths", "widths_d", "downsampled"),
    [
        (32, 4, (256,) * 4, (128,) * 4, 2),
        (48, 6, (512, 256, 128, 64), (64, 128, 256, 512, 1024), 4),
        (64, 4, (1024, 512, 256, 128, 64), (64, 128, 256, 512, 1024), 5),
        (128, 4, (1024, 1024, 512, 256, 128, 64), (64, 128, 256, 512, 1024, 1024), 5),
    ],
)
def test_parameters_of_every_size_are_those_counted_by_hand(size, base, widths, widths_d, downsampled):
    generator = sngan.Generator(shape=(size, size, 3), widths=widths)
    assert count(shapes(generator, np.zeros((2, 128)))) == generator_count(base, widths)
    discriminator = sngan.Discriminator(widths=widths_d, downsampled=downsampled)
    assert count(shapes(discriminator, np.zeros((2, size, size, 3)))) == discriminator_count(widths_d, downsampled)
    row = f"| {', '.join(map(str, widths))} | {', '.join(map(str, widths_d))} | {downsampled} |"
    assert row in sngan.__doc__


@pytest.mark.parametrize("hidden", [0, 10], ids=["labels", "self-modulation"])
def test_initial_weights_of_the_generator_layer_by_layer(hidden):
    generator = sngan.Generator((8, 8, 3), widths=(24, 16), classes=5, self_modulation=hidden)
    plain.assert_glorot(initialised(generator, normal(2, 32), LABEL[:2])["params"])


def test_initial_weights_of_the_discriminator_layer_by_layer():
    discriminator = sngan.Discriminator((16, 24, 24), 2, classes=5, heads=("class", "code"), code_size=2)
    params = initialised(discriminator, normal(2, 8, 8, 3), LABEL[:2])["params"]
    assert {"logit", "projection", "class", "code"} == set(params["Judge_0"])
    plain.assert_glorot(params)


def generator_formula(p, z, label, shape, up, self_modulation):
    condition = label
    if self_modulation:
        scale, bias = plain.modulation(p["Modulation_0"], label)
        condition = z * scale + bias
    x = plain.dense(p["Dense_0"], z).reshape(-1, shape[0] // 4, shape[1] // 4, 6)
    for i in range(2):
        x = plain.generator_block(p[f"GeneratorBlock_{i}"], x, condition, up)
    x = plain.relu(plain.norm(p["ConditionalBatchNorm_0"], x, condition if self_modulation else None))
    return np.tanh(plain.conv(p["Conv_0"], x))


@pytest.mark.parametrize(("up", "self_modulation"), [("nearest", 0), ("bilinear", 7)])
def test_generator_against_its_formula(up, self_modulation):
    generator = sngan.Generator((8, 12, 3), (6, 5, 4), up, self_modulation, classes=3)
    z = normal(4, 9)
    params = plain.random_params(generator, z, LABEL, train=True)
    expected = generator_formula(plain.to_numpy(params), z, LABEL, (8, 12), getattr(plain, up), self_modulation)
    assert np.mean(np.abs(expected) < 0.99) > 0.3
    close(generated(generator, params, z, LABEL), expected)


def test_discriminator_against_its_formula():
    discriminator = sngan.Discriminator(widths=(4, 6, 6, 5), downsampled=2, classes=3)
    x = normal(4, 8, 12, 3)
    params = plain.random_params(discriminator, x, LABEL, train=True)
    assert "bias" not in params["Judge_0"]["logit"]
    assert "shortcut" not in params["DiscriminatorBlock_2"]
    p, h = plain.to_numpy(params), x
    for i in range(4):
        h = plain.discriminator_block(p[f"DiscriminatorBlock_{i}"], h, down=i < 2, first=i == 0)
    h = plain.relu(h).sum((1, 2))
    np.testing.assert_allclose(judged(discriminator, params, x, LABEL), plain.judge(p["Judge_0"], h, LABEL), rtol=1e-5)
    off = discriminator.clone(projection=False)
    np.testing.assert_allclose(judged(off, params, x, LABEL), plain.judge(p["Judge_0"], h), rtol=1e-5)


def test_self_modulation_without_labels_depends_on_z_alone():
    generator = sngan.Generator((8, 8, 1), (4, 4), self_modulation=5)
    z = normal(3, 6)
    params = plain.random_params(generator, z, train=True)
    block = params["GeneratorBlock_0"]["ConditionalBatchNorm_0"]["Modulation_0"]
    assert block["hidden"]["kernel"].shape == (6, 5) and block["scale"]["kernel"].shape == (5, 4)
    assert "Modulation_0" in params["ConditionalBatchNorm_0"] and "Modulation_0" not in params
    assert generated(generator, params, z).shape == (3, 8, 8, 1)


def test_without_classes_a_label_changes_nothing():
    generator, discriminator = sngan.Generator((8, 8, 1), (4, 4)), sngan.Discriminator((4, 4), 1)
    z, x = normal(4, 6), normal(4, 8, 8, 1)
    for module, apply, inputs in ((generator, generated, z), (discriminator, judged, x)):
        params = plain.random_params(module, inputs, train=True)
        assert jax.tree.structure(params) == jax.tree.structure(shapes(module, inputs, LABEL))
        np.testing.assert_array_equal(apply(module, params, inputs, LABEL), apply(module, params, inputs))


def test_heads_are_beside_the_logits():
    discriminator = sngan.Discriminator((4, 4), 1, classes=3, heads=("class", "code"), code_size=2)
    x = normal(4, 8, 8, 1)
    logits, heads = judged(discriminator, plain.random_params(discriminator, x, LABEL, train=True), x, LABEL)
    assert logits.shape == (4,) and {name: h.shape for name, h in heads.items()} == {"class": (4, 3), "code": (4, 2)}


def test_28_by_28_grey_pictures_are_made_and_judged():
    """And judged with a gradient penalty whose gradient is finite."""
    generator, discriminator = sngan.Generator((28, 28, 1), (4, 4, 4)), sngan.Discriminator((4, 4, 4), 2)
    variables = initialised(generator, normal(4, 8))
    assert set(variables) == {"params", "batch_stats"}
    pictures = jax.jit(partial(generator.apply, train=False))(variables, normal(4, 8))
    assert pictures.shape == (4, 28, 28, 1) and pictures.dtype == jnp.float32
    assert jnp.max(jnp.abs(pictures)) <= 1.0 and jnp.std(pictures) > 0.01
    params = plain.random_params(discriminator, pictures, train=True)

    def loss(params):
        critic = partial(discriminator.apply, {"params": params}, train=True)
        logits = critic(pictures)
        assert logits.shape == (4,) and logits.dtype == jnp.float32
        return jnp.mean(r1_penalty(critic, pictures)) + jnp.mean(logits)

    gradients = jax.jit(jax.grad(loss))(params)
    assert all(jnp.all(jnp.isfinite(g)) and jnp.any(g != 0) for g in jax.tree.leaves(gradients))


def test_sizes_that_cannot_be_made_or_judged():
    with pytest.raises(ConfigError, match=r"sngan: 3 halvings.*multiples of 8.*not with 28x28. Nearest is 32x32"):
        shapes(sngan.Generator((28, 28, 1)), normal(2, 8))
    with pytest.raises(ConfigError, match=r"sngan: 2 halvings.*not with 30x28. Nearest is 32x28.*downsampled"):
        shapes(sngan.Discriminator(), normal(2, 30, 28, 1))
    with pytest.raises(ConfigError, match="downsampled 9 must be between"):
        shapes(sngan.Discriminator(downsampled=9), normal(2, 32, 32, 1))
    with pytest.raises(ConfigError, match="upsample 'cubic' is unknown"):
        shapes(sngan.Generator(upsample="cubic"), normal(2, 8))
