"""The compiled program of a group: the update of a single run, over states that are stacked.

On a CPU the members are updated one after another (`lax.map`): XLA:CPU runs the batched matrix products and grouped
convolutions, which vectorising makes of layers, slower than one member after another. On GPU and TPU they are
vectorised (`jax.vmap`), which is what fills the chip. Over several devices the stack is split along the axis "trial" of
a mesh, and nothing is sent between members. The mesh's other axis, "batch", holds the devices that one member has
(`config.population_devices`): its batch is split over them as a single run's is, and gradients, batch statistics and
metrics are reduced over this axis alone.
"""

import functools
import re
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from jaxgan import build
from jaxgan.errors import ConfigError
from jaxgan.overrides import with_values
from jaxgan.parallel import Parallel
from jaxgan.population.knobs import Values
from jaxgan.state import TrainState
from jaxgan.update import repeat

PyTree = Any
TRIAL, BATCH = "trial", "batch"
MAPPINGS = ("auto", "map", "vmap")
_KNOB = re.compile(r"optimizer\.(generator|discriminator)\.(\w+)")
_ALL = PartitionSpec()


class Program:
    """K members that differ in traced values alone; leaves of a stacked state are [slots, ...], slots >= K.

    Where the members do not divide over the devices, the last slots are copies of the last member that stay at rest.

    Args:
        config: of any member; `config.population` says how they are mapped, `config.population_devices` how many
            devices each of them has.
        facts: shape, number and label counts of the examples, see `build.make_experiment`.
        values: by dotted name, the numbers in which the members differ, [K].
        count: K.
        devices: over which the members are divided; no more are used than K members can have.

    Raises:
        ConfigError: see `check_layout`.
    """

    def __init__(
        self,
        config: ConfigDict,
        facts: tuple,
        values: Values,
        count: int,
        devices: Sequence[jax.Device],
    ):
        check_layout(config, devices)
        self.mapping = mapping_of(config, devices[0].platform)
        self.devices_per_member = _devices_per_member(config)
        at_once = min(count, len(devices) // self.devices_per_member)
        self.devices = list(devices)[: at_once * self.devices_per_member]
        self.slots = -(-count // at_once) * at_once
        self._config, self._facts, self._columns = config, facts, dict(values)
        self._compiled: dict[tuple[int, bool], Callable] = {}
        self._mesh = Mesh(np.array(self.devices).reshape(at_once, self.devices_per_member), (TRIAL, BATCH))
        specs = (PartitionSpec(TRIAL), PartitionSpec(BATCH), _ALL)
        self._split, self._parts, self._everywhere = (NamedSharding(self._mesh, spec) for spec in specs)
        self._slot = jax.jit(lambda states, i: jax.tree.map(lambda x: x[i], states))
        over = {"donate_argnums": 0, "out_shardings": self._split}
        self._copy, self._with_knobs = jax.jit(_copy, **over), jax.jit(with_knobs, **over)

    @functools.cached_property
    def values(self) -> PyTree:
        """The numbers in which the members differ, on the devices; `change` gives others."""
        return self.split(self._columns)

    def describe(self) -> str:
        """The layout in words."""
        each = self.slots * self.devices_per_member // len(self.devices)
        of_a_member = f", {self.devices_per_member} to a member" if self.devices_per_member > 1 else ""
        return f"{self.mapping} over {len(self.devices)} device(s){of_a_member}, {each} member(s) on each"

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

    def divide(self, index: np.ndarray) -> jax.Array:
        """The places of a global batch, split over the devices of each member."""
        return jax.device_put(index, self._parts)

    def new_states(self) -> TrainState:
        """The members' states at step 0, stacked."""

        def one(inputs):
            return self._experiment(inputs[0]).new_state()

        # The numbers of the slots are there for groups whose members do not differ in anything.
        everything = (self.values, self.split(np.arange(self.slots)))
        split = PartitionSpec(TRIAL)
        own = jax.shard_map(
            lambda x: jax.lax.map(one, x), mesh=self._mesh, in_specs=split, out_specs=split, check_vma=False
        )
        return jax.jit(own, out_shardings=self._split)(everything)

    def stack(self, states: Sequence[TrainState]) -> TrainState:
        """The members' states, stacked."""
        filled = [*states, *[states[-1]] * (self.slots - len(states))]
        together = jax.jit(lambda *x: jax.tree.map(lambda *y: jnp.stack(y), *x), out_shardings=self._split)
        return together(*jax.device_put(filled, self._everywhere))

    def member(self, states: TrainState, place: int) -> TrainState:
        """One member's state, on the first device; the other members' devices have no part in it."""
        row, slot = divmod(place, self.slots * self.devices_per_member // len(self.devices))
        own = jax.tree.map(lambda x: x.addressable_data(row * self.devices_per_member), states)
        return jax.device_put(self._slot(own, slot), self.devices[0])

    def copy(self, states: TrainState, target: int, source: int) -> TrainState:
        """The states, donated, in which one member has another's; but its data and its draws (the key) stay its own."""
        return self._copy(states, target, source)

    def change(self, states: TrainState, values: Values) -> TrainState:
        """The states, donated, with other numbers [K], which are `values` from here on."""
        self.values = self.split(values)
        return self._with_knobs(states, self.values)

    def compile(self, updates: int, are_arrays_shared: bool) -> Callable:
        """`(states, awake, values, index, arrays) -> (states, metrics)`, of so many updates; the states are donated.

        `awake` and `values` are this program's; `index` is laid out by `divide`, a common data set by `share`, and data
        sets of the members' own by `split`. Who is not awake stays as it is, and its metrics are 0. Leaves of the
        metrics are [slots], or [slots, updates].

        Args:
            updates: in one call.
            are_arrays_shared: the data set is the same for all members; else its leaves are [slots, N, ...].
        """

        # On one device XLA:CPU keeps the reductions of a named axis.
        axis = BATCH if self.devices_per_member > 1 else None

        def advance(state, values, index, arrays):
            step = functools.partial(self._experiment(values).step, axis_name=axis)
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

        split, parts = PartitionSpec(TRIAL), PartitionSpec(BATCH)
        specs = (split, split, split, parts, _ALL if are_arrays_shared else split)
        over_devices = jax.shard_map(on_device, mesh=self._mesh, in_specs=specs, out_specs=split, check_vma=False)
        # Named, because on one device the result would be called replicated, and the next call compiled again.
        compiled = jax.jit(over_devices, donate_argnums=0, out_shardings=self._split)
        return self._compiled.setdefault((updates, are_arrays_shared), compiled)

    def abstract(self, arrays: dict[str, jax.ShapeDtypeStruct], are_arrays_shared: bool) -> tuple:
        """The shapes of what a compiled call takes: `compile(1, shared).lower(*abstract(arrays, shared))`.

        Needs no devices but their description, so that a program can be compiled for a pod that is elsewhere.

        Args:
            arrays: of one data set.
            are_arrays_shared: as `compile` is told.
        """

        def laid_out(x, sharding):
            shape = (self.slots, *x.shape) if sharding is self._split else x.shape
            return jax.ShapeDtypeStruct(shape, x.dtype, sharding=sharding)

        experiment = build.assemble(self._config, *self._facts)
        index = jax.ShapeDtypeStruct((experiment.counting.images_per_step,), jnp.int32)
        values = {name: jax.ShapeDtypeStruct((), column.dtype) for name, column in self._columns.items()}
        of_a_member = (jax.eval_shape(experiment.new_state), jax.ShapeDtypeStruct((), jnp.bool_), values)
        own = jax.tree.map(lambda x: laid_out(x, self._split), of_a_member)
        data = jax.tree.map(lambda x: laid_out(x, self._everywhere if are_arrays_shared else self._split), arrays)
        return *own, laid_out(index, self._parts), data

    def _experiment(self, values: PyTree) -> build.Experiment:
        return build.assemble(with_values(self._config, values), *self._facts)


def _copy(states: TrainState, target: jax.Array, source: jax.Array) -> TrainState:
    taken = jax.tree.map(lambda x: x.at[target].set(x[source]), states.replace(key=()))
    return taken.replace(key=states.key)


def with_knobs(states: TrainState, values: PyTree) -> TrainState:
    """The states with those of the values that lie in an optimizer's state, from where its steps take them."""
    for name, column in values.items():
        if match := _KNOB.fullmatch(name):
            field, knob = {"generator": "opt_g", "discriminator": "opt_d"}[match[1]], match[2]
            old = getattr(states, field)
            new = {**old.hyperparams, knob: column.astype(old.hyperparams[knob].dtype)}
            states = states.replace(**{field: old._replace(hyperparams=new)})
    return states


def check_data(name: str, is_streamed: bool) -> None:
    """Raises ConfigError for a data set that is streamed."""
    if is_streamed:
        raise ConfigError(
            f"members of a population draw from one data set on their device, but {name} is streamed: set "
            "config.data.stream=never, or train single runs"
        )


def mapping_of(config: ConfigDict, platform: str) -> str:
    """How members share a device of this platform, "map" or "vmap"; ConfigError for an unknown `config.population`."""
    mapping = config.get("population", "auto")  # runs of older versions have no such field
    if mapping not in MAPPINGS:
        raise ConfigError(f"unknown config.population {mapping!r}; known: {', '.join(MAPPINGS)}")
    if mapping != "auto":
        return mapping
    return "map" if platform == "cpu" else "vmap"


def check_layout(config: ConfigDict, devices: Sequence[jax.Device]) -> None:
    """Raises ConfigError where members cannot have these devices in the way that the configuration asks for."""
    mapping_of(config, devices[0].platform)
    count = _devices_per_member(config)
    if not 1 <= count <= len(devices):
        raise ConfigError(
            f"config.population_devices {count}: a member of a population has from 1 to all {len(devices)} devices"
        )
    Parallel("shard_map", devices[:count]).check_batch_size(config.batch_size, config.game.get("packing", 1))


def _devices_per_member(config: ConfigDict) -> int:
    return config.get("population_devices", 1)
