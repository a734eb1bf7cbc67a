"""The two sides of each adversarial game, per example.

Every function takes raw logits (no sigmoid) of any shape `[...]`: `[B]`, `[B, 1]`, or patches `[B, h, w, 1]`.
It returns the loss of each entry, unreduced, in the same shape; `.mean()`, masks and weights belong to the
caller. Two arrays must have the same shape: broadcasting `[B]` against `[B, 1]` would silently give `[B, B]`.

Logits in half precision (bfloat16, float16) are computed in, and returned as, float32; float64 stays float64.
Below, `r` stands for the logits of real examples, `f` for those of generated ones.

`ADVERSARIAL` is the table of all pairs by name, f-GANs (jaxgan/losses/divergences.py) included.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array
from jax.nn import logsumexp, relu, softplus
from jax.typing import ArrayLike

from jaxgan.losses.arrays import as_float, as_pair
from jaxgan.losses.divergences import F_DIVERGENCES, f_gan_discriminator_loss, f_gan_generator_loss


class AdversarialLoss(NamedTuple):
    """Both sides of a game under one signature, `(real_logits, fake_logits) -> [...]`, so that a config can name it."""

    discriminator: Callable[..., Array]
    generator: Callable[..., Array]


def _cross_entropy(real: Array, fake: Array, label_smoothing: float) -> Array:
    """-(1-s) log sigmoid(r) - s log(1 - sigmoid(r)) - log(1 - sigmoid(f)), with -log sigmoid(x) = softplus(-x)."""
    # (1-s) softplus(-r) + s softplus(r) = softplus(-r) + s r: one transcendental function, and no inf - inf.
    return softplus(-real) + label_smoothing * real + softplus(fake)


def minimax_discriminator_loss(
    real_logits: ArrayLike, fake_logits: ArrayLike, *, label_smoothing: float = 0.0
) -> Array:
    """softplus(-r) + softplus(f): the discriminator's side of the minimax game.

    The sum (not the average) of the two cross-entropies. With one-sided label smoothing `s` the target of real
    examples is `1 - s` and the first term becomes (1-s) softplus(-r) + s softplus(r); fake targets stay at 0.

    Args:
        real_logits: `[...]`.
        fake_logits: `[...]`, the same shape.
        label_smoothing: `s` in [0, 1); 0 leaves the labels hard.

    Returns:
        `[...]`, float32 or wider, the loss of each pair of entries.

    Raises:
        ValueError: the shapes differ.

    References:
        Goodfellow et al., Generative Adversarial Networks, 2014, the value function of the two-player game (negated:
        we minimise). One-sided label smoothing: Salimans et al., Improved Techniques for Training GANs, 2016.

    Conventions:
        The sum of the two terms: compare_gan, mimicry, StudioGAN, TF-GAN, BigGAN-PyTorch. Their average: the "dcgan"
        mode of improved_wgan_training. TF-GAN smooths by 0.25 unless told otherwise, and towards 1/2: its target is
        1 - s/2 = 0.875, here s = 0.125. artifex multiplies the logit by 1 - s, which is no label smoothing.
    """
    return _cross_entropy(*as_pair(real_logits, fake_logits), label_smoothing)


def minimax_generator_loss(fake_logits: ArrayLike) -> Array:
    """-softplus(f) = log(1 - sigmoid(f)): the generator's side of the minimax game, which saturates for f << 0.

    Args:
        fake_logits: `[...]`.

    Returns:
        `[...]`, float32 or wider, never positive.

    References:
        Goodfellow et al., Generative Adversarial Networks, 2014, the value function of the two-player game.

    Conventions:
        StyleGAN2's `G_logistic`; TF-GAN's `minimax_generator_loss`, but for a constant. What mimicry calls "gan" is the
        non-saturating game.
    """
    return -softplus(as_float(fake_logits))


def non_saturating_discriminator_loss(
    real_logits: ArrayLike, fake_logits: ArrayLike, *, label_smoothing: float = 0.0
) -> Array:
    """softplus(-r) + softplus(f): the same discriminator as in the minimax game.

    Args:
        real_logits: `[...]`.
        fake_logits: `[...]`, the same shape.
        label_smoothing: one-sided, see `minimax_discriminator_loss`.

    Returns:
        `[...]`, float32 or wider, the loss of each pair of entries.

    Raises:
        ValueError: the shapes differ.

    References:
        Goodfellow et al., Generative Adversarial Networks, 2014, the discriminator's side of the value function.

    Conventions:
        The sum of the two terms: compare_gan, mimicry, StudioGAN, TF-GAN, BigGAN-PyTorch, StyleGAN. An older
        `d_vanilla` of StudioGAN takes log sigmoid(1 - f) in place of log sigmoid(-f). Smoothing as in
        `minimax_discriminator_loss`.
    """
    return _cross_entropy(*as_pair(real_logits, fake_logits), label_smoothing)


def non_saturating_generator_loss(fake_logits: ArrayLike) -> Array:
    """softplus(-f) = -log sigmoid(f): the generator maximises log D(G(z)), so its gradient survives f << 0.

    Args:
        fake_logits: `[...]`.

    Returns:
        `[...]`, float32 or wider, never negative.

    References:
        Goodfellow et al., Generative Adversarial Networks, 2014, the replacement "maximize log D(G(z))".

    Conventions:
        softplus, stable for any logit, as compare_gan, StyleGAN and TF-GAN. mimicry takes -log(sigmoid(f)
        + 1e-8), whose gradient vanishes for f << -18; artifex clips the probability at 1e-7.
    """
    return softplus(-as_float(fake_logits))


def wasserstein_discriminator_loss(real_logits: ArrayLike, fake_logits: ArrayLike) -> Array:
    """f - r: minus the critic's estimate of the Wasserstein-1 distance.

    It says nothing by itself: the critic has to be held 1-Lipschitz by clipping, a penalty or normalisation.

    Args:
        real_logits: `[...]`.
        fake_logits: `[...]`, the same shape.

    Returns:
        `[...]`, float32 or wider; minus its mean estimates the distance.

    Raises:
        ValueError: the shapes differ.

    References:
        Arjovsky et al., Wasserstein GAN, 2017, the Kantorovich-Rubinstein form of the distance (negated: we minimise).

    Conventions:
        mean(f) - mean(r): compare_gan, mimicry, StudioGAN, TF-GAN, WGAN-GP's code. The WGAN authors' code and
        GAN_stability flip the critic's sign on both sides.
    """
    real, fake = as_pair(real_logits, fake_logits)
    return fake - real


def wasserstein_generator_loss(fake_logits: ArrayLike) -> Array:
    """-f: the generator raises the critic's value of its samples.

    Args:
        fake_logits: `[...]`.

    Returns:
        `[...]`, float32 or wider.

    References:
        Arjovsky et al., Wasserstein GAN, 2017, the generator's step of the WGAN algorithm.

    Conventions:
        compare_gan, mimicry, StudioGAN, TF-GAN. The WGAN authors' code and GAN_stability: +f, with a flipped critic.
    """
    return -as_float(fake_logits)


def hinge_discriminator_loss(real_logits: ArrayLike, fake_logits: ArrayLike) -> Array:
    """relu(1 - r) + relu(1 + f).

    Args:
        real_logits: `[...]`.
        fake_logits: `[...]`, the same shape.

    Returns:
        `[...]`, float32 or wider, never negative; zero where r >= 1 and f <= -1.

    Raises:
        ValueError: the shapes differ.

    References:
        Lim & Ye, Geometric GAN, 2017; Miyato et al., Spectral Normalization for Generative Adversarial Networks, 2018,
        the hinge version of the adversarial loss.

    Conventions:
        The sum of the two terms everywhere: compare_gan, mimicry, StudioGAN, TF-GAN, BigGAN-PyTorch, SNGAN.
    """
    real, fake = as_pair(real_logits, fake_logits)
    return relu(1.0 - real) + relu(1.0 + fake)


def hinge_generator_loss(fake_logits: ArrayLike) -> Array:
    """-f: there is no hinge on the generator's side.

    Args:
        fake_logits: `[...]`.

    Returns:
        `[...]`, float32 or wider.

    References:
        Lim & Ye, Geometric GAN, 2017; Miyato et al., Spectral Normalization for Generative Adversarial Networks, 2018,
        the hinge version of the adversarial loss.

    Conventions:
        The same everywhere.
    """
    return -as_float(fake_logits)


def least_squares_discriminator_loss(real_logits: ArrayLike, fake_logits: ArrayLike) -> Array:
    """1/2 (r - 1)^2 + 1/2 f^2, on raw logits.

    Args:
        real_logits: `[...]`.
        fake_logits: `[...]`, the same shape.

    Returns:
        `[...]`, float32 or wider, never negative.

    Raises:
        ValueError: the shapes differ.

    References:
        Mao et al., Least Squares Generative Adversarial Networks, 2017, the 0-1 coding (a = 0, b = c = 1).

    Conventions:
        Raw logits, targets 1 and 0, with the 1/2: TF-GAN, StudioGAN. compare_gan takes probabilities in their place;
        CycleGAN has no 1/2 in the loss and halves D's sum; lecam-gan takes the targets -1 for real and +1 for generated
        examples, no 1/2.
    """
    real, fake = as_pair(real_logits, fake_logits)
    return 0.5 * jnp.square(real - 1.0) + 0.5 * jnp.square(fake)


def least_squares_generator_loss(fake_logits: ArrayLike) -> Array:
    """1/2 (f - 1)^2, on raw logits.

    Args:
        fake_logits: `[...]`.

    Returns:
        `[...]`, float32 or wider, never negative.

    References:
        Mao et al., Least Squares Generative Adversarial Networks, 2017, the 0-1 coding (a = 0, b = c = 1).

    Conventions:
        Raw logits, target 1, with the 1/2: TF-GAN, StudioGAN. CycleGAN: no 1/2. lecam-gan: target 0, no 1/2.
    """
    return 0.5 * jnp.square(as_float(fake_logits) - 1.0)


def relativistic_discriminator_loss(real_logits: ArrayLike, fake_logits: ArrayLike) -> Array:
    """softplus(-(r - f)): each real example is compared with the generated one at the same place.

    Args:
        real_logits: `[...]`.
        fake_logits: `[...]`, the same shape.

    Returns:
        `[...]`, float32 or wider, never negative; unchanged when one constant is added to both logits.

    Raises:
        ValueError: the shapes differ.

    References:
        Jolicoeur-Martineau, The relativistic discriminator, 2018, RSGAN; the game of Huang et al., The GAN is dead;
        long live the GAN!, 2024 (R3GAN), eq. 2.

    Conventions:
        R3GAN; RelativisticGAN's cross-entropy form is the same.
    """
    real, fake = as_pair(real_logits, fake_logits)
    return softplus(fake - real)


def relativistic_generator_loss(fake_logits: ArrayLike, real_logits: ArrayLike) -> Array:
    """softplus(-(f - r)): the discriminator's loss with the roles exchanged.

    Args:
        fake_logits: `[...]`.
        real_logits: `[...]`, the same shape.

    Returns:
        `[...]`, float32 or wider, never negative.

    Raises:
        ValueError: the shapes differ.

    References:
        Jolicoeur-Martineau, The relativistic discriminator, 2018, RSGAN.

    Conventions:
        R3GAN, RelativisticGAN.
    """
    real, fake = as_pair(real_logits, fake_logits)
    return softplus(real - fake)


def relativistic_average_discriminator_loss(real_logits: ArrayLike, fake_logits: ArrayLike) -> Array:
    """softplus(-(r - mean f)) + softplus(f - mean r): each example against the average of the other kind.

    The means run over all entries given; on several devices give the logits of the global batch.

    Args:
        real_logits: `[...]`.
        fake_logits: `[...]`, the same shape.

    Returns:
        `[...]`, float32 or wider, never negative; unchanged when one constant is added to both logits.

    Raises:
        ValueError: the shapes differ.

    References:
        Jolicoeur-Martineau, The relativistic discriminator, 2018, RaSGAN.

    Conventions:
        The sum of the two terms: TF-GAN. RelativisticGAN (the author's code) halves it.
    """
    return _against_the_mean(*as_pair(real_logits, fake_logits))


def relativistic_average_generator_loss(fake_logits: ArrayLike, real_logits: ArrayLike) -> Array:
    """softplus(-(f - mean r)) + softplus(r - mean f): the discriminator's loss with the roles exchanged.

    Args:
        fake_logits: `[...]`.
        real_logits: `[...]`, the same shape.

    Returns:
        `[...]`, float32 or wider, never negative.

    Raises:
        ValueError: the shapes differ.

    References:
        Jolicoeur-Martineau, The relativistic discriminator, 2018, RaSGAN.

    Conventions:
        The sum of the two terms: TF-GAN. RelativisticGAN (the author's code) halves it.
    """
    real, fake = as_pair(real_logits, fake_logits)
    return _against_the_mean(fake, real)


def dual_contrastive_discriminator_loss(real_logits: ArrayLike, fake_logits: ArrayLike) -> Array:
    """softplus(lse(f) - r) + softplus(lse(-r) + f), with lse the logarithm of the sum of exponentials over the batch.

    The first term is -log e^r / (e^r + sum e^f): one real example against all generated ones; the second is its
    mirror. The sums run over all entries given; on several devices give the logits of the global batch.

    Args:
        real_logits: `[...]`.
        fake_logits: `[...]`, the same shape.

    Returns:
        `[...]`, float32 or wider, never negative; unchanged when one constant is added to both logits.

    Raises:
        ValueError: the shapes differ.

    References:
        Yu et al., Dual Contrastive Loss and Attention for GANs, 2021, the loss's real and fake case (negated: we
        minimise).

    Conventions:
        The sum of the two terms. Public PyTorch code takes the same two terms as cross-entropies, and
        their means.
    """
    real, fake = as_pair(real_logits, fake_logits)
    return softplus(logsumexp(fake) - real) + softplus(logsumexp(-real) + fake)


def dual_contrastive_generator_loss(fake_logits: ArrayLike, real_logits: ArrayLike) -> Array:
    """-softplus(lse(f) - r) - softplus(lse(-r) + f): the same game played for the other side (saturating).

    Args:
        fake_logits: `[...]`.
        real_logits: `[...]`, the same shape.

    Returns:
        `[...]`, float32 or wider, never positive.

    Raises:
        ValueError: the shapes differ.

    References:
        Yu et al., Dual Contrastive Loss and Attention for GANs, 2021, the min-max over both cases.

    Conventions:
        The paper's min-max, without a non-saturating replacement.
    """
    return -dual_contrastive_discriminator_loss(real_logits, fake_logits)


def top_k_mask(fake_logits: ArrayLike, k: ArrayLike) -> Array:
    """1 for the k largest logits, 0 for the others: the generator learns from its best samples only.

    `(mask * loss).sum() / k` is the generator's mean over them. Of equal logits the earlier are taken, so that
    there are exactly k.

    Args:
        fake_logits: `[...]`, all entries ranked together.
        k: `[]`, how many, which may be traced; see `top_k_schedule`.

    Returns:
        `[...]`, float32 or wider, without a gradient.

    References:
        Sinha et al., Top-k Training of GANs, 2020, the top-k update of the generator.

    Conventions:
        StudioGAN takes `torch.topk` of the logits and the mean of the loss over them.
    """
    fake = as_float(fake_logits)
    rank = jnp.argsort(jnp.argsort(-fake.ravel(), stable=True))
    return (rank < k).reshape(fake.shape).astype(fake.dtype)


def top_k_schedule(batch_size: int, epoch: ArrayLike, *, decay: float = 0.99, floor: float = 0.5) -> Array:
    """k = max(decay^epoch, floor) batch_size, rounded down: from the whole batch to its better part.

    Args:
        batch_size: generated examples in a batch.
        epoch: `[]`, whole or broken; may be traced.
        decay: gamma, by epoch.
        floor: nu, the least share of the batch.

    Returns:
        `[]`, int32 (computed in float32).

    References:
        Sinha et al., Top-k Training of GANs, 2020, the annealing of k by gamma down to the share nu.

    Conventions:
        StudioGAN multiplies k by gamma after each epoch, without rounding in between, down to the same floor, and has
        no default values of gamma and the floor.
    """
    share = jnp.maximum(jnp.asarray(decay, jnp.float32) ** epoch, floor)
    return jnp.floor(share * batch_size * (1.0 + 1e-5)).astype(jnp.int32)  # a rounding error costs no sample


def _against_the_mean(high: Array, low: Array) -> Array:
    """Small where `high` exceeds the mean of `low`, and `low` falls short of the mean of `high`."""
    return softplus(jnp.mean(low) - high) + softplus(low - jnp.mean(high))


def _fake_only(generator_loss: Callable[..., Array]) -> Callable[..., Array]:
    def loss(real_logits: ArrayLike, fake_logits: ArrayLike) -> Array:
        del real_logits  # this generator looks at its own samples alone
        return generator_loss(fake_logits)

    return loss


def _fake_first(generator_loss: Callable[..., Array]) -> Callable[..., Array]:
    return lambda real_logits, fake_logits: generator_loss(fake_logits, real_logits)


ADVERSARIAL: dict[str, AdversarialLoss] = {
    "minimax": AdversarialLoss(minimax_discriminator_loss, _fake_only(minimax_generator_loss)),
    "non_saturating": AdversarialLoss(
        non_saturating_discriminator_loss, _fake_only(non_saturating_generator_loss)
    ),
    "wasserstein": AdversarialLoss(wasserstein_discriminator_loss, _fake_only(wasserstein_generator_loss)),
    "hinge": AdversarialLoss(hinge_discriminator_loss, _fake_only(hinge_generator_loss)),
    "least_squares": AdversarialLoss(
        least_squares_discriminator_loss, _fake_only(least_squares_generator_loss)
    ),
    "relativistic": AdversarialLoss(
        relativistic_discriminator_loss, _fake_first(relativistic_generator_loss)
    ),
    "relativistic_average": AdversarialLoss(
        relativistic_average_discriminator_loss, _fake_first(relativistic_average_generator_loss)
    ),
    "dual_contrastive": AdversarialLoss(
        dual_contrastive_discriminator_loss, _fake_first(dual_contrastive_generator_loss)
    ),
    **{
        f"f_gan_{divergence}": AdversarialLoss(
            partial(f_gan_discriminator_loss, divergence=divergence),
            _fake_only(partial(f_gan_generator_loss, divergence=divergence)),
        )
        for divergence in F_DIVERGENCES
    },
}
