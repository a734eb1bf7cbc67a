"""One sample's coarse styles with another's fine ones."""

import pathlib

import jax
import numpy as np

from jaxgan import pictures
from jaxgan.errors import ConfigError
from jaxgan.explore.opened import STYLES, check_range, in_parts, open_run


def style_mixing(
    workdir: str, *, checkpoint: str = "last", seed: int = 0, sources: int = 6, coarse: int = 0
) -> pathlib.Path:
    """A table of mixed styles (Karras et al., A style-based generator architecture, 2019, figure 3).

    The same random sources stand above and at the left. A cell has its coarse layers' styles from the source at its
    left and the others from the one above it, so the diagonal shows the sources themselves.

    Args:
        workdir: of the run, whose generator has styles.
        checkpoint: see `jaxgan.evaluate.load_trained`.
        seed: of latents and labels.
        sources: how many.
        coarse: how many layers count as coarse; 0: half of them.

    Returns:
        The PNG: a grid of sources + 1 rows and columns.
    """
    check_range(sources=(sources, 1, STYLES), coarse=(coarse, 0))
    run = open_run(workdir, checkpoint, seed)
    if not run.has_styles:
        raise ConfigError(
            f"style_mixing is for generators that make styles of their latents (with `mapping` and `synthesis`, such "
            f"as stylegan2); {run.config.model.name} has no styles. Try --what=interpolation."
        )
    layers = run.generator.style_layers
    coarse = coarse or layers // 2
    if coarse >= layers:
        raise ConfigError(f"coarse={coarse}: of this generator's {layers} layers with styles one has to be fine")
    w = run.styles[:sources]
    table = mixed_styles(w, w, layers, coarse).reshape(sources * sources, layers, -1)
    every = np.concatenate([np.repeat(w[:, None], layers, axis=1), table])
    made = pictures.to_uint8(in_parts(jax.jit(run.space.decode), run.networks, every, None))
    head, cells = made[:sources], made[sources:].reshape(sources, sources, *made.shape[1:])
    body = np.concatenate([head[:, None], cells], axis=1)
    top = np.concatenate([np.full_like(head[:1], 128), head])  # the grey of the grid's lines in the corner
    sheet = np.concatenate([top[None], body])
    return run.save("style_mixing", pictures.grid(sheet.reshape(-1, *made.shape[1:]), sources + 1))


def mixed_styles(rows: np.ndarray, columns: np.ndarray, layers: int, coarse: int) -> np.ndarray:
    """Styles [R, C, layers, W]: `coarse` layers from rows [R, W], the rest from columns [C, W]."""
    is_coarse = (np.arange(layers) < coarse)[None, None, :, None]
    return np.where(is_coarse, rows[:, None, None], columns[None, :, None])
