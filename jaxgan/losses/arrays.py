"""What the rooms of this package share: types, shapes and draws that belong to an example."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike, DTypeLike


def as_float(x: ArrayLike, name: str = "logits") -> Array:
    """`x` in float32, or wider if it is; TypeError for whole numbers, which are labels given by mistake."""
    x = jnp.asarray(x)
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise TypeError(f"{name} must be floating point, not {x.dtype}")
    return x if jnp.finfo(x.dtype).bits >= 32 else x.astype(jnp.float32)


def as_pair(a: ArrayLike, b: ArrayLike, names: tuple[str, str] = ("real_logits", "fake_logits")) -> tuple[Array, Array]:
    """Both as floats; ValueError with both shapes where they differ: `[B]` against `[B, 1]` would give `[B, B]`."""
    a, b = as_float(a, names[0]), as_float(b, names[1])
    require_same_shape(a, b, names)
    return a, b


def require_same_shape(a: Array, b: Array, names: tuple[str, str]) -> None:
    """Raises ValueError with both shapes in it unless they are equal."""
    if a.shape != b.shape:
        raise ValueError(f"{names[0]} {a.shape} and {names[1]} {b.shape} must have the same shape")


def require_own(out: Array, x: Array, function: str) -> Array:
    """`out` of `function`, if it has an entry for each example of `x`; otherwise ValueError with both shapes."""
    if out.ndim == 0 or out.shape[0] != x.shape[0]:
        raise ValueError(f"{function} gave {out.shape} for examples {x.shape}; the first axes must agree")
    return out


def example_sum(x: Array) -> Array:
    """[B, ...] -> [B]."""
    return jnp.sum(x, axis=tuple(range(1, x.ndim)))


def example_mean(x: Array) -> Array:
    """[B, ...] -> [B]."""
    return jnp.mean(x, axis=tuple(range(1, x.ndim)))


def safe_sqrt(x: Array) -> Array:
    """The square root of x >= 0, with the gradient 0 where x is 0 (where the true one is infinite)."""
    positive = x > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, x, 1.0)), 0.0)


def magnitude(x: Array) -> Array:
    """|x| with the gradient 0 at 0, where that of `jnp.abs` is 1."""
    return x * jnp.sign(x)


def draw(sampler: Callable[..., Array], key: Array, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
    """`sampler(key, shape)`; with one key for each example, each draws its own part of the shape.

    Drawn in float32 whatever the type wanted: enabling float64 changes rounding, not the random numbers.
    """
    if key.ndim == _single(key):
        return sampler(key, shape, jnp.float32).astype(dtype)
    if key.shape[0] != shape[0]:
        raise ValueError(f"{key.shape[0]} keys for {shape[0]} examples: give one key, or one for each example")
    return jax.vmap(lambda k: sampler(k, shape[1:], jnp.float32))(key).astype(dtype)


def split(key: Array) -> tuple[Array, Array]:
    """Two keys from one, or two for each example from one for each."""
    if key.ndim == _single(key):
        first, second = jax.random.split(key)
        return first, second
    both = jax.vmap(jax.random.split)(key)
    return both[:, 0], both[:, 1]


def _single(key: Array) -> int:
    """Axes of a single key: none of the typed ones (`jax.random.key`), one of the raw ones (`PRNGKey`)."""
    return 0 if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else 1
