from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan.errors import ConfigError
from jaxgan.losses import r1_penalty
from jaxgan.models import sndcgan
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


def generated(generator, params, *args):
    """Pictures of a training batch."""
    return jax.jit(partial(generator.apply, train=True, mutable=["batch_stats"]))({"params": params}, *args)[0]


def judged(discriminator, params, *args):
    return jax.jit(partial(discriminator.apply, train=True))({"params": params}, *args)


def kernels(params):
    return {name: layer["kernel"].shape for name, layer in params.items() if "kernel" in layer}


def test_layers_are_those_of_the_table():
    assert kernels(shapes(sndcgan.Generator(), normal(2, 128))) == {
        "Dense_0": (128, 4 * 4 * 512),
        "ConvTranspose_0": (4, 4, 256, 512),
        "ConvTranspose_1": (4, 4, 128, 256),
        "ConvTranspose_2": (4, 4, 64, 128),
        "Conv_0": (3, 3, 64, 3),
    }
    params = shapes(sndcgan.Discriminator(), normal(2, 32, 32, 3))
    assert kernels(params) == {
        "Conv_0": (3, 3, 3, 64),
        "Conv_1": (4, 4, 64, 128),
        "Conv_2": (3, 3, 128, 128),
        "Conv_3": (4, 4, 128, 256),
        "Conv_4": (3, 3, 256, 256),
        "Conv_5": (4, 4, 256, 512),
        "Conv_6": (3, 3, 512, 512),
    }
    assert params["Judge_0"]["logit"]["kernel"].shape == (4 * 4 * 512, 1)
    assert shapes(sndcgan.Generator((48, 48, 3)), normal(2, 128))["Dense_0"]["kernel"].shape == (128, 6 * 6 * 512)


def test_parameters_are_those_counted_by_hand():
    generator = 128 * 8192 + 16 * (512 * 256 + 256 * 128 + 128 * 64) + 2 * (512 + 256 + 128 + 64) + 9 * 64 * 3 + 3
    discriminator = 9 * (3 * 64 + 128 * 128 + 256 * 256 + 512 * 512) + 16 * (64 * 128 + 128 * 256 + 256 * 512)
    discriminator += 64 + 2 * (128 + 256 + 512) + 8192 + 1
    for module, inputs, expected in (
        (sndcgan.Generator(), normal(2, 128), generator),
        (sndcgan.Discriminator(), normal(2, 32, 32, 3), discriminator),
    ):
        assert sum(p.size for p in jax.tree.leaves(shapes(module, inputs))) == expected


def test_initial_weights_are_normal_with_standard_deviation_2_hundredths():
    generator, discriminator = sndcgan.Generator((8, 8, 3), (32, 16)), sndcgan.Discriminator((16, 32))
    for module, inputs in ((generator, normal(2, 64)), (discriminator, normal(2, 8, 8, 3))):
        params = initialised(module, inputs)["params"]
        for path, value in jax.tree.leaves_with_path(params):
            if path[-1].key == "kernel":
                np.testing.assert_allclose(jnp.std(value), 0.02, atol=0.08 / np.sqrt(value.size))
            else:
                np.testing.assert_array_equal(value, {"bias": 0.0, "scale": 1.0}[path[-1].key])


@pytest.mark.parametrize("label", [None, LABEL], ids=["unconditional", "conditional"])
def test_generator_against_its_formula(label):
    generator, z = sndcgan.Generator((8, 12, 3), (6, 5, 4), classes=3), normal(4, 9)
    params = plain.random_params(generator, z, label, train=True)
    p = plain.to_numpy(params)
    x = plain.dense(p["Dense_0"], z).reshape(4, 2, 3, 6)
    for i in range(2):
        x = plain.relu(plain.norm(p[f"ConditionalBatchNorm_{i}"], x, label))
        x = plain.conv_transpose(p[f"ConvTranspose_{i}"], x)
    expected = np.tanh(plain.conv(p["Conv_0"], plain.relu(plain.norm(p["ConditionalBatchNorm_2"], x, label))))
    assert np.mean(np.abs(expected) < 0.99) > 0.3
    close(generated(generator, params, z, label), expected)


