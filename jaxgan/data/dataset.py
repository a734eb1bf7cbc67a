"""What every reader of this room returns."""

import zlib
from typing import NamedTuple

import numpy as np

from jaxgan.data.stored import Stored


class Dataset(NamedTuple):
    """A whole data set in the host's memory, or one whose pictures are streamed from disk.

    Attributes:
        name: the name it was asked for by, such as `"mnist5k"`.
        arrays: `"real"`: uint8 `[N, H, W, C]`, 0 to 255, for pictures, which are a `Stored` where they are streamed;
            float32 `[N, 2]` for points; `"label"`: int32 `[N]` where there are labels.
        label_names: one name per label value; `()` when there are no labels.
    """

    name: str
    arrays: dict[str, np.ndarray | Stored]
    label_names: tuple[str, ...]

    @property
    def is_streamed(self) -> bool:
        """Whether pictures are decoded as they are asked for."""
        return isinstance(self.arrays["real"], Stored)

    def checksum(self) -> int:
        """The same for the same data on every machine; of streamed pictures by their files' names and sizes."""
        real = self.arrays["real"]
        return zlib.crc32(real.identity.encode() if isinstance(real, Stored) else np.ascontiguousarray(real))


def make_dataset(name: str, real: np.ndarray | Stored, label: np.ndarray, label_names: tuple[str, ...]) -> Dataset:
    """A `Dataset`, with labels only where `label_names` says what they are called."""
    arrays = {"real": real}
    if label_names:
        arrays["label"] = label.astype(np.int32)
    return Dataset(name, arrays, tuple(label_names))
