"""The same experiment with several seeds, and what its numbers scatter: `launch.py --seeds=8`."""

import math
import pathlib
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from absl import logging
from ml_collections import ConfigDict

from jaxgan import distributed
from jaxgan.errors import ConfigError
from jaxgan.files import write_table
from jaxgan.overrides import apply_overrides
from jaxgan.population import Outcome, train_population

FILE = "seeds.csv"


def train_seeds(config: ConfigDict, workdir: str, count: int, overrides: Mapping[str, Any] | None = None) -> str:
    """Trains `config.seed`, `config.seed + 1`, ... as a population, in the folders seed_<seed> of `workdir`.

    Args:
        config: see experiments/common.py.
        workdir: made if missing; seeds.csv is written into it.
        count: how many seeds.
        overrides: what was changed on the command line, for the record.

    Returns:
        The table of `rows`, as text.

    Raises:
        JaxganError: whatever the person who started it can mend.
    """
    points = with_seeds([{}], config.seed, count)
    seeds = [point["seed"] for point in points]
    folder = pathlib.Path(workdir)
    configs = [apply_overrides(config, point) for point in points]
    given = [{**(overrides or {}), **point} for point in points]
    outcomes = train_population(configs, [str(folder / f"seed_{seed}") for seed in seeds], given)
    table = rows(seeds, outcomes)
    if distributed.is_main():
        write_table(folder / FILE, table)
        logging.info("the table is in %s", folder / FILE)
    return as_text(table)


def with_seeds(points: Sequence[Mapping[str, Any]], first: int, count: int) -> list[dict[str, Any]]:
    """Every point with each of so many seeds, in the place of its own; points that differ in that alone are one."""
    if count < 1:
        raise ConfigError(f"--seeds={count}: at least one seed is needed")
    bare = [{name: value for name, value in point.items() if name != "seed"} for point in points]
    different = [point for place, point in enumerate(bare) if point not in bare[:place]]
    return [{**point, "seed": seed} for point in different for seed in range(first, first + count)]


def rows(seeds: Sequence[int], outcomes: Sequence[Outcome]) -> list[list]:
    """A row a number of the last evaluation: its mean and standard error over the complete seeds, and each seed's.

    The standard error is the standard deviation over the seeds, with n - 1, over the square root of n; empty for one.
    """
    table = [["", "mean", "standard error", *(f"seed {seed}" for seed in seeds)]]
    table.append(["status", "", "", *(outcome.status for outcome in outcomes)])
    names = dict.fromkeys(name for outcome in outcomes for name in outcome.values)
    for name in names:
        each = [outcome.values.get(name, "") for outcome in outcomes]
        complete = [outcome.values[name] for outcome in outcomes if outcome.status == "complete"]
        mean = statistics.fmean(complete) if complete else ""
        error = statistics.stdev(complete) / math.sqrt(len(complete)) if len(complete) > 1 else ""
        table.append([name, mean, error, *each])
    return table


def as_text(table: Sequence[Sequence]) -> str:
    """The rows in columns."""
    cells = [[cell if isinstance(cell, str) else f"{cell:.4g}" for cell in row] for row in table]
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in cells)
