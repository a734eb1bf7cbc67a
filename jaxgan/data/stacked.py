"""Stacked-MNIST: pictures of three digits, one in each channel, whose 1,000 combinations are modes that can be counted.

Metz et al., Unrolled Generative Adversarial Networks, 2017; Srivastava et al., VEEGAN, 2017; Lin et al., PacGAN, 2018,
whose 128,000 fixed triples this follows. Labels are 100 a + 10 b + c of the digits in channels 0, 1, 2.
"""

import numpy as np

from jaxgan.data.dataset import Dataset, make_dataset

NUM_TRIPLES = 128_000


def stack(name: str, digits: Dataset, *, n: int = NUM_TRIPLES, seed: int = 0) -> Dataset:
    """`n` triples of digits, each drawn at random with replacement, the same for the same seed.

    Args:
        name: of the new set.
        digits: grey pictures of the ten digits, with labels 0 to 9.
        n: how many.
        seed: of the draw.

    Returns:
        `"real"` uint8 `[n, H, W, 3]`; `"label"` int32 `[n]` in 0..999, named "000" to "999".
    """
    rows = np.random.default_rng(seed).integers(len(digits.arrays["real"]), size=(n, 3))
    real = np.stack([digits.arrays["real"][rows[:, channel], ..., 0] for channel in range(3)], axis=-1)
    label = digits.arrays["label"][rows] @ np.array([100, 10, 1])
    return make_dataset(name, real, label, tuple(f"{mode:03}" for mode in range(1000)))
