"""TPU chips by their published figures, and pods of them that are not there.

The figures are those of Google Cloud's documentation, docs.cloud.google.com/tpu/docs/v4, v5e, v5p and v6e: peak
bfloat16 FLOP/s, HBM capacity (what it calls GB is taken as GiB) and bandwidth. Its inter-chip bandwidth is of a chip,
over all links and both directions (v5e 400, v5p 1200, v6e 800 GB/s): here it is of one link in one direction. For v4
that is from Jouppi et al., TPU v4: An Optically Reconfigurable Supercomputer, 2023 (six links of 50 GB/s).
"""

import importlib.util
import math
import os
import re
from collections.abc import Sequence
from typing import NamedTuple

import jax
from jax.experimental import topologies

from jaxgan.errors import ConfigError

GiB = 2**30


class Chip(NamedTuple):
    """What is published of one chip."""

    name: str
    memory: float  # bytes of HBM
    flops: float  # bfloat16 FLOP/s
    bandwidth: float  # of the HBM, bytes/s
    link: float  # of one inter-chip link in one direction, bytes/s
    axes: int  # of the torus
    ring: int  # an axis whose length is a multiple of this is closed to a ring
    clock: float | None = None  # cycles/s: the peak over the products that its matrix units make in a cycle


CHIPS = {
    "v4": Chip("v4", 32 * GiB, 275e12, 1200e9, 50e9, 3, 4, 275e12 / (8 * 2 * 128**2)),
    "v5e": Chip("v5e", 16 * GiB, 197e12, 819e9, 50e9, 2, 16, 197e12 / (4 * 2 * 128**2)),
    "v5p": Chip("v5p", 95 * GiB, 459e12, 2765e9, 100e9, 3, 4, 459e12 / (8 * 2 * 128**2)),
    "v6e": Chip("v6e", 32 * GiB, 918e12, 1638e9, 100e9, 2, 16),
}
_KINDS = {"TPU v4": "v4", "TPU v5 lite": "v5e", "TPU v5": "v5p", "TPU v5p": "v5p", "TPU v6 lite": "v6e"}
_FORMS = "v5e:2x4, v5e:16x16, v6e:16x16, v4:4x4x4, v5p:4x4x8"


class Pod(NamedTuple):
    """Devices to compile for.

    Attributes:
        name: as it was asked for, or "local".
        devices: in the order in which a batch is split over them.
        chip: its figures; None where none are known.
        grid: how many devices along each axis; () where that is not known.
    """

    name: str
    devices: Sequence[jax.Device]
    chip: Chip | None
    grid: tuple[int, ...]


def find_pod(topology: str | None) -> Pod:
    """The pod of a name such as "v5e:16x16", from its description alone; the local devices where no name is given.

    Raises:
        ConfigError: no such pod, or libtpu is not installed.
    """
    if not topology:
        devices = jax.local_devices()
        return Pod("local", devices, CHIPS.get(_KINDS.get(devices[0].device_kind)), ())
    chip, grid = read_topology(topology)
    if importlib.util.find_spec("libtpu") is None:
        raise ConfigError(
            f"--topology={topology} needs libtpu, the TPU compiler. It goes into an environment of its own (beside the "
            "default requirements it prints errors into every run on a machine without TPU):\n"
            "  python -m venv .venv-tpu && .venv-tpu/bin/pip install -r requirements-tpu.txt\n"
            f"  JAX_PLATFORMS=cpu .venv-tpu/bin/python launch.py --mode=compile --topology={topology} ..."
        )
    # libtpu would ask Google Cloud's metadata server which machine this is, which its compiler does not need to know,
    # and lets one process in at a time, which is for those that use a TPU.
    for name, value in {
        "TPU_SKIP_MDS_QUERY": "1",
        "TPU_ACCELERATOR_TYPE": "v5litepod-8",
        "TPU_WORKER_HOSTNAMES": "localhost",
        "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    }.items():
        os.environ.setdefault(name, value)
    if not jax.config.jax_platforms:  # with libtpu there, JAX would look for a TPU to run on
        jax.config.update("jax_platforms", "cpu")
    # The two cores of a v4 chip are one device to a program, as they are on a pod; left out, they are two.
    options = {"chip_config_name": "megacore"} if chip.name == "v4" else {}
    try:
        devices = topologies.get_topology_desc(platform="tpu", topology_name=topology, **options).devices
    except jax.errors.JaxRuntimeError as error:
        raise ConfigError(f"libtpu knows no pod {topology!r} ({str(error).splitlines()[0]}); for instance: {_FORMS}")
    return Pod(topology, devices, chip, grid)


def read_topology(topology: str) -> tuple[Chip, tuple[int, ...]]:
    """The chip and the grid that a name such as "v5p:4x4x8" stands for.

    Raises:
        ConfigError: it stands for none; the message lists the known forms.
    """
    match = re.fullmatch(r"(\w+):(\d+(?:x\d+)*)", topology)
    chip = CHIPS.get(match[1]) if match else None
    grid = tuple(map(int, match[2].split("x"))) if match else ()
    if chip is None or len(grid) != chip.axes or not math.prod(grid):
        raise ConfigError(
            f"unknown topology {topology!r}: write a chip ({', '.join(CHIPS)}) and the grid of chips, of two axes for "
            f"v5e and v6e and of three for v4 and v5p; for instance {_FORMS}"
        )
    return chip, grid
