"""Pictures of samples: grids, strips, scatter plots, an animation. Arrays in, PNG and GIF files out."""

import functools
import pathlib
import shutil
from collections.abc import Sequence

import numpy as np
from PIL import Image

from jaxgan.files import written_whole

_MARGIN = 2  # pixels between the pictures of a grid
_SMALLEST_SIDE = 56  # smaller pictures are enlarged by a whole factor, so that a grid of 28x28 digits can be read


def to_uint8(x: np.ndarray) -> np.ndarray:
    """[-1, 1] to 0..255: x * 127.5 + 128, clipped, truncated (StyleGAN's quantisation)."""
    return np.clip(np.asarray(x, np.float32) * 127.5 + 128, 0, 255).astype(np.uint8)


def grid(pictures: np.ndarray, columns: int) -> Image.Image:
    """Lays uint8 pictures [N, H, W, 1 or 3] out row by row."""
    n, height, width, channels = pictures.shape
    factor = max(1, _SMALLEST_SIDE // min(height, width))
    rows = -(-n // columns)
    pictures = np.concatenate([pictures, np.zeros((rows * columns - n, height, width, channels), np.uint8)])
    pad = ((0, 0), (_MARGIN, 0), (_MARGIN, 0), (0, 0))
    height, width = height + _MARGIN, width + _MARGIN
    cells = np.pad(pictures, pad, constant_values=128).reshape(rows, columns, height, width, channels)
    sheet = cells.transpose(0, 2, 1, 3, 4).reshape(rows * height, columns * width, channels)
    sheet = np.pad(sheet, ((0, _MARGIN), (0, _MARGIN), (0, 0)), constant_values=128)
    image = Image.fromarray(sheet[..., 0] if channels == 1 else sheet)
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)


class Plane:
    """Data points [M, 2], drawn once, over which samples are drawn again and again; the view is the data's."""

    def __init__(self, real: np.ndarray):
        self._real = real

    def draw(self, fake: np.ndarray, lines: np.ndarray | None = None) -> Image.Image:
        """Samples [N, 2] over the data; `lines` [L, T, 2] are drawn as paths."""
        return self._sheet.draw(fake, lines)

    @functools.cached_property
    def _sheet(self) -> "_Sheet":
        return _Sheet(self._real)


class _Sheet:
    """What a plane draws on, laid out when it first does."""

    def __init__(self, real: np.ndarray):
        from matplotlib.backends.backend_agg import FigureCanvasAgg  # slow to import, and only points need it
        from matplotlib.collections import LineCollection
        from matplotlib.figure import Figure

        figure = Figure(figsize=(5, 5), dpi=100)
        self._canvas = FigureCanvasAgg(figure)
        self._axes = figure.add_axes((0.09, 0.06, 0.89, 0.92), aspect="equal")
        self._axes.scatter(*real.T, s=4, c="0.75", linewidths=0, label="data")
        self._samples = self._axes.scatter([], [], s=4, c="tab:red", alpha=0.5, linewidths=0, label="samples")
        self._lines = self._axes.add_collection(LineCollection([], colors="tab:blue", linewidths=0.8))
        low, high = real.min(axis=0), real.max(axis=0)
        margin = 0.15 * (high - low).max()
        self._axes.set(xlim=(low[0] - margin, high[0] + margin), ylim=(low[1] - margin, high[1] + margin))
        self._legend = self._axes.legend(loc="upper right", fontsize=7, markerscale=3)
        self._canvas.draw()
        self._data = self._canvas.copy_from_bbox(figure.bbox)

    def draw(self, fake: np.ndarray, lines: np.ndarray | None = None) -> Image.Image:
        """See `Plane.draw`."""
        self._canvas.restore_region(self._data)
        self._samples.set_offsets(fake)
        self._lines.set_segments([] if lines is None else lines)
        for artist in (self._samples, self._lines, self._legend):
            self._axes.draw_artist(artist)
        return Image.fromarray(np.asarray(self._canvas.buffer_rgba())).convert("RGB")


def save_png(image: Image.Image, file: pathlib.Path) -> None:
    """Writes a PNG whole or not at all."""
    with written_whole(file) as part:
        image.save(part, format="PNG")


def copy(source: pathlib.Path, file: pathlib.Path) -> None:
    """Writes a file that is equal to another one, whole or not at all."""
    with source.open("rb") as given, written_whole(file) as part:
        shutil.copyfileobj(given, part)


def save_gif(frames: Sequence[pathlib.Path], file: pathlib.Path, *, most: int = 60, seconds: float = 8.0) -> None:
    """An animation of picture files, evenly thinned to `most`, that stays on the last frame for two seconds."""
    chosen = [frames[i] for i in np.unique(np.linspace(0, len(frames) - 1, min(most, len(frames))).astype(int))]
    images = []
    for frame in chosen:
        with Image.open(frame) as image:
            images.append(image.convert("P", palette=Image.Palette.ADAPTIVE))
    duration = [max(40, int(1000 * seconds / len(images)))] * (len(images) - 1) + [2000]
    with written_whole(file) as part:
        images[0].save(part, format="GIF", save_all=True, append_images=images[1:], duration=duration, loop=0)
