"""Data sets by name, as arrays in the host's memory, or streamed from disk where they are too large for that.

Everything but points and folders comes through TFDS, whose directories this room writes and reads without TensorFlow.
"""

import math
import os

from jaxgan.data.dataset import Dataset
from jaxgan.errors import ConfigError

__all__ = ["OWN", "SEEDED", "Dataset", "load"]

# The names that need nothing but this package; every other name is looked up in TFDS.
STACKED = {"stacked_mnist5k": "mnist5k", "stacked_mnist": "mnist"}  # what the triples are made of
OWN = ("mnist5k", "mnist", "fashion_mnist", "cifar10", "folder", "ring", "grid", *STACKED)
SEEDED = ("ring", "grid", *STACKED)  # those that are other examples with another seed


def load(
    name: str,
    *,
    split: str = "train",
    image_size: int | None = None,
    channels: int | None = None,
    data_dir: str | None = None,
    path: str | None = None,
    seed: int = 0,
    stream_above: float = math.inf,
) -> Dataset:
    """A whole data set.

    Args:
        name: one of `OWN`, or any data set of pictures that TFDS knows, such as "celeb_a" or "svhn_cropped".
        split: in TFDS's notation, "train[:80%]" included; a folder and the points in the plane have "train" alone.
        image_size: the largest centred square is cut out of each picture and resized to this side; None leaves
            pictures as they are, which then have to be of one size.
        channels: 1 for grey, 3 for colour; None for what the data set has.
        data_dir: where TFDS keeps data sets; TFDS_DATA_DIR or ~/tensorflow_datasets if None.
        path: of the folder, for "folder".
        seed: of the points in the plane and of the triples of stacked digits.
        stream_above: a set whose decoded pictures take more bytes than this is streamed. Points and triples, which are
            made in memory, never are.

    Raises:
        ConfigError: an unknown name, split or size.
        DataError: the data is missing, damaged, or not what it should be; the message says what to do.
    """
    if (image_size is not None and image_size < 1) or channels not in (None, 1, 3):
        raise ConfigError(f"image_size {image_size} must be above 0, and channels {channels} must be 1 or 3")
    if name in ("ring", "grid", "folder") and split != "train":
        raise ConfigError(f"the data set {name!r} has the split 'train' alone, not {split!r}")
    # Imported as they are needed: TFDS alone costs most of a second.
    if name in ("ring", "grid"):
        from jaxgan.data import toy

        return toy.load(name, seed=seed)
    if name == "folder":
        from jaxgan.data import folder

        return folder.load(
            path, image_size=image_size, channels=channels, data_dir=data_dir, stream_above=stream_above
        )
    if name in STACKED:
        from jaxgan.data import stacked

        if channels == 1:
            raise ConfigError(f"{name!r} is three digits in three channels; channels cannot be 1")
        digits = load(STACKED[name], split=split, image_size=image_size, data_dir=data_dir)
        return stacked.stack(name, digits, seed=seed)
    from jaxgan.data import cache, prepared

    # Given outright: left to find a default, TFDS looks into every folder it knows, with warnings and TensorFlow.
    data_dir = os.path.expanduser(data_dir or cache.default_data_dir())
    dataset = prepared.load(
        _builder(name, data_dir), split=split, image_size=image_size, channels=channels, stream_above=stream_above
    )
    return dataset._replace(name=name)  # "cycle_gan/monet2photo", where the builder is called "cycle_gan"


def _builder(name: str, data_dir: str):
    if name == "mnist5k":
        from jaxgan.data.mnist5k.mnist5k_dataset_builder import Builder

        return Builder(data_dir=data_dir)
    if name in ("mnist", "fashion_mnist", "cifar10"):
        from jaxgan.data import raw

        return raw.builder_of(name, data_dir)
    from jaxgan.data import prepared

    return prepared.builder_of(name, data_dir)
