"""Resizing pictures as the published evaluations do: three conventions that give three different scores.

On pictures of 32x32 enlarged to 299x299 the first two differ by up to 154 of 255 in a pixel and by 1 % in Inception's
features, so the name of the convention belongs to every number that is reported.

- `"tf1"`: bilinear, output pixel i at i * scale of the input (no half-pixel centres), no antialiasing. TensorFlow 1's
  `resize_bilinear`, inside the graph of the original FID; torch-fidelity and StyleGAN's evaluation re-create it.
- `"torch"`: bilinear, output pixel i at (i + 1/2) * scale - 1/2, no antialiasing. `F.interpolate` in pytorch-fid.
- `"clean"`: bicubic (a = -1/2) with antialiasing, each channel in float, then cut to [0, 255], not rounded. Pillow's
  `Image.resize` of mode F, in clean-fid.

References:
    Parmar et al., On Aliased Resizing and Surprising Subtleties in GAN Evaluation, 2022.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np


def resize_tf1(pictures: jax.Array, size: int) -> jax.Array:
    """Bilinear without half-pixel centres or antialiasing: equal to the last bit to torch-fidelity's on a CPU.

    Args:
        pictures: `[B, H, W, C]`, values in [0, 255].
        size: of a side of the result.

    Returns:
        float32 `[B, size, size, C]`.
    """

    def positions(old):  # in float32, as TensorFlow computes them: float64 would round to other bits
        return np.arange(size, dtype=np.float32) * np.float32(old / size)

    return _bilinear(pictures, positions)


def resize_torch(pictures: jax.Array, size: int) -> jax.Array:
    """Bilinear with half-pixel centres, without antialiasing; arguments and result as for `resize_tf1`."""

    def positions(old):  # in float32 too: at the far side of a picture its rounding is what shows most
        half = np.float32(0.5)
        return np.maximum((np.arange(size, dtype=np.float32) + half) * np.float32(old / size) - half, np.float32(0.0))

    return _bilinear(pictures, positions)


def resize_clean(pictures: jax.Array, size: int) -> jax.Array:
    """Bicubic with antialiasing, cut to [0, 255]; arguments and result as for `resize_tf1`."""
    x = pictures.astype(jnp.float32)
    rows, columns = (_cubic_weights(old, size) for old in x.shape[1:3])
    # Pillow's order: along the width first. At full precision, or an accelerator rounds to a few bits.
    x = jnp.einsum("ow,bhwc->bhoc", columns, x, precision="highest")
    x = jnp.einsum("oh,bhwc->bowc", rows, x, precision="highest")
    return jnp.clip(x, 0.0, 255.0)


CONVENTIONS = {"tf1": resize_tf1, "torch": resize_torch, "clean": resize_clean}


def _bilinear(pictures, positions):
    x = pictures.astype(jnp.float32)
    for axis in (2, 1):  # along the width, then along the height
        old = x.shape[axis]
        where = positions(old)
        low = np.minimum(where.astype(np.int32), old - 1)
        high = np.minimum(low + 1, old - 1)
        weight = (where - low).reshape([-1 if a == axis else 1 for a in range(4)])
        below, above = jnp.take(x, low, axis), jnp.take(x, high, axis)
        # The product is smaller than 256, so the maximum changes nothing. It stands between product and sum because a
        # compiler that fuses them rounds once where the reference rounds twice, and the last bits differ.
        x = below + jnp.maximum((above - below) * weight, -256.0)
    return x


def _cubic_weights(old: int, new: int) -> np.ndarray:
    """`[new, old]`: Keys' cubic, stretched over the input pixels that an output pixel covers, rows of sum 1."""
    scale = old / new
    stretch = max(scale, 1.0)
    support = 2.0 * stretch
    weights = np.zeros((new, old))
    for i in range(new):
        centre = (i + 0.5) * scale
        first = max(math.floor(centre - support + 0.5), 0)
        last = min(math.floor(centre + support + 0.5), old)
        row = _cubic((np.arange(first, last) + 0.5 - centre) / stretch)
        weights[i, first:last] = row / row.sum()
    return weights.astype(np.float32)


def _cubic(x: np.ndarray, a: float = -0.5) -> np.ndarray:
    x = np.abs(x)
    near = ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    far = (((x - 5.0) * x + 8.0) * x - 4.0) * a
    return np.where(x < 1.0, near, np.where(x < 2.0, far, 0.0))
