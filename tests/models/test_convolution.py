"""Every form of a convolution against lax's plain definition, with first and second derivatives."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxgan.models import convolution

# kernel, stride, channels, features, height, width: few and many channels, odd and small sizes, all forms
CASES = [
    (4, 2, 1, 8, 8, 12),
    (4, 2, 6, 5, 8, 10),
    (5, 2, 6, 5, 12, 10),
    (5, 2, 3, 7, 8, 12),
    (5, 2, 6, 3, 4, 8),
    (6, 3, 5, 2, 18, 20),
    (5, 3, 5, 2, 18, 21),
    (3, 1, 5, 4, 7, 5),
    (3, 2, 5, 4, 7, 9),
    (3, 2, 2, 4, 7, 9),
    (3, 2, 5, 4, 3, 5),
]


NHWC = ("NHWC", "HWIO", "NHWC")


def plain_conv(stride, x, kernel):
    return lax.conv_general_dilated(x, kernel, (stride, stride), "SAME", dimension_numbers=NHWC)


def plain_transpose(stride, y, kernel):
    strides = (stride, stride)
    return lax.conv_transpose(y, kernel, strides, "SAME", dimension_numbers=NHWC, transpose_kernel=True)


def ours_and_plain(name, case):
    """The two functions of (picture, kernel), and such a pair."""
    k, stride, channels, features, height, width = case
    keys = jax.random.split(jax.random.key(0))
    kernel = jax.random.normal(keys[1], (k, k, channels, features))
    inputs = channels if name == "conv" else features
    picture = jax.random.normal(keys[0], (2, height, width, inputs))
    functions = {
        "conv": (lambda x, w: convolution.conv(x, w, stride), partial(plain_conv, stride)),
        "conv_transpose": (
            lambda y, w: convolution.conv_transpose(y, w, stride),
            partial(plain_transpose, stride),
        ),
    }
    return (*functions[name], picture, kernel)


def gradients(f):
    """The first derivatives of a scalar that is not linear in f."""
    return jax.grad(lambda x, w: jnp.sum(jnp.sin(f(x, w))), (0, 1))


def second_gradients(f):
    """Those of a gradient penalty on both arguments: through the backward pass of the backward pass."""

    def penalty(x, w):
        return sum(jnp.mean(g**2) for g in gradients(f)(x, w))

    return jax.grad(penalty, (0, 1))


def assert_close(a, b):
    def compare(u, v):
        np.testing.assert_allclose(u, v, rtol=1e-4, atol=1e-5 * float(jnp.max(jnp.abs(v))))

    jax.tree.map(compare, a, b)


@pytest.mark.parametrize("name", ["conv", "conv_transpose"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_equals_lax_to_the_second_derivative(name, case):
    ours, plain, *arguments = ours_and_plain(name, case)

    def three(f, *arguments):
        return f(*arguments), gradients(f)(*arguments), second_gradients(f)(*arguments)

    assert_close(*jax.jit(lambda *arguments: (three(ours, *arguments), three(plain, *arguments)))(*arguments))


@pytest.mark.parametrize("case", [c for c in CASES if c[1] > 1 and c[4] % c[1] == 0], ids=str)
@pytest.mark.parametrize("form", [f"_transpose_{way}" for way in ("by_blocks", "by_phases", "by_product", "plain")])
def test_each_form_of_the_transpose(form, case):
    k, stride = case[:2]
    if form == "_transpose_by_blocks" and k % stride:
        pytest.skip("blocks need a kernel that is a multiple of the stride")
    _, plain, y, kernel = ours_and_plain("conv_transpose", case)
    size = (y.shape[1] * stride, y.shape[2] * stride)
    ours = partial(getattr(convolution, form), stride, size)
    assert_close(jax.jit(ours)(y, kernel), plain(y, kernel))


def test_works_outside_jit():
    ours, plain, *arguments = ours_and_plain("conv_transpose", CASES[1])
    assert_close(gradients(ours)(*arguments), gradients(plain)(*arguments))


@pytest.mark.parametrize("name", ["conv", "conv_transpose"])
def test_vmap_over_kernels(name):
    ours, plain, x, kernel = ours_and_plain(name, CASES[1])
    kernels = jnp.stack([kernel, 2 * kernel - 1])
    batched = jax.jit(jax.vmap(gradients(ours), (None, 0)))(x, kernels)
    one_by_one = [gradients(plain)(x, w) for w in kernels]
    assert_close(batched, jax.tree.map(lambda *parts: jnp.stack(parts), *one_by_one))


def test_inside_a_scan():
    ours, plain, x, kernel = ours_and_plain("conv_transpose", CASES[1])

    def descend(f):
        def body(w, _):
            return w - 0.01 * gradients(f)(x, w)[1], None

        return jax.jit(lambda w: lax.scan(body, w, length=3)[0])(kernel)

    assert_close(descend(ours), descend(plain))


@pytest.mark.parametrize("k", [4, 5])
def test_every_convolution_in_a_loop_has_the_fast_layout(k):
    """Inside a loop XLA:CPU takes convolutions as they are written, and runs other layouts much slower."""
    x, kernel = jnp.zeros((2, 16, 16, 16)), jnp.zeros((k, k, 16, 8))

    def loss(x, kernel):
        y = convolution.conv(x, kernel, 2)
        return jnp.sum(convolution.conv_transpose(jnp.sin(y), kernel, 2) ** 2)

    def body(carry, _):
        return jax.tree.map(lambda a, g: a - g, carry, jax.grad(loss, (0, 1))(*carry)), None

    text = jax.jit(lambda *carry: lax.scan(body, carry, length=3)[0]).lower(x, kernel).compile().as_text()
    assert set(re.findall(r"convolution\(.*dim_labels=(\S+?)[,\s]", text)) == {"b01f_01io->b01f"}


@pytest.mark.parametrize("groups", [1, 2, 10])
@pytest.mark.parametrize("cache", [1, 2 * 9 * 6 * 35 * 4, 10**9])
def test_the_kernel_s_derivative_in_parts_of_the_batch_is_that_of_all(cache, groups, monkeypatch):
    """One picture, two and all six at a time; groups written out and in a loop."""
    draws = np.random.default_rng(0)
    x, y = (jnp.asarray(draws.normal(size=(6, 7, 5, channels * groups)), jnp.float32) for channels in (6, 8))
    expected = convolution._grouped_kernel_product_plain(3, groups, x, y)
    monkeypatch.setattr(convolution, "CACHE", cache)
    in_parts = partial(convolution._kernel_product_in_parts, (7, 5), 3, groups)
    text = str(jax.make_jaxpr(in_parts)(x, y))
    loops = {1: ["6"], 10**9: []}.get(cache, ["3"]) + (["10"] if groups > convolution.FEW_GROUPS else [])
    assert sorted(re.findall(r"length=(\d+)", text)) == sorted(loops)
    np.testing.assert_allclose(jax.jit(in_parts)(x, y), expected, rtol=1e-5, atol=1e-4)


def test_small_pictures_are_matrix_products():
    """XLA:CPU swaps picture and kernel when the kernel is the larger, and is then far slower."""
    x, kernel = jnp.zeros((2, 8, 8, 16)), jnp.zeros((5, 5, 16, 8))
    for function, picture in ((convolution.conv, x), (convolution.conv_transpose, jnp.zeros((2, 4, 4, 8)))):
        program = jax.jit(gradients(lambda x, w, f=function: f(x, w, 2)))
        assert "convolution(" not in program.lower(picture, kernel).compile().as_text()


def test_pointwise_equals_a_matrix_product_to_the_second_derivative():
    draws = np.random.default_rng(0)
    x, kernel = (jnp.asarray(draws.normal(size=size), jnp.float32) for size in [(2, 3, 5, 4), (4, 6)])

    def three(f):
        return f(x, kernel), gradients(f)(x, kernel), second_gradients(f)(x, kernel)

    assert_close(*jax.jit(lambda: (three(convolution.pointwise), three(jnp.matmul)))())


def test_pointwise_turns_no_picture_around_on_cpu():
    """XLA:CPU writes the turned operand out where pixels have several axes, element by element."""
    x, y, kernel = jnp.zeros((4, 28, 28, 16)), jnp.zeros((4, 28, 28, 32)), jnp.zeros((16, 32))

    def written(f):
        product = jax.jit(jax.grad(lambda w, x, y: jnp.sum(jnp.maximum(f(x, w), y) ** 2)))
        return re.findall(r"= f32\[(?:16|32),3136\]\{1,0\}", product.lower(kernel, x, y).compile().as_text())

    assert not written(convolution.pointwise)
    assert written(jnp.matmul), "XLA does not do it any more: pointwise may go"


def test_other_platforms_get_one_plain_product():
    x, kernel = jnp.zeros((2, 8, 8, 16)), jnp.zeros((16, 8))
    program = jax.jit(gradients(convolution.pointwise)).trace(x, kernel)
    text = program.lower(lowering_platforms=("tpu",)).as_text()
    assert text.count("stablehlo.dot_general") == 3
    assert "stablehlo.reshape" not in text


@pytest.mark.parametrize("k", [3, 4, 5])
def test_no_dilated_input_on_cpu(k):
    """What this file avoids: by a dilated input XLA multiplies by zeros or takes a slower routine."""
    y, kernel = jnp.zeros((2, 8, 8, 16)), jnp.zeros((k, k, 8, 16))
    program = jax.jit(gradients(lambda y, w: convolution.conv_transpose(y, w, 2)))
    assert "lhs_dilate" not in program.lower(y, kernel).compile().as_text()


def test_other_platforms_get_the_plain_form():
    y, kernel = jnp.zeros((2, 8, 8, 16)), jnp.zeros((4, 4, 8, 16))
    program = jax.jit(lambda y, w: convolution.conv_transpose(y, w, 2)).trace(y, kernel)
    for platform in ("cuda", "tpu"):
        text = program.lower(lowering_platforms=(platform,)).as_text()
        assert text.count("stablehlo.convolution") == 1
        assert "lhs_dilate = [2, 2]" in text


@pytest.mark.parametrize("name", ["conv", "conv_transpose"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_forms_for_gpu_equal_lax_to_the_second_derivative(name, case, monkeypatch):
    for form in ("transpose", "kernel_product"):
        monkeypatch.setattr(convolution, f"_{form}_on_cpu", getattr(convolution, f"_{form}_on_gpu"))
    test_equals_lax_to_the_second_derivative(name, case)


@pytest.mark.parametrize("channels", [1, 8])
def test_gpu_sees_a_turned_kernel(channels):
    """By this XLA:GPU knows the derivative in x; nothing may stand between the two, as a reshape of one channel did."""
    y, kernel = jnp.zeros((2, 8, 8, 16)), jnp.zeros((4, 4, channels, 16))
    program = jax.jit(lambda y, w: convolution.conv_transpose(y, w, 2)).trace(y, kernel)
    text = program.lower(lowering_platforms=("cuda",)).as_text()
    turned = re.search(r"(%\w+) = stablehlo.reverse %\w+, dims = \[0, 1\]", text)[1]
    assert re.search(rf"stablehlo.convolution\(%\w+, {turned}\)", text)


def test_gpu_multiplies_small_pictures_as_matrices():
    """As convolutions, XLA:GPU exchanges picture and kernel and multiplies by the zeros of a dilated picture."""
    y, kernel = jnp.zeros((2, 4, 4, 16)), jnp.zeros((5, 5, 8, 16))
    program = jax.jit(gradients(lambda y, w: convolution.conv_transpose(y, w, 2))).trace(y, kernel)
    for platform, convolutions in [("cuda", 1), ("tpu", 3)]:  # the derivative in y is a convolution of 8x8 pixels
        text = program.lower(lowering_platforms=(platform,)).as_text()
        assert text.count("stablehlo.convolution") == convolutions


@pytest.mark.parametrize(
    ("groups", "channels", "form"), [(1, 5, "cpu"), (2, 5, "cpu"), (10, 5, "cpu"), (2, 3, "cpu"), (2, 3, "default")]
)
def test_grouped_convolution_and_its_derivatives_are_those_of_lax(groups, channels, form, monkeypatch):
    if form == "default":
        monkeypatch.setattr(convolution, "_grouped_on_cpu", convolution._grouped_plain)
        monkeypatch.setattr(
            convolution, "_grouped_kernel_product_on_cpu", convolution._grouped_kernel_product_plain
        )
    draws = np.random.default_rng(0)
    x, kernel, y = (
        jnp.asarray(draws.normal(size=size), jnp.float32)
        for size in [(2, 4, 5, channels * groups), (3, 3, channels, 6 * groups), (2, 4, 5, 6 * groups)]
    )

    def plain(x, kernel):
        return lax.conv_general_dilated(
            x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=groups
        )

    def derivatives(conv):
        def first(x, kernel):
            return jax.vjp(conv, x, kernel)[1](y * conv(x, kernel))

        def second(x, kernel):
            return sum(jnp.sum(jnp.sin(d)) for d in first(x, kernel))

        return conv(x, kernel), first(x, kernel), jax.grad(second, (0, 1))(x, kernel)

    found, expected = jax.jit(lambda: (derivatives(convolution.grouped_conv), derivatives(plain)))()
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4 * np.max(np.abs(b))), found, expected
    )
