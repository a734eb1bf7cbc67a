"""Decoded pictures kept on disk, so that the second start of a large set does not decode it again."""

import contextlib
import hashlib
import os
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from absl import logging

THRESHOLD = 10_000  # sets up to this many pictures decode in about a second


def default_data_dir() -> Path:
    """Where TFDS keeps its data: `TFDS_DATA_DIR`, or `~/tensorflow_datasets`."""
    return Path(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()


def fingerprint(root: Path, files: Iterable[Path]) -> str:
    """Changes when a file is added, removed or rewritten."""
    digest = hashlib.sha256(os.fsencode(root.resolve()))  # a name on disk need not be text
    for file in files:
        digest.update(b"\0" + os.fsencode(file.relative_to(root)))
        try:
            status = file.stat()
        except OSError:  # a link to nowhere: named when it is decoded
            continue
        digest.update(f"\0{status.st_size}\0{status.st_mtime_ns}".encode())
    return digest.hexdigest()[:16]


def load_or_make(folder: Path, make: Callable[[], tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """What `make()` returned the first time: pictures `[N, H, W, C]` and labels `[N]`, read back from `folder`.

    `folder` must name everything that the result depends on. A cache that cannot be read is made anew; one that
    cannot be written costs time but nothing else, so that is a warning.
    """
    try:
        real, label = np.load(folder / "real.npy"), np.load(folder / "label.npy")
        if len(real) == len(label):
            return real, label
    except FileNotFoundError:
        pass
    except Exception as error:  # NumPy raises anything, from BadZipFile to SyntaxError, for a damaged file
        logging.warning("decoding again, because %s cannot be read: %s", folder, error)
    real, label = make()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Pictures last: their file is what says that the cache is whole.
        _save(folder / "label.npy", label)
        _save(folder / "real.npy", real)
    except OSError as error:
        logging.warning("the decoded pictures cannot be kept in %s: %s", folder, error)
    return real, label


def _save(path: Path, array: np.ndarray):
    with written_whole(path) as part:
        np.save(part, array)


@contextlib.contextmanager
def written_whole(path: Path) -> Iterator[BinaryIO]:
    """A file to write, which becomes `path` at the end: no reader and no later start ever sees half of it."""
    # Opened by name and not as a temporary file, which nobody else could read in a folder that people share.
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        with open(part, "xb") as file:
            yield file
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
