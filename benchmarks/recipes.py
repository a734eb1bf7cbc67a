"""The recipes that updates_vs_torch.py measures: what both sides need to know. Standard library only."""

from types import SimpleNamespace
from typing import Any

EXAMPLES, CLASSES = 5000, 10


class Recipe(SimpleNamespace):
    """What both sides need to know; `experiment` and `changes` are ours alone."""


def recipe(family: str, experiment: str, shape: tuple[int, ...], **known: Any) -> Recipe:
    usual = {"batch_size": 64, "latents": 100, "d_steps": 1, "learning_rate": 2e-4, "betas": (0.5, 0.999)}
    usual |= {"conditional": False, "widths": (), "kernel": 4, "changes": {}, "precision": "float32"}
    return Recipe(family=family, experiment=experiment, shape=shape, **{**usual, **known})


_RESIDUAL = {"latents": 128, "d_steps": 5, "betas": (0.0, 0.9), "cpu_batch_size": 16}
# Batches are the experiments' own. On a CPU those of the wide networks are smaller, for an update to take seconds.
RECIPES = {
    "mlp": recipe("mlp", "mlp", (28, 28, 1)),
    "dcgan-28": recipe("dcgan", "dcgan", (28, 28, 1), widths=(64, 32)),
    "dcgan-64": recipe(
        "dcgan", "dcgan:paper", (64, 64, 3), widths=(1024, 512, 256, 128), kernel=5, batch_size=128, cpu_batch_size=16
    ),
    "wgan-gp-32": recipe("wgan_gp", "wgan_gp:cifar10", (32, 32, 3), widths=(128, 128), **_RESIDUAL),
    "sngan-32": recipe("sngan", "sngan:cifar10", (32, 32, 3), widths=(256, 128), **_RESIDUAL),
    "r3gan-small": recipe(
        "r3gan", "r3gan", (28, 28, 1), widths=(64, 32, 16), latents=64, betas=(0.0, 0.9), conditional=True,
        changes={"augment.name": ""},
    ),
}  # fmt: skip


def choose(name: str, device: str, batch_size: int = 0, precision: str = "float32") -> Recipe:
    """A recipe as it is measured on a "cpu" or a "gpu", with its own batch size where none is given."""
    r = Recipe(**vars(RECIPES[name]))
    if device == "cpu":
        r.batch_size = getattr(r, "cpu_batch_size", r.batch_size)
    r.batch_size, r.precision = batch_size or r.batch_size, precision
    return r
