"""One update of each recipe: jaxgan's against PyTorch's (eager, compiled, as CUDA graphs, and torch-mimicry's own).

    python benchmarks/updates_vs_torch.py                                   every recipe, one table
    python benchmarks/updates_vs_torch.py --recipes sngan-32 r3gan-small --rounds=10 --json=result.json
    python benchmarks/updates_vs_torch.py --together=8 --hlo=hlo --trace=traces           a GPU that is lent for minutes

Needs PyTorch (and for its compiled sides a C++ compiler; torch-mimicry if it is to take part) beside jaxgan's
requirements; `--peer_python` may name another interpreter that has them. Every side is a process of its own that works
only when it is its turn, for half a second a round, so that what else the machine does falls on all of them; still,
measure on an idle machine. Reported are the median time of an update, images shown to the discriminator a second, the
ratio, PyTorch's fastest side over ours (above 1, jaxgan is the faster one), and which share of the machine's measured
peak the update reaches: the products and sums of PyTorch's update, as PyTorch counts them, over our time, over the
faster of a large matrix product and a large convolution in either framework. A second table has what the compilation
takes, the bytes that the compiled update reads and writes, XLA's temporaries, and the largest memory of each side: of
its process, or of the GPU.

All sides: float32 (`--precision=bfloat16`: both networks in bfloat16), all cores or the first GPU, the same parameter
counts (asserted, but mimicry's, whose logit has a bias), the same steps and penalties, Adam, an average of the
generator (not mimicry's), and batches drawn from uint8 pictures that lie in the device's memory. jaxgan's side is the
compiled call of the training loop, of several updates on a GPU, metrics included, of the experiment's own configuration
with what recipes.py says; see torch_recipes.py for PyTorch's. On a GPU float32 products are TF32's on all sides; on a
CPU malloc has huge pages on all sides.

`--together=N` sets up the sides of all recipes before anything is timed, N at once. XLA and cuDNN choose their kernels
by timing them, and beside other processes they may choose worse ones: for figures to keep, set up one after another.
"""

import argparse
import json
import pathlib
import resource
import statistics
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from common import Side, compare, environment, gpus, machine, milliseconds, serve, take_turns
from recipes import RECIPES, choose

SIDES = {
    "cpu": ("jaxgan", "torch eager", "torch compiled", "torch-mimicry"),
    "gpu": ("jaxgan", "torch eager", "torch compiled", "torch graphs", "torch compiled + graphs"),
}
HAS_MIMICRY = ("sngan-32", "wgan-gp-32")
ROUND = 500  # milliseconds that a side works for at a time, or one call
PASSED_ON = ("parallel", "device", "batch_size", "precision", "steps_per_call", "hlo", "trace")


def make(side: str, args: argparse.Namespace):
    """A side's facts, and what answers a number (so many updates, timed) or a word (what it measures)."""
    name = args.recipes[0]
    recipe = choose(name, args.device, args.batch_size, args.precision)
    if side == "jaxgan":
        import jaxgan_recipes

        updates, facts, measures = jaxgan_recipes.make(recipe, f"{name}-{args.precision}", args)
    else:
        import torch_recipes

        updates, facts, measures = torch_recipes.make(recipe, side, args)
    facts["updates_per_call"] = facts.get("updates_per_call", 1)
    for _ in range(2):
        updates(facts["updates_per_call"])
    measures["rss"] = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10  # MiB on Linux

    def answer(request):
        return measures[request]() if request in measures else milliseconds(updates, request)

    return facts, answer


def begin(name: str, side: str, args: argparse.Namespace) -> Side:
    """A side's process, set up."""
    python = sys.executable if side == "jaxgan" else args.peer_python
    command = [python, __file__, f"--work={side}", "--recipes", name]
    command += [f"--{option}={value}" for option in PASSED_ON if (value := getattr(args, option))]
    env = environment(args.device)
    if args.together > 1:
        env["TORCHINDUCTOR_COMPILE_THREADS"] = "2"
    started = Side(side, command, env, args.patience)
    if "error" in started.facts:
        print(f"{name}, {side}: does not run: {started.facts['error']}", flush=True)
        started.close()
    else:
        print(f"{name}, {side}: set up in {started.facts['setup']:.1f} s, {started.facts['versions']}", flush=True)
    return started


def set_up(names: list[str], args: argparse.Namespace) -> dict[str, list[Side]]:
    """By recipe, the sides that run."""
    asked = args.sides or SIDES[args.device]
    wanted = [(name, side) for name in names for side in asked if side != "torch-mimicry" or name in HAS_MIMICRY]
    with ThreadPoolExecutor(args.together) as pool:
        sides = list(pool.map(lambda pair: begin(*pair, args), wanted))
    of = {name: [] for name in names}
    for (name, _), side in zip(wanted, sides, strict=True):
        if "error" not in side.facts:
            of[name].append(side)
    return of


