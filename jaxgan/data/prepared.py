"""TFDS data sets on disk: prepared when missing, then read without TensorFlow, into one array or as a stream."""

import contextlib
import dataclasses
import difflib
import importlib.util
import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from absl import logging
from PIL import Image

from jaxgan.data import cache, images
from jaxgan.data.dataset import Dataset, make_dataset
from jaxgan.data.stored import Stored
from jaxgan.errors import ConfigError, DataError, JaxganError


def load(
    builder: tfds.core.DatasetBuilder,
    *,
    split: str,
    image_size: int | None = None,
    channels: int | None = None,
    stream_above: float = math.inf,
) -> Dataset:
    """The pictures of a TFDS data set, as `images.to_array` makes them; prepared first if they are not on disk.

    Args:
        builder: of the data set; it knows its folder.
        split: TFDS's notation, such as "train" or "train[:10%]".
        image_size, channels: see `images.to_array`; left out: as the data set has them.
        stream_above: bytes of decoded pictures above which they are left on disk.

    Raises:
        ConfigError: there is no such split.
        DataError: the set is not there and cannot be prepared, is no set of pictures, or cannot be read.
    """
    require_pictures(builder)
    if not builder.is_prepared():
        prepare(builder)
    # Read anew from its folder: a builder made before another process prepared the set knows nothing of what it holds.
    stored = tfds.builder_from_directory(builder.data_path)
    features = stored.info.features
    channels = channels or (1 if features["image"].shape[-1] == 1 else 3)
    labels = features["label"] if "label" in features else None
    label_names = tuple(labels.names) if isinstance(labels, tfds.features.ClassLabel) else ()
    read = _Reader(_open(stored, split), Path(builder.data_path), image_size, channels)
    count, what = len(read.source), f"{builder.name} {split}"
    files = sorted(read.root.iterdir())
    # The files' times too: the set may have been removed and prepared anew, of other files, under the same version.
    key = f"{split}-{image_size or 'own'}-{channels}-{cache.fingerprint(read.root, files)}".replace("/", "_")
    kept_in = Path(builder.data_dir_root, "jaxgan_arrays", stored.info.full_name, key)

    if stream_above < math.inf:
        shape = (image_size, image_size, channels) if image_size else read(0).shape
        if count * math.prod(shape) > stream_above:
            identity = f"{split} {cache.fingerprint(read.root, files, anywhere=True)}"
            real = Stored(read, (count, *shape), what, f"{kept_in}", identity)
            label = _labels(read, kept_in) if label_names else np.zeros(count, np.int64)
            return make_dataset(builder.name, real, label, label_names)

    def decode(chunk: range):
        for example in read.source.__getitems__(list(chunk)):
            yield read.decode(example), example["label"] if label_names else 0

    def make():
        with read.damage_told():
            return images.decode_all(decode, count, what)

    real, label = cache.load_or_make(kept_in, make) if count > cache.THRESHOLD else make()
    return make_dataset(builder.name, real, label, label_names)


@dataclasses.dataclass(frozen=True)
class _Reader:
    """Decodes pictures of a split one by one. It can be pickled."""

    source: Any  # TFDS's, of undecoded examples
    root: Path
    image_size: int | None
    channels: int

    def __call__(self, row: int) -> np.ndarray:
        with self.damage_told(f" at example {row}"):
            return self.decode(self.source[row])

    def decode(self, example: dict[str, Any]) -> np.ndarray:
        with Image.open(io.BytesIO(example["image"])) as picture:
            return images.to_array(picture, self.image_size, self.channels)

    @contextlib.contextmanager
    def damage_told(self, where: str = ""):
        try:
            yield
        except (RuntimeError, OSError, ValueError, SyntaxError) as error:  # of ArrayRecord's reader and of Pillow
            raise DataError(
                f"{self.root} is damaged{where}: {error}. Remove that folder and start the same command again; "
                "it is prepared anew."
            )


def _labels(read: _Reader, kept_in: Path) -> np.ndarray:
    """The labels alone, without decoding a picture."""
    count = len(read.source)

    def one(start: int) -> list[int]:
        chunk = range(start, min(start + images.CHUNK, count))
        return [example["label"] for example in read.source.__getitems__(list(chunk))]

    def make() -> np.ndarray:
        with read.damage_told(), images.threads() as pool:
            return np.concatenate(list(pool.map(one, range(0, count, images.CHUNK))))

    return cache.load_or_make_labels(kept_in, make) if count > cache.THRESHOLD else make()


