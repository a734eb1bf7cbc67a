"""Regularisers with a state, on parameters, or of the training itself: LeCam, orthogonal, L2, clipping, lazy terms.

Every function is pure: what it remembers goes in and comes out. Parameters are any pytree of arrays; a kernel is a
leaf with two axes or more. Half precision is computed in, and returned as, float32.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxgan.losses.arrays import as_float, as_pair
from jaxgan.losses.spectral import Where, as_matrix, kernels

PyTree = Any


class LeCamState(NamedTuple):
    """The running means of the discriminator's outputs, each `[]`."""

    real: Array  # float32, of real examples' logits
    fake: Array  # float32, of generated ones'
    updates: Array  # int32, how many batches they have seen


def lecam_init() -> LeCamState:
    """The state before the first batch: no means yet.

    Returns:
        `LeCamState` of float32 zeros and a count, each `[]`.

    References:
        Tseng et al., Regularizing Generative Adversarial Networks under Limited Data, 2021, the anchors.

    Conventions:
        The first batch sets the means. lecam-gan starts them at 1000 and StudioGAN at 7777, which the batch's replace
        until the start step (if that is 0, they decay from there); lecam-gan's StyleGAN2 code starts at 0, debiased.
    """
    return LeCamState(jnp.float32(0.0), jnp.float32(0.0), jnp.int32(0))


def lecam_penalty(
    real_logits: ArrayLike,
    fake_logits: ArrayLike,
    state: LeCamState,
    *,
    decay: float = 0.99,
    start: int = 0,
    rectified: bool = True,
) -> tuple[Array, LeCamState]:
    """relu(r - mean f)^2 + relu(mean r - f)^2, with running means that take no gradient and are moved first.

    Args:
        real_logits: `[...]`, of the global batch where there are several devices.
        fake_logits: `[...]`, the same shape.
        state: from `lecam_init()` or from the last call.
        decay: of the means; the first batch sets them.
        start: batches during which the penalty is 0 and the means are the batch's.
        rectified: False takes the squares on both sides, (r - mean f)^2 + (mean r - f)^2, the paper's formula.

    Returns:
        `[...]`, float32 or wider, never negative, and the new state.

    Raises:
        ValueError: the shapes differ.

    References:
        Tseng et al., Regularizing Generative Adversarial Networks under Limited Data, 2021, the regularizer R_LC
        (weight 0.3 in the authors' code for CIFAR-10).

    Conventions:
        Rectified, means moved first: lecam-gan's code (decay 0.9, for StyleGAN2 0.99) and StudioGAN (on CIFAR-10 weight
        0.3, decay 0.99, start 1000, with the hinge loss). The paper's formula has no relu.
    """
    real, fake = as_pair(real_logits, fake_logits)
    keep = jnp.where(state.updates < max(start, 1), 0.0, decay)

    def moved(mean, logits):
        return jax.lax.stop_gradient(keep * mean + (1.0 - keep) * jnp.mean(logits)).astype(mean.dtype)

    new = LeCamState(moved(state.real, real), moved(state.fake, fake), state.updates + 1)
    above, below = real - new.fake, new.real - fake
    if rectified:
        above, below = jnp.maximum(above, 0.0), jnp.maximum(below, 0.0)
    started = (state.updates >= start).astype(real.dtype)
    return started * (jnp.square(above) + jnp.square(below)), new


def orthogonal_penalty(params: PyTree, where: Where | None = None, *, out_axis: int = -1) -> Array:
    """sum over kernels of ||W^T W (1 - I)||_F^2: pushes the filters of a layer apart, and leaves their norms alone.

    W is the kernel as a matrix `[inputs, outputs]`, so that W^T W holds the products of each pair of filters.

    Args:
        params: a pytree.
        where: `(path, leaf) -> bool`, which leaves count, with the path as "Dense_0.kernel"; left out: those with two
            axes or more. Brock et al. leave out the embeddings.
        out_axis: the kernels' axis of outputs: -1 in Flax and Haiku, 0 in Equinox and PyTorch.

    Returns:
        `[]`, float32 or wider, never negative.

    References:
        Brock et al., Large Scale GAN Training for High Fidelity Natural Image Synthesis, 2019 (BigGAN), the modified
        orthogonal regularization (weight 1e-4).

    Conventions:
        The formula as printed. BigGAN-PyTorch writes the gradient by hand and is half of this one's.
    """

    def one(kernel):
        w = as_matrix(as_float(kernel, "a kernel"), out_axis)
        products = jnp.matmul(w.T, w, precision="highest")
        return jnp.sum(jnp.square(products * (1.0 - jnp.eye(products.shape[0], dtype=products.dtype))))

    return sum((one(kernel) for kernel in kernels(params, where).values()), start=jnp.float32(0.0))


