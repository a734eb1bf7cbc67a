"""What every test runs under: four forced CPU devices and a compilation cache that outlives the session."""

import importlib.metadata
import os
import pathlib

# Compilation is most of the suite's time, and half of that is optimisation that tiny shapes do not need.
_FLAGS = "--xla_backend_optimization_level=0"
if importlib.metadata.version("jaxlib").startswith("0.10."):  # later ones end the process at a flag that they dropped
    _FLAGS += " --xla_cpu_use_fusion_emitters=false"
os.environ.setdefault("XLA_FLAGS", _FLAGS)
# Both have to be set before the first use of a device; the environment hands them to subprocesses too.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_NUM_CPU_DEVICES", "4")
os.environ.setdefault("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1")  # so that no launch.py has to start twice for them
_CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache")) / "jaxgan-tests"
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(_CACHE))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.05")

import jax
import pytest

ROOT = pathlib.Path(__file__).parent.parent


@pytest.fixture
def strict():
    """JAX at its strictest: no silent broadcasting between ranks, no silent promotion between types."""
    with jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"):
        yield


@pytest.fixture(scope="session")
def root() -> pathlib.Path:
    """The repository."""
    return ROOT
