"""Pictures of every kind, against what NumPy says they should become."""

import io

import numpy as np
import pytest
from PIL import Image

from jaxgan.data import images
from jaxgan.errors import DataError

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (6, 9, 3), np.uint8)
GREY = RNG.integers(0, 256, (6, 9), np.uint8)


def reopened(picture, kind="PNG", **options):
    """As it comes from a file."""
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return Image.open(io.BytesIO(file.getvalue()))


def luma(rgb):
    """ITU-R 601-2, which Pillow documents for its conversion to grey."""
    return rgb.astype(np.float64) @ [0.299, 0.587, 0.114]


def test_colour_stays_colour():
    np.testing.assert_array_equal(images.to_array(reopened(Image.fromarray(RGB)), None, 3), RGB)


def test_colour_to_grey():
    out = images.to_array(reopened(Image.fromarray(RGB)), None, 1)
    assert out.shape == (6, 9, 1) and out.dtype == np.uint8
    np.testing.assert_allclose(out[..., 0], luma(RGB), atol=1)


def test_grey_to_either():
    np.testing.assert_array_equal(images.to_array(reopened(Image.fromarray(GREY)), None, 1)[..., 0], GREY)
    np.testing.assert_array_equal(images.to_array(reopened(Image.fromarray(GREY)), None, 3), np.stack([GREY] * 3, -1))


def test_one_bit():
    bits = GREY > 128
    out = images.to_array(reopened(Image.fromarray(bits)), None, 1)
    np.testing.assert_array_equal(out[..., 0], 255 * bits)


def test_sixteen_bits_keep_their_range():
    wide = RNG.integers(0, 65536, (6, 9), np.uint16)
    wide[0, :2] = 0, 65535
    expected = np.rint(wide / 65535 * 255)
    for kind in ("PNG", "TIFF"):
        np.testing.assert_array_equal(images.to_array(reopened(Image.fromarray(wide), kind), None, 1)[..., 0], expected)


@pytest.mark.parametrize(
    "pixels", [GREY.astype(np.float32), GREY.astype(np.int32) - 1000, GREY.astype(np.int32) + 70000]
)
def test_ranges_that_nothing_states_are_refused(pixels):
    with pytest.raises(ValueError, match=r"floating-point|wider"):
        images.to_array(reopened(Image.fromarray(pixels), "TIFF"), None, 1)


@pytest.mark.parametrize("colour, alpha", [(RGB, GREY), (GREY, GREY[::-1])])
def test_transparent_parts_lie_over_white(colour, alpha):
    picture = Image.fromarray(np.concatenate([np.atleast_3d(colour), alpha[..., None]], -1))
    a = alpha[..., None] / 255
    expected = np.atleast_3d(colour) * a + 255 * (1 - a)
    channels = expected.shape[-1]
    np.testing.assert_allclose(images.to_array(reopened(picture), None, channels), expected, atol=1)


def test_palette_and_its_transparent_colour():
    picture = Image.new("P", (2, 1))
    picture.putpalette([10, 20, 30, 200, 0, 0])
    picture.putdata([0, 1])
    assert images.to_array(reopened(picture), None, 3).tolist() == [[[10, 20, 30], [200, 0, 0]]]
    assert images.to_array(reopened(picture, transparency=1), None, 3).tolist() == [[[10, 20, 30], [255, 255, 255]]]


def test_cmyk():
    cmyk = Image.new("CMYK", (16, 16), (255, 0, 255, 0))  # cyan and yellow ink: green
    green = images.to_array(reopened(cmyk, "JPEG", quality=95), None, 3).reshape(-1, 3).mean(0)
    np.testing.assert_allclose(green, [0, 255, 0], atol=3)


def test_an_animation_gives_its_first_frame():
    first, second = Image.new("RGB", (4, 4), "red"), Image.new("RGB", (4, 4), "blue")
    picture = reopened(first, "GIF", save_all=True, append_images=[second])
    assert picture.n_frames == 2
    assert (images.to_array(picture, None, 3) == [255, 0, 0]).all()


@pytest.mark.parametrize(
    "orientation, undone",
    [
        (1, lambda x: x),
        (2, lambda x: x[:, ::-1]),
        (3, lambda x: x[::-1, ::-1]),
        (4, lambda x: x[::-1]),
        (5, lambda x: x.transpose(1, 0, 2)),
        (6, lambda x: np.rot90(x, -1)),
        (7, lambda x: x[::-1, ::-1].transpose(1, 0, 2)),
        (8, np.rot90),
    ],
)
def test_exif_orientation_is_applied(orientation, undone):
    exif = Image.Exif()
    exif[0x0112] = orientation
    np.testing.assert_array_equal(images.to_array(reopened(Image.fromarray(RGB), exif=exif), None, 3), undone(RGB))