def l2_penalty(params: PyTree, where: Where | None = None) -> Array:
    """1/2 sum w^2 over kernels, whose gradient is w.

    Args:
        params: a pytree.
        where: see `orthogonal_penalty`; left out, biases and scales are not penalised.

    Returns:
        `[]`, float32 or wider, never negative.

    References:
        Krogh & Hertz, A Simple Weight Decay Can Improve Generalization, 1992, weight decay.

    Conventions:
        With the 1/2, as `tf.nn.l2_loss` and as PyTorch's `weight_decay`, which adds w to the gradient; compare_gan
        takes the mean over kernels. Under Adam it is not the decoupled weight decay of `optax.adamw`.
    """
    squares = (jnp.sum(jnp.square(as_float(kernel, "a kernel"))) for kernel in kernels(params, where).values())
    return 0.5 * sum(squares, start=jnp.float32(0.0))


class Transformation(NamedTuple):
    """`init(params) -> state` and `update(updates, state, params) -> (updates, state)`: optax takes it as its own."""

    init: Callable[[PyTree], tuple]
    update: Callable[..., tuple[PyTree, tuple]]


def weight_clipping(bound: float) -> Transformation:
    """An optax transformation after which every parameter lies in [-bound, bound]: the WGAN's box.

    It turns updates u into clip(p + u, -bound, bound) - p (to rounding), so it has to be the last of a chain:
    `optax.chain(optax.rmsprop(5e-5), losses.weight_clipping(0.01))`.

    Args:
        bound: c > 0.

    Returns:
        A transformation `(init, update)` for `optax.chain`; updates keep their shapes `[...]` and types, float32 or
        not.

    Raises:
        ValueError: the bound is not above 0, or the optimizer is updated without its parameters.

    References:
        Arjovsky et al., Wasserstein GAN, 2017, the WGAN algorithm (c = 0.01, RMSprop with 5e-5, 5 critic steps).

    Conventions:
        All parameters are clipped, biases and scales too, as in the authors' code (before a critic step and not after
        it), StudioGAN and TF-GAN's `clip_discriminator_weights`.
    """
    if not bound > 0:
        raise ValueError(f"the bound {bound} must be above 0")

    def update(updates, state, params=None):
        if params is None:
            raise ValueError("weight_clipping needs the parameters: optimizer.update(grads, state, params)")
        return jax.tree.map(lambda u, p: jnp.clip(p + u, -bound, bound) - p, updates, params), state

    return Transformation(lambda params: (), update)


def lazy_regularization(penalty: Callable[..., Any], step: ArrayLike, interval: int, state: Any = None) -> Any:
    """interval * penalty() at every interval-th step, 0 at the others, which cost nothing.

    The average over steps is that of `penalty()` itself, so weights need no change; where the optimizer has moments,
    see `lazy_adam`.

    Args:
        penalty: `() -> array`, or with a state, `state -> (array, state)`.
        step: `[]`, whole number; the penalty is taken at 0, interval, 2 interval, ...
        interval: k >= 1; 16 for StyleGAN2's R1, 4 for its path length.
        state: handed to the penalty and on, unchanged in the steps between.

    Returns:
        What the penalty returns, `[...]` in its type (float32), times the interval, or zeros; with the state if one
        is given.

    Raises:
        ValueError: the interval is under 1.

    References:
        Karras et al., Analyzing and Improving the Image Quality of StyleGAN, 2020 (StyleGAN2), lazy regularization.

    Conventions:
        StyleGAN2 and 3 and StudioGAN multiply by the interval too and take a separate optimizer step for the term
        (StudioGAN's R1 by choice); here it is part of the step's loss. Under `vmap` both branches are computed.
    """
    if interval < 1:
        raise ValueError(f"the interval {interval} must be 1 or more")
    stateless = state is None

    def now(state):
        value, state = (penalty(), None) if stateless else penalty(state)
        return jax.tree.map(lambda x: interval * x, value), state

    def later(state):
        value, _ = jax.eval_shape(now, state)
        return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), value), state

    value, state = jax.lax.cond(jnp.asarray(step) % interval == 0, now, later, state)
    return value if stateless else (value, state)


def lazy_adam(learning_rate: float, b1: float, b2: float, interval: int) -> tuple[float, float, float]:
    """Adam's knobs for k steps of which one is a regulariser's own: c lr, b1^c, b2^c with c = k / (k + 1).

    Only where the regulariser takes optimizer steps of its own, as in StyleGAN2; a term inside the step's loss, as
    `lazy_regularization` makes it, adds no step and needs no correction.

    Args:
        learning_rate, b1, b2: for training without lazy regularisation.
        interval: k >= 1.

    Returns:
        `(learning_rate, b1, b2)`, Python floats `[]` (or float32 arrays, if given such).

    Raises:
        ValueError: the interval is under 1.

    References:
        Karras et al., Analyzing and Improving the Image Quality of StyleGAN, 2020 (StyleGAN2), lazy regularization.

    Conventions:
        StyleGAN2, StyleGAN3 and StudioGAN, which apply it to both sides, each with its own interval.
    """
    if interval < 1:
        raise ValueError(f"the interval {interval} must be 1 or more")
    c = interval / (interval + 1)
    return learning_rate * c, b1**c, b2**c
