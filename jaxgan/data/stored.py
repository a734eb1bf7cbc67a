"""Pictures that stay on disk and can be used like an array: what is asked for is decoded then and there."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from jaxgan.errors import DataError


class Stored:
    """A set of pictures like an array uint8 [N, H, W, C], of which slices and rows are decoded as they are taken.

    It can be pickled, for the processes that read ahead.

    Args:
        read: the picture of a row, uint8 [H, W, C]; raises DataError where it is damaged.
        shape: of the whole, [N, H, W, C].
        what: what to call it in messages.
        fingerprint: changes when the files do.
        identity: the same for every copy of the files, wherever they lie.
    """

    dtype = np.dtype(np.uint8)
    ndim = 4

    def __init__(
        self, read: Callable[[int], np.ndarray], shape: Sequence[int], what: str, fingerprint: str, identity: str
    ):
        self._read, self._what = read, what
        self.shape, self.fingerprint, self.identity = tuple(shape), fingerprint, identity

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice | Sequence[int] | np.ndarray) -> np.ndarray:
        """The pictures of a slice or of integers of any shape, decoded by all cores."""
        rows = np.arange(*rows.indices(len(self))) if isinstance(rows, slice) else np.asarray(rows)
        parts = [part for part in np.array_split(rows.ravel(), os.cpu_count()) if len(part)]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            decoded = [np.empty((0, *self.shape[1:]), np.uint8), *pool.map(self.take, parts)]
        return np.concatenate(decoded).reshape(*rows.shape, *self.shape[1:])

    def take(self, rows: np.ndarray) -> np.ndarray:
        """The pictures of rows [n], decoded one after another.

        Raises:
            DataError: one of them is damaged, or of another size.
        """
        pictures = np.empty((len(rows), *self.shape[1:]), np.uint8)
        for place, row in enumerate(rows):
            picture = self._read(int(row))
            if picture.shape != self.shape[1:]:
                from jaxgan.data import images  # Pillow, which sets in memory do without

                raise DataError(images.differ(self._what, self.shape[1:], picture.shape))
            pictures[place] = picture
        return pictures
