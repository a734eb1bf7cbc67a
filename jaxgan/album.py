"""The pictures of a run: fixed latents while it trains; at the end the last grid, an interpolation and an animation."""

import jax
import numpy as np
from PIL import Image

from jaxgan import distributed, pictures
from jaxgan.data import Dataset
from jaxgan.sampling import Generator
from jaxgan.state import TrainState
from jaxgan.workdir import Workdir
from jaxgan.writers import TensorBoard

_POINTS_SHOWN = 2000


class Album:
    """Writes a run's pictures into its samples/ folder; of several processes, which all draw, the first one writes.

    Pictures become grids, of a conditional generator with a class a row; points in the plane become a scatter plot over
    data points.

    Args:
        generator: draws the samples.
        dataset: gives the kind of data, and points to draw over.
        workdir: of the run.
        tensorboard: gets the grids too.
        key: of the fixed latents.
        rows, columns: of the grid.
        plane: `plane_of(dataset)`, where several albums share it.
    """

    def __init__(
        self,
        generator: Generator,
        dataset: Dataset,
        workdir: Workdir,
        tensorboard: TensorBoard,
        key: jax.Array,
        rows: int,
        columns: int,
        plane: pictures.Plane | None = None,
    ):
        self._generator, self._folder, self._tensorboard = generator, workdir.samples, tensorboard
        self._key_fixed, self._key_between = jax.random.split(key)
        self._rows, self._columns = rows, columns
        self._labels = rows_of_labels(len(dataset.label_names), rows) if generator.is_conditional else None
        self._plane = plane or plane_of(dataset)

    def add(self, state: TrainState, step: int) -> None:
        """Saves what the raw and the averaged generator make of the fixed latents now."""
        for kind in ("raw", "ema"):
            samples = self._fixed(state, ema=kind == "ema")
            if not distributed.is_main():
                continue
            image = draw_samples(samples, self._columns, self._plane)
            pictures.save_png(image, self._folder / f"step_{step:09}_{kind}.png")
            self._tensorboard.picture(f"samples_{kind}", image, step)

    def finish(self, state: TrainState, step: int) -> None:
        """Saves final.png, interpolation.png and training.gif, once the pictures of this step, the last, are there."""
        rows = self._rows if self._labels is None else len(self._labels)
        between = self._generator.between(state, self._key_between, rows, 2 * self._columns, self._labels)
        if not distributed.is_main():
            return
        pictures.copy(self._folder / f"step_{step:09}_ema.png", self._folder / "final.png")
        pictures.save_png(draw_paths(between, self._plane), self._folder / "interpolation.png")
        frames = sorted(self._folder.glob("step_*_ema.png"))
        if frames:
            pictures.save_gif(frames, self._folder / "training.gif")

    def _fixed(self, state: TrainState, *, ema: bool) -> np.ndarray:
        if self._labels is None:
            return self._generator.samples(state, self._key_fixed, self._rows * self._columns, ema=ema)
        return self._generator.classes(state, self._key_fixed, self._labels, self._columns, ema=ema)


def plane_of(dataset: Dataset) -> pictures.Plane | None:
    """What samples are drawn over where the data are points; None of pictures."""
    real = dataset.arrays["real"]
    return pictures.Plane(real[:_POINTS_SHOWN]) if real.ndim == 2 else None


def rows_of_labels(classes: int, rows: int) -> np.ndarray:
    """The labels of a grid's rows: all of them, or `rows` of them, evenly spaced."""
    return np.arange(classes) if classes <= rows else np.linspace(0, classes - 1, rows).round().astype(int)


def draw_samples(samples: np.ndarray, columns: int, plane: pictures.Plane | None = None) -> Image.Image:
    """A grid of pictures [N, H, W, C] in [-1, 1], or points [N, 2] over those of the plane, if there is one."""
    if samples.ndim == 4:
        return pictures.grid(pictures.to_uint8(samples), columns)
    return (plane or pictures.Plane(samples)).draw(samples)


def draw_paths(paths: np.ndarray, plane: pictures.Plane | None = None) -> Image.Image:
    """Interpolations [rows, columns, ...]: a strip a row, or lines in the plane."""
    flat = paths.reshape(-1, *paths.shape[2:])
    if paths.ndim == 5:
        return pictures.grid(pictures.to_uint8(flat), paths.shape[1])
    return (plane or pictures.Plane(flat)).draw(paths[:, [0, -1]].reshape(-1, 2), paths)
