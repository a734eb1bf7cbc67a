"""Consistency: the discriminator should not see what an augmentation changed, the generator should show what a latent
changed. On functions or on two arrays of logits; weights are the caller's.

An augmentation is a function `x -> x` with its randomness closed over, `lambda x: augment(key, x)`; any shape of logits
works. Half precision is computed in, and returned as, float32.
"""

from collections.abc import Callable

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxgan.losses.arrays import as_pair, example_mean, magnitude, require_own, require_same_shape

Function = Callable[[Array], Array]


def consistency_penalty(logits: ArrayLike, augmented_logits: ArrayLike) -> Array:
    """(D(x) - D(T(x)))^2, from the two logits.

    Args:
        logits: `[...]`, of examples.
        augmented_logits: `[...]`, of the same examples augmented.

    Returns:
        `[...]`, float32 or wider, never negative.

    Raises:
        ValueError: the shapes differ.

    References:
        Zhang et al., Consistency Regularization for Generative Adversarial Networks, 2020 (CR-GAN), the consistency
        loss on the last layer.

    Conventions:
        The gradient goes through both logits, as in StudioGAN. No 1/2.
    """
    a, b = as_pair(logits, augmented_logits, ("logits", "augmented_logits"))
    return jnp.square(a - b)


def cr_penalty(
    critic: Function, real: ArrayLike, augment: Function, *, real_logits: ArrayLike | None = None
) -> Array:
    """(D(x) - D(T(x)))^2 on real examples (CR); the mean over the patches of an example.

    Args:
        critic: `x [B, ...] -> logits [B, ...]`.
        real: `[B, ...]`.
        augment: `x -> x`, the shape kept; CR-GAN mirrors and shifts by up to 4 pixels.
        real_logits: `critic(real)`, if the loss has it already: that spares a pass there and back.

    Returns:
        `[B]`, float32 or wider, never negative.

    Raises:
        ValueError: the augmented logits have another shape, or not one entry for each example.

    References:
        Zhang et al., Consistency Regularization for Generative Adversarial Networks, 2020 (CR-GAN), algorithm 1 (weight
        10).

    Conventions:
        StudioGAN takes the same mean of squares, and adds that of a classifier's logits or embeddings where it has
        them.
    """
    real = jnp.asarray(real)
    logits = critic(real) if real_logits is None else real_logits
    augmented = require_own(critic(augment(real)), real, "the critic")
    return example_mean(consistency_penalty(logits, augmented))


def bcr_penalty(
    critic: Function,
    real: ArrayLike,
    fake: ArrayLike,
    augment: Function,
    *,
    fake_weight: float = 1.0,
    real_logits: ArrayLike | None = None,
    fake_logits: ArrayLike | None = None,
) -> Array:
    """(D(x) - D(T(x)))^2 + fake_weight (D(G(z)) - D(T(G(z))))^2: balanced consistency.

    Args:
        critic: `x [B, ...] -> logits [B, ...]`.
        real: `[B, ...]`.
        fake: `[B, ...]`, the same shape; give it without its gradient in the discriminator's loss.
        augment: `x -> x`, the shape kept.
        fake_weight: lambda_fake / lambda_real, where the caller multiplies the whole by lambda_real.
        real_logits, fake_logits: `critic(real)` and `critic(fake)`, if the loss has them already.

    Returns:
        `[B]`, float32 or wider, never negative.

    Raises:
        ValueError: the shapes differ.

    References:
        Zhao et al., Improved Consistency Regularization for GANs, 2021 (ICR-GAN), balanced consistency (bCR).

    Conventions:
        StudioGAN takes two weights on the same two means of squares, for BigGAN on CIFAR-10 10 and 10.
    """
    real, fake = jnp.asarray(real), jnp.asarray(fake)
    require_same_shape(real, fake, ("real", "fake"))
    of_real = cr_penalty(critic, real, augment, real_logits=real_logits)
    return of_real + fake_weight * cr_penalty(critic, fake, augment, real_logits=fake_logits)


def zcr_discriminator_penalty(critic: Function, generator: Function, z: ArrayLike, augment: Function) -> Array:
    """(D(G(z)) - D(G(T(z))))^2: the discriminator's side of latent consistency.

    Args:
        critic: `x [B, ...] -> logits [B, ...]`.
        generator: `z -> x [B, ...]`; stop its gradient in the discriminator's loss.
        z: `[B, ...]`, latents.
        augment: `z -> z`, for instance with N(0, 0.05^2) added to each number, as StudioGAN does.

    Returns:
        `[B]`, float32 or wider, never negative.

    References:
        Zhao et al., Improved Consistency Regularization for GANs, 2021 (ICR-GAN), latent consistency (zCR).

    Conventions:
        The mean over an example's patches, where there are patches. StudioGAN's BigGAN-ICR on CIFAR-10:
        weight 20, radius 0.05.
    """
    z = jnp.asarray(z)
    fake = generator(z)
    logits = require_own(critic(fake), fake, "the critic")
    return example_mean(consistency_penalty(logits, critic(generator(augment(z)))))


def zcr_generator_penalty(generator: Function, z: ArrayLike, augment: Function) -> Array:
    """-mean (G(z) - G(T(z)))^2: the generator's side of latent consistency, which rewards samples that differ.

    Args:
        generator: `z -> x [B, ...]`.
        z: `[B, ...]`, latents.
        augment: `z -> z`.

    Returns:
        `[B]`, float32 or wider, never positive: it is to be minimised like any other.

    References:
        Zhao et al., Improved Consistency Regularization for GANs, 2021 (ICR-GAN), latent consistency (zCR).

    Conventions:
        The mean over the numbers of an example, as StudioGAN (BigGAN-ICR on CIFAR-10: weight 0.5); the paper writes the
        squared norm, their sum.
    """
    z = jnp.asarray(z)
    a, b = as_pair(generator(z), generator(augment(z)), ("G(z)", "G(T(z))"))
    return -example_mean(jnp.square(a - b))


def mode_seeking_penalty(
    fake: ArrayLike, other_fake: ArrayLike, z: ArrayLike, other_z: ArrayLike, *, eps: float = 1e-5
) -> Array:
    """1 / (mean |G(z) - G(z')| / mean |z - z'| + eps): small where different latents give different samples.

    Args:
        fake: `[B, ...]`, G(z).
        other_fake: `[B, ...]`, G(z') under the same condition.
        z: `[B, ...]`, latents.
        other_z: `[B, ...]`, others.
        eps: keeps a collapsed generator's penalty finite, at 1 / eps.

    Returns:
        `[B]`, float32 or wider, positive.

    Raises:
        ValueError: the shapes of a pair differ.

    References:
        Mao et al., Mode Seeking Generative Adversarial Networks for Diverse Image Synthesis, 2019, the mode
        seeking term (weight 1).

    Conventions:
        The paper maximises the ratio; the authors' code minimises its inverse with eps 1e-5, as here, but takes both
        means over the whole batch where this takes each example's own.
    """
    difference = example_mean(magnitude(jnp.subtract(*as_pair(fake, other_fake, ("fake", "other_fake")))))
    distance = example_mean(magnitude(jnp.subtract(*as_pair(z, other_z, ("z", "other_z")))))
    return 1.0 / (difference / distance + eps)
