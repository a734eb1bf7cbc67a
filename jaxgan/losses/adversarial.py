"""The two sides of each adversarial game, per example.

Every function takes raw logits (no sigmoid) of any shape `[...]`: `[B]`, `[B, 1]`, or patches `[B, h, w, 1]`.
It returns the loss of each entry, unreduced, in the same shape; `.mean()`, masks and weights belong to the
caller. Two arrays must have the same shape: broadcasting `[B]` against `[B, 1]` would silently give `[B, B]`.

Logits in half precision (bfloat16, float16) are computed in, and returned as, float32; float64 stays float64.
Below, `r` stands for the logits of real examples, `f` for those of generated ones.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array
from jax.nn import relu, softplus
from jax.typing import ArrayLike


class AdversarialLoss(NamedTuple):
    """Both sides of a game under one signature, `(real_logits, fake_logits) -> [...]`, so that a config can name it."""

    discriminator: Callable[..., Array]
    generator: Callable[..., Array]


def _as_float(logits: ArrayLike) -> Array:
    logits = jnp.asarray(logits)
    if not jnp.issubdtype(logits.dtype, jnp.floating):
        raise TypeError(f"logits must be floating point, not {logits.dtype}")
    return logits.astype(jnp.promote_types(logits.dtype, jnp.float32))


def _pair(real_logits: ArrayLike, fake_logits: ArrayLike) -> tuple[Array, Array]:
    real, fake = _as_float(real_logits), _as_float(fake_logits)
    if real.shape != fake.shape:
        raise ValueError(f"real_logits {real.shape} and fake_logits {fake.shape} must have the same shape")
    return real, fake


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
        label_smoothing: `s` in [0, 1); 0 leaves the labels hard. (TF-GAN smooths by 0.25 unless told otherwise.)

    Returns:
        `[...]`, the loss of each pair of entries.

    Raises:
        ValueError: the shapes differ.

    References:
        Goodfellow et al., Generative Adversarial Networks, 2014, eq. 1 (negated: we minimise).
        One-sided smoothing: Salimans et al., Improved Techniques for Training GANs, 2016, section 3.4.
    """
    return _cross_entropy(*_pair(real_logits, fake_logits), label_smoothing)


def minimax_generator_loss(fake_logits: ArrayLike) -> Array:
    """-softplus(f) = log(1 - sigmoid(f)): the generator's side of the minimax game, which saturates for f << 0.

    Args:
        fake_logits: `[...]`.

    Returns:
        `[...]`, never positive.

    References:
        Goodfellow et al., Generative Adversarial Networks, 2014, eq. 1.
    """
    return -softplus(_as_float(fake_logits))


def non_saturating_discriminator_loss(
    real_logits: ArrayLike, fake_logits: ArrayLike, *, label_smoothing: float = 0.0
) -> Array:
    """softplus(-r) + softplus(f): the same discriminator as in the minimax game.

    Args:
        real_logits: `[...]`.
        fake_logits: `[...]`, the same shape.
        label_smoothing: one-sided, see `minimax_discriminator_loss`.

    Returns:
        `[...]`, the loss of each pair of entries.

    Raises:
        ValueError: the shapes differ.

    References:
        Goodfellow et al., Generative Adversarial Networks, 2014, section 3.
    """
    return _cross_entropy(*_pair(real_logits, fake_logits), label_smoothing)


def non_saturating_generator_loss(fake_logits: ArrayLike) -> Array:
    """softplus(-f) = -log sigmoid(f): the generator maximises log D(G(z)), so its gradient survives f << 0.

    Args:
        fake_logits: `[...]`.

    Returns:
        `[...]`, never negative.

    References:
        Goodfellow et al., Generative Adversarial Networks, 2014, section 3 (last paragraph).
    """
    return softplus(-_as_float(fake_logits))


def wasserstein_discriminator_loss(real_logits: ArrayLike, fake_logits: ArrayLike) -> Array:
    """f - r: minus the critic's estimate of the Wasserstein-1 distance.

    It says nothing by itself: the critic has to be held 1-Lipschitz by clipping, a penalty or normalisation.

    Args:
        real_logits: `[...]`.
        fake_logits: `[...]`, the same shape.

    Returns:
        `[...]`; minus its mean estimates the distance.

    Raises:
        ValueError: the shapes differ.

    References:
        Arjovsky et al., Wasserstein GAN, 2017, eq. 2-3. Same sign in TF-GAN, mimicry, StudioGAN; GAN_stability
        flips the critic's sign on both sides.
    """
    real, fake = _pair(real_logits, fake_logits)
    return fake - real


def wasserstein_generator_loss(fake_logits: ArrayLike) -> Array:
    """-f: the generator raises the critic's value of its samples.

    Args:
        fake_logits: `[...]`.

    Returns:
        `[...]`.

    References:
        Arjovsky et al., Wasserstein GAN, 2017, algorithm 1.
    """
    return -_as_float(fake_logits)


