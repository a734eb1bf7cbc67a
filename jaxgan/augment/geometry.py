"""Moves of the pipe of StyleGAN2-ADA: exact ones of whole pixels, and any affine map with a low-pass filter around it.

Coordinates are (x to the right, y down) in pixels from the picture's middle. Past its edges a picture is reflected.
"""

import jax
import jax.numpy as jnp
from jax import Array

from jaxgan.augment.filters import LEAD, OFFSET, along_both, doubling, halving


def blit(x: Array, mirrored: Array, turns: Array, pixels: Array) -> Array:
    """Pictures mirrored left to right, turned left by 90 degrees `turns [B]` times, moved by `pixels [B, 2]` (x, y).

    Pixels are copied as they are. Turns that are not square want sides that are both even or both odd.
    """
    height, width, channels = x.shape[1:]

    def copied(picture, mirrored, turns, pixels):
        # Twice the coordinates, so that the middle of an even number of pixels is a whole number too.
        right = 2 * jnp.arange(width)[None, :] - (width - 1) - 2 * pixels[0]
        down = 2 * jnp.arange(height)[:, None] - (height - 1) - 2 * pixels[1]
        cos, sin = jnp.asarray([1, 0, -1, 0])[turns], jnp.asarray([0, 1, 0, -1])[turns]
        right, down = cos * right - sin * down, sin * right + cos * down
        right = jnp.where(mirrored, -right, right)
        column = _reflected((right + width - 1) // 2, width)
        row = _reflected((down + height - 1) // 2, height)
        return picture.reshape(-1, channels).at[row * width + column].get(mode="promise_in_bounds")

    return jax.vmap(copied)(x, mirrored, turns, pixels)


def _reflected(index: Array, size: int) -> Array:
    period = max(1, 2 * (size - 1))
    index = jnp.mod(index, period)
    return jnp.minimum(index, (period - index) % period)


def blit_inverse(mirrored: Array, turns: Array, pixels: Array) -> Array:
    """The map `[3, 3]` from where `blit` puts a point to where it was; of one example."""
    turned = rotation(turns.astype(jnp.float32) * (jnp.pi / 2))
    return product(scaling(jnp.where(mirrored, -1.0, 1.0), 1.0), turned, translation(-pixels.astype(jnp.float32)))


def warp_inverse(scale: Array, before: Array, stretch: Array, after: Array, move: Array) -> Array:
    """The inverse `[3, 3]` of: scale, turn left, stretch x and squeeze y, turn left again, move; of one example."""
    return product(
        scaling(1 / scale, 1 / scale),
        rotation(before),
        scaling(1 / stretch, stretch),
        rotation(after),
        translation(-move),
    )


def rotation(angle: Array) -> Array:
    """Turns right by an angle, as y points down; so as an inverse it undoes a turn to the left."""
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    return _affine([[cos, -sin, 0.0], [sin, cos, 0.0]])


def scaling(x: Array | float, y: Array | float) -> Array:
    return _affine([[x, 0.0, 0.0], [0.0, y, 0.0]])


def translation(by: Array) -> Array:
    return _affine([[1.0, 0.0, by[0]], [0.0, 1.0, by[1]]])


def product(*matrices: Array) -> Array:
    """Their product, the last one applied first."""
    total = matrices[0]
    for matrix in matrices[1:]:
        total = jnp.matmul(total, matrix, precision="highest")
    return total


def _affine(rows) -> Array:
    return jnp.stack([jnp.stack([jnp.asarray(a, jnp.float32) for a in row]) for row in [*rows, [0.0, 0.0, 1.0]]])


def warp(x: Array, inverse: Array) -> Array:
    """Pictures `[B, H, W, C]` whose pixel at point p shows what was at `inverse [B, 3, 3]` times p.

    As in the paper (Appendix B.1): the picture is doubled with the sym6 low-pass filter, looked up bilinearly at twice
    the resolution and halved with the filter's mirror image; the identity gives the picture back to rounding.
    """
    height, width = x.shape[1:3]
    table = along_both(doubling(height), doubling(width), x)
    at_x, at_y = _points(width)[None, None, :], _points(height)[None, :, None]

    def source(coefficients, size):
        a, b, c = (coefficients[:, i, None, None] for i in range(3))
        sample = 2 * (a * at_x + b * at_y + c) + (size - 1 + OFFSET)
        whole = jnp.floor(sample)
        return jnp.mod(whole.astype(jnp.int32), len(doubling(size)) - 1), sample - whole

    (column, right), (row, down) = source(inverse[:, 0], width), source(inverse[:, 1], height)
    looked_up = _bilinear(table, row, column, down[..., None], right[..., None])
    return along_both(halving(height), halving(width), looked_up)


def _points(size: int) -> Array:
    """Where the samples lie that the halving takes in, in pixels from the picture's middle."""
    samples = halving(size).shape[1]
    return (jnp.arange(samples, dtype=jnp.float32) - LEAD - OFFSET - (size - 1)) / 2


def _bilinear(table: Array, row: Array, column: Array, down: Array, right: Array) -> Array:
    """Between the four samples around a place. One lookup of all four: its gradient is then one scatter, not four."""
    batch, _, wide, channels = table.shape
    first = row * wide + column
    corners = jnp.stack([first, first + 1, first + wide, first + wide + 1], axis=1)
    at = jax.vmap(lambda t, i: t.at[i].get(mode="promise_in_bounds"))(table.reshape(batch, -1, channels), corners)
    upper = at[:, 0] * (1 - right) + at[:, 1] * right
    lower = at[:, 2] * (1 - right) + at[:, 3] * right
    return upper * (1 - down) + lower * down
