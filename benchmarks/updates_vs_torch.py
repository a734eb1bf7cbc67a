"""One update of each recipe: jaxgan's against PyTorch's (eager, compiled, and torch-mimicry's own where it has one).

    python benchmarks/updates_vs_torch.py                                   every recipe, one table
    python benchmarks/updates_vs_torch.py --recipes sngan-32 r3gan-small --rounds=10 --json=result.json

Needs PyTorch (and for its compiled side g++; torch-mimicry if it is to take part) beside jaxgan's requirements;
`--peer_python` may name another interpreter that has them. Every side is a process of its own that works only when it
is its turn, a few updates a round, so that what else the machine does falls on all of them; still, measure on an idle
machine. Reported are the median time of an update, images shown to the discriminator a second, the ratio, PyTorch's
fastest side over ours (above 1, jaxgan is the faster one), and which share of the machine's measured peak the update
reaches: the products and sums of PyTorch's update, as PyTorch counts them, over our time, over the faster of a large
matrix product and a large convolution in either framework. A second table has what the compilation takes, the bytes
that the compiled update reads and writes, XLA's temporaries, and the largest memory of each side's process.

All sides: float32, all cores, the same parameter counts (asserted, but mimicry's, whose logit has a bias), the same
steps and penalties, Adam, an average of the generator (not mimicry's), and batches drawn from uint8 pictures that
lie in memory. jaxgan's side is the compiled call of the training loop, metrics included, of the experiment's own
configuration with what `RECIPES` says; see torch_recipes.py for PyTorch's.
"""

import argparse
import importlib
import json
import pathlib
import resource
import statistics
import sys
import time
from functools import partial
from types import SimpleNamespace
from typing import Any

from common import ROOT, Side, cores, machine, milliseconds, serve

SIDES = ("jaxgan", "torch eager", "torch compiled", "torch-mimicry")
EXAMPLES, CLASSES = 5000, 10


class Recipe(SimpleNamespace):
    """What both sides need to know; `experiment` and `changes` are ours alone."""


def recipe(family: str, experiment: str, shape: tuple[int, ...], **known: Any) -> Recipe:
    usual = {"batch_size": 64, "latents": 100, "d_steps": 1, "learning_rate": 2e-4, "betas": (0.5, 0.999)}
    usual |= {"conditional": False, "widths": (), "kernel": 4, "changes": {}, "updates": 1}
    return Recipe(family=family, experiment=experiment, shape=shape, **{**usual, **known})


_RESIDUAL = {"latents": 128, "d_steps": 5, "betas": (0.0, 0.9), "batch_size": 16}
# Batches of the wide networks are small, so that an update of a CPU takes seconds.
RECIPES = {
    "mlp": recipe("mlp", "mlp", (28, 28, 1), updates=5),
    "dcgan-28": recipe("dcgan", "dcgan", (28, 28, 1), widths=(64, 32), updates=5),
    "dcgan-64": recipe("dcgan", "dcgan:paper", (64, 64, 3), widths=(1024, 512, 256, 128), kernel=5, batch_size=16),
    "wgan-gp-32": recipe("wgan_gp", "wgan_gp:cifar10", (32, 32, 3), widths=(128, 128), **_RESIDUAL),
    "sngan-32": recipe("sngan", "sngan:cifar10", (32, 32, 3), widths=(256, 128), **_RESIDUAL),
    "r3gan-small": recipe(
        "r3gan", "r3gan", (28, 28, 1), widths=(64, 32, 16), latents=64, betas=(0.0, 0.9), conditional=True,
        changes={"augment.name": ""},
    ),
}  # fmt: skip


