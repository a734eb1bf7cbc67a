"""A linen module as pure functions of params and collections, spectrally normalised where that is asked for.

The vectors of spectral normalisation are one more collection, "spectral": `iterate` moves them, a pass only reads them.
`inputs` are a module's positional arguments: a tuple of arrays, such as (z, label), of which the last may be None.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxgan.losses import spectral_init, spectral_iterate, spectral_normalize

SPECTRAL = "spectral"
TRANSPOSED = "ConvTranspose"  # in the path of a kernel [k, k, outputs, inputs]
OUT_AXIS = {False: -1, True: -2}
Inputs = tuple[Any, ...]


def initialise(module: nn.Module, key: jax.Array, inputs: Inputs, spectral: bool = False):
    """(params, collections) for inputs of these shapes."""
    key_params, key_dropout = jax.random.split(key)
    variables = module.init({"params": key_params, "dropout": key_dropout}, *_given(inputs), train=True)
    params = variables.pop("params")
    if spectral:
        variables[SPECTRAL] = {}
        for of_transposed, axis in OUT_AXIS.items():

            def where(path, leaf, of_transposed=of_transposed):
                return _is_normalised(path, leaf) and (TRANSPOSED in path) == of_transposed

            variables[SPECTRAL] |= spectral_init(jax.random.fold_in(key, 2), params, where, out_axis=axis)
    return params, variables


def apply(module: nn.Module, params, collections, inputs: Inputs, index, key, axis_name, dtype=jnp.float32):
    """A training pass: what the module makes of its inputs, and its collections afterwards.

    With another `dtype` (bfloat16) the module computes in it, from parameters that stay float32: they are normalised
    and then cast, and so are the inputs. What comes out is float32 again, and so are the gradients.
    """
    params, collections, vectors = _normalized(params, collections)
    params, inputs = _cast((params, inputs), dtype)
    out, collections = module.clone(axis_name=axis_name).apply(
        {"params": params, **collections},
        *_given(inputs),
        train=True,
        index=index,
        rngs={"dropout": key},
        mutable=list(collections),
    )
    out, collections = _cast((out, collections), jnp.float32)
    return out, {**collections, **vectors}


def evaluate(module: nn.Module, params, collections, inputs: Inputs, method: str | None = None, **keywords):
    """A pass with nothing random and nothing to learn, of the module's `__call__` or of another method."""
    # An average of unit vectors is none: a few iterations find those of these (perhaps averaged) params again.
    params, collections, _ = _normalized(params, iterate(params, collections, 5))
    return module.apply({"params": params, **collections}, *_given(inputs), train=False, method=method, **keywords)


def iterate(params, collections, iterations: int = 1):
    """The collections with the vectors of spectral normalisation moved, if there are any."""
    if SPECTRAL not in collections:
        return collections
    moved = {}
    for vectors, axis in _by_axis(collections[SPECTRAL]):
        moved |= spectral_iterate(params, vectors, iterations, out_axis=axis)
    return {**collections, SPECTRAL: moved}


def mixes_examples(module: nn.Module, collections) -> bool:
    """Whether what a module makes of an example depends on the others of its batch."""
    return "batch_stats" in collections or getattr(module, "mixes_examples", False)


def _cast(tree, dtype):
    """The floating point numbers of a tree in another type; labels stay whole numbers."""
    return jax.tree.map(lambda x: x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x, tree)


def _given(inputs: Inputs) -> Inputs:
    """Without what is None: a network that knows no labels is not asked to take one."""
    return tuple(x for x in inputs if x is not None)


def _normalized(params, collections):
    """Params to compute with, the collections that the module knows, and those that it does not."""
    rest = dict(collections)
    vectors = rest.pop(SPECTRAL, None)
    if vectors is None:
        return params, rest, {}
    for some, axis in _by_axis(vectors):
        params = spectral_normalize(params, some, out_axis=axis)
    return params, rest, {SPECTRAL: vectors}


def _by_axis(vectors):
    """The vectors of both kinds of kernels, with the axis of the outputs of each."""
    for of_transposed, axis in OUT_AXIS.items():
        yield {path: pair for path, pair in vectors.items() if (TRANSPOSED in path) == of_transposed}, axis


def _is_normalised(path: str, leaf) -> bool:
    """Kernels and embeddings, but not the gains and biases that conditional batch norm keeps for its classes."""
    return leaf.ndim >= 2 and not path.endswith((".scale.embedding", ".bias.embedding"))
