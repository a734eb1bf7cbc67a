"""Watches a run for the ways in which GANs fail: NaN, a discriminator that has won, a generator that has collapsed."""

import copy
import math
from typing import NamedTuple

from absl import logging

from jaxgan.errors import DivergedError


class Thresholds(NamedTuple):
    """When a sign counts as bad, and for how many updates in a row before the warning."""

    patience: int  # updates
    accuracy: float  # of the discriminator, above which it may have won
    vanished: float  # generator gradient norm as a share of its highest mean so far, below which it has vanished
    collapsed: float  # spread of the samples as a share of the data's, below which they are all alike


class Health:
    """One run's signs. `memory` is plain JSON, saved with the checkpoint, so that a resumed run warns as one run.

    Args:
        thresholds: see there.
        memory: what a former process's `memory` was.
    """

    def __init__(self, thresholds: Thresholds, memory: dict | None = None):
        self.thresholds = thresholds
        fresh = {"highest_grad_norm_g": 0.0, "won_for": 0, "collapsed_for": 0, "warned": []}
        self.memory = copy.deepcopy(memory or fresh)

    def check_finite(self, step: int, metrics: dict[str, float], last_good: int | None) -> None:
        """Raises DivergedError, naming step, quantities and last checkpoint, if a metric is NaN or infinite."""
        bad = [f"{name} = {value}" for name, value in metrics.items() if not math.isfinite(value)]
        if bad:
            last = "there is no checkpoint yet" if last_good is None else f"the last good checkpoint is {last_good}"
            raise DivergedError(
                f"update {step} gave {', '.join(bad)}; the run was stopped, and {last}. The same command again would "
                "go on from there and probably meet the same numbers: try a lower learning rate, another loss, or "
                "another seed, in a new --workdir."
            )

    def check(self, step: int, updates: int, means: dict[str, float]) -> None:
        """Takes in the means of the last `updates` updates; logs each warning once in a run."""
        memory, limits = self.memory, self.thresholds
        highest = memory["highest_grad_norm_g"] = max(memory["highest_grad_norm_g"], means["grad_norm_g"])
        won = means["accuracy_d"] > limits.accuracy and means["grad_norm_g"] < limits.vanished * highest
        memory["won_for"] = memory["won_for"] + updates if won else 0
        if memory["won_for"] >= limits.patience:
            self._warn(
                "won",
                f"step {step}: the discriminator has won: it tells real from generated every time, and the generator's "
                f"gradient has vanished ({means['grad_norm_g']:.2e}, once {highest:.2e}). Try the non_saturating or "
                "hinge loss, a lower learning rate or fewer steps for the discriminator, or label smoothing.",
            )
        collapsed = means["std_fake"] < limits.collapsed * means["std_real"]
        memory["collapsed_for"] = memory["collapsed_for"] + updates if collapsed else 0
        if memory["collapsed_for"] >= limits.patience:
            self._warn(
                "collapsed",
                f"step {step}: the generator has collapsed: its samples are nearly all alike (spread "
                f"{means['std_fake']:.2e}, the data's is {means['std_real']:.2e}). Try lower learning rates, another "
                "loss (relativistic, least_squares), a larger batch, or another seed.",
            )

    def _warn(self, what: str, message: str) -> None:
        if what not in self.memory["warned"]:
            self.memory["warned"].append(what)
            logging.warning("%s", message)
