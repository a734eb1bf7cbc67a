"""What the benchmarks share: the machine, and sides that work in turn, each in a process of its own.

Only the standard library is imported, since a side's interpreter may have PyTorch and not JAX, or the reverse.
"""

import contextlib
import json
import os
import pathlib
import platform
import shutil
import statistics
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from functools import cached_property
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
    return ", ".join([*gpus(), model, f"{cores()} cores", platform.system(), f"load {load:.1f}"])


def gpus() -> list[str]:
    """NVIDIA's that are there, each with its driver's version."""
    if not shutil.which("nvidia-smi"):
        return []
    command = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    told = subprocess.run(command, check=False, capture_output=True, text=True)
    return told.stdout.strip().splitlines() if told.returncode == 0 else []


class Side:
    """The parent's end of a side's process, which is set up when its `facts` are there.

    Args:
        name: of the side.
        command: its process.
        env: what it finds in its environment, where that does not say otherwise.
        patience: seconds after which a process that is not set up is ended; None: never.
    """

    def __init__(self, name: str, command: list[str], env: dict[str, str] | None = None, patience: float | None = None):
        self.name, self._patience = name, patience
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen(command, env={**(env or {}), **os.environ}, **pipes)

    @cached_property
    def facts(self) -> dict[str, Any]:
        """What the side says of itself; waits until it is set up."""
        if self._patience is None:
            return self._answer()
        timer = threading.Timer(self._patience, self.process.kill)
        timer.start()
        facts = self._answer()
        timer.cancel()
        return facts

    def ask(self, request: Any) -> Any:
        """The side's answer to a request; both are JSON.

        Raises:
            RuntimeError: its process died.
        """
        if "error" in self.facts:
            raise RuntimeError(f"{self.name}: {self.facts['error']}")
        with contextlib.suppress(BrokenPipeError):  # the answer says that it died
            print(json.dumps(request), file=self.process.stdin, flush=True)
        answer = self._answer()
        if isinstance(answer, dict) and "error" in answer:
            raise RuntimeError(f"{self.name}: {answer['error']}")
        return answer

    def _answer(self) -> Any:
        return json.loads(self.process.stdout.readline() or '{"error": "the process died"}')

    def close(self) -> None:
        with contextlib.suppress(BrokenPipeError):
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
        traceback.print_exc()
        say({"error": f"{type(error).__name__}: {error}".splitlines()[0]})
        return
    say({**facts, "setup": time.perf_counter() - start})
    for line in sys.stdin:
        say(answer(json.loads(line)))


def environment(device: str) -> dict[str, str]:
    """What a side's process on a "cpu" or a "gpu" finds in it: huge pages as in jaxgan/processor.py."""
    if device == "cpu":
        return {"JAX_PLATFORMS": "cpu", "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
    return {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}


def take_turns(updates: dict[Side, int], rounds: int) -> dict[str, list[float]]:
    """Milliseconds of an update, by the side's name and round, of so many updates a turn.

    A turn begins with a call that is not timed, as a training does not pause between updates: while the others had
    their turns, the system took the side's free memory away, and the first call gets every page anew.
    """
    times = {side.name: [] for side in updates}
    for _ in range(rounds):
        for side, n in updates.items():
            side.ask(side.facts.get("updates_per_call", 1))
            times[side.name].append(side.ask(n))
    return times


def compare(times: dict[str, list[float]]) -> dict[str, Any]:
    """The fastest of jaxgan's peers, and the median of the rounds' ratios of its time over jaxgan's; by side, times."""
    peers = {name: statistics.median(values) for name, values in times.items() if name != "jaxgan"}
    if not peers or "jaxgan" not in times:
        return {}
    best = min(peers, key=peers.get)
    ratios = (b / a for a, b in zip(times["jaxgan"], times[best], strict=True))
    return {"best": best, "ratio": statistics.median(ratios)}


def milliseconds(updates: Callable[[int], None], n: int) -> float:
    """Of one update, when n are run."""
    start = time.perf_counter()
    updates(n)
    return (time.perf_counter() - start) / n * 1e3


def rates(make: Callable, device: str) -> list[float]:
    """GFLOP/s of a large matrix product and of a large 3x3 convolution, the best of some.

    Args:
        make: of the product's size N (N x N by N x N) and the convolution's (batch, side, channels), two functions
            that compute them and wait for the result.
        device: "cpu" or "gpu", where they have to be larger.
    """
    size, conv_size = (2048, (16, 32, 128)) if device == "cpu" else (8192, (256, 64, 256))
    batch, side, width = conv_size
    flops = 2 * size**3, 2 * batch * side**2 * width**2 * 9

    def seconds(f):
        f()
        return min(milliseconds(lambda n: [f() for _ in range(n)], 3) for _ in range(5)) / 1e3

    return [n / seconds(f) / 1e9 for n, f in zip(flops, make(size, conv_size), strict=True)]
