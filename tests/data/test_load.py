"""The room's door: names, and what may be asked of them."""

import subprocess
import sys

import numpy as np
import pytest

from jaxgan import data
from jaxgan.data import cache
from jaxgan.data.dataset import make_dataset
from jaxgan.errors import ConfigError


def test_points_need_no_folder(default_folder):
    ring = data.load("ring", seed=1)
    assert ring.name == "ring" and ring.arrays["real"].shape == (100_000, 2)
    assert not np.array_equal(ring.arrays["real"], data.load("ring", seed=2).arrays["real"])
    assert data.load("grid").arrays["label"].max() == 24
    assert not default_folder.exists()


def test_the_default_folder_is_the_one_of_tfds(default_folder):
    assert len(data.load("mnist5k").arrays["real"]) == 5000
    assert (default_folder / "mnist5k" / "1.0.0" / "dataset_info.json").exists()


def test_a_home_folder_is_expanded(mnist5k_dir, monkeypatch):
    monkeypatch.setenv("HOME", str(mnist5k_dir.parent))
    assert len(data.load("mnist5k", data_dir=f"~/{mnist5k_dir.name}").arrays["real"]) == 5000
    monkeypatch.setenv("TFDS_DATA_DIR", f"~/{mnist5k_dir.name}")
    assert cache.default_data_dir() == mnist5k_dir


def test_size_and_channels(mnist5k_dir):
    digits = data.load("mnist5k", data_dir=str(mnist5k_dir), split="train[:50]", image_size=32, channels=3)
    assert digits.arrays["real"].shape == (50, 32, 32, 3) and digits.arrays["real"].dtype == np.uint8


@pytest.mark.parametrize("wrong", [{"image_size": 0}, {"image_size": -3}, {"channels": 2}, {"channels": 4}])
def test_sizes_that_make_no_sense(wrong, mnist5k_dir):
    with pytest.raises(ConfigError, match=r"image_size .* channels"):
        data.load("mnist5k", data_dir=str(mnist5k_dir), **wrong)


@pytest.mark.parametrize("name", ["ring", "grid", "folder"])
def test_sets_with_one_split(name, tmp_path):
    with pytest.raises(ConfigError, match=f"'{name}' has the split 'train' alone, not 'test'"):
        data.load(name, split="test", path=str(tmp_path))


@pytest.mark.parametrize(
    "name, close", [("mnist5", "mnist5k"), ("fasion_mnist", "fashion_mnist"), ("rings", "ring"), ("celeba", "celeb_a")]
)
def test_unknown_names_list_what_is_close(name, close, tmp_path):
    with pytest.raises(ConfigError) as error:
        data.load(name, data_dir=str(tmp_path))
    message = str(error.value)
    hint = message.partition("Close to it: ")[2].partition(". Known here")[0].split(", ")
    assert close in hint and len(hint) == len(set(hint))
    assert f"{name!r}" in message and "mnist5k, mnist, fashion_mnist, cifar10, folder, ring, grid" in message


@pytest.mark.parametrize("name", ["", "../x", "no such thing", "kaggle:x", "qqqqqqqq"])
def test_names_that_are_none(name, tmp_path):
    with pytest.raises(ConfigError, match="no data set") as error:
        data.load(name, data_dir=str(tmp_path))
    assert len(str(error.value)) < 600 and len(str(error.value).splitlines()) == 1


def test_labels_only_with_names():
    real, label = np.zeros((3, 2), np.float32), np.array([0, 1, 1])
    assert set(make_dataset("x", real, label, ()).arrays) == {"real"}
    labelled = make_dataset("x", real, label, ("a", "b"))
    assert labelled.arrays["label"].dtype == np.int32 and labelled.arrays["label"].tolist() == [0, 1, 1]


def test_importing_the_room_imports_no_tfds(root):
    code = "import sys, jaxgan.data; assert not {'tensorflow_datasets', 'tensorflow', 'PIL'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root, timeout=60)
