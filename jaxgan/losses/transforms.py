"""Transforms of a discriminator: looked at a few steps ahead (unrolled), or shown several examples at once (packed)."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

PyTree = Any


def unrolled(
    discriminator_loss: Callable[..., Array], steps: int, learning_rate: float
) -> Callable[..., PyTree]:
    """The discriminator after k gradient steps, as a function that the generator can differentiate through.

    p_0 = p, p_{i+1} = p_i - learning_rate grad L(p_i, ...); the generator's loss is then taken at p_k::

        ahead = losses.unrolled(discriminator_loss, steps=5, learning_rate=1e-4)

        def generator_loss(params_g, params_d, real, z):
            fake = generator(params_g, z)
            params_d = ahead(params_d, real, fake)  # the gradient goes through these steps into `fake`
            return losses.non_saturating_generator_loss(critic(params_d, fake)).mean()

    Args:
        discriminator_loss: `(params_d, *args) -> []`, without a `stop_gradient` on the generated examples.
        steps: k >= 0; 0 gives the parameters back.
        learning_rate: of the steps.

    Returns:
        `(params_d, *args) -> params_d`: a pytree of the same shapes `[...]` and types (float32), differentiable in
        all arguments.

    References:
        Metz et al., Unrolled Generative Adversarial Networks, 2017, the surrogate objective.

    Conventions:
        Plain gradient steps, as the paper's equations; the authors' notebook unrolls 5 steps of Adam.
    """
    gradient = jax.grad(discriminator_loss)

    def ahead(params_d, *args):
        def step(params, _):
            return jax.tree.map(lambda p, g: p - learning_rate * g, params, gradient(params, *args)), None

        return jax.lax.scan(step, params_d, length=steps)[0]

    return ahead


def pack(x: ArrayLike, packing: int) -> Array:
    """[B, ..., C] -> [B / m, ..., m C]: m neighbours as one example, their channels side by side (PacGAN).

    A discriminator of packs sees whether m samples are too much alike. Its logits are `[B / m]`; both sides of the game
    take packs.

    Args:
        x: `[B, ..., C]` (or `[B]`, one channel).
        packing: m, which divides B.

    Returns:
        `[B / m, ..., m C]` in the type of `x`, float32 or any other.

    Raises:
        ValueError: B is no multiple of m.

    References:
        Lin et al., PacGAN: The Power of Two Samples in Generative Adversarial Networks, 2018, packing.

    Conventions:
        Concatenated over channels, as in the authors' code for pictures.
    """
    x = jnp.asarray(x)
    x = x[:, None] if x.ndim == 1 else x
    if packing < 1 or x.shape[0] % packing or not x.shape[0]:
        raise ValueError(f"a batch of {x.shape[0]} examples cannot be packed by {packing}")
    x = jnp.moveaxis(x.reshape(-1, packing, *x.shape[1:]), 1, -2)
    return x.reshape(*x.shape[:-2], -1)
