"""An experiment's real update as a program for devices that need not exist, and the memory that it takes."""

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
from ml_collections import ConfigDict

from jaxgan import build
from jaxgan.aot.chips import GiB
from jaxgan.aot.shapes import DataShape, is_streamed
from jaxgan.errors import ConfigError
from jaxgan.feed import CALLS_AHEAD, abstract_given, compile_call
from jaxgan.parallel import Parallel

_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": GiB, "T": 2**40}
# The compiler says either what its temporaries need, before it places them, or what the whole program would.
_TEMPORARIES = re.compile(r"HLO temporaries \(([\d.]+)([KMGT]?)\) exceeds available HBM \(([\d.]+)([KMGT]?)\)")
_TOTAL = re.compile(r"Used ([\d.]+)([KMGT]?) of ([\d.]+)([KMGT]?) hbm")


class Memory(NamedTuple):
    """Bytes on one device."""

    arguments: float  # the state, the data or the batches of it that lie ready
    outputs: float  # but for what takes the place of arguments
    temporaries: float
    code: float
    available: float | None  # None where it is not known

    @property
    def total(self) -> float:
        """All that is there while the program runs."""
        return self.arguments + self.outputs + self.temporaries + self.code

    @property
    def fits(self) -> bool | None:
        """Whether it is no more than there is; None where that is not known."""
        return None if self.available is None else self.total <= self.available


class Program(NamedTuple):
    """A compiled call of several updates; `compiled` is None where the compiler ran out of the device's memory."""

    config: ConfigDict
    parallel: Parallel
    experiment: build.Experiment
    memory: Memory
    compiled: jax.stages.Compiled | None


class Suggestion(NamedTuple):
    """A batch size that fits."""

    batch_size: int
    compiled: bool  # or estimated only
    total: float  # bytes that it needs


class Narrower(NamedTuple):
    """Widths that fit."""

    widths: dict[str, tuple[int, ...]]  # by their names in the configuration
    compiled: bool
    total: float


def compile_update(config: ConfigDict, devices, data: DataShape, available: float | None) -> Program:
    """Compiles what `jaxgan.train` would call, from shapes alone.

    Args:
        config: see experiments/common.py.
        devices: local ones, or those of a pod's description.
        data: the shape of its data.
        available: a device's memory in bytes; None where it is not known.

    Raises:
        ConfigError: the configuration is wrong, or the compiler refuses the program for another reason than memory.
    """
    config = config.copy_and_resolve_references()
    config.steps_per_call = config.steps_per_call or build.steps_per_call(devices[0].platform)
    parallel = build.make_parallel(config, devices)
    experiment = build.make_experiment(config, data.shape, data.examples, data.label_counts)
    state = parallel.abstract_state(jax.eval_shape(experiment.new_state))
    updates = experiment.counting.steps_per_call
    streamed = is_streamed(config, data)
    given = abstract_given(experiment, parallel, updates, data.arrays, streamed)
    # Of batches that are brought in, the next ones are there already while one is used.
    ahead = CALLS_AHEAD * size_of(given) / len(parallel.devices) if streamed else 0.0
    lowered = compile_call(experiment, parallel, updates, streamed).lower(state, *given)
    arguments = size_of(state) + ahead if streamed else size_of((state, data.arrays))
    memory, compiled = finish(lowered, arguments, available, parallel.describe())
    if compiled is not None:
        memory = memory._replace(arguments=memory.arguments + ahead)
    return Program(config, parallel, experiment, memory, compiled)


def finish(
    lowered: jax.stages.Lowered, arguments: float, available: float | None, layout: str
) -> tuple[Memory, jax.stages.Compiled | None]:
    """Compiles; None where the compiler ran out of the device's memory.

    Args:
        lowered: the program.
        arguments: bytes that they take on a device, for the case that the compiler does not say.
        available: a device's memory in bytes; None where it is not known.
        layout: in words, for the message.

    Raises:
        ConfigError: the compiler refuses the program for another reason than memory.
    """
    try:
        compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        memory = read_exhaustion(str(error), arguments)
        if memory is None:
            raise ConfigError(f"XLA does not compile this for {layout}: {str(error).splitlines()[0]}")
        return memory, None
    stats = compiled.memory_analysis()
    outputs = stats.output_size_in_bytes - stats.alias_size_in_bytes
    sizes = (stats.argument_size_in_bytes, outputs, stats.temp_size_in_bytes, stats.generated_code_size_in_bytes)
    return Memory(*sizes, available), compiled


