"""Spectral normalisation: each kernel divided by an estimate of its largest singular value.

It works on parameters and not on layers, so it does not care which library made the network, and the estimate
moves when the caller says so, once an update, whatever the number of passes::

    vectors = losses.spectral_init(key, params)                    # once
    vectors = losses.spectral_iterate(params, vectors)             # once an update: no gradient
    logits = critic(losses.spectral_normalize(params, vectors), x) # real, fake and penalty: the same sigma

`flax.linen.SpectralNorm` iterates in every call (so the real and the generated pass see different sigmas) and keeps
its vectors in "batch_stats". Everything here is plain array arithmetic: it may be vmapped over a population, and
differentiated twice for gradient penalties.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxgan.losses.arrays import as_float, draw

PyTree = Any
Where = Callable[[str, Any], bool]


class SpectralVectors(NamedTuple):
    """Estimates of the singular vectors of the largest singular value of a kernel W [inputs, outputs]."""

    u: Array  # [outputs]
    v: Array  # [inputs]


def kernels(params: PyTree, where: Where | None = None) -> dict[str, Array]:
    """The leaves of a pytree that `where(path, leaf)` takes, by their path; those with two axes or more by default."""
    where = where or (lambda path, leaf: getattr(leaf, "ndim", 0) >= 2)
    leaves = jax.tree_util.tree_leaves_with_path(params)
    named = ((jax.tree_util.keystr(path, simple=True, separator="."), leaf) for path, leaf in leaves)
    return {path: leaf for path, leaf in named if where(path, leaf)}


def as_matrix(kernel: Array, out_axis: int) -> Array:
    """[inputs, outputs], whatever the axes of the inputs."""
    return jnp.moveaxis(kernel, out_axis, -1).reshape(-1, kernel.shape[out_axis])


def spectral_init(
    key: Array, params: PyTree, where: Where | None = None, *, iterations: int = 15, out_axis: int = -1
) -> dict[str, SpectralVectors]:
    """Vectors for every kernel: n / ||n||, n ~ N(0, I), then some power iterations, so that the first sigma is near.

    Args:
        key: of the first vectors.
        params: a pytree of parameters.
        where: `(path, leaf) -> bool`, which leaves are normalised, with the path as "Dense_0.kernel"; left out: those
            with two axes or more.
        iterations: power iterations to begin with.
        out_axis: the kernels' axis of outputs: -1 in Flax and Haiku, 0 in Equinox and PyTorch.

    Returns:
        A dict from the kernels' paths to `SpectralVectors` of u `[outputs]` and v `[inputs]`, float32 or wider.

    References:
        Miyato et al., Spectral Normalization for Generative Adversarial Networks, 2018, algorithm 1.

    Conventions:
        15 iterations at the start, as PyTorch's parametrization; mimicry and Flax start from a random u alone, of any
        length.
    """

    def one(key, kernel):
        w = as_matrix(as_float(kernel, "a kernel"), out_axis)
        key_u, key_v = jax.random.split(key)
        u, v = (draw(jax.random.normal, k, (n,), w.dtype) for k, n in ((key_u, w.shape[1]), (key_v, w.shape[0])))
        return SpectralVectors(u / jnp.linalg.norm(u), v / jnp.linalg.norm(v))

    found = kernels(params, where).items()
    vectors = {path: one(jax.random.fold_in(key, i), kernel) for i, (path, kernel) in enumerate(found)}
    return spectral_iterate(params, vectors, iterations, out_axis=out_axis)


def spectral_iterate(
    params: PyTree,
    vectors: dict[str, SpectralVectors],
    iterations: int = 1,
    *,
    eps: float = 1e-12,
    out_axis: int = -1,
) -> dict[str, SpectralVectors]:
    """The vectors after more power iterations, v = W u / ||W u||, u = W^T v / ||W^T v||; to be called once an update.

    No gradient goes through them.

    Args:
        params: the raw (not normalised) parameters.
        vectors: from `spectral_init` or from the last update.
        iterations: how many.
        eps: where a product is shorter, as for a kernel of zeros, the vector stays as it was.
        out_axis: see `spectral_init`.

    Returns:
        The same dict with new u `[outputs]` and v `[inputs]`, float32 or wider.

    References:
        Miyato et al., Spectral Normalization for Generative Adversarial Networks, 2018, algorithm 1 (one iteration).

    Conventions:
        One iteration an update. mimicry, PyTorch and Flax iterate once a training call of the layer. eps 1e-12 with a
        maximum as PyTorch and mimicry; Flax adds it under the root; BigGAN-PyTorch 1e-6.
    """
    found = kernels(params, lambda path, leaf: path in vectors)

    def one(path, u, v):
        w = jax.lax.stop_gradient(as_matrix(as_float(found[path], "a kernel"), out_axis))

        def turn(_, pair):
            v = _unit(_product(w, pair.u), pair.v, eps)
            return SpectralVectors(_unit(_product(w.T, v), pair.u, eps), v)

        # One turn is written out; of many a loop is compiled, not all of them.
        pair = SpectralVectors(u, v)
        return turn(0, pair) if iterations == 1 else jax.lax.fori_loop(0, iterations, turn, pair)

    return {path: one(path, *pair) for path, pair in vectors.items()}


def spectral_normalize(params: PyTree, vectors: dict[str, SpectralVectors], *, out_axis: int = -1) -> PyTree:
    """The parameters with W / sigma, sigma = v^T W u, for every kernel that has vectors.

    The gradient goes through W and sigma, with u and v constants.

    Args:
        params: the raw parameters.
        vectors: their estimates, see `spectral_iterate`.
        out_axis: see `spectral_init`.

    Returns:
        A pytree like `params`, each leaf in its shape `[...]` and type; sigma is computed in float32 or wider. A kernel
        of zeros stays zero.

    References:
        Miyato et al., Spectral Normalization for Generative Adversarial Networks, 2018, algorithm 1.

    Conventions:
        A convolution's kernel is taken as the matrix `[height width inputs, outputs]`, as in Chainer, PyTorch, mimicry
        and Flax: not the norm of the convolution itself. No learned scale.
    """

    def one(path, leaf):
        pair = vectors.get(jax.tree_util.keystr(path, simple=True, separator="."))
        if pair is None:
            return leaf
        kernel = as_float(leaf, "a kernel")
        u, v = jax.lax.stop_gradient(pair)
        # W^T v, which `spectral_iterate` has just multiplied for u: where both stand in one program it is done once.
        sigma = jnp.vdot(_product(as_matrix(kernel, out_axis).T, v), u, precision="highest")
        return (kernel / jnp.where(sigma == 0.0, 1.0, sigma)).astype(leaf.dtype)

    return jax.tree_util.tree_map_with_path(one, params)


def _product(w: Array, x: Array) -> Array:
    return jnp.matmul(w, x, precision="highest")  # an accelerator's default would leave sigma three digits


def _unit(x: Array, otherwise: Array, eps: float) -> Array:
    length = jnp.linalg.norm(x)
    return jnp.where(length > eps, x / jnp.maximum(length, eps), otherwise)
