"""What a discriminator says beside real or fake: classes, codes, rotations, and which examples belong together.

Class logits are `[..., K]` with labels `[...]`, whole numbers in [0, K), which are not checked: under jit a label
outside gives a loss of nonsense or NaN. Half precision is computed in, and returned as, float32. Losses over the
batch want the global batch where there are several devices.
"""

import math

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxgan.losses.arrays import as_float, as_pair, example_sum


def ac_gan_loss(class_logits: ArrayLike, labels: ArrayLike) -> Array:
    """-log softmax(class_logits)[label]: the auxiliary classifier's cross-entropy.

    Both sides minimise it: the discriminator on real (in the paper also on generated) examples with their labels, the
    generator on its own with the labels it was asked for.

    Args:
        class_logits: `[..., K]`.
        labels: `[...]`, whole numbers in [0, K).

    Returns:
        `[...]`, float32 or wider, never negative.

    Raises:
        ValueError: the shapes do not fit.
        TypeError: labels that are no whole numbers.

    References:
        Odena et al., Conditional Image Synthesis with Auxiliary Classifier GANs, 2017, L_C (negated).

    Conventions:
        One term; the paper's L_C, and D's loss in TF-GAN, is the sum of it on real and on generated examples.
        improved_wgan_training (weight 1 for D and 0.1 for G) and StudioGAN train D on real examples' labels alone.
    """
    return _cross_entropy(class_logits, labels)


def multi_hinge_loss(class_logits: ArrayLike, labels: ArrayLike) -> Array:
    """relu(1 - C_y + max_{k != y} C_k): Crammer and Singer's hinge over classes.

    Args:
        class_logits: `[..., K]`, K >= 2.
        labels: `[...]`, whole numbers in [0, K).

    Returns:
        `[...]`, float32 or wider, never negative; 0 where the right class leads by 1.

    Raises:
        ValueError: the shapes do not fit.
        TypeError: labels that are no whole numbers.

    References:
        Crammer & Singer, On the Algorithmic Implementation of Multiclass Kernel-based Vector Machines, 2001.

    Conventions:
        MHingeGAN's `crammer_singer_criterion` and StudioGAN's `crammer_singer_loss`, which take the mean.
    """
    logits, labels = _classes(class_logits, labels)
    right = jax.nn.one_hot(labels, logits.shape[-1], dtype=bool)
    best_wrong = jnp.max(jnp.where(right, -jnp.inf, logits), axis=-1)
    return jax.nn.relu(1.0 - _at(logits, labels) + best_wrong)


def multi_hinge_discriminator_loss(
    real_class_logits: ArrayLike, fake_class_logits: ArrayLike, labels: ArrayLike
) -> Array:
    """multi_hinge(real, y) + multi_hinge(fake, K) over K + 1 classes, of which the last means "generated".

    Args:
        real_class_logits: `[..., K + 1]`.
        fake_class_logits: `[..., K + 1]`, the same shape.
        labels: `[...]`, of the real examples, whole numbers in [0, K).

    Returns:
        `[...]`, float32 or wider, never negative; the sum of the two terms.

    Raises:
        ValueError: the shapes do not fit.
        TypeError: labels that are no whole numbers.

    References:
        Kavalerov et al., A Multi-Class Hinge Loss for Conditional GANs, 2021 (MHingeGAN), D's loss.

    Conventions:
        The authors' code and StudioGAN's "MH" take the same two terms, as means.
    """
    real, fake = as_pair(real_class_logits, fake_class_logits, ("real_class_logits", "fake_class_logits"))
    generated = jnp.full(fake.shape[:-1], fake.shape[-1] - 1)
    return multi_hinge_loss(real, labels) + multi_hinge_loss(fake, generated)


def multi_hinge_generator_loss(fake_class_logits: ArrayLike, labels: ArrayLike) -> Array:
    """relu(1 - C_y + max_{k != y} C_k) at generated examples: they should lead in the class they were asked for.

    Args:
        fake_class_logits: `[..., K + 1]`.
        labels: `[...]`, the classes asked for, whole numbers in [0, K).

    Returns:
        `[...]`, float32 or wider, never negative.

    Raises:
        ValueError: the shapes do not fit.
        TypeError: labels that are no whole numbers.

    References:
        Kavalerov et al., A Multi-Class Hinge Loss for Conditional GANs, 2021 (MHingeGAN), G's loss.

    Conventions:
        StudioGAN's "MH". The authors' code adds feature matching, `mean_feature_matching_loss` here.
    """
    return multi_hinge_loss(fake_class_logits, labels)


