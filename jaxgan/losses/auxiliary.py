"""Losses that stand beside the game: how far pictures, or what a network sees in them, lie from each other.

Half precision is computed in, and returned as, float32. Weights are the caller's.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxgan.losses.arrays import as_float, as_pair, example_mean, example_sum, magnitude


def l1_loss(x: ArrayLike, target: ArrayLike) -> Array:
    """|x - target|.

    Args:
        x: `[...]`.
        target: `[...]`, the same shape.

    Returns:
        `[...]`, float32 or wider, never negative. The gradient where x = target is 0.

    Raises:
        ValueError: the shapes differ.

    References:
        Isola et al., Image-to-Image Translation with Conditional Adversarial Networks, 2017 (pix2pix), the L1 term
        (weight 100).

    Conventions:
        As pix2pix's code and PyTorch's L1Loss before their mean.
    """
    return _l1(x, target, ("x", "target"))


def l2_loss(x: ArrayLike, target: ArrayLike) -> Array:
    """(x - target)^2.

    Args:
        x: `[...]`.
        target: `[...]`, the same shape.

    Returns:
        `[...]`, float32 or wider, never negative.

    Raises:
        ValueError: the shapes differ.

    References:
        Pathak et al., Context Encoders: Feature Learning by Inpainting, 2016, the reconstruction loss.

    Conventions:
        No 1/2, as PyTorch's MSELoss before its mean; `optax.l2_loss` has the 1/2.
    """
    x, target = as_pair(x, target, ("x", "target"))
    return jnp.square(x - target)


def charbonnier_loss(x: ArrayLike, target: ArrayLike, *, eps: float = 1e-3) -> Array:
    """sqrt((x - target)^2 + eps^2): an L1 loss that is smooth at 0.

    Args:
        x: `[...]`.
        target: `[...]`, the same shape.
        eps: where the loss turns from a parabola into a line; above 0.

    Returns:
        `[...]`, float32 or wider, at least eps.

    Raises:
        ValueError: the shapes differ.

    References:
        Lai et al., Deep Laplacian Pyramid Networks for Super-Resolution, 2017 (LapSRN), the Charbonnier penalty (eps
        1e-3).

    Conventions:
        eps squared under the root, as the paper; some PyTorch code adds eps itself.
    """
    x, target = as_pair(x, target, ("x", "target"))
    return jnp.sqrt(jnp.square(x - target) + eps**2)


def cycle_loss(x: ArrayLike, reconstructed: ArrayLike) -> Array:
    """|F(G(x)) - x|: there and back again.

    Args:
        x: `[...]`.
        reconstructed: `[...]`, F(G(x)).

    Returns:
        `[...]`, float32 or wider, never negative, of one direction.

    Raises:
        ValueError: the shapes differ.

    References:
        Zhu et al., Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial Networks, 2017 (CycleGAN),
        the cycle consistency loss (weight 10, both directions).

    Conventions:
        L1; the mean over all numbers in CycleGAN's code and TF-GAN, which halves the sum of the two directions.
    """
    return _l1(reconstructed, x, ("reconstructed", "x"))


def identity_loss(x: ArrayLike, mapped: ArrayLike) -> Array:
    """|G(y) - y|: a generator leaves alone what is in its target domain already.

    Args:
        x: `[...]`, y, of the generator's target domain.
        mapped: `[...]`, G(y).

    Returns:
        `[...]`, float32 or wider, never negative.

    Raises:
        ValueError: the shapes differ.

    References:
        Zhu et al., Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial Networks, 2017 (CycleGAN),
        the identity loss (half the weight of the cycle).

    Conventions:
        L1; the mean over all numbers in CycleGAN's code.
    """
    return _l1(mapped, x, ("mapped", "x"))


def feature_matching_loss(real_features: Sequence[ArrayLike], fake_features: Sequence[ArrayLike]) -> Array:
    """The mean over layers of mean |f_i(x) - f_i(x')|, each pair of examples by itself; no gradient to the real side.

    Args:
        real_features: activations `[B, ...]` of one or more layers, for real examples.
        fake_features: as many, of the same shapes, for the generated examples that belong to them.

    Returns:
        `[B]`, float32 or wider, never negative.

    Raises:
        ValueError: the numbers of layers or the shapes differ.

    References:
        Wang et al., High-Resolution Image Synthesis and Semantic Manipulation with Conditional GANs, 2018
        (pix2pixHD), the feature matching loss (weight 10).

    Conventions:
        The paper sums over layers; its code and MelGAN's take 4 times the mean over layers, and the mean over scales:
        the mean alone keeps its meaning when the network changes. HiFi-GAN takes twice the sum.
    """
    layers = _layers(real_features, fake_features, "real_features", "fake_features")
    return sum(example_mean(magnitude(jax.lax.stop_gradient(real) - fake)) for real, fake in layers) / len(layers)


def mean_feature_matching_loss(real_features: Sequence[ArrayLike], fake_features: Sequence[ArrayLike]) -> Array:
    """sum over layers of ||mean_B f(x) - mean_B f(G(z))||^2: compares batches and not examples.

    No gradient goes to the real side.

    Args:
        real_features: activations `[B, ...]` of one or more layers, for real examples.
        fake_features: as many, with the same shapes but for the batch.

    Returns:
        `[]`, float32 or wider, never negative.

    Raises:
        ValueError: the numbers of layers or the shapes differ.

    References:
        Salimans et al., Improved Techniques for Training GANs, 2016, feature matching.

    Conventions:
        The squared norm of the paper, a sum over features. The authors' code takes the mean of absolute differences, as
        do MHingeGAN's and StudioGAN's.
    """
    layers = _layers(real_features, fake_features, "real_features", "fake_features", batch=False)
    differences = [jnp.mean(jax.lax.stop_gradient(real), axis=0) - jnp.mean(fake, axis=0) for real, fake in layers]
    return sum(jnp.sum(jnp.square(difference)) for difference in differences)


def total_variation(x: ArrayLike) -> Array:
    """sum |x[h+1, w] - x[h, w]| + sum |x[h, w+1] - x[h, w]|.

    Args:
        x: `[B, H, W, C]`.

    Returns:
        `[B]`, float32 or wider, never negative.

    Raises:
        ValueError: not four axes.

    References:
        Rudin et al., Nonlinear Total Variation Based Noise Removal Algorithms, 1992, in its anisotropic form; a loss of
        Johnson et al., Perceptual Losses for Real-Time Style Transfer and Super-Resolution, 2016.

    Conventions:
        The sum over positions and channels, as `tf.image.total_variation`; kornia can take the mean.
    """
    x = as_float(x, "x")
    if x.ndim != 4:
        raise ValueError(f"total variation is of pictures [B, H, W, C], not {x.shape}")
    return example_sum(magnitude(jnp.diff(x, axis=1))) + example_sum(magnitude(jnp.diff(x, axis=2)))


def perceptual_loss(
    features: Callable[[Array], Sequence[Array]], x: ArrayLike, target: ArrayLike, *, normalize: bool = False
) -> Array:
    """sum over layers of mean (f_i(x) - f_i(target))^2: how different two pictures look to a network f.

    Args:
        features: `x [B, ...] -> activations [B, ..., C]` of one or more layers, for instance of a VGG; scale and
            weigh them inside it.
        x: `[B, ...]`.
        target: `[B, ...]`, the same shape; stop its gradient where it has one.
        normalize: scale each position's activations to unit length over channels first, and sum their squared
            differences over channels in place of the mean: LPIPS without its learned weights.

    Returns:
        `[B]`, float32 or wider, never negative.

    Raises:
        ValueError: the shapes differ.

    References:
        Johnson et al., Perceptual Losses for Real-Time Style Transfer and Super-Resolution, 2016, the feature
        reconstruction loss; `normalize`: Zhang et al., The Unreasonable Effectiveness of Deep Features as a Perceptual
        Metric, 2018 (LPIPS), the network distance.

    Conventions:
        The mean over positions and channels, 1 / (C H W), as the paper. LPIPS's code adds 1e-10 to the length, here the
        square of a length is at least 1e-20.
    """
    x, target = as_pair(x, target, ("x", "target"))
    layers = _layers(features(x), features(target), "the features of x", "those of the target")
    return sum(_distance(a, b, normalize) for a, b in layers)


def _l1(x: ArrayLike, target: ArrayLike, names: tuple[str, str]) -> Array:
    x, target = as_pair(x, target, names)
    return magnitude(x - target)


def _distance(a: Array, b: Array, normalize: bool) -> Array:
    if not normalize:
        return example_mean(jnp.square(a - b))
    return example_mean(jnp.sum(jnp.square(_unit(a) - _unit(b)), axis=-1))


def _unit(x: Array) -> Array:
    return x * jax.lax.rsqrt(jnp.maximum(jnp.sum(jnp.square(x), axis=-1, keepdims=True), 1e-20))


def _layers(first, second, name: str, other_name: str, batch: bool = True) -> list[tuple[Array, Array]]:
    if len(first) != len(second) or not len(first):
        raise ValueError(f"{name} has {len(first)} layers, {other_name} {len(second)}; both need the same, one or more")
    layers = [(as_float(a, name), as_float(b, other_name)) for a, b in zip(first, second, strict=True)]
    for a, b in layers:
        if a.shape[0 if batch else 1 :] != b.shape[0 if batch else 1 :]:
            raise ValueError(f"{name} {a.shape} and {other_name} {b.shape} must have the same shape")
    return layers
