"""Batches drawn inside the compiled step from a data set that lives on the device.

The example at place `p` of the run's endless stream belongs to epoch `p // N`, and every epoch visits all `N`
examples once in an order of its own. The order is a function of (key, epoch, place), computed for single places by a
small keyed permutation, so that there is no index array to shuffle, to carry along or to save: a run resumes at
any step, on any number of devices, with the data it would have seen.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxgan.data.order import ROUNDS, Order, epochs_of, permuted


def shuffled_index(key: jax.Array, place: jax.Array, size: int) -> jax.Array:
    """Where the example at `place` of an epoch stands in the data set: a permutation of range(size), keyed by `key`.

    Args:
        key: one PRNG key for the epoch.
        place: integers in [0, size), any shape.
        size: number of examples, 1 to 2^31.

    Returns:
        int32, the shape of `place`.
    """
    return permuted(_constants(key), place.astype(jnp.uint32), size)


def _constants(key: jax.Array) -> jax.Array:
    return jax.random.bits(key, (ROUNDS, 2), jnp.uint32)


def order_ahead(key: jax.Array, first: int, count: int, size: int) -> Order:
    """The order of `count` places of the stream from `first` on, for what reads them on the host.

    Args:
        key: the run's data key, see `sample`.
        first: place of the first one.
        count: how many.
        size: of the data set.
    """
    order_key, _ = jax.random.split(key)
    epochs = epochs_of(first, count, size)
    constants = jax.jit(jax.vmap(lambda epoch: _constants(jax.random.fold_in(order_key, epoch))))
    return Order(size, epochs, np.asarray(constants(epochs.astype(np.uint32))))


def in_rows(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A data set as devices keep it: each example of "real" as one row, [N, ...] -> [N, D].

    A TPU lays pictures [N, H, W, C] out with the examples innermost, and copies the whole set at each call to take some
    of them (compiled for a v5e: 3.7 GiB for 1.9 GiB of CelebA at 64x64). Rows are taken from where they are.
    """
    return {**arrays, "real": arrays["real"].reshape(len(arrays["real"]), -1)}


def sample(
    arrays: dict[str, jax.Array],
    key: jax.Array,
    first: jax.Array,
    index: jax.Array,
    *,
    flip: bool = False,
    shape: tuple[int, ...] = (),
) -> dict[str, jax.Array]:
    """The examples at places `first + index` of the shuffled, endless stream of a data set.

    Args:
        arrays: leaves [N, ...]; "real" as uint8 pictures [N, H, W, C] or as float32 values that are used as they are,
            or either of them in rows (`in_rows`).
        key: the run's data key, the same on every device and at every step.
        first: uint32 [], the place of the global batch's first example; wraps around after 2^32.
        index: int32 [B], global indices of the examples wanted here (a device asks for its own part).
        flip: mirror each picture left to right with probability 1/2.
        shape: of one example, where `arrays` has them in rows.

    Returns:
        The same names with leaves [B, ...], and "index". uint8 pictures come as float32, x / 127.5 - 1 in [-1, 1].
    """
    size = arrays["real"].shape[0]
    place = first + index.astype(jnp.uint32)
    order_key, _ = jax.random.split(key)
    epoch_keys = jax.vmap(lambda epoch: jax.random.fold_in(order_key, epoch))(place // size)
    rows = jax.vmap(lambda k, p: shuffled_index(k, p, size))(epoch_keys, place % size)
    batch = {name: array[rows] for name, array in arrays.items()}
    return finish({**batch, "index": index}, key, first, flip=flip, shape=shape)


def finish(
    batch: dict[str, jax.Array], key: jax.Array, first: jax.Array, *, flip: bool = False, shape: tuple[int, ...] = ()
) -> dict[str, jax.Array]:
    """A batch of examples as they are stored, made into what an update takes; see `sample`.

    Args:
        batch: "real" [B, ...] as in the data set, "index" [B], and whatever else, which stays as it is.
        key, first, flip, shape: see `sample`.
    """
    real = as_float(batch["real"])
    real = real.reshape(-1, *shape) if shape else real
    if flip:
        place = first + batch["index"].astype(jnp.uint32)
        _, flip_key = jax.random.split(key)
        coin = jax.vmap(lambda p: jax.random.bernoulli(jax.random.fold_in(flip_key, p)))(place)
        real = jax.lax.platform_dependent(coin, real, cpu=_mirror_on_cpu, default=_mirror)
    return {**batch, "real": real}


def _mirror(coin: jax.Array, x: jax.Array) -> jax.Array:
    """Pictures [B, H, W, C], left to right where the coin [B] says so."""
    return jnp.where(coin[:, None, None, None], x[:, :, ::-1], x)


def _mirror_on_cpu(coin: jax.Array, x: jax.Array) -> jax.Array:
    """The same by the numbers of the columns.

    XLA:CPU fuses a selection with what it selects from, and works out where an example stands again for each of its
    numbers: 64 pictures of 64x64 in colour took 340 ms, by columns 3 (jax 0.10).
    """
    columns = jnp.arange(x.shape[2])
    columns = jnp.where(coin[:, None], columns[::-1], columns)
    return jax.vmap(lambda picture, order: picture[:, order])(x, columns)


def as_float(x: jax.Array) -> jax.Array:
    """uint8 pictures as float32 in [-1, 1], x / 127.5 - 1; anything else as it is."""
    if x.dtype != jnp.uint8:
        return x
    return (x.astype(jnp.float32) - 127.5) / 127.5  # in this order 255 gives 1 exactly, compiled too