def info_gan_categorical_loss(code_logits: ArrayLike, codes: ArrayLike) -> Array:
    """-log q(c | x) of a categorical code.

    H(c) minus its mean is a lower bound on the mutual information I(c; G(z, c)). Both networks minimise it. For K
    equally likely codes H(c) = log K.

    Args:
        code_logits: `[..., K]`, of q.
        codes: `[...]`, the codes that the generator was given, whole numbers in [0, K).

    Returns:
        `[...]`, float32 or wider, never negative.

    Raises:
        ValueError: the shapes do not fit.
        TypeError: codes that are no whole numbers.

    References:
        Chen et al., InfoGAN, 2016, L_I = E[log q(c | x)] + H(c) (weight 1).

    Conventions:
        Without H(c), as TF-GAN and StudioGAN; the authors' code has it, a constant.
    """
    return _cross_entropy(code_logits, codes)


def info_gan_gaussian_loss(mean: ArrayLike, log_std: ArrayLike, codes: ArrayLike) -> Array:
    """-log q(c | x) = sum_d 1/2 ((c_d - mean_d) / std_d)^2 + log std_d + 1/2 log 2 pi, of continuous codes.

    Args:
        mean: `[B, D]`, of q.
        log_std: `[B, D]`, the logarithm of q's standard deviation; zeros for a fixed std of 1.
        codes: `[B, D]`, those that the generator was given.

    Returns:
        `[B]`, float32 or wider, summed over codes.

    Raises:
        ValueError: the shapes differ.

    References:
        Chen et al., InfoGAN, 2016, L_I with a factored Gaussian for q (the paper gives it a smaller weight).

    Conventions:
        The whole negative log-likelihood, 1/2 log 2 pi included, as the authors' code (weight 1 there), TF-GAN and
        StudioGAN; PyTorch's GaussianNLLLoss leaves out that constant.
    """
    mean, log_std = as_pair(mean, log_std, ("mean", "log_std"))
    mean, codes = as_pair(mean, codes, ("mean", "codes"))
    scaled = (codes - mean) * jnp.exp(-log_std)
    return example_sum(0.5 * jnp.square(scaled) + log_std + 0.5 * math.log(2.0 * math.pi))


def rotate_four_ways(x: ArrayLike) -> tuple[Array, Array]:
    """Every picture by 0, 90, 180 and 270 degrees counter-clockwise, and by how many quarter turns.

    Args:
        x: `[B, H, W, C]` with H = W.

    Returns:
        `[4 B, H, W, C]` in the type of `x` (float32 or any other), the unturned batch first, and labels `[4 B]`,
        int32 in [0, 4).

    Raises:
        ValueError: no squares.

    References:
        Chen et al., Self-Supervised GANs via Auxiliary Rotation Loss, 2019 (SSGAN), the rotation task.

    Conventions:
        All four of each picture; compare_gan so turns a part of the batch only (`rotated_batch_size` / 4 pictures),
        mimicry each quarter of the batch one way.
    """
    x = jnp.asarray(x)
    if x.ndim != 4 or x.shape[1] != x.shape[2]:
        raise ValueError(f"quarter turns need square pictures [B, H, H, C], not {x.shape}")
    turned = [jnp.rot90(x, turns, axes=(1, 2)) for turns in range(4)]
    return jnp.concatenate(turned), jnp.repeat(jnp.arange(4, dtype=jnp.int32), x.shape[0])


def rotation_loss(rotation_logits: ArrayLike, labels: ArrayLike) -> Array:
    """-log softmax(rotation_logits)[label]: how far a picture was turned, as a task for both sides.

    The discriminator minimises it on turned real pictures, the generator on turned generated ones: they help each
    other.

    Args:
        rotation_logits: `[..., 4]`, of a second head of the discriminator.
        labels: `[...]`, quarter turns, as `rotate_four_ways` gives them.

    Returns:
        `[...]`, float32 or wider, never negative.

    Raises:
        ValueError: the shapes do not fit.
        TypeError: labels that are no whole numbers.

    References:
        Chen et al., Self-Supervised GANs via Auxiliary Rotation Loss, 2019 (SSGAN), the rotation terms of both sides
        (weights 1.0 for D, 0.2 for G).

    Conventions:
        compare_gan and mimicry take the same cross-entropy and weights.
    """
    return _cross_entropy(rotation_logits, labels)


def conditional_contrastive_loss(
    embeddings: ArrayLike, proxies: ArrayLike, labels: ArrayLike, *, temperature: float = 1.0
) -> Array:
    """-log (e^{s_i} + sum_{k != i, y_k = y_i} e^{s_ik}) / (e^{s_i} + sum_{k != i} e^{s_ik}), the 2C loss.

    s_i is the cosine between example i and the proxy of its class, s_ik that between examples, both over the
    temperature.

    Args:
        embeddings: `[B, D]`, of the discriminator; scaled to unit length here.
        proxies: `[B, D]`, the learned vector of each example's class; scaled to unit length here.
        labels: `[B]`, whole numbers.
        temperature: t > 0.

    Returns:
        `[B]`, float32 or wider, never negative.

    Raises:
        ValueError: the shapes do not fit.
        TypeError: labels that are no whole numbers.

    References:
        Kang & Park, ContraGAN: Contrastive Learning for Conditional Image Generation, 2020, the 2C loss.

    Conventions:
        StudioGAN's `ConditionalContrastiveLoss` (ContraGAN's code), which takes the mean.
    """
    to_proxy, between, same, other = _similarities(embeddings, proxies, labels)
    logits = jnp.concatenate([to_proxy[:, None], between], axis=1) / temperature
    itself = jnp.ones_like(to_proxy[:, None], dtype=bool)
    kin = jnp.concatenate([itself, same], axis=1)
    everyone = jnp.concatenate([itself, same | other], axis=1)
    return _log_sum_exp(logits, everyone) - _log_sum_exp(logits, kin)


