"""The trials at the terminal: one table, redrawn in place; plain lines where the output is a file."""

import shutil
import sys
import time
from collections.abc import Sequence
from typing import Any

from absl import logging

from jaxgan.sweeps.objective import Objective
from jaxgan.sweeps.results import Row, ranked
from jaxgan.writers import format_seconds

_MARKS = {"waiting": "·", "running": "▶", "complete": "✓", "pruned": "✂", "failed": "✗"}
_SAY_LITTLE = ("name", "weight", "every", "from", "to", "over", "p")  # of what?


class Table:
    """A context in which the table is shown, and single runs' own messages are not, unless they warn.

    Args:
        objectives: of the sweep.
        every: seconds between lines of a running trial where the output is a file.
    """

    def __init__(self, objectives: Sequence[Objective], every: float = 10.0):
        self._objectives = objectives
        self._on_terminal = sys.stdout.isatty()
        self._every = 0.5 if self._on_terminal else every
        self._rows: list[Row] = []
        self._live: dict[int, tuple[int, int, float]] = {}  # run -> step, total, seconds left
        self._latest: dict[int, dict[str, float]] = {}  # run -> numbers of its newest evaluation
        self._told: dict[int, str] = {}  # run -> state
        self._drawn_lines = 0
        self._drawn_at = -float("inf")
        self._note = ""

    def __enter__(self) -> "Table":
        self._verbosity = logging.get_verbosity()
        logging.set_verbosity(logging.WARNING)
        logging.get_absl_handler().addFilter(self._make_room)
        return self

    def __exit__(self, *_) -> None:
        logging.get_absl_handler().removeFilter(self._make_room)
        logging.set_verbosity(self._verbosity)

    def update(self, rows: Sequence[Row], note: str = "") -> None:
        """Shows new rows of the sweep, and what else there is to say."""
        self._rows, noted = list(rows), note != self._note and note
        self._note = note
        self._live = {row.run: self._live[row.run] for row in rows if row.run in self._live and row.state == "running"}
        if self._on_terminal:
            self._draw()
            return
        for row in self._rows:
            if self._told.get(row.run) != row.state and row.state != "waiting":
                self._told[row.run] = row.state
                print(self._line(row), flush=True)
        if noted:
            print(note, flush=True)

    def evaluated(self, run: int, values: dict[str, float]) -> None:
        """Shows the numbers of a running trial's evaluation."""
        self._latest[run] = values

    def progress_of(self, run: int, total: int) -> "Progress":
        """What shows the rows of a running trial of so many updates, see `jaxgan.train.train`."""
        return Progress(self, run, total)

    def moved(self, run: int, step: int, total: int, seconds_left: float) -> None:
        """Shows how far a running trial is, if the last look is old enough."""
        self._live[run] = (step, total, seconds_left)
        now = time.monotonic()
        if now - self._drawn_at < self._every:
            return
        self._drawn_at = now
        if self._on_terminal:
            self._draw()
        else:
            print(*(self._line(row) for row in self._rows if row.run == run), flush=True)

    def _draw(self) -> None:
        width, height = shutil.get_terminal_size()
        lines = [line[: width - 1] for line in self._lines(max(1, height - 4))]
        up = f"\x1b[{self._drawn_lines}A" if self._drawn_lines else ""
        print(up + "\r\x1b[J" + "\n".join(lines), flush=True)
        self._drawn_lines = len(lines)

    def _make_room(self, record) -> bool:
        """Before a message: it comes in the table's place, and the table after it."""
        if self._drawn_lines:
            print(f"\x1b[{self._drawn_lines}A\r\x1b[J", end="", flush=True)
            self._drawn_lines = 0
        return True

    def _lines(self, most: int) -> list[str]:
        """The running ones first, then the best; as many as there is room for."""
        running = [row for row in self._rows if row.state == "running"]
        best = ranked(self._rows, self._objectives)
        others = [row for row in self._rows if row.state in ("pruned", "failed")][::-1]
        shown = [*running, *best, *others]
        counts = ", ".join(f"{n} {state}" for state in _MARKS if (n := sum(row.state == state for row in self._rows)))
        lines = [f"{len(self._rows)} runs: {counts}{'; ' + self._note if self._note else ''}"]
        lines += [self._line(row) for row in shown[: most - 1]]
        return lines + ([f"    and {len(shown) - most + 1} more"] if len(shown) > most - 1 else [])

    def _line(self, row: Row) -> str:
        parts = [f"{_MARKS[row.state]} {row.run:04} {row.state:8}"]
        if row.state == "running" and row.run in self._live:
            step, total, left = self._live[row.run]
            parts.append(f"{step / total:4.0%} of {total:,}, {format_seconds(left)} left ")
        values = row.values if row.numbers is not None else self._latest.get(row.run, row.values)
        numbers = row.numbers or ([objective.of(values) for objective in self._objectives] if values else ())
        parts += [f"{o.name} {number:.4g} " for o, number in zip(self._objectives, numbers, strict=False)]
        parts.append(describe(row.varied))
        if row.reason:
            parts.append(f"({row.reason})")
        return " ".join(parts)


class Progress:
    """Takes the place of a run's progress line."""

    def __init__(self, table: Table, run: int, total: int):
        self._table, self._run, self._total = table, run, total

    def show(self, row: dict, seconds_left: float) -> None:
        self._table.moved(self._run, row["step"], self._total, seconds_left)

    def close(self) -> None:
        """The table stays open."""


def describe(overrides: dict[str, Any]) -> str:
    """Overrides in one line, names cut down to what tells them apart."""
    shorts = short_names(list(overrides))
    return "  ".join(f"{shorts[name]}={as_text(value)}" for name, value in overrides.items())


def short_names(names: Sequence[str]) -> dict[str, str]:
    """Dotted names -> as many of their last parts as are needed to tell them apart."""
    shorts = {}
    for name in names:
        parts = name.split(".")
        least = min(len(parts), 2 if parts[-1] in _SAY_LITTLE else 1)
        ends = (".".join(parts[-n:]) for n in range(least, len(parts) + 1))
        shorts[name] = next(
            end for end in ends if end == name or sum(f".{other}".endswith(f".{end}") for other in names) == 1
        )
    return shorts


def as_text(value: Any) -> str:
    """A value as a person reads it."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {as_text(own)}" for name, own in value.items()) + "}"
    return str(value)
