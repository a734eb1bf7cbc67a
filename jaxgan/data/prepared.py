"""TFDS data sets on disk: prepared when missing, then read without TensorFlow into one array."""

import contextlib
import difflib
import io
import sys
from pathlib import Path

import tensorflow_datasets as tfds
from absl import logging
from PIL import Image

from jaxgan.data import cache, images
from jaxgan.data.dataset import Dataset, make_dataset
from jaxgan.errors import ConfigError, DataError


def load(
    builder: tfds.core.DatasetBuilder, *, split: str, image_size: int | None = None, channels: int | None = None
) -> Dataset:
    """The pictures of a TFDS data set, as `images.to_array` makes them; prepared first if they are not on disk.

    Args:
        builder: of the data set; it knows its folder.
        split: TFDS's notation, such as "train" or "train[:10%]".
        image_size, channels: see `images.to_array`; left out: as the data set has them.

    Raises:
        ConfigError: there is no such split.
        DataError: the set is not there and cannot be prepared, is no set of pictures, or cannot be read.
    """
    features = builder.info.features
    if "image" not in features or not isinstance(features["image"], tfds.features.Image):
        raise DataError(f"the TFDS data set {builder.name} has no pictures: its features are {', '.join(features)}")
    if not builder.is_prepared():
        prepare(builder)
    channels = channels or (1 if features["image"].shape[-1] == 1 else 3)
    labels = features["label"] if "label" in features else None
    label_names = tuple(labels.names) if isinstance(labels, tfds.features.ClassLabel) else ()
    source = _open(builder, split)

    def decode(chunk: range):
        for example in source.__getitems__(list(chunk)):
            with Image.open(io.BytesIO(example["image"])) as picture:
                yield images.to_array(picture, image_size, channels), example["label"] if label_names else 0

    def make():
        return images.decode_all(decode, len(source), f"{builder.name} {split}")

    if len(source) > cache.THRESHOLD:
        key = f"{split}-{image_size or 'own'}-{channels}".replace("/", "_")
        root = builder.data_path.parents[len(Path(builder.info.full_name).parts) - 1]
        real, label = cache.load_or_make(Path(root, "jaxgan_arrays", builder.info.full_name, key), make)
    else:
        real, label = make()
    return make_dataset(builder.name, real, label, label_names)


def prepare(builder: tfds.core.DatasetBuilder) -> None:
    """Writes the set as ArrayRecord, the format that TFDS reads without TensorFlow; all of it or nothing.

    Raises:
        DataError: it cannot be downloaded, generated or written, with what to do.
    """
    logging.info("preparing %s in %s (once)", builder.name, builder.data_path)
    try:
        with _no_bars():
            builder.download_and_prepare(file_format="array_record")
    except OSError as error:
        if builder.is_prepared():  # another process was quicker: its folder is as good
            return
        raise DataError(f"{builder.name} cannot be written to {builder.data_path}: {error}")


def builder_of(name: str, data_dir: str) -> tfds.core.DatasetBuilder:
    """The builder of a data set that TFDS knows, by its own name: "celeb_a", "cycle_gan/monet2photo", ...

    Raises:
        ConfigError: TFDS knows no such set.
        DataError: the set is not prepared, and preparing it needs TensorFlow.
    """
    try:
        builder = tfds.builder(name, data_dir=data_dir)
    except (tfds.core.DatasetNotFoundError, ValueError, ImportError) as error:
        raise ConfigError(_unknown(name, error))
    if not builder.is_prepared() and not _has_tensorflow():
        raise DataError(
            f"{name} is not in {builder.data_path}, and TFDS needs TensorFlow to prepare it (not to read it). Once, "
            "here or on another machine:\n"
            "  pip install 'jaxgan[tfds]'   # or: pip install tensorflow-cpu\n"
            '  python -c "import tensorflow_datasets as tfds; '
            f"tfds.builder({name!r}, data_dir={data_dir!r}).download_and_prepare(file_format='array_record')\"\n"
            "then start the same command again."
        )
    return builder


def _open(builder: tfds.core.DatasetBuilder, split: str):
    try:
        return builder.as_data_source(split=split, decoders={"image": tfds.decode.SkipDecoding()})
    except NotImplementedError:
        raise DataError(
            f"{builder.data_path} holds {builder.name} in a format that cannot be read at random places. Prepare it "
            f"again: tfds.builder({builder.name!r}, file_format='array_record').download_and_prepare()"
        )
    except ValueError as error:
        raise ConfigError(
            f"{builder.name} has no split {split!r}; it has {', '.join(builder.info.splits)} and slices of them, "
            f"such as train[:80%] ({error})"
        )


def _unknown(name: str, error: Exception) -> str:
    from jaxgan.data import OWN  # the room's door knows the names that are not TFDS's

    known = tfds.list_builders(with_community_datasets=False)
    close = difflib.get_close_matches(name, [*OWN, *known], n=4)
    hint = f" Close to it: {', '.join(close)}." if close else ""
    first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return (
        f"no data set {name!r} ({first_line}).{hint} Known here: {', '.join(OWN)}; any data set of pictures that TFDS "
        "knows can be named too."
    )


def _has_tensorflow() -> bool:
    import importlib.util

    return importlib.util.find_spec("tensorflow") is not None


@contextlib.contextmanager
def _no_bars():
    """TFDS prints to stdout and draws bars for each file; a run's output stays its own."""
    tfds.disable_progress_bar()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        if sys.stderr.isatty():
            tfds.enable_progress_bar()
