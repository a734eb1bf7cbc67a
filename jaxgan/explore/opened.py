"""A run that tools look into: its averaged generator, and the latents, labels and styles that it is given."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from PIL import Image

from jaxgan import build, pictures
from jaxgan.errors import ConfigError, DataError
from jaxgan.evaluate import Trained, load_trained
from jaxgan.games import Game, networks
from jaxgan.workdir import Workdir

_MOST_AT_ONCE = 64  # examples in a pass
STYLES = 1000  # drawn to find their mean and spread


class Space(NamedTuple):
    """Where a generator is steered: by its latents z, or by the styles w made of them, which know the label."""

    name: str  # "z" or "w"
    decode: Callable  # (params, variables, z or w, label) -> examples


@dataclasses.dataclass(frozen=True, eq=False)
class Opened:
    """A run that a tool looks into."""

    trained: Trained
    folder: Workdir
    shape: tuple[int, ...]
    label_names: tuple[str, ...]
    seed: int

    @property
    def config(self):
        return self.trained.config

    @property
    def game(self) -> Game:
        return self.trained.game

    @property
    def key(self) -> jax.Array:
        return jax.random.key(self.seed)

    @property
    def networks(self) -> tuple[Any, Any]:
        """(params, variables) of the averaged generator."""
        return self.trained.state.ema_g, {"generator": self.trained.state.ema_variables}

    @functools.cached_property
    def generator(self) -> nn.Module:
        """The module, for its parts; the game calls it as a whole."""
        return build.make_networks(self.config, tuple(self.shape), len(self.label_names))[0]

    @property
    def has_styles(self) -> bool:
        return hasattr(self.generator, "mapping") and hasattr(self.generator, "synthesis")

    @functools.cached_property
    def space(self) -> Space:
        if not self.has_styles:
            return Space("z", self.game.decode)

        def synthesis(params, variables, w, label=None):
            return networks.evaluate(self.generator, params, variables["generator"], (w,), "synthesis")

        return Space("w", synthesis)

    def key_of(self, what: str) -> jax.Array:
        """A key of its own for each draw."""
        return jax.random.fold_in(self.key, int.from_bytes(what.encode()[:4]))

    def latents(self, n: int) -> np.ndarray:
        """[n, Z]; latent i depends on the seed and i alone, and is that of `--mode=sample`."""
        return np.asarray(self.game.latents(self.key, jnp.arange(n)))

    def labels(self, n: int) -> np.ndarray | None:
        """[n], as the data has them; None where the generator is given none."""
        if self.game.conditions is None:
            return None
        return np.asarray(self.game.conditions(self.key_of("label"), jnp.arange(n)))

    @functools.cached_property
    def styles(self) -> np.ndarray:
        """[STYLES, W] of the first latents and labels."""

        def mapping(params, variables, z, label):
            return networks.evaluate(self.generator, params, variables["generator"], (z, label), "mapping")

        return np.asarray(jax.jit(mapping)(*self.networks, self.latents(STYLES), self.labels(STYLES)))

    def style_statistics(self) -> tuple[np.ndarray, float]:
        """Mean [W] and standard deviation, the root mean square of all coordinates', of styles."""
        return self.styles.mean(axis=0), float(np.sqrt(self.styles.var(axis=0).mean()))

    def decode(self, z: jax.Array, labels: np.ndarray | None) -> np.ndarray:
        return in_parts(jax.jit(self.game.decode), self.networks, z, labels)

    def label_number(self, name: str) -> int:
        """Of a class that a person named."""
        if name in self.label_names:
            return self.label_names.index(name)
        if name.isdecimal() and int(name) < len(self.label_names):
            return int(name)
        raise ConfigError(f"there is no class {name!r}; known: {', '.join(self.label_names)}")

    def need_pictures(self, tool: str) -> None:
        if len(self.shape) != 3:
            raise DataError(
                f"{tool} is for pictures; the examples of this run ({self.config.data.name}) have the shape "
                f"{self.shape}. Points can be explored with --what=interpolation and --what=directions."
            )

    def save(self, stem: str, image: Image.Image, arrays: dict[str, Any] | None = None) -> pathlib.Path:
        file = self.folder.samples / f"{stem}_step_{int(self.trained.state.step):09}_seed_{self.seed}.png"
        pictures.save_png(image, file)
        if arrays is not None:
            np.savez(file.with_suffix(".npz"), **arrays)
        return file


def open_run(workdir: str, checkpoint: str, seed: int) -> Opened:
    trained = load_trained(workdir, checkpoint)
    folder = Workdir(workdir)
    facts = folder.read_record()["data"]
    run = Opened(trained, folder, tuple(facts["shape"]), tuple(facts["label_names"]), seed)
    latents = jax.tree.leaves(jax.eval_shape(run.game.latents, run.key, jnp.arange(1)))
    if len(latents) != 1 or latents[0].ndim != 2:
        shapes = ", ".join(str(x.shape[1:]) for x in latents)
        raise ConfigError(f"a latent of this run's game is not one vector; its parts have the shapes {shapes}")
    return run


def in_parts(function: Callable, of: tuple[Any, Any], *arrays: Any) -> Any:
    """function(params, variables, *arrays) over the arrays' rows; some at a time, always as many: one compilation."""
    n = len(arrays[0])
    size = -(-n // -(-n // _MOST_AT_ONCE))

    def part(x, begin):
        cut = np.asarray(x[begin : begin + size])
        return np.pad(cut, ((0, size - len(cut)), *((0, 0),) * (cut.ndim - 1)), mode="edge")

    outs = []
    for begin in range(0, n, size):
        out = function(*of, *(None if x is None else part(x, begin) for x in arrays))
        outs.append(jax.tree.map(np.asarray, out))
    return jax.tree.map(lambda *parts: np.concatenate(parts)[:n], *outs)


def is_embedding(context: nn.module.InterceptorContext) -> bool:
    return context.method_name == "__call__" and isinstance(context.module, nn.Embed)


def is_dense(context: nn.module.InterceptorContext, args: tuple[Any, ...]) -> bool:
    """Whether a layer with a kernel [inputs, outputs] was called with vectors [B, inputs]."""
    if context.method_name != "__call__" or not context.module.has_variable("params", "kernel"):
        return False
    kernel = context.module.get_variable("params", "kernel")
    return kernel.ndim == 2 and args[0].ndim == 2


def check_range(**given: tuple[int, ...]) -> None:
    """Each is (value, least) or (value, least, most)."""
    for name, (value, least, *most) in given.items():
        if value < least or (most and value > most[0]):
            bounds = f"from {least} to {most[0]}" if most else f"{least} or more"
            raise ConfigError(f"{name}={value} must be {bounds}")
