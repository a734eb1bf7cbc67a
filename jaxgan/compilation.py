"""Compiled programs: kept on disk from one start to the next, and compiled once within a run."""

import hashlib
import os
import platform
from collections.abc import Callable
from functools import cache, wraps
from pathlib import Path
from typing import Any

import jax
from absl import logging

LARGEST = 4 * 2**30  # bytes on disk
SHORTEST = 0.1  # seconds of compilation: what takes less is made again as fast as it is read

_COMPILED = "/jax/core/compile/backend_compile_duration"
_REASON = "shapes, types or places of what it was given have changed"


def keep(folder: str = "") -> None:
    """Keeps compiled programs in `folder`, "" for the user's cache; "none" keeps nothing.

    What the environment asks for by JAX's own variables comes first. To be called before anything is compiled.
    """
    if folder == "none" or jax.config.jax_compilation_cache_dir:
        return
    path = Path(folder).expanduser() if folder else default_folder()
    _forget_oldest(path)
    jax.config.update("jax_compilation_cache_dir", str(path))
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", SHORTEST)


def default_folder() -> Path:
    """`jaxgan/compiled/<kind of processor>` in the user's cache.

    A home folder may be shared by machines of several kinds, and a program made for one processor may hold
    instructions that another lacks; JAX's own key of a program does not tell them apart.
    """
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return root / "jaxgan" / "compiled" / f"{platform.machine()}-{_processor()}"


def _forget_oldest(folder: Path) -> None:
    """Deletes what was written first until the rest fits `LARGEST`. (JAX's own limit needs another package.)"""
    programs = {file: file.stat() for file in folder.glob("*") if file.is_file()}
    size = sum(status.st_size for status in programs.values())
    for file, status in sorted(programs.items(), key=lambda item: item[1].st_mtime):
        if size <= LARGEST:
            return
        file.unlink(missing_ok=True)  # another process may be at it too
        size -= status.st_size


def _processor() -> str:
    """A name for what the processor can do."""
    cpuinfo = Path("/proc/cpuinfo")
    told = cpuinfo.read_text() if cpuinfo.exists() else platform.processor()
    features = sorted({line for line in told.splitlines() if line.startswith(("flags", "Features", "model name"))})
    return hashlib.sha256("\n".join(features or [told]).encode()).hexdigest()[:8]


def once(call: Callable[..., Any], what: str) -> Callable[..., Any]:
    """`call`, which has to find its program compiled from the second time on; a warning tells when it does not."""
    compiled, calls = _compilations(), 0

    @wraps(call)
    def watched(*args):
        nonlocal calls
        before, result = len(compiled), call(*args)
        calls += 1
        if calls > 1 and len(compiled) > before:
            logging.warning("%s was compiled again at its call number %d: %s", what, calls, _REASON)
        return result

    return watched


@cache
def _compilations() -> list[float]:
    """The seconds of each compilation in this process from now on; made once, since JAX's listeners stay."""
    seconds = []

    def note(event: str, duration: float, **_: Any) -> None:
        if event == _COMPILED:
            seconds.append(duration)

    jax.monitoring.register_event_duration_secs_listener(note)
    return seconds