def make_jaxgan(name: str, mode: str | None):
    """The update that `launch.py --config=experiments/NAME.py` runs."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    sys.path.insert(0, str(ROOT))
    from jaxgan import build
    from jaxgan.aot import hlo
    from jaxgan.parallel import Parallel

    r = RECIPES[name]
    experiment, _, variant = r.experiment.partition(":")
    config = importlib.import_module(f"experiments.{experiment}").get_config(variant)
    config.update_from_flattened_dict({"batch_size": r.batch_size, **r.changes})
    counts = (EXAMPLES // CLASSES,) * CLASSES if r.conditional else ()
    experiment = build.make_experiment(config, r.shape, EXAMPLES, counts)
    parallel = Parallel(mode or config.parallel)
    draws = np.random.default_rng(0)
    arrays = {"real": draws.integers(0, 256, (EXAMPLES, *r.shape), np.uint8)}
    if r.conditional:
        arrays["label"] = draws.integers(0, CLASSES, EXAMPLES, np.int32)
    arrays = parallel.replicate(arrays)
    index = parallel.split(jnp.arange(experiment.counting.images_per_step, dtype=jnp.int32))
    state = parallel.replicate(jax.jit(experiment.new_state)())
    begun = time.perf_counter()
    call = parallel.compile(experiment.step, shared=1).lower(state, index, arrays).compile()
    facts = {"compile_s": time.perf_counter() - begun, "versions": f"jax {jax.__version__}, {parallel.describe()}"}
    cost, memory = hlo.count(call.as_text()), call.memory_analysis()
    facts |= {"gbytes": cost.bytes / 1e9, "mib_of_temporaries": memory.temp_size_in_bytes / 2**20}
    facts["counts"] = [sum(x.size for x in jax.tree.leaves(p)) for p in (state.params_g, state.params_d)]

    def updates(n):
        nonlocal state
        for _ in range(n):
            state, _ = call(state, index, arrays)
        jax.block_until_ready(state)

    def peak():
        a = jnp.ones((2048, 2048))
        x, kernel = jnp.ones((16, 32, 32, 128)), jnp.ones((3, 3, 128, 128))
        product = jax.jit(jnp.matmul)
        form = {"window_strides": (1, 1), "padding": "SAME", "dimension_numbers": ("NHWC", "HWIO", "NHWC")}
        conv = jax.jit(partial(jax.lax.conv_general_dilated, **form))
        return rates(lambda: product(a, a).block_until_ready(), lambda: conv(x, kernel).block_until_ready())

    return updates, facts, {"peak": peak}


def make_torch(name: str, side: str):
    """The same update in PyTorch."""
    import torch
    import torch_recipes

    torch.set_num_threads(cores())
    r = RECIPES[name]
    versions = {"versions": f"torch {torch.__version__}, {torch.get_num_threads()} threads"}
    if side == "torch-mimicry":
        counts, updates = torch_recipes.make_mimicry(r)
        return updates, {"mimicry": counts, **versions}, {}
    counts, updates, flops = torch_recipes.make(r, side == "torch compiled")

    def peak():
        a, layout = torch.ones(2048, 2048), torch.channels_last
        x = torch.ones(16, 128, 32, 32).to(memory_format=layout)
        kernel = torch.ones(128, 128, 3, 3).to(memory_format=layout)
        with torch.inference_mode():
            return rates(lambda: a @ a, lambda: torch.nn.functional.conv2d(x, kernel, padding=1))

    return updates, {"counts": counts, **versions}, {"flops": flops, "peak": peak}


def rates(product, conv) -> list[float]:
    """GFLOP/s of a matrix product of 2048^3 and of a convolution, the best of some."""
    flops = {product: 2 * 2048**3, conv: 2 * 16 * 32 * 32 * 128 * 128 * 9}

    def seconds(f):
        f()
        return min(milliseconds(lambda n: [f() for _ in range(n)], 3) for _ in range(5)) / 1e3

    return [n / seconds(f) / 1e9 for f, n in flops.items()]


def make(side: str, args: argparse.Namespace):
    """A side's facts, and what answers a number (so many updates, timed) or a word (what it measures)."""
    name = args.recipes[0]
    updates, facts, measures = make_jaxgan(name, args.parallel) if side == "jaxgan" else make_torch(name, side)
    updates(2)
    measures["rss"] = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10  # MiB on Linux

    def answer(request):
        return measures[request]() if request in measures else milliseconds(updates, request)

    return facts, answer


