"""Starting runs as a user does, and comparing what they leave behind."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

CLOCK = ("time", "images_per_second", "input_wait")
ROOT = pathlib.Path(__file__).parent.parent


def command(*arguments) -> list[str]:
    return [sys.executable, str(ROOT / "launch.py"), *map(str, arguments)]


def environment(**extra) -> dict:
    return {**os.environ, **extra}


def launch(*arguments, check=True, prefix=(), **extra) -> subprocess.CompletedProcess:
    """Runs launch.py to its end, on one device unless told otherwise."""
    result = subprocess.run(
        [*prefix, *command(*arguments)],
        cwd=extra.pop("cwd", ROOT),
        env=environment(JAX_NUM_CPU_DEVICES=extra.pop("devices", "1"), **extra.pop("env", {})),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        **extra,
    )
    if check and result.returncode:
        raise AssertionError(f"exit {result.returncode}\n{result.stdout}\n{result.stderr}")
    return result


def rows(workdir) -> list[dict]:
    """metrics.jsonl without what depends on the clock."""
    lines = (pathlib.Path(workdir) / "metrics.jsonl").read_text().splitlines()
    return [
        {name: value for name, value in json.loads(line).items() if name not in CLOCK}
        for line in lines
    ]


def numbers(workdir) -> list[dict]:
    """The rows without the protocol that stands beside the numbers of an evaluation."""
    return [{name: value for name, value in row.items() if name != "protocol"} for row in rows(workdir)]


def assert_close_rows(workdir, expected, rel: float) -> None:
    """The same rows, but for the rounding of their numbers."""
    assert [row.get("protocol") for row in rows(workdir)] == [row.get("protocol") for row in rows(expected)]
    for a, b in zip(numbers(workdir), numbers(expected), strict=True):
        assert a == pytest.approx(b, rel=rel, abs=1e-5), b["step"]


def fingerprint(workdir, step) -> int:
    """The checksum over every bit of a checkpoint's state, which is verified whenever the checkpoint is read."""
    file = pathlib.Path(workdir) / "checkpoints" / str(step) / "host" / "metadata"
    return json.loads(file.read_text())["content"]["fingerprint"]
