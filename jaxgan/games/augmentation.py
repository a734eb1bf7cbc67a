"""What the discriminator is shown in place of the pictures: the same augmentation of real and generated ones, in both
sides' steps, so that the generator learns the pictures and not their augmentation."""

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxgan import augment
from jaxgan.augment import control
from jaxgan.errors import ConfigError
from jaxgan.optim import Ramp
from jaxgan.traced import passes

METHODS = ("diff_augment", "ada")


class Augmentation(NamedTuple):
    """`diff_augment` with its policy, or `ada` with its multipliers and a strength p, given or adapted."""

    method: str = ""  # none
    policy: tuple[str, ...] = ()
    multipliers: str | Mapping[str, float] = "bgc"
    p: float | Ramp | None = None  # None: adapted
    target: float = 0.6
    speed: float = 500e3
    every: int = 4

    @property
    def is_adaptive(self) -> bool:
        """Whether p is a part of the state."""
        return self.method == "ada" and self.p is None

    def strength(self, adaptive: Mapping[str, Any], images: jax.Array) -> jax.Array | float:
        """p now."""
        if self.is_adaptive:
            return adaptive["augment"].p
        if self.p is None:
            return 0.0
        return self.p(images) if callable(self.p) else self.p

    def view(self, adaptive: Mapping[str, Any], images: jax.Array, key: jax.Array, index: jax.Array):
        """x -> what is shown of it; an example's draws belong to its place `index` in the global batch."""
        if not self.method:
            return lambda x: x
        keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(index)
        if self.method == "diff_augment":
            return partial(augment.diff_augment, keys, policy=self.policy)
        p = self.strength(adaptive, images)
        return lambda x: augment.ada_augment(keys, x, p, self.multipliers)

    def initial(self) -> dict[str, Any]:
        """What the state has to remember."""
        return {"augment": control.init()} if self.is_adaptive else {}

    def adapt(self, adaptive: Mapping[str, Any], real_logits: jax.Array) -> dict[str, Any]:
        """The memory of an adaptive p after a step of the discriminator, whose logits are of the global batch."""
        moved = control.update(
            adaptive["augment"], real_logits, target=self.target, speed=self.speed, every=self.every
        )
        return {**adaptive, "augment": moved}

    def metrics(self, adaptive: Mapping[str, Any], images: jax.Array) -> dict[str, jax.Array]:
        """What a run should know of it."""
        return {"augment_p": jnp.float32(self.strength(adaptive, images))} if self.method == "ada" else {}


def read_augmentation(options: Mapping[str, Any], shape: tuple[int, ...] | None = None) -> Augmentation:
    """From `config.augment`; p below 0 means that it is adapted.

    Raises:
        ConfigError: unknown names, or what cannot be done to examples of this shape.
    """
    name = options.get("name", "")
    if not name:
        return Augmentation()
    if name not in METHODS:
        raise ConfigError(f"unknown config.augment.name {name!r}; known: {', '.join(METHODS)}")
    p = options["p"]
    given = Augmentation(
        name,
        tuple(options["policy"]),
        options["pipe"],
        p if callable(p) or passes(p, lambda p: p >= 0) else None,
        options["target"],
        options["speed_images"],
        options["every"],
    )
    if shape is not None:
        _try(given, shape)
    return given


def _try(given: Augmentation, shape: tuple[int, ...]) -> None:
    """Finds out before the run what the operations refuse."""

    def once(key):
        return given.view(given.initial(), jnp.uint32(0), key, jnp.arange(2))(jnp.zeros((2, *shape)))

    if len(shape) != 3:
        raise ConfigError(f"config.augment changes pictures; the examples here have the shape {shape}")
    try:
        jax.eval_shape(once, jax.random.key(0))
    except ValueError as error:
        raise ConfigError(f"config.augment: {error}")
