"""Walks between latents, and between classes."""

import functools
import pathlib
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from flax import linen as nn

from jaxgan.album import draw_paths, rows_of_labels
from jaxgan.errors import ConfigError
from jaxgan.explore.opened import Opened, check_range, in_parts, is_dense, is_embedding, open_run
from jaxgan.sampling import spherical_interpolation


def interpolation(
    workdir: str,
    *,
    checkpoint: str = "last",
    seed: int = 0,
    rows: int = 6,
    columns: int = 10,
    classes: Sequence[str] = (),
) -> pathlib.Path:
    """Walks along great circles between random latents, a row each.

    Of a conditional generator every row has one label, and as many rows follow in which the latent stays and the label
    walks from one class to another: what the layers make of the label is mixed, see `label_walk`. A generator in which
    that is not possible shows the latent under several classes in these rows instead.

    Args:
        workdir: of the run.
        checkpoint: see `jaxgan.evaluate.load_trained`.
        seed: of latents and labels.
        rows, columns: of each part.
        classes: two, by name or number, between which the labels walk; by default each row has its own two.

    Returns:
        The PNG: a grid, or for points in the plane paths.
    """
    check_range(rows=(rows, 1), columns=(columns, 2))
    run = open_run(workdir, checkpoint, seed)
    ends = run.latents(2 * rows)
    z = spherical_interpolation(ends[:rows], ends[rows:], columns).reshape(rows * columns, -1)
    labels = run.labels(rows)
    made = run.decode(z, None if labels is None else np.repeat(labels, columns))
    if labels is not None:
        made = np.concatenate([made, _between_classes(run, ends[:rows], columns, classes)])
    elif classes:
        raise ConfigError("classes: this run's generator was trained without labels")
    return run.save("interpolation", draw_paths(made.reshape(-1, columns, *made.shape[1:])))


def _between_classes(run: Opened, z: jax.Array, columns: int, classes: Sequence[str]) -> np.ndarray:
    """[len(z) * columns, ...], a row for each latent."""
    count, rows = len(run.label_names), len(z)
    if classes and len(classes) != 2:
        raise ConfigError(f"classes {', '.join(classes)}: a walk has two ends")
    first = jax.random.randint(run.key_of("from"), (rows,), 0, count)
    # Never to where it came from, as long as there is another.
    last = (first + jax.random.randint(run.key_of("to"), (rows,), min(1, count - 1), max(count, 1))) % count
    if classes:
        first, last = (jnp.full(rows, run.label_number(name)) for name in classes)
    first, last, many = (jnp.repeat(x, columns, axis=0) for x in (first, last, z))
    share = jnp.tile(jnp.linspace(0.0, 1.0, columns), rows)
    walk = jax.jit(functools.partial(label_walk, run.game.decode))
    made, other = in_parts(walk, run.networks, many, first, last, share)
    if np.max(np.abs(made - other)) < 1e-3:
        return made
    logging.info("what this generator makes of its labels cannot be mixed: the rows show several classes instead")
    return run.decode(many, np.tile(np.resize(rows_of_labels(count, columns), columns), rows))


def label_walk(decode: Callable, params, variables, z: jax.Array, first: jax.Array, last: jax.Array, share: jax.Array):
    """What a generator makes of z [B, Z] and a label that has gone a share [B] of the way from one class to another.

    Both labels are taken through the network side by side; at each embedding, and at each fully connected layer, what
    the layer gives for both is mixed, and both go on with that. Where the label is a one-hot vector that only such
    layers read, this is what they give for the mixed vector.

    Returns:
        What comes out on either side. They are equal unless the label gets in elsewhere.
    """
    size = len(z)

    def mix(next_function, args, kwargs, context):
        out = next_function(*args, **kwargs)
        if not (is_embedding(context) or is_dense(context, args)) or len(out) != 2 * size:
            return out
        a, b = jnp.split(out, 2)
        mixed = a + share.reshape(-1, *(1,) * (out.ndim - 1)) * (b - a)
        return jnp.concatenate([mixed, mixed])

    with nn.intercept_methods(mix):
        made = decode(params, variables, jnp.concatenate([z, z]), jnp.concatenate([first, last]))
    return jnp.split(made, 2)
