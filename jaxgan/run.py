"""One run as its host sees it: the folder, the rows, the pictures, the evaluations, the checkpoints and the alarms.

`jaxgan.train` has one of them and `jaxgan.population` one for each member, so that a member's folder is that of a run.
"""

import contextlib
import json
import zlib
from typing import NamedTuple

import jax
from absl import logging
from ml_collections import ConfigDict

from jaxgan import build, distributed
from jaxgan.album import Album
from jaxgan.build import Experiment
from jaxgan.checkpoint import Checkpoints
from jaxgan.data import Dataset
from jaxgan.evaluation import Evaluator
from jaxgan.health import Health, Thresholds
from jaxgan.judge import make_judge
from jaxgan.pictures import Plane
from jaxgan.recorder import Recorder
from jaxgan.sampling import Generator
from jaxgan.state import TrainState
from jaxgan.workdir import Workdir, plain
from jaxgan.writers import MetricsFile, ProgressLine, Silent, TensorBoard


class Measured(NamedTuple):
    """What an evaluation found, where there was one."""

    values: dict[str, float] | None = None  # by name
    badness: float | None = None  # of the state: the lower, the better


class Run:
    """What watches and writes: `claim`, `restore`, `begin`, then `push` and `settle`; `claim` is the first that writes.

    Args:
        config: see experiments/common.py.
        workdir: the run's folder; see `jaxgan.workdir`.
        dataset: the training set.
        experiment: of this configuration, or of one that differs from it in traced values alone.
        generator: of the experiment's game; runs that share a game may share it.
        evaluator: see `jaxgan.judge.Judge`.
        plane: see `jaxgan.album.Album`.

    Raises:
        ConfigError, DataError: the run cannot be what it is asked to be.
    """

    def __init__(
        self,
        config: ConfigDict,
        workdir: str,
        dataset: Dataset,
        experiment: Experiment,
        generator: Generator | None = None,
        evaluator: Evaluator | None = None,
        plane: Plane | None = None,
    ):
        self.config, self.folder = config, Workdir(workdir)
        self._dataset, self._counting = dataset, experiment.counting
        steps = self._counting.steps
        self.total, self._eval_every = steps(config.duration), steps(config.eval.every)
        self._sample_every, self._checkpoint_every = steps(config.sample_every), steps(config.checkpoint_every)
        self._generator, self._plane = generator or Generator(experiment.game), plane
        self._key_pictures, key_judge = jax.random.split(jax.random.fold_in(jax.random.key(config.seed), 1))
        self.judge = make_judge(config, dataset, self._generator, key_judge, self._eval_every, evaluator)
        self._rows: list[dict] = []

    def claim(self, overrides: dict) -> None:
        """Makes the folder this run's; of several processes the first one writes.

        Args:
            overrides: what was changed on the command line, for the record.

        Raises:
            CheckpointError: the folder is another run's.
            DistributedError: the processes have other configurations or data.
        """
        real = self._dataset.arrays["real"]
        facts = {"name": self._dataset.name, "shape": real.shape[1:], "dtype": str(real.dtype), "examples": len(real)}
        facts |= {"label_names": self._dataset.label_names, "label_counts": build.label_counts(self._dataset)}
        if distributed.count() > 1:
            settings = json.dumps(plain(self.config), sort_keys=True)
            distributed.check_same("configuration", zlib.crc32(settings.encode()))
            distributed.check_same("data", self._dataset.checksum())
        if distributed.is_main():
            self.folder.claim(self.config, overrides, facts)
        distributed.barrier("claimed")

    def restore(self, like: TrainState) -> TrainState | None:
        """The state of the newest checkpoint, or None where there is none.

        Args:
            like: shapes, dtypes and shardings of the state to fill.

        Raises:
            CheckpointError: there are checkpoints, and none of them can be read.
        """
        self.open_checkpoints()
        state, self._memory = self.checkpoints.restore_newest(like) or (None, {})
        self.began_at = 0 if state is None else int(state.step)
        if self.judge:
            self.judge.remember(self._memory.get("judge"))
        return state

    def open_checkpoints(self) -> None:
        """Opens them, which `restore` does, and `close` undoes."""
        self.checkpoints = Checkpoints(self.folder.checkpoints, self.config.checkpoint.keep)

    @property
    def is_satisfied(self) -> bool:
        """Whether the run has reached what `config.stop` asks for, if it is evaluated at all."""
        return self.judge is not None and self.judge.is_satisfied

    def is_complete(self, step: int) -> bool:
        """Whether there is nothing left to train."""
        return step >= self.total or self.is_satisfied

    def begin(self, progress: ProgressLine | None = None) -> None:
        """Opens what is written from here on, which goes on from where `restore` found the run.

        Args:
            progress: shows the rows; a line at the terminal by default.
        """
        step, c = self.began_at, self.config.sample
        self._watch(self._memory, step or None)
        if distributed.is_main():
            self.folder.note_environment()
            self.folder.forget_copies(after=step)
            self._metrics = MetricsFile(self.folder.metrics, after=step)
            self._tensorboard = TensorBoard(self.folder.tensorboard, after=step)
            self._progress = progress or ProgressLine(self.total)
        else:
            self._metrics = self._tensorboard = self._progress = Silent()
        shown = (self._generator, self._dataset, self.folder, self._tensorboard)
        self._album = Album(*shown, self._key_pictures, c.rows, c.columns, self._plane)

    def _watch(self, memory: dict, last_good: int | None) -> None:
        """Begins the rows and the alarms, from what a checkpoint remembers of them."""
        steps, h = self._counting.steps, self.config.health
        self._health = Health(Thresholds(steps(h.patience), h.accuracy, h.vanished, h.collapsed), memory.get("health"))
        self.recorder = Recorder(self._counting, steps(self.config.log_every), self._health, memory.get("recorder"))
        self.recorder.last_good = last_good

    def take_over(self, step: int, values: dict[str, float], note: dict[str, float]) -> None:
        """Another run's state takes the place of this one's at this step: what was seen of the old one is forgotten.

        Args:
            step: of both runs.
            values: the numbers of the other run's evaluation at this step.
            note: for the row of this step.
        """
        self._watch({}, self.recorder.last_good)
        self.judge.replace(step, values)
        self._annotate(step, note)

    def picture_of_the_start(self, state: TrainState) -> None:
        """The pictures of step 0."""
        self._album.add(state, 0)

    def push(self, step: int, metrics: dict[str, jax.Array], updates: int, waited: float | None = None) -> None:
        """Takes the metrics of the call that ends at `step`; see `Recorder.push`.

        Raises:
            DivergedError: a number of an earlier call is not finite.
        """
        self._rows += self.recorder.push(step, metrics, updates, waited)

    def flush(self) -> None:
        """Waits for the call in flight; raises DivergedError like `push`."""
        self._rows += self.recorder.flush()

    def write(self) -> None:
        """Writes and shows the rows that are complete."""
        rows, self._rows = self._rows, []
        for row in rows:
            self._metrics.write(row)
            numbers = {name: value for name, value in row.items() if name != "protocol"}
            self._tensorboard.scalars(numbers)
            self._progress.show(numbers, self.recorder.seconds_left(row["step"], self.total))

    def is_exchange(self, step: int, every: int) -> bool:
        """Whether this step is that of an evaluation, of every so many, after which there is more to train."""
        return step < self.total and due(step, every * self._eval_every)

    def is_due(self, step: int, stopping: bool = False) -> bool:
        """Whether there is more to do at this step than rows: pictures, an evaluation, a checkpoint."""
        every = (self._sample_every, self._checkpoint_every, self._eval_every)
        return stopping or step >= self.total or any(due(step, n) for n in every)

    def settle(self, state: TrainState, step: int, stopping: bool = False) -> dict[str, float] | None:
        """Does what is due at this step.

        Args:
            state: after this step.
            step: how many updates it has seen.
            stopping: save it, whatever else is due.

        Returns:
            The numbers of the evaluation, where there was one.

        Raises:
            DivergedError: the updates so far were not good.
            CheckpointError: a checkpoint could not be saved.
        """
        measured = self.look(state, step)
        self.keep(state, step, stopping, measured.badness)
        return measured.values

    def look(self, state: TrainState, step: int) -> Measured:
        """The first half of `settle`: the pictures and the evaluation."""
        at_end, measured = step >= self.total, Measured()
        # The updates so far have to be good before anything is made of them, and their rows come first.
        self.flush()
        with self.recorder.pause():
            if self.judge is not None and (at_end or due(step, self._eval_every)):
                measured = Measured(*self.judge.measure(state, step))
                self._annotate(step, {**measured.values, "protocol": self.judge.protocol})
                if distributed.is_main():
                    self.folder.note_evaluation(self.judge.record(step, measured.values))
                at_end = at_end or self.judge.is_satisfied
            if at_end or due(step, self._sample_every):
                self._album.add(state, step)
            if at_end:
                self._album.finish(state, step)
        return measured

    def keep(self, state: TrainState, step: int, stopping: bool, badness: float | None) -> None:
        """The second half of `settle`: the rows and the checkpoint.

        Args:
            badness: of the state, where it was measured at this step.
        """
        is_due = step >= self.total or stopping or due(step, self._checkpoint_every)
        with self.recorder.pause():
            self.write()
            if is_due or badness is not None:
                host = {"recorder": self.recorder.memory, "health": self._health.memory}
                host["judge"] = self.judge.memory if self.judge else self._memory.get("judge")
                self.checkpoints.save(state, host, badness)
                self.recorder.last_good = step

    def _annotate(self, step: int, values: dict) -> None:
        """Adds values to the row of this step, which is made if there is none yet: a step has one row."""
        merge(self._rows, self._counting.row(step), values)

    def close(self) -> None:
        """Closes what `begin` opened, and the checkpoints."""
        with contextlib.ExitStack() as stack:
            for opened in (self.checkpoints, self._tensorboard, self._metrics, self._progress):
                stack.callback(opened.close)

    def log_end(self, step: int, signal_name: str | None) -> None:
        """One line on how far the run came, and why no further."""
        ended = "complete" if step >= self.total else f"stopped by {signal_name}; the same command goes on"
        if self.is_satisfied:
            ended = f"complete, because {self.config.stop.metric} is as good as config.stop asks for"
        logging.info("%s: update %d of %d; pictures in %s", ended, step, self.total, self.folder.samples)


def due(step: int, every: int) -> bool:
    """Whether something that happens every so many updates happens now; never, where `every` is 0."""
    return every > 0 and step % every == 0


def merge(rows: list[dict], row: dict, values: dict) -> None:
    """Adds values to the row of this step, which is made if it is not the last of `rows`: a step has one row."""
    if not rows or rows[-1]["step"] != row["step"]:
        rows.append(row)
    rows[-1].update(values)
