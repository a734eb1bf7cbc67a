"""Evaluation while training: measures the averaged generator, tells the best checkpoint, and when to stop."""

import jax
import numpy as np
from ml_collections import ConfigDict

from jaxgan import build, distributed, pictures
from jaxgan.data import Dataset
from jaxgan.data.cache import default_data_dir
from jaxgan.errors import ConfigError
from jaxgan.evaluation import (
    METRICS,
    Evaluator,
    choose_features,
    default_metrics,
    lower_is_better,
    make_evaluator,
)
from jaxgan.sampling import Generator
from jaxgan.state import TrainState
from jaxgan.verdict import Verdict


class Judge:
    """What `config.eval`, `config.stop` and `config.health` ask for.

    Args:
        config: of the run.
        dataset: the training set; another reference split is loaded here.
        generator: draws the samples.
        key: of the samples, the same ones at every evaluation.
        evaluator: `evaluator_of(config, dataset)`, where several judges share it.

    Raises:
        ConfigError, DataError: what is asked for cannot be measured.
    """

    def __init__(
        self,
        config: ConfigDict,
        dataset: Dataset,
        generator: Generator,
        key: jax.Array,
        evaluator: Evaluator | None = None,
    ):
        c, stop, health = config.eval, config.stop, config.health
        self._generator, self._key, self._samples, self._seed = generator, key, c.samples, config.seed
        if c.samples < 2:
            raise ConfigError(f"config.eval.samples {c.samples}: two or more are needed")
        self._evaluator = evaluator or evaluator_of(config, dataset)
        best = c.best or self._evaluator.numbers[0]
        self._best, self._lower = self._named("eval.best", best), lower_is_better(best)
        self._health = Verdict(self._lower, None, 1, health.turned, health.turned_for)
        self._stop_at, self._stop = "", None
        if stop.metric:
            self._stop_at = self._named("stop.metric", stop.metric)
            self._stop = Verdict(lower_is_better(stop.metric), _threshold(stop), stop.patience)

    @property
    def memory(self) -> dict:
        """What has to be saved for the next process to judge as one run. JSON."""
        return {"health": self._health.memory, "stop": self._stop.memory if self._stop else None}

    def remember(self, memory: dict | None) -> None:
        """Takes over what a former process's `memory` was."""
        if memory:
            self._health.memory = memory["health"]
            if self._stop and memory["stop"]:
                self._stop.memory = memory["stop"]

    @property
    def protocol(self) -> dict:
        """What the numbers depend on beside the state; goes with them wherever they are written. JSON."""
        return {"ema": True, "seed": self._seed, **self._evaluator.protocol(self._samples)}

    def record(self, step: int, values: dict[str, float]) -> dict:
        """An entry of evaluation.json."""
        return {"step": step, "while_training": True, **self.protocol, "values": values}

    @property
    def is_satisfied(self) -> bool:
        """Whether the run has reached what `config.stop` asks for."""
        return self._stop is not None and self._stop.is_reached

    @property
    def best(self) -> dict | None:
        """The best number so far as {"name", "value", "step"}; None before the first evaluation."""
        memory = self._health.memory
        if memory["best_step"] is None:
            return None
        return {"name": self._best, "value": memory["best"], "step": memory["best_step"]}

    def measure(self, state: TrainState, step: int) -> tuple[dict[str, float], float]:
        """The numbers by name, and how bad the state is: the lower, the better."""
        samples = self._generator.samples(state, self._key, self._samples)
        fake = self._evaluator.extract(as_measured(samples))
        # All processes judge by the same numbers.
        values = distributed.from_main(lambda: self._evaluator.measure_features(fake))
        values = self._evaluator.named(values, self._samples)
        self._health.take(step, self._best, values[self._best])
        if self._stop is not None:
            self._stop.take(step, self._stop_at, values[self._stop_at])
        return values, self.badness(values)

    def badness(self, values: dict[str, float]) -> float:
        """Of a state with these numbers: the lower, the better, by the number that `config.eval.best` names."""
        return values[self._best] if self._lower else -values[self._best]

    def replace(self, step: int, values: dict[str, float]) -> None:
        """Takes in that another state, with these numbers, has taken the place of the one at this step."""
        self._health.replace(step, values[self._best])
        if self._stop is not None:
            self._stop.replace(step, values[self._stop_at])

    def _named(self, field: str, short: str) -> str:
        if short not in self._evaluator.numbers:
            known = ", ".join(self._evaluator.numbers)
            raise ConfigError(f"config.{field} is {short!r}, which config.eval does not measure; it measures {known}")
        return self._evaluator.name(short, self._samples)


def as_measured(samples: np.ndarray) -> np.ndarray:
    """Pictures as the bytes that a file of them would hold; points as they are."""
    return pictures.to_uint8(samples) if samples.ndim == 4 else samples


def make_judge(
    config: ConfigDict,
    dataset: Dataset,
    generator: Generator,
    key: jax.Array,
    every: int,
    evaluator: Evaluator | None = None,
) -> Judge | None:
    """The judge of a run that is evaluated at every so many updates; None where it never is.

    Raises:
        ConfigError: it is to stop by a number, but never evaluated.
    """
    if every:
        return Judge(config, dataset, generator, key, evaluator)
    if config.stop.metric:
        raise ConfigError(f"config.stop.metric {config.stop.metric!r} is never measured while config.eval.every is 0")
    return None


def measured_numbers(config: ConfigDict, dataset: Dataset) -> tuple[str, ...]:
    """The short names of what a run with this configuration measures while it trains."""
    _, metrics = _choose(config, dataset)
    unknown = [metric for metric in metrics if metric not in METRICS]
    if unknown:
        raise ConfigError(f"unknown metric {', '.join(unknown)}; known: {', '.join(METRICS)}")
    return tuple(number for metric in metrics for number in METRICS[metric].lower_is_better)


def _choose(config: ConfigDict, dataset: Dataset) -> tuple[str, tuple[str, ...]]:
    """Features and metrics."""
    c = config.eval
    features = choose_features(c.features, dataset.name, dataset.arrays["real"].shape[1:], c.resize)
    return features, tuple(c.metrics) or default_metrics(features, dataset.name)


def _threshold(stop: ConfigDict) -> float:
    side = "below" if lower_is_better(stop.metric) else "above"
    if not stop[side]:
        raise ConfigError(f"config.stop.metric is {stop.metric!r}, so config.stop.{side} has to say where to stop")
    return stop[side]


def evaluator_of(config: ConfigDict, dataset: Dataset) -> Evaluator:
    """What measures a run's samples while it trains; raises ConfigError or DataError like `Judge`."""
    c = config.eval
    split = c.split or config.data.split
    if split != config.data.split:
        dataset = build.load_data(config, split)
    features, metrics = _choose(config, dataset)
    return make_evaluator(
        dataset,
        features=features,
        metrics=metrics,
        weights=c.weights,
        resize=c.resize,
        split=split,
        limit=c.samples if features == "raw" else 0,  # as wide as the examples, so the whole set may not fit
        keep_in=default_data_dir() / "jaxgan_statistics" if features in ("inception", "efflite0") else None,
    )
