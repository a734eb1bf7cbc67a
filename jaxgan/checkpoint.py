"""Checkpoints by Orbax: written in the background, the newest few and the best one kept, every one verified when read.

A checkpoint holds the state and a small JSON dict of what the host carries between updates. Orbax writes into a
temporary folder and renames it when it is complete, so a process killed while saving leaves the one before.
"""

import json
import os
import pathlib
import zlib
from collections.abc import Sequence

import jax
import orbax.checkpoint as ocp
from absl import logging
from orbax.checkpoint import checkpoint_managers as policies

from jaxgan import distributed, solo
from jaxgan.errors import CheckpointError
from jaxgan.state import TrainState, fingerprint


class Checkpoints:
    """The checkpoints of one run.

    Args:
        directory: made when needed.
        keep: how many of the newest to keep.
        read_only: for a process that only reads, perhaps beside one that writes.
    """

    def __init__(self, directory: str | os.PathLike, keep: int = 2, read_only: bool = False):
        self.directory = pathlib.Path(directory).absolute()
        self._read_only = read_only
        self._distances: dict[int, float] = {}
        self._is_solo = distributed.is_solo()
        options = {
            "preservation_policy": _NewestAndBest(keep, self._distances),
            "cleanup_tmp_directories": not read_only,
            "read_only": read_only,
        }
        if self._is_solo:
            self._manager = solo.make_manager(self.directory, not read_only, **options)
        else:
            every = ocp.CheckpointManagerOptions(create=not read_only, **options)
            self._manager = ocp.CheckpointManager(self.directory, options=every)
        for step in self.steps():
            try:
                self._note_distance(step, self._read_host(step))
            except CheckpointError as error:
                logging.debug("%s", error)  # told when it is restored; as the best it is out of the race

    def save(self, state: TrainState, host: dict, distance: float | None = None) -> None:
        """Starts to save `state` and `host` under the state's step; the state may be donated right after.

        Args:
            state: arrays on the devices.
            host: what JSON can hold.
            distance: the lower, the better; the lowest is kept as best. None where it was not measured.

        Raises:
            CheckpointError: this save, or the one before it, could not be written.
        """
        step, state = int(state.step), _one_copy(state)
        host = json.loads(json.dumps(host))  # a copy: it is written by a thread, while the run goes on
        host = {"host": host, "fingerprint": int(fingerprint(state)), "distance": distance}
        self._note_distance(step, host)
        signed = {"content": host, "checksum": _checksum(host)}
        arrays = solo.save_args(state) if self._is_solo else ocp.args.StandardSave(state)
        items = ocp.args.Composite(state=arrays, host=ocp.args.JsonSave(signed))
        self._guard(lambda: self._manager.save(step, args=items))

    def wait(self) -> None:
        """Returns when everything is on disk; raises CheckpointError if it could not be written."""
        self._guard(self._manager.wait_until_finished)

    def close(self) -> None:
        """Ends the background threads, after `wait`."""
        self._manager.close()

    def steps(self) -> list[int]:
        """The steps that there are complete checkpoints of, oldest first."""
        return sorted(self._manager.all_steps())

    def restore(self, step: int, like: TrainState) -> tuple[TrainState, dict]:
        """The state and the host's dict of one step.

        Args:
            step: one of `steps()`.
            like: shapes, dtypes and shardings (`Parallel.abstract`) of the state to fill.

        Raises:
            CheckpointError: the checkpoint cannot be read, or what was read is not what was saved.
        """
        host = self._read_host(step)
        arrays = solo.restore_args(like) if self._is_solo else ocp.args.StandardRestore(like)
        state = self._read(step, state=arrays).state
        found, saved = int(fingerprint(state)), host["fingerprint"]
        if found != saved:
            raise CheckpointError(
                f"checkpoint {step} in {self.directory} is damaged: its checksum is {found:#x}, not {saved:#x}"
            )
        return state, host["host"]

    def restore_newest(self, like: TrainState) -> tuple[TrainState, dict] | None:
        """The newest checkpoint that can be read, or None where there is none; damaged newer ones are set aside.

        Raises:
            CheckpointError: there are checkpoints, and none of them can be read.
        """
        damaged = []
        for step in reversed(self.steps()):
            result = self._try(step, like)
            if not all(distributed.gather(result is not None)):
                damaged.append(step)
                continue
            for bad in () if self._read_only else damaged:
                self._set_aside(bad)
            if damaged:
                logging.error("going on from the checkpoint before: step %d", step)
            return result
        if damaged:
            raise CheckpointError(
                f"none of the checkpoints {damaged} in {self.directory} can be read; restore the folder from a copy, "
                "or move it away to start again from step 0"
            )
        return None

    def best_step(self) -> int | None:
        """The step with the lowest distance among those kept; None where none was measured."""
        return _lowest(self._distances, self.steps())

    def _try(self, step: int, like: TrainState) -> tuple[TrainState, dict] | None:
        try:
            return self.restore(step, like)
        except CheckpointError as error:
            logging.error("%s", error)
            return None

    def _read(self, step: int, **items):
        try:
            return self._manager.restore(step, args=ocp.args.Composite(**items))
        except Exception as error:  # a damaged file surfaces as whatever its reader happens to raise
            raise CheckpointError(f"checkpoint {step} in {self.directory} cannot be read: {_first_line(error)}")

    def _read_host(self, step: int) -> dict:
        signed = self._read(step, host=ocp.args.JsonRestore()).host
        content = signed.get("content")
        if content is None or signed.get("checksum") != _checksum(content):
            raise CheckpointError(f"checkpoint {step} in {self.directory} is damaged: its host part does not check out")
        return content

    def _note_distance(self, step: int, host: dict) -> None:
        if host["distance"] is not None:
            self._distances[step] = host["distance"]

    def _set_aside(self, step: int) -> None:
        """Moves a damaged checkpoint out of the way of the one that will be saved at the same step."""
        source = self._manager.directory / str(step)
        target = self.directory.parent / "damaged_checkpoints" / str(step)
        if distributed.is_main():
            target.parent.mkdir(exist_ok=True)
            os.replace(source, _unused(target))
        distributed.barrier("set aside")
        self._manager.reload()
        logging.error("moved the damaged checkpoint %d to %s", step, target.parent)

    def _guard(self, action):
        try:
            return action()
        except (OSError, ValueError, RuntimeError) as error:  # Orbax and TensorStore report a full disk as any of these
            if isinstance(error, jax.errors.JaxRuntimeError) and distributed.count() > 1:
                raise  # another process was lost
            kept = ", ".join(map(str, self.steps())) or "none"
            raise CheckpointError(
                f"could not save a checkpoint in {self.directory}: {_first_line(error)}. Free some space or mend its "
                f"permissions, then start the same command again. Complete checkpoints: {kept}."
            )