def measure(name: str, sides: list[Side], args: argparse.Namespace) -> dict[str, Any]:
    """A recipe's row."""
    of = {side.name: side for side in sides}
    counted = {side.name: side.facts["counts"] for side in sides if "counts" in side.facts}
    if len(set(map(tuple, counted.values()))) > 1:
        raise RuntimeError(f"parameter counts differ: {counted}")
    times = take_turns({side: how_many(side) for side in sides}, args.rounds)
    row = {"batch_size": choose(name, args.device, args.batch_size).batch_size, "parameters": counted.get("jaxgan")}
    row["median_ms"] = {k: statistics.median(v) for k, v in times.items()}
    row["modes"] = {side.name: side.facts["mode"] for side in sides if side.facts.get("mode")}
    row["peak_rss_mib"] = {side.name: side.ask("rss") for side in sides}
    if args.device == "gpu":
        row["peak_device_mib"] = {side.name: side.ask("device_mib") for side in sides}
    peaks = [side.ask("peak") for side in sides if side.name in ("jaxgan", "torch eager")]
    row["peak_gflops"] = [max(values) for values in zip(*peaks, strict=True)]
    if "torch eager" in of:
        row["gflop"] = of["torch eager"].ask("flops") / 1e9
    known = ("compile_s", "gbytes", "mib_of_temporaries", "mib_of_program", "updates_per_call")
    row |= {key: of["jaxgan"].facts[key] for key in known if "jaxgan" in of}
    if args.trace and "jaxgan" in of:
        row["trace"] = of["jaxgan"].ask("trace")
    return row | compare(times)


def how_many(side: Side) -> int:
    """The updates of a turn."""
    once = n = side.facts["updates_per_call"]
    for _ in range(2):  # one alone takes longer on a GPU than one of many
        n = once * max(1, round(ROUND / side.ask(n) / once))
    return n


def report(rows: dict[str, dict[str, Any]], device: str) -> str:
    sides = SIDES[device][1:]
    head = f"| recipe | batch | jaxgan | images/s | {' | '.join(sides)} | ratio | of the peak |"
    lines = [machine(), "", head, "|---" * (6 + len(sides)) + "|"]
    rows = {name: row for name, row in rows.items() if "jaxgan" in row["median_ms"]}
    lines += [line(name, row, sides) for name, row in rows.items()]
    head = "| recipe | compilation | memory read and written | temporaries | peak, jaxgan | peak, least peer |"
    lines += ["", head, "|---" * 6 + "|"]
    return "\n".join(lines + [costs(name, row) for name, row in rows.items()])


def line(name: str, row: dict[str, Any], sides: tuple[str, ...]) -> str:
    ms = row["median_ms"]
    images = row["batch_size"] * RECIPES[name].d_steps / ms["jaxgan"] * 1e3
    share = f"{row['gflop'] / ms['jaxgan'] * 1e3 / max(row['peak_gflops']):.0%}" if "gflop" in row else ""
    peers = " | ".join(f"{ms[side]:.4g} ms" if side in ms else "" for side in sides)
    ratio = f"{row['ratio']:.2f}" if "ratio" in row else ""
    return f"| {name} | {row['batch_size']} | {ms['jaxgan']:.4g} ms | {images:,.0f} | {peers} | {ratio} | {share} |"


def costs(name: str, row: dict[str, Any]) -> str:
    ms, taken = row["median_ms"]["jaxgan"], row.get("peak_device_mib", row["peak_rss_mib"])
    peers = {side: mib for side, mib in taken.items() if side != "jaxgan"}
    peer = f"{min(peers.values()):,.0f} MiB ({min(peers, key=peers.get)})" if peers else ""
    an_image = row["mib_of_temporaries"] / row["batch_size"]
    return (
        f"| {name} | {row['compile_s']:.1f} s | {row['gbytes']:.3g} GB, {row['gbytes'] / ms * 1e3:,.1f} GB/s | "
        f"{row['mib_of_temporaries']:.0f} MiB, {an_image:.2f} an image | {taken['jaxgan']:,.0f} MiB | {peer} |"
    )


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipes", nargs="+", choices=RECIPES, default=list(RECIPES))
    every_side = sorted({*SIDES["cpu"], *SIDES["gpu"]})
    parser.add_argument("--sides", nargs="+", choices=every_side, help="all that the device has by default")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--device", choices=SIDES, default="gpu" if gpus() else "cpu", help="a GPU if there is one")
    parser.add_argument("--batch_size", type=int, default=0, help="in place of the recipes' own")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--parallel", choices=("pmap", "shard_map", "jit"), help="jaxgan's side, if not as configured")
    parser.add_argument("--steps_per_call", type=int, default=0, help="jaxgan's side, if not the training loop's own")
    parser.add_argument("--together", type=int, default=1, metavar="N", help="set up all sides first, N at once")
    parser.add_argument("--patience", type=float, help="seconds after which a side that is not set up is left out")
    parser.add_argument("--peer_python", default=sys.executable, help="the interpreter that has PyTorch")
    parser.add_argument("--json", help="a file for the result, written after each recipe")
    parser.add_argument("--hlo", metavar="DIR", help="gets the text of each of jaxgan's compiled calls")
    parser.add_argument("--trace", metavar="DIR", help="gets a trace of a few of each of jaxgan's calls")
    parser.add_argument("--work", choices=every_side, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    args = read_arguments()
    if args.work:
        serve(partial(make, args.work, args))
        return
    rows, groups = {}, [args.recipes] if args.together > 1 else [[name] for name in args.recipes]
    for names in groups:
        for name, sides in set_up(names, args).items():
            try:
                rows[name] = measure(name, sides, args)
                print(f"{name}: {json.dumps(rows[name])}", flush=True)
            except RuntimeError as error:  # a side died; the other recipes go on
                print(f"{name}: is not measured: {error}", flush=True)
            for side in sides:
                side.close()
            if args.json:
                result = {"machine": machine(), "precision": args.precision, "recipes": rows}
                pathlib.Path(args.json).write_text(json.dumps(result, indent=2) + "\n")
    print(f"\n{report(rows, args.device)}")


if __name__ == "__main__":
    main()
