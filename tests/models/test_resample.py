import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan.errors import ConfigError
from jaxgan.models import resample

TAPS = np.outer([1, 3, 3, 1], [1, 3, 3, 1]) / 64


def upfirdn(x, up=1, down=1, pad=(0, 0), gain=1.0):
    """By definition: zeros between the pixels and around them, the filter at each pixel, every `down`-th of those."""
    batch, height, width, channels = x.shape
    zeros = np.zeros((batch, height * up, width * up, channels))
    zeros[:, ::up, ::up] = x
    padded = np.pad(zeros, ((0, 0), pad, pad, (0, 0)))
    rows, columns = padded.shape[1] - 3, padded.shape[2] - 3
    out = np.zeros((batch, rows, columns, channels))
    for i in range(rows):
        for j in range(columns):
            out[:, i, j] = gain * np.einsum("bklc,kl->bc", padded[:, i : i + 4, j : j + 4], TAPS)
    return out[:, ::down, ::down]


def valid(x, kernel, stride=1):
    """Convolution without padding, window by window."""
    rows, columns = ((n - 3) // stride + 1 for n in x.shape[1:3])
    out = np.zeros((len(x), rows, columns, kernel.shape[-1]))
    for i in range(rows):
        for j in range(columns):
            window = x[:, i * stride : i * stride + 3, j * stride : j * stride + 3]
            out[:, i, j] = np.einsum("bklc,klco->bo", window, kernel)
    return out


def upsample_conv(x):
    kernel = np.random.default_rng(1).normal(size=(3, 3, 2, x.shape[-1]))
    turned = kernel[::-1, ::-1].swapaxes(2, 3)
    expected = valid(upfirdn(x, up=2, pad=(3, 2), gain=4.0), turned)
    return (lambda x: resample.upsample_conv(x, jnp.asarray(kernel, x.dtype))), expected


def downsample_conv(x):
    kernel = np.random.default_rng(2).normal(size=(3, 3, x.shape[-1], 2))
    expected = valid(upfirdn(x, pad=(2, 2)), kernel, stride=2)
    return (lambda x: resample.downsample_conv(x, jnp.asarray(kernel, x.dtype))), expected


CASES = {
    "upsample": lambda x: (resample.upsample, upfirdn(x, up=2, pad=(2, 1), gain=4.0)),
    "downsample": lambda x: (resample.downsample, upfirdn(x, down=2, pad=(1, 1))),
    "blur": lambda x: (lambda x: resample.blur(x, 2, 3), upfirdn(x, pad=(2, 3))),
    "upsample_conv": upsample_conv,
    "downsample_conv": downsample_conv,
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("size", [(4, 6), (2, 2)])
def test_equal_to_the_definition_by_inserted_zeros(name, size):
    x = np.random.default_rng(0).normal(size=(2, *size, 3))
    function, expected = CASES[name](x)
    out = jax.jit(function)(jnp.asarray(x, jnp.float32))
    assert out.shape == expected.shape and out.dtype == jnp.float32
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_second_derivatives_are_those_of_the_matrix(name):
    """The gradient of |gradient of sum f(A x)|^2, where A is the definition's matrix."""
    x = np.random.default_rng(0).normal(size=(1, 2, 4, 2))
    function, _ = CASES[name](x)
    columns = [CASES[name](unit.reshape(x.shape))[1].ravel() for unit in np.eye(x.size)]
    a = np.stack(columns, axis=1)

    def slope(x):
        return jnp.sum(jax.grad(lambda x: jnp.sum(jnp.tanh(function(x))))(x) ** 2)

    y = np.tanh(a @ x.ravel())
    expected = 2 * a.T @ (-2 * y * (1 - y**2) * (a @ (a.T @ (1 - y**2))))
    found = jax.jit(jax.grad(slope))(jnp.asarray(x, jnp.float32))
    np.testing.assert_allclose(found.ravel(), expected, rtol=1e-4, atol=1e-4 * np.max(np.abs(expected)))


@pytest.mark.parametrize("name", CASES)
def test_the_type_is_kept(name):
    x = np.random.default_rng(0).normal(size=(2, 4, 4, 2))
    function, expected = CASES[name](x)
    out = jax.jit(function)(jnp.asarray(x, jnp.bfloat16))
    assert out.dtype == jnp.bfloat16
    np.testing.assert_allclose(out.astype(jnp.float32), expected, atol=0.02 * np.max(np.abs(expected)))


def test_one_direction_is_the_others_transpose():
    x, y = (jax.random.normal(jax.random.key(i), shape) for i, shape in enumerate([(2, 6, 4, 3), (2, 12, 8, 3)]))
    up, down = jax.jit(resample.upsample)(x), jax.jit(resample.downsample)(y)
    np.testing.assert_allclose(np.vdot(up, y), 4 * np.vdot(x, down), rtol=1e-4)


def test_a_constant_stays_inside():
    def resampled(x):
        return resample.upsample(x), resample.downsample(x), resample.blur(x, 2, 1)

    for out in jax.jit(resampled)(jnp.ones((1, 8, 8, 1))):
        np.testing.assert_allclose(np.asarray(out)[:, 2:-2, 2:-2], 1.0, rtol=1e-6)


@pytest.mark.parametrize(
    ("size", "stages", "base"),
    [((32, 32), 4, (4, 4)), ((28, 28), 3, (7, 7)), ((16, 8), 3, (4, 2)), ((5, 3), 1, (5, 3))],
)
def test_smallest_maps(size, stages, base):
    assert resample.base_size((*size, 1), stages, "it") == base


@pytest.mark.parametrize(
    ("size", "stages", "nearest"), [((28, 28), 4, "32x32"), ((30, 28), 3, "32x28"), ((4, 4), 3, "8x8")]
)
def test_sizes_that_cannot_be_made(size, stages, nearest):
    message = f"it: {stages} stages.*multiples of {2 ** (stages - 1)}.*Nearest is {nearest}"
    with pytest.raises(ConfigError, match=message):
        resample.base_size((*size, 1), stages, "it")


def test_points_are_no_pictures():
    with pytest.raises(ConfigError, match=r"it: needs pictures.*\(2,\)"):
        resample.base_size((2,), 4, "it")
