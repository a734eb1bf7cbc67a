from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan.errors import ConfigError
from jaxgan.losses import r1_penalty
from jaxgan.models import residual
from jaxgan.models.conditioning import ConditionalBatchNorm
from tests.models import plain

close = partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5)


def pictures(*shape):
    return np.random.default_rng(1).normal(size=shape).astype(np.float32)


def applied(module, params, *args):
    return jax.jit(module.apply)({"params": params}, *args)


@pytest.mark.parametrize("shape", [(2, 3, 5, 4), (1, 2, 2, 3)])
def test_pictures_are_doubled_and_halved(shape):
    x = pictures(*shape)
    close(residual.upsample(x), plain.nearest(x))
    close(residual.upsample(x, "bilinear"), plain.bilinear(x))
    close(residual.average_pool(residual.upsample(x)), x)
    even = pictures(shape[0], 4, 6, shape[-1])
    close(residual.average_pool(even), plain.pool(even))


def test_bilinear_is_that_of_torch():
    torch = pytest.importorskip("torch")
    x = pictures(2, 3, 5, 4)
    theirs = torch.nn.functional.interpolate(
        torch.tensor(x).permute(0, 3, 1, 2), scale_factor=2, mode="bilinear", align_corners=False
    )
    close(residual.upsample(jnp.asarray(x), "bilinear"), theirs.permute(0, 2, 3, 1))


def test_unknown_upsampling_lists_the_known():
    with pytest.raises(ConfigError, match="'cubic' is unknown; known: nearest, bilinear"):
        residual.upsample(jnp.zeros((1, 2, 2, 1)), "cubic")


@pytest.mark.parametrize(
    ("layer", "shape", "formula"),
    [
        (residual.UpConv(5), (2, 2, 3, 4), lambda p, x: plain.conv(p, plain.nearest(x))),
        (residual.UpConv(8), (2, 7, 6, 8), lambda p, x: plain.conv(p, plain.nearest(x))),
        (residual.UpConv(3, upsample="bilinear"), (2, 3, 4, 4), lambda p, x: plain.conv(p, plain.bilinear(x))),
        (residual.ConvDown(5), (2, 2, 4, 4), lambda p, x: plain.pool(plain.conv(p, x))),
        (residual.ConvDown(8), (2, 14, 12, 8), lambda p, x: plain.pool(plain.conv(p, x))),
    ],
)
def test_fused_convolutions_are_those_of_the_papers(layer, shape, formula):
    x = pictures(*shape)
    params = plain.random_params(layer, x)
    close(applied(layer, params, x), formula(plain.to_numpy(params), x))
    assert params["kernel"].shape == (3, 3, shape[-1], layer.features)


def as_torch(torch, params):
    """Kernels [k, k, C, O] as torch's [O, C, k, k]."""
    return jax.tree.map(
        lambda a: torch.tensor(a.transpose(3, 2, 0, 1) if a.ndim == 4 else a, requires_grad=True), params
    )


def test_gradients_and_gradient_penalty_of_a_discriminator_block_are_those_of_torch():
    torch = pytest.importorskip("torch")
    block, x = residual.DiscriminatorBlock(6), pictures(3, 6, 4, 4)
    params = plain.random_params(block, x)

    def loss(params, x):
        def critic(x):
            return jnp.sum(jnp.sin(block.apply({"params": params}, x)), axis=(1, 2, 3))

        return jnp.sum(critic(x)) + jnp.sum(r1_penalty(critic, x))

    ours = jax.jit(jax.grad(loss))(params, x)
    p = as_torch(torch, params)
    t = torch.tensor(x.transpose(0, 3, 1, 2), requires_grad=True)
    conv = torch.nn.functional.conv2d
    h = conv(torch.relu(t), p["conv1"]["kernel"], p["conv1"]["bias"], padding=1)
    h = conv(torch.relu(h), p["conv2"]["kernel"], p["conv2"]["bias"], padding=1)
    h = torch.nn.functional.avg_pool2d(h + conv(t, p["shortcut"]["kernel"], p["shortcut"]["bias"]), 2)
    value = torch.sin(h).sum()
    (gradient,) = torch.autograd.grad(value, t, create_graph=True)
    (value + 0.5 * gradient.square().sum()).backward()
    for name, layer in p.items():
        kernel = layer["kernel"].grad.permute(2, 3, 1, 0)
        np.testing.assert_allclose(ours[name]["kernel"], kernel, rtol=1e-4, atol=1e-4 * float(kernel.abs().max()))
        np.testing.assert_allclose(ours[name]["bias"], layer["bias"].grad, rtol=1e-4, atol=1e-4)


