"""DiffAugment (Zhao et al. 2020, Differentiable Augmentation for Data-Efficient GAN Training, section 3.2).

The same random, differentiable changes go onto what the discriminator sees of both kinds, in its own step and in the
generator's. The ranges are the paper's, for pictures in [-1, 1].
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import Array

from jaxgan.augment.keys import each, keys_of


def diff_augment(key: Array, x: Array, policy: Sequence[str] | str = ("color", "translation", "cutout")) -> Array:
    """Pictures `[B, H, W, C]` in [-1, 1], changed by the policy's operations in its order; they may leave [-1, 1].

    "color": brightness, saturation and contrast; "translation": by up to 1/8 of the sides, zeros come in; "cutout": a
    rectangle of half the sides becomes zeros. A string names them with commas, as the paper's tables do.

    Raises:
        ValueError: an operation that is not one of these.
    """
    policy = [name.strip() for name in policy.split(",") if name.strip()] if isinstance(policy, str) else policy
    unknown = [name for name in policy if name not in OPERATIONS]
    if unknown:
        raise ValueError(f"DiffAugment knows {', '.join(OPERATIONS)}, not {', '.join(map(repr, unknown))}")
    keys, streams = keys_of(key, len(x)), list(OPERATIONS)
    out = x.astype(jnp.float32)
    for name in policy:
        # An operation's draws are the same whichever others the policy has.
        own = jax.vmap(jax.random.fold_in, (0, None))(keys, streams.index(name))
        out = OPERATIONS[name](own, out)
    return out.astype(x.dtype)


def _color(key: Array, x: Array) -> Array:
    draws = each(lambda k: jax.random.uniform(k, (3,)), key, len(x))
    return jitter(x, draws[:, 0] - 0.5, 2.0 * draws[:, 1], draws[:, 2] + 0.5)


def jitter(x: Array, brightness: Array, saturation: Array, contrast: Array) -> Array:
    """Adds `brightness [B]`, scales what differs from the pixel's grey, then what differs from the picture's mean.

    A grey picture has no saturation: its one channel is its grey.
    """
    brightness, saturation, contrast = (a[:, None, None, None] for a in (brightness, saturation, contrast))
    x = x + brightness
    grey = jnp.mean(x, axis=3, keepdims=True)
    x = grey + saturation * (x - grey) if x.shape[3] > 1 else x
    mean = jnp.mean(x, axis=(1, 2, 3), keepdims=True)
    return mean + contrast * (x - mean)


def _translation(key: Array, x: Array) -> Array:
    furthest = [int(side / 8 + 0.5) for side in x.shape[1:3]]
    least, most = -jnp.asarray(furthest), jnp.asarray(furthest) + 1

    def draw(k):
        return jax.random.randint(k, (2,), least, most)

    return translate(x, each(draw, key, len(x)), furthest)


def translate(x: Array, pixels: Array, furthest: Sequence[int]) -> Array:
    """Moves pictures by `pixels [B, 2]` down and to the right, at most `furthest` of each; zeros come in."""
    height, width, channels = x.shape[1:]
    down, right = furthest
    padded = jnp.pad(x, ((0, 0), (down, down), (right, right), (0, 0)))

    def cut(picture, by):
        return jax.lax.dynamic_slice(picture, (down - by[0], right - by[1], 0), (height, width, channels))

    return jax.vmap(cut)(padded, pixels)


def _cutout(key: Array, x: Array) -> Array:
    sides = [int(side / 2 + 0.5) for side in x.shape[1:3]]
    # The middle lies anywhere, edges of the picture included, so the rectangle may be cut off by them.
    ends = jnp.asarray([side + 1 - cut % 2 for side, cut in zip(x.shape[1:3], sides, strict=True)])

    def draw(k):
        return jax.random.randint(k, (2,), 0, ends)

    return cut_out(x, each(draw, key, len(x)), sides)


def cut_out(x: Array, middle: Array, sides: Sequence[int]) -> Array:
    """Zeros in a rectangle of `sides` around `middle [B, 2]` (row, column)."""

    def inside(axis):
        first = middle[:, axis, None] - sides[axis] // 2
        at = jnp.arange(x.shape[1 + axis])[None]
        return (at >= first) & (at < first + sides[axis])

    hidden = inside(0)[:, :, None, None] & inside(1)[:, None, :, None]
    return jnp.where(hidden, 0.0, x)


OPERATIONS: dict[str, Callable[[Array, Array], Array]] = {
    "color": _color,
    "translation": _translation,
    "cutout": _cutout,
}
