"""The compiled program of a group: the update of a single run, over states that are stacked.

On a CPU the members are updated one after another (`lax.map`): XLA:CPU runs the batched matrix products and grouped
convolutions, which vectorising makes of layers, slower than one member after another. On GPU and TPU they are
vectorised (`jax.vmap`), which is what fills the chip. Over several devices the stack is split along a mesh's axis
"trial"; nothing is sent between members.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from jaxgan import build
from jaxgan.errors import ConfigError
from jaxgan.population.knobs import Values, with_values
from jaxgan.state import TrainState
from jaxgan.update import repeat

PyTree = Any
AXIS = "trial"
MAPPINGS = ("auto", "map", "vmap")
_ALL = PartitionSpec()


class Program:
    """K members that differ in traced values alone; leaves of a stacked state are [slots, ...], slots >= K.

    Where the members do not divide over the devices, the last slots are copies of the last member that stay at rest.

    Args:
        config: of any member; `config.population` says how they are mapped.
        facts: shape, number and label counts of the examples, see `build.make_experiment`.
        values: by dotted name, the numbers in which the members differ, [K].
        count: K.
        devices: over which the members are divided; no more than K of them are used.

    Raises:
        ConfigError: see `mapping_of`.
    """

    def __init__(
        self,
        config: ConfigDict,
        facts: tuple,
        values: Values,
        count: int,
        devices: Sequence[jax.Device],
    ):
        self.devices = list(devices)[:count]
        self.mapping = mapping_of(config, self.devices[0].platform)
        self._config, self._facts, self._columns = config, facts, dict(values)
        self._compiled: dict[tuple[int, bool], Callable] = {}
        self.slots = -(-count // len(self.devices)) * len(self.devices)
        self._mesh = Mesh(self.devices, (AXIS,))
        self._split, self._everywhere = (NamedSharding(self._mesh, spec) for spec in (PartitionSpec(AXIS), _ALL))
        self._member = jax.jit(lambda states, i: jax.tree.map(lambda x: x[i], states), out_shardings=self._everywhere)

    @functools.cached_property
    def values(self) -> PyTree:
        """The numbers in which the members differ, on the devices."""
        return self.split(self._columns)

    def describe(self) -> str:
        """The layout in words."""
        return f"{self.mapping} over {len(self.devices)} device(s), {self.slots // len(self.devices)} on each"

    def split(self, columns: PyTree) -> PyTree:
        """Leaves [K, ...], one entry a member, filled up and laid out over the devices."""

        def one(x):
            return np.pad(x, [(0, self.slots - len(x))] + [(0, 0)] * (x.ndim - 1), mode="edge")

        return jax.device_put(jax.tree.map(one, columns), self._split)

    def awake(self, members: Sequence[bool]) -> jax.Array:
        """Who is to be updated, [slots]; what fills up is not."""
        return jax.device_put(np.array([*members, *[False] * (self.slots - len(members))]), self._split)

    def share(self, tree: PyTree) -> PyTree:
        """A copy for every device of what all members use."""
        return jax.device_put(tree, self._everywhere)

    def new_states(self) -> TrainState:
        """The members' states at step 0, stacked."""

        def one(inputs):
            return self._experiment(inputs[0]).new_state()

        # The numbers of the slots are there for groups whose members do not differ in anything.
        everything = (self.values, jnp.arange(self.slots))
        return jax.jit(lambda x: jax.lax.map(one, x), out_shardings=self._split)(everything)

    def stack(self, states: Sequence[TrainState]) -> TrainState:
        """The members' states, stacked."""
        filled = [*states, *[states[-1]] * (self.slots - len(states))]
        together = jax.jit(lambda *x: jax.tree.map(lambda *y: jnp.stack(y), *x), out_shardings=self._split)
        return together(*jax.device_put(filled, self._everywhere))

    def member(self, states: TrainState, place: int) -> TrainState:
        """One member's state, on every device."""
        return self._member(states, place)

    def compile(self, updates: int, are_arrays_shared: bool) -> Callable:
        """`(states, awake, values, index, arrays) -> (states, metrics)`, of so many updates; the states are donated.

        `awake` and `values` are this program's; `index` and a common data set are laid out by `share`. Who is not awake
        stays as it is, and its metrics are 0. Leaves of the metrics are [slots], or [slots, updates].

        Args:
            updates: in one call.
            are_arrays_shared: the data set is the same for all members; else its leaves are [slots, N, ...].
        """

        def advance(state, values, index, arrays):
            step = self._experiment(values).step
            return (repeat(step, updates) if updates > 1 else step)(state, index, arrays)

        if (updates, are_arrays_shared) in self._compiled:
            return self._compiled[updates, are_arrays_shared]
        advance = jax.jit(advance)  # traced once, though both its shapes and its numbers are asked for

        def one(state, awake, values, index, arrays):
            metrics = jax.eval_shape(advance, state, values, index, arrays)[1]
            at_rest = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), metrics)
            return jax.lax.cond(awake, advance, lambda state, *_: (state, at_rest), state, values, index, arrays)

        def on_device(states, awake, values, index, arrays):
            if self.mapping == "vmap":
                own = (0, 0, 0, None, None if are_arrays_shared else 0)
                return jax.vmap(one, own)(states, awake, values, index, arrays)
            stacked = (states, awake, values, None if are_arrays_shared else arrays)
            return jax.lax.map(lambda x: one(*x[:3], index, arrays if are_arrays_shared else x[3]), stacked)

        split = PartitionSpec(AXIS)
        specs = (split, split, split, _ALL, _ALL if are_arrays_shared else split)
        over_devices = jax.shard_map(on_device, mesh=self._mesh, in_specs=specs, out_specs=split, check_vma=False)
        # Named, because on one device the result would be called replicated, and the next call compiled again.
        compiled = jax.jit(over_devices, donate_argnums=0, out_shardings=self._split)
        return self._compiled.setdefault((updates, are_arrays_shared), compiled)

    def abstract(self, arrays: dict[str, jax.ShapeDtypeStruct]) -> tuple:
        """The shapes of what a compiled call takes, with a common data set: `compile(1, True).lower(*abstract(...))`.

        Needs no devices but their description, so that a program can be compiled for a pod that is elsewhere.
        """

        def every_slot(shape, dtype):
            return jax.ShapeDtypeStruct((self.slots, *shape), dtype, sharding=self._split)

        def shared(x):
            return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=self._everywhere)

        experiment = build.assemble(self._config, *self._facts)
        states = jax.tree.map(lambda x: every_slot(x.shape, x.dtype), jax.eval_shape(experiment.new_state))
        values = {name: every_slot((), column.dtype) for name, column in self._columns.items()}
        index = jax.ShapeDtypeStruct((experiment.counting.images_per_step,), jnp.int32)
        return states, every_slot((), jnp.bool_), values, shared(index), jax.tree.map(shared, arrays)

    def _experiment(self, values: PyTree) -> build.Experiment:
        return build.assemble(with_values(self._config, values), *self._facts)


def mapping_of(config: ConfigDict, platform: str) -> str:
    """How members share a device of this platform, "map" or "vmap"; ConfigError for an unknown `config.population`."""
    mapping = config.get("population", "auto")  # runs of older versions have no such field
    if mapping not in MAPPINGS:
        raise ConfigError(f"unknown config.population {mapping!r}; known: {', '.join(MAPPINGS)}")
    if mapping != "auto":
        return mapping
    return "map" if platform == "cpu" else "vmap"
