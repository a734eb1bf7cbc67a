"""How fast a compiled update could be: the roofline of one chip, and what the wire between chips adds to it.

The model, of one update on a pod of N chips:

- A chip takes at least `max(FLOPs / peak, bytes / bandwidth)`: of matrix products and convolutions alone, at the peak
  that is published for bfloat16, and of the arrays that instructions read from and write to HBM. JAX's float32 products
  on a TPU are one bfloat16 pass each, unless `jax_default_matmul_precision` asks for more; at "float32" they are six.
- An all-reduce of S bytes is a ring all-reduce along every axis of the torus at once, each on its share of the data: a
  chip sends and receives `2 S (N - 1) / N` over links of the published speed, two for an axis that is closed to a ring,
  one for an axis that is a line (its end chips have no more). Reduce-scatter and all-gather are half of that.
- Hops take time of their own, about a microsecond each (jax-ml.github.io/scaling-book), however small the data:
  an all-reduce goes twice along every axis, half of a ring or the whole of a line. No figure for this is
  published by the manufacturer, so it is kept apart.
- Nothing on the wire overlaps with computation.

Weak-scaling efficiency is the chip's time over that time plus the wire's: the same batch per chip, on N chips and on
one. A real chip takes longer than its roofline, and XLA hides some of the wire behind it: both make the real
efficiency higher than this one. Images per second are an upper bound: chips at their roofline, the wire wholly hidden.

For TPUs XLA writes beside each instruction how many cycles it expects it to take. Their sum is the chip's time
too, nearer to a real chip than its roofline; it is XLA's word, checked on no chip here, and given beside the rest.
"""

from typing import NamedTuple

from jaxgan.aot.chips import Chip
from jaxgan.aot.hlo import Cost

HOP = 1e-6  # seconds
FLOAT32_PASSES = 6  # bfloat16 products that make one in float32
_TRAVELS = {"all-reduce": 2.0, "reduce-scatter": 1.0, "all-gather": 1.0, "all-to-all": 1.0, "collective-permute": 1.0}


class Speed(NamedTuple):
    """Seconds of one update, and what follows from them."""

    compute: float  # FLOPs at the chip's peak
    memory: float  # bytes at its bandwidth
    wire: float  # collectives at the links' speed
    hops: float  # what their hops add
    images_per_second: float  # of the whole pod, at most
    images_per_second_float32: float  # where products are asked for in full float32
    efficiency: float  # weak scaling, at the links' speed
    efficiency_with_hops: float
    estimated: float | None  # the chip's time by XLA's estimate; None where there is none
    efficiency_estimated: float | None
    efficiency_estimated_with_hops: float | None


def speed(chip: Chip, grid: tuple[int, ...], cost: Cost, images: int) -> Speed:
    """The model of the module's docstring.

    Args:
        chip: its published figures.
        grid: of the pod.
        cost: of one update on one chip.
        images: that one update shows to the discriminator, over all chips.
    """
    compute, memory = cost.flops / chip.flops, cost.bytes / chip.bandwidth
    wire = sum(c.times * transfer(chip, grid, c.kind, c.bytes) for c in cost.collectives)
    hops = HOP * sum(c.times * count_hops(chip, grid, c.kind) for c in cost.collectives)
    busy = max(compute, memory)
    estimated = cost.cycles / chip.clock if cost.cycles and chip.clock else None
    return Speed(
        compute,
        memory,
        wire,
        hops,
        images / busy,
        images / max(FLOAT32_PASSES * compute, memory),
        busy / (busy + wire),
        busy / (busy + wire + hops),
        estimated,
        estimated and estimated / (estimated + wire),
        estimated and estimated / (estimated + wire + hops),
    )


def transfer(chip: Chip, grid: tuple[int, ...], kind: str, size: float) -> float:
    """Seconds that a collective over the whole pod needs on the wire; `size` bytes on each chip."""
    count, links = 1, 0
    for length in grid:
        count *= length
        links += 0 if length == 1 else 2 if is_ring(chip, length) else 1
    return _TRAVELS[kind] * size * (count - 1) / count / (links * chip.link) if links else 0.0


def count_hops(chip: Chip, grid: tuple[int, ...], kind: str) -> float:
    """From chip to chip, one after another, in a collective over the whole pod."""
    return _TRAVELS[kind] * sum(length // 2 if is_ring(chip, length) else length - 1 for length in grid)


def is_ring(chip: Chip, length: int) -> bool:
    """Whether an axis of so many chips is closed to a ring."""
    return length % chip.ring == 0
