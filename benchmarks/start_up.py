"""How long a person waits: `launch.py --help`, and from the command to the first update, cold and warm.

    python benchmarks/start_up.py
    python benchmarks/start_up.py --config=experiments/r3gan.py --rounds=1

Every start is a process of its own. Cold is with an empty folder for compiled programs (`--compiled`), warm with that
folder as the cold start left it. The first update is done when its row is made, whose time metrics.jsonl records. Data
sets are prepared before. The last number is how many programs the warm start added to the folder: 0, or something is
compiled anew at each start.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

from common import ROOT, machine

# One update, and nothing of the run but that.
ONE = {"duration": "1 steps", "steps_per_call": 1, "log_every": "1 steps", "eval.every": "0 epochs"}


def launch(*arguments: str, status: int = 0) -> float:
    """When a process was started, which has ended with this status when the function returns."""
    begun = time.time()
    command = [sys.executable, "launch.py", *arguments]
    done = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True)
    if done.returncode != status:
        sys.exit(f"launch.py {' '.join(arguments)} failed:\n{done.stderr}")
    return begun


def first_update(config: str, workdir: pathlib.Path, compiled: pathlib.Path) -> float:
    """Seconds from the command to the end of the first update."""
    overrides = [f"--config.{name}={value}" for name, value in ONE.items()]
    begun = launch(f"--config={config}", f"--workdir={workdir}", f"--compiled={compiled}", *overrides)
    return json.loads((workdir / "metrics.jsonl").read_text().splitlines()[0])["time"] - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default="experiments/dcgan.py")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    times = {"help": [], "cold": [], "warm": []}
    added = []
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        launch(f"--config={args.config}", "--dry_run")  # the data set is there, and Python's own caches
        for i in range(args.rounds):
            begun = launch("--help", status=1)  # absl's status after a help text
            times["help"].append(time.time() - begun)
            compiled = folder / f"compiled{i}"
            times["cold"].append(first_update(args.config, folder / f"cold{i}", compiled))
            before = len(list(compiled.iterdir()))
            times["warm"].append(first_update(args.config, folder / f"warm{i}", compiled))
            added.append(len(list(compiled.iterdir())) - before)
    seconds = {name: round(statistics.median(values), 2) for name, values in times.items()}
    print(machine())
    print(json.dumps({"config": args.config, **seconds, "compiled_by_the_warm_start": max(added)}))


if __name__ == "__main__":
    main()
