"""A sweep as one population against the same runs one after another, each a process of its own through launch.py.

    python benchmarks/population.py --steps=2000

Sixteen members, seeds x learning rates of toy2d:grid (`experiments/toy2d.py:sweep`), which share start-up and
compilation. Both sides keep compiled programs as launch.py does, each in a folder of its own that is empty at first, so
the single runs but the first find theirs there; with `--nocache` nobody keeps anything. On a processor with several
cores `--devices=N` divides the population over N parts of it, as `JAX_NUM_CPU_DEVICES=N` does for anybody; a single run
is not divided, which would split its batch. Of the single runs the first `--runs` are timed; the sum of all sixteen is
taken from their mean where those are fewer, and the line says so. The states that both sides end with are compared.
Seconds of processor time stand beside those of the clock, because they say more on a machine that others use too.
"""

import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from typing import NamedTuple

import jax
import numpy as np
from absl import app, flags

ROOT = pathlib.Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.common import machine  # noqa: E402
from experiments import toy2d  # noqa: E402

_STEPS = flags.DEFINE_integer("steps", 2000, "Updates of each run.")
_RUNS = flags.DEFINE_integer("runs", 16, "How many of the single runs are timed.")
_DEVICES = flags.DEFINE_integer("devices", 1, "Into how many devices the population's process divides the processor.")
_CACHE = flags.DEFINE_bool("cache", True, "Keep compiled programs, as launch.py does.")
_POPULATION = flags.DEFINE_string("population_into", None, "Trains the population there; what the benchmark starts.")


def settings(steps: int) -> dict:
    """Pictures at both ends, and one evaluation and checkpoint at the end."""
    every = dict.fromkeys(("sample_every", "checkpoint_every", "eval.every"), f"{steps} steps")
    return {"duration": f"{steps} steps", **every}


def train_population(folder: str, steps: int) -> None:
    """The population's process."""
    from jaxgan import compilation, console, population
    from jaxgan.overrides import apply_overrides

    console.set_up_logging()
    compilation.keep(kept(folder))
    points = [{**settings(steps), **point} for point in toy2d.sweep()]
    configs = [apply_overrides(toy2d.get_config("grid"), point) for point in points]
    population.train_population(configs, [f"{folder}/{i}" for i in range(len(configs))], points)


def kept(folder: str) -> str:
    """Where a side keeps its compiled programs, see `jaxgan.compilation.keep`."""
    return f"{folder}_compiled" if _CACHE.value else "none"


class Cost(NamedTuple):
    """Of a process."""

    seconds: float
    cpu_seconds: float


def timed(command: list[str], devices: int = 1) -> Cost:
    """What a process takes; its own words go nowhere."""
    environment = {name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}
    environment["JAX_NUM_CPU_DEVICES"] = str(devices)
    begun, used = time.perf_counter(), cpu_of_children()
    subprocess.run([sys.executable, *command], cwd=ROOT, env=environment, check=True, capture_output=True)
    return Cost(time.perf_counter() - begun, cpu_of_children() - used)


def cpu_of_children() -> float:
    """Processor seconds of all processes that this one has waited for."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def single(point: dict, workdir: str, steps: int, compiled: str) -> Cost:
    """One run through launch.py."""
    given = [f"--config.{name}={value}" for name, value in {**settings(steps), **point}.items()]
    command = ["launch.py", "--config=experiments/toy2d.py:grid", f"--workdir={workdir}", f"--compiled={compiled}"]
    return timed([*command, *given])


def farthest(a: str, b: str) -> float:
    """The largest difference between two runs' last parameters, over their largest size."""
    from jaxgan.evaluate import load_trained

    states = [load_trained(workdir).state for workdir in (a, b)]
    pairs = zip(*(jax.tree.leaves((state.params_g, state.params_d, state.ema_g)) for state in states), strict=True)
    return max(float(np.abs(np.asarray(x) - np.asarray(y)).max() / np.abs(np.asarray(y)).max()) for x, y in pairs)


def main(_) -> None:
    steps = _STEPS.value
    if _POPULATION.value:
        train_population(_POPULATION.value, steps)
        return
    points = toy2d.sweep()
    with tempfile.TemporaryDirectory() as folder:
        command = [__file__, f"--steps={steps}", f"--cache={_CACHE.value}", f"--population_into={folder}/population"]
        together = timed(command, _DEVICES.value)
        compiled = kept(f"{folder}/single")
        alone = [single(point, f"{folder}/{i}", steps, compiled) for i, point in enumerate(points[: _RUNS.value])]
        apart = max(farthest(f"{folder}/population/{i}", f"{folder}/{i}") for i in range(len(alone)))
    everybody = Cost(*(statistics.fmean(costs) * len(points) for costs in zip(*alone, strict=True)))
    result = {"members": len(points), "steps": steps, "devices": _DEVICES.value, "cache": _CACHE.value}
    result["timed_single_runs"] = len(alone)
    result["extrapolated"] = len(alone) < len(points)
    for name, ours, theirs in zip(Cost._fields, together, everybody, strict=True):
        result |= {f"population_{name}": round(ours, 1), f"single_{name}": round(theirs, 1)}
        result[f"ratio_of_{name}"] = round(theirs / ours, 2)
    print(machine())
    print(json.dumps({**result, "largest_relative_difference": float(f"{apart:.2g}")}))


if __name__ == "__main__":
    app.run(main)
