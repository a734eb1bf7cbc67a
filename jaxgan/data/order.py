"""The order in which a run sees its examples: each epoch's is a permutation of its own, computed for single places.

There is no index array to shuffle, to carry along or to save: where an example stands is a function of the epoch's
constants and the place. JAX arrays in a compiled step and NumPy arrays in what reads ahead of it go through the same
lines, so a streamed data set comes in the order of one that lies on the device.
"""

import math
from typing import Any, NamedTuple

import numpy as np

ROUNDS = 4
PLACES = 2**32  # the stream's places are counted in 32 bits, and begin again after these

Array = Any  # jax.Array or np.ndarray


def permuted(constants: Array, place: Array, size: int) -> Array:
    """Where the example at `place` of an epoch stands in the data set: a permutation of range(size).

    Mixes the bits of `place` within the next power of two by multiplications with odd numbers and xor-shifts, each
    of which can be undone, and walks on along its cycle until the result is below `size`. The walk has a fixed number
    of steps, because a loop that ends on a condition makes a GPU ask its host after every turn; a place still
    outside after them (probability below 1e-12) is wrapped.

    Args:
        constants: uint32 [..., ROUNDS, 2], random; an epoch's, or one for each place.
        place: uint32 in [0, size), any shape (in NumPy with at least one axis).
        size: number of examples, 1 to 2^31.

    Returns:
        int32, the shape of `place`.
    """
    xp = place.__array_namespace__()
    bits = max(1, (size - 1).bit_length())
    mask = np.uint32(2**bits - 1)

    def mix(x):
        for i in range(ROUNDS):
            multiplier, offset = constants[..., i, 0], constants[..., i, 1]
            x = ((x ^ offset) * (multiplier | 1)) & mask
            x = x ^ (x >> ((bits + 1) // 2))
        return x

    def walk(x):
        return xp.where(x < size, x, mix(x))

    x = mix(place)
    outside = 1.0 - size / 2**bits  # the share of the power of two that is not in the data set, below 1/2
    steps = math.ceil(math.log(1e-12) / math.log(outside)) if outside else 0
    for _ in range(steps):
        x = walk(x)
    return (x % size).astype(np.int32)


class Order(NamedTuple):
    """The order of a part of the stream, for the host; see `jaxgan.data.sampler.order_ahead`."""

    size: int  # examples in the data set
    epochs: np.ndarray  # int64 [E], rising: those that the part touches
    constants: np.ndarray  # uint32 [E, ROUNDS, 2]

    def rows(self, place: np.ndarray) -> np.ndarray:
        """Where the examples at places [n] of the stream stand in the data set, int32 [n]."""
        epoch, within = np.divmod(place % PLACES, self.size)
        constants = self.constants[np.searchsorted(self.epochs, epoch)]
        return permuted(constants, within.astype(np.uint32), self.size)


def epochs_of(first: int, count: int, size: int) -> np.ndarray:
    """The epochs, int64 [E], rising, that the `count` places from `first` on belong to."""
    parts = []
    while count > 0:
        here = min(count, PLACES - first)
        parts.append(np.arange(first // size, (first + here - 1) // size + 1))
        first, count = (first + here) % PLACES, count - here
    return np.unique(np.concatenate(parts)) if parts else np.zeros(0, np.int64)
