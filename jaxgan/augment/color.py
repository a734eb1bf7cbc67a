"""Colours of the pipe of StyleGAN2-ADA: one affine map of the pixel's three numbers.

Brightness b adds; contrast c scales; the luma flip mirrors about the plane that is perpendicular to the grey axis
v = (1, 1, 1) / sqrt 3; hue turns about v by an angle; saturation s scales what is perpendicular to v. With P = v v^T,
the rotation's generator K and f = -1 where the luma is flipped, else 1, the product of the five matrices is

    L = c (f P + s (cos(angle) (I - P) + sin(angle) K)),    y = L x + c f b (1, 1, 1).
"""

import math

import jax.numpy as jnp
import numpy as np
from jax import Array

GREY = np.full((3, 3), 1 / 3, np.float32)
ACROSS = np.eye(3, dtype=np.float32) - GREY
TURN = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]], np.float32) / np.float32(math.sqrt(3))


def color_matrix(brightness: Array, contrast: Array, flipped: Array, hue: Array, saturation: Array) -> Array:
    """The homogeneous matrix `[B, 4, 4]` of the five operations, each `[B]`."""
    brightness, contrast, hue, saturation = (a[:, None, None] for a in (brightness, contrast, hue, saturation))
    sign = jnp.where(flipped, -1.0, 1.0)[:, None, None]
    across = jnp.cos(hue) * ACROSS[None] + jnp.sin(hue) * TURN[None]
    linear = contrast * (sign * GREY[None] + saturation * across)
    shift = jnp.broadcast_to(contrast * sign * brightness, (len(linear), 3, 1))
    upper = jnp.concatenate([linear, shift], axis=2)
    last = jnp.broadcast_to(jnp.asarray([[[0.0, 0.0, 0.0, 1.0]]]), (len(linear), 1, 4))
    return jnp.concatenate([upper, last], axis=1)


def recolor(x: Array, matrix: Array) -> Array:
    """Pictures `[B, H, W, C]` under `matrix [B, 4, 4]`; grey ones (C = 1) get the luma of what it makes of grey."""
    linear, shift = matrix[:, None, None, :3, :3], matrix[:, None, None, :3, 3]
    if x.shape[3] == 1:
        return x * jnp.mean(jnp.sum(linear, axis=4), axis=3, keepdims=True) + jnp.mean(shift, axis=3, keepdims=True)
    # Three multiplications for each number: as a product of matrices this would be slower on CPU and imprecise on TPU.
    return sum(x[..., i, None] * linear[..., i] for i in range(3)) + shift
