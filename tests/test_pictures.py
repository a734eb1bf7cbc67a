"""Pictures pixel by pixel."""

import numpy as np
import pytest
from PIL import Image

from jaxgan import pictures


def test_to_uint8_by_hand():
    x = np.array([-1.0, 0.0, 1.0, -5.0, 5.0, -np.inf, np.inf, -0.5, 0.5])
    assert pictures.to_uint8(x).tolist() == [0, 128, 255, 0, 255, 0, 255, 64, 191]
    assert pictures.to_uint8(x).dtype == np.uint8


def test_pictures_survive_the_way_through_the_network_s_range():
    values = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(pictures.to_uint8(values.astype(np.float32) / 127.5 - 1.0), values)


def pixels_by_hand(images, columns, margin=2, factor=1):
    n, height, width, channels = images.shape
    rows = (n + columns - 1) // columns
    sheet = np.full((rows * (height + margin) + margin, columns * (width + margin) + margin, channels), 128, np.uint8)
    for i in range(rows * columns):
        top, left = margin + i // columns * (height + margin), margin + i % columns * (width + margin)
        sheet[top : top + height, left : left + width] = images[i] if i < n else 0
    return sheet.repeat(factor, axis=0).repeat(factor, axis=1)


@pytest.mark.parametrize(
    "shape, columns, factor",
    [
        ((6, 56, 56, 1), 3, 1),
        ((5, 60, 64, 3), 2, 1),  # the last place stays black
        ((4, 28, 28, 1), 4, 2),
        ((3, 8, 16, 3), 2, 7),
        ((1, 30, 90, 1), 5, 1),
    ],
)
def test_grid_pixel_by_pixel(shape, columns, factor):
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    image = pictures.grid(images, columns)
    expected = pixels_by_hand(images, columns, factor=factor)
    assert image.mode == ("L" if shape[-1] == 1 else "RGB")
    np.testing.assert_array_equal(np.asarray(image).reshape(expected.shape), expected)


def test_a_plane_shows_samples_where_they_are():
    """Samples red, paths blue, in the corners of the plane that they are in."""
    real = np.array([[-1.0, -1.0], [1.0, 1.0], [-1.0, 1.0], [1.0, -1.0]])
    fake = np.random.default_rng(0).normal([-0.6, -0.6], 0.03, (200, 2))
    lines = np.array([[[-0.9, 0.7], [-0.3, 0.7]]])
    plane = pictures.Plane(real)
    plane.draw(-fake)  # leaves nothing behind
    image = np.asarray(plane.draw(fake, lines)).astype(int)
    assert image.shape == (500, 500, 3)
    red = (image[..., 0] > 180) & (image[..., 1:].max(axis=-1) < 120)
    blue = (image[..., 2] > 150) & (image[..., 0] < 100)
    for where, side in ((red[:, :250], np.s_[250:]), (blue[:, :250], np.s_[:250])):
        assert where[side].sum() > 50  # the left half; rows count from the top
        assert where.sum() == where[side].sum()


def test_save_png_round_trip(tmp_path):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8))
    pictures.save_png(image, tmp_path / "a.png")
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "a.png")), np.asarray(image))
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


class Full(Image.Image):
    """A picture whose saving fails half way."""

    def save(self, file, **_):
        file.write(b"half")
        raise OSError("no space left on device")


def test_a_failed_png_leaves_the_old_one_and_no_scratch(tmp_path):
    (tmp_path / "a.png").write_bytes(b"old")
    with pytest.raises(OSError, match="no space"):
        pictures.save_png(Full(), tmp_path / "a.png")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a.png", b"old")]


def test_a_copy_is_whole_or_not_there(tmp_path):
    (tmp_path / "a.png").write_bytes(b"one")
    pictures.copy(tmp_path / "a.png", tmp_path / "b.png")
    with pytest.raises(FileNotFoundError):
        pictures.copy(tmp_path / "missing.png", tmp_path / "b.png")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a.png": b"one", "b.png": b"one"}


def frames(folder, n):
    for i in range(n):
        Image.fromarray(np.full((8, 8), i * 2, np.uint8)).save(folder / f"frame_{i:03}.png")
    return sorted(folder.glob("frame_*.png"))


@pytest.mark.parametrize("n, count", [(1, 1), (2, 2), (5, 5), (60, 60), (61, 60), (100, 60)])
def test_gif_frames(tmp_path, n, count):
    pictures.save_gif(frames(tmp_path, n), tmp_path / "a.gif")
    values, durations = [], []
    with Image.open(tmp_path / "a.gif") as gif:
        for i in range(gif.n_frames):
            gif.seek(i)
            values.append(gif.convert("L").getpixel((4, 4)))
            durations.append(gif.info.get("duration"))
    assert len(values) == count
    assert values[0] == 0 and values[-1] == 2 * (n - 1)
    assert values == sorted(set(values))
    if count > 1:
        assert durations[-1] == 2000
        assert max(durations[:-1]) <= 8000 / count + 10 and min(durations[:-1]) >= 40
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_failed_gif_leaves_no_scratch(tmp_path, monkeypatch):
    chosen = frames(tmp_path, 3)

    def save(self, file, **_):
        file.write(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(Image.Image, "save", save)
    with pytest.raises(OSError, match="no space"):
        pictures.save_gif(chosen, tmp_path / "a.gif")
    assert sorted(tmp_path.iterdir()) == chosen
