"""mnist, fashion_mnist and cifar10 from their authors' files, without TensorFlow, into TFDS's own directories.

TFDS prepares these sets with TensorFlow. The builders here are TFDS's (same name, version, features and order) with
readers of ours, so that what they write is what a plain `tfds.data_source("mnist", ...)` reads.
"""

import gzip
import hashlib
import http.client
import io
import pathlib
import tarfile
import time
import urllib.request
import zlib

import numpy as np
import tensorflow_datasets as tfds
from absl import logging
from PIL import Image

from jaxgan.errors import DataError
from jaxgan.files import written_whole

# Where distributions put a data set's files; Debian has a package dataset-fashion-mnist.
SYSTEM_FOLDERS = {"fashion_mnist": pathlib.Path("/usr/share/datasets/fashion-mnist")}
_IDX_FILES = {
    "train": ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"),
    "test": ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"),
}
_CIFAR_FILES = {"train": [f"data_batch_{i}.bin" for i in range(1, 6)], "test": ["test_batch.bin"]}


class _Idx:
    """MNIST and Fashion-MNIST: pictures and labels in idx files, gzipped or plain."""

    examples = {"train": 60_000, "test": 10_000}  # noqa: RUF012  (tests make smaller ones)

    def _split_generators(self, dl_manager):
        del dl_manager
        names = [name for files in _IDX_FILES.values() for name in files]
        files = find_or_download(self, names)
        return {split: self._generate(split, *(files[name] for name in _IDX_FILES[split])) for split in _IDX_FILES}

    def _generate(self, split, pictures_file, labels_file):
        count = self.examples[split]
        pictures = read_idx(pictures_file, (count, 28, 28))
        labels = read_idx(labels_file, (count,))
        _check_labels(labels_file, labels)
        for index, (picture, label) in enumerate(zip(pictures, labels, strict=True)):
            yield index, {"image": _png(picture), "label": int(label)}


class _Cifar:
    """CIFAR-10: a tar archive of records, one byte of label and 3x32x32 bytes of picture each."""

    examples = {"train": 50_000, "test": 10_000}  # noqa: RUF012

    def _split_generators(self, dl_manager):
        del dl_manager
        (file,) = find_or_download(self, ["cifar-10-binary.tar.gz"]).values()
        members = read_members(file, [*_CIFAR_FILES["train"], *_CIFAR_FILES["test"], "batches.meta.txt"])
        self.info.features["label"].names = members["batches.meta.txt"].decode().split()
        return {split: self._generate(split, file, members) for split in _CIFAR_FILES}

    def _generate(self, split, file, members):
        data = b"".join(members[name] for name in _CIFAR_FILES[split])
        if len(data) != self.examples[split] * 3073:
            raise DataError(f"{file} is damaged: its split {split} holds {len(data)} bytes. Fetch it again.")
        records = np.frombuffer(data, np.uint8).reshape(-1, 3073)
        _check_labels(file, records[:, 0])
        for index, record in enumerate(records):
            picture = record[1:].reshape(3, 32, 32).transpose(1, 2, 0)
            yield index, {"id": f"{split}_{index:05d}", "image": _png(picture), "label": int(record[0])}


_READERS = {"mnist": _Idx, "fashion_mnist": _Idx, "cifar10": _Cifar}


def builder_of(name: str, data_dir: str, **attributes) -> tfds.core.DatasetBuilder:
    """TFDS's builder of one of the three sets, with a reader that does without TensorFlow.

    Args:
        name: "mnist", "fashion_mnist" or "cifar10".
        data_dir: where TFDS keeps data sets.
        attributes: replaced on the class; tests give `examples`.
    """
    original = tfds.builder_cls(name)
    namespace = {"__module__": original.__module__, **attributes}
    cls = type(original.__name__, (_READERS[name], original), namespace, skip_registration=True)
    return cls(data_dir=data_dir)


