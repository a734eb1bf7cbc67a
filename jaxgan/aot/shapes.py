"""The shape of a run's data, which is all that compiling needs: the data need not be on disk."""

import re
from typing import NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from jaxgan import build
from jaxgan.data import SEEDED, Dataset
from jaxgan.errors import ConfigError, DataError

# Examples of the training split, the shape of one, and classes, as TFDS's catalogue has them.
KNOWN = {
    "mnist": (60_000, (28, 28, 1), 10),
    "fashion_mnist": (60_000, (28, 28, 1), 10),
    "cifar10": (50_000, (32, 32, 3), 10),
    "celeb_a": (162_770, (218, 178, 3), 0),
    "imagenet_resized/64x64": (1_281_167, (64, 64, 3), 1000),
}


class DataShape(NamedTuple):
    """What a run would know of its data.

    Attributes:
        examples: how many there are.
        shape: of one.
        label_counts: examples of each class; () where there are no labels.
        arrays: as the data set has them, without their values.
    """

    examples: int
    shape: tuple[int, ...]
    label_counts: tuple[int, ...]
    arrays: dict[str, jax.ShapeDtypeStruct]

    @property
    def nbytes(self) -> int:
        """Of the decoded pictures."""
        return self.arrays["real"].size * self.arrays["real"].dtype.itemsize


def is_streamed(config: ConfigDict, shape: DataShape) -> bool:
    """Whether a run would stream data of this shape."""
    return shape.nbytes > build.stream_above(config) and config.data.name not in SEEDED


def find_data_shape(config: ConfigDict, given: str = "") -> DataShape:
    """The shape of the data that `config.data` names: given, known by its name, or read from the data itself.

    Args:
        config: see experiments/common.py.
        given: "EXAMPLES,H,W,C" or "EXAMPLES,H,W,C,CLASSES", after any resizing.

    Raises:
        ConfigError: `given` is not of that form.
        DataError: the shape is not known, and the data is not there to be asked.
    """
    c = config.data
    if given:
        if not re.fullmatch(r"[1-9]\d*(,[1-9]\d*){3,4}", given):
            raise ConfigError(f"cannot read --data_shape={given!r}; write EXAMPLES,H,W,C or EXAMPLES,H,W,C,CLASSES")
        examples, *shape = map(int, given.split(","))
        return _pictures(examples, tuple(shape[:3]), shape[3] if len(shape) > 3 else 0)
    if c.name in KNOWN and c.split == "train":
        examples, (height, width, channels), classes = KNOWN[c.name]
        height, width = (c.image_size, c.image_size) if c.image_size else (height, width)
        return _pictures(examples, (height, width, c.channels or channels), classes)
    try:
        dataset = build.load_data(config)
    except DataError as error:
        raise DataError(
            f"{error}\nTo compile without the data, say what shape it has: --data_shape=EXAMPLES,H,W,C (or with "
            f"CLASSES at the end). Known without that: the training splits of {', '.join(KNOWN)}."
        )
    return data_shape_of(dataset)


def data_shape_of(dataset: Dataset) -> DataShape:
    """The shape of data that is there."""
    arrays = {name: jax.ShapeDtypeStruct(array.shape, array.dtype) for name, array in dataset.arrays.items()}
    real = arrays["real"]
    return DataShape(real.shape[0], real.shape[1:], build.label_counts(dataset), arrays)


def _pictures(examples: int, shape: tuple[int, ...], classes: int) -> DataShape:
    arrays = {"real": jax.ShapeDtypeStruct((examples, *shape), np.uint8)}
    if classes:
        arrays["label"] = jax.ShapeDtypeStruct((examples,), np.int32)
    return DataShape(examples, shape, (examples // max(classes, 1),) * classes, arrays)
