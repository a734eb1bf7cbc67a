"""The real side of an evaluation, of pictures in memory and of those on disk."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan.data.stored import Stored
from jaxgan.errors import DataError
from jaxgan.metrics.features import Features
from jaxgan.reference import make_reference, read_statistics

PICTURES = np.random.default_rng(0).integers(0, 256, (150, 4, 4, 1), dtype=np.uint8)


def mean(pictures):
    x = jnp.asarray(pictures, jnp.float32).reshape(len(pictures), -1)
    return {"features": jnp.stack([x.mean(1), x.std(1)], axis=1), "logits": x[:, :3]}


MEAN = Features("mean", 2, "ab" * 32, "none", "float32", mean, ("a", "b", "c"))


class Reads:
    """Pictures on disk, and how often one was read."""

    def __init__(self, pictures=PICTURES):
        self.pictures, self.count = pictures, 0

    def __call__(self, row):
        self.count += 1
        return self.pictures[row]

    def stored(self, fingerprint="files"):
        return Stored(self, self.pictures.shape, "pictures", fingerprint, "names")


def assert_same(a, b):
    np.testing.assert_array_equal(a.examples.features, b.examples.features)
    np.testing.assert_array_equal(a.examples.logits, b.examples.logits)
    assert (a.name, a.size, a.digest) == (b.name, b.size, b.digest)


def test_stored_pictures_give_the_reference_of_those_in_memory_and_are_read_once(tmp_path):
    resident = make_reference(MEAN, PICTURES, "train[:80%]")
    reads = Reads()
    assert_same(make_reference(MEAN, reads.stored(), "train[:80%]"), resident)
    assert reads.count == 150
    assert_same(make_reference(MEAN, reads.stored(), "train[:80%]", tmp_path), resident)
    assert reads.count == 300
    assert_same(make_reference(MEAN, reads.stored(), "train[:80%]", tmp_path), resident)
    assert reads.count == 300
    other = make_reference(MEAN, Reads(255 - PICTURES).stored("other files"), "train[:80%]", tmp_path)
    assert other.digest != resident.digest


def test_kept_features_of_resident_pictures_are_found_again(tmp_path):
    first, second = (make_reference(MEAN, PICTURES, "train", tmp_path) for _ in range(2))
    assert_same(first, second)
    assert_same(first, make_reference(MEAN, PICTURES, "train"))
    (file,) = tmp_path.iterdir()
    assert file.stem == first.digest


@pytest.mark.parametrize("damage", ["missing", "cut", "other", "shapes", "another network"])
def test_files_that_hold_no_statistics(damage, tmp_path):
    file = tmp_path / "s.npz"
    held = {"other": {"x": np.zeros(2)}, "shapes": {"mu": np.zeros(3), "sigma": np.eye(2)}}
    held["another network"] = {"mu": np.zeros(2), "sigma": np.eye(2)}
    np.savez(file, **held.get(damage, {}))
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:10])
    elif damage == "missing":
        file.unlink()
    with pytest.raises(DataError, match=r"s\.npz"):
        read_statistics(str(file), 3)
