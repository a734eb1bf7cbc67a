"""Arrays of which each device of an axis holds a share: what the optimizers remember, and the average of parameters.

Networks need whole parameters; what moves the parameters needs them in parts only. Each device takes the mean gradient
of its share and moves that share of the parameters, then the devices gather the parameters. Scattered reduction and
gathering are the two halves of the reduction that they replace, so no more travels. This is the first stage of ZeRO
(Rajbhandari et al., ZeRO: Memory Optimizations Toward Training Trillion Parameter Models, 2020), by arrays: each is cut
along one of its dimensions and keeps its shape to all who look at the whole of it, checkpoints among them.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

PyTree = Any
SMALLEST = 4096  # numbers of an array that is cut; collectives of less would cost more time than the share saves memory


def dimension(shape: Sequence[int], count: int) -> int | None:
    """Along which dimension an array is cut into `count` shares: the longest that divides. None: it stays whole."""
    if count == 1 or math.prod(shape) < SMALLEST:
        return None
    fitting = [i for i, length in enumerate(shape) if length % count == 0]
    return max(fitting, key=lambda i: shape[i], default=None)


class Shares(NamedTuple):
    """What a device does with its shares, inside of a function that is mapped over an axis of devices.

    Attributes:
        axis_name: of the axis; None where there is one device alone.
        is_cut: False: all arrays stay whole, and each device does all of the work.
    """

    axis_name: str | None = None
    is_cut: bool = False

    def mean(self, tree: PyTree) -> PyTree:
        """This device's shares of the mean over the devices; of whole arrays, which differ between them."""
        if self.axis_name is None:
            return tree

        def one(x):
            place = self._place(x)
            if place is None:
                return jax.lax.pmean(x, self.axis_name)
            return jax.lax.psum_scatter(x, self.axis_name, scatter_dimension=place, tiled=True) / self._count

        return jax.tree.map(one, tree)

    def own(self, tree: PyTree) -> PyTree:
        """This device's shares of whole arrays, which are the same on all devices."""

        def one(x):
            place = self._place(x)
            if place is None:
                return x
            size = x.shape[place] // self._count
            return jax.lax.dynamic_slice_in_dim(x, jax.lax.axis_index(self.axis_name) * size, size, place)

        return jax.tree.map(one, tree)

    def whole(self, shares: PyTree, like: PyTree) -> PyTree:
        """The whole arrays, of the shapes of `like`, from the shares of all devices."""

        def one(x, whole):
            place = self._place(whole)
            return x if place is None else jax.lax.all_gather(x, self.axis_name, axis=place, tiled=True)

        return jax.tree.map(one, shares, like)

    def norm(self, shares: PyTree, like: PyTree) -> jax.Array:
        """The Euclidean norm [] of all numbers of the whole arrays, of the shapes of `like`."""
        if self._count == 1:
            return optax.tree.norm(shares)

        def one(x, whole):  # every device has what is not cut
            return jnp.sum(x**2) / (self._count if self._place(whole) is None else 1)

        squares = jax.tree.leaves(jax.tree.map(one, shares, like))
        return jnp.sqrt(jax.lax.psum(sum(squares), self.axis_name))

    @property
    def _count(self) -> int:
        return jax.lax.axis_size(self.axis_name) if self.is_cut and self.axis_name is not None else 1

    def _place(self, whole: jax.Array) -> int | None:
        return dimension(whole.shape, self._count)
