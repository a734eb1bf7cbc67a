"""What streaming costs: a run whose pictures are read from disk beside the same run with all of them on the device.

    python benchmarks/streaming.py --updates=300

Trains two recipes through `jaxgan.train.train`, resident and streamed in turn: the default DCGAN on mnist5k, and a
DCGAN at 64x64 on a folder of JPEG pictures of 218x178, which this script writes, in CelebA's size. Images a second are
those of the rows that the runs log; the starved share is the time in which the devices stood still for data. Seconds of
processor time an image stand beside them, because they say more on a machine that others use too. Prints one JSON line.
"""

import json
import pathlib
import statistics
import sys
import tempfile
import time

import numpy as np
from absl import app, flags
from PIL import Image

ROOT = pathlib.Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.common import machine  # noqa: E402
from experiments import dcgan  # noqa: E402
from jaxgan.train import train  # noqa: E402

_UPDATES = flags.DEFINE_integer("updates", 300, "Updates of each run.")
_ROUNDS = flags.DEFINE_integer("rounds", 2, "Runs of each kind.")
_PICTURES = flags.DEFINE_integer("pictures", 2000, "JPEG files to write.")
_WORKERS = flags.DEFINE_integer("workers", 0, "Processes that read; 0: threads.")


def write_pictures(folder: pathlib.Path, count: int) -> None:
    """Smooth random pictures with some noise, about as large in JPEG as photographs."""
    rng = np.random.default_rng(0)
    for i in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (12, 10, 3), dtype=np.uint8)).resize((178, 218), Image.BICUBIC)
        noisy = np.asarray(coarse, np.int16) + rng.integers(-12, 13, (218, 178, 3))
        Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).save(folder / f"{i:06}.jpg", quality=90)


def digits():
    return dcgan.get_config()


def photographs(folder: pathlib.Path):
    config = dcgan.get_config("folder")
    config.data.path = str(folder)
    config.model.generator.widths, config.model.discriminator.widths = (64, 32, 16, 8), (8, 16, 32, 64)
    return config


class Clock:
    """Takes the place of a progress line, and notes the processor's time at each row."""

    def __init__(self):
        self.noted = []

    def show(self, row: dict, seconds_left: float) -> None:
        self.noted.append((row["images"], time.process_time()))

    def close(self) -> None:
        (first, begun), *_, (last, ended) = self.noted
        self.milliseconds = 1e3 * (ended - begun) / (last - first)


def measure(config, stream: str, workdir: pathlib.Path) -> dict[str, float]:
    """Of rows after the first: images a second, processor time an image, and how long the devices stood still."""
    config = config.copy_and_resolve_references()
    config.data.stream, config.data.workers = stream, _WORKERS.value
    config.duration, config.log_every = f"{_UPDATES.value} steps", f"{max(1, _UPDATES.value // 6)} steps"
    config.sample_every = config.checkpoint_every = config.eval.every = "0 steps"
    clock = Clock()
    train(config, workdir, make_progress=lambda total: clock)
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()][1:]
    seconds = [1 / row["images_per_second"] for row in rows]  # for an image
    starved = [row.get("input_wait", 0.0) for row in rows]
    rate = 1 / statistics.mean(seconds)
    return {"images_per_second": rate, "cpu_ms_per_image": clock.milliseconds, "starved": statistics.mean(starved)}


def compare(config, folder: pathlib.Path) -> dict[str, dict[str, float]]:
    """Both kinds in turn: the medians of their runs."""
    kinds = {"never": [], "always": []}
    for i in range(_ROUNDS.value):
        for stream, runs in kinds.items():
            runs.append(measure(config, stream, folder / f"{stream}{i}"))
    resident, streamed = (
        {name: round(statistics.median(run[name] for run in runs), 4) for name in runs[0]} for runs in kinds.values()
    )
    return {"resident": resident, "streamed": streamed}


def main(_) -> None:
    before = machine()
    with tempfile.TemporaryDirectory() as name:
        folder, pictures = pathlib.Path(name), pathlib.Path(name, "pictures")
        pictures.mkdir()
        write_pictures(pictures, _PICTURES.value)
        recipes = {"mnist5k": digits(), "folder of jpeg at 64x64": photographs(pictures)}
        found = {recipe: compare(config, folder / recipe) for recipe, config in recipes.items()}
    print(json.dumps({"machine": before, "updates": _UPDATES.value, "workers": _WORKERS.value, **found}))


if __name__ == "__main__":
    app.run(main)
