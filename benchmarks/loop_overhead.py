"""What the loop costs beside its updates: data, logging, progress; pictures, metrics and checkpoints apart.

    python benchmarks/loop_overhead.py --steps=600
    python benchmarks/loop_overhead.py --steps=20000         on a GPU, where an update takes less than a millisecond

Trains the default DCGAN through `jaxgan.train.train`, and times the same compiled calls on the same data, back to back
with nothing between them, before and after it in the same process. The overhead is the loop's time over that of the
bare updates, less one.
"""

import json
import pathlib
import statistics
import sys
import tempfile
import time

import jax
from absl import app, flags

ROOT = pathlib.Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from experiments import dcgan, mlp, toy2d  # noqa: E402
from jaxgan import build  # noqa: E402
from jaxgan.feed import make_feed  # noqa: E402
from jaxgan.train import train  # noqa: E402

EXPERIMENTS = {"dcgan": dcgan, "mlp": mlp, "toy2d": toy2d}
_EXPERIMENT = flags.DEFINE_enum("experiment", "dcgan", sorted(EXPERIMENTS), "Which experiment.")
_STEPS = flags.DEFINE_integer("steps", 600, "Updates in each part.")
_ROUNDS = flags.DEFINE_integer("rounds", 3, "Loops, each between two timings of the bare updates.")


def bare_updates(config, steps: int) -> float:
    """Seconds for one update, when nothing but updates is asked for."""
    parallel = build.make_parallel(config)
    dataset = build.load_data(config)
    experiment = build.make_experiment(config, dataset.arrays["real"].shape[1:], len(dataset.arrays["real"]))
    several = experiment.counting.steps_per_call
    feed = make_feed(dataset, experiment, parallel)
    call, given = feed.compile(several), feed.take(idle=lambda: None)
    state, metrics = call(parallel.create(experiment.new_state), *given)
    jax.block_until_ready(state)
    calls = max(1, steps // several)
    begun = time.perf_counter()
    for _ in range(calls):
        before = metrics
        state, metrics = call(state, *given)
        jax.block_until_ready(before)  # as in the loop, at most one call waits for another
    jax.block_until_ready(state)
    return (time.perf_counter() - begun) / (calls * several)


def loop(config, steps: int) -> float:
    """Seconds for one update within the loop, from the rates that it logged."""
    with tempfile.TemporaryDirectory() as folder:
        train(config, pathlib.Path(folder) / "run")
        rows = [json.loads(line) for line in (pathlib.Path(folder) / "run" / "metrics.jsonl").read_text().splitlines()]
    # The first row holds the first calls, whose buffers are still being made.
    rates = [row["images_per_second"] for row in rows[1:] if row.get("images_per_second")]
    return config.batch_size * config.d_steps * statistics.mean(1 / rate for rate in rates)


def main(_) -> None:
    steps = _STEPS.value
    config = EXPERIMENTS[_EXPERIMENT.value].get_config()
    config.duration = f"{steps} steps"
    config.sample_every = config.checkpoint_every = config.eval.every = "0 steps"
    ratios, bare = [], bare_updates(config, steps)
    for _ in range(_ROUNDS.value):
        looped, after = loop(config, steps), bare_updates(config, steps)
        ratios.append(looped / statistics.mean((bare, after)))
        print(f"bare {1e3 * bare:.2f} and {1e3 * after:.2f} ms, in the loop {1e3 * looped:.2f} ms", flush=True)
        bare = after
    name = f"{_EXPERIMENT.value} on {jax.devices()[0].device_kind}"
    print(f"{name}: loop overhead {statistics.median(ratios) - 1:+.1%} (median of {len(ratios)})")


if __name__ == "__main__":
    app.run(main)
