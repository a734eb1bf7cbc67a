"""Penalties on the gradient of a critic (or generator), for each example: `penalty(critic, ...) -> [B]`.

`critic` is any function `x [B, ...] -> logits [B, ...]` of any network library, with its parameters closed over, so
that the penalty is differentiated through it like anything else::

    def loss(params_d):
        critic = lambda x: discriminator.apply(params_d, x)
        return adversarial + 10.0 * losses.wgan_gp_penalty(critic, real, fake, key).mean()

The gradient is that of the sum of an example's logits (patches `[B, h, w, 1]` are summed, as by PyTorch's
`autograd.grad(logits.sum(), x)`), with respect to that example. A critic that mixes examples, by batch
normalisation or a minibatch standard deviation, is a wrong use: its gradient with respect to one example is not that
of that example's logit. Only reverse mode is taken, so a critic with `custom_vjp` layers works.

Squares and norms are computed in, and returned as, float32 (float64 for float64 examples); the critic sees the type
it was given. `key` is one key, or one for each example `[B]`, whose draws then do not depend on the batch around it.
Weights (lambda, gamma) are the caller's.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxgan.losses.arrays import as_float, draw, example_sum, require_own, require_same_shape, safe_sqrt, split

Critic = Callable[[Array], Array]


def r1_penalty(critic: Critic, real: ArrayLike) -> Array:
    """1/2 ||grad D(x)||^2 at real examples.

    Args:
        critic: `x [B, ...] -> logits [B, ...]`, which must not mix examples (no batch norm).
        real: `[B, ...]`.

    Returns:
        `[B]`, float32 or wider, never negative.

    Raises:
        ValueError: the critic does not give each example its own logits.

    References:
        Mescheder et al., Which Training Methods for GANs do actually Converge?, 2018, eq. 9 (gamma/2 E||grad||^2).

    Conventions:
        With the 1/2, so that the paper's gamma multiplies it as it is: StyleGAN2 and 3, R3GAN, StudioGAN. Without:
        GAN_stability (its reg_param 10 is gamma 20), artifex, magvit. R3GAN and StyleGAN2-ADA differentiate with
        respect to the picture before augmentation: put the augmentation into `critic`.
    """
    return 0.5 * _squared_norm(_gradient(critic, jnp.asarray(real)))


def r2_penalty(critic: Critic, fake: ArrayLike) -> Array:
    """1/2 ||grad D(x)||^2 at generated examples.

    Args:
        critic: `x [B, ...] -> logits [B, ...]`, which must not mix examples (no batch norm).
        fake: `[B, ...]`; give it without its gradient in the discriminator's loss.

    Returns:
        `[B]`, float32 or wider, never negative.

    Raises:
        ValueError: the critic does not give each example its own logits.

    References:
        Mescheder et al., Which Training Methods for GANs do actually Converge?, 2018, R2; used with R1 in Huang et al.,
        The GAN is dead; long live the GAN!, 2024 (R3GAN), eq. 3.

    Conventions:
        With the 1/2, as `r1_penalty`: R3GAN, StyleGAN2's `D_logistic_r2`. Without: GAN_stability.
    """
    return 0.5 * _squared_norm(_gradient(critic, jnp.asarray(fake)))


def wgan_gp_penalty(
    critic: Critic, real: ArrayLike, fake: ArrayLike, key: Array, target: float = 1.0, one_sided: bool = False
) -> Array:
    """(||grad D(x^)|| - target)^2 with x^ = x + a (G(z) - x), a ~ U[0, 1) once for each example.

    The gradient of the norm is 0 where the norm is 0, so a constant critic gives target^2 and no NaN.

    Args:
        critic: `x [B, ...] -> logits [B, ...]`, which must not mix examples (no batch norm).
        real: `[B, ...]`.
        fake: `[B, ...]`, the same shape.
        key: one key, or one for each example.
        target: the slope that is not penalised.
        one_sided: penalise slopes above the target only: max(0, ||grad|| - target)^2.

    Returns:
        `[B]`, float32 or wider, never negative.

    Raises:
        ValueError: the shapes differ, or the critic does not give each example its own logits.

    References:
        Gulrajani et al., Improved Training of Wasserstein GANs, 2017, the gradient penalty (weight 10).

    Conventions:
        Two-sided with nothing under the root, as improved_wgan_training, mimicry and StudioGAN. Under the root
        compare_gan adds 1e-4, TF-GAN 1e-10, artifex 1e-8. TF-GAN divides by the target and is one-sided by an option.
    """
    excess = _norm(_gradient(critic, _interpolate(real, fake, key))) - target
    return jnp.square(jnp.maximum(excess, 0.0) if one_sided else excess)


def wgan_lp_penalty(critic: Critic, real: ArrayLike, fake: ArrayLike, key: Array, target: float = 1.0) -> Array:
    """max(0, ||grad D(x^)|| - target)^2: the Lipschitz condition itself, which allows small slopes.

    Args:
        critic: `x [B, ...] -> logits [B, ...]`, which must not mix examples (no batch norm).
        real: `[B, ...]`.
        fake: `[B, ...]`, the same shape.
        key: one key, or one for each example, of the places x^ = x + a (G(z) - x).
        target: the greatest slope that is not penalised.

    Returns:
        `[B]`, float32 or wider, never negative.

    Raises:
        ValueError: the shapes differ, or the critic does not give each example its own logits.

    References:
        Petzka et al., On the Regularization of Wasserstein GANs, 2018, the penalty of WGAN-LP.

    Conventions:
        `wgan_gp_penalty` with `one_sided=True`, as TF-GAN's `one_sided` option. On interpolates as WGAN-GP; the paper
        also tries places around the data, see `dragan_penalty`.
    """
    return wgan_gp_penalty(critic, real, fake, key, target, one_sided=True)


def dragan_penalty(
    critic: Critic,
    real: ArrayLike,
    key: Array,
    *,
    target: float = 1.0,
    noise: str = "uniform",
    scale: float = 0.5,
    std: ArrayLike | None = None,
) -> Array:
    """(||grad D(x^)|| - target)^2 near the data.

    `noise="uniform"` is the form of the authors' code: x^ = x + a scale std u, with u ~ U[0, 1) for each number and
    a ~ U[0, 1) for each example, so the noise is never negative. `noise="gaussian"` is the form of the paper:
    x^ = x + scale n, n ~ N(0, I), where the scale is in the units of x.

    Args:
        critic: `x [B, ...] -> logits [B, ...]`, which must not mix examples (no batch norm).
        real: `[B, ...]`.
        key: one key, or one for each example.
        target: the slope that is not penalised.
        noise: "uniform" or "gaussian".
        scale: of the noise, above.
        std: the standard deviation of all numbers in the batch, for "uniform"; left out, that of `real`. Where the
            batch is spread over devices, give the whole batch's.

    Returns:
        `[B]`, float32 or wider, never negative.

    Raises:
        ValueError: unknown noise, or the critic does not give each example its own logits.

    References:
        Kodali et al., On Convergence and Stability of GANs, 2017 (DRAGAN), and the code published with it.

    Conventions:
        StudioGAN and compare_gan's first versions take the authors' code's form, StudioGAN with an unbiased std (here
        the population's, as NumPy's in the authors' code). compare_gan now: x + std (u - 1/2), clipped to [0, 1], no a.
    """
    real = jnp.asarray(real)
    x = as_float(real, "real")
    if noise == "uniform":
        key_along, key_noise = split(key)
        std = safe_sqrt(jnp.var(x)) if std is None else jnp.asarray(std, x.dtype)
        along = draw(jax.random.uniform, key_along, _one_for_each(x), x.dtype)
        x = x + along * scale * std * draw(jax.random.uniform, key_noise, x.shape, x.dtype)
    elif noise == "gaussian":
        x = x + scale * draw(jax.random.normal, key, x.shape, x.dtype)
    else:
        raise ValueError(f'noise {noise!r} must be "uniform" or "gaussian"')
    return jnp.square(_norm(_gradient(critic, x.astype(real.dtype))) - target)


def zero_centered_gp_penalty(critic: Critic, real: ArrayLike, fake: ArrayLike, key: Array) -> Array:
    """||grad D(x^)||^2 with x^ = x + a (G(z) - x), a ~ U[0, 1) once for each example.

    Args:
        critic: `x [B, ...] -> logits [B, ...]`, which must not mix examples (no batch norm).
        real: `[B, ...]`.
        fake: `[B, ...]`, the same shape.
        key: one key, or one for each example.

    Returns:
        `[B]`, float32 or wider, never negative.

    Raises:
        ValueError: the shapes differ, or the critic does not give each example its own logits.

    References:
        Thanh-Tung et al., Improving Generalization and Stability of Generative Adversarial Networks, 2019, the 0-GP
        objective.

    Conventions:
        No 1/2, as in the paper: not the convention of R1 and R2. `wgan_gp_penalty(target=0)` has the same value.
    """
    return _squared_norm(_gradient(critic, _interpolate(real, fake, key)))


def path_length_penalty(
    generator: Callable[[Array], Array],
    w: ArrayLike,
    key: Array,
    mean: ArrayLike,
    *,
    decay: float = 0.01,
    axis_name: str | None = None,
) -> tuple[Array, Array]:
    """(||J^T y|| - a)^2, with J the generator's Jacobian at w, y ~ N(0, I) / sqrt(H W), a the mean length so far.

    J^T y is the gradient of sum(G(w) y) with respect to w. The mean moves before it is used,
    a <- a + decay (mean ||J^T y|| - a), and this batch's share in it takes its part of the gradient.

    Args:
        generator: `w [B, ...] -> [B, (H, W,) C]`, which must not mix examples.
        w: `[B, D]`, or `[B, L, D]` with one style for each of L layers, over which the squared length is averaged.
        key: one key, or one for each example.
        mean: `[]`, the running mean so far; 0 before the first time.
        decay: how far the mean moves.
        axis_name: the devices' axis over which the batch's mean length is taken.

    Returns:
        `[B]`, float32 or wider, and the new mean, `[]`, without a gradient, which the caller keeps.

    Raises:
        ValueError: the generator does not give each latent its own output.

    References:
        Karras et al., Analyzing and Improving the Image Quality of StyleGAN, 2020 (StyleGAN2), path length
        regularization (in the authors' code: weight 2, every 4th generator step, half the batch).

    Conventions:
        The authors' code, StyleGAN2 in TensorFlow and StyleGAN2-ADA in PyTorch: the gradient goes through the mean too.
    """
    w = jnp.asarray(w)
    fake, pullback = jax.vjp(generator, w)
    require_own(fake, w, "the generator")
    noise = draw(jax.random.normal, key, fake.shape, as_float(fake, "G(w)").dtype)
    (gradient,) = pullback((noise / math.sqrt(math.prod(fake.shape[1:-1]))).astype(fake.dtype))
    squares = jnp.sum(jnp.square(as_float(gradient, "w")), axis=-1)  # [B] or [B, L]
    length = safe_sqrt(jnp.mean(squares, axis=tuple(range(1, squares.ndim))))
    batch_mean = jnp.mean(length)
    if axis_name is not None:
        batch_mean = jax.lax.pmean(batch_mean, axis_name)
    mean = jax.lax.stop_gradient(jnp.asarray(mean, length.dtype))
    mean = mean + decay * (batch_mean - mean)
    return jnp.square(length - mean), jax.lax.stop_gradient(mean)


def _gradient(critic: Critic, x: Array) -> Array:
    """The gradient of the sum of each example's logits, for each example: [B, ...]."""

    def total(x):
        return jnp.sum(as_float(require_own(critic(x), x, "the critic")))

    return jax.grad(total)(x)


def _squared_norm(gradient: Array) -> Array:
    return example_sum(jnp.square(as_float(gradient, "the gradient")))


def _norm(gradient: Array) -> Array:
    return safe_sqrt(_squared_norm(gradient))


def _interpolate(real: ArrayLike, fake: ArrayLike, key: Array) -> Array:
    """One place on the line between each real and generated example, in the real ones' type."""
    real, fake = jnp.asarray(real), jnp.asarray(fake)
    require_same_shape(real, fake, ("real", "fake"))
    x, y = as_float(real, "real"), as_float(fake, "fake")
    along = draw(jax.random.uniform, key, _one_for_each(x), x.dtype)
    return (x + along * (y - x)).astype(real.dtype)


def _one_for_each(x: Array) -> tuple[int, ...]:
    return (x.shape[0],) + (1,) * (x.ndim - 1)
