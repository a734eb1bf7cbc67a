from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan.losses import r1_penalty
from jaxgan.models.attention import SelfAttention, max_pool

# Compiling takes longer than computing here.
jit = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
LAYER = SelfAttention()


def inputs(*shape, gamma=0.7):
    """(params with this gamma, x)"""
    rng = np.random.default_rng(3)
    channels = shape[-1]
    few, half = max(channels // 8, 1), max(channels // 2, 1)
    sizes = {"query": (channels, few), "key": (channels, few), "value": (channels, half), "output": (half, channels)}
    kernels = {name: rng.normal(size=size).astype(np.float32) / np.sqrt(size[0]) for name, size in sizes.items()}
    params = {name: {"kernel": kernel.astype(np.float32)} for name, kernel in kernels.items()}
    return {**params, "gamma": np.float32(gamma)}, 2.0 * rng.normal(size=shape).astype(np.float32)


def attend_by_pixel(params, x):
    """The same in float64, one picture and one query at a time."""
    kernel = {name: np.asarray(params[name]["kernel"], np.float64) for name in ("query", "key", "value", "output")}
    height, width = x.shape[1:3]
    windows = [np.s_[i : i + 2, j : j + 2] for i in range(0, height, 2) for j in range(0, width, 2)]
    out = np.array(x, np.float64)
    for n, picture in enumerate(np.asarray(x, np.float64)):
        keys = np.stack([(picture @ kernel["key"])[w].max((0, 1)) for w in windows])
        values = np.stack([(picture @ kernel["value"])[w].max((0, 1)) for w in windows])
        for i in range(height):
            for j in range(width):
                scores = np.exp(keys @ (picture[i, j] @ kernel["query"]))
                seen = (scores[:, None] * values).sum(0) / scores.sum()
                out[n, i, j] += float(params["gamma"]) * (seen @ kernel["output"])
    return out


@pytest.mark.parametrize("shape", [(2, 4, 6, 16), (2, 5, 3, 9), (1, 1, 1, 3)])
def test_every_pixel_sees_the_pooled_pixels_of_its_own_picture(shape):
    params, x = inputs(*shape)
    out = jit(LAYER.apply)({"params": params}, x)
    assert out.shape == shape and out.dtype == jnp.float32
    np.testing.assert_allclose(out, attend_by_pixel(params, x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("channels", "shapes"),
    [
        (64, {"query": (64, 8), "key": (64, 8), "value": (64, 32), "output": (32, 64)}),
        (6, {"query": (6, 1), "key": (6, 1), "value": (6, 3), "output": (3, 6)}),
    ],
)
def test_kernels_are_orthogonal_and_the_layer_begins_as_the_identity(channels, shapes):
    _, x = inputs(2, 4, 4, channels)
    out, variables = jit(LAYER.init_with_output)(jax.random.key(0), x)
    params = variables["params"]
    np.testing.assert_array_equal(out, x)
    assert params["gamma"].shape == () and params["gamma"] == 0.0
    assert {name: p["kernel"].shape for name, p in params.items() if name != "gamma"} == shapes
    for name in shapes:
        kernel = np.asarray(params[name]["kernel"])
        kernel = kernel if kernel.shape[0] >= kernel.shape[1] else kernel.T
        np.testing.assert_allclose(kernel.T @ kernel, np.eye(kernel.shape[1]), atol=1e-5)


def test_at_the_start_gamma_alone_learns():
    params, x = inputs(2, 4, 4, 8, gamma=0.0)
    gradients = jit(jax.grad(lambda params: jnp.sum(LAYER.apply({"params": params}, x) ** 3)))(params)
    assert abs(gradients.pop("gamma")) > 1e-3
    jax.tree.map(lambda g: np.testing.assert_array_equal(g, 0.0), gradients)


@pytest.mark.parametrize("size", [(4, 6), (5, 7), (1, 2)])
def test_max_pool_is_that_of_pytorch(size):
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(0).normal(size=(2, *size, 3)).astype(np.float32)
    cotangent = np.random.default_rng(1).normal(size=(2, -(-size[0] // 2), -(-size[1] // 2), 3)).astype(np.float32)
    ours, gradient = jit(lambda x: (max_pool(x), jax.vjp(max_pool, x)[1](cotangent)[0]))(x)
    theirs_x = torch.tensor(x, requires_grad=True)
    theirs = torch.nn.functional.max_pool2d(theirs_x.permute(0, 3, 1, 2), 2, ceil_mode=True).permute(0, 2, 3, 1)
    theirs.backward(torch.tensor(cotangent))
    np.testing.assert_array_equal(ours, theirs.detach().numpy())
    np.testing.assert_array_equal(gradient, theirs_x.grad.numpy())


def test_a_gradient_penalty_is_differentiable_through_it():
    """The derivative of R1 along a direction of params, against a finite difference of R1."""
    params, x = inputs(2, 5, 4, 8)

    @jit
    @jax.value_and_grad
    def penalty(params):
        return jnp.sum(r1_penalty(lambda x: jnp.sum(LAYER.apply({"params": params}, x) ** 3, axis=(1, 2, 3)), x))

    rng = np.random.default_rng(2)
    direction = jax.tree.map(lambda p: np.float32(rng.normal(size=p.shape)), params)
    step = 1e-3
    ahead, behind = (
        float(penalty(jax.tree.map(lambda p, d, s=s: p + s * d, params, direction))[0]) for s in (step, -step)
    )
    slope = sum(np.vdot(g, d) for g, d in zip(*map(jax.tree.leaves, (penalty(params)[1], direction)), strict=True))
    np.testing.assert_allclose(slope, (ahead - behind) / (2 * step), rtol=2e-2)  # float32 differences
