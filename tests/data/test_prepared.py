"""TFDS directories of every kind: readable, or refused with what to do."""

import importlib.util
import io
import json
import shutil

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from jaxgan import data
from jaxgan.data import cache, prepared
from jaxgan.errors import ConfigError, DataError

RNG = np.random.default_rng(0)
PICTURES = RNG.integers(0, 256, (20, 6, 8, 3), np.uint8)


def make_builder(data_dir, label=None, image=True):
    """A builder of a small set, made like anybody's; `label` is the feature that goes by that name."""
    features = {"number": tfds.features.Scalar(dtype=np.int64)}
    if image:
        features["image"] = tfds.features.Image(shape=(None, None, 3), encoding_format="png")
    if label is not None:
        features["label"] = label

    class Tiny(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.2.3")

        def _info(self):
            return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples(), "test": self._generate_examples()}

        def _generate_examples(self):
            for i, picture in enumerate(PICTURES):
                png = io.BytesIO()
                Image.fromarray(picture).save(png, "PNG")
                png.seek(0)
                example = {"number": i, "image": png, "label": i % 2}
                yield i, {name: example[name] for name in features}

    return Tiny(data_dir=str(data_dir))


def by_number(pictures):
    return sorted(picture.tobytes() for picture in pictures)


def test_colour_without_labels(tmp_path):
    tiny = prepared.load(make_builder(tmp_path), split="train")
    assert set(tiny.arrays) == {"real"} and tiny.label_names == ()
    assert by_number(tiny.arrays["real"]) == by_number(PICTURES)


def test_a_label_that_is_no_class_is_no_label(tmp_path):
    tiny = prepared.load(make_builder(tmp_path, label=tfds.features.Scalar(dtype=np.int64)), split="train")
    assert set(tiny.arrays) == {"real"}


def test_labels_belong_to_their_pictures(tmp_path):
    tiny = prepared.load(make_builder(tmp_path, label=tfds.features.ClassLabel(names=["even", "odd"])), split="test")
    assert tiny.label_names == ("even", "odd")
    number = {picture.tobytes(): i for i, picture in enumerate(PICTURES)}
    for picture, label in zip(tiny.arrays["real"], tiny.arrays["label"], strict=True):
        assert label == number[picture.tobytes()] % 2


def test_a_set_of_somebody_else_is_read_by_its_name(tmp_path):
    """Prepared elsewhere, by code that is not here; and the name is the one it was asked for by."""
    prepared.prepare(make_builder(tmp_path))
    for name in ("tiny", "tiny:1.2.3"):
        tiny = data.load(name, data_dir=str(tmp_path))
        assert tiny.name == name and by_number(tiny.arrays["real"]) == by_number(PICTURES)


def test_size_and_channels(tmp_path):
    tiny = prepared.load(make_builder(tmp_path), split="train", image_size=6)
    assert by_number(tiny.arrays["real"]) == by_number(PICTURES[:, :, 1:7])
    assert prepared.load(make_builder(tmp_path), split="train", channels=1).arrays["real"].shape == (20, 6, 8, 1)


def test_splits(mnist5k_dir):
    def labels(split):
        return data.load("mnist5k", split=split, data_dir=str(mnist5k_dir)).arrays["label"].tolist()

    whole = labels("train")
    assert labels("train[:10%]") == whole[:500]
    assert labels("train[-7:]") == whole[-7:]
    assert labels("train[10:20]+train[:5]") == whole[10:20] + whole[:5]


@pytest.mark.parametrize(
    "split", ["tran", "test", "", "train[", "train[:200%]", "train[a:b]", "train[:0]", "train[9:3]"]
)
def test_splits_that_are_none(split, mnist5k_dir):
    with pytest.raises(ConfigError, match=r"mnist5k cannot give the split '.*It has train and slices"):
        data.load("mnist5k", split=split, data_dir=str(mnist5k_dir))


