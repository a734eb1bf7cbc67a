"""Decoded pictures on disk: used the second time, never trusted when damaged, never in the way."""

import os
import stat

import numpy as np
import pytest

from jaxgan.data import cache

REAL, LABEL = np.arange(2 * 3 * 4 * 1, dtype=np.uint8).reshape(2, 3, 4, 1), np.array([7, 8])


class Maker:
    """Counts how often it is asked."""

    def __init__(self):
        self.calls = 0

    def __call__(self):
        self.calls += 1
        return REAL, LABEL


def load(folder, make):
    real, label = cache.load_or_make(folder, make)
    np.testing.assert_array_equal(real, REAL)
    np.testing.assert_array_equal(label, LABEL)


def test_made_once_and_read_back(tmp_path):
    make = Maker()
    load(tmp_path / "a" / "key", make)
    load(tmp_path / "a" / "key", make)
    assert make.calls == 1
    assert sorted(file.name for file in (tmp_path / "a" / "key").iterdir()) == ["label.npy", "real.npy"]


@pytest.mark.parametrize("name", ["real.npy", "label.npy"])
@pytest.mark.parametrize("damage", ["empty", "half", "header", "noise", "missing"])
def test_damaged_is_made_anew(tmp_path, name, damage):
    make = Maker()
    load(tmp_path, make)
    whole = (tmp_path / name).read_bytes()
    content = {
        "empty": b"",
        "half": whole[:-3],
        "header": whole[:20] + b"\0" * 20 + whole[40:],
        "noise": b"PK\3\4" + whole,
    }
    if damage == "missing":
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_bytes(content[damage])
    load(tmp_path, make)
    load(tmp_path, make)
    assert make.calls == 2


def test_lengths_that_do_not_match_are_made_anew(tmp_path):
    make = Maker()
    load(tmp_path, make)
    np.save(tmp_path / "label.npy", LABEL[:1])
    load(tmp_path, make)
    assert make.calls == 2


def test_labels_alone_are_kept_where_the_pictures_would_be(tmp_path):
    make = Maker()

    def labels(folder):
        return cache.load_or_make_labels(folder, lambda: make()[1])

    for _ in range(2):
        np.testing.assert_array_equal(labels(tmp_path / "a"), LABEL)
    assert make.calls == 1 and [file.name for file in (tmp_path / "a").iterdir()] == ["label.npy"]
    load(tmp_path / "a", make)  # finds no pictures there
    load(tmp_path / "b", make)
    np.testing.assert_array_equal(labels(tmp_path / "b"), LABEL)
    assert make.calls == 3


def test_copies_of_files_are_told_apart_only_where_that_is_wanted(tmp_path):
    for name, content in (("a", b"one"), ("b", b"two"), ("c", b"three")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_bytes(content)
    roots = [tmp_path / name for name in "abc"]
    here, anywhere = ([cache.fingerprint(r, [r / "file"], anywhere=flag) for r in roots] for flag in (False, True))
    assert len(set(here)) == 3 and anywhere[0] == anywhere[1] != anywhere[2]


def test_no_pickle_is_ever_opened(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "exploded"),))

    make = Maker()
    load(tmp_path, make)
    np.save(tmp_path / "label.npy", np.array([Bomb(), Bomb()], dtype=object), allow_pickle=True)
    load(tmp_path, make)
    assert make.calls == 2 and not (tmp_path / "exploded").exists()


def test_a_folder_that_cannot_be_written_costs_a_warning_only(unwritable, said):
    make = Maker()
    load(unwritable / "key", make)
    assert any("cannot be kept" in line and str(unwritable) in line for line in said())


def test_others_may_read_what_the_user_lets_them(tmp_path):
    old = os.umask(0o022)
    try:
        load(tmp_path, Maker())
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "real.npy").stat().st_mode) == 0o644


def test_default_folder_is_the_one_of_tfds(monkeypatch, tmp_path):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    assert cache.default_data_dir() == tmp_path
    monkeypatch.setenv("TFDS_DATA_DIR", "")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache.default_data_dir() == tmp_path / "home" / "tensorflow_datasets"
