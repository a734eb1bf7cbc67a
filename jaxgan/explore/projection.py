"""The latent of a picture that is given."""

import pathlib
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import logging
from PIL import Image

from jaxgan import pictures
from jaxgan.console import progress_of
from jaxgan.data.images import to_array
from jaxgan.errors import ConfigError, DataError
from jaxgan.evaluation import choose_features
from jaxgan.explore.opened import STYLES, Opened, check_range, in_parts, open_run
from jaxgan.metrics.features import CLASSIFIERS, STACKED
from jaxgan.metrics.networks import classifier
from jaxgan.metrics.resize import CONVENTIONS
from jaxgan.reference import plain_name


def projection(
    workdir: str,
    picture: str = "",
    *,
    checkpoint: str = "last",
    seed: int = 0,
    steps: int = 300,
    starts: int = 8,
    rate: float = 0.1,
    weight: float = 0.1,
    label: str = "",
) -> pathlib.Path:
    """Looks for a picture's latent: Adam on the mean squared distance of the pixels and, weighted, of the features.

    The features are those of the network made for the data set, where there is one; Inception is not used. A generator
    with styles is searched for a style, from the mean style and from random ones; any other for a latent, from random
    ones, of which a conditional generator's have the classes in turn.

    Args:
        workdir: of the run.
        picture: a file. Its centre is cut out and resized to the data's size.
        checkpoint: see `jaxgan.evaluate.load_trained`.
        seed: of the starts.
        steps: of Adam, whose rate falls to 0 as a cosine.
        starts: how many; the best one is kept.
        rate: of Adam, in standard deviations of the latents.
        weight: of the features' distance. A feature has a variance of about 1, and so 1 is a large distance.
        label: the picture's class, by name or number, for a conditional generator without styles.

    Returns:
        The PNG: a row for each start, the best first; the picture, then what the generator makes of the latent at the
        beginning and after more and more steps. Beside it lies an .npz with the best latent ("z", or "w" for a style),
        its "loss" and "label", the "losses" of all starts at the beginning and at the end [2, starts], and the pictures
        "target" and "reconstruction".
    """
    if not picture:
        raise ConfigError("projection needs a picture to look for: --picture=FILE")
    check_range(steps=(steps, 1), starts=(starts, 1, STYLES))
    run = open_run(workdir, checkpoint, seed)
    run.need_pictures("projection")
    target = read_picture(picture, run.shape)
    x, labels, scale = _starts(run, starts, label)
    shown = sorted({0, *(steps * i // 16 for i in (1, 2, 4, 8, 16))})
    schedule = optax.cosine_decay_schedule(rate * scale, steps)
    path, first, last = _descend(run, x, labels, target, optax.adam(schedule), steps, shown, weight)
    order = np.argsort(last, kind="stable")
    many = None if labels is None else np.repeat(labels[order], len(shown))
    made = in_parts(jax.jit(run.space.decode), run.networks, path[order].reshape(-1, path.shape[-1]), many)
    made = pictures.to_uint8(made).reshape(len(x), len(shown), *run.shape)
    sheet = np.concatenate([np.broadcast_to(target, (len(x), 1, *run.shape)), made], axis=1)
    best = order[0]
    found = {run.space.name: path[best, -1], "loss": last[best], "losses": np.stack([first, last])}
    found |= {"target": target, "reconstruction": made[0, -1]} | ({} if labels is None else {"label": labels[best]})
    logging.info("projection: the loss fell from %.4f (best start) to %.4f", first.min(), last[best])
    stem = f"projection_of_{plain_name(pathlib.Path(picture).stem)}"
    return run.save(stem, pictures.grid(sheet.reshape(-1, *run.shape), len(shown) + 1), found)


def read_picture(file: str, shape: Sequence[int]) -> np.ndarray:
    """A picture file as the data sets have theirs, uint8 of this shape: the centre cut out, then resized.

    Raises:
        DataError: it is missing, or no picture that can be read.
    """
    height, width, channels = shape
    try:
        with Image.open(file) as opened:
            if height == width:
                return to_array(opened, height, channels)
            whole = to_array(opened, None, channels)
    except FileNotFoundError:
        raise DataError(f"there is no picture {file}; --picture names a file that Pillow can read (.png, .jpg, ...)")
    except Exception as error:  # for a damaged file Pillow's plugins raise anything
        raise DataError(f"{file} is no picture that can be read: {error}. A .png, .jpg or the like is needed.")
    scale = min(whole.shape[0] / height, whole.shape[1] / width)
    cut = max(1, round(height * scale)), max(1, round(width * scale))
    top, left = (whole.shape[0] - cut[0]) // 2, (whole.shape[1] - cut[1]) // 2
    inside = whole[top : top + cut[0], left : left + cut[1]]
    image = Image.fromarray(inside[..., 0] if channels == 1 else inside)
    return np.asarray(image.resize((width, height), Image.Resampling.LANCZOS), np.uint8).reshape(shape)


def _starts(run: Opened, starts: int, label: str) -> tuple[np.ndarray, np.ndarray | None, float]:
    """Where the search begins [starts, Z or W], with labels, and the standard deviation of such latents."""
    if run.has_styles:
        if label:
            raise ConfigError("label: a style says the class too, so that the search needs none")
        mean, spread = run.style_statistics()
        return np.concatenate([mean[None], run.styles[1:starts]]), None, spread
    if run.game.conditions is None:
        if label:
            raise ConfigError("label: this run's generator was trained without labels")
        return run.latents(starts), None, 1.0
    if label:
        return run.latents(starts), np.full(starts, run.label_number(label)), 1.0
    labels = np.resize(jax.random.permutation(run.key_of("classes"), len(run.label_names)), starts)
    return run.latents(starts), labels, 1.0


def _descend(run, x, labels, target, optimizer, steps, shown, weight):
    """(latents [starts, shown, Z] at the steps to be shown, losses [starts] at the first and at the last)."""
    see = _differentiable_features(run)
    target = jnp.asarray(target, jnp.float32)[None] / 127.5 - 1.0
    wanted = jax.jit(see)(target)

    @jax.jit
    def step(networks, x, memory):
        def losses(x):
            made = run.space.decode(*networks, x, labels)
            apart = jnp.mean(jnp.square(made - target), axis=(1, 2, 3))
            values = apart + weight * jnp.mean(jnp.square(see(made) - wanted), axis=1)
            return jnp.sum(values), values  # of the sum every start's gradient is that of its own loss

        gradient, values = jax.grad(losses, has_aux=True)(x)
        change, memory = optimizer.update(gradient, memory)
        return x + change, memory, values

    x, path, first, tell = jnp.asarray(x), [], None, progress_of("steps of the projection")
    memory = optimizer.init(x)
    # One step at a call: in a CPU's compiled loop a convolution's backward pass is many times slower.
    for number in range(steps + 1):
        if number in shown:
            path.append(np.asarray(x))
        x, memory, values = step(run.networks, x, memory)
        first = values if first is None else first
        tell(number + 1, steps + 1)
    return np.stack(path, axis=1), np.asarray(first), np.asarray(values)


def _differentiable_features(run: Opened) -> Callable[[jax.Array], jax.Array]:
    """From pictures in [-1, 1] to the features of the network made for the data, or to none, [B, 1] zeros."""
    c = run.config.eval
    name = choose_features(c.features, run.config.data.name, run.shape, c.resize)
    if name not in (*CLASSIFIERS, STACKED):
        return lambda x: jnp.zeros((len(x), 1))
    params, _, _ = classifier.load("digits" if name == STACKED else name)

    def see(x):
        single = jnp.moveaxis(x, -1, 1).reshape(-1, *x.shape[1:3], 1)  # a channel each, where there are several
        if c.resize not in ("", "none"):
            single = CONVENTIONS[c.resize]((single + 1.0) * 127.5, classifier.SIDE) / 127.5 - 1.0
        return classifier.forward(params, single)["features"].reshape(len(x), -1)

    return see
