"""Twice or half the pixels, through the filter [1, 3, 3, 1] in each direction: FIR resampling of pictures.

Karras et al., "Analyzing and improving the image quality of StyleGAN", 2020, and "Alias-free generative adversarial
networks", 2021 (upfirdn): insert zeros, filter, drop pixels; beyond the border is zero. R3GAN resamples so too.

Everything is written as shifts and additions of whole pictures, one direction after the other. On a CPU a depthwise
convolution, which says the same, took 40 to 130 times as long (jax 0.10; [16, 16, 16, 64], either direction, and
the second derivative of both); on GPU and TPU the compiler fuses the additions into a pass or two over the memory.

Pictures are [B, H, W, C] of any float type, which the result keeps.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax

from jaxgan.models import convolution
from jaxgan.models.layers import smallest_map

NEAR, FAR = 3 / 8, 1 / 8  # the filter [1, 3, 3, 1], of sum 1
ROWS, COLUMNS = 1, 2


def base_size(shape: Sequence[int], stages: int, family: str) -> tuple[int, int]:
    """(H, W) of the smallest feature map of a network whose `stages` resolutions end in pictures `shape` = (H, W, C).

    Raises:
        ConfigError: H or W is no multiple of 2**(stages - 1), or the smallest map would have a side under 2. The
            message begins with `family` and names the sizes that would do, and the nearest.
    """
    return smallest_map(family, f"{stages} stages", shape, 2 ** (stages - 1), "the number of widths")


def upsample(x: jax.Array) -> jax.Array:
    """[B, H, W, C] -> [B, 2H, 2W, C]: zeros between the pixels, the filter, gain 4. Inside, bilinear interpolation."""
    return _up(_up(x, ROWS), COLUMNS)


def downsample(x: jax.Array) -> jax.Array:
    """[B, H, W, C] -> [B, H/2, W/2, C]: the filter, then every second pixel. A quarter of `upsample`'s transpose."""
    return _down(_down(x, ROWS), COLUMNS)


def blur(x: jax.Array, before: int, after: int) -> jax.Array:
    """The filter over x with so many zeros around it: [B, H, W, C] -> [B, H', W', C], H' = H + before + after - 3."""
    for axis in (ROWS, COLUMNS):
        padded = _pad(x, axis, before, after)
        n = padded.shape[axis] - 3
        a, b, c, d = (lax.slice_in_dim(padded, i, i + n, axis=axis) for i in range(4))
        x = FAR * (a + d) + NEAR * (b + c)
    return x


def upsample_conv(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """`upsample`, then a convolution: [B, H, W, C], [3, 3, O, C] -> [B, 2H, 2W, O].

    The order is turned around, which spares three quarters of the products: a transposed convolution (whose kernel
    this is), then the filter. It equals the upsampled picture, as it goes on beyond its border, convolved "VALID"
    with the kernel turned around.
    """
    # With a zero behind the last pixel the transpose holds all 2n + 1 pixels that come of n, and one that is zero.
    x = convolution.conv_transpose(_pad(_pad(x, ROWS, 0, 1), COLUMNS, 0, 1), kernel, 2)
    return 4.0 * blur(_apart(x)[:, :-1, :-1], 1, 1)


def downsample_conv(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """A convolution, then `downsample`: [B, H, W, C], [3, 3, C, O] -> [B, H/2, W/2, O], H and W even.

    The filter comes first, so that the convolution has stride 2; the filtered picture goes on beyond its border.
    """
    height, width = x.shape[1] // 2, x.shape[2] // 2
    # "SAME" takes its first window at the first pixel of this even size, and one window too many at the end.
    return convolution.conv(blur(x, 2, 3), kernel, 2)[:, :height, :width]


def _up(x, axis):
    """Twice as many along the axis: pixel i lies between the new ones 2i and 2i + 1."""
    n, padded = x.shape[axis], _pad(x, axis, 1, 1)
    before, after = lax.slice_in_dim(padded, 0, n, axis=axis), lax.slice_in_dim(padded, 2, n + 2, axis=axis)
    pairs = jnp.stack([2 * FAR * before + 2 * NEAR * x, 2 * NEAR * x + 2 * FAR * after], axis + 1)
    return pairs.reshape(*x.shape[:axis], 2 * n, *x.shape[axis + 1 :])


def _down(x, axis):
    """Half as many along the axis. By pairs: strided slices have slow derivatives."""
    n = x.shape[axis] // 2
    pairs = x.reshape(*x.shape[:axis], n, 2, *x.shape[axis + 1 :])
    even, odd = (lax.index_in_dim(pairs, i, axis + 1, keepdims=False) for i in range(2))
    before = lax.slice_in_dim(_pad(odd, axis, 1, 0), 0, n, axis=axis)
    after = lax.slice_in_dim(_pad(even, axis, 0, 1), 1, n + 1, axis=axis)
    return FAR * (before + after) + NEAR * (even + odd)


def _pad(x, axis, before, after):
    return lax.pad(x, jnp.zeros((), x.dtype), [(before, after, 0) if i == axis else (0, 0, 0) for i in range(x.ndim)])


@jax.custom_vjp
def _apart(x):
    """x, whose cotangent is not fused with what it comes from.

    XLA:CPU would compute the transposed filter again for each of the layouts and windows in which the derivatives of a
    convolution read it: `upsample_conv` and its derivatives would take three times as long.
    """
    return x


_apart.defvjp(lambda x: (x, None), lambda _, y: (_apart(lax.optimization_barrier(y)),))
