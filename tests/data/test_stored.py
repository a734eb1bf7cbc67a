"""Pictures on disk that can be used like an array."""

import pickle

import numpy as np
import pytest

from jaxgan.data.stored import Stored
from jaxgan.errors import DataError

PICTURES = np.random.default_rng(0).integers(0, 256, (11, 3, 4, 1), dtype=np.uint8)


def read(row):
    return PICTURES[row]


def stored(read=read):
    return Stored(read, PICTURES.shape, "pictures", "files", "names")


def test_it_gives_what_an_array_gives():
    pictures = stored()
    assert (len(pictures), pictures.shape, pictures.ndim, pictures.dtype) == (11, (11, 3, 4, 1), 4, np.uint8)
    rows = np.random.default_rng(1).integers(0, 11, (5, 2))
    for part in (slice(None), slice(2, 7), slice(8, 99), slice(4, 4), [3, 1, 3], rows, np.zeros((0,), int)):
        np.testing.assert_array_equal(pictures[part], PICTURES[part])
    np.testing.assert_array_equal(pictures.take(np.array([10, 0])), PICTURES[[10, 0]])


def test_it_can_be_sent_to_another_process():
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(stored()))[3:5], PICTURES[3:5])


def test_a_picture_of_another_size_is_refused():
    with pytest.raises(DataError, match=r"pictures: the pictures differ in size \(3x4 and 2x4\). Set image_size"):
        stored(lambda row: PICTURES[row][:2] if row == 6 else PICTURES[row])[:]
