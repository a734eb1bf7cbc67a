"""Large pages of memory for what XLA computes with on a CPU.

XLA gives an update's temporaries back when it ends, malloc gives large ones back to Linux, and the next update gets
them anew in pages of 4 KiB, each of which costs an interruption: of r3gan's update that is a fifth of the processor's
time. malloc (glibc 2.35 and later) asks for pages of 2 MiB where its tunables say so, and it reads them at the start of
a process alone.
"""

import importlib.util
import os
import pathlib
import sys

TUNABLES, NAME = "GLIBC_TUNABLES", "glibc.malloc.hugetlb"
_POLICY = pathlib.Path("/sys/kernel/mm/transparent_hugepage/enabled")


def restart_with() -> None:
    """Puts a process with huge pages in this one's place (same number, same arguments), where that is of use.

    Call it before anything has been done. Where the tunables name huge pages, with 0 or 1, they are left as they are.
    """
    tunables = os.environ.get(TUNABLES, "")
    if NAME in tunables or not _are_of_use():
        return
    os.environ[TUNABLES] = f"{tunables}:{NAME}=1".lstrip(":")
    os.execv(sys.executable, sys.orig_argv)


def _are_of_use() -> bool:
    """Whether there is a choice, and no accelerator that would do the work."""
    try:
        is_choice = "[madvise]" in _POLICY.read_text()
        kind, version = os.confstr("CS_GNU_LIBC_VERSION").split()
    except (OSError, ValueError, AttributeError):  # another system than Linux, or another C library
        return False
    is_new = kind == "glibc" and tuple(map(int, version.split(".")[:2])) >= (2, 35)
    has_accelerator = any(importlib.util.find_spec(name) for name in ("jax_plugins", "libtpu"))
    return is_choice and is_new and (not has_accelerator or os.environ.get("JAX_PLATFORMS") == "cpu")
