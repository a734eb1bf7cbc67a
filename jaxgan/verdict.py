"""What evaluations say about how a run goes on: stop at a threshold, or warn that it has turned bad."""

import copy

from absl import logging


class Verdict:
    """Watches one number, evaluation after evaluation. `memory` is plain JSON, saved with the checkpoint.

    Args:
        lower_is_better: of the number.
        threshold: stop when the number is better than this; None never stops.
        patience: in how many evaluations in a row, before the run is stopped.
        turned: the number has turned bad when it is this many times worse than the best so far; 0 never warns.
        turned_patience: in how many evaluations in a row, before the warning.
        memory: what a former process's `memory` was.
    """

    def __init__(
        self,
        lower_is_better: bool,
        threshold: float | None = None,
        patience: int = 1,
        turned: float = 0.0,
        turned_patience: int = 3,
        memory: dict | None = None,
    ):
        self._lower, self._threshold, self._patience = lower_is_better, threshold, patience
        self._turned, self._turned_patience = turned, turned_patience
        fresh = {"best": None, "best_step": None, "reached_for": 0, "turned_for": 0, "warned": False}
        self.memory = copy.deepcopy(memory or fresh)

    @property
    def is_reached(self) -> bool:
        """Whether the number has been better than the threshold for long enough."""
        return self._threshold is not None and self.memory["reached_for"] >= self._patience

    def replace(self, step: int, value: float) -> None:
        """Takes in the number of a state that has taken the place of the one at this step: rows of bad ones end."""
        memory = self.memory
        if memory["best"] is None or self._better(value, memory["best"]):
            memory["best"], memory["best_step"] = value, step
        memory["reached_for"] = memory["turned_for"] = 0

    def take(self, step: int, name: str, value: float) -> None:
        """Takes in the number of this step."""
        memory = self.memory
        if memory["best"] is None or self._better(value, memory["best"]):
            memory["best"], memory["best_step"] = value, step
        reached = self._threshold is not None and self._better(value, self._threshold)
        memory["reached_for"] = memory["reached_for"] + 1 if reached else 0
        memory["turned_for"] = memory["turned_for"] + 1 if self._is_turned(value) else 0
        if memory["turned_for"] >= self._turned_patience and not memory["warned"]:
            memory["warned"] = True
            logging.warning(
                "step %d: %s has turned bad and stays so: %.4g, where the best was %.4g at step %d. That checkpoint is "
                "kept as the best one; try lower learning rates, a penalty (r1), or a shorter run.",
                step,
                name,
                value,
                memory["best"],
                memory["best_step"],
            )

    def _better(self, value: float, than: float) -> bool:
        return value < than if self._lower else value > than

    def _is_turned(self, value: float) -> bool:
        best = self.memory["best"]
        if not self._turned or best <= 0.0:
            return False
        return value > self._turned * best if self._lower else value < best / self._turned
