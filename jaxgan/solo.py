"""Orbax for one process of several that saves by itself what lies on its own devices, and reads it.

Orbax takes it that the processes of a run save the same arrays together: it refuses an array that one process has to
itself, and waits for all of them. What is written here are the files of a process alone, and reads as such.
"""

import pathlib

import jax
import orbax.checkpoint as ocp
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from orbax.checkpoint import type_handlers
from orbax.checkpoint._src.metadata import array_metadata_store  # what makes random keys come back as keys

from jaxgan.state import TrainState


class _OwnArrays(type_handlers.ArrayHandler):
    """Writes arrays of this process's first device."""

    def __init__(self):
        super().__init__(
            primary_host=None,  # every process is the first one, of its own files
            replica_id=0,
            use_replica_parallel=False,
            array_metadata_store=array_metadata_store.Store(),
        )

    async def serialize(self, values, infos, args=None):
        return await super().serialize([_as_shared(x) for x in values], infos, args)


def _as_shared(x: jax.Array) -> jax.Array:
    """The array as the first copy of one that another process has too, as Orbax wants it; it looks at no other copy."""
    (device,) = x.devices()
    other = next(d for d in jax.devices() if d.process_index != device.process_index)
    sharding = NamedSharding(Mesh([device, other], ("copies",)), PartitionSpec())
    return jax.make_array_from_single_device_arrays(x.shape, sharding, [x])


def make_manager(directory: pathlib.Path, is_written: bool, **options) -> ocp.CheckpointManager:
    """A manager whose saves and restores are this process's alone.

    Args:
        directory: made if it is to be written.
        is_written: whether this process saves there.
        options: of `ocp.CheckpointManagerOptions`.
    """
    if is_written:
        directory.mkdir(parents=True, exist_ok=True)
    alone = ocp.options.MultiprocessingOptions(primary_host=None, active_processes={jax.process_index()})
    handlers = {
        "state": ocp.PyTreeCheckpointHandler(
            type_handler_registry=type_handlers.create_type_handler_registry((jax.Array, _OwnArrays())),
            multiprocessing_options=alone,
        ),
        "host": ocp.JsonCheckpointHandler(multiprocessing_options=alone),
    }
    # Processes would tell each other, by the number of the save, of folders that are made meanwhile: of one's own, and
    # of another's as if it were the same.
    here = ocp.AsyncOptions(create_directories_asynchronously=False)
    options = ocp.CheckpointManagerOptions(
        create=False, multiprocessing_options=alone, async_options=here, **options
    )
    return ocp.CheckpointManager(directory, options=options, item_handlers=handlers)


def save_args(state: TrainState) -> ocp.args.CheckpointArgs:
    """What to tell such a manager of a state to save, all of it on one device of this process."""
    return ocp.args.PyTreeSave(state)


def restore_args(like: TrainState) -> ocp.args.CheckpointArgs:
    """What to tell it of a state to restore."""
    return ocp.args.PyTreeRestore(like, restore_args=ocp.checkpoint_utils.construct_restore_args(like))
