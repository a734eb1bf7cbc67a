"""What the benchmarks share: the machine, and sides that work in turn, each in a process of its own.

Only the standard library is imported, since a side's interpreter may have PyTorch and not JAX, or the reverse.
"""

import json
import os
import pathlib
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parent.parent


def cores() -> int:
    """Those this process may use (`taskset` restricts them, for both sides)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def machine() -> str:
    model = platform.processor() or platform.machine()
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        model = lines[0].split(":")[1].strip() if lines else model
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    return f"{model}, {cores()} cores, {platform.system()}, load {load:.1f}"


class Side:
    """The parent's end of a side's process."""

    def __init__(self, name: str, command: list[str]):
        self.name = name
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.facts = self._answer()

    def ask(self, request: Any) -> Any:
        """The side's answer to a request; both are JSON."""
        print(json.dumps(request), file=self.process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> Any:
        return json.loads(self.process.stdout.readline() or '{"error": "the process died"}')

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def serve(make: Callable[[], tuple[dict, Callable[[Any], Any]]]) -> None:
    """A side's process: says what it is (`make`'s facts), then answers each request on stdin by `make`'s function."""
    answers = os.fdopen(os.dup(1), "w")

    def say(content):
        print(json.dumps(content), file=answers, flush=True)

    os.dup2(2, 1)  # what the libraries print goes to stderr
    start = time.perf_counter()
    try:
        facts, answer = make()
    except Exception as error:  # a compiler may be missing; the parent says so and goes on
        say({"error": f"{type(error).__name__}: {error}".splitlines()[0]})
        return
    say({**facts, "setup": time.perf_counter() - start})
    for line in sys.stdin:
        say(answer(json.loads(line)))


def milliseconds(updates: Callable[[int], None], n: int) -> float:
    """Of one update, when n are run."""
    start = time.perf_counter()
    updates(n)
    return (time.perf_counter() - start) / n * 1e3
