"""Pictures in a folder: any size and format that Pillow reads, labels from its sub-folders."""

import dataclasses
import math
import os
from pathlib import Path

import numpy as np
from absl import logging
from PIL import Image

from jaxgan.data import cache, images
from jaxgan.data.dataset import Dataset, make_dataset
from jaxgan.data.stored import Stored
from jaxgan.errors import ConfigError, DataError


def load(
    path: str | None,
    *,
    image_size: int | None = None,
    channels: int | None = None,
    data_dir: str | None = None,
    stream_above: float = math.inf,
) -> Dataset:
    """All pictures under `path`, sorted by their path, as `images.to_array` makes them.

    Where every picture lies in a sub-folder, the first-level sub-folders are the labels, sorted by name; otherwise
    there are none. Hidden files and files whose ending is no picture's are passed over. A picture that cannot be read
    (damaged, or so large that Pillow takes it for a decompression bomb) is named in a warning and left out; of a folder
    that is streamed it ends the run when it is met.

    Args:
        path: the folder.
        image_size: side of the results; may be left out only if all pictures are of one size.
        channels: 1 or 3; left out: 1 if all pictures are grey, otherwise 3.
        data_dir: where the decoded pictures of a folder of more than 10,000 are kept.
        stream_above: bytes of decoded pictures above which they are left in the folder.

    Raises:
        ConfigError: no path.
        DataError: no such folder, no picture in it that can be read, or pictures that differ in size.
    """
    if not path:
        raise ConfigError('The data set "folder" needs a path: --config.data.path=<folder with pictures>.')
    root = Path(path).expanduser()
    files = list_pictures(root)
    if not files:
        raise DataError(f"{root}: no pictures in this folder (.png, .jpg, .webp or another that Pillow reads).")
    channels = channels or _channels(files)
    label, label_names = _labels(root, files)
    read = _Reader(root, files, image_size, channels)
    if stream_above < math.inf:
        shape = (image_size, image_size, channels) if image_size else _first_shape(read)
        if len(files) * math.prod(shape) > stream_above:
            key = f"{cache.fingerprint(root, files)}-{image_size or 'own'}-{channels}"
            real = Stored(read, (len(files), *shape), str(root), key, cache.fingerprint(root, files, anywhere=True))
            return make_dataset("folder", real, label, label_names)

    def make():
        return _decode(read, label)

    if len(files) > cache.THRESHOLD:
        kept_in = Path(data_dir).expanduser() if data_dir else cache.default_data_dir()
        key = f"{cache.fingerprint(root, files)}-{image_size or 'own'}-{channels}"
        real, label = cache.load_or_make(kept_in / "jaxgan_arrays" / "folder" / key, make)
    else:
        real, label = make()
    if len(real) < len(files):
        left_out = len(files) - len(real)
        logging.warning("%s: %d of %d pictures cannot be read and are left out", root, left_out, len(files))
    return make_dataset("folder", real, label, label_names)


def list_pictures(root: Path) -> list[Path]:
    """The picture files under `root`, sorted; sub-folders that are links are followed, once."""
    if not root.is_dir():
        raise DataError(f"{root}: no such folder. Set data.path to a folder with pictures.")
    files, seen, endings = [], set(), _endings()

    def say(error: OSError):
        logging.warning("left out, it cannot be read: %s", error)

    for folder, subfolders, names in os.walk(root, onerror=say, followlinks=True):
        real_folder = os.path.realpath(folder)
        if real_folder in seen:  # a link back to a folder above would never end
            subfolders.clear()
            continue
        seen.add(real_folder)
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        files += [
            Path(folder, name)
            for name in names
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in endings
        ]
    return sorted(files)


def _endings() -> set[str]:
    registered = Image.registered_extensions()  # also loads all plugins, which fills Image.OPEN
    return {ending for ending, kind in registered.items() if kind in Image.OPEN}


def _labels(root: Path, files: list[Path]) -> tuple[np.ndarray, tuple[str, ...]]:
    parts = [file.relative_to(root).parts for file in files]
    if any(len(part) == 1 for part in parts):
        return np.zeros(len(files), np.int64), ()
    names = sorted({part[0] for part in parts})
    number = {name: index for index, name in enumerate(names)}
    return np.array([number[part[0]] for part in parts]), tuple(names)


def _channels(files: list[Path]) -> int:
    """1 if every picture that can be opened is grey, otherwise 3. Opening reads a file's head only."""
    for file in files:
        try:
            with Image.open(file) as picture:
                if picture.mode not in images.GREY_MODES:
                    return 3
        except Exception:  # named when it is decoded
            continue
    return 1


def _decode(read: "_Reader", label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    def decode(chunk: range):
        for i in chunk:
            yield _or_none(read, i), int(label[i])

    return images.decode_all(decode, len(read.files), str(read.root))


@dataclasses.dataclass(frozen=True)
class _Reader:
    """Decodes pictures of a folder one by one. It can be pickled."""

    root: Path
    files: list[Path]
    image_size: int | None
    channels: int

    def decode(self, row: int) -> np.ndarray:
        """For a damaged file Pillow's plugins raise anything, TypeError and RuntimeError too."""
        with Image.open(self.files[row]) as picture:
            return images.to_array(picture, self.image_size, self.channels)

    def __call__(self, row: int) -> np.ndarray:
        try:
            return self.decode(row)
        except Exception as error:  # see there
            raise DataError(
                f"{self.files[row]} cannot be read ({error}). A folder that is streamed has to be whole: remove this "
                "file or mend it, and start the same command again."
            )


def _or_none(read: _Reader, row: int) -> np.ndarray | None:
    try:
        return read.decode(row)
    except Exception as error:  # see there
        logging.warning("left out, it cannot be read: %s (%s)", read.files[row].relative_to(read.root), error)
        return None


def _first_shape(read: _Reader) -> tuple[int, ...]:
    """Of the first picture that can be read; those before it are told of when they are decoded."""
    for row in range(len(read.files)):
        try:
            return read.decode(row).shape
        except Exception:  # see there
            continue
    raise DataError(f"{read.root}: no picture that can be read.")
