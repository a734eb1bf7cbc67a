"""Optimizers by optax's own names, with schedules counted in images and knobs that are traced values.

The numeric knobs (learning rate, betas, ...) live in the optimizer's state as arrays, put there by
`optax.inject_hyperparams`: members of a population may differ in them and still share one compiled program.
A schedule is a factor on the update, a function of the images seen, so it neither needs nor hides the knob.
"""

import inspect
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxgan.errors import ConfigError

Schedule = Callable[[jax.Array], jax.Array]  # images seen -> factor on the learning rate


class Optimizers(NamedTuple):
    """The optimizers of both sides, the schedule that scales their updates, and the discriminator's box."""

    generator: optax.GradientTransformation
    discriminator: optax.GradientTransformation
    schedule: Schedule
    clip_discriminator: optax.GradientTransformation | None = None  # after the schedule: the box has to hold exactly


def make_schedule(name: str, images: float) -> Schedule:
    """A schedule by name: "constant" is 1; "linear_to_zero" is 1 - seen / images, never below 0 (WGAN-GP, SNGAN).

    Raises:
        ConfigError: unknown name, or a schedule over no images at all.
    """
    schedules = {
        "constant": lambda seen: jnp.float32(1.0),
        "linear_to_zero": lambda seen: jnp.maximum(0.0, 1.0 - seen.astype(jnp.float32) / images),
    }
    if name not in schedules:
        raise ConfigError(f"unknown schedule {name!r}; known: {', '.join(sorted(schedules))}")
    if name != "constant" and images <= 0:
        raise ConfigError(f"the schedule {name!r} needs a duration above 0 in config.optimizer.schedule.over")
    return schedules[name]


def make_optimizer(name: str, **knobs: float) -> optax.GradientTransformation:
    """`optax.<name>(**knobs)` with every numeric knob injected into the state as a traced value.

    Raises:
        ConfigError: optax has no such optimizer, or it does not take one of the knobs.
    """
    optimizer = getattr(optax, name, None)
    parameters = _parameters(optimizer)
    if "learning_rate" not in parameters:
        raise ConfigError(
            f"unknown optimizer {name!r}; any optimizer of optax that takes a learning_rate can be named, "
            "for instance adam, adamw, adabelief, rmsprop, sgd, lion"
        )
    if "learning_rate" not in knobs:
        raise ConfigError(f"the optimizer {name!r} needs a learning_rate")
    unknown = sorted(set(knobs) - set(parameters))
    if unknown:
        raise ConfigError(
            f"optax.{name} takes no {', '.join(unknown)}; it takes {', '.join(parameters)}. Another optimizer's knobs "
            "are set in the experiment file: c.optimizer.generator = ConfigDict({'name': ..., 'learning_rate': ...})"
        )
    return optax.inject_hyperparams(optimizer)(**knobs)


def _parameters(function) -> list[str]:
    return list(inspect.signature(function).parameters) if inspect.isfunction(function) else []
