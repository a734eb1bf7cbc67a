"""What a trial is judged by: numbers of its evaluations, by their short names, at the end of the run."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from jaxgan.errors import ConfigError
from jaxgan.evaluation import lower_is_better


class Objective(NamedTuple):
    """One number."""

    name: str  # short: fid, recall, ...
    lower_is_better: bool

    def of(self, values: Mapping[str, float]) -> float:
        """Its value among those of an evaluation, which carry their protocol in their names; NaN if it is missing."""
        pattern = re.compile(rf"{re.escape(self.name)}\d+k?_\w+")
        return next((value for name, value in values.items() if pattern.fullmatch(name)), math.nan)

    def is_better(self, a: float, b: float) -> bool:
        return a < b if self.lower_is_better else a > b


def read_objectives(text: str, best: str, measured: Sequence[str]) -> tuple[Objective, ...]:
    """`fid:min,recall:max`, `fid` or "" as objectives.

    Args:
        text: short names, each with min or max if it shall not be the way in which the number is better.
        best: taken where `text` is empty.
        measured: what there is.

    Raises:
        ConfigError: a name is not measured, or a direction is not min or max.
    """
    objectives = []
    for part in (text or best).split(","):
        name, _, direction = part.strip().partition(":")
        if name not in measured:
            raise ConfigError(
                f"the objective {name!r} is not measured while a trial trains; measured are {', '.join(measured)}. "
                "--config.eval.metrics=('fid','kid') says what is."
            )
        if direction not in ("", "min", "max"):
            raise ConfigError(f"--objective={text}: {direction!r} is neither min nor max")
        objectives.append(Objective(name, direction == "min" if direction else lower_is_better(name)))
    if len({objective.name for objective in objectives}) < len(objectives):
        raise ConfigError(f"--objective={text} names one number twice")
    return tuple(objectives)


def dominates(a: Sequence[float], b: Sequence[float], objectives: Sequence[Objective]) -> bool:
    """Whether a is better than b in one objective, and worse in none."""
    triples = list(zip(objectives, a, b, strict=True))
    return any(o.is_better(x, y) for o, x, y in triples) and not any(o.is_better(y, x) for o, x, y in triples)
