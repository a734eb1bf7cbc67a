"""Checkpoints by Orbax: written in the background, the newest few and the best one kept, every one verified when read.

A checkpoint holds the state and a small JSON dict of what the host carries between updates. Orbax writes into a
temporary folder and renames it when it is complete, so a process killed while saving leaves the one before.
"""

import math
import os
import pathlib

import orbax.checkpoint as ocp
from absl import logging
from orbax.checkpoint import checkpoint_managers as policies

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
        keep_best = policies.BestN(get_metric_fn=_distance, reverse=True, n=1)
        options = ocp.CheckpointManagerOptions(
            best_fn=_distance,  # without it Orbax does not write the metrics that the policy reads
            best_mode="min",
            preservation_policy=policies.AnyPreservationPolicy([policies.LatestN(n=keep), keep_best]),
            cleanup_tmp_directories=not read_only,
            read_only=read_only,
            create=not read_only,
        )
        self._manager = ocp.CheckpointManager(self.directory, options=options)

    def save(self, state: TrainState, host: dict, distance: float | None = None) -> None:
        """Starts to save `state` and `host` under the state's step; the state may be donated right after.

        Args:
            state: arrays on the devices.
            host: what JSON can hold.
            distance: the lower, the better; the lowest is kept as best. None where it was not measured.

        Raises:
            CheckpointError: this save, or the one before it, could not be written.
        """
        step = int(state.step)
        host = {**host, "fingerprint": int(fingerprint(state))}
        metrics = {"distance": math.inf if distance is None else distance}
        items = ocp.args.Composite(state=ocp.args.StandardSave(state), host=ocp.args.JsonSave(host))
        self._guard(lambda: self._manager.save(step, args=items, metrics=metrics))

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
        items = ocp.args.Composite(state=ocp.args.StandardRestore(like), host=ocp.args.JsonRestore())
        try:
            restored = self._manager.restore(step, args=items)
        except Exception as error:  # a damaged file surfaces as whatever its reader happens to raise
            raise CheckpointError(f"checkpoint {step} in {self.directory} cannot be read: {_first_line(error)}")
        found, saved = int(fingerprint(restored.state)), restored.host["fingerprint"]
        if found != saved:
            raise CheckpointError(
                f"checkpoint {step} in {self.directory} is damaged: its checksum is {found:#x}, not {saved:#x}"
            )
        return restored.state, restored.host

    def restore_newest(self, like: TrainState) -> tuple[TrainState, dict] | None:
        """The newest checkpoint that can be read, or None where there is none; damaged newer ones are set aside.

        Raises:
            CheckpointError: there are checkpoints, and none of them can be read.
        """
        damaged = []
        for step in reversed(self.steps()):
            try:
                result = self.restore(step, like)
            except CheckpointError as error:
                logging.error("%s", error)
                damaged.append(step)
                continue
            for bad in damaged:
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
        """The step with the lowest distance, among those kept."""
        distances = {step: _distance(self._manager.metrics(step)) for step in self.steps()}
        best = min(distances, key=distances.get, default=None)
        return None if best is None or math.isinf(distances[best]) else best

    def _set_aside(self, step: int) -> None:
        """Moves a damaged checkpoint out of the way of the one that will be saved at the same step."""
        source = self._manager.directory / str(step)
        target = self.directory.parent / "damaged_checkpoints" / str(step)
        target.parent.mkdir(exist_ok=True)
        os.replace(source, _unused(target))
        self._manager.reload()
        logging.error("moved the damaged checkpoint %d to %s", step, target.parent)

    def _guard(self, action):
        try:
            return action()
        except (OSError, ValueError, RuntimeError) as error:  # Orbax and TensorStore report a full disk as any of these
            kept = ", ".join(map(str, self.steps())) or "none"
            raise CheckpointError(
                f"could not save a checkpoint in {self.directory}: {_first_line(error)}. Free some space or mend its "
                f"permissions, then start the same command again. Complete checkpoints: {kept}."
            )


def _distance(metrics: dict) -> float:
    return metrics["distance"]


def _unused(path: pathlib.Path) -> pathlib.Path:
    candidates = [path, *(path.with_name(f"{path.name}.{i}") for i in range(1, 1000))]
    return next(candidate for candidate in candidates if not candidate.exists())


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]
