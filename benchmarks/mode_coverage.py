"""How many modes do GANs find? Several seeds of experiments/pacgan.py, beside the published rows.

    python benchmarks/mode_coverage.py --suites ring grid --packing 1 2 --seeds 5 --runs runs/modes
    python benchmarks/mode_coverage.py --suites ring --packing 1 --seeds 10 --updates 400000 --steps_per_call 500
    python benchmarks/mode_coverage.py --suites stacked_mnist5k --seeds 1 --updates 20000
    python benchmarks/mode_coverage.py ... --only_table          what is there already

The seeds of a row (a suite with a packing) are trained as one population, as by `launch.py --seeds=5`: on a GPU or TPU
they are vectorised, and cost together little more than one. What is there is not repeated, and runs that were shorter
go on, so the script may be stopped (Ctrl-C saves), and started again with more updates or more seeds. Rows may be
trained by processes of their own, into the same folder. The table gives mean and standard error over the seeds of the
evaluation after so many updates, and how far that is from the published mean, in standard errors of the difference.
"""

import argparse
import json
import math
import pathlib
import statistics
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.common import machine  # noqa: E402

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
    parser.add_argument("--updates", type=int, default=40_000, help="a multiple of 100; the papers' are 400,000")
    parser.add_argument("--evaluations", type=int, default=8, help="while training; the last one is the table's")
    calls = "of ring and grid: updates between two looks of the host; 500 suit a GPU, on a CPU they delay a Ctrl-C"
    parser.add_argument("--steps_per_call", type=int, default=50, help=calls)
    parser.add_argument("--runs", default=str(ROOT / "runs" / "modes"), help="a folder for the work folders")
    parser.add_argument("--only_table", action="store_true", help="train nothing")
    args = parser.parse_args()
    if args.updates % 100 or min(args.updates, args.evaluations, args.steps_per_call) < 1:
        parser.error("--updates is a multiple of 100, and all numbers are above 0")
    rows = [(suite, packing) for suite in args.suites for packing in args.packing]
    if not args.only_table:
        train(args, rows)
    print(f"\n{machine()}\n")
    print(table(args, rows))


def train(args: argparse.Namespace, rows: list[tuple[str, int]]) -> None:
    """Trains what is missing, row by row, until a signal."""
    from absl import flags

    from jaxgan import compilation, console
    from jaxgan.errors import JaxganError
    from jaxgan.interrupt import Interrupt

    flags.FLAGS.mark_as_parsed()  # else the first line of the log is absl's complaint about flags
    console.set_up_logging()
    compilation.keep("")
    with Interrupt() as interrupt:
        for suite, packing in rows:
            missing = [seed for seed in range(args.seeds) if evaluation(args, suite, packing, seed) is None]
            if not missing or interrupt.signal_name is not None:
                continue
            print(f"{suite}, packing {packing}: seeds {missing}", flush=True)
            try:
                train_row(args, suite, packing, missing)
            except JaxganError as error:
                sys.exit(f"error: {error}")


def train_row(args: argparse.Namespace, suite: str, packing: int, seeds: list[int]) -> None:
    """Trains seeds of a row as one population; complete ones among them stay as they are."""
    from experiments import pacgan
    from jaxgan.overrides import apply_overrides
    from jaxgan.population.seeds import train_seeds

    row = row_folder(args, suite, packing)
    row.mkdir(parents=True, exist_ok=True)
    for seed in range(args.seeds):
        if (earlier := earlier_folder(args, suite, packing, seed)).exists():
            earlier.rename(row / f"seed_{seed}")
    config = pacgan.get_config(suite)
    whole = config.batch_size - config.batch_size % packing  # 99 in packs of three
    overrides = {**settings(args, suite), "game.packing": packing, "batch_size": whole, "seed": seeds[0]}
    config = apply_overrides(config, overrides)
    train_seeds(config, str(row), seeds[-1] - seeds[0] + 1, overrides)


def settings(args: argparse.Namespace, suite: str) -> dict:
    """How long a run is, and how often the host looks at it, by dotted name."""
    span = math.ceil(args.updates / args.evaluations)
    given = dict.fromkeys(("eval.every", "sample_every", "checkpoint_every"), f"{span} steps")
    given |= {"duration": f"{args.updates} steps", "log_every": f"{math.ceil(span / 10)} steps"}
    if suite in ("ring", "grid"):  # others are convolutional, which on a CPU are one update a call
        given["steps_per_call"] = math.gcd(args.updates, args.steps_per_call)  # so that the last one ends with it
    return given


def row_folder(args: argparse.Namespace, suite: str, packing: int) -> pathlib.Path:
    return pathlib.Path(args.runs) / f"{suite}-packing{packing}"


def earlier_folder(args: argparse.Namespace, suite: str, packing: int, seed: int) -> pathlib.Path:
    """Where older versions, which trained one seed after another, kept a run."""
    return pathlib.Path(args.runs) / f"{suite}-packing{packing}-seed{seed}"


def evaluation(args: argparse.Namespace, suite: str, packing: int, seed: int) -> dict[str, float] | None:
    """The numbers after so many updates by their short names; None if the run has not come that far."""
    folders = (row_folder(args, suite, packing) / f"seed_{seed}", earlier_folder(args, suite, packing, seed))
    files = [file for folder in folders if (file := folder / "evaluation.json").exists()]
    entries = json.loads(files[0].read_text()) if files else []
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
