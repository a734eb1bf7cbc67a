"""How many modes do GANs find? Several seeds of experiments/pacgan.py, beside the published rows.

    python benchmarks/mode_coverage.py --suites ring grid --packing 1 2 --seeds 5 --runs runs/modes
    python benchmarks/mode_coverage.py --suites stacked_mnist5k --seeds 1 --updates 20000
    python benchmarks/mode_coverage.py ... --only_table          what is there already

Each run is one call of launch.py with a work folder of its own. What is there is not repeated, and a run that was
shorter goes on, so the script may be stopped, and started again with more updates. The table gives mean and standard
error over the seeds of the evaluation after so many updates, and how far that is from the published mean, in standard
errors of the difference.
"""

import argparse
import json
import math
import pathlib
import shlex
import statistics
import subprocess
import sys

from common import ROOT, machine

SUITES = ("ring", "grid", "stacked_mnist5k", "stacked_mnist")
SHOWN = {"modes": "modes", "high_quality": "good", "reverse_kl": "reverse KL"}
# Mean and standard error over 10 trials: PacGAN, 2018, tables 1 and 2. 400,000 updates; 100,000 of Stacked-MNIST, whose
# packed rows find all modes in every trial.
PUBLISHED = {
    ("ring", 1): {"modes": (6.3, 0.5), "high_quality": (0.982, 0.002), "reverse_kl": (0.45, 0.09)},
    ("ring", 2): {"modes": (7.9, 0.1), "high_quality": (0.956, 0.020), "reverse_kl": (0.07, 0.03)},
    ("ring", 3): {"modes": (7.8, 0.1), "high_quality": (0.977, 0.003), "reverse_kl": (0.10, 0.02)},
    ("ring", 4): {"modes": (7.8, 0.1), "high_quality": (0.959, 0.014), "reverse_kl": (0.07, 0.02)},
    ("grid", 1): {"modes": (17.3, 0.8), "high_quality": (0.948, 0.007), "reverse_kl": (0.70, 0.07)},
    ("grid", 2): {"modes": (23.8, 0.7), "high_quality": (0.913, 0.008), "reverse_kl": (0.13, 0.04)},
    ("grid", 3): {"modes": (24.6, 0.4), "high_quality": (0.942, 0.004), "reverse_kl": (0.06, 0.02)},
    ("grid", 4): {"modes": (24.8, 0.2), "high_quality": (0.936, 0.006), "reverse_kl": (0.04, 0.01)},
    ("stacked_mnist", 1): {"modes": (78.9, 6.46), "reverse_kl": (4.50, 0.127)},
    ("stacked_mnist", 2): {"modes": (1000.0, 0.0), "reverse_kl": (0.06, math.nan)},
    ("stacked_mnist", 3): {"modes": (1000.0, 0.0), "reverse_kl": (0.06, math.nan)},
    ("stacked_mnist", 4): {"modes": (1000.0, 0.0), "reverse_kl": (0.07, math.nan)},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--suites", nargs="+", choices=SUITES, default=["ring", "grid"])
    parser.add_argument("--packing", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--seeds", type=int, default=5, help="how many; 0, 1, ...")
    parser.add_argument("--updates", type=int, default=40_000, help="a multiple of 5,000; the papers' are 400,000")
    parser.add_argument("--runs", default=str(ROOT / "runs" / "modes"), help="a folder for the work folders")
    parser.add_argument("--only_table", action="store_true", help="train nothing")
    args = parser.parse_args()
    rows = [(suite, packing) for suite in args.suites for packing in args.packing]
    # Seed by seed, so that a table begun is a table with fewer seeds, and not one with fewer rows.
    runs = [(*row, seed) for seed in range(args.seeds) for row in rows]
    for number, run in enumerate(runs, 1):
        if not args.only_table and evaluation(args, *run) is None:
            print(f"run {number} of {len(runs)}: {run}", flush=True)
            launch(args, *run)
    print(f"\n{machine()}\n")
    print(table(args, rows))


def folder(args: argparse.Namespace, suite: str, packing: int, seed: int) -> pathlib.Path:
    return pathlib.Path(args.runs) / f"{suite}-packing{packing}-seed{seed}"


def launch(args: argparse.Namespace, suite: str, packing: int, seed: int) -> None:
    command = [sys.executable, str(ROOT / "launch.py"), f"--config={ROOT}/experiments/pacgan.py:{suite}"]
    command += [f"--config.game.packing={packing}", f"--config.seed={seed}", f"--config.duration={args.updates} steps"]
    command += [f"--workdir={folder(args, suite, packing, seed)}"]
    print(shlex.join(command), flush=True)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def evaluation(args: argparse.Namespace, suite: str, packing: int, seed: int) -> dict[str, float] | None:
    """The numbers after so many updates by their short names; None if the run has not come that far."""
    file = folder(args, suite, packing, seed) / "evaluation.json"
    entries = json.loads(file.read_text()) if file.exists() else []
    values = next((entry["values"] for entry in entries if entry["step"] == args.updates), None)
    if values is None:
        return None
    return {
        short: value
        for short in SHOWN
        for name, value in values.items()
        if name.startswith(short) and name[len(short)].isdigit()
    }


def table(args: argparse.Namespace, rows: list[tuple[str, int]]) -> str:
    lines = [
        f"| suite | packing | seeds | updates | {' | '.join(f'{name} | published' for name in SHOWN.values())} |",
        "|---|---|---|---|" + "---|---|" * len(SHOWN),
    ]
    for suite, packing in rows:
        found = [evaluation(args, suite, packing, seed) for seed in range(args.seeds)]
        found = [entry for entry in found if entry]
        if not found:
            continue
        cells = []
        for short in SHOWN:
            values = [entry[short] for entry in found if short in entry]
            published = PUBLISHED.get((suite, packing), {}).get(short)
            cells += [measured(values, published) if values else "", shown(*published) if published else ""]
        lines.append(f"| {suite} | {packing} | {len(found)} | {args.updates:,} | {' | '.join(cells)} |")
    return "\n".join(lines)


def measured(values: list[float], published: tuple[float, float] | None) -> str:
    mean = statistics.mean(values)
    error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    text = shown(mean, error)
    if published is None or not math.hypot(error, published[1]) > 0:
        return text
    return f"{text} ({(mean - published[0]) / math.hypot(error, published[1]):+.1f} SE)"


def shown(mean: float, error: float) -> str:
    return f"{mean:.3g}" if math.isnan(error) else f"{mean:.3g} ± {error:.2g}"


if __name__ == "__main__":
    main()
