"""Population-based training: the points of a sweep as one population, whose worst members go on from the best.

<workdir>/trials/NNNN/   each member is a run like any other; lineage.json says what it took over, and from whom
<workdir>/pbt.csv        a line a member, the best first: how it ended, with which numbers, and how often it took over
"""

import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from absl import logging
from ml_collections import ConfigDict

from jaxgan import build, distributed
from jaxgan.errors import CheckpointError
from jaxgan.files import write_table
from jaxgan.judge import measured_numbers
from jaxgan.overrides import apply_overrides
from jaxgan.population import Exploit, Outcome, train_population
from jaxgan.population.seeds import as_text
from jaxgan.sweeps.objective import Objective, read_objectives
from jaxgan.sweeps.results import folder_of
from jaxgan.sweeps.space import Space, check_space, draw
from jaxgan.sweeps.table import as_text as as_cell
from jaxgan.sweeps.table import short_names
from jaxgan.workdir import Workdir

FILE = "pbt.csv"
_AT_FIRST = " at first"
MEMBERS = 20  # of a search space, where nobody says how many


def evolve(
    config: ConfigDict,
    workdir: str,
    space: Space,
    exploit: Exploit,
    *,
    trials: int | None = None,
    objective: str = "",
    overrides: Mapping[str, Any] | None = None,
) -> str:
    """Trains the population, or goes on with it.

    Args:
        config: what the members have in common.
        workdir: made if missing.
        space: the points that the members begin from; of a search space so many are drawn at random.
        exploit: see `jaxgan.population.exploit`.
        trials: how many members; None: every point, or 20 of a search space.
        objective: the short name of the number that tells who is better; "" is what config.eval.best names.
        overrides: what was changed on the command line, for the record.

    Returns:
        The table of `rows` as text, without what the members began with.

    Raises:
        JaxganError: whatever the person who started it can mend.
    """
    optuna.logging.disable_default_handler()  # it would tell of the study that draws the points
    check_space(space, config)
    folder = pathlib.Path(workdir).absolute()
    if (folder / "config.json").exists():
        raise CheckpointError(f"{folder} holds a single run; choose another --workdir for the population")
    measured = measured_numbers(config, build.load_data(config))
    (aim,) = read_objectives(objective or config.eval.best or measured[0], measured[0], measured)
    config = apply_overrides(config, {"eval.best": aim.name})
    points = draw(space.suggest, trials or MEMBERS, config.seed) if space.points is None else space.points[:trials]
    workdirs = [str(folder / folder_of(place)) for place in range(len(points))]
    configs = [apply_overrides(config, point) for point in points]
    given = [{**(overrides or {}), **point} for point in points]
    outcomes = train_population(configs, workdirs, given, exploit=exploit)
    table = rows(points, outcomes, [Workdir(own).read_lineage() for own in workdirs], aim)
    if distributed.is_main():
        write_table(folder / FILE, table)
        logging.info("the table is in %s", folder / FILE)
    return as_text(_to_show(table))


def _to_show(table: Sequence[Sequence]) -> list[list[str]]:
    """The table without what members began with, and with short names."""
    heads = table[0]
    shown = [place for place, head in enumerate(heads) if not head.endswith(_AT_FIRST)]
    shorts = short_names([heads[place] for place in shown])
    return [[shorts[heads[place]] for place in shown], *([as_cell(row[place]) for place in shown] for row in table[1:])]


def rows(
    points: Sequence[Mapping[str, Any]],
    outcomes: Sequence[Outcome],
    lineages: Sequence[Sequence[dict]],
    aim: Objective,
) -> list[list]:
    """A row a member, the best first: how it ended, the number aimed at, its numbers at the end and at the beginning.

    Args:
        points: what the members began with.
        outcomes: what became of them.
        lineages: see `jaxgan.workdir.Workdir.read_lineage`.
        aim: the number by which they are compared.
    """
    taken = [{name: x for entry in lineage for name, x in entry["values"].items()} for lineage in lineages]
    ends = [{**point, **own} for point, own in zip(points, taken, strict=True)]
    names = sorted({name for end in ends for name in end})
    heads = [*names, *(f"{name}{_AT_FIRST}" for name in names)]
    table: list[list] = [["member", "status", aim.name, *heads, "times taken over", "from"]]

    def badness(place: int) -> float:
        number = aim.of(outcomes[place].values)
        return math.inf if math.isnan(number) else number if aim.lower_is_better else -number

    for place in sorted(range(len(points)), key=lambda place: (badness(place), place)):
        own, lineage = outcomes[place], lineages[place]
        numbers = [*(ends[place].get(name, "") for name in names), *(points[place].get(name, "") for name in names)]
        whom = " ".join(f"{entry['from']}@{entry['step']}" for entry in lineage)
        table.append([folder_of(place), own.status, aim.of(own.values), *numbers, len(lineage), whom])
    return table
