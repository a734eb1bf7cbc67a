"""What data sets and consistency penalties use: mirroring, shifts and noise."""

import jax
import jax.numpy as jnp
from jax import Array

from jaxgan.augment.keys import each


def flip(key: Array, x: Array) -> Array:
    """Pictures `[B, H, W, C]`, each mirrored left to right with probability 1/2."""
    mirrored = each(jax.random.bernoulli, key, len(x))
    return jnp.where(mirrored[:, None, None, None], x[:, :, ::-1], x)


def shift(key: Array, x: Array, pixels: int = 4) -> Array:
    """Pictures `[B, H, W, C]`, each moved by up to `pixels` in both directions; what comes in is reflected.

    Raises:
        ValueError: the pictures are too small to be reflected that far.
    """
    height, width, channels = x.shape[1:]
    if pixels >= min(height, width):
        raise ValueError(f"pictures of {height}x{width} cannot be shifted by {pixels} pixels")
    padded = jnp.pad(x, ((0, 0), (pixels, pixels), (pixels, pixels), (0, 0)), mode="reflect")
    corner = each(lambda k: jax.random.randint(k, (2,), 0, 2 * pixels + 1), key, len(x))

    def cut(picture, at):
        return jax.lax.dynamic_slice(picture, (at[0], at[1], 0), (height, width, channels))

    return jax.vmap(cut)(padded, corner)


def noise(key: Array, x: Array, std: float) -> Array:
    """Anything `[B, ...]` plus N(0, std) in each number."""
    return x + (std * each(lambda k: jax.random.normal(k, x.shape[1:]), key, len(x))).astype(x.dtype)
