"""Decoded pictures kept on disk, so that the second start of a large set does not decode it again."""

import hashlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from absl import logging

from jaxgan.files import written_whole

THRESHOLD = 10_000  # sets up to this many pictures decode in about a second


def default_data_dir() -> Path:
    """Where TFDS keeps its data: `TFDS_DATA_DIR`, or `~/tensorflow_datasets`."""
    return Path(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()


def fingerprint(root: Path, files: Iterable[Path], anywhere: bool = False) -> str:
    """Changes when a file is added, removed or rewritten.

    Args:
        root: the folder they are in.
        files: that are looked at.
        anywhere: the same for all copies of the folder, wherever and whenever they were made: names and sizes alone.
    """
    digest = hashlib.sha256(b"" if anywhere else os.fsencode(root.resolve()))  # a name on disk need not be text
    for file in files:
        digest.update(b"\0" + os.fsencode(file.relative_to(root)))
        try:
            status = file.stat()
        except OSError:  # a link to nowhere: named when it is decoded
            continue
        facts = (status.st_size,) if anywhere else (status.st_size, status.st_mtime_ns)
        digest.update("".join(f"\0{fact}" for fact in facts).encode())
    return digest.hexdigest()[:16]


def load_or_make(folder: Path, make: Callable[[], tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """What `make()` returned the first time: pictures `[N, H, W, C]` and labels `[N]`, read back from `folder`.

    `folder` must name everything that the result depends on. A cache that cannot be read is made anew; one that
    cannot be written costs time but nothing else, so that is a warning.
    """
    return _load_or_make(folder, ("real", "label"), make)


def load_or_make_labels(folder: Path, make: Callable[[], np.ndarray]) -> np.ndarray:
    """Labels `[N]` alone, like `load_or_make` of the same folder, for pictures that are not kept decoded."""
    return _load_or_make(folder, ("label",), lambda: (make(),))[0]


def _load_or_make(folder, names, make):
    try:
        arrays = tuple(np.load(folder / f"{name}.npy") for name in names)
        if len({len(array) for array in arrays}) == 1:
            return arrays
    except FileNotFoundError:
        pass
    except Exception as error:  # NumPy raises anything, from BadZipFile to SyntaxError, for a damaged file
        logging.warning("decoding again, because %s cannot be read: %s", folder, error)
    arrays = make()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Pictures last: their file is what says that the cache is whole.
        for name, array in reversed(list(zip(names, arrays, strict=True))):
            _save(folder / f"{name}.npy", array)
    except OSError as error:
        logging.warning("the decoded pictures cannot be kept in %s: %s", folder, error)
    return arrays


def _save(path: Path, array: np.ndarray):
    with written_whole(path) as part:
        np.save(part, array)
