"""A sweep: trials of one experiment in a study that other processes may share, and what they leave to look at.

<workdir>/trials/NNNN/      each trial is a run like any other
<workdir>/study.journal     the study, unless a database keeps it
<workdir>/leaderboard.csv   a line a trial; rewritten after each
<workdir>/sweep.html        one page to look at; rewritten after each
"""

import contextlib
import functools
import math
import os
import pathlib
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import optuna
from ml_collections import ConfigDict

from jaxgan import build, distributed
from jaxgan.errors import CheckpointError, ConfigError, JaxganError
from jaxgan.interrupt import Interrupt
from jaxgan.judge import measured_numbers
from jaxgan.overrides import apply_overrides
from jaxgan.sweeps.objective import Objective, read_objectives
from jaxgan.sweeps.page import write_page
from jaxgan.sweeps.results import command_of, folder_of, front_of, rows_of, write_leaderboard
from jaxgan.sweeps.runner import Runner, one_by_one, together
from jaxgan.sweeps.samplers import check_sampler, make_pruner
from jaxgan.sweeps.space import Space, as_parameters, check_space
from jaxgan.sweeps.storage import open_storage
from jaxgan.sweeps.study import Study
from jaxgan.sweeps.table import Table
from jaxgan.workdir import CAME_LATER, plain

TRIALS = 20  # of a search space, where nobody says how many
_MAY_CHANGE = ("parallel", "shard_state", "population_devices", "steps_per_call", "health", "log_every")
_MAY_CHANGE += ("sample_every", "checkpoint_every")


def sweep(
    config: ConfigDict,
    workdir: str,
    space: Space,
    *,
    experiment: str = "",
    overrides: dict[str, Any] | None = None,
    trials: int | None = None,
    sampler: str = "",
    pruner: str = "none",
    objective: str = "",
    storage: str = "",
    batch: int = 1,
    runner: Runner | None = None,
    heartbeat: float = 30.0,
) -> str:
    """Runs the trials of a sweep that nobody has run yet, in turn with other processes that share its storage.

    Killed at any moment and started again, it goes on: a trial that was interrupted goes on from its checkpoint.

    Args:
        config: what the trials have in common, with config.eval as they are to be judged.
        workdir: the sweep's folder.
        space: what is tried, see `jaxgan.sweeps.space.read_space`.
        experiment: the file with its variant, for the command line that is printed at the end.
        overrides: what was changed on the command line.
        trials: how many, in all; may be raised later. None: every point, or 20 of a search space.
        sampler, pruner: see `jaxgan.sweeps.samplers`; "" is tpe.
        objective: see `jaxgan.sweeps.objective.read_objectives`; "" is what config.eval.best names.
        storage: see `jaxgan.sweeps.storage.open_storage`.
        batch: trials asked for at once, and handed to the runner together.
        runner: trains them; None: a batch as a population, a single trial by itself.
        heartbeat: seconds between a worker's signs of life, five of which have to be missing before others take its
            trials over.

    Returns:
        What to print: the best trials as command lines, and where the rest is.

    Raises:
        ConfigError: a name, a type or a combination is wrong; found before anything runs.
        JaxganError: whatever else the person who started the sweep can mend. The trial waits for the next start.
    """
    # What is asked for. Everything that can be wrong is found before anything is written.
    optuna.logging.disable_default_handler()  # what it has to say comes with our own messages
    optuna.logging.enable_propagation()
    if batch < 1 or (trials is not None and trials < 1):
        raise ConfigError("--trials and --batch count from 1")
    check_space(space, config)
    plan = _check(config, objective)
    check_sampler(sampler or "tpe", pruner, len(plan.objectives))
    folder = pathlib.Path(workdir).absolute()
    if (folder / "config.json").exists():
        raise CheckpointError(f"{folder} holds a single run; choose another --workdir for the sweep")

    # The study, which other workers may have begun. Of several processes the first one leads; all know the study.
    folder.mkdir(parents=True, exist_ok=True)
    study = Study(
        open_storage(storage, folder),
        name=os.path.normpath(workdir) if storage else "sweep",  # a journal may be moved with its folder
        objectives=plan.objectives,
        sampler=sampler or "tpe",
        seed=config.seed,
        pruner=make_pruner(pruner, plan.first, plan.total),
        record=_record(config, space),
        heartbeat=heartbeat,
    )

    # The trials.
    def look() -> None:
        rows = rows_of(study.runs())
        table.update(rows)
        write_leaderboard(folder / "leaderboard.csv", rows, plan.objectives)
        write_page(folder, experiment or config.experiment, rows, plan.objectives, study.optuna, best())

    def best() -> list[str]:
        rows = front_of(rows_of(study.runs()), plan.objectives)
        where = f"{workdir}/best"
        return [command_of(row, experiment, config, overrides or {}, where) for row in rows[:5]]

    def next_batch() -> _Batch | None:
        """What is trained next; None: nothing is left, or a signal came."""
        while interrupt.signal_name is None and not study.is_finished():
            taken = study.take(batch)
            if taken:
                return _suggest(study, taken, space)
            table.update(rows_of(study.runs()), "other workers are at the last ones; waiting in case one dies")
            _pause(min(heartbeat, 5.0), interrupt)
        return None

    signal_name, table = None, Table(plan.objectives)
    with Interrupt() as interrupt, table if distributed.is_main() else contextlib.nullcontext():
        if distributed.is_main():
            _fill(study, space, config, trials)
            look()
        while signal_name is None and (told := distributed.from_main(next_batch, math.inf)) is not None:
            _run(study, _Batch(*told), config, folder, overrides or {}, runner, table)
            if distributed.is_main():
                look()
            signal_name = next(filter(None, distributed.gather(interrupt.signal_name)), None)

    return _last_words(study, folder, best(), signal_name or interrupt.signal_name) if distributed.is_main() else ""


