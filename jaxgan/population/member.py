"""One member of a population: its run, where it stands, and what became of it."""

import json
from collections.abc import Callable
from typing import Any, NamedTuple

from absl import logging

from jaxgan.data import Dataset
from jaxgan.population.exploit import Copy
from jaxgan.run import Measured, Run
from jaxgan.state import TrainState
from jaxgan.workdir import write_json
from jaxgan.writers import ProgressLine

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
        self.is_open = False  # whether `close` has something to close
        self._measured = Measured()
        self._file = run.folder.path / "outcome.json"

    def restore(self, like: TrainState) -> TrainState | None:
        """The state of the newest checkpoint, None without one, with the outcome brought up to it."""
        state = self.run.restore(like)
        step = self.run.began_at
        own = sorted((entry for entry in self._evaluations() if entry["step"] <= step), key=lambda entry: entry["step"])
        self.outcome = Outcome(own[-1]["values"] if own else {}, self._best(), self._status(step), step)
        return state

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to train."""
        return self.outcome.status != "interrupted"

    @property
    def is_diverged(self) -> bool:
        """Whether its numbers are no longer finite."""
        return self.outcome.status == "diverged"

    def begin(self, progress: ProgressLine) -> None:
        """Opens what its run writes."""
        self.run.begin(progress)
        self.is_open = True

    def close(self) -> None:
        """Undoes `begin`, where there was one."""
        if self.is_open:
            self.run.close()

    def values_at(self, step: int) -> dict[str, float] | None:
        """The numbers of its own state at this step; None if it was not measured then."""
        return next((entry["values"] for entry in self._evaluations() if entry["step"] == step), None)

    def badness_at(self, step: int) -> float | None:
        """How bad that state was: the lower, the better."""
        values = self.values_at(step)
        return None if values is None else self.run.judge.badness(values)

    def look(self, state: TrainState, step: int) -> None:
        """Pictures and the evaluation, where they are due at this step."""
        self._measured = self.run.look(state, step)

    def keep(self, state: TrainState, step: int, stopping: bool, report: Report) -> None:
        """The rows and the checkpoint, where they are due at this step; tells the caller of an evaluation.

        A member that is over then is to be sealed.
        """
        values, badness = self._measured
        self.run.keep(state, step, stopping, badness)
        if values is not None:
            self.outcome = self.outcome._replace(values=values)
        self.outcome = self.outcome._replace(best=self._best(), step=self.run.recorder.last_good or 0)
        is_refused = values is not None and report(self.place, step, values)
        if self.run.is_complete(step) or is_refused:
            self.outcome = self.outcome._replace(status="complete" if self.run.is_complete(step) else "stopped")

    def seal(self) -> None:
        """Writes down what became of a member that is over, once its checkpoint is on disk."""
        self.run.checkpoints.wait()
        write_json(self._file, self.outcome._asdict())

    def take_over(self, step: int, copy: Copy, source: "Member", progress: ProgressLine) -> None:
        """Goes on from another member's state of this step: the record of it, before the checkpoint that holds it."""
        if self.is_diverged:
            self._measured = Measured()
            self.outcome = self.outcome._replace(status="interrupted")
            if not self.is_open:  # it had diverged before this process began
                self.run.open_checkpoints()
                self.run.began_at = step
                self.begin(progress)
        own, theirs = self.badness_at(step), source.badness_at(step)
        note = {"step": step, "from": source._name, "member": source.place, "values": copy.values}
        self.run.folder.note_copy({**note, "badness": own, "of_the_other": theirs})
        self.run.take_over(step, source.values_at(step), {"copied_from": source.place, **copy.values})
        self._measured = self._measured._replace(badness=theirs)
        numbers = ", ".join(f"{name} {value:.4g}" for name, value in copy.values.items()) or "the same numbers"
        was = "diverged" if own is None else f"{own:.4g}"
        names = (step, self._name, was, source._name, theirs)
        logging.info("update %d: %s (%s) goes on from %s (%.4g), with %s", *names, numbers)

    def diverge(self, reason: Exception) -> None:
        """Freezes the member; its folder keeps what was good."""
        logging.warning("%s: %s The other members go on.", self.run.folder.path, reason)
        self.run.write()
        self.outcome = self.outcome._replace(status="diverged")
        self.seal()

    @property
    def _name(self) -> str:
        return self.run.folder.path.name

    def _evaluations(self) -> list[dict]:
        return [entry for entry in self.run.folder.read_evaluations() if entry.get("while_training")]

    def _best(self):
        return self.run.judge.best if self.run.judge else None

    def _status(self, step: int) -> str:
        if self.run.is_complete(step):
            return "complete"
        # The record of a freeze holds for this checkpoint: a single run may have gone on since.
        record = json.loads(self._file.read_text()) if self._file.exists() else {}
        return record["status"] if record.get("status") in _FROZEN and record["step"] == step else "interrupted"
