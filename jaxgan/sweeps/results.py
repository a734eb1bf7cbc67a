"""A sweep's trials as rows: who is best, what a seed is worth, the leaderboard, and a command line to go on with."""

import dataclasses
import math
import pathlib
import shlex
import statistics
import warnings
from collections.abc import Sequence
from typing import Any

import optuna
from ml_collections import ConfigDict
from optuna.trial import FrozenTrial, TrialState

from jaxgan.errors import ConfigError
from jaxgan.files import write_table
from jaxgan.overrides import apply_overrides
from jaxgan.sweeps.objective import Objective, dominates

_STATES = {
    TrialState.WAITING: "waiting",
    TrialState.RUNNING: "running",
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
}


@dataclasses.dataclass(frozen=True)
class Row:
    """One run of the sweep."""

    run: int
    state: str  # of `_STATES`
    overrides: dict[str, Any]
    params: dict[str, Any]  # what varies, as the sampler knows it
    log_scaled: frozenset[str]  # of these
    numbers: tuple[float, ...] | None  # the objectives, of a complete run
    curve: dict[int, float]  # the first objective at each evaluation
    values: dict[str, float]  # all numbers of the last evaluation
    reason: str
    seconds: float | None

    @property
    def varied(self) -> dict[str, Any]:
        """What tells the run from others, in as few words as there are."""
        return self.params or self.overrides


def rows_of(runs: dict[int, FrozenTrial]) -> list[Row]:
    """The rows of `Study.runs`."""
    return [_row(run, trial) for run, trial in runs.items()]


def _row(run: int, trial: FrozenTrial) -> Row:
    attributes = trial.user_attrs
    reason = attributes.get("reason", "")
    if trial.state == TrialState.FAIL and not reason:
        reason = f"its worker died {attributes['deaths'] + 1} times"
    return Row(
        run=run,
        state=_STATES[trial.state],
        overrides=attributes.get("overrides", {}),
        params=trial.params,
        log_scaled=frozenset(name for name, d in trial.distributions.items() if getattr(d, "log", False)),
        numbers=tuple(trial.values) if trial.state == TrialState.COMPLETE else None,
        curve=dict(sorted(trial.intermediate_values.items())),
        values=attributes.get("values", {}),
        reason=reason,
        seconds=trial.duration.total_seconds() if trial.duration else None,
    )


def ranked(rows: Sequence[Row], objectives: Sequence[Objective]) -> list[Row]:
    """The complete runs, the best first: those that none dominates, then those that only these dominate, and so on.

    Within such a front by the first objective.
    """
    left, order = [row for row in rows if row.numbers is not None], []
    sign = 1 if objectives[0].lower_is_better else -1
    if len(objectives) == 1:  # each run would be a front of its own
        return sorted(left, key=lambda row: (sign * row.numbers[0], row.run))
    while left:
        front = [row for row in left if not any(dominates(other.numbers, row.numbers, objectives) for other in left)]
        order += sorted(front, key=lambda row: (sign * row.numbers[0], row.run))
        left = [row for row in left if row not in front]
    return order


def front_of(rows: Sequence[Row], objectives: Sequence[Objective]) -> list[Row]:
    """The complete runs that no other is better than: of one objective the best, of several the Pareto front."""
    order = ranked(rows, objectives)
    return [row for row in order if not any(dominates(other.numbers, row.numbers, objectives) for other in order)]


@dataclasses.dataclass(frozen=True)
class Group:
    """Runs that differ in their seeds alone."""

    overrides: dict[str, Any]  # without the seed
    rows: list[Row]
    mean: float  # of the first objective
    error: float  # the mean's standard error; NaN of one run


