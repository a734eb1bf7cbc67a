"""Pictures in a folder: found, labelled, and read or named."""

import os
import shutil

import numpy as np
import pytest
from PIL import Image

from jaxgan import data
from jaxgan.data import cache, folder
from jaxgan.errors import ConfigError, DataError

RNG = np.random.default_rng(0)


def put(path, value=None, size=(8, 8), mode="RGB"):
    """A picture of one grey value, or of noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = RNG.integers(0, 256, (*size, 3), np.uint8) if value is None else np.full((*size, 3), value, np.uint8)
    Image.fromarray(pixels).convert(mode).save(path)
    return path


def values(dataset):
    return dataset.arrays["real"][:, 0, 0, 0].tolist()


def test_sorted_nested_and_by_any_case_of_ending(tmp_path):
    for value, name in enumerate(["a.png", "b/c/d.PNG", "b/e.bmp", "z.Tiff"]):
        put(tmp_path / name, 10 * value)
    for name in ("notes.txt", ".hidden.png", ".git/x.png", "b/.cache/y.png", "archive.zip"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        put(tmp_path / "picture.png").rename(tmp_path / name)
    pictures = folder.load(str(tmp_path))
    assert values(pictures) == [0, 10, 20, 30]
    assert pictures.name == "folder" and pictures.arrays["real"].dtype == np.uint8
    assert "label" not in pictures.arrays and pictures.label_names == ()


def test_labels_are_the_first_sub_folders(tmp_path):
    for value, name in enumerate(["cat/1.png", "cat/more/2.png", "ant/3.png", "dog/4.png"]):
        put(tmp_path / name, 10 * value)
    pictures = data.load("folder", path=str(tmp_path))
    assert pictures.label_names == ("ant", "cat", "dog")
    assert dict(zip(values(pictures), pictures.arrays["label"].tolist(), strict=True)) == {0: 1, 10: 1, 20: 0, 30: 2}


def test_labels_stay_with_their_pictures_when_one_is_left_out(tmp_path):
    for value, name in enumerate(["a/1.png", "a/2.png", "b/3.png"]):
        put(tmp_path / name, 10 * value)
    (tmp_path / "a" / "1.png").write_bytes(b"no picture")
    pictures = folder.load(str(tmp_path))
    assert values(pictures) == [10, 20] and pictures.arrays["label"].tolist() == [0, 1]


@pytest.mark.parametrize("modes, channels", [(["L", "1"], 1), (["L", "RGB"], 3), (["RGBA", "L"], 3), (["P", "L"], 3)])
def test_channels_are_what_the_pictures_have(modes, channels, tmp_path):
    for mode in modes:
        put(tmp_path / f"{mode}.png", 50, mode=mode)
    assert folder.load(str(tmp_path)).arrays["real"].shape[-1] == channels
    assert folder.load(str(tmp_path), channels=1).arrays["real"].shape[-1] == 1
    assert folder.load(str(tmp_path), channels=3).arrays["real"].shape[-1] == 3


def test_every_kind_at_once(tmp_path):
    """Each is mid-grey, by its own means."""
    grey = Image.new("RGB", (20, 12), (128, 128, 128))
    grey.convert("L").save(tmp_path / "grey.png")
    grey.save(tmp_path / "colour.png")
    Image.new("RGBA", (20, 12), (1, 1, 1, 127)).save(tmp_path / "alpha.png")
    grey.convert("P", palette=Image.Palette.ADAPTIVE).save(tmp_path / "palette.png")
    Image.new("CMYK", (20, 12), (127, 127, 127, 0)).save(tmp_path / "ink.jpg", quality=95)
    Image.fromarray(np.full((12, 20), 128 * 257, np.uint16)).save(tmp_path / "wide.png")
    grey.save(tmp_path / "moving.gif", save_all=True, append_images=[Image.new("RGB", (20, 12), "red")])
    exif = Image.Exif()
    exif[0x0112] = 6
    grey.save(tmp_path / "turned.jpg", exif=exif)
    grey.save(tmp_path / "web.webp")
    pictures = folder.load(str(tmp_path), image_size=10)
    assert pictures.arrays["real"].shape == (9, 10, 10, 3)
    assert np.abs(pictures.arrays["real"].astype(int) - 128).max() <= 2


def test_unreadable_pictures_are_named_skipped_and_counted(tmp_path, said):
    whole = put(tmp_path / "good.png", 77)
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.jpg").write_text("hello")
    noise = put(tmp_path / "noise.png", size=(64, 64))
    (tmp_path / "cut.png").write_bytes(noise.read_bytes()[:2000])
    noise.unlink()
    Image.fromarray(np.zeros((8, 8), np.float32)).save(tmp_path / "floating.tif")
    (tmp_path / "nowhere.png").symlink_to(tmp_path / "gone.png")
    pictures = folder.load(str(tmp_path))
    assert values(pictures) == [77]
    for name in ("empty.png", "text.jpg", "cut.png", "floating.tif", "nowhere.png"):
        assert sum(name in line for line in said()) == 1
    assert f"{tmp_path}: 5 of 6 pictures cannot be read and are left out" in said()
    whole.unlink()
    with pytest.raises(DataError, match="no picture that can be read"):
        folder.load(str(tmp_path))


def test_whatever_a_plugin_raises_costs_one_picture(tmp_path, monkeypatch, said):
    for name in ("a.png", "b.png"):
        put(tmp_path / name, 5)
    to_array = folder.images.to_array

    def fragile(picture, *args):
        if picture.filename.endswith("a.png"):
            raise TypeError("'float' object cannot be interpreted as an integer")
        return to_array(picture, *args)

    monkeypatch.setattr(folder.images, "to_array", fragile)
    assert len(folder.load(str(tmp_path)).arrays["real"]) == 1
    assert any("a.png" in line and "interpreted as an integer" in line for line in said())


def test_a_decompression_bomb_is_left_out(tmp_path, monkeypatch, said):
    put(tmp_path / "good.png", 1)
    put(tmp_path / "bomb.png", 0, size=(100, 100))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # Pillow refuses twice this
    assert len(folder.load(str(tmp_path)).arrays["real"]) == 1
    assert any("bomb.png" in line and "decompression bomb" in line for line in said())


def test_sizes_that_differ_need_image_size(tmp_path):
    put(tmp_path / "a.png", 1, size=(8, 9))
    put(tmp_path / "b.png", 2, size=(10, 7))
    with pytest.raises(DataError, match=r"8x9 and 10x7.*Set image_size"):
        folder.load(str(tmp_path))
    assert folder.load(str(tmp_path), image_size=4).arrays["real"].shape == (2, 4, 4, 3)


def test_links_are_followed_once(tmp_path):
    put(tmp_path / "in" / "sub" / "a.png", 1)
    put(tmp_path / "elsewhere" / "b.png", 2)
    (tmp_path / "in" / "other").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "in" / "sub" / "round").symlink_to(tmp_path / "in")
    (tmp_path / "in" / "again").symlink_to(tmp_path / "in" / "sub")
    files = folder.list_pictures(tmp_path / "in")
    assert len(files) == 2 and values(folder.load(str(tmp_path / "in"))) in ([1, 2], [2, 1])


def test_a_sub_folder_that_cannot_be_listed_is_named(tmp_path, monkeypatch, said):
    put(tmp_path / "open" / "a.png")
    put(tmp_path / "locked" / "b.png")
    scandir = os.scandir

    def guarded(path):
        if os.fspath(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    assert [file.name for file in folder.list_pictures(tmp_path)] == ["a.png"]
    assert any("locked" in line and "Permission denied" in line for line in said())


def test_no_path_no_folder_no_picture(tmp_path):
    with pytest.raises(ConfigError, match=r"--config\.data\.path="):
        data.load("folder")
    with pytest.raises(DataError, match=r"nowhere: no such folder"):
        folder.load(str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match=r"no such folder"):
        folder.load(str(put(tmp_path / "single.png")))
    (tmp_path / "single.png").rename(tmp_path / "single.txt")
    with pytest.raises(DataError, match=r"no pictures in this folder"):
        folder.load(str(tmp_path))


class TestKept:
    """Folders of many pictures are decoded once."""

    @pytest.fixture
    def root(self, tmp_path, monkeypatch):
        monkeypatch.setattr(cache, "THRESHOLD", 3)
        for value in range(5):
            put(tmp_path / "in" / f"{value % 2}" / f"{value}.png", 10 * value)
        return tmp_path / "in"

    @pytest.fixture
    def decodings(self, monkeypatch):
        """How often the folder has been decoded."""
        calls, decode_all = [], folder.images.decode_all
        monkeypatch.setattr(folder.images, "decode_all", lambda *args: calls.append(args) or decode_all(*args))
        return calls

    def test_once_and_beside_the_data_sets(self, root, tmp_path, decodings, said):
        (root / "0" / "0.png").write_bytes(b"damaged")
        first = folder.load(str(root), data_dir=str(tmp_path / "kept"))
        second = folder.load(str(root), data_dir=str(tmp_path / "kept"))
        assert len(decodings) == 1
        np.testing.assert_array_equal(first.arrays["real"], second.arrays["real"])
        np.testing.assert_array_equal(first.arrays["label"], second.arrays["label"])
        assert len(list((tmp_path / "kept" / "jaxgan_arrays" / "folder").iterdir())) == 1
        assert said().count(f"{root}: 1 of 5 pictures cannot be read and are left out") == 2

    @pytest.mark.parametrize(
        "change", ["rewritten", "touched", "added", "removed", "renamed", "size", "channels", "moved"]
    )
    def test_anew_after_any_change(self, change, root, tmp_path, decodings):
        folder.load(str(root))
        options, file = {}, root / "0" / "4.png"
        if change == "rewritten":
            put(file, 99, size=(8, 8))
        elif change == "touched":
            os.utime(file, ns=(1, 1))
        elif change == "added":
            put(root / "0" / "5.png", 50)
        elif change == "removed":
            file.unlink()
        elif change == "renamed":
            file.rename(root / "0" / "A.png")
        elif change == "moved":
            shutil.copytree(root, tmp_path / "new")
            root = tmp_path / "new"
        else:
            options = {"image_size": 4} if change == "size" else {"channels": 1}
        folder.load(str(root), **options)
        assert len(decodings) == 2

    def test_names_that_are_no_text_and_links_to_nowhere(self, root, decodings):
        os.rename(os.fsencode(root / "1" / "3.png"), os.fsencode(root / "1") + b"/\xff.png")
        (root / "1" / "gone.png").symlink_to(root / "nowhere.png")
        assert len(folder.load(str(root)).arrays["real"]) == 5
