"""Trains a batch of trials: one after another, or as a population in one program."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from ml_collections import ConfigDict

from jaxgan import distributed, population
from jaxgan.errors import ConfigError, DivergedError
from jaxgan.interrupt import Interrupt
from jaxgan.population import find_refused, train_population
from jaxgan.train import train
from jaxgan.workdir import Workdir
from jaxgan.writers import ProgressLine


class Outcome(NamedTuple):
    """How one trial ended."""

    values: dict[str, float]  # of its last evaluation, by the names that are logged; of a complete trial at its end
    status: str  # "complete", "diverged", "refused" (its configuration does not fit together) or "stopped"
    reason: str = ""


Report = Callable[[int, int, dict[str, float]], bool]  # (member, step, values) -> whether it shall stop


class Runner(Protocol):
    """Trains one configuration in each work folder, or goes on with it; gives their outcomes in that order.

    After a signal (`jaxgan.interrupt`) the trials that are not complete are "stopped", each with a checkpoint.
    """

    def __call__(
        self, configs: Sequence[ConfigDict], workdirs: Sequence[str], overrides: Sequence[dict], report: Report
    ) -> list[Outcome]: ...


def one_by_one(
    configs: Sequence[ConfigDict],
    workdirs: Sequence[str],
    overrides: Sequence[dict],
    report: Report,
    make_progress: Callable[[int, int], ProgressLine] = lambda member, total: ProgressLine(total),
) -> list[Outcome]:
    """The runner that trains each trial as if it had been launched alone; after a signal it begins no other.

    Args:
        make_progress: `(member, total updates) -> ` what shows a trial's rows.
    """
    outcomes = []
    with Interrupt() as interrupt:
        for member, (config, workdir, own) in enumerate(zip(configs, workdirs, overrides, strict=True)):
            if any(distributed.gather(interrupt.signal_name)):
                outcomes.append(Outcome({}, "stopped"))
                continue
            outcomes.append(_train(member, config, workdir, own, report, make_progress, interrupt))
    return outcomes


def together(
    configs: Sequence[ConfigDict], workdirs: Sequence[str], overrides: Sequence[dict], report: Report
) -> list[Outcome]:
    """The runner that trains all trials as a population; see `jaxgan.population` for which of them share a program."""
    try:
        return [_outcome(member) for member in train_population(configs, workdirs, overrides, report)]
    except ConfigError:  # found before anything is written: the others can do without those that are to blame
        refused = find_refused(configs, workdirs)
        if not refused:
            raise
    outcomes = {place: Outcome({}, "refused", str(error)) for place, error in refused.items()}
    places = [place for place in range(len(configs)) if place not in refused]
    if places:

        def report_one(member, step, values):
            return report(places[member], step, values)

        given = ([column[place] for place in places] for column in (configs, workdirs, overrides))
        members = train_population(*given, report_one)
        outcomes |= {place: _outcome(member) for place, member in zip(places, members, strict=True)}
    return [outcomes[place] for place in range(len(configs))]


def _outcome(member: population.Outcome) -> Outcome:
    reason = "a number of it was not finite" if member.status == "diverged" else ""
    return Outcome(member.values, "stopped" if member.status == "interrupted" else member.status, reason)


def _train(member, config, workdir, overrides, report, make_progress, interrupt) -> Outcome:
    is_asked, total = False, math.inf

    def report_own(step, values):
        nonlocal is_asked
        is_asked = report(member, step, values)
        return is_asked

    def make_own_progress(updates):
        nonlocal total
        total = updates
        return make_progress(member, updates)

    try:
        state = train(config, workdir, overrides, report_own, make_own_progress)
    except DivergedError as error:
        return Outcome(last_values(workdir), "diverged", str(error))
    except ConfigError as error:
        return Outcome({}, "refused", str(error))
    # Of a run that was already at its end no progress is made, and no report.
    is_stopped = (is_asked or interrupt.signal_name is not None) and int(state.step) < total
    return Outcome(last_values(workdir), "stopped" if is_stopped else "complete")


def last_values(workdir: str) -> dict[str, float]:
    """The numbers of the last evaluation while a run trained; {} where there was none."""
    entries = [entry for entry in Workdir(workdir).read_evaluations() if entry.get("while_training")]
    return max(entries, key=lambda entry: entry["step"])["values"] if entries else {}
