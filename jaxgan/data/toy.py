"""Mixtures of Gaussians in the plane, on which a missing mode can be counted exactly.

The geometry is the one of PacGAN (Lin et al., 2018, section 4.1) and VEEGAN (Srivastava et al., 2017, section 4.1),
so that numbers of modes and shares of high-quality samples compare with theirs.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from jaxgan.data.dataset import Dataset, make_dataset

RING_STD = 0.01
GRID_STD = 0.05
NUM_POINTS = 100_000


def ring_centres() -> np.ndarray:
    """Eight centres, float32 `[8, 2]`, evenly spaced on the unit circle, the first at (1, 0). Std: `RING_STD`."""
    angles = 2 * np.pi * np.arange(8) / 8
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def grid_centres() -> np.ndarray:
    """The 25 centres, float32 `[25, 2]`, of a 5 x 5 grid with spacing 2 over [-4, 4]^2. Std: `GRID_STD`."""
    ticks = np.linspace(-4, 4, 5)
    return np.stack(np.meshgrid(ticks, ticks, indexing="ij"), axis=-1).reshape(25, 2).astype(np.float32)


class Mixture(NamedTuple):
    """Where a mixture's modes lie: `centres() -> [K, 2]`, and the standard deviation of each of them."""

    centres: Callable[[], np.ndarray]
    std: float


MIXTURES = {"ring": Mixture(ring_centres, RING_STD), "grid": Mixture(grid_centres, GRID_STD)}


def load(name: str, *, n: int = NUM_POINTS, seed: int = 0) -> Dataset:
    """`n` points of `MIXTURES[name]`, the same for the same seed.

    Returns:
        `"real"` float32 `[n, 2]`; `"label"` int32 `[n]`, the index of the mode in `centres()`.
    """
    rng = np.random.default_rng(seed)
    centres = MIXTURES[name].centres()
    label = rng.integers(len(centres), size=n)
    noise = rng.standard_normal((n, 2), dtype=np.float32)
    real = centres[label] + np.float32(MIXTURES[name].std) * noise
    return make_dataset(name, real, label, tuple(str(mode) for mode in range(len(centres))))
