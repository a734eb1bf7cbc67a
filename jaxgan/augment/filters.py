"""Filters of the pipe of StyleGAN2-ADA as matrices along one axis, its reflected edges included.

A picture continues past its edges mirrored about the middle of its outermost pixels, as often as is needed
(`numpy.pad`'s "reflect"). The matrices are built on the host from sizes alone and become constants of the program.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

# Orthogonal low-pass filters (Daubechies 1992): sym2 in closed form, sym6 the least asymmetric of 6 vanishing moments.
SYM2 = np.array([1 - math.sqrt(3), 3 - math.sqrt(3), 3 + math.sqrt(3), 1 + math.sqrt(3)]) / (4 * math.sqrt(2))
SYM6 = np.array(
    [
        0.015404109327027373,
        0.0034907120842174702,
        -0.11799011114819057,
        -0.048311742585633,
        0.4910559419267466,
        0.787641141030194,
        0.3379294217276218,
        -0.07263752278646252,
        -0.021060292512300564,
        0.04472490177066578,
        0.0017677118642428036,
        -0.007800708325034148,
    ]
)
LEAD = 5  # taps of SYM6 before the one that stands on a pixel
# SYM6 is not symmetric: where the middle of its mass comes to stand, in samples of the doubled picture. Sample m of it
# shows position (m - OFFSET) / 2 of the picture, so that what is turned stays in place, not off by a fifth of a pixel.
OFFSET = float(SYM6 @ np.arange(len(SYM6)) / SYM6.sum()) - LEAD


def reflected(index: np.ndarray, size: int) -> np.ndarray:
    """The pixel that stands at `index`, any integer, of a row that is reflected for ever."""
    period = max(1, 2 * (size - 1))
    index = np.mod(index, period)
    return np.minimum(index, (period - index) % period)


@functools.cache
def doubling(size: int) -> np.ndarray:
    """`[4 (size - 1) + 1, size]`: the row at twice its resolution, one period of its reflections and a sample more."""
    samples = max(2, 4 * (size - 1)) + 1
    sample, tap = np.indices((samples, len(SYM6)))
    index = sample + LEAD - tap  # in the row with a zero after each pixel
    weights = np.where(index % 2, 0.0, math.sqrt(2) * SYM6[tap])
    return _matrix(weights, index // 2, size)


@functools.cache
def halving(size: int) -> np.ndarray:
    """`[size, 2 size + 10]`: back from samples -5 ... 2 size + 4 of the doubled row; the inverse of the doubling."""
    matrix = np.zeros((size, 2 * size + len(SYM6) - 2))
    for row in range(size):
        matrix[row, 2 * row : 2 * row + len(SYM6)] = SYM6 / math.sqrt(2)
    return matrix.astype(np.float32)


def band_filters() -> np.ndarray:
    """Four symmetric filters `[4, 43]` that pass 0 to pi/8, to pi/4, to pi/2 and to pi, and add up to doing nothing.

    One octave is split by |H(w)|^2 / 2 and |H(w + pi)|^2 / 2 of the sym2 filter H, which add up to 1; the lower half is
    split again with the same filters spread by 2.
    """
    low = np.convolve(SYM2, SYM2[::-1]) / 2
    high = low * np.where(np.arange(len(low)) % 2, 1.0, -1.0)  # the middle one of 7 taps is number 3
    low_pass, bands = np.ones(1), []
    for octave in range(3):
        spread = np.zeros((2, 2**octave * (len(low) - 1) + 1))
        spread[:, :: 2**octave] = low, high
        bands.append(np.convolve(low_pass, spread[1]))
        low_pass = np.convolve(low_pass, spread[0])
    bands.append(low_pass)
    width = len(low_pass)
    return np.stack([np.pad(band, (width - len(band)) // 2) for band in reversed(bands)])


@functools.cache
def band_matrices(size: int) -> np.ndarray:
    """`[4, size, size]`: the band filters on a reflected row."""
    bands = band_filters()
    row, tap = np.indices((size, bands.shape[1]))
    index = row + tap - bands.shape[1] // 2
    return np.stack([_matrix(taps[tap], index, size) for taps in bands])


def _matrix(weights: np.ndarray, index: np.ndarray, size: int) -> np.ndarray:
    """The matrix `[rows, size]` that weighs, in each row, the pixels at `index [rows, taps]` of a reflected row."""
    matrix = np.zeros((len(weights), size))
    np.add.at(matrix, (np.arange(len(weights))[:, None], reflected(index, size)), weights)
    return matrix.astype(np.float32)


def along_both(rows: Array, columns: Array, x: Array) -> Array:
    """`rows` onto the first axis and `columns` onto the second of pictures `[B, H, W, C]`; one for all, or `[B]`."""
    batch = "b" if rows.ndim == 3 else ""
    # "highest": TPUs and some GPUs would otherwise multiply with fewer bits than the pictures have.
    x = jnp.einsum(f"{batch}vy,byxc->bvxc", rows, x, precision="highest")
    return jnp.einsum(f"{batch}ux,bvxc->bvuc", columns, x, precision="highest")


def amplify(x: Array, gains: Array) -> Array:
    """Pictures `[B, H, W, C]` with `gains [B, 4]` of their bands of frequency, lowest first, along both axes."""

    def matrices(size):
        return jnp.einsum("bk,kij->bij", gains, jnp.asarray(band_matrices(size)), precision="highest")

    return along_both(matrices(x.shape[1]), matrices(x.shape[2]), x)


def band_gains(amplitudes: Array) -> Array:
    """The gains `[4]` that amplify band i by `amplitudes[i]` and normalise the power, for one band after the other.

    What counts as power is a typical picture's, whose spectrum falls off as 1 / f: (10, 1, 1, 1) / 13 of the bands.
    """
    power = jnp.asarray([10 / 13, 1 / 13, 1 / 13, 1 / 13])
    each_alone = jnp.where(jnp.eye(4, dtype=bool), amplitudes[None], 1.0)
    total = jnp.sum(power[None] * jnp.square(each_alone), axis=1, keepdims=True)
    return jnp.prod(each_alone * jax.lax.rsqrt(total), axis=0)
