"""Optimizers by optax's own names, with schedules counted in images and knobs that are traced values.

The numeric knobs (learning rate, betas, ...) live in the optimizer's state as arrays, put there by
`optax.inject_hyperparams`: members of a population may differ in them and still share one compiled program.
A schedule is a factor on the update, a function of the images seen, so it neither needs nor hides the knob; a knob that
follows a `Ramp` of its own is set before each step.
"""

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxgan.errors import ConfigError
from jaxgan.traced import number

Schedule = Callable[[jax.Array], jax.Array]  # images seen -> factor on the learning rate
# What these do to a number depends on that number, its gradients and what is kept of them, and on no other number.
ELEMENTWISE = (
    *("adabelief", "adadelta", "adagrad", "adam", "adamax", "adamaxw", "adamw", "adan", "amsgrad", "lion"),
    *("optimistic_adam_v2", "optimistic_gradient_descent", "radam", "rmsprop", "rprop", "sgd", "sign_sgd", "signum"),
    "yogi",
)


@dataclasses.dataclass(frozen=True)
class Ramp:
    """A value that goes from `start` to `end` while the first `over` images are seen, and stays there."""

    start: float
    end: float
    over: float
    shape: str = "linear"  # or "cosine": half a period, level at both ends

    def __call__(self, images: jax.Array) -> jax.Array:
        share = jnp.clip(images.astype(jnp.float32) / self.over, 0.0, 1.0)
        share = share if self.shape == "linear" else 0.5 * (1.0 - jnp.cos(jnp.pi * share))
        return self.start + (self.end - self.start) * share


class Optimizer(NamedTuple):
    """One side's optimizer, with all that changes while images go by."""

    transformation: optax.GradientTransformation
    schedule: Schedule = lambda images: jnp.float32(1.0)  # a factor on the updates
    ramps: Mapping[str, Ramp] = {}  # of knobs, by name
    box: optax.GradientTransformation | None = None  # holds the weights; after the schedule, to hold exactly

    def init(self, params):
        return self.transformation.init(params)

    def updates(self, grads, state, params, images: jax.Array) -> tuple[Any, Any]:
        """What is to be added to the params, and the new state."""
        if self.ramps:
            now = {name: ramp(images) for name, ramp in self.ramps.items()}
            state = state._replace(hyperparams={**state.hyperparams, **now})
        updates, state = self.transformation.update(grads, state, params)
        factor = self.schedule(images)
        updates = jax.tree.map(lambda u: factor * u, updates)
        return updates if self.box is None else self.box.update(updates, (), params)[0], state


class Lookahead(NamedTuple):
    """Lookahead of both sides together: Chavdarova et al., Taming GANs with Lookahead-Minmax, 2021, algorithm 1."""

    every: int  # k, updates between two steps back
    share: float  # alpha, of the way that is kept


class Optimizers(NamedTuple):
    """The optimizers of both sides, and what steps both back."""

    generator: Optimizer
    discriminator: Optimizer
    lookahead: Lookahead | None = None


def make_ramp(value: Mapping[str, Any], images_of: Callable[[str], float], where: str) -> Ramp:
    """A ramp from {"from": 0.0, "to": 1.0, "over": "20M images"}, perhaps with "shape": "cosine".

    Args:
        value: as a configuration has it.
        images_of: a duration in images.
        where: the field, for the message.

    Raises:
        ConfigError: something is missing, unknown or not above 0.
    """
    known = {"from", "to", "over", "shape"}
    if not {"from", "to", "over"} <= set(value) <= known:
        raise ConfigError(f"{where} is {dict(value)}; a ramp has from, to, over and perhaps shape")
    over, shape = images_of(value["over"]), value.get("shape", "linear")
    if over <= 0 or shape not in ("linear", "cosine"):
        raise ConfigError(f"{where} is {dict(value)}; over must be above 0, and shape linear or cosine")
    return Ramp(number(value["from"]), number(value["to"]), over, shape)


def make_schedule(name: str, images: float) -> Schedule:
    """A factor by name: "constant" is 1; "linear_to_zero" and "cosine_to_zero" fall from 1 to 0 over so many images.

    Raises:
        ConfigError: unknown name, or a schedule over no images at all.
    """
    schedules = {
        "constant": lambda seen: jnp.float32(1.0),
        "linear_to_zero": Ramp(1.0, 0.0, images),
        "cosine_to_zero": Ramp(1.0, 0.0, images, "cosine"),
    }
    if name not in schedules:
        raise ConfigError(f"unknown schedule {name!r}; known: {', '.join(sorted(schedules))}")
    if name != "constant" and images <= 0:
        raise ConfigError(f"the schedule {name!r} needs a duration above 0 in config.optimizer.schedule.over")
    return schedules[name]


def make_optimizer(name: str, **knobs: float) -> optax.GradientTransformation:
    """`optax.<name>(**knobs)` with every numeric knob injected into the state as a traced value, but for sizes.

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
    # Whole numbers, such as adafactor's min_dim_size_to_factor, decide about shapes.
    sizes = [name for name, value in parameters.items() if type(knobs.get(name, value)) is type(value) is int]
    return optax.inject_hyperparams(optimizer, static_args=sizes)(**knobs)


def _parameters(function) -> dict[str, Any]:
    """A function's parameters with their defaults; none of what is no function."""
    if not inspect.isfunction(function):
        return {}
    return {name: parameter.default for name, parameter in inspect.signature(function).parameters.items()}
