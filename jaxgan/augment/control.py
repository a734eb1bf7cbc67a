"""The feedback that adapts the strength p of augmentation (Karras et al. 2020, section 3.1), as a pure function.

    state = control.init()
    state = control.update(state, real_logits)    # after each step of the discriminator
    x = ada_augment(key, x, state.p)
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array


class Control(NamedTuple):
    """Arrays of one number each."""

    p: Array
    overfitting: Array  # r of the last adjustment, in [-1, 1]
    signs: Array  # since then: the images' signs, added up
    images: Array  # since then: how many
    updates: Array  # since then


def init(p: float = 0.0) -> Control:
    zero = jnp.float32(0.0)
    return Control(jnp.float32(p), zero, zero, zero, jnp.int32(0))


def update(
    state: Control,
    real_logits: Array,
    *,
    target: float = 0.6,
    speed: float = 500_000,
    every: int = 4,
    limit: float = 1.0,
    axis_name: str | None = None,
) -> Control:
    """One step of the discriminator seen, its logits `[B, ...]` for the (augmented) real pictures.

    With r = E[sign D(real)] over the last `every` steps, which goes to 1 as the discriminator learns the training set
    by heart, p grows where r > `target` and falls where r < `target`, so fast that 0 to 1 takes `speed` images. It
    stays in [0, `limit`]; the paper names the lower bound alone, but past 1 there is only a longer way back. Steps with
    a NaN among the logits move nothing. All devices of `axis_name` come to the same p.
    """
    images = jnp.float32(real_logits.shape[0])
    signs = images * jnp.mean(jnp.sign(real_logits.astype(jnp.float32)))
    if axis_name is not None:
        signs, images = jax.lax.psum((signs, images), axis_name)
    signs, images, updates = state.signs + signs, state.images + images, state.updates + 1
    r = signs / images
    # A comparison with NaN is false.
    direction = jnp.where(r > target, 1.0, 0.0) - jnp.where(r < target, 1.0, 0.0)
    p = jnp.clip(state.p + direction * images / speed, 0.0, limit)
    due = updates >= every
    adjusted = Control(p, r, jnp.zeros_like(signs), jnp.zeros_like(images), jnp.zeros_like(updates))
    waiting = Control(state.p, state.overfitting, signs, images, updates)
    return jax.tree.map(lambda a, b: jnp.where(due, a, b), adjusted, waiting)
