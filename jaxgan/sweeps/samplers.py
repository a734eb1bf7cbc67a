"""How the next trial is chosen, and which running one is given up: Optuna's, by name."""

import warnings
import zlib

import optuna
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner
from optuna.samplers import BaseSampler, CmaEsSampler, QMCSampler, RandomSampler, TPESampler

from jaxgan.errors import ConfigError

SAMPLERS = ("tpe", "cmaes", "qmc", "random", "grid")
PRUNERS = ("none", "median", "hyperband")


def make_sampler(name: str, seed: int, run: int) -> BaseSampler:
    """The sampler of one trial.

    A trial has a seed of its own, so that neither a restart nor a second worker begins the same sequence again.

    Args:
        name: of `SAMPLERS`. A grid's trials have their parameters already.
        seed: of the sweep.
        run: the trial's number in the sweep.
    """
    own = zlib.crc32(f"{seed}/{run}".encode())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        if name == "cmaes":
            return CmaEsSampler(seed=own, warn_independent_sampling=False)
        if name == "qmc":  # one sequence, whose position the storage keeps
            return QMCSampler(seed=seed, scramble=True, independent_sampler=RandomSampler(own))
        return RandomSampler(own) if name in ("random", "grid") else TPESampler(seed=own)


def check_sampler(name: str, pruner: str, objectives: int) -> None:
    """Raises ConfigError for an unknown name, or one that cannot serve several objectives."""
    for kind, given, known in (("sampler", name, SAMPLERS), ("pruner", pruner, PRUNERS)):
        if given not in known:
            raise ConfigError(f"--{kind}={given}; known: {', '.join(known)}")
    if objectives > 1 and pruner != "none":
        raise ConfigError(f"--pruner={pruner} compares one number, and --objective names {objectives}")
    if objectives > 1 and name == "cmaes":
        raise ConfigError("--sampler=cmaes follows one number; with several objectives take tpe, qmc or random")


def make_pruner(name: str, first: int, total: int) -> BasePruner:
    """A pruner of runs of `total` updates that are evaluated at each `first`.

    The median's first quarter is never given up: samples that early say little of a GAN.
    """
    if name == "hyperband":
        return HyperbandPruner(min_resource=max(1, first), max_resource=total, reduction_factor=3)
    return MedianPruner(n_startup_trials=5, n_warmup_steps=total // 4 + 1) if name == "median" else NopPruner()
