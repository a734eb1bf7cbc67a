"""What a trained generator has made of its latents: walks, mixed styles, projections, neighbours, directions.

Each tool reads a work folder's checkpoint, uses the averaged (EMA) generator, and writes one PNG into samples/. What
it shows depends on the checkpoint and the seed alone.
"""

import inspect
import pathlib
from collections.abc import Callable
from typing import Any

from jaxgan import distributed
from jaxgan.errors import ConfigError
from jaxgan.explore.directions import directions
from jaxgan.explore.interpolation import interpolation
from jaxgan.explore.neighbours import neighbours
from jaxgan.explore.projection import projection
from jaxgan.explore.style_mixing import style_mixing

TOOLS: dict[str, Callable[..., pathlib.Path]] = {
    "interpolation": interpolation,
    "style_mixing": style_mixing,
    "projection": projection,
    "neighbours": neighbours,
    "directions": directions,
}


def explore(workdir: str, what: str, **options: Any) -> pathlib.Path:
    """Runs the tool of `TOOLS` that `what` names; options that are None or "" are left to their defaults.

    Raises:
        ConfigError: there is no such tool, it takes no such option, or the run has several processes; and what the
            tool itself raises.
    """
    if what not in TOOLS:
        raise ConfigError(f"--what={what}: there is no such tool; known: {', '.join(TOOLS)}")
    if distributed.count() > 1:
        raise ConfigError("--mode=explore is for one process: start it on one machine, without --coordinator")
    given = {name: value for name, value in options.items() if value is not None and value != ""}
    known = [name for name in inspect.signature(TOOLS[what]).parameters if name != "workdir"]
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise ConfigError(f"--what={what} takes no {', '.join(unknown)}; it takes {', '.join(known)}")
    return TOOLS[what](workdir, **given)
