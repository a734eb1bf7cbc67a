"""One step function on many devices; knows nothing of GANs.

A step is `step(state, batch, *shared, axis_name=None) -> (state, metrics)`. The state and `shared` are the same on
every device; the batch is split by its leading axis. What a step returns has to be equal on all devices: it averages
gradients and metrics over `axis_name` itself. (pmap would hand back one device's value silently.)
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxgan.errors import ConfigError

PyTree = Any
AXIS = "batch"
MODES = ("pmap", "jit")


class Parallel:
    """How a run is laid out: `pmap` over `devices`, or plain `jit` on the first of them.

    Args:
        mode: one of `MODES`.
        devices: the devices to use; all local ones by default. A description's (`jax.experimental.topologies`) serve
            to compile for, with `abstract` and `abstract_split`.

    Raises:
        ConfigError: unknown mode.
    """

    def __init__(self, mode: str = "pmap", devices: Sequence[jax.Device] | None = None):
        if mode not in MODES:
            raise ConfigError(f"unknown config.parallel {mode!r}; known: {', '.join(MODES)}")
        devices = list(devices or jax.local_devices())
        self.mode = mode
        self.devices = devices[:1] if mode == "jit" else devices
        self._replicated = NamedSharding(Mesh(self.devices, (AXIS,)), PartitionSpec())

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
        """A copy of every array on every device, without a device axis."""
        return jax.device_put(tree, self._replicated)

    def abstract(self, shapes: PyTree) -> PyTree:
        """The shapes of a tree as it lies on the devices after `replicate`, for a checkpoint to be read into."""
        return jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=self._replicated), shapes
        )

    def split(self, tree: PyTree) -> PyTree:
        """A batch [B, ...] laid out as the compiled step takes it; put it on the devices once if it does not change."""
        if self.mode == "jit":
            return jax.device_put(tree, self.devices[0])
        count = len(self.devices)
        parts = jax.tree.map(lambda x: x.reshape(count, x.shape[0] // count, *x.shape[1:]), tree)
        return jax.device_put(parts, NamedSharding(Mesh(self.devices, (AXIS,)), PartitionSpec(AXIS)))

    def abstract_split(self, shapes: PyTree) -> PyTree:
        """The shapes of a batch as it lies on the devices after `split`, to compile from."""
        if self.mode == "jit":
            return self.abstract(shapes)
        count, sharding = len(self.devices), NamedSharding(Mesh(self.devices, (AXIS,)), PartitionSpec(AXIS))
        return jax.tree.map(
            lambda x: jax.ShapeDtypeStruct((count, x.shape[0] // count, *x.shape[1:]), x.dtype, sharding=sharding),
            shapes,
        )

    def compile(self, step: Callable, shared: int = 0) -> Callable:
        """`step` as one compiled program over the devices; the state it is given is donated (its memory is reused).

        Args:
            step: see the module's docstring.
            shared: how many arguments follow the batch.
        """
        if self.mode == "jit":
            return jax.jit(step, donate_argnums=0)
        # On one device XLA:CPU keeps the reductions of a named axis, at a sixth of a DCGAN update's time.
        axis_name = AXIS if len(self.devices) > 1 else None
        return jax.pmap(
            partial(step, axis_name=axis_name),
            axis_name=AXIS,
            in_axes=(None, 0) + (None,) * shared,
            out_axes=None,
            devices=self.devices,
            donate_argnums=0,
        )

    def describe(self) -> str:
        """The device layout in words."""
        kinds = sorted({device.device_kind for device in self.devices})
        return f"{self.mode} over {len(self.devices)} device(s): {', '.join(kinds)} ({self.devices[0].platform})"
