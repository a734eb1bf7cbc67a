"""The text of a compiled program (HLO) as instructions: no more of the language than counting needs."""

import math
import re
from collections.abc import Iterator
from typing import NamedTuple

_WIDTHS = {"pred": 1, "token": 0, "opaque": 0, "c64": 8, "c128": 16}
_ARRAY = re.compile(r"([a-z]\w*)\[([\d,<=]*)\](?:\{([^}]*)\})?")
_TILE = re.compile(r"T\(([\d,]+)\)")
_NAME = re.compile(r"%([\w.\-]+)")
_HEAD = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$")
_LINE = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = (.*)$")


class Array(NamedTuple):
    """One array as it lies in a device's memory."""

    dims: tuple[int, ...]
    width: float  # bytes of a number
    layout: str  # such as "1,0:T(8,128)S(1)": axes from the fastest, tiles, memory space

    @property
    def size(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.dims)

    @property
    def in_memory(self) -> bool:
        """Whether it lies in the main memory, and not in one of the chip's own."""
        return "S(" not in self.layout

    @property
    def bytes(self) -> float:
        """Its size with its last axes filled up to whole tiles."""
        order, _, rest = self.layout.partition(":")
        tile = _TILE.search(rest)
        if not tile or not self.dims:
            return self.size * self.width
        dims = [self.dims[int(axis)] for axis in order.split(",")]
        steps = [int(n) for n in tile[1].split(",")][::-1]
        dims += [1] * (len(steps) - len(dims))
        padded = [-(-n // steps[place]) * steps[place] if place < len(steps) else n for place, n in enumerate(dims)]
        return math.prod(padded) * self.width


class Instruction(NamedTuple):
    """`name = shape opcode(operands), attributes`."""

    name: str
    shape: tuple[Array, ...]  # a tuple's arrays, nested ones in their order
    opcode: str
    operands: tuple[str, ...]
    literal: str  # what stands in the parentheses, for a constant and for a parameter's place
    attributes: str
    is_root: bool

    def called(self, key: str) -> list[str]:
        """The computations that an attribute names."""
        match = re.search(rf"\b{key}=(\{{[^}}]*\}}|%?[\w.\-]+)", self.attributes)
        return re.findall(r"[\w.\-]+", match[1]) if match else []

    @property
    def index(self) -> int:
        """Of a get-tuple-element."""
        return int(re.search(r"\bindex=(\d+)", self.attributes)[1])


Computation = dict[str, Instruction]


class Frame(NamedTuple):
    """How a convolution's kernel moves along one axis."""

    stride: int = 1
    pad: int = 0  # before the first number; below zero where that many are left out
    dilation: int = 1  # of the input
    kernel_dilation: int = 1


def parse(text: str) -> tuple[str, dict[str, Computation]]:
    """The name of the program's entry, and its computations by name."""
    entry, computations, current = "", {}, {}
    for line in text.splitlines():
        if head := _HEAD.match(line):
            current = computations.setdefault(head[2], {})
            entry = head[2] if head[1] else entry
        elif match := _LINE.match(line):
            instruction = _instruction(match[2], match[3], is_root=match[1] is not None)
            current[instruction.name] = instruction
    return entry, computations


def _instruction(name: str, text: str, is_root: bool) -> Instruction:
    shape, rest = _split(text) if text.startswith("(") else text.split(" ", 1)
    opcode, _, rest = rest.strip().partition("(")
    inner, attributes = _split("(" + rest)
    operands = tuple(_NAME.findall(inner)) if opcode != "constant" else ()
    return Instruction(name, tuple(_arrays(shape)), opcode, operands, inner[1:-1], attributes, is_root)


def _split(text: str) -> tuple[str, str]:
    """What stands in the parentheses that a text begins with, and what follows."""
    depth = 0
    for place, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if depth == 0:
            return text[: place + 1], text[place + 1 :]
    return text, ""


def _arrays(shape: str) -> Iterator[Array]:
    for kind, dims, layout in _ARRAY.findall(re.sub(r"/\*.*?\*/", "", shape)):
        bits = re.search(r"\d+", kind)
        width = _WIDTHS.get(kind, int(bits[0]) / 8 if bits else 1)
        yield Array(tuple(int(n.lstrip("<=")) for n in dims.split(",") if n), width, layout)


def window(attributes: str) -> list[Frame]:
    """A convolution's window, axis by axis."""
    match = re.search(r"window=\{([^}]*)\}", attributes)
    fields = dict(part.split("=") for part in match[1].split()) if match else {}
    if not fields:
        return []
    count = len(fields["size"].split("x"))

    def numbers(key, default, read=int):
        return [read(n) for n in fields[key].split("x")] if key in fields else [default] * count

    return [
        Frame(*values)
        for values in zip(
            numbers("stride", 1),
            numbers("pad", 0, lambda n: int(n.split("_")[0])),
            numbers("lhs_dilate", 1),
            numbers("rhs_dilate", 1),
            strict=True,
        )
    ]
