"""Winograd's three products against lax's convolution and its derivatives."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxgan.models import convolution, winograd
from tests.models.test_convolution import gradients, plain_conv, plain_transpose, second_gradients


def plain(x, kernel):
    return lax.conv_general_dilated(x, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))


@pytest.mark.parametrize("k", [2, 3])
def test_the_matrices_filter(k):
    """In exact numbers: A^T [(G kernel) * (B^T x)] is the kernel over x, in one dimension."""
    a, g, b = winograd.matrices(k)
    draws = np.random.default_rng(0)
    x, kernel = draws.normal(size=winograd.M + k - 1), draws.normal(size=k)
    np.testing.assert_allclose(a.T @ ((g @ kernel) * (b @ x)), np.correlate(x, kernel, "valid"), rtol=0, atol=1e-13)


@pytest.mark.parametrize("together", ["all pictures", "one picture"])
@pytest.mark.parametrize("k", [2, 3])
@pytest.mark.parametrize("size", [(8, 12), (7, 5), (1, 3)])
def test_the_three_products_are_those_of_lax(size, k, together, monkeypatch):
    """Whole tiles, tiles that are not full, and a picture smaller than one."""
    monkeypatch.setattr(winograd, "CACHE", 2**40 if together == "all pictures" else 1)
    draws = np.random.default_rng(0)
    x, kernel, y = (
        jnp.asarray(draws.normal(size=shape), jnp.float32)
        for shape in [(3, size[0] + k - 1, size[1] + k - 1, 5), (k, k, 5, 6), (3, *size, 6)]
    )
    products = jax.jit(
        lambda: (winograd.conv(x, kernel), winograd.transpose(y, kernel), winograd.kernel_product(x, y, k))
    )
    assert str(jax.make_jaxpr(products)()).count("scan[") == (3 if together == "one picture" else 0)
    for ours, lax_s in zip(products(), (plain(x, kernel), *jax.vjp(plain, x, kernel)[1](y)), strict=True):
        np.testing.assert_allclose(ours, lax_s, rtol=0, atol=1e-5 * float(jnp.max(jnp.abs(lax_s))))


@pytest.mark.parametrize(("k", "bound"), [(2, 1.5e-6), (3, 1.3e-6)])
def test_rounds_little(k, bound):
    """The usual points 0, 1, -1, 2, -2 leave 2.1e-6 with kernels of 3."""
    draws = np.random.default_rng(0)
    x = draws.normal(size=(4, 16 + k - 1, 16 + k - 1, 128)).astype(np.float32)
    kernel = (draws.normal(size=(k, k, 128, 64)) / np.sqrt(k * k * 128)).astype(np.float32)
    exact = sum(
        x[:, i : i + 16, j : j + 16].astype(np.float64) @ kernel[i, j].astype(np.float64)
        for i in range(k)
        for j in range(k)
    )
    assert np.std(exact) == pytest.approx(1, abs=0.1)
    assert np.sqrt(np.mean((jax.jit(winograd.conv)(x, kernel) - exact) ** 2)) < bound


def pair(name, k, stride):
    """Ours, lax's, a picture and a kernel of shapes for which a CPU takes fewer products."""
    draws = np.random.default_rng(0)
    channels, features = 64 // stride**2, 64
    inputs, height = (channels, 8 * stride) if name == "conv" else (features, 8)
    x = jnp.asarray(draws.normal(size=(16, height, height, inputs)), jnp.float32)
    kernel = jnp.asarray(draws.normal(size=(k, k, channels, features)) / k**2, jnp.float32)
    forms = {
        "conv": (convolution.conv, plain_conv),
        "conv_transpose": (convolution.conv_transpose, plain_transpose),
    }
    ours, lax_s = forms[name]
    return (lambda x, w: ours(x, w, stride)), partial(lax_s, stride), x, kernel


@pytest.mark.parametrize(("k", "stride"), [(3, 1), (4, 2), (5, 2)])
@pytest.mark.parametrize("name", ["conv", "conv_transpose"])
def test_convolutions_on_a_cpu_take_fewer_products(name, k, stride):
    """To the second derivative; and as they are defined where the user asks for full precision."""
    ours, lax_s, x, kernel = pair(name, k, stride)

    def three(f):
        return lambda x, w: (f(x, w), gradients(f)(x, w), second_gradients(f)(x, w))

    program = jax.jit(three(ours)).lower(x, kernel).compile()
    assert "convolution(" not in program.as_text()
    both = jax.tree.leaves(program(x, kernel)), jax.tree.leaves(jax.jit(three(lax_s))(x, kernel))
    for a, b in zip(*both, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-4 * float(jnp.max(jnp.abs(b))))
    for setting in ("highest", "float32"):
        with jax.default_matmul_precision(setting):
            assert "convolution(" in jax.jit(ours).lower(x, kernel).as_text()


def test_only_a_cpu_does():
    ours, _, x, kernel = pair("conv", 3, 1)
    program = jax.jit(gradients(ours)).trace(x, kernel)
    for platform in ("cuda", "tpu"):
        text = program.lower(lowering_platforms=(platform,)).as_text()
        assert text.count("stablehlo.convolution") == 3


@pytest.mark.parametrize(
    ("what", "stride", "shape", "kernel", "dtype"),
    [
        ("few channels in", 1, (8, 16, 16), (3, 3, 32, 64), "float32"),
        ("few channels out", 1, (8, 16, 16), (3, 3, 64, 32), "float32"),
        ("tiles half empty", 1, (64, 5, 5), (3, 3, 64, 64), "float32"),
        ("a kernel larger than the pictures", 1, (1, 4, 4), (3, 3, 512, 512), "float32"),
        ("a kernel of 7", 1, (8, 16, 16), (7, 7, 64, 64), "float32"),
        ("half precision", 1, (8, 16, 16), (3, 3, 64, 64), "bfloat16"),
        ("double precision", 1, (8, 16, 16), (3, 3, 64, 64), "float64"),
    ],
)
def test_does_not_where_it_does_not_pay(what, stride, shape, kernel, dtype):
    assert not convolution._has_fewer_products(stride, shape, kernel, jnp.dtype(dtype)), what
    assert convolution._has_fewer_products(1, (8, 16, 16), (3, 3, 64, 64), jnp.dtype("float32"))