def test_large_sets_are_kept_decoded(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "THRESHOLD", 10)
    first = prepared.load(make_builder(tmp_path), split="train")
    keys = [file.parent.name for file in (tmp_path / "jaxgan_arrays" / "tiny" / "1.2.3").rglob("real.npy")]
    assert len(keys) == 1 and keys[0].startswith("train-own-3-")

    def not_again(*args):
        raise AssertionError("decoded twice")

    with monkeypatch.context() as patched:
        patched.setattr(prepared.images, "decode_all", not_again)
        second = prepared.load(make_builder(tmp_path), split="train")
        np.testing.assert_array_equal(first.arrays["real"], second.arrays["real"])
        for other in ({"split": "test"}, {"image_size": 4}, {"channels": 1}, {"split": "train[:15]"}):
            with pytest.raises(AssertionError, match="decoded twice"):
                prepared.load(make_builder(tmp_path), **{"split": "train", **other})


@pytest.mark.parametrize("threshold", [10, 10_000])
def test_a_streamed_set_holds_the_same_examples_and_keeps_its_labels_alone(threshold, tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "THRESHOLD", threshold)
    builder, options = make_builder(tmp_path, tfds.features.ClassLabel(names=["even", "odd"])), {"split": "train[3:]"}
    streamed = prepared.load(builder, **options, stream_above=0)
    kept = [file.name for file in (tmp_path / "jaxgan_arrays").rglob("*.npy")]
    assert kept == (["label.npy"] if threshold < 17 else [])
    resident = prepared.load(builder, **options)
    assert streamed.is_streamed and not resident.is_streamed
    assert streamed.arrays["real"].shape == (17, 6, 8, 3) and streamed.label_names == resident.label_names
    for name, array in resident.arrays.items():
        np.testing.assert_array_equal(streamed.arrays[name][:], array)
        assert streamed.arrays[name].dtype == array.dtype
    assert streamed.checksum() == prepared.load(builder, **options, stream_above=0).checksum()
    assert streamed.checksum() != prepared.load(builder, split="train", stream_above=0).checksum()


def test_a_set_is_streamed_where_its_pictures_take_more_than_the_limit(tmp_path):
    builder = make_builder(tmp_path)
    for options, size in (({}, 20 * 6 * 8 * 3), ({"image_size": 4, "channels": 1}, 20 * 4 * 4)):
        for limit in (size, size - 1):
            found = prepared.load(builder, split="train", **options, stream_above=limit)
            assert found.is_streamed == (limit < size)


def test_a_set_that_was_prepared_anew_is_decoded_anew(tmp_path, monkeypatch):
    """As when its folder was removed because the pictures behind it had changed, under the same version."""
    monkeypatch.setattr(cache, "THRESHOLD", 10)
    builder = make_builder(tmp_path)
    prepared.load(builder, split="train")
    shutil.rmtree(builder.data_path)
    other = 255 - PICTURES
    monkeypatch.setitem(globals(), "PICTURES", other)
    assert by_number(prepared.load(make_builder(tmp_path), split="train").arrays["real"]) == by_number(other)


def test_a_builder_that_comes_late_reads_what_another_prepared(tmp_path):
    early, late = make_builder(tmp_path), make_builder(tmp_path)
    prepared.prepare(early)
    assert len(prepared.load(late, split="train").arrays["real"]) == 20
    # Begun before the other had ended: its rename finds the place taken.
    early, late = make_builder(tmp_path / "b"), make_builder(tmp_path / "b")
    splits = late._split_generators

    def overtaken(dl_manager):
        prepared.prepare(early)
        return splits(dl_manager)

    late._split_generators = overtaken
    assert len(prepared.load(late, split="train").arrays["real"]) == 20
    assert [path.name for path in (tmp_path / "b" / "tiny").iterdir()] == ["1.2.3"]


def test_a_set_prepared_as_tfrecord(mnist5k_copy):
    data_dir, folder = mnist5k_copy
    info = json.loads((folder / "dataset_info.json").read_text())
    assert info["fileFormat"] == "array_record"
    (folder / "dataset_info.json").write_text(json.dumps({**info, "fileFormat": "tfrecord"}))
    with pytest.raises(DataError, match="as tfrecord, which cannot be read") as error:
        data.load("mnist5k", data_dir=str(data_dir))
    assert str(folder) in str(error.value) and "config.data.data_dir" in str(error.value)


