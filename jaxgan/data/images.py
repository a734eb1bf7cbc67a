"""From encoded pictures of any kind to one uint8 array: orientation, colour, crop, resize, and many at once."""

import contextlib
import math
import os
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from absl import logging
from PIL import Image, ImageOps

from jaxgan.errors import DataError

GREY_MODES = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N", "F")
CHUNK = 256
SECONDS_BETWEEN_LINES = 10.0


def to_array(picture: Image.Image, image_size: int | None, channels: int) -> np.ndarray:
    """One picture as uint8 `[H, W, channels]`.

    The EXIF orientation is applied; of an animation the first frame is taken; transparent parts are laid over
    white; 16-bit grey keeps its upper eight bits' range (0..65535 to 0..255); CMYK and the rest are converted as
    Pillow does. With `image_size`, the largest centred square is cut out and resized with Lanczos filtering,
    which averages when it shrinks; for CelebA this is the plain square crop of the aligned pictures.

    Args:
        picture: an open Pillow picture.
        image_size: side of the result, or None for the picture's own size.
        channels: 1 for grey, 3 for RGB.

    Raises:
        ValueError: the pixels are floating-point or wider than 16 bits, whose range nothing states.
        Exception: whatever Pillow raises for a file that it cannot read.
    """
    if image_size is not None:
        # A JPEG's decoder can halve its size while decoding: 4x is left for the filter, the rest is for free.
        picture.draft(picture.mode, (4 * image_size, 4 * image_size))
    picture = ImageOps.exif_transpose(picture)
    picture = _over_white(_eight_bits(picture)).convert("L" if channels == 1 else "RGB")
    if image_size is not None:
        picture = _square(picture, image_size)
    return np.asarray(picture, dtype=np.uint8).reshape(picture.height, picture.width, channels)


def _eight_bits(picture: Image.Image) -> Image.Image:
    if picture.mode == "F":
        raise ValueError("floating-point pixels, whose range the file does not state")
    if not picture.mode.startswith("I"):
        return picture
    pixels = np.asarray(picture).astype(np.int64)
    if pixels.min() < 0 or pixels.max() > 65535:
        raise ValueError("pixels wider than 16 bits")
    return Image.fromarray((pixels / 257 + 0.5).astype(np.uint8))


def _over_white(picture: Image.Image) -> Image.Image:
    if not picture.has_transparency_data:
        return picture
    picture = picture.convert("RGBA")
    white = Image.new("RGBA", picture.size, "white")
    return Image.alpha_composite(white, picture)


def _square(picture: Image.Image, size: int) -> Image.Image:
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    # Cropped first: resize's own `box` lets the filter see what lies around it.
    picture = picture.crop((left, top, left + side, top + side))
    return picture.resize((size, size), Image.Resampling.LANCZOS)


def decode_all(
    decode: Callable[[range], Iterable[tuple[np.ndarray | None, int]]], count: int, what: str
) -> tuple[np.ndarray, np.ndarray]:
    """Decodes `count` pictures in threads, in order, with a line now and then about how far it has come.

    Args:
        decode: gives `(picture [H, W, C] or None, label)` for each index of a range; None leaves it out.
        count: how many there are.
        what: what to call them in messages.

    Returns:
        uint8 `[N, H, W, C]` and int64 `[N]`, N being `count` less those left out.

    Raises:
        DataError: the pictures differ in size, do not fit into memory, or none is left.
    """
    pictures, labels, filled = None, np.zeros(count, np.int64), 0
    progress = _Progress(count, what)
    with threads() as pool:
        chunks = [range(start, min(start + CHUNK, count)) for start in range(0, count, CHUNK)]
        for chunk, decoded in zip(chunks, pool.map(lambda chunk: list(decode(chunk)), chunks), strict=True):
            for picture, label in decoded:
                if picture is None:
                    continue
                if pictures is None:
                    pictures = _room_for(count, picture.shape, what)
                if picture.shape != pictures.shape[1:]:
                    raise DataError(differ(what, pictures.shape[1:], picture.shape))
                pictures[filled], labels[filled] = picture, label
                filled += 1
            progress(chunk.stop)
    if pictures is None:
        raise DataError(f"{what}: no picture that can be read.")
    return pictures[:filled], labels[:filled]


@contextlib.contextmanager
def threads():
    """A pool of as many threads as there are cores."""
    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        yield pool
    finally:
        # After an error nobody waits for the pictures that are still queued.
        pool.shutdown(cancel_futures=True)


def _room_for(count: int, shape: tuple[int, ...], what: str) -> np.ndarray:
    needed = count * math.prod(shape)
    if needed > 0.8 * _physical_memory():
        raise DataError(
            f"{what}: {count:,} pictures of {shape} need {needed / 2**30:.1f} GiB, this machine has "
            f"{_physical_memory() / 2**30:.1f} GiB. Choose a smaller image_size, or a part of the split, "
            'such as "train[:10%]".'
        )
    return np.empty((count, *shape), np.uint8)


def _physical_memory() -> float:
    if not hasattr(os, "sysconf"):  # Windows: nothing to ask without another package
        return math.inf
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def differ(what: str, one: tuple[int, ...], other: tuple[int, ...]) -> str:
    """The message about pictures of two shapes [H, W, C]."""
    sizes = " and ".join(f"{height}x{width}" for height, width, _ in (one, other))
    return f"{what}: the pictures differ in size ({sizes}). Set image_size, so that they are cropped and resized."


class _Progress:
    """Logs rate and time left, at most every `SECONDS_BETWEEN_LINES`."""

    def __init__(self, count: int, what: str):
        self.count, self.what = count, what
        self.start = self.last = time.monotonic()

    def __call__(self, done: int):
        now = time.monotonic()
        if now - self.last < SECONDS_BETWEEN_LINES:
            return
        self.last = now
        rate = done / (now - self.start)
        left = (self.count - done) / rate
        logging.info("%s: decoded %d of %d, %.0f a second, %.0f s left", self.what, done, self.count, rate, left)
