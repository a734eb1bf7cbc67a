"""The work folder is the record of a run: what was asked for, with what it ran, and everything that it made.

    config.json        the resolved configuration, the overrides as typed, and the shape of the data
    environment.json   one entry a start: versions, devices, git commit
    evaluation.json    one entry an evaluation: its numbers, and the protocol that they depend on
    metrics.jsonl      one line a logged step; with the numbers of an evaluation stands their protocol
    outcome.json       what became of a member of a population
    lineage.json       one entry each time that such a member went on from another one's state, with other values
    samples/*.png      pictures; checkpoints/ and tensorboard/ beside them
"""

import datetime
import functools
import importlib.metadata
import json
import os
import pathlib
import platform
import subprocess
import sys

import jax
from absl import logging
from ml_collections import ConfigDict

from jaxgan.errors import CheckpointError
from jaxgan.files import write_text

# What may change when a run goes on: how long, how often, where; nothing that its numbers depend on.
MAY_CHANGE = (
    "duration",
    "parallel",
    "shard_state",
    "steps_per_call",
    "population",
    "population_devices",
    "log_every",
    "sample_every",
    "checkpoint_every",
    "checkpoint.keep",
    "data.data_dir",
    "data.path",
    "data.stream",
    "data.resident_bytes",
    "data.workers",
    "eval.every",
    "eval.weights",
    "stop",
    "health",
)
# Fields that came after the first runs, with what a run did before there were such.
CAME_LATER = {"joint_pass": False}
_PARTS = ("config", "overrides", "data")
_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "tensorflow-datasets", "ml-collections", "numpy")


class Workdir:
    """The folder of one run.

    Args:
        path: made when the run is claimed, not before.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = pathlib.Path(path).absolute()
        self.samples = self.path / "samples"
        self.checkpoints = self.path / "checkpoints"
        self.metrics = self.path / "metrics.jsonl"
        self.tensorboard = self.path / "tensorboard"

    def claim(self, config: ConfigDict, overrides: dict, data: dict) -> None:
        """Makes the folder this run's, or finds that it is; nothing is overwritten if it belongs to another one.

        Args:
            config: the resolved configuration.
            overrides: what was typed on the command line, by dotted name.
            data: facts on the data set that a checkpoint is useless without: name, shape, dtype, examples, label names.

        Raises:
            CheckpointError: the folder holds the run of a different configuration; the message shows what differs.
        """
        record = {"config": plain(config), "overrides": plain(overrides), "data": plain(data)}
        old = self.read_record() if (self.path / "config.json").exists() else None
        if old is not None:
            self._compare(old, record)
        elif self.path.exists() and any(not _is_scratch(path) for path in self.path.iterdir()):
            raise CheckpointError(f"{self.path} is not empty and holds no run; choose another --workdir")
        self.path.mkdir(parents=True, exist_ok=True)
        if old != record:  # before anything else: a folder with something in it and no record is refused
            write_json(self.path / "config.json", record)
        self.samples.mkdir(exist_ok=True)

    def read_record(self) -> dict:
        """What `claim` wrote: "config", "overrides" and "data".

        Raises:
            CheckpointError: there is no readable record.
        """
        file = self.path / "config.json"
        try:
            record = json.loads(file.read_text())
        except FileNotFoundError:
            raise CheckpointError(f"{self.path} holds no run (no config.json); train first, or name another --workdir")
        except (OSError, ValueError) as error:
            raise CheckpointError(f"cannot read {file}: {error}")
        if not (isinstance(record, dict) and all(isinstance(record.get(part), dict) for part in _PARTS)):
            raise CheckpointError(f"{file} is no record of a run: it needs {', '.join(_PARTS)}")
        return record

    def note_environment(self) -> None:
        """Adds this start's versions, devices and commit to environment.json."""
        file = self.path / "environment.json"
        starts = json.loads(file.read_text()) if file.exists() else []
        write_json(file, [*starts, environment()])

    def note_evaluation(self, entry: dict) -> None:
        """Adds an entry to evaluation.json, in the place of an earlier one that differs from it in its values alone."""
        entry = plain(entry)
        kept = [old for old in self.read_evaluations() if _asked(old) != _asked(entry)]
        write_json(self.path / "evaluation.json", [*kept, entry])

    def read_evaluations(self) -> list[dict]:
        """What `note_evaluation` wrote, oldest first."""
        file = self.path / "evaluation.json"
        return json.loads(file.read_text()) if file.exists() else []

    def note_copy(self, entry: dict) -> None:
        """Adds an entry to lineage.json: {"step", "from", "values", ...}, in the place of those from its step on."""
        kept = [old for old in self.read_lineage() if old["step"] < entry["step"]]
        write_json(self.path / "lineage.json", [*kept, plain(entry)])

    def forget_copies(self, after: int) -> None:
        """Drops what a killed process noted beyond this step, for it will come again."""
        lineage = self.read_lineage()
        if any(entry["step"] > after for entry in lineage):
            write_json(self.path / "lineage.json", [entry for entry in lineage if entry["step"] <= after])

    def read_lineage(self) -> list[dict]:
        """What `note_copy` wrote, oldest first."""
        file = self.path / "lineage.json"
        return json.loads(file.read_text()) if file.exists() else []

    def values_at(self, step: int) -> dict[str, float]:
        """By dotted name, the numbers that a run has at this step in the place of its configuration's."""
        values = {}
        for entry in self.read_lineage():
            values |= entry["values"] if entry["step"] <= step else {}
        return values

    def _compare(self, old: dict, new: dict) -> None:
        found = [
            f"  {name}: {a!r} there, {b!r} here"
            for section in ("config", "data")
            for name, a, b in differences(old[section], new[section])
            if section == "data" or not (_may_change(name) or (a == "absent" and CAME_LATER.get(name) == b))
        ]
        if found:
            raise CheckpointError(
                f"{self.path} belongs to a run with a different configuration:\n"
                + "\n".join(found)
                + "\nNothing was changed. Choose another --workdir, or start with the same configuration to go on."
            )


