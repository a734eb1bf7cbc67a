"""What a run tells the outside: metrics.jsonl, TensorBoard, and the progress line. One process writes."""

import json
import pathlib
import sys
import time

import numpy as np
from PIL import Image

from jaxgan.files import write_text


class MetricsFile:
    """metrics.jsonl: one JSON object a line, each step at most once, in order.

    Args:
        file: made if missing.
        after: the step a run goes on from; what a killed process wrote beyond it is dropped, for it will come again.
    """

    def __init__(self, file: pathlib.Path, after: int = 0):
        if file.exists():
            kept = [line for line in file.read_text().splitlines() if _step(line) is not None and _step(line) <= after]
            write_text(file, "".join(line + "\n" for line in kept))
        self._file = file.open("a")

    def write(self, row: dict) -> None:
        """Adds a line and hands it to the system, so that it outlives this process."""
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def read_metrics(file: pathlib.Path) -> list[dict]:
    """The rows of a metrics.jsonl, without a last line that was cut off."""
    return [json.loads(line) for line in file.read_text().splitlines() if _step(line) is not None]


def _step(line: str) -> int | None:
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError, TypeError):
        return None  # cut off by a kill or a full disk


class TensorBoard:
    """Scalars and pictures for TensorBoard, without TensorFlow.

    Args:
        directory: of the event files.
        after: the step a run goes on from; TensorBoard hides what was written beyond it before.
    """

    def __init__(self, directory: pathlib.Path, after: int = 0):
        from tensorboardX import SummaryWriter  # half a second that --help and --dry_run need not spend

        self._writer = SummaryWriter(str(directory), purge_step=after + 1 if after else None)

    def scalars(self, row: dict) -> None:
        for name, value in row.items():
            if name not in ("step", "time"):
                self._writer.add_scalar(name, value, row["step"])

    def picture(self, name: str, image: Image.Image, step: int) -> None:
        self._writer.add_image(name, np.asarray(image.convert("RGB")), step, dataformats="HWC")

    def close(self) -> None:
        self._writer.close()


class Silent:
    """Takes the place of every writer in a process that does not write."""

    def write(self, row: dict) -> None:
        pass

    def scalars(self, row: dict) -> None:
        pass

    def picture(self, name: str, image: Image.Image, step: int) -> None:
        pass

    def show(self, row: dict, seconds_left: float) -> None:
        pass

    def close(self) -> None:
        pass


class ProgressLine:
    """One line about a run: how far, the losses, the rate, the time left. Redrawn in place on a terminal.

    Args:
        total: updates of the whole run.
        every: seconds between lines where the output is a file.
    """

    def __init__(self, total: int, every: float = 10.0):
        self._total = total
        self._on_terminal = sys.stdout.isatty()
        self._every = 0.5 if self._on_terminal else every
        self._printed = -float("inf")
        self._row: dict = {}
        self._open = False

    def show(self, row: dict, seconds_left: float) -> None:
        """Prints a row if the last line is old enough, or if it is the final one; what it lacks stays as it was."""
        self._row.update(row)
        row = self._row
        if "loss_d" not in row:
            return
        now = time.monotonic()
        if now - self._printed < self._every and row["step"] < self._total:
            return
        self._printed = now
        share = row["step"] / self._total
        line = (
            f"{share:4.0%} step {row['step']:,}/{self._total:,}  {row['images']:,} images  "
            f"D {row['loss_d']:.3f}  G {row['loss_g']:.3f}  {row['images_per_second']:,.0f} images/s  "
            f"{format_seconds(seconds_left)} left"
        )
        print(f"\r\x1b[K{line}" if self._on_terminal else line, end="" if self._on_terminal else "\n", flush=True)
        self._open = self._on_terminal

    def close(self) -> None:
        """Ends the line, so that what is printed next starts on its own."""
        if self._open:
            print(flush=True)
            self._open = False


def format_seconds(seconds: float) -> str:
    """65 -> "1:05"; 3700 -> "1:01:40"."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