def measure(name: str, args: argparse.Namespace) -> dict[str, Any]:
    """A recipe's row."""
    sides = []
    for side in SIDES:  # one after another, so that no compilation disturbs another's first updates
        if side == "torch-mimicry" and name not in ("sngan-32", "wgan-gp-32"):
            continue
        python = sys.executable if side == "jaxgan" else args.peer_python
        command = [python, __file__, f"--work={side}", "--recipes", name]
        started = Side(side, command + ([f"--parallel={args.parallel}"] if args.parallel else []))
        if "error" in started.facts:
            print(f"{name}, {side}: does not run: {started.facts['error']}", flush=True)
            started.close()
        else:
            sides.append(started)
    counted = {side.name: side.facts["counts"] for side in sides if "counts" in side.facts}
    if len(set(map(tuple, counted.values()))) > 1:
        sys.exit(f"{name}: parameter counts differ: {counted}")
    times = {side.name: [] for side in sides}
    for _ in range(args.rounds):
        for side in sides:
            times[side.name].append(side.ask(RECIPES[name].updates))
    of = {side.name: side for side in sides}
    row = {"parameters": counted.get("jaxgan"), "median_ms": {k: statistics.median(v) for k, v in times.items()}}
    row["peak_rss_mib"] = {side.name: side.ask("rss") for side in sides}
    peaks = [side.ask("peak") for side in sides if side.name in ("jaxgan", "torch eager")]
    if "torch eager" in of:
        row["gflop"] = of["torch eager"].ask("flops") / 1e9
    for side in sides:
        side.close()
    row["peak_gflops"] = [max(values) for values in zip(*peaks, strict=True)]
    row |= {name: of["jaxgan"].facts[name] for name in ("compile_s", "gbytes", "mib_of_temporaries")}
    peers = {k: v for k, v in row["median_ms"].items() if k != "jaxgan"}
    if peers:
        best = min(peers, key=peers.get)
        ratios = (b / a for a, b in zip(times["jaxgan"], times[best], strict=True))
        row |= {"best": best, "ratio": statistics.median(ratios)}
    return row


def line(name: str, row: dict[str, Any]) -> str:
    r, ms = RECIPES[name], row["median_ms"]
    images = r.batch_size * r.d_steps / ms["jaxgan"] * 1e3
    share = f"{row['gflop'] / ms['jaxgan'] * 1e3 / max(row['peak_gflops']):.0%}" if "gflop" in row else ""
    peers = " | ".join(f"{ms[side]:.1f} ms" if side in ms else "" for side in SIDES[1:])
    ratio = f"{row['ratio']:.2f}" if "ratio" in row else ""
    return f"| {name} | {r.batch_size} | {ms['jaxgan']:.1f} ms | {images:,.0f} | {peers} | {ratio} | {share} |"


def costs(name: str, row: dict[str, Any]) -> str:
    r, ms, rss = RECIPES[name], row["median_ms"]["jaxgan"], row["peak_rss_mib"]
    peers = {side: mib for side, mib in rss.items() if side != "jaxgan"}
    peer = f"{min(peers.values()):,.0f} MiB ({min(peers, key=peers.get)})" if peers else ""
    return (
        f"| {name} | {row['compile_s']:.1f} s | {row['gbytes']:.2f} GB, {row['gbytes'] / ms * 1e3:.1f} GB/s | "
        f"{row['mib_of_temporaries']:.0f} MiB, {row['mib_of_temporaries'] / r.batch_size:.2f} an image | "
        f"{rss['jaxgan']:,.0f} MiB | {peer} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipes", nargs="+", choices=RECIPES, default=list(RECIPES))
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--peer_python", default=sys.executable, help="the interpreter that has PyTorch")
    parser.add_argument("--parallel", choices=("pmap", "shard_map", "jit"), help="jaxgan's side, if not as configured")
    parser.add_argument("--json", help="a file for the result")
    parser.add_argument("--work", choices=SIDES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work:
        serve(partial(make, args.work, args))
        return
    head = f"| recipe | batch | jaxgan | images/s | {' | '.join(SIDES[1:])} | ratio | of the peak |"
    rows = {}
    for name in args.recipes:
        rows[name] = measure(name, args)
        print(f"{name}: {json.dumps(rows[name])}", flush=True)
    print(f"\n{machine()}\n\n{head}\n|{'---|' * 9}")
    print("\n".join(line(name, row) for name, row in rows.items()))
    head = "| recipe | compilation | memory read and written | temporaries | peak, jaxgan | peak, least peer |"
    print(f"\n{head}\n|{'---|' * 6}")
    print("\n".join(costs(name, row) for name, row in rows.items()))
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps({"machine": machine(), "recipes": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
