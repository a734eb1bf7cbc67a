"""What a sweep tries: the points that an experiment's `sweep()` lists, or what its `search_space(trial)` suggests.

Both live in the experiment's file, and both give dotted overrides, as the command line takes them without "config.".
"""

import importlib.util
import itertools
import json
import math
import pathlib
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import optuna
from ml_collections import ConfigDict
from optuna.distributions import BaseDistribution, CategoricalDistribution

from jaxgan.errors import ConfigError
from jaxgan.overrides import apply_overrides
from jaxgan.workdir import plain

Overrides = dict[str, Any]
Suggest = Callable[[Any], Overrides]

_PROBES = 20  # trials drawn and thrown away, to find wrong names before anything runs
_GRID_VALUES = 5  # of a continuous parameter


class Space(NamedTuple):
    """One of the two is given."""

    points: tuple[Overrides, ...] | None = None  # each is tried once
    suggest: Suggest | None = None  # an Optuna trial -> overrides


def read_space(experiment: str, sampler: str = "") -> Space:
    """The space of an experiment's file.

    Args:
        experiment: the file, perhaps with a variant.
        sampler: "grid" takes `sweep()`, or all combinations of `search_space`; others take `search_space`; "" takes
            what there is, `search_space` first.

    Raises:
        ConfigError: the file has nothing of the kind.
    """
    experiment, _, _ = experiment.partition(":")
    module = _load(experiment)
    points, suggest = getattr(module, "sweep", None), getattr(module, "search_space", None)
    if points is None and suggest is None:
        raise ConfigError(f"{experiment} has neither sweep() nor search_space(trial); docs/sweeps.md shows both")
    if suggest is not None and sampler != "grid":
        return Space(suggest=suggest)
    if points is not None and sampler in ("", "grid"):
        return Space(points=tuple(dict(point) for point in points()))
    if suggest is None:
        raise ConfigError(f"--sampler={sampler} needs a search_space(trial), and {experiment} has sweep() alone")
    return Space(points=combinations(suggest))


def check_space(space: Space, config: ConfigDict) -> None:
    """Applies every point, or a number of suggestions, to the configuration.

    Raises:
        ConfigError: a name or a type is wrong, or there is nothing to try.
    """
    tried = [overrides for _, overrides in _probe(space.suggest)] if space.suggest else space.points
    if not tried:
        raise ConfigError("sweep() lists no points")
    for overrides in tried:
        apply_overrides(config, overrides)


def combinations(suggest: Suggest) -> tuple[Overrides, ...]:
    """All combinations of a search space's values; of a continuous parameter five, evenly spaced on its scale.

    Raises:
        ConfigError: what is suggested depends on what was suggested before.
    """
    spaces = [trial.distributions for trial, _ in _probe(suggest)]
    if any(space != spaces[0] for space in spaces):
        raise ConfigError("search_space(trial) does not always suggest the same parameters, so there is no grid of it")
    names, axes = spaces[0].keys(), [_values(distribution) for distribution in spaces[0].values()]
    chosen = (dict(zip(names, values, strict=True)) for values in itertools.product(*axes))
    return tuple(suggest(optuna.trial.FixedTrial(params)) for params in chosen)


def draw(suggest: Suggest, count: int, seed: int) -> tuple[Overrides, ...]:
    """So many suggestions at random, the same for the same seed."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    return tuple(dict(suggest(study.ask())) for _ in range(count))


def as_parameters(points: Sequence[Overrides], config: ConfigDict) -> list[tuple[dict, dict[str, BaseDistribution]]]:
    """For each point what Optuna would have called its parameters and their distributions.

    Those that are the same in all points are left out; what a point does not name has the configuration's value.
    """
    names = sorted({name for point in points for name in point})
    flat = [
        {name: _choice(point[name] if name in point else _field(config, name)) for name in names} for point in points
    ]
    choices = {name: list(dict.fromkeys(point[name] for point in flat)) for name in names}
    varying = {name: CategoricalDistribution(values) for name, values in choices.items() if len(values) > 1}
    return [({name: point[name] for name in varying}, varying) for point in flat]


def _load(experiment: str) -> ModuleType:
    path = pathlib.Path(experiment)
    spec = importlib.util.spec_from_file_location(f"experiments.{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except OSError as error:
        raise ConfigError(f"cannot read the experiment {experiment}: {error}")
    return module


def _probe(suggest: Suggest) -> list[tuple[optuna.Trial, Overrides]]:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    trials = [study.ask() for _ in range(_PROBES)]
    return [(trial, suggest(trial)) for trial in trials]


def _values(distribution: BaseDistribution) -> Sequence[Any]:
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices
    low, high, step = distribution.low, distribution.high, distribution.step
    if step is not None and not distribution.log:
        return [min(low + i * step, high) for i in range(math.floor((high - low) / step + 1e-9) + 1)]
    spaced = np.geomspace if distribution.log else np.linspace
    values = spaced(low, high, _GRID_VALUES)
    if isinstance(distribution, optuna.distributions.IntDistribution):
        return sorted({round(value) for value in values.tolist()})
    return [low, *values[1:-1].tolist(), high]  # the ends without a rounding error


def _field(config: ConfigDict, name: str) -> Any:
    for part in name.split("."):
        config = config[part]
    return config


def _choice(value: Any) -> Any:
    """A value as Optuna can store it: sections and tuples as text."""
    return value if isinstance(value, (bool, int, float, str)) else json.dumps(plain(value))