def groups_of(rows: Sequence[Row], objectives: Sequence[Objective]) -> list[Group]:
    """The groups, the best mean first; [] where no group has more than one complete run."""
    together: dict[str, list[Row]] = {}
    for row in rows:
        if row.numbers is not None:
            key = repr(sorted((name, value) for name, value in row.overrides.items() if name != "seed"))
            together.setdefault(key, []).append(row)
    if all(len(members) < 2 for members in together.values()):
        return []
    groups = []
    for members in together.values():
        numbers = [row.numbers[0] for row in members]
        error = statistics.stdev(numbers) / math.sqrt(len(numbers)) if len(numbers) > 1 else math.nan
        own = {name: value for name, value in members[0].overrides.items() if name != "seed"}
        groups.append(Group(own, members, statistics.fmean(numbers), error))
    return sorted(groups, key=lambda group: group.mean if objectives[0].lower_is_better else -group.mean)


def importances(study: optuna.Study, objective: int) -> dict[str, float]:
    """How much of the objective each parameter explains, by PED-ANOVA (Watanabe et al. 2023); {} of too few runs."""
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    numbers = {trial.values[objective] for trial in complete}
    names = {name for trial in complete for name in trial.params}
    varying = {name for name in names if len({repr(trial.params.get(name)) for trial in complete}) > 1}
    if len(numbers) < 4 or not varying:
        return {}
    sign = 1 if study.directions[objective] == optuna.study.StudyDirection.MINIMIZE else -1  # it asks what makes it low
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # to say so
        found = optuna.importance.get_param_importances(
            study, params=sorted(varying), target=lambda trial: sign * trial.values[objective]
        )
    return {name: value for name, value in found.items() if math.isfinite(value)}


def write_leaderboard(file: pathlib.Path, rows: Sequence[Row], objectives: Sequence[Objective]) -> None:
    """leaderboard.csv: a line a run, the best first and those without a result last."""
    order = ranked(rows, objectives)
    order += [row for row in rows if row.numbers is None]
    names = sorted({name for row in rows for name in row.overrides})
    measured = sorted({name for row in rows for name in row.values})
    heads = [objective.name for objective in objectives]
    table = [["rank", "run", "state", *heads, *names, *measured, "seconds", "folder", "reason"]]
    for rank, row in enumerate(order, 1):
        numbers = [repr(number) for number in row.numbers] if row.numbers is not None else [""] * len(heads)
        own = [row.overrides.get(name, "") for name in names]
        seconds = "" if row.seconds is None else f"{row.seconds:.1f}"
        values = [row.values.get(name, "") for name in measured]
        place = rank if row.numbers is not None else ""
        table.append([place, row.run, row.state, *numbers, *own, *values, seconds, folder_of(row.run), row.reason])
    write_table(file, table)


def folder_of(run: int) -> str:
    """A run's folder in the sweep's."""
    return f"trials/{run:04}"


def command_of(row: Row, experiment: str, config: ConfigDict, typed: dict[str, Any], workdir: str) -> str:
    """A command line that trains the run's configuration anew; what no flag can set follows as a comment.

    Args:
        experiment: as it was typed, with its variant.
        config: the sweep's, which the run's overrides change.
        typed: what was overridden on the sweep's own command line.
        workdir: for the new run.
    """
    flags, rest = [], {}
    for name, value in {**typed, **row.overrides}.items():
        leaves = dict(_leaves(name, value))
        try:
            apply_overrides(config, leaves)
            flags += [shlex.quote(f"--config.{leaf}={_text(own)}") for leaf, own in leaves.items()]
        except ConfigError:  # a section that the configuration has in another shape
            rest[name] = value
    parts = ["python launch.py", f"--config={experiment}", *flags, f"--workdir={shlex.quote(workdir)}"]
    command = " ".join(parts)
    return command + "".join(f"\n# and in the experiment's file: c.{name} = {value!r}" for name, value in rest.items())


def _leaves(name: str, value: Any):
    if not isinstance(value, dict):
        yield name, value
        return
    for part, own in value.items():
        yield from _leaves(f"{name}.{part}", own)


def _text(value: Any) -> str:
    return str(tuple(value)) if isinstance(value, (list, tuple)) else str(value)
