"""The whole state of a run: one frozen pytree that holds arrays and nothing else.

Apply functions and optimizers are closed over by the update, so a population is a stacked `TrainState`
(`jax.vmap` over its leaves) and a checkpoint is its leaves.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

PyTree = Any


@struct.dataclass
class TrainState:
    """Everything an update reads and writes; `state.replace(...)` makes the next one.

    `variables` holds the mutable collections of the networks, `{"generator": ..., "discriminator": ...}`,
    for instance the running statistics of batch norm. `ema_g` averages `params_g`, and `ema_variables` averages
    the generator's collections with the same weights, so that running statistics fit the averaged network.
    """

    step: jax.Array  # int32 [], updates done
    images: jax.Array  # uint32 [], real examples shown to the discriminator
    params_g: PyTree
    params_d: PyTree
    variables: dict[str, PyTree]
    opt_g: PyTree
    opt_d: PyTree
    ema_g: PyTree
    ema_variables: PyTree
    adaptive: dict[str, jax.Array]  # quantities that a method adapts while it trains, such as an augmentation's p
    key: jax.Array  # the base key, never split: every draw folds in the step and an example's index


CUT = ("opt_g", "opt_d", "ema_g")  # the fields whose arrays the update needs in shares only, see `jaxgan.shares`


def count_parameters(params: PyTree) -> int:
    """How many numbers a pytree of arrays (or of shapes) holds."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))


@jax.jit
def fingerprint(tree: PyTree) -> jax.Array:
    """A uint32 checksum of every bit of a pytree: equal states have equal fingerprints on any number of devices.

    It is computed where the arrays live, cut or whole, so that a check costs no transfer. Each number is mixed with its
    position before the (wrapping) sum, so that both a flipped bit and two exchanged numbers show.
    """

    def one(leaf):
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        if leaf.dtype == jnp.bool_:
            leaf = leaf.astype(jnp.uint8)
        bits = jax.lax.bitcast_convert_type(leaf, _UNSIGNED[leaf.dtype.itemsize]).astype(jnp.uint32)
        place = _places(bits.shape) * jnp.uint32(2654435769)
        return jnp.sum(_mix(_mix(bits) ^ place), dtype=jnp.uint32)

    total = jnp.uint32(0)
    for leaf in jax.tree.leaves(tree):
        total = total * jnp.uint32(2654435761) + one(leaf)
    return total


def _places(shape: tuple[int, ...]) -> jax.Array:
    """The numbers' places in the flat array. (Made flat, an array that is cut would be gathered.)"""
    strides = [math.prod(shape[i + 1 :]) % 2**32 for i in range(len(shape))]
    along = (jax.lax.broadcasted_iota(jnp.uint32, shape, i) * jnp.uint32(n) for i, n in enumerate(strides))
    return sum(along, start=jnp.uint32(0))


def _mix(x: jax.Array) -> jax.Array:
    """A bijection of uint32 in which every bit of the result depends on every bit of `x` (MurmurHash3's last step)."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
    return x ^ (x >> 16)


_UNSIGNED = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32}