@pytest.mark.parametrize("damage", ["cut", "overwritten", "missing"])
def test_a_damaged_set_is_named(damage, mnist5k_copy):
    data_dir, folder = mnist5k_copy
    (file,) = folder.glob("*.array_record*")
    blob = file.read_bytes()
    if damage == "missing":
        file.unlink()
    else:
        half = len(blob) // 2
        file.write_bytes(blob[:half] + (b"" if damage == "cut" else bytes(2000) + blob[half + 2000 :]))
    with pytest.raises(DataError, match=r"is damaged: .* Remove that folder") as error:
        data.load("mnist5k", data_dir=str(data_dir))
    assert str(folder) in str(error.value)


@pytest.mark.parametrize("name", ["mnist5k", "mnist", "cifar10"])
def test_a_folder_that_cannot_be_written(name, unwritable):
    with pytest.raises(DataError, match=f"{name} cannot be prepared in .*Not a directory"):
        data.load(name, data_dir=str(unwritable))


def test_what_a_download_raises_names_the_files_and_the_folder_for_them(tmp_path, monkeypatch):
    builder = tfds.builder("celeb_a", data_dir=str(tmp_path))

    def quota(**kwargs):
        raise RuntimeError("quota exceeded")

    monkeypatch.setattr(builder, "download_and_prepare", quota)
    with pytest.raises(DataError, match=r"celeb_a cannot be prepared in .*: quota exceeded") as error:
        prepared.load(builder, split="train")
    assert "img_align_celeba.zip" in str(error.value) and str(tmp_path / "downloads" / "manual") in str(error.value)


@pytest.fixture
def no_tensorflow(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "tensorflow" else find(name, *rest)
    )


def test_a_set_that_needs_tensorflow_comes_with_the_command(tmp_path, no_tensorflow):
    with pytest.raises(DataError) as error:
        data.load("celeb_a", data_dir=str(tmp_path))
    lines = [line.strip() for line in str(error.value).splitlines()]
    assert lines[0].startswith(f"celeb_a is not in {tmp_path / 'celeb_a' / '2.1.0'}")
    assert lines[1].startswith("pip install 'jaxgan[tfds]'")
    assert lines[2] == (
        'python -c "import tensorflow_datasets as tfds; '
        f"tfds.builder('celeb_a', data_dir='{tmp_path}').download_and_prepare(file_format='array_record')\""
    )
    compile(lines[2].split('"')[1], "the command", "exec")


def test_sets_without_pictures(tmp_path):
    with pytest.raises(DataError, match="imdb_reviews has no pictures: its features are text, label"):
        data.load("imdb_reviews", data_dir=str(tmp_path))
    with pytest.raises(DataError, match="tiny has no pictures: its features are number"):
        prepared.load(make_builder(tmp_path, image=False), split="train")


def test_unknown_versions_and_configurations(tmp_path):
    with pytest.raises(ConfigError, match=r"at version 9\.9\.9, only: 2\.1\.0"):
        data.load("celeb_a:9.9.9", data_dir=str(tmp_path))
    with pytest.raises(ConfigError, match=r"Close to it: .*cycle_gan/monet2photo"):
        data.load("cycle_gan/monet", data_dir=str(tmp_path))


def test_packages_that_a_set_needs_to_be_opened(tmp_path, monkeypatch, capsys):
    def missing(name, data_dir):
        print("*** Failed to import TensorFlow ***")
        raise ModuleNotFoundError("No module named 'tensorflow'")

    monkeypatch.setattr(tfds, "builder", missing)
    with pytest.raises(DataError, match=r"cannot open nsynth .* No module named 'tensorflow'"):
        data.load("nsynth", data_dir=str(tmp_path))
    assert capsys.readouterr().out == ""
