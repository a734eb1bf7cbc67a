"""f-GANs: any f-divergence D_f(P || Q) = E_Q f(p / q) as a game, by its variational lower bound.

D_f(P || Q) >= E_P[T(x)] - E_Q[f*(T(x))], with T = g(logit), where the output activation g keeps T in the domain of the
conjugate f*(t) = sup_u (u t - f(u)). P is the data, Q the generator. Half precision is computed in, and returned as,
float32.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array
from jax.nn import softplus
from jax.typing import ArrayLike

from jaxgan.losses.arrays import as_float, as_pair

_LOG_2 = 0.6931471805599453


class FDivergence(NamedTuple):
    """An f-divergence: elementwise functions of arrays."""

    f: Callable[[Array], Array]  # convex on u > 0, f(1) = 0
    conjugate: Callable[[Array], Array]  # f*(t)
    activation: Callable[[Array], Array]  # g: a logit v -> t in the domain of f*
    conjugate_of_activation: Callable[[Array], Array]  # f*(g(v)), simplified: it neither cancels nor leaves the domain


F_DIVERGENCES: dict[str, FDivergence] = {
    "kl": FDivergence(
        f=lambda u: u * jnp.log(u),
        conjugate=lambda t: jnp.exp(t - 1.0),
        activation=lambda v: v,
        conjugate_of_activation=lambda v: jnp.exp(v - 1.0),
    ),
    "reverse_kl": FDivergence(
        f=lambda u: -jnp.log(u),
        conjugate=lambda t: -1.0 - jnp.log(-t),
        activation=lambda v: -jnp.exp(-v),
        conjugate_of_activation=lambda v: v - 1.0,
    ),
    "jensen_shannon": FDivergence(
        f=lambda u: u * jnp.log(u) - (u + 1.0) * jnp.log((u + 1.0) / 2.0),
        conjugate=lambda t: -jnp.log(2.0 - jnp.exp(t)),
        activation=lambda v: _LOG_2 - softplus(-v),
        conjugate_of_activation=lambda v: softplus(v) - _LOG_2,
    ),
    "squared_hellinger": FDivergence(
        f=lambda u: jnp.square(jnp.sqrt(u) - 1.0),
        conjugate=lambda t: t / (1.0 - t),
        activation=lambda v: 1.0 - jnp.exp(-v),
        conjugate_of_activation=lambda v: jnp.exp(v) - 1.0,
    ),
    "pearson": FDivergence(
        f=lambda u: jnp.square(u - 1.0),
        conjugate=lambda t: 0.25 * jnp.square(t) + t,
        activation=lambda v: v,
        conjugate_of_activation=lambda v: 0.25 * jnp.square(v) + v,
    ),
}


def f_gan_discriminator_loss(real_logits: ArrayLike, fake_logits: ArrayLike, *, divergence: str) -> Array:
    """-g(r) + f*(g(f)): minus the lower bound on the divergence of the data from the generator's distribution.

    Args:
        real_logits: `[...]`.
        fake_logits: `[...]`, the same shape.
        divergence: "kl", "reverse_kl", "jensen_shannon", "squared_hellinger" or "pearson".

    Returns:
        `[...]`, float32 or wider; minus its mean estimates the divergence. Where the formula has an exponential (KL and
        Hellinger of f; reverse KL and Hellinger of -r) it overflows float32 above 88.

    Raises:
        ValueError: the shapes differ, or there is no such divergence.

    References:
        Nowozin et al., f-GAN, 2016, the variational lower bound, with the conjugates and output activations of its
        tables.

    Conventions:
        Jensen-Shannon is the paper's: KL(P || M) + KL(Q || M), twice the usual one, without the -log 4 of the minimax
        game. Squared Hellinger is the sum of (sqrt p - sqrt q)^2, without a 1/2.
    """
    real, fake = as_pair(real_logits, fake_logits)
    chosen = _find(divergence)
    return chosen.conjugate_of_activation(fake) - chosen.activation(real)


def f_gan_generator_loss(fake_logits: ArrayLike, *, divergence: str, saturating: bool = True) -> Array:
    """-f*(g(f)), the generator's side of the bound, or with `saturating=False` -g(f), whose gradient survives.

    Args:
        fake_logits: `[...]`.
        divergence: "kl", "reverse_kl", "jensen_shannon", "squared_hellinger" or "pearson".
        saturating: False takes the replacement that the paper recommends in the manner of the non-saturating game.

    Returns:
        `[...]`, float32 or wider.

    Raises:
        ValueError: there is no such divergence.

    References:
        Nowozin et al., f-GAN, 2016, the variational lower bound and the practical considerations.

    Conventions:
        The saddle point's own side by default (the paper's single-step gradient method).
    """
    fake, chosen = as_float(fake_logits), _find(divergence)
    return -(chosen.conjugate_of_activation(fake) if saturating else chosen.activation(fake))


def _find(name: str) -> FDivergence:
    if name not in F_DIVERGENCES:
        raise ValueError(f"unknown divergence {name!r}; known: {', '.join(F_DIVERGENCES)}")
    return F_DIVERGENCES[name]
