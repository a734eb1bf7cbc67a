"""Turns what the updates return into rows of metrics, one call late, so that the device never waits for the host."""

import contextlib
import time

import jax
from absl import logging

from jaxgan.counting import Counting
from jaxgan.health import Health

MOST_WAITING = 0.02  # share of the time that the devices may stand still for data, before a warning


class Recorder:
    """Means over the updates between two rows, with the run's health checked on every single one.

    Args:
        counting: of the run.
        log_every: updates between rows.
        health: checks every update for NaN and every row for the other signs.
        memory: what a former process's `memory` was; so a row that straddles a restart is the same row.
    """

    def __init__(self, counting: Counting, log_every: int, health: Health, memory: dict | None = None):
        self._counting = counting
        self._log_every = log_every
        self._health = health
        self._sums: dict[str, float] = dict((memory or {}).get("sums", {}))
        self._updates: int = (memory or {}).get("updates", 0)
        self._pending: tuple[int, dict, int] | None = None
        self._begun: float | None = None  # when the clock of the first call after the compilation started
        self._window_begun = 0.0
        self._window_updates = 0  # updates of this window that this process timed
        self._timed_updates = 0
        self._waited: float | None = None  # seconds of this window in which the devices stood still for data
        self._windows = 0  # whole ones that this process timed
        self._told_to_wait = False
        self._pauses = 0
        self.last_good: int | None = None  # step of the last checkpoint, for the message of a failure

    @property
    def memory(self) -> dict:
        """What has to be saved for the next row to come out as if there had been no stop. JSON."""
        return {"sums": self._sums, "updates": self._updates}

    def push(
        self, step: int, metrics: dict[str, jax.Array], updates: int = 1, waited: float | None = None
    ) -> list[dict]:
        """Takes the metrics of the call of `updates` updates that ends at `step`; returns the rows of the one before.

        Of several updates the metrics have a leading axis, as `jaxgan.update.repeat` gives them. `waited` are the
        seconds that the devices stood still for the call's data, where it is streamed.
        """
        rows = self.flush()
        if waited is not None:
            self._waited = (self._waited or 0.0) + (waited if self._begun is not None else 0.0)
        self._pending = (step, metrics, updates)
        return rows

    def flush(self) -> list[dict]:
        """Waits for the call in flight; returns the rows that it completes."""
        if self._pending is None:
            return []
        last_step, metrics, updates = self._pending
        self._pending = None
        values = jax.device_get(metrics)
        rows = []
        for i in range(updates):
            now = {name: float(value[i] if updates > 1 else value) for name, value in values.items()}
            rows += self._take(last_step - updates + 1 + i, now)
        if self._begun is None:  # the first call compiled: its time says nothing
            self._begun = self._window_begun = time.monotonic()
            self._window_updates = self._timed_updates = 0
        return rows

    def seconds_left(self, step: int, total: int) -> float:
        """Time for the updates still to come, at the pace so far with everything included."""
        if not self._timed_updates:
            return 0.0
        return (time.monotonic() - self._begun) / self._timed_updates * (total - step)

    @contextlib.contextmanager
    def pause(self):
        """Time spent in here (pictures, checkpoints) does not count against the images per second.

        A pause within a pause is a part of it.
        """
        begun, self._pauses = time.monotonic(), self._pauses + 1
        yield
        self._pauses -= 1
        if not self._pauses:
            self._window_begun += time.monotonic() - begun

    def _take(self, step: int, metrics: dict[str, float]) -> list[dict]:
        self._health.check_finite(step, metrics, self.last_good)
        for name, value in metrics.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        self._updates += 1
        self._window_updates += 1
        self._timed_updates += 1
        return [self._row(step)] if self._log_every and step % self._log_every == 0 else []

    def _row(self, step: int) -> dict:
        means = {name: total / self._updates for name, total in self._sums.items()}
        self._health.check(step, self._updates, means)
        seconds = time.monotonic() - self._window_begun
        images = self._window_updates * self._counting.images_per_step
        rate = images / seconds if self._begun is not None and seconds > 0 else 0.0
        row = {**self._counting.row(step), **means, "images_per_second": round(rate, 1)}
        if self._waited is not None:
            row["input_wait"] = self._share_waited(seconds)
        self._sums, self._updates, self._window_updates = {}, 0, 0
        self._window_begun = time.monotonic()
        return {**row, "time": round(time.time(), 3)}

    def _share_waited(self, seconds: float) -> float:
        """The share of a window of so many seconds; warns once in a process, but not of its first window."""
        share = min(1.0, self._waited / seconds) if self._begun is not None and seconds > 0 else 0.0
        self._waited, self._windows = 0.0, self._windows + (self._begun is not None)
        if share > MOST_WAITING and self._windows > 1 and not self._told_to_wait:
            self._told_to_wait = True
            logging.warning(
                "the devices stood still for %.0f %% of the last rows' time, waiting for data. Let more processes read "
                "(--config.data.workers), give this machine more cores, or keep the set on the devices "
                "(--config.data.stream=never, or a higher data.resident_bytes).",
                100 * share,
            )
        return round(share, 4)
