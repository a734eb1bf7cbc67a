"""Are samples copies? Each beside the training pictures that are nearest to it."""

import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from absl import logging
from PIL import Image, ImageDraw

from jaxgan import build, pictures
from jaxgan.data.cache import default_data_dir
from jaxgan.errors import DataError
from jaxgan.evaluation import choose_features
from jaxgan.explore.opened import check_range, open_run
from jaxgan.metrics.features import load_features
from jaxgan.metrics.neighbours import nearest
from jaxgan.reference import extract_set, make_reference
from jaxgan.sampling import Generator

_CAPTION = 12  # pixels below a picture
_SMALLEST_SIDE = 56  # of a picture with a caption


def neighbours(
    workdir: str, *, checkpoint: str = "last", seed: int = 0, num_samples: int = 500, rows: int = 10, k: int = 5
) -> pathlib.Path:
    """Samples beside the training pictures nearest to them, in the features that an evaluation of the run uses.

    Logs the share of samples nearer to a training picture than that picture's own nearest other training picture, see
    `nearness`, and for comparison that of real pictures, held against the rest of the training set.

    Args:
        workdir: of the run. Its data set is needed.
        checkpoint: see `jaxgan.evaluate.load_trained`.
        seed: of the samples.
        num_samples: how many are looked at.
        rows: how many are shown: those nearest to a training picture, which are the ones to suspect.
        k: how many training pictures are shown beside each.

    Returns:
        The PNG: in each row a sample, then its neighbours with their distances. Beside it lies an .npz with the
        numbers: "indices" of the training pictures and "distances" to them, both [N, k], of all samples in their
        order; and "samples" and "held_out", each a share and a median distance, as `Nearness` has them.
    """
    check_range(num_samples=(num_samples, 1), rows=(rows, 1), k=(k, 1))
    run = open_run(workdir, checkpoint, seed)
    run.need_pictures("neighbours")
    c = run.config
    real = build.load_data(c).arrays["real"]
    if max(k, 3) > len(real):
        raise DataError(f"the training set has {len(real)} pictures: k={k} and 3 at least are needed")
    name = choose_features(c.eval.features, c.data.name, run.shape, c.eval.resize)
    network = load_features(name, weights=c.eval.weights or None, resize=c.eval.resize or None)
    kept = default_data_dir() / "jaxgan_statistics"
    features = make_reference(network, real, c.data.split, kept).examples.features
    samples = pictures.to_uint8(Generator(run.game).samples(run.trained.state, run.key, num_samples))
    seen = extract_set(network, samples).features
    indices, distances = nearest(seen, features, k)
    fake, held_out = nearness(seen, features), _held_out(features, num_samples)
    logging.info(
        "%.1f %% of %d samples are nearer to a training picture than its nearest other one; of real pictures held "
        "out %.1f %%. Median distance to the nearest: %.4g; of real pictures %.4g",
        *(100 * fake.share, num_samples, 100 * held_out.share, fake.distance, held_out.distance),
    )
    found = {"indices": indices, "distances": distances, "samples": fake, "held_out": held_out}
    order = np.argsort(distances[:, 0], kind="stable")[:rows]
    shown = np.concatenate([samples[order, None], real[indices[order]]], axis=1)
    captions = [text for row in distances[order] for text in ("sample", *(f"{distance:.3g}" for distance in row))]
    sheet = _with_captions(shown.reshape(-1, *run.shape), captions)
    return run.save("neighbours", pictures.grid(sheet, k + 1), found)


class Nearness(NamedTuple):
    """How near examples are to real ones."""

    share: float  # of examples nearer to a real one than that one's own nearest other real one
    distance: float  # of an example to the nearest real one, the median


def nearness(x: np.ndarray, real: np.ndarray) -> Nearness:
    """Both numbers for features x [N, D] and real [M, D], M >= 2.

    The share is 1 of copies. Of fresh draws from the data's own distribution it is the share of points that are the
    nearest of their nearest: 2/3 on a line, 0.62 in the plane, and less in many dimensions, where few points are near
    to many. Examples far from all data are nearest to its outliers, which have no near ones themselves, and can have a
    large share too. So both numbers say something together, and beside those of real examples that were held out.
    """
    indices, distances = nearest(x, real)
    _, of_real = nearest(real[indices[:, 0]], real, 2)  # the nearest is the row itself, or its equal
    return Nearness(float(np.mean(distances[:, 0] < of_real[:, 1])), float(np.median(distances[:, 0])))


def _held_out(real: np.ndarray, most: int) -> Nearness:
    """Of a part of the real examples, a half at most, to the rest."""
    order = np.random.default_rng(0).permutation(len(real))
    count = min(most, len(real) // 2)
    return nearness(real[order[:count]], real[np.sort(order[count:])])


def _with_captions(shown: np.ndarray, captions: Sequence[str]) -> np.ndarray:
    """uint8 pictures [N, H, W, C], enlarged to be seen, with a line of text below each."""
    factor = max(1, -(-_SMALLEST_SIDE // min(shown.shape[1:3])))
    shown = shown.repeat(factor, axis=1).repeat(factor, axis=2)
    lines = np.zeros((len(shown), _CAPTION, *shown.shape[2:]), np.uint8)
    for line, caption in zip(lines, captions, strict=True):
        image = Image.new("L", (line.shape[1], _CAPTION))
        ImageDraw.Draw(image).text((1, 0), caption, fill=255)
        line[:] = np.asarray(image)[..., None]
    return np.concatenate([shown, lines], axis=1)