def _fill(study: Study, space: Space, config: ConfigDict, trials: int | None) -> None:
    """Lets the trials wait."""
    if space.points is not None:
        runs = min(trials or len(space.points), len(space.points))
        study.fill(runs, as_parameters(space.points, config), space.points)
    else:
        study.fill(trials or TRIALS)


class _Plan(NamedTuple):
    objectives: tuple[Objective, ...]
    first: int  # updates between two evaluations
    total: int  # updates


def _check(config: ConfigDict, objective: str) -> _Plan:
    """Finds what a run would find before its first update, and what trials are to be judged by."""
    build.make_parallel(config)
    dataset = build.load_data(config)
    real = dataset.arrays["real"]
    counting = build.make_experiment(config, real.shape[1:], len(real), build.label_counts(dataset)).counting
    first, total = counting.steps(config.eval.every), counting.steps(config.duration)
    if not first:
        raise ConfigError("config.eval.every is 0, so that nothing would be known of a trial; set how often")
    measured = measured_numbers(config, dataset)
    return _Plan(read_objectives(objective, config.eval.best or measured[0], measured), first, total)


def _record(config: ConfigDict, space: Space) -> dict:
    """What has to be the same when a sweep goes on, for its trials to compare."""
    common = {
        name: value
        for name, value in plain(config).items()
        if name not in _MAY_CHANGE and CAME_LATER.get(name, "always there") != value
    }
    return {"config": common, "points": None if space.points is None else plain(list(space.points))}


class _Batch(NamedTuple):
    """Trials that are trained together, as the first process tells the others of them."""

    trials: list[int]  # their numbers in the study
    runs: list[int]
    overrides: list[dict]


def _suggest(study: Study, taken: Sequence[optuna.Trial], space: Space) -> _Batch:
    with _put_back_unless_done(study, taken):
        own = [study.overrides(trial, space.suggest) for trial in taken]
    return _Batch([trial.number for trial in taken], [trial.user_attrs["run"] for trial in taken], own)


@contextlib.contextmanager
def _put_back_unless_done(study: Study, taken: Sequence[optuna.Trial]) -> Iterator[None]:
    """What is not done is for the next start, or for another worker."""
    try:
        yield
    except (JaxganError, OSError, KeyboardInterrupt):
        for trial in taken if distributed.is_main() else ():
            study.put_back(trial)
        raise


def _run(study, batch, config, folder, typed, runner, table) -> None:
    """One batch, from what is suggested to how its trials ended."""
    taken, is_main = [study.trial(number) for number in batch.trials], distributed.is_main()
    given_up: set[int] = set()

    def report(member: int, step: int, values: dict[str, float]) -> bool:
        table.evaluated(batch.runs[member], values)
        if member in heart.lost or study.report(taken[member], step, values):
            given_up.add(member)
        return member in given_up

    def report_as_one(member: int, step: int, values: dict[str, float]) -> bool:
        return distributed.from_main(lambda: report(member, step, values))

    ask = report  # each process of its own members
    if runner is None and len(taken) > 1:
        runner = together
    elif runner is None:
        ask = report_as_one  # all of them of the one that they train
        runner = functools.partial(
            one_by_one, make_progress=lambda member, total: table.progress_of(batch.runs[member], total)
        )
    with study.heart(taken if is_main else []) as heart, _put_back_unless_done(study, taken):
        if is_main:
            table.update(rows_of(study.runs()))
        configs = [apply_overrides(config, overrides) for overrides in batch.overrides]
        workdirs = [str(folder / folder_of(run)) for run in batch.runs]
        outcomes = runner(configs, workdirs, [{**typed, **overrides} for overrides in batch.overrides], ask)
    given_up.update(member for part in distributed.gather(sorted(given_up)) for member in part)
    for member, (trial, outcome) in enumerate(zip(taken, outcomes, strict=True)) if is_main else ():
        study.finish(trial, outcome, member in given_up)


def _pause(seconds: float, interrupt: Interrupt) -> None:
    until = time.monotonic() + seconds
    while interrupt.signal_name is None and time.monotonic() < until:
        time.sleep(0.2)


def _last_words(study: Study, folder: pathlib.Path, best: Sequence[str], signal_name: str | None) -> str:
    rows = rows_of(study.runs())
    done = sum(row.state not in ("waiting", "running") for row in rows)
    lines = [f"{done} of {len(rows)} trials are done; {folder / 'sweep.html'} and leaderboard.csv show them."]
    if signal_name:
        lines.append(f"Stopped by {signal_name}; the same command goes on.")
    for number, command in enumerate(best):
        row = front_of(rows, study.objectives)[number]
        numbers = ", ".join(
            f"{objective.name} {value:.4g}" for objective, value in zip(study.objectives, row.numbers, strict=True)
        )
        lines.append(f"\nrun {row.run:04}, {numbers}:\n{command}")
    return "\n".join(lines)