def find_or_download(builder: tfds.core.DatasetBuilder, names: list[str]) -> dict[str, pathlib.Path]:
    """The raw files of a set: put by hand, the system's, or downloaded from where TFDS would download them.

    Raises:
        DataError: some are nowhere and cannot be downloaded; it names them, their addresses, and the folder for them.
    """
    folder = manual_folder(builder)
    places = [folder, SYSTEM_FOLDERS.get(builder.name)]
    urls = {url.rsplit("/", 1)[1]: (url, info) for url, info in builder.url_infos.items()}
    found, missing = {}, {}
    for name in names:
        candidates = [place / n for place in places if place for n in (name, name.removesuffix(".gz"))]
        existing = next((candidate for candidate in candidates if candidate.exists()), None)
        if existing is not None:
            found[name] = existing
            continue
        url, info = urls[name]
        try:
            found[name] = download(url, folder / name, info.checksum)
        except (OSError, http.client.HTTPException) as error:
            missing[name] = f"  {url}  ({error})"
    if missing:
        raise DataError(
            f"{builder.name} is not prepared, and these files cannot be downloaded:\n"
            + "\n".join(missing.values())
            + f"\nPut them into {folder} by hand and start the same command again."
        )
    return found


def manual_folder(builder: tfds.core.DatasetBuilder) -> pathlib.Path:
    """Where a set's raw files may be put by hand: TFDS's folder for that, and in it one of the set's own."""
    # One folder a set, because those of mnist and fashion_mnist have the same names.
    return pathlib.Path(builder.data_dir_root) / "downloads" / "manual" / builder.name


def download(url: str, file: pathlib.Path, sha256: str) -> pathlib.Path:
    """Fetches `url` into `file`, which appears only when it is whole and its checksum is right.

    Raises:
        OSError: no connection, no room, or something else than the file came.
        HTTPException: the server's answer makes no sense.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    digest, done, begun = hashlib.sha256(), 0, time.monotonic()
    said = begun
    with urllib.request.urlopen(url, timeout=30) as response, written_whole(file) as part:
        total = int(response.headers.get("Content-Length") or 0)
        while block := response.read(1 << 20):
            part.write(block)
            digest.update(block)
            done += len(block)
            if time.monotonic() - said > 5:
                said = time.monotonic()
                rate = done / (said - begun)
                left = f", {(total - done) / rate:.0f} s left" if total else ""
                logging.info("%s: %.1f MB, %.1f MB/s%s", file.name, done / 1e6, rate / 1e6, left)
        if total and done < total:  # urllib takes a connection that is cut for the end
            raise OSError(f"the connection ended after {done} of {total} bytes")
        if digest.hexdigest() != sha256:
            raise OSError(f"what came has sha256 {digest.hexdigest()}, not {sha256}")
    return file


def read_idx(file: pathlib.Path, shape: tuple[int, ...]) -> np.ndarray:
    """An idx file of unsigned bytes, gzipped or plain, as an array of the shape that it has to have.

    The format: two zero bytes, the type (8: unsigned byte), the number of dimensions, each dimension as a big-endian
    32-bit number, the values.

    Raises:
        DataError: it is damaged or holds something else.
    """
    try:
        content = file.read_bytes()
        content = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{file} cannot be read: {error}. Fetch it again.")
    head = bytes([0, 0, 8, len(shape)]) + np.array(shape, ">u4").tobytes()
    if content[: len(head)] != head or len(content) != len(head) + int(np.prod(shape)):
        raise DataError(
            f"{file} is not what it should be, an idx file of {' x '.join(map(str, shape))} bytes. Fetch it again."
        )
    return np.frombuffer(content, np.uint8, offset=len(head)).reshape(shape)


def read_members(file: pathlib.Path, names: list[str]) -> dict[str, bytes]:
    """The members of a tar archive with these base names; nothing is unpacked to disk.

    Raises:
        DataError: the archive is damaged or lacks one of them.
    """
    wanted, found = set(names), {}
    try:
        with tarfile.open(file) as archive:
            for member in archive:
                name = pathlib.PurePosixPath(member.name).name
                if member.isfile() and name in wanted:
                    found[name] = archive.extractfile(member).read()
    except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
        raise DataError(f"{file} cannot be read: {error}. Fetch it again.")
    if wanted - set(found):
        raise DataError(f"{file} lacks {', '.join(sorted(wanted - set(found)))}. Fetch it again.")
    return found


def _check_labels(file: pathlib.Path, labels: np.ndarray):
    if labels.max() > 9:
        raise DataError(f"{file} is damaged: label {labels.max()}, of ten classes. Fetch it again.")


def _png(picture: np.ndarray) -> io.BytesIO:
    """TFDS encodes arrays with TensorFlow, but takes encoded pictures as they are."""
    png = io.BytesIO()
    Image.fromarray(picture).save(png, format="PNG")
    png.seek(0)
    return png