def read_exhaustion(message: str, arguments: float) -> Memory | None:
    """What a compiler that ran out of memory said of it; None if it says something else."""
    if match := _TEMPORARIES.search(message):
        needed, available = _bytes(*match.group(1, 2)), _bytes(*match.group(3, 4))
    elif match := _TOTAL.search(message):
        needed, available = _bytes(*match.group(1, 2)) - arguments, _bytes(*match.group(3, 4))
    else:
        return None
    return Memory(arguments, 0.0, max(0.0, needed), 0.0, available)


def nearest_batch(program: Program, compile_at: Callable[[int], Program], tries: int = 3) -> Suggestion | None:
    """The largest batch size found that fits.

    Args:
        program: one that does not fit.
        compile_at: the same with another batch size.
        tries: see `_nearest`.

    Returns:
        None where not even the smallest batch fits: what is there without a batch is too large.
    """
    config, memory = program.config, program.memory
    unit = len(program.parallel.devices) * config.game.get("packing", 1) * config.accumulate
    lines = (0, memory.total - memory.temporaries), (config.batch_size, memory.total)
    found = _nearest(*lines, unit, memory, lambda batch: compile_at(batch).memory, tries)
    return Suggestion(*found) if found else None


def nearest_widths(
    program: Program, data: DataShape, compile_at: Callable[[Mapping[str, tuple[int, ...]]], Program], tries: int = 3
) -> Narrower | None:
    """The widest networks found that fit with the same batch: both with so many sixteenths of their widths.

    Args:
        program: one that fits with no batch.
        data: what it was compiled for.
        compile_at: the same with other widths, by their names in the configuration.
        tries: see `_nearest`.

    Returns:
        None where no networks fit: the data are too large, or what is made of the batch beside them.
    """
    memory = program.memory
    without = memory.total - memory.temporaries - size_of(jax.eval_shape(program.experiment.new_state))
    lines = (0, max(0.0, without)), (16, memory.total)
    found = _nearest(
        *lines, 1, memory, lambda part: compile_at(widths_in_part(program.config, data, part)).memory, tries
    )
    return Narrower(widths_in_part(program.config, data, found[0]), *found[1:]) if found else None


def widths_in_part(config: ConfigDict, data: DataShape, sixteenths: int) -> dict[str, tuple[int, ...]]:
    """So many sixteenths of both networks' widths, by their names in the configuration.

    They are multiples of 16, which the groups and bottlenecks of all families divide; 16 and less stays as it is.
    """
    networks = build.make_networks(config, data.shape, len(data.label_counts))
    found = {}
    for side, network in zip(("generator", "discriminator"), networks, strict=True):
        for field in ("widths", "hidden"):
            widths = getattr(network, field, ())
            if widths:
                narrow = tuple(min(width, max(16, width * sixteenths // 256 * 16)) for width in widths)
                found[f"model.{side}.{field}"] = narrow
    return found


def _nearest(
    nothing: tuple[int, float],
    whole: tuple[int, float],
    unit: int,
    memory: Memory,
    memory_at: Callable[[int], Memory],
    tries: int,
) -> tuple[int, bool, float] | None:
    """The largest amount found that fits, by compiling where a straight line through the last two programs says.

    Args:
        nothing, whole: two amounts with the bytes that they need, the second one too much.
        unit: of amounts.
        memory: of the whole.
        memory_at: compiles with another amount.
        tries: how many programs to compile at most; if none of them fits, the last estimate stands.

    Returns:
        The amount, whether it was compiled, and its bytes; None where not even a unit fits.
    """
    points, fitting, failing, found = [nothing, whole], 0, whole[0], None

    def estimate() -> int:
        (x0, total0), (x1, total1) = points[-2:]
        x = x1 - (total1 - memory.available) * (x1 - x0) / (total1 - total0) if total1 != total0 else 0
        return int(min(x, failing - unit)) // unit * unit

    for _ in range(tries):
        amount = estimate()
        if amount <= fitting:
            break
        memory = memory_at(amount)
        points.append((amount, memory.total))
        if memory.fits:
            fitting, found = amount, (amount, True, memory.total)
        else:
            failing = amount
    if found is None and estimate() > 0:
        return estimate(), False, memory.available
    return found


def size_of(tree) -> float:
    """Bytes of a tree of shapes, keys as the numbers they are made of."""
    return float(sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree)))


def _bytes(number: str, unit: str) -> float:
    return float(number) * _UNITS[unit]
