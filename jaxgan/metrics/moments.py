"""The mean and covariance of features that come in batches, on the device, without keeping the features.

Float32 holds them if everything is centred before it is squared and multiplied at full precision: the covariance is
then off by about 2e-7 of its largest entry, even where means are ten times the standard deviations (sums of raw
products lose 7e-5 there, and an accelerator's default precision 1e-3). What is made of them, roots and differences of
traces, is for the host in float64: `finish` hands it over.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Moments(NamedTuple):
    """Of the examples seen so far."""

    count: jax.Array  # int32 []
    mean: jax.Array  # float32 [D]
    scatter: jax.Array  # float32 [D, D]: the sum of (x - mean) (x - mean)^T


def empty(size: int) -> Moments:
    """Of no examples, with `size` features each."""
    return Moments(jnp.zeros((), jnp.int32), jnp.zeros((size,), jnp.float32), jnp.zeros((size, size), jnp.float32))


def update(moments: Moments, batch: jax.Array, mask: jax.Array | None = None, axis_name: str | None = None) -> Moments:
    """The moments with one more batch.

    Args:
        moments: of what came before; the same on all devices.
        batch: features [B, D], on several devices this one's part of them.
        mask: bool [B], True for the examples that count. Whatever else the batch was filled up with, NaN even, is
            left out. None counts all.
        axis_name: of the devices' axis, for `jax.shard_map` or `jax.pmap`: the batch's mean, count and scatter are
            summed over it.

    Returns:
        The same on all devices.

    Raises:
        ValueError: the shapes do not fit.

    References:
        Chan, Golub & LeVeque, Updating Formulae and a Pairwise Algorithm for Computing Sample Variances, 1979, eq. 2.1.
    """
    if batch.ndim != 2 or batch.shape[1:] != moments.mean.shape or (mask is not None and mask.shape != batch.shape[:1]):
        shape = None if mask is None else mask.shape
        raise ValueError(f"batch {batch.shape} with mask {shape} is not [B, {moments.mean.shape[0]}] with [B] or None")

    def over_devices(x):
        return x if axis_name is None else jax.lax.psum(x, axis_name)

    batch = batch.astype(jnp.float32)
    counts = jnp.ones(batch.shape[:1], bool) if mask is None else mask.astype(bool)
    counts = counts[:, None]
    count = over_devices(jnp.sum(counts, dtype=jnp.int32))
    total = over_devices(jnp.sum(jnp.where(counts, batch, 0.0), axis=0))
    mean = total / jnp.maximum(count, 1).astype(jnp.float32)
    centred = jnp.where(counts, batch - mean[None], 0.0)
    scatter = over_devices(jnp.matmul(centred.T, centred, precision="highest"))
    return merge(moments, Moments(count, mean, scatter))


def merge(a: Moments, b: Moments) -> Moments:
    """The moments of both sets of examples together; either may be empty."""
    count = a.count + b.count
    share = b.count.astype(jnp.float32) / jnp.maximum(count, 1).astype(jnp.float32)
    shift = b.mean - a.mean
    between = a.count.astype(jnp.float32) * share * jnp.outer(shift, shift)
    return Moments(count, a.mean + share * shift, a.scatter + b.scatter + between)


def finish(moments: Moments) -> tuple[np.ndarray, np.ndarray]:
    """The mean [D] and the covariance [D, D], over N - 1, in float64 on the host.

    Raises:
        ValueError: of fewer than two examples.
    """
    count = int(moments.count)
    if count < 2:
        raise ValueError(f"a covariance needs two examples or more; there are {count}")
    scatter = np.asarray(moments.scatter, np.float64)
    return np.asarray(moments.mean, np.float64), (scatter + scatter.T) / (2 * (count - 1))
