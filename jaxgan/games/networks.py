"""A linen module as pure functions of params and collections, spectrally normalised where that is asked for.

The vectors of spectral normalisation are one more collection, "spectral": `iterate` moves them, a pass only reads them.
"""

import jax
from flax import linen as nn

from jaxgan.losses import spectral_init, spectral_iterate, spectral_normalize

SPECTRAL = "spectral"


def initialise(module: nn.Module, key: jax.Array, x: jax.Array, spectral: bool = False):
    """(params, collections) for inputs of the shape of `x`."""
    key_params, key_dropout = jax.random.split(key)
    variables = module.init({"params": key_params, "dropout": key_dropout}, x, train=True)
    params = variables.pop("params")
    if spectral:
        variables[SPECTRAL] = spectral_init(jax.random.fold_in(key, 2), params)
    return params, variables


def apply(module: nn.Module, params, collections, x, index, key, axis_name):
    """A training pass: what the module makes of `x`, and its collections afterwards."""
    params, collections, vectors = _normalized(params, collections)
    out, collections = module.clone(axis_name=axis_name).apply(
        {"params": params, **collections},
        x,
        train=True,
        index=index,
        rngs={"dropout": key},
        mutable=list(collections),
    )
    return out, {**collections, **vectors}


def evaluate(module: nn.Module, params, collections, x):
    """A pass with nothing random and nothing to learn."""
    # An average of unit vectors is none: a few iterations find those of these (perhaps averaged) params again.
    params, collections, _ = _normalized(params, iterate(params, collections, 5))
    return module.apply({"params": params, **collections}, x, train=False)


def iterate(params, collections, iterations: int = 1):
    """The collections with the vectors of spectral normalisation moved, if there are any."""
    if SPECTRAL not in collections:
        return collections
    return {**collections, SPECTRAL: spectral_iterate(params, collections[SPECTRAL], iterations)}


def _normalized(params, collections):
    """Params to compute with, the collections that the module knows, and those that it does not."""
    rest = dict(collections)
    vectors = rest.pop(SPECTRAL, None)
    if vectors is None:
        return params, rest, {}
    return spectral_normalize(params, vectors), rest, {SPECTRAL: vectors}