def _asked(entry: dict) -> dict:
    return {name: value for name, value in entry.items() if name not in ("values", "floor", "labels", "time")}


def environment() -> dict:
    """Versions, devices, git commit, command and time of this process."""
    return {
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": sys.argv,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "devices": [f"{device.platform}:{device.id} {device.device_kind}" for device in jax.devices()],
        "processes": jax.process_count(),
        "commit": _git_commit(),
    }


@functools.cache
def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:  # installed under another name, such as a nightly build's
        return None


@functools.cache
def _git_commit() -> str | None:
    root = pathlib.Path(__file__).parent.parent
    if not (root / ".git").exists():  # installed, perhaps inside somebody else's repository
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        logging.info("no git commit for the record: %s", error)
        return None
    return result.stdout.strip() or None


def plain(value):
    """Configurations, tuples and numpy scalars as what JSON gives back, so that records compare."""
    if isinstance(value, ConfigDict):
        value = value.to_dict()
    return json.loads(json.dumps(value, default=lambda number: number.item()))


def _may_change(name: str) -> bool:
    return any(name == may or name.startswith(may + ".") for may in MAY_CHANGE)


def _is_scratch(file: pathlib.Path) -> bool:
    """Whether a killed `write_json` left it."""
    return file.name.startswith(".config.json.")


def write_json(file: pathlib.Path, value) -> None:
    """Writes a file whole or not at all."""
    write_text(file, json.dumps(value, indent=2) + "\n")


def differences(old, new, prefix: str = ""):
    """Dotted names of the leaves in which two plain dicts differ, with both values ("absent" where there is none)."""
    if not (isinstance(old, dict) and isinstance(new, dict)):
        if old != new:
            yield prefix[:-1], old, new
        return
    for name in sorted({*old, *new}):
        yield from differences(old.get(name, "absent"), new.get(name, "absent"), f"{prefix}{name}.")