def hinge_discriminator_loss(real_logits: ArrayLike, fake_logits: ArrayLike) -> Array:
    """relu(1 - r) + relu(1 + f).

    Args:
        real_logits: `[...]`.
        fake_logits: `[...]`, the same shape.

    Returns:
        `[...]`, never negative; zero where r >= 1 and f <= -1.

    Raises:
        ValueError: the shapes differ.

    References:
        Lim & Ye, Geometric GAN, 2017; Miyato et al., Spectral Normalization for GANs, 2018, eq. 16.
    """
    real, fake = _pair(real_logits, fake_logits)
    return relu(1.0 - real) + relu(1.0 + fake)


def hinge_generator_loss(fake_logits: ArrayLike) -> Array:
    """-f: there is no hinge on the generator's side.

    Args:
        fake_logits: `[...]`.

    Returns:
        `[...]`.

    References:
        Lim & Ye, Geometric GAN, 2017; Miyato et al., Spectral Normalization for GANs, 2018, eq. 17.
    """
    return -_as_float(fake_logits)


def least_squares_discriminator_loss(real_logits: ArrayLike, fake_logits: ArrayLike) -> Array:
    """1/2 (r - 1)^2 + 1/2 f^2, on raw logits.

    Args:
        real_logits: `[...]`.
        fake_logits: `[...]`, the same shape.

    Returns:
        `[...]`, never negative.

    Raises:
        ValueError: the shapes differ.

    References:
        Mao et al., Least Squares GANs, 2017, eq. 9 (a = 0, b = c = 1). TF-GAN and StudioGAN agree; compare_gan
        applies a sigmoid first, CycleGAN's code leaves out the factors 1/2.
    """
    real, fake = _pair(real_logits, fake_logits)
    return 0.5 * jnp.square(real - 1.0) + 0.5 * jnp.square(fake)


def least_squares_generator_loss(fake_logits: ArrayLike) -> Array:
    """1/2 (f - 1)^2, on raw logits.

    Args:
        fake_logits: `[...]`.

    Returns:
        `[...]`, never negative.

    References:
        Mao et al., Least Squares GANs, 2017, eq. 9.
    """
    return 0.5 * jnp.square(_as_float(fake_logits) - 1.0)


def relativistic_discriminator_loss(real_logits: ArrayLike, fake_logits: ArrayLike) -> Array:
    """softplus(-(r - f)): each real example is compared with the generated one at the same place.

    Args:
        real_logits: `[...]`.
        fake_logits: `[...]`, the same shape.

    Returns:
        `[...]`, never negative; unchanged when one constant is added to both logits.

    Raises:
        ValueError: the shapes differ.

    References:
        Jolicoeur-Martineau, The relativistic discriminator, 2018, eq. 3 (RSGAN); the game of Huang et al.,
        The GAN is dead; long live the GAN!, 2024 (R3GAN), eq. 2.
    """
    real, fake = _pair(real_logits, fake_logits)
    return softplus(fake - real)


def relativistic_generator_loss(fake_logits: ArrayLike, real_logits: ArrayLike) -> Array:
    """softplus(-(f - r)): the discriminator's loss with the roles exchanged.

    Args:
        fake_logits: `[...]`.
        real_logits: `[...]`, the same shape.

    Returns:
        `[...]`, never negative.

    Raises:
        ValueError: the shapes differ.

    References:
        Jolicoeur-Martineau, The relativistic discriminator, 2018, eq. 4 (RSGAN).
    """
    real, fake = _pair(real_logits, fake_logits)
    return softplus(real - fake)


def relativistic_average_discriminator_loss(real_logits: ArrayLike, fake_logits: ArrayLike) -> Array:
    """softplus(-(r - mean f)) + softplus(f - mean r): each example against the average of the other kind.

    The means run over all entries given; on several devices give the logits of the global batch.

    Args:
        real_logits: `[...]`.
        fake_logits: `[...]`, the same shape.

    Returns:
        `[...]`, never negative; unchanged when one constant is added to both logits.

    Raises:
        ValueError: the shapes differ.

    References:
        Jolicoeur-Martineau, The relativistic discriminator, 2018, section 4.2 (RaSGAN). The two terms are summed as in
        TF-GAN; the author's code halves the sum.
    """
    return _against_the_mean(*_pair(real_logits, fake_logits))


def relativistic_average_generator_loss(fake_logits: ArrayLike, real_logits: ArrayLike) -> Array:
    """softplus(-(f - mean r)) + softplus(r - mean f): the discriminator's loss with the roles exchanged.

    Args:
        fake_logits: `[...]`.
        real_logits: `[...]`, the same shape.

    Returns:
        `[...]`, never negative.

    Raises:
        ValueError: the shapes differ.

    References:
        Jolicoeur-Martineau, The relativistic discriminator, 2018, section 4.2 (RaSGAN).
    """
    real, fake = _pair(real_logits, fake_logits)
    return _against_the_mean(fake, real)


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
}
