"""Directions in the latent space that mean something, in closed form."""

import pathlib
from typing import Any

import jax
import numpy as np
from flax import linen as nn

from jaxgan.album import draw_paths
from jaxgan.errors import ConfigError
from jaxgan.explore.opened import Space, check_range, in_parts, is_dense, open_run


def directions(
    workdir: str,
    *,
    checkpoint: str = "last",
    seed: int = 0,
    count: int = 6,
    columns: int = 9,
    reach: float = 3.0,
) -> pathlib.Path:
    """The directions in which the generator's first weights stretch its latents most, a row each, around one sample.

    SeFa: Shen and Zhou, Closed-form factorization of latent semantics in GANs, 2021, equation 5. Without styles the
    latents are z and the weights those of the first fully connected layer; with styles they are w and the weights of
    all layers that styles modulate. See `stretched`.

    Args:
        workdir: of the run.
        checkpoint: see `jaxgan.evaluate.load_trained`.
        seed: of the sample in the middle.
        count: of directions, those most stretched; latents of fewer numbers have fewer.
        columns: of steps from one end to the other; an odd number has the sample itself in the middle.
        reach: how far each end is, in standard deviations of the latents.

    Returns:
        The PNG: a grid, or for points in the plane paths.
    """
    check_range(count=(count, 1), columns=(columns, 2))
    run = open_run(workdir, checkpoint, seed)
    if run.has_styles:
        middle, labels, (_, scale) = run.styles[:1], None, run.style_statistics()
    else:
        middle, labels, scale = run.latents(1), run.labels(1), 1.0
    axes, _ = stretched(latent_weights(run.space, run.networks, middle.shape[1], labels))
    count = min(count, len(axes))
    steps = np.linspace(-reach, reach, columns, dtype=np.float32) * scale
    x = middle[None] + steps[None, :, None] * axes[:count, None]
    labels = None if labels is None else np.resize(labels, count * columns)
    made = in_parts(jax.jit(run.space.decode), run.networks, x.reshape(count * columns, -1), labels)
    return run.save("directions", draw_paths(made.reshape(count, columns, *made.shape[1:])))


def latent_weights(space: Space, of: tuple[Any, Any], size: int, label: np.ndarray | None) -> np.ndarray:
    """The weights [F, Z] that act on the latent first: by how much those (affine) layers move with each of its entries.

    So nothing has to be known of how a network names its layers, puts labels beside latents, or scales its kernels.
    Latents that the first layer does not see (BigGAN's later chunks) have columns of zeros.

    Args:
        space: of the latents; of styles all layers count, otherwise the first.
        of: the networks (params, variables).
        size: of a latent, Z.
        label: any one [1], or None.

    Raises:
        ConfigError: no fully connected layer reads the latents.
    """

    def outputs(params, variables, x, labels):
        seen = []

        def note(next_function, args, kwargs, context):
            out = next_function(*args, **kwargs)
            if is_dense(context, args):
                seen.append((out[1:] - out[0]).T)
            return out

        with nn.intercept_methods(note):
            space.decode(params, variables, x, labels)
        return seen  # the compiler drops all that does not lead here, such as the convolutions

    x = np.eye(size + 1, dtype=np.float32)[:, 1:]  # nothing, then each entry alone
    with jax.default_matmul_precision("highest"):
        found = jax.jit(outputs)(*of, x, None if label is None else np.repeat(label, len(x)))
    found = [np.asarray(a) for a in found if np.any(a)]
    if not found:
        raise ConfigError("directions: no fully connected layer of this generator reads its latents")
    return np.concatenate(found if space.name == "w" else found[:1])


def stretched(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Unit directions [Z, Z], a row each, and by how much A = weights [F, Z] stretches them, squared, largest first.

    They are the eigenvectors of A^T A: among unit vectors n at right angles to those before, each makes |A n| largest.
    The sign, which is free, makes the largest entry positive.
    """
    a = np.asarray(weights, np.float64)
    values, vectors = np.linalg.eigh(a.T @ a)
    axes = vectors.T[::-1]
    largest = np.take_along_axis(axes, np.abs(axes).argmax(axis=1, keepdims=True), axis=1)
    return (axes * np.sign(largest)).astype(np.float32), values[::-1]
