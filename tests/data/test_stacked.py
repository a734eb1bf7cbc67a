"""Triples of digits: which digit lies in which channel, and what they are called."""

import numpy as np
import pytest

from jaxgan import data
from jaxgan.data import stacked
from jaxgan.data.dataset import make_dataset
from jaxgan.errors import ConfigError


def some_digits():
    """Twenty "digits" whose pixels are all ten times their label plus which of the two it is."""
    label = np.repeat(np.arange(10), 2)
    value = (10 * label + np.tile([0, 1], 10)).astype(np.uint8)
    pictures = np.broadcast_to(value[:, None, None, None], (20, 4, 4, 1))
    return make_dataset("digits", pictures, label, tuple("0123456789"))


def test_labels_are_the_digits_of_the_channels():
    triples = stacked.stack("stacked", some_digits(), n=5000)
    real, label = triples.arrays["real"], triples.arrays["label"]
    assert real.shape == (5000, 4, 4, 3) and real.dtype == np.uint8 and label.dtype == np.int32
    digits = real[:, 0, 0].astype(int) // 10
    np.testing.assert_array_equal(label, 100 * digits[:, 0] + 10 * digits[:, 1] + digits[:, 2])
    assert triples.label_names[label[0]] == "".join(map(str, digits[0]))
    assert triples.name == "stacked" and len(triples.label_names) == 1000
    assert len(np.unique(label)) > 980  # every triple is as likely as any other
    assert np.abs(np.corrcoef(digits.T)[np.triu_indices(3, 1)]).max() < 0.1
    assert set(np.unique(real)) == set(some_digits().arrays["real"].ravel())


def test_the_same_seed_gives_the_same_triples():
    one, same, other = (stacked.stack("s", some_digits(), n=50, seed=seed).arrays["real"] for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)


def test_by_name(mnist5k_dir, monkeypatch):
    monkeypatch.setattr(stacked.stack, "__kwdefaults__", {"n": 10, "seed": 0})
    found = data.load("stacked_mnist5k", data_dir=str(mnist5k_dir), image_size=14)
    assert found.name == "stacked_mnist5k" and found.arrays["real"].shape == (10, 14, 14, 3)
    with pytest.raises(ConfigError, match="channels cannot be 1"):
        data.load("stacked_mnist5k", channels=1)