class _NewestAndBest(policies.PreservationPolicy):
    """Keeps the newest few checkpoints, and the one with the lowest distance.

    Orbax's own policy for the best reads a file of metrics that it does not survive finding damaged.
    """

    def __init__(self, newest: int, distances: dict[int, float]):
        self._newest, self._distances = newest, distances

    def should_preserve(self, checkpoints: Sequence, *, context) -> Sequence[bool]:
        steps = [info.step for info in checkpoints]
        kept = {*sorted(steps)[-self._newest :], _lowest(self._distances, steps)}
        return [step in kept for step in steps]


def _one_copy(state: TrainState) -> TrainState:
    """The state on one device where every device of one process has all of it: Orbax would cut it into as many parts.

    Each part of each array is a call, which costs more than a second for a small state and writes the same.
    """
    if all(x.is_fully_replicated and x.is_fully_addressable for x in jax.tree.leaves(state)):
        return jax.tree.map(lambda x: x.addressable_data(0), state)
    return state


def _lowest(distances: dict[int, float], steps: Sequence[int]) -> int | None:
    return min((step for step in steps if step in distances), key=distances.get, default=None)


def _checksum(content: dict) -> int:
    return zlib.crc32(json.dumps(content, sort_keys=True).encode())


def _unused(path: pathlib.Path) -> pathlib.Path:
    candidates = [path, *(path.with_name(f"{path.name}.{i}") for i in range(1, 1000))]
    return next(candidate for candidate in candidates if not candidate.exists())


def _first_line(error: BaseException) -> str:
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return line if len(line) <= 250 else f"{line[:100]} ... {line[-140:]}"  # the cause stands at the end
