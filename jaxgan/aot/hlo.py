"""What a compiled program does, counted in its text (XLA's HLO after all optimisation, one device's part).

XLA's own `cost_analysis` takes the body of a loop once, and an update is made of loops (updates of a call, steps of the
discriminator). Here a body counts as often as it runs. A branch counts as the costliest of its alternatives.
"""

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from jaxgan.aot.instructions import Array, Computation, Instruction, parse, window

REDUCTIONS = ("all-reduce", "reduce-scatter")
_COLLECTIVES = (*REDUCTIONS, "all-gather", "all-to-all", "collective-permute")
_SLICES = ("dynamic-slice", "gather", "slice")
_NO_TRAFFIC = (
    *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "partition-id", "replica-id"),
    *("optimization-barrier", "while", "conditional", "call", "async-start"),
)
_BRANCHES = ("branch_computations", "true_computation", "false_computation")
_NO_TRAFFIC_CALLS = ("AllocateBuffer", "ConcatBitcast", "AssumeGatherIndicesInBound")


class Collective(NamedTuple):
    """A transfer between devices."""

    kind: str  # such as "all-reduce"
    sizes: tuple[int, ...]  # how many numbers each of its arrays holds, on one device and before they are reduced
    bytes: int  # of all of them together
    times: float  # how often it runs
    groups: tuple[tuple[int, ...], ...] | None = None  # devices, by their places, that have to do with one another

    def is_within(self, size: int) -> bool:
        """Whether all of it stays within parts of so many consecutive devices; not, where nothing is known of it."""
        return self.groups is not None and all(len({place // size for place in group}) == 1 for group in self.groups)


class Cost(NamedTuple):
    """What one device does in one run of a program."""

    flops: float  # in matrix products and convolutions
    bytes: float  # read from and written to its main memory, padding to tiles included
    cycles: float  # of the chip, by the compiler's own estimate; 0 where it writes none
    collectives: tuple[Collective, ...]
    unknown_loops: int  # whose number of turns the text does not say; their bodies are counted once

    def repeated(self, times: float) -> "Cost":
        """The cost of so many runs."""
        collectives = tuple(c._replace(times=c.times * times) for c in self.collectives)
        return Cost(self.flops * times, self.bytes * times, self.cycles * times, collectives, self.unknown_loops)

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(*(a + b for a, b in zip(self, other, strict=True)))


NOTHING = Cost(0.0, 0.0, 0.0, (), 0)


def count(text: str) -> Cost:
    """The cost of a program, `compiled.as_text()`."""
    entry, computations = parse(text)
    return _Counter(computations).of(entry)


class _Counter:
    def __init__(self, computations: dict[str, Computation]):
        self.computations = computations
        self.known: dict[str, Cost] = {}

    def of(self, name: str) -> Cost:
        """The cost of a computation."""
        if name not in self.known:
            computation = self.computations[name]
            self.known[name] = sum((self._instruction(i, computation) for i in computation.values()), NOTHING)
        return self.known[name]

    def _instruction(self, i: Instruction, computation: Computation) -> Cost:
        if i.opcode == "while":
            turns = turns_of(i, computation, self.computations)
            body = self.of(i.called("body")[0]).repeated(turns or 1)
            return body._replace(unknown_loops=body.unknown_loops + (turns is None))
        if i.opcode == "conditional":
            return max((self.of(name) for name in branches_of(i)), key=lambda cost: (cost.flops, cost.bytes))
        if i.opcode in ("call", "async-start"):
            return sum((self.of(n) for key in ("to_apply", "calls") for n in i.called(key)), NOTHING)
        if i.opcode == "fusion":
            inside = self.of(i.called("calls")[0])
            return inside._replace(bytes=self._fusion_bytes(i, computation), cycles=_cycles(i))
        collectives = tuple(_collective(i, computation))
        return Cost(_flops(i, computation), _bytes(i, computation), _cycles(i), collectives, 0)

    def _fusion_bytes(self, i: Instruction, computation: Computation) -> float:
        """Operands as far as they are read, and results; what is between them stays in registers."""
        inside = self.computations[i.called("calls")[0]]
        parameters = {int(x.literal): x for x in inside.values() if x.opcode == "parameter"}
        read = sum(
            self._read(parameters[place].name, inside, computation[name].shape)
            for place, name in enumerate(i.operands)
            if name in computation
        )
        return read + self._written(next(x for x in inside.values() if x.is_root), inside, i.shape)

    def _read(self, name: str, inside: Computation, shape: tuple[Array, ...]) -> float:
        """How much a fused computation reads of its parameter: slices, where it takes nothing else of it."""
        if not any(array.in_memory for array in shape):
            return 0.0
        whole, total = sum(array.bytes for array in shape), 0.0
        for user in inside.values():
            if name not in user.operands:
                continue
            if user.opcode in _SLICES and user.operands.index(name) == 0:
                total += user.shape[0].bytes
            elif user.opcode == "bitcast":
                total += self._read(user.name, inside, shape)
            elif user.opcode == "fusion":
                nested = self.computations[user.called("calls")[0]]
                place = str(user.operands.index(name))
                own = next(x for x in nested.values() if x.opcode == "parameter" and x.literal == place)
                total += self._read(own.name, nested, shape)
            elif user.opcode != "dynamic-update-slice" or user.operands.index(name) != 0:
                return whole
        return min(whole, total)

    def _written(self, root: Instruction, inside: Computation, shape: tuple[Array, ...]) -> float:
        """How much a fused computation writes: an update in place writes the update alone."""
        if root.opcode == "tuple":
            parts = [inside[name] for name in root.operands]
            return sum(self._written(part, inside, (array,)) for part, array in zip(parts, shape, strict=True))
        while root.opcode == "bitcast":
            root = inside[root.operands[0]]
        if not any(array.in_memory for array in shape):
            return 0.0
        if root.opcode == "dynamic-update-slice":
            return sum(array.bytes for array in inside[root.operands[1]].shape)
        return sum(array.bytes for array in shape)


def turns_of(loop: Instruction, computation: Computation, computations: dict[str, Computation]) -> int | None:
    """How often a loop's body runs: said outright, or a counter from a constant (0 if not one) up to a constant."""
    said = re.search(r'known_trip_count":\{"n":"(\d+)"', loop.attributes)
    if said:
        return int(said[1])
    condition = computations[loop.called("condition")[0]]
    root = next(x for x in condition.values() if x.is_root)
    if root.opcode == "fusion":  # the comparison may be wrapped, with its operands outside
        inside = next(x for x in computations[root.called("calls")[0]].values() if x.is_root)
        root = root._replace(opcode=inside.opcode, attributes=inside.attributes)
    ends = [condition[name] for name in root.operands if name in condition and condition[name].opcode == "constant"]
    if root.opcode != "compare" or "direction=LT" not in root.attributes or len(ends) != 1:
        return None
    counter = condition[root.operands[0]]
    if counter.opcode != "get-tuple-element":
        return None
    start = computation[loop.operands[0]]
    if start.opcode == "tuple":
        start = computation[start.operands[counter.index]]
    return int(ends[0].literal) - (int(start.literal) if start.opcode == "constant" else 0)


def branches_of(i: Instruction) -> list[str]:
    """The computations of which a "conditional" runs one."""
    return [name for key in _BRANCHES for name in i.called(key)]


def _bytes(i: Instruction, computation: Computation) -> float:
    """What an instruction reads and writes of the main memory; loops, branches and fusions are not its business."""
    if i.opcode in _NO_TRAFFIC or i.opcode.endswith("-done"):
        return 0.0
    if i.opcode == "custom-call" and any(f'"{name}"' in i.attributes for name in _NO_TRAFFIC_CALLS):
        return 0.0
    operands = [array for name in i.operands if name in computation for array in computation[name].shape]
    touched = [*i.shape, *operands]
    if i.opcode == "copy-start":  # (to, from, context)
        touched = i.shape[:2]
    elif i.opcode in ("slice-start", "dynamic-slice-start"):  # (from, to, context)
        touched = _as_large(i.shape[1], i.shape[:2])
    elif i.opcode in _SLICES:
        touched = _as_large(i.shape[0], (i.shape[0], operands[0]))
    elif i.opcode == "dynamic-update-slice":
        touched = _as_large(operands[1], (i.shape[0], operands[1]))
    return float(sum(array.bytes for array in touched if array.in_memory))


def _as_large(part: Array, places: Iterable[Array]) -> list[Array]:
    """A slice, once for each of the places that it is read from or written to."""
    return [part._replace(layout=part.layout.replace("S(", "s(") + ("" if p.in_memory else "S(1)")) for p in places]


def _cycles(i: Instruction) -> float:
    match = re.search(r'"estimated_cycles":"(\d+)"', i.attributes)
    return float(match[1]) if match else 0.0


def _collective(i: Instruction, computation: Computation) -> Iterator[Collective]:
    kind = i.opcode.removesuffix("-start")
    if kind in _COLLECTIVES and not _is_under_way(i, computation):
        # What goes in, but for a gather, whose size on the wire is that of what comes out.
        arrays = [array for name in i.operands for array in computation[name].shape]
        if kind == "all-gather":
            arrays = i.shape[len(arrays) :] if i.opcode.endswith("-start") else i.shape
        size = sum(array.size * array.width for array in arrays)
        yield Collective(kind, tuple(array.size for array in arrays), size, 1.0, _groups(i.attributes))


def _groups(attributes: str) -> tuple[tuple[int, ...], ...] | None:
    """The devices of a collective: as lists of lists, or as lines of an array of all places, perhaps transposed."""
    if match := re.search(r"(?:replica_groups|source_target_pairs)=\{(\{[\d,{}]*\})\}", attributes):
        return tuple(tuple(map(int, group.split(","))) for group in re.findall(r"\{([\d,]+)\}", match[1]))
    if match := re.search(r"replica_groups=\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?", attributes):
        shape, dims, order = (tuple(map(int, part.split(","))) if part else None for part in match.groups())
        places = np.arange(np.prod(dims)).reshape(dims)
        return tuple(map(tuple, places.transpose(order).reshape(shape).tolist()))
    return None


def _is_under_way(i: Instruction, computation: Computation) -> bool:
    """Whether this is a part of a TPU's asynchronous collective, in one of the fusions behind which it runs, that began
    in another fusion."""
    return "chain_id=" in i.attributes and not any("AsyncCollectiveStart" in x.attributes for x in computation.values())


def _flops(i: Instruction, computation: Computation) -> float:
    if i.opcode == "dot":
        left = computation[i.operands[0]].shape[0]
        contracted = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", i.attributes)
        depth = 1
        for dimension in contracted[1].split(",") if contracted else ():
            depth *= left.dims[int(dimension)] if dimension else 1
        return 2.0 * i.shape[0].size * depth
    if i.opcode == "convolution":
        return _convolution_flops(i, *(computation[name].shape[0].dims for name in i.operands[:2]))
    return 0.0


def _convolution_flops(i: Instruction, x: tuple[int, ...], kernel: tuple[int, ...]) -> float:
    """Products of a number with a number: those with padding and with the zeros of a dilation are left out."""
    labels = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", i.attributes)
    groups = re.search(r"batch_group_count=(\d+)", i.attributes)
    total = 2.0 * x[labels[1].index("b")] * kernel[labels[2].index("i")] * kernel[labels[2].index("o")]
    total /= int(groups[1]) if groups else 1
    for place, frame in enumerate(window(i.attributes)):
        digit = str(place)
        size = i.shape[0].dims[labels[3].index(digit)]
        total *= _valid(x[labels[1].index(digit)], kernel[labels[2].index(digit)], size, frame)
    return total


def _valid(size: int, kernel: int, out: int, frame) -> int:
    """Pairs of a place in the output and one in the kernel that meet a number of the input, along one axis."""
    found = 0
    for k in range(kernel):
        for o in range(out):
            place = o * frame.stride + k * frame.kernel_dilation - frame.pad
            found += place % frame.dilation == 0 and 0 <= place < (size - 1) * frame.dilation + 1
    return found
