"""Draws belong to examples: one key is split for them, `[B]` keys are theirs as they are."""

from collections.abc import Callable
from typing import Any

import jax
from jax import Array


def keys_of(key: Array, examples: int) -> Array:
    """A key for each example, `[B]`."""
    return key if key.ndim else jax.random.split(key, examples)


def each(draw: Callable[[Array], Any], key: Array, examples: int) -> Any:
    """One draw for each example, from its own key."""
    return jax.vmap(draw)(keys_of(key, examples))
