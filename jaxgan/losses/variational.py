"""The terms of variational autoencoders (VAE) and of vector quantisation (VQ), to join to GANs and to compare with.

Likelihoods and divergences are sums over everything but the batch, as the evidence lower bound is: means in their
place change the balance of its two terms. Half precision is computed in, and returned as, float32.
"""

import math

import jax
import jax.numpy as jnp
from jax import Array
from jax.nn import softplus
from jax.typing import ArrayLike

from jaxgan.losses.arrays import as_float, as_pair, example_sum, require_same_shape


def gaussian_kl(mean: ArrayLike, log_variance: ArrayLike) -> Array:
    """KL(N(mean, e^log_variance) || N(0, I)) = 1/2 sum (mean^2 + e^log_variance - 1 - log_variance).

    Args:
        mean: `[B, ...]`.
        log_variance: `[B, ...]`, the same shape.

    Returns:
        `[B]`, float32 or wider, never negative.

    Raises:
        ValueError: the shapes differ.

    References:
        Kingma & Welling, Auto-Encoding Variational Bayes, 2014, appendix B.

    Conventions:
        Summed over latents. Code that takes the mean over latents divides the weight of this term by their number.
    """
    mean, log_variance = as_pair(mean, log_variance, ("mean", "log_variance"))
    # expm1: near the prior e^v - 1 - v is the small difference of numbers near 1.
    return 0.5 * example_sum(jnp.square(mean) + jnp.expm1(log_variance) - log_variance)


def bernoulli_nll(logits: ArrayLike, target: ArrayLike) -> Array:
    """-log p(target) = sum softplus(logit) - target logit, of pixels between 0 and 1.

    Args:
        logits: `[B, ...]`, the decoder's.
        target: `[B, ...]`, the same shape, in [0, 1].

    Returns:
        `[B]`, float32 or wider, never negative.

    Raises:
        ValueError: the shapes differ.

    References:
        Kingma & Welling, Auto-Encoding Variational Bayes, 2014, the Bernoulli MLP as decoder.

    Conventions:
        The sum of PyTorch's BCEWithLogitsLoss(reduction="none"). For pixels that are not 0 or 1 it is a cross-entropy
        and no likelihood, as in most code.
    """
    logits, target = as_pair(logits, target, ("logits", "target"))
    return example_sum(softplus(logits) - target * logits)


def gaussian_nll(mean: ArrayLike, target: ArrayLike, log_variance: ArrayLike = 0.0) -> Array:
    """-log N(target; mean, e^log_variance) = 1/2 sum ((target - mean)^2 e^-log_variance + log_variance + log 2 pi).

    Args:
        mean: `[B, ...]`, the decoder's.
        target: `[B, ...]`, the same shape.
        log_variance: `[]` or `[B, ...]`; 0 is a variance of 1.

    Returns:
        `[B]`, float32 or wider.

    Raises:
        ValueError: the shapes differ.

    References:
        Kingma & Welling, Auto-Encoding Variational Bayes, 2014, the Gaussian MLP as decoder.

    Conventions:
        With the constant, as a likelihood. PyTorch's GaussianNLLLoss leaves it out unless asked (full=True).
    """
    mean, target = as_pair(mean, target, ("mean", "target"))
    # A number of Python's takes the type of the others.
    log_variance = jnp.asarray(log_variance, mean.dtype if isinstance(log_variance, (int, float)) else None)
    log_variance = as_float(log_variance, "log_variance")
    if log_variance.ndim:
        require_same_shape(mean, log_variance, ("mean", "log_variance"))
    squares = jnp.square(target - mean) * jnp.exp(-log_variance)
    return 0.5 * example_sum(squares + log_variance + math.log(2.0 * math.pi))


def vq_codebook_loss(encoded: ArrayLike, quantized: ArrayLike) -> Array:
    """||sg[z_e] - e||^2: moves the chosen codes to the encodings.

    Args:
        encoded: `[..., D]`, z_e(x).
        quantized: `[..., D]`, the nearest codes e.

    Returns:
        `[...]`, float32 or wider, never negative.

    Raises:
        ValueError: the shapes differ.

    References:
        van den Oord et al., Neural Discrete Representation Learning, 2017 (VQ-VAE), the second term of the
        training objective.

    Conventions:
        The squared norm; sonnet and VQGAN take the mean over D too, which divides it by D. With codes that follow a
        moving average this term is left out.
    """
    encoded, quantized = as_pair(encoded, quantized, ("encoded", "quantized"))
    return jnp.sum(jnp.square(jax.lax.stop_gradient(encoded) - quantized), axis=-1)


def vq_commitment_loss(encoded: ArrayLike, quantized: ArrayLike) -> Array:
    """||z_e - sg[e]||^2: keeps the encodings near their codes.

    Args:
        encoded: `[..., D]`, z_e(x).
        quantized: `[..., D]`, the nearest codes e.

    Returns:
        `[...]`, float32 or wider, never negative.

    Raises:
        ValueError: the shapes differ.

    References:
        van den Oord et al., Neural Discrete Representation Learning, 2017 (VQ-VAE), the third term of the
        training objective (beta 0.25).

    Conventions:
        The squared norm; sonnet and VQGAN take the mean over D too. VQGAN's code puts beta on the other term unless
        told `legacy=False`.
    """
    encoded, quantized = as_pair(encoded, quantized, ("encoded", "quantized"))
    return jnp.sum(jnp.square(encoded - jax.lax.stop_gradient(quantized)), axis=-1)


def straight_through(encoded: ArrayLike, quantized: ArrayLike) -> Array:
    """z_e + sg[e - z_e]: the value of the code with the gradient of the encoding.

    Args:
        encoded: `[..., D]`.
        quantized: `[..., D]`.

    Returns:
        `[..., D]`, float32 or wider.

    Raises:
        ValueError: the shapes differ.

    References:
        van den Oord et al., Neural Discrete Representation Learning, 2017 (VQ-VAE), the straight-through
        gradient.

    Conventions:
        As sonnet and VQGAN; equal to the code up to rounding.
    """
    encoded, quantized = as_pair(encoded, quantized, ("encoded", "quantized"))
    return encoded + jax.lax.stop_gradient(quantized - encoded)
