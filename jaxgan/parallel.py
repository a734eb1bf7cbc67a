"""One step function on many devices, of one process or of several; knows nothing of GANs.

A step is `step(state, batch, *shared, axis_name=None) -> (state, metrics)`. The state and `shared` are the same on
every device; the batch is split by its leading axis. What a step returns has to be equal on all devices: it averages
gradients and metrics over `axis_name` itself. (pmap and shard_map would hand back one device's value silently.)

Fields of the state may be cut over the devices instead (`jaxgan.shares`). The step is told by `is_cut=True`, is given
this device's shares of them, and gives such shares back.
"""

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np
from absl import logging
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxgan import distributed
from jaxgan.errors import ConfigError
from jaxgan.shares import dimension

PyTree = Any
AXIS = "batch"
MODES = ("pmap", "shard_map", "jit")


class Parallel:
    """How a run is laid out: `pmap` or `shard_map` over `devices`, or plain `jit` on the first of them.

    In a run of several processes `pmap` is `shard_map` too. There pmap takes and gives arrays that belong to one
    process, which Orbax cannot save as one state, and converts each of them twice in every call.

    Args:
        mode: one of `MODES`.
        devices: the devices to use; all those of all processes by default. A description's
            (`jax.experimental.topologies`) serve to compile for, with the methods called `abstract`.
        cut: the fields of the state, a dataclass, whose arrays are cut over the devices; under `shard_map` alone.

    Raises:
        ConfigError: unknown mode, one device for several processes, or a state that this mode cannot cut.
    """

    def __init__(self, mode: str = "pmap", devices: Sequence[jax.Device] | None = None, cut: Sequence[str] = ()):
        if mode not in MODES:
            raise ConfigError(f"unknown config.parallel {mode!r}; known: {', '.join(MODES)}")
        devices = list(devices or jax.devices())
        self.processes = len({device.process_index for device in devices})
        if self.processes > 1 and mode == "jit":
            raise ConfigError("config.parallel=jit uses one device; a run of several processes wants shard_map")
        if self.processes > 1 and mode == "pmap":
            logging.info("config.parallel=pmap is shard_map here, in a run of %d processes", self.processes)
            mode = "shard_map"
        if cut and mode != "shard_map":
            raise ConfigError(
                f"config.shard_state cuts the state over the devices of shard_map, and config.parallel is {mode!r}; "
                "set --config.parallel=shard_map"
            )
        self.mode, self._cut = mode, tuple(cut)
        self.devices = devices[:1] if mode == "jit" else devices
        self._mesh = Mesh(self.devices, (AXIS,))
        self._replicated = NamedSharding(self._mesh, PartitionSpec())
        self._split = NamedSharding(self._mesh, PartitionSpec(AXIS))

    def check_batch_size(self, batch_size: int, packing: int = 1) -> None:
        """Raises ConfigError when a batch (of packs) does not divide over the devices, naming the nearest that does."""
        count = len(self.devices) * packing
        if batch_size < 1:
            raise ConfigError(f"batch_size {batch_size} must be at least 1")
        if batch_size % count:
            below = max(count, batch_size // count * count)
            raise ConfigError(
                f"batch_size {batch_size} does not divide over {len(self.devices)} devices"
                f"{f' in packs of {packing}' if packing > 1 else ''}; "
                f"the nearest that do are {below} and {below + count}"
            )

    def replicate(self, tree: PyTree) -> PyTree:
        """A copy of every array on every device, without a device axis. Each process has to bring the same arrays."""
        return distributed.put(tree, self._replicated)

    def create(self, new_state: Callable[[], PyTree]) -> PyTree:
        """The state that a pure function makes, as the compiled step takes it; each process has to bring the same."""
        if not self._cut:
            return self.replicate(jax.jit(new_state)())
        # In one program, whose results are shares: for the whole there may be no room.
        shapes = self.abstract_state(jax.eval_shape(new_state))
        return jax.jit(new_state, out_shardings=jax.tree.map(lambda x: x.sharding, shapes))()

    def abstract(self, shapes: PyTree) -> PyTree:
        """The shapes of a tree as it lies on the devices after `replicate`, to compile from."""
        return self._laid_out(shapes, jax.tree.map(lambda _: PartitionSpec(), shapes))

    def abstract_state(self, shapes: PyTree) -> PyTree:
        """The shapes of a state as `create` makes it, to compile from, and for a checkpoint to be read into."""
        return self._laid_out(shapes, self._layout(shapes))

    def split(self, tree: PyTree) -> PyTree:
        """A batch [B, ...] laid out as the compiled step takes it; put it on the devices once if it does not change.

        B is the global batch, which every process has to bring; its own devices get their parts of it.
        """
        if self.mode == "jit":
            return jax.device_put(tree, self.devices[0])
        count = len(self.devices)
        parts = jax.tree.map(np.asarray, tree)
        if self.mode == "pmap":
            parts = jax.tree.map(lambda x: x.reshape(count, x.shape[0] // count, *x.shape[1:]), parts)
        return jax.tree.map(lambda x: distributed.split(x, self._split), parts)

    def own_rows(self, count: int) -> np.ndarray:
        """Which rows of a global batch of `count`, rising, lie on this process's devices."""
        if self.processes == 1:
            return np.arange(count)
        places = self._split.addressable_devices_indices_map((count,)).values()
        return np.sort(np.concatenate([np.arange(count)[place] for place in places]))

    def split_own(self, tree: PyTree, count: int) -> PyTree:
        """`split` of a global batch of `count`, of which each process brings its `own_rows` alone."""
        if self.processes == 1:
            return self.split(tree)
        rows = self.own_rows(count)

        def one(x):
            shape = (count, *x.shape[1:])
            return jax.make_array_from_callback(
                shape, self._split, lambda place: x[np.searchsorted(rows, np.arange(count)[place[0]])]
            )

        return jax.tree.map(one, tree)

    def abstract_split(self, shapes: PyTree) -> PyTree:
        """The shapes of a batch as it lies on the devices after `split`, to compile from."""
        if self.mode == "jit":
            return self.abstract(shapes)
        count = len(self.devices)

        def one(x):
            shape = (count, x.shape[0] // count, *x.shape[1:]) if self.mode == "pmap" else x.shape
            return jax.ShapeDtypeStruct(shape, x.dtype, sharding=self._split)

        return jax.tree.map(one, shapes)

    def compile(self, step: Callable, shared: int = 0) -> Callable:
        """`step` as one compiled program over the devices; the state it is given is donated (its memory is reused).

        Args:
            step: see the module's docstring.
            shared: how many arguments follow the batch.
        """
        if self.mode == "jit":
            return jax.jit(step, donate_argnums=0)
        # On one device XLA:CPU keeps the reductions of a named axis, at a sixth of a DCGAN update's time.
        body = partial(step, axis_name=AXIS if len(self.devices) > 1 else None)
        if self.mode == "shard_map":
            return jax.jit(self._over_mesh(partial(body, is_cut=True) if self._cut else body), donate_argnums=0)
        return jax.pmap(
            body,
            axis_name=AXIS,
            in_axes=(None, 0) + (None,) * shared,
            out_axes=None,
            devices=self.devices,
            donate_argnums=0,
        )

    def describe(self) -> str:
        """The device layout in words."""
        kinds = sorted({device.device_kind for device in self.devices})
        of = f" of {self.processes} processes" if self.processes > 1 else ""
        of += f", {', '.join(self._cut)} cut" if self._cut else ""
        return f"{self.mode} over {len(self.devices)} device(s){of}: {', '.join(kinds)} ({self.devices[0].platform})"

    def _over_mesh(self, body: Callable) -> Callable:
        everywhere = PartitionSpec()

        def call(state, batch, *shared):
            layout = self._layout(state)
            inputs = (layout, PartitionSpec(AXIS), *(everywhere for _ in shared))
            outputs = (layout, everywhere)
            # With check_vma JAX sums the gradients by itself, and the step's own mean over them would be wrong.
            mapped = jax.shard_map(body, mesh=self._mesh, in_specs=inputs, out_specs=outputs, check_vma=False)
            return mapped(state, batch, *shared)

        return call

    def _laid_out(self, shapes: PyTree, layout: PyTree) -> PyTree:
        def one(x, spec):
            return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=NamedSharding(self._mesh, spec))

        return jax.tree.map(one, shapes, layout)

    def _layout(self, state: PyTree) -> PyTree:
        """Where each array of a state lies."""

        def one(x):
            place = dimension(x.shape, len(self.devices))
            return PartitionSpec() if place is None else PartitionSpec(*[None] * place, AXIS)

        layout = jax.tree.map(lambda _: PartitionSpec(), state)
        fields = {name: jax.tree.map(one, getattr(state, name)) for name in self._cut}
        return dataclasses.replace(layout, **fields) if fields else layout
