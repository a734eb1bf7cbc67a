"""Who works on a trial, and whether that process is still alive."""

import os
import pathlib
import socket
import threading
import time
from collections.abc import Callable

from absl import logging

from jaxgan.sweeps.storage import UNREACHABLE

MISSED = 5  # beats, after which a worker that cannot be asked is taken for dead


def owner_of(pid: int) -> dict:
    """A process of this machine, as others can look for it."""
    return {"host": _host(), "pid": pid, "started": _started(pid)}


def is_gone(owner: dict | None) -> bool:
    """Whether a process of this machine is known not to run any more; of others nothing is known."""
    return owner is not None and owner["host"] == _host() and _started(owner["pid"]) != owner["started"]


class Watch:
    """Tells by their beats which trials' workers are silent, by this process's clock alone.

    Args:
        interval: seconds between two beats.
    """

    def __init__(self, interval: float):
        self._limit = MISSED * interval
        self._seen: dict[int, tuple[int, float]] = {}

    def is_silent(self, number: int, beat: int) -> bool:
        """Whether the trial's beat has been this one for too long."""
        now = time.monotonic()
        last, since = self._seen.get(number, (None, now))
        self._seen[number] = (beat, since if beat == last else now)
        return beat == last and now - since > self._limit


class Heart:
    """A context in which a thread calls `beat(count)` for each trial until it says that the trial is lost.

    Args:
        beats: of each trial; False: another worker has it.
        interval: seconds.
    """

    def __init__(self, beats: list[Callable[[int], bool]], interval: float):
        self._beats, self._interval = beats, interval
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self.lost: set[int] = set()  # members

    def __enter__(self) -> "Heart":
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._stop.set()
        self._thread.join()

    def _work(self) -> None:
        count = 0
        while not self._stop.wait(self._interval):
            count += 1
            for member, beat in enumerate(self._beats):
                try:
                    if member not in self.lost and not beat(count):
                        self.lost.add(member)
                except UNREACHABLE as error:
                    logging.warning("the sweep's storage does not answer, trying again: %s", error)


def _host() -> str:
    namespace = pathlib.Path("/proc/self/ns/pid")  # containers may share a name, and number their processes alike
    return f"{socket.gethostname()} {os.readlink(namespace) if namespace.exists() else ''}".strip()


def _started(pid: int) -> str | None:
    """When a process began, so that its number given to another one is noticed; None where there is none."""
    stat = pathlib.Path(f"/proc/{pid}/stat")
    if stat.parent.parent.joinpath("self").exists():
        try:
            state, *fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            return None
        return None if state in "ZX" else fields[18]
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return "running"
