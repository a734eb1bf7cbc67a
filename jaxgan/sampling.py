"""Draws samples from a state, on all devices of all processes."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxgan import distributed
from jaxgan.games import Game
from jaxgan.state import TrainState

PyTree = Any
_MOST_AT_ONCE = 256  # on a device
_AXIS = "batch"


class Generator:
    """The generator of a game, compiled for sampling; raw networks or averaged ones (EMA).

    Args:
        game: whose `latents` and `decode` are called.
        devices: each of them makes a part of the samples; all those of all processes by default.
    """

    def __init__(self, game: Game, devices: Sequence[jax.Device] | None = None):
        def draw(params_g, variables, key, index, condition, truncation):
            if condition is None and game.conditions is not None:
                condition = game.conditions(key, index)
            return game.decode(params_g, variables, game.latents(key, index, truncation), condition, truncation)

        self.is_conditional = game.conditions is not None
        self._mesh = Mesh(tuple(devices or jax.devices()), (_AXIS,))
        everywhere, split = PartitionSpec(), PartitionSpec(_AXIS)
        # Every device makes its own part: nothing about a sample may depend on the others.
        over_devices = partial(jax.shard_map, mesh=self._mesh, out_specs=split, check_vma=False)
        inputs = (everywhere, everywhere, everywhere, split, split, everywhere)
        self._draw = jax.jit(over_devices(draw, in_specs=inputs))
        self._gather = jax.jit(lambda x: x, out_shardings=NamedSharding(self._mesh, everywhere))
        self._between = jax.jit(partial(_between, game), static_argnums=(3, 4))

    def samples(
        self,
        state: TrainState,
        key: jax.Array,
        n: int,
        *,
        ema: bool = True,
        first: int = 0,
        labels: np.ndarray | None = None,
        truncation: float | None = None,
    ) -> np.ndarray:
        """Samples [n, ...] in the data's range; sample i depends on (key, first + i), and its label, alone.

        They are made in parts of at most 256 a device, the last of which is filled up and cut. A conditional
        generator is given `labels` [n], or by default such as the data has; see `Game.decode` for `truncation`. In
        a run of several processes all have to ask for the same ones, and all get all.
        """
        index = np.arange(first, first + n)
        return self._make(_networks(state, ema), key, index, labels, truncation)

    def classes(self, state: TrainState, key: jax.Array, labels: np.ndarray, columns: int, **options) -> np.ndarray:
        """[len(labels) * columns, ...]: a row for each label, and in a column the same latent."""
        index = np.tile(np.arange(columns), len(labels))
        networks = _networks(state, options.pop("ema", True))
        return self._make(networks, key, index, np.repeat(labels, columns), options.pop("truncation", None))

    def _make(self, networks, key, index, labels, truncation):
        devices, n = self._mesh.size, len(index)
        size = devices * min(-(-n // devices), _MOST_AT_ONCE)
        networks, key = distributed.put((networks, key), NamedSharding(self._mesh, PartitionSpec()))
        split = NamedSharding(self._mesh, PartitionSpec(_AXIS))

        def part(array, begin):
            cut = array[begin : begin + size]
            filled = np.pad(cut, (0, size - len(cut)), mode="edge").astype(np.int32)
            return distributed.split(filled, split)

        def whole(drawn):
            return drawn if split.is_fully_addressable else np.asarray(self._gather(drawn))

        parts = [
            whole(
                self._draw(
                    *networks, key, part(index, begin), None if labels is None else part(labels, begin), truncation
                )
            )
            for begin in range(0, n, size)
        ]
        return np.concatenate([np.asarray(part) for part in parts])[:n]

    def between(
        self, state: TrainState, key: jax.Array, rows: int, columns: int, labels: np.ndarray | None = None
    ) -> np.ndarray:
        """`rows` paths of `columns` EMA samples, [rows, columns, ...], each between two random latents.

        A conditional generator is given a label for each row. All processes have to ask, as for `samples`.

        Along a great circle: the points of a straight line between normal latents are shorter than any latent that
        the generator has seen (White, Sampling Generative Networks, 2016).
        """
        return np.asarray(self._between(*_networks(state, ema=True), key, rows, columns, labels))


def spherical_interpolation(a: jax.Array, b: jax.Array, points: int) -> jax.Array:
    """Points [N, points, D] on the arcs from a [N, D] to b [N, D], ends included."""
    unit_a, unit_b = (x / jnp.linalg.norm(x, axis=-1, keepdims=True) for x in (a, b))
    angle = jnp.arccos(jnp.clip(jnp.sum(unit_a * unit_b, axis=-1), -1.0, 1.0))[:, None, None]
    t = jnp.linspace(0.0, 1.0, points)[None, :, None]
    straight = (1 - t) * a[:, None] + t * b[:, None]
    arc = (jnp.sin((1 - t) * angle) * a[:, None] + jnp.sin(t * angle) * b[:, None]) / jnp.sin(angle)
    return jnp.where(jnp.abs(jnp.sin(angle)) < 1e-4, straight, arc)


def _between(game: Game, params_g, variables, key, rows: int, columns: int, labels) -> jax.Array:
    """What `Generator.between` gives, [rows, columns, ...]."""
    ends = game.latents(key, jnp.arange(2 * rows))
    z = jax.tree.map(lambda x: spherical_interpolation(x[:rows], x[rows:], columns), ends)
    flat = jax.tree.map(lambda x: x.reshape(rows * columns, *x.shape[2:]), z)
    out = game.decode(params_g, variables, flat, None if labels is None else jnp.repeat(labels, columns))
    return out.reshape(rows, columns, *out.shape[1:])


def _networks(state: TrainState, ema: bool) -> tuple[PyTree, PyTree]:
    """Whole params and variables on one device: a picture needs no more. Where they are cut, all processes gather."""
    variables = {"generator": state.ema_variables if ema else state.variables["generator"]}
    networks = distributed.whole((state.ema_g if ema else state.params_g, variables))
    return jax.tree.map(lambda x: x.addressable_data(0), networks)
