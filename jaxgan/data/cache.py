"""Decoded pictures kept on disk, so that the second start of a large set does not decode it again."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from absl import logging

THRESHOLD = 10_000  # sets up to this many pictures decode in about a second


def default_data_dir() -> Path:
    """Where TFDS keeps its data: `TFDS_DATA_DIR`, or `~/tensorflow_datasets`."""
    return Path(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()


def load_or_make(
    folder: Path, make: Callable[[], tuple[np.ndarray, np.ndarray]]
) -> tuple[np.ndarray, np.ndarray]:
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
    except (OSError, ValueError, EOFError) as error:
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
    """Writes beside `path` and renames, so that no reader and no later start ever sees half a file."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=path.name, suffix=".part", delete=False) as part:
        try:
            np.save(part, array)
            part.close()
            os.replace(part.name, path)
        except BaseException:  # also Ctrl-C: gigabytes of a half-written file help nobody
            os.unlink(part.name)
            raise
