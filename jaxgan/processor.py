"""What has to be set before a process starts that computes on a CPU: XLA's flags and malloc's pages.

**Large pages of memory.** XLA gives an update's temporaries back when it ends, malloc gives large ones back to Linux,
and the next update gets them anew in pages of 4 KiB, each of which costs an interruption: of r3gan's update that is a
fifth of the processor's time. malloc (glibc 2.35 and later) asks for pages of 2 MiB where its tunables say so, and it
reads them at the start of a process alone.

**Convolutions on all cores.** jax 0.10, the last for Python 3.11, gives convolutions to YNNPACK, which computes those
to up to 64 channels on one core (the update of the default recipe on two cores: 12.5 ms, 10.8 ms without it). Later
versions do not. The flag is set for 0.10 alone, for XLA ends a process at a flag that it does not know.
"""

import importlib.metadata
import importlib.util
import os
import pathlib
import sys

TUNABLES, PAGES = "GLIBC_TUNABLES", "glibc.malloc.hugetlb"
FLAGS, LIBRARY = "XLA_FLAGS", "--xla_cpu_experimental_ynn_fusion_type"
_POLICY = pathlib.Path("/sys/kernel/mm/transparent_hugepage/enabled")


def prepare() -> None:
    """Sets the flags, and puts a process with huge pages in this one's place (same number, same arguments), where that
    is of use.

    Call it before JAX is imported and before anything has been done. What the environment says already holds.
    """
    set_flags()
    tunables = os.environ.get(TUNABLES, "")
    if PAGES not in tunables and _computes() and _pages_are_a_choice():
        os.environ[TUNABLES] = f"{tunables}:{PAGES}=1".lstrip(":")
        os.execv(sys.executable, sys.orig_argv)


def set_flags() -> None:
    """Sets the flags where they are of use; call it before JAX computes anything."""
    said = os.environ.get(FLAGS, "")
    if LIBRARY not in said and _computes() and importlib.metadata.version("jaxlib").startswith("0.10."):
        os.environ[FLAGS] = f"{said} {LIBRARY}=-individual_convolution".lstrip()


def _computes() -> bool:
    """Whether there is no accelerator that would do the work."""
    has_accelerator = any(importlib.util.find_spec(name) for name in ("jax_plugins", "libtpu"))
    return not has_accelerator or os.environ.get("JAX_PLATFORMS") == "cpu"


def _pages_are_a_choice() -> bool:
    try:
        is_choice = "[madvise]" in _POLICY.read_text()
        kind, version = os.confstr("CS_GNU_LIBC_VERSION").split()
    except (OSError, ValueError, AttributeError):  # another system than Linux, or another C library
        return False
    return is_choice and kind == "glibc" and tuple(map(int, version.split(".")[:2])) >= (2, 35)