def test_gradients_of_the_doubling_convolution_are_those_of_torch():
    torch = pytest.importorskip("torch")
    layer, x = residual.UpConv(4), pictures(2, 3, 5, 6)
    params = plain.random_params(layer, x)
    ours = jax.jit(jax.grad(lambda p, x: jnp.sum(jnp.sin(layer.apply({"params": p}, x))), (0, 1)))(params, x)
    p = as_torch(torch, params)
    t = torch.tensor(x.transpose(0, 3, 1, 2), requires_grad=True)
    up = torch.nn.functional.interpolate(t, scale_factor=2)
    torch.sin(torch.nn.functional.conv2d(up, p["kernel"], p["bias"], padding=1)).sum().backward()
    close(ours[0]["kernel"], p["kernel"].grad.permute(2, 3, 1, 0), atol=1e-4)
    close(ours[0]["bias"], p["bias"].grad, atol=1e-4)
    close(ours[1], t.grad.permute(0, 2, 3, 1))


@pytest.mark.parametrize("up", ["nearest", "bilinear"])
def test_generator_block_against_its_formula(up):
    block = residual.GeneratorBlock(5, partial(ConditionalBatchNorm, classes=3), upsample=up)
    x, label = pictures(4, 3, 2, 6), np.array([2, 0, 1, 2])
    params = plain.random_params(block, x, label, train=True)
    apply = jax.jit(partial(block.apply, train=True, mutable=["batch_stats"]))
    out, _ = apply({"params": params}, x, label)
    close(out, plain.generator_block(plain.to_numpy(params), x, label, getattr(plain, up)))


@pytest.mark.parametrize(
    ("options", "channels", "hidden", "has_shortcut"),
    [
        ({"first": True}, 3, 5, True),
        ({"down": True}, 5, 5, True),
        ({"down": True}, 3, 3, True),
        ({"down": False}, 3, 3, True),
        ({"down": False}, 5, 5, False),
    ],
)
def test_discriminator_block_against_its_formula(options, channels, hidden, has_shortcut):
    block, x = residual.DiscriminatorBlock(5, **options), pictures(2, 4, 6, channels)
    params = plain.random_params(block, x)
    assert params["conv1"]["kernel"].shape == (3, 3, channels, hidden)
    assert params["conv2"]["kernel"].shape == (3, 3, hidden, 5)
    assert ("shortcut" in params) == has_shortcut
    down, first = options.get("down", True), options.get("first", False)
    close(applied(block, params, x), plain.discriminator_block(plain.to_numpy(params), x, down, first))


def test_shortcut_sees_the_input_before_the_relu():
    block, x = residual.DiscriminatorBlock(3, down=False), -np.ones((1, 4, 4, 3), np.float32)
    params = jax.tree.map(lambda a: 0 * a if a.ndim == 1 else a, plain.random_params(block, x))
    np.testing.assert_array_equal(applied(block, params, x), x)


def test_initial_weights_are_glorots_with_gain_sqrt_2_in_the_residual():
    block = residual.DiscriminatorBlock(48, down=True)
    params = jax.jit(block.init)(jax.random.key(0, impl="rbg"), jnp.zeros((1, 4, 4, 64)))["params"]
    for name, fans, gain in (("conv1", 9 * 128, 2**0.5), ("conv2", 9 * 112, 2**0.5), ("shortcut", 112, 1.0)):
        kernel, std = params[name]["kernel"], gain * (2 / fans) ** 0.5
        np.testing.assert_allclose(jnp.std(kernel), std, rtol=0.03)
        assert jnp.max(jnp.abs(kernel)) <= 3**0.5 * std
        np.testing.assert_array_equal(params[name]["bias"], 0.0)


@pytest.mark.parametrize(
    ("shape", "halvings", "nearest"),
    [((30, 28, 1), 2, "32x28"), ((28, 28, 1), 3, "32x32"), ((4, 4, 3), 2, "8x8"), ((65, 64, 3), 4, "64x64")],
)
def test_sizes_that_cannot_be_halved(shape, halvings, nearest):
    with pytest.raises(ConfigError, match=f"^sngan: .*multiples of {2**halvings}.*Nearest is {nearest}.*fewer widths"):
        residual.base_size("sngan", shape, halvings)


def test_sizes_that_can_be_halved():
    assert residual.base_size("sngan", (28, 28, 1), 2) == (7, 7)
    assert residual.base_size("sngan", (48, 32, 3), 3) == (6, 4)
    residual.check_blocks("sngan", (28, 28, 1), (8, 8, 8), 2)
    with pytest.raises(ConfigError, match=r"sngan: needs pictures.*\(2,\)"):
        residual.base_size("sngan", (2,), 2)
    for downsampled in (0, 4):
        with pytest.raises(ConfigError, match=f"wgan_gp: downsampled {downsampled} must be between 1,.* blocks, 3"):
            residual.check_blocks("wgan_gp", (32, 32, 3), (8, 8, 8), downsampled)