def test_discriminator_against_its_formula():
    discriminator, x = sndcgan.Discriminator((3, 4, 5), classes=3), normal(4, 8, 12, 3)
    params = plain.random_params(discriminator, x, LABEL, train=True)
    p, h = plain.to_numpy(params), x
    for i, stride in enumerate((1, 2, 1, 2, 1)):
        h = plain.relu(plain.conv(p[f"Conv_{i}"], h, stride), 0.1)
    h = h.reshape(4, -1)
    close(judged(discriminator, params, x, LABEL), plain.judge(p["Judge_0"], h, LABEL))
    close(judged(discriminator.clone(projection=False), params, x, LABEL), plain.judge(p["Judge_0"], h))


def test_convolutions_are_those_of_torch():
    """Their padding of 1 is our "SAME" for a 4x4 kernel of stride 2, transposed or not."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(2)
    x, kernel = (torch.tensor(rng.normal(size=shape)) for shape in ((2, 3, 6, 8), (3, 5, 4, 4)))
    up = torch.nn.functional.conv_transpose2d(x, kernel, stride=2, padding=1).permute(0, 2, 3, 1)
    pictures = np.asarray(x.permute(0, 2, 3, 1))
    close(plain.conv_transpose({"kernel": np.asarray(kernel.permute(2, 3, 1, 0))}, pictures), up)
    kernel = kernel.transpose(0, 1)
    down = torch.nn.functional.conv2d(x, kernel, stride=2, padding=1).permute(0, 2, 3, 1)
    close(plain.conv({"kernel": np.asarray(kernel.permute(2, 3, 1, 0))}, pictures, 2), down)


def test_heads_are_beside_the_logits():
    discriminator = sndcgan.Discriminator((3, 4), classes=3, heads=("class", "code"), code_size=2)
    x = normal(4, 8, 8, 1)
    logits, heads = judged(discriminator, plain.random_params(discriminator, x, LABEL, train=True), x, LABEL)
    assert logits.shape == (4,) and {name: h.shape for name, h in heads.items()} == {"class": (4, 3), "code": (4, 2)}


def test_without_classes_a_label_changes_nothing():
    for module, inputs in (
        (sndcgan.Generator((8, 8, 1), (4, 4)), normal(4, 6)),
        (sndcgan.Discriminator((4, 4)), normal(4, 8, 8, 1)),
    ):
        assert shapes(module, inputs, LABEL) == shapes(module, inputs)


def test_28_by_28_grey_pictures_are_made_and_judged():
    """And judged with a gradient penalty whose gradient is finite."""
    generator, discriminator = sndcgan.Generator((28, 28, 1), (4, 4, 4)), sndcgan.Discriminator((4, 4, 4))
    variables = initialised(generator, normal(4, 8))
    assert set(variables) == {"params", "batch_stats"}
    pictures = jax.jit(partial(generator.apply, train=False))(variables, normal(4, 8))
    assert pictures.shape == (4, 28, 28, 1) and pictures.dtype == jnp.float32
    assert 0.0 < jnp.max(jnp.abs(pictures)) <= 1.0
    real = normal(*pictures.shape)
    params = plain.random_params(discriminator, real, train=True)

    def loss(params):
        critic = partial(discriminator.apply, {"params": params}, train=True)
        logits = critic(real)
        assert logits.shape == (4,) and logits.dtype == jnp.float32
        return jnp.mean(r1_penalty(critic, real)) + jnp.mean(logits)

    gradients = jax.jit(jax.grad(loss))(params)
    assert all(jnp.all(jnp.isfinite(g)) and jnp.any(g != 0) for g in jax.tree.leaves(gradients))


def test_sizes_that_cannot_be_made_or_judged():
    for module, inputs in (
        (sndcgan.Generator((28, 28, 1)), normal(2, 8)),
        (sndcgan.Discriminator(), normal(2, 28, 28, 1)),
    ):
        with pytest.raises(ConfigError, match=r"sndcgan: 3 halvings.*multiples of 8.*28x28. Nearest is 32x32"):
            shapes(module, inputs)
