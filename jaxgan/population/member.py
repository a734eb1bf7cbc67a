"""One member of a population: its run, where it stands, and what became of it."""

import json
from collections.abc import Callable
from typing import Any, NamedTuple

from absl import logging

from jaxgan.data import Dataset
from jaxgan.run import Run
from jaxgan.state import TrainState
from jaxgan.workdir import write_json

Report = Callable[[int, int, dict[str, float]], bool]
_FROZEN = ("diverged", "stopped")


class Outcome(NamedTuple):
    """What became of a member."""

    values: dict[str, float]  # of the last evaluation, by name; empty where there was none
    best: dict[str, Any] | None  # {"name", "value", "step"} of the number that config.eval.best names
    status: str  # "complete", "diverged", "stopped" (by the caller's report) or "interrupted" (the same call goes on)
    step: int  # updates that its newest checkpoint has seen; 0 without one


class Member:
    """A run among others.

    Args:
        place: among the members of the population.
        run: of the member.
        dataset: it is trained on.
    """

    def __init__(self, place: int, run: Run, dataset: Dataset):
        self.place, self.run, self.dataset = place, run, dataset
        self.outcome = Outcome({}, None, "interrupted", 0)
        self._file = run.folder.path / "outcome.json"

    def restore(self, like: TrainState) -> TrainState | None:
        """The state of the newest checkpoint, None without one, with the outcome brought up to it."""
        state = self.run.restore(like)
        step = self.run.began_at
        own = [entry for entry in self.run.folder.read_evaluations() if entry.get("while_training")]
        own = sorted((entry for entry in own if entry["step"] <= step), key=lambda entry: entry["step"])
        self.outcome = Outcome(own[-1]["values"] if own else {}, self._best(), self._status(step), step)
        return state

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to train."""
        return self.outcome.status != "interrupted"

    def settle(self, state: TrainState, step: int, stopping: bool, report: Report) -> None:
        """Does what is due at this step, and tells the caller of an evaluation."""
        values = self.run.settle(state, step, stopping)
        if values is not None:
            self.outcome = self.outcome._replace(values=values, best=self._best())
        self.outcome = self.outcome._replace(step=self.run.recorder.last_good or 0)
        is_refused = values is not None and report(self.place, step, values)
        if self.run.is_complete(step):
            self._end("complete")
        elif is_refused:
            self._end("stopped")

    def diverge(self, reason: Exception) -> None:
        """Freezes the member; its folder keeps what was good."""
        logging.warning("%s: %s The other members go on.", self.run.folder.path, reason)
        self._end("diverged")

    def _end(self, status: str) -> None:
        self.run.checkpoints.wait()
        self.outcome = self.outcome._replace(status=status)
        write_json(self._file, self.outcome._asdict())

    def _best(self):
        return self.run.judge.best if self.run.judge else None

    def _status(self, step: int) -> str:
        if self.run.is_complete(step):
            return "complete"
        # The record of a freeze holds for this checkpoint: a single run may have gone on since.
        record = json.loads(self._file.read_text()) if self._file.exists() else {}
        return record["status"] if record.get("status") in _FROZEN and record["step"] == step else "interrupted"