def data_to_data_cross_entropy_loss(
    embeddings: ArrayLike, proxies: ArrayLike, labels: ArrayLike, *, temperature: float = 0.5, margin: float = 0.98
) -> Array:
    """-log e^{a_i} / (e^{a_i} + sum_{k: y_k != y_i} e^{r_ik}), the D2D-CE loss.

    a_i = min(0, s_i - m) / t attracts and r_ik = max(0, s_ik - (1 - m)) / t repels, where s_i is the cosine between
    example i and the proxy of its class, s_ik that between examples: it
    stops to pull what is near and to push what is far.

    Args:
        embeddings: `[B, D]`, of the discriminator; scaled to unit length here.
        proxies: `[B, D]`, the learned vector of each example's class; scaled to unit length here.
        labels: `[B]`, whole numbers.
        temperature: t > 0.
        margin: m, of the positive term; that of the negative ones is 1 - m.

    Returns:
        `[B]`, float32 or wider, never negative; 0 for an example that has only its own class beside it.

    Raises:
        ValueError: the shapes do not fit.
        TypeError: labels that are no whole numbers.

    References:
        Kang et al., Rebooting ACGAN: Auxiliary Classifier GANs with Stable Training, 2021 (ReACGAN), the D2D-CE loss.

    Conventions:
        The paper's formula. StudioGAN's code subtracts each row's largest similarity from the negative exponents alone,
        which changes the value; its margin and temperature for CIFAR-10 are the defaults here.
    """
    to_proxy, between, _, other = _similarities(embeddings, proxies, labels)
    attraction = jnp.minimum(to_proxy - margin, 0.0) / temperature
    repulsion = jnp.maximum(between - (1.0 - margin), 0.0) / temperature
    logits = jnp.concatenate([attraction[:, None], repulsion], axis=1)
    counted = jnp.concatenate([jnp.ones_like(attraction[:, None], dtype=bool), other], axis=1)
    return _log_sum_exp(logits, counted) - attraction


def _similarities(embeddings, proxies, labels):
    """Cosines to the proxies [B] and between examples [B, B]; masks of others of the same and of other classes."""
    embeddings, proxies = as_pair(embeddings, proxies, ("embeddings", "proxies"))
    labels = _whole(labels)
    if embeddings.ndim != 2 or labels.shape != embeddings.shape[:1]:
        raise ValueError(f"embeddings {embeddings.shape} must be [B, D], and labels {labels.shape} [B]")
    embeddings, proxies = _unit(embeddings), _unit(proxies)
    same = labels[:, None] == labels[None, :]
    between = jnp.matmul(embeddings, embeddings.T, precision="highest")
    return jnp.sum(embeddings * proxies, axis=-1), between, same & ~jnp.eye(len(labels), dtype=bool), ~same


def _unit(x: Array) -> Array:
    """Rows of length 1; the root keeps its gradient finite for a row of zeros."""
    square = jnp.sum(jnp.square(x), axis=-1, keepdims=True)
    return x * jax.lax.rsqrt(jnp.maximum(square, 1e-16))  # a length of 1e-8, as PyTorch's cosine


def _log_sum_exp(x: Array, mask: Array) -> Array:
    return jax.nn.logsumexp(x, axis=-1, where=mask)


def _cross_entropy(logits: ArrayLike, labels: ArrayLike) -> Array:
    logits, labels = _classes(logits, labels)
    return jax.nn.logsumexp(logits, axis=-1) - _at(logits, labels)


def _at(logits: Array, labels: Array) -> Array:
    return jnp.take_along_axis(logits, labels[..., None], axis=-1)[..., 0]


def _classes(logits: ArrayLike, labels: ArrayLike) -> tuple[Array, Array]:
    logits, labels = as_float(logits, "class logits"), _whole(labels)
    if logits.ndim == 0 or logits.shape[:-1] != labels.shape:
        raise ValueError(f"class logits {logits.shape} must have the axes of the labels {labels.shape} and one more")
    return logits, labels


def _whole(labels: ArrayLike) -> Array:
    labels = jnp.asarray(labels)
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise TypeError(f"labels must be whole numbers, not {labels.dtype}")
    return labels