@pytest.mark.parametrize("height, width", [(8, 8), (8, 13), (13, 8), (9, 8)])
def test_the_centred_square_is_cut_out(height, width):
    pixels = RNG.integers(0, 256, (height, width, 3), np.uint8)
    top, left = (height - 8) // 2, (width - 8) // 2
    out = images.to_array(reopened(Image.fromarray(pixels)), 8, 3)
    np.testing.assert_array_equal(out, pixels[top : top + 8, left : left + 8])


def test_nothing_outside_the_square_leaks_in():
    pixels = np.zeros((32, 96), np.uint8)
    pixels[:, :32] = pixels[:, 64:] = 255
    assert images.to_array(reopened(Image.fromarray(pixels)), 8, 1).max() == 0


def test_a_checkerboard_shrinks_to_grey():
    board = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)
    out = images.to_array(reopened(Image.fromarray(board)), 8, 1).astype(float)
    np.testing.assert_allclose(out[1:-1, 1:-1], 127.5, atol=2)
    np.testing.assert_allclose(out, 127.5, atol=8)


def lanczos(line, size):
    """Resamples the last axis with a Lanczos window of three lobes, widened to shrink, normalised at the rim."""
    scale = line.shape[-1] / size
    widen = max(scale, 1)
    where = (np.arange(line.shape[-1]) + 0.5 - (np.arange(size)[:, None] + 0.5) * scale) / widen
    weights = np.where(np.abs(where) < 3, np.sinc(where) * np.sinc(where / 3), 0)
    return line @ (weights / weights.sum(1, keepdims=True)).T


@pytest.mark.parametrize("side, size", [(40, 16), (64, 8), (10, 24)])
def test_resizing_is_lanczos(side, size):
    smooth = 128 + 60 * np.sin(np.arange(side) / 3)[:, None] * np.cos(np.arange(side) / 4)
    pixels = np.rint(smooth).astype(np.uint8)
    expected = lanczos(lanczos(pixels.astype(float), size).T, size).T
    np.testing.assert_allclose(images.to_array(reopened(Image.fromarray(pixels)), size, 1)[..., 0], expected, atol=1.1)


def test_a_jpeg_decoded_small_looks_like_one_decoded_whole():
    pixels = np.kron(RNG.integers(0, 256, (64, 64, 3), np.uint8), np.ones((4, 4, 1), np.uint8))
    picture = reopened(Image.fromarray(pixels), "JPEG", quality=95)
    whole = images.to_array(picture.copy(), 32, 3).astype(float)  # a copy is decoded already
    small = images.to_array(reopened(Image.fromarray(pixels), "JPEG", quality=95), 32, 3)
    assert whole.std() > 20 and np.abs(small - whole).mean() < 2


def numbered(chunk):
    for i in chunk:
        yield np.full((2, 3, 1), i % 256, np.uint8), i


def test_decode_all_keeps_order():
    count = 3 * images.CHUNK + 5
    real, label = images.decode_all(numbered, count, "numbers")
    assert real.shape == (count, 2, 3, 1)
    np.testing.assert_array_equal(label, np.arange(count))
    np.testing.assert_array_equal(real[:, 0, 0, 0], np.arange(count) % 256)


def test_decode_all_leaves_out_what_is_none():
    def every_third(chunk):
        return ((picture if i % 3 == 0 else None, i) for picture, i in numbered(chunk))

    real, label = images.decode_all(every_third, 10, "numbers")
    assert label.tolist() == [0, 3, 6, 9] and real[:, 0, 0, 0].tolist() == [0, 3, 6, 9]
    with pytest.raises(DataError, match="numbers: no picture"):
        images.decode_all(lambda chunk: [(None, 0) for _ in chunk], 10, "numbers")


def test_decode_all_stops_at_an_error_of_a_thread():
    def broken(chunk):
        raise ZeroDivisionError(chunk)

    with pytest.raises(ZeroDivisionError):
        images.decode_all(broken, 10_000, "numbers")


def test_what_does_not_fit_into_memory_is_refused_beforehand(monkeypatch):
    monkeypatch.setattr(images, "_physical_memory", lambda: 1000.0)
    with pytest.raises(DataError, match=r"200 pictures of \(2, 3, 1\).*image_size"):
        images.decode_all(numbered, 200, "numbers")


def test_progress_tells_rate_and_time_left(monkeypatch, said):
    clock = iter(range(0, 1000, 8))
    monkeypatch.setattr(images.time, "monotonic", lambda: float(next(clock)))
    images.decode_all(numbered, 4 * images.CHUNK, "numbers")
    assert said() == [
        "numbers: decoded 512 of 1024, 32 a second, 16 s left",
        "numbers: decoded 1024 of 1024, 32 a second, 0 s left",
    ]
