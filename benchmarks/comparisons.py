"""Recipes side by side, at the same number of images: runs of launch.py, and one table of what they reached.

    python benchmarks/comparisons.py fashion --images 200000     R3GAN, DCGAN, WGAN-GP and SNGAN on Fashion-MNIST, 32x32
    python benchmarks/comparisons.py ablation --images 300000    what keeps all modes of Stacked-MNIST: R3GAN's table
    python benchmarks/comparisons.py fashion --images 200000 --only_table

Images are those shown to the discriminator. What is there is not repeated: a run begun goes on, so the script may be
stopped at any time. `fashion` scores 5,000 samples of the last averaged generator (--mode=eval), `ablation` counts the
modes of 26,000 while it trains.
"""

import argparse
import json
import pathlib
import shlex
import subprocess
import sys
from typing import Any

from common import ROOT, machine

# Every recipe without labels; schedules end where the run does.
FASHION = {
    "dcgan": ["dcgan.py:fashion_mnist"],
    "wgan_gp": ["wgan_gp.py:fashion_mnist", "--config.optimizer.schedule.over={images} images"],
    "sngan": ["sngan.py:fashion_mnist", "--config.optimizer.schedule.over={images} images"],
    "r3gan": ["r3gan.py:fashion_mnist", "--config.game.conditional=False"],
}
FASHION_SIZE = ["--config.data.image_size=32", "--config.eval.resize=clean"]  # seen by the garment classifier at 28x28
ABLATION = {
    "relativistic, R1 + R2": [],
    "relativistic, R1": ["--config.loss.penalties.r2=0"],
    "non-saturating, R1 + R2": ["--config.loss.name=non_saturating"],
    "non-saturating, R1": ["--config.loss.name=non_saturating", "--config.loss.penalties.r2=0"],
}
STUDIES = {
    "fashion": {name: [*row, *FASHION_SIZE] for name, row in FASHION.items()},
    "ablation": {name: ["r3gan.py:stacked_mnist5k", *row] for name, row in ABLATION.items()},
}
SHOWN = {
    "fashion": {"fid": "distance", **{name: name for name in ("precision", "recall", "density", "coverage")}},
    "ablation": {"modes": "modes of 1,000", "reverse_kl": "KL"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", choices=STUDIES)
    parser.add_argument("--images", type=int, default=200_000, help="shown to the discriminator")
    parser.add_argument("--evaluations", type=int, default=5, help="while training")
    parser.add_argument("--rows", nargs="+", help="some of the rows")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs", default=str(ROOT / "runs" / "comparisons"), help="a folder for the work folders")
    parser.add_argument("--only_table", action="store_true", help="train nothing")
    args = parser.parse_args()
    rows = args.rows or list(STUDIES[args.study])
    if unknown := sorted(set(rows) - set(STUDIES[args.study])):
        parser.error(f"unknown rows {', '.join(unknown)}; known: {', '.join(STUDIES[args.study])}")
    for row in rows if not args.only_table else ():
        train(args, row)
    print(f"\n{machine()}\n")
    print(table(args, rows))


def folder(args: argparse.Namespace, row: str) -> pathlib.Path:
    name = "-".join(row.replace("+", " ").replace(",", " ").split())
    return pathlib.Path(args.runs) / f"{args.study}-{name}-{args.images}-seed{args.seed}"


def train(args: argparse.Namespace, row: str) -> None:
    experiment, *overrides = (part.format(images=args.images) for part in STUDIES[args.study][row])
    workdir, every = folder(args, row), f"{args.images // args.evaluations} images"
    command = [f"--config={ROOT}/experiments/{experiment}", *overrides, f"--config.duration={args.images} images"]
    command += [f"--config.{name}={every}" for name in ("eval.every", "sample_every", "checkpoint_every")]
    launch(*command, f"--config.seed={args.seed}", f"--workdir={workdir}")
    if args.study == "fashion" and final(args, row) is None:
        launch("--mode=eval", "--checkpoint=last", f"--workdir={workdir}")


def launch(*arguments: str) -> None:
    command = [sys.executable, str(ROOT / "launch.py"), *arguments]
    print(shlex.join(command), flush=True)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def final(args: argparse.Namespace, row: str) -> dict[str, Any] | None:
    """The last evaluation that has all numbers, by short names; None if there is none yet."""
    file = folder(args, row) / "evaluation.json"
    for entry in reversed(json.loads(file.read_text()) if file.exists() else []):
        values = {
            short: value
            for short in SHOWN[args.study]
            for name, value in entry["values"].items()
            if name.startswith(short) and name[len(short)].isdigit()
        }
        if len(values) == len(SHOWN[args.study]):
            return {"step": entry["step"], **values}
    return None


def table(args: argparse.Namespace, rows: list[str]) -> str:
    shown = SHOWN[args.study]
    lines = [f"| recipe | images | updates | {' | '.join(shown.values())} |", "|" + "---|" * (3 + len(shown))]
    for row in rows:
        if found := final(args, row):
            cells = " | ".join(f"{found[short]:.3g}" for short in shown)
            lines.append(f"| {row} | {args.images:,} | {found['step']:,} | {cells} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