def prepare(builder: tfds.core.DatasetBuilder) -> None:
    """Writes the set as ArrayRecord, the format that TFDS reads without TensorFlow; all of it or nothing.

    Raises:
        DataError: it cannot be downloaded, generated or written, with what to do.
    """
    logging.info("preparing %s in %s (once)", builder.name, builder.data_path)
    tfds.disable_progress_bar()
    try:
        with _quiet():
            builder.download_and_prepare(file_format="array_record")
    except JaxganError:
        raise
    except Exception as error:  # hundreds of authors wrote TFDS's generators: they raise anything
        if builder.is_prepared():  # another process was quicker: its folder is as good
            return
        # The system's own errors (no room, not writable) have a number; those of a download have none.
        hint = "" if getattr(error, "errno", None) else _by_hand(builder)
        raise DataError(f"{builder.name} cannot be prepared in {builder.data_path}: {error}{hint}")


def builder_of(name: str, data_dir: str) -> tfds.core.DatasetBuilder:
    """The builder of a data set that TFDS knows, by its own name: "celeb_a", "cycle_gan/monet2photo", ...

    Raises:
        ConfigError: TFDS knows no such set.
        DataError: the set has no pictures, or is not prepared and preparing it needs TensorFlow.
    """
    try:
        with _quiet():
            builder = tfds.builder(name, data_dir=data_dir)
    except ImportError as error:
        raise DataError(f"TFDS cannot open {name} with the packages installed here: {error}")
    except (ValueError, AssertionError) as error:  # no such set or configuration; no such version
        raise ConfigError(_unknown(name, error))
    require_pictures(builder)
    if not builder.is_prepared() and importlib.util.find_spec("tensorflow") is None:
        raise DataError(
            f"{name} is not in {builder.data_path}, and TFDS needs TensorFlow to prepare it (not to read it). Once, "
            "here or on another machine:\n"
            "  pip install 'jaxgan[tfds]'   # or: pip install tensorflow-cpu\n"
            '  python -c "import tensorflow_datasets as tfds; '
            f"tfds.builder({name!r}, data_dir={data_dir!r}).download_and_prepare(file_format='array_record')\"\n"
            f"then start the same command again.{_by_hand(builder)}"
        )
    return builder


def require_pictures(builder: tfds.core.DatasetBuilder) -> None:
    """Raises DataError unless each example of the set has one picture, by the name of "image"."""
    features = builder.info.features
    names = list(features) if isinstance(features, tfds.features.FeaturesDict) else []
    if "image" not in names or not isinstance(features["image"], tfds.features.Image):
        raise DataError(f"the TFDS data set {builder.name} has no pictures: its features are {', '.join(names)}")


def _open(builder: tfds.core.DatasetBuilder, split: str):
    try:
        source = builder.as_data_source(split=split, decoders={"image": tfds.decode.SkipDecoding()})
        len(source)  # raises for "train[10:5]"
    except NotImplementedError:
        raise DataError(
            f"{builder.data_path} holds {builder.name} as {builder.info.file_format.value}, which cannot be read at "
            "random places, only as array_record. Remove that folder, or name another one for data sets "
            "(--config.data.data_dir), and start the same command again; it is prepared there."
        )
    except ValueError as error:
        raise ConfigError(
            f"{builder.name} cannot give the split {split!r} ({str(error).splitlines()[-1]}). It has "
            f"{', '.join(builder.info.splits)} and slices of them, such as train[:80%]."
        )
    return source


def _by_hand(builder: tfds.core.DatasetBuilder) -> str:
    """Which files of a set TFDS takes from its folder for files fetched by hand, if it downloads any."""
    names = sorted({info.filename for info in (builder.url_infos or {}).values()})
    if not names:
        return ""
    listed = ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
    folder = Path(builder.data_dir_root, "downloads", "manual")
    return f"\nA file that cannot be downloaded may be put into {folder} by hand; the set has {listed}."


def _unknown(name: str, error: Exception) -> str:
    from jaxgan.data import OWN  # the room's door knows the names that are not TFDS's

    known = {*OWN, *tfds.list_builders(with_community_datasets=False)}
    base, _, config = name.partition("/")
    if config and base in known - {*OWN}:
        close = [f"{base}/{config}" for config in tfds.builder_cls(base).builder_configs][:20]
    else:
        close = difflib.get_close_matches(name, sorted(known), n=4)
    hint = f" Close to it: {', '.join(close)}." if close else ""
    first_line = str(error).strip().splitlines()[0].partition(" Here are")[0]  # lists everything in the lines after
    return (
        f"no data set {name!r} ({first_line}).{hint} Known here: {', '.join(OWN)}; any data set of pictures that TFDS "
        "knows can be named too."
    )


def _quiet():
    """TFDS prints to stdout; a run's output stays its own."""
    return contextlib.redirect_stdout(io.StringIO())
