"""What every reader of this room returns."""

from typing import NamedTuple

import numpy as np


class Dataset(NamedTuple):
    """A whole data set in the host's memory.

    Attributes:
        name: the name it was asked for by, such as `"mnist5k"`.
        arrays: `"real"`: uint8 `[N, H, W, C]`, 0 to 255, for pictures, float32 `[N, 2]` for points; `"label"`:
            int32 `[N]` where there are labels.
        label_names: one name per label value; `()` when there are no labels.
    """

    name: str
    arrays: dict[str, np.ndarray]
    label_names: tuple[str, ...]


def make_dataset(name: str, real: np.ndarray, label: np.ndarray, label_names: tuple[str, ...]) -> Dataset:
    """A `Dataset`, with labels only where `label_names` says what they are called."""
    arrays = {"real": real}
    if label_names:
        arrays["label"] = label.astype(np.int32)
    return Dataset(name, arrays, tuple(label_names))
