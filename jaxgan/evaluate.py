"""What a finished or running work folder is asked for afterwards: samples."""

import dataclasses
import pathlib
import time

import jax
import numpy as np
from absl import logging
from ml_collections import ConfigDict

from jaxgan import build, pictures
from jaxgan.album import draw_samples
from jaxgan.checkpoint import Checkpoints
from jaxgan.errors import CheckpointError, ConfigError
from jaxgan.games import Game
from jaxgan.parallel import Parallel
from jaxgan.sampling import Generator
from jaxgan.state import TrainState
from jaxgan.workdir import Workdir

_SHOWN = 100  # samples in the grid


@dataclasses.dataclass(frozen=True)
class Trained:
    """A run read back from its work folder; needs no data set."""

    config: ConfigDict
    game: Game
    state: TrainState


def load_trained(workdir: str) -> Trained:
    """The newest readable checkpoint of a work folder, with its configuration and game.

    Raises:
        CheckpointError: there is no run, or no checkpoint yet.
    """
    folder = Workdir(workdir)
    record = folder.read_record()
    config = ConfigDict(record["config"], convert_dict=True)
    experiment = build.make_experiment(config, record["data"]["shape"], record["data"]["examples"])
    checkpoints = Checkpoints(folder.checkpoints, read_only=True)
    restored = checkpoints.restore_newest(Parallel("jit").abstract(jax.eval_shape(experiment.new_state)))
    checkpoints.close()
    if restored is None:
        raise CheckpointError(f"{folder.path} holds no checkpoint yet; train for longer")
    return Trained(config, experiment.game, restored[0])


def sample(workdir: str, num_samples: int, seed: int = 0) -> tuple[pathlib.Path, pathlib.Path]:
    """Draws samples from the averaged (EMA) generator of a work folder's newest checkpoint.

    Args:
        workdir: of a run.
        num_samples: how many.
        seed: other seeds give other samples; sample i of a seed does not depend on `num_samples`.

    Returns:
        The files written into samples/: an .npz with the array "arr_0" (uint8 [N, H, W, C] for pictures, float32 [N, D]
        for points, the layout that FID tools read), and a PNG grid of the first 100.

    Raises:
        ConfigError: num_samples is below 1.
        CheckpointError: there is nothing to sample from.
    """
    if num_samples < 1:
        raise ConfigError(f"--num_samples={num_samples}: at least one sample has to be asked for")
    trained = load_trained(workdir)
    samples = _draw(Generator(trained.game), trained.state, jax.random.key(seed), num_samples)
    folder = Workdir(workdir).samples
    stem = f"generated_step_{int(trained.state.step):09}_seed_{seed}_n_{num_samples}"
    is_pictures = samples.ndim == 4
    shown = samples[:_SHOWN] if is_pictures else samples
    pictures.save_png(draw_samples(shown, columns=min(10, num_samples)), folder / f"{stem}.png")
    np.savez(folder / f"{stem}.npz", pictures.to_uint8(samples) if is_pictures else samples)
    return folder / f"{stem}.npz", folder / f"{stem}.png"


def _draw(generator: Generator, state: TrainState, key: jax.Array, n: int, part: int = 4096) -> np.ndarray:
    """Samples in parts, with a line about progress, rate and time left between them."""
    begun, parts = time.monotonic(), []
    for first in range(0, n, part):
        parts.append(generator.samples(state, key, min(part, n - first), first=first))
        done = min(first + part, n)
        rate = done / (time.monotonic() - begun)
        logging.info("%d of %d samples, %.0f a second, %.0f s left", done, n, rate, (n - done) / rate)
    return np.concatenate(parts)
