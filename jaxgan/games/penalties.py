"""Penalties by name, as a configuration gives them: `{"r1": 10.0, "wgan_gp": {"weight": 10.0, "every": 4}}`.

A term is a function of what the game shows it (`View`) and of its own state; its mean over the (global) batch is
weighted and added to its side's loss. Random draws belong to the examples, so a penalty does not know its devices.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxgan import augment, losses
from jaxgan.errors import ConfigError
from jaxgan.optim import Ramp
from jaxgan.traced import is_off, is_traced

PyTree = Any
Adaptive = dict[str, PyTree]


class View(NamedTuple):
    """What a penalty may look at; what has a default is there in the discriminator's step alone."""

    params: PyTree  # of the side that is penalised
    generator: Callable[[jax.Array], jax.Array]  # z [B, ...] -> G(z) [B, ...]
    latents: Callable[[jax.Array], jax.Array]  # keys [B] -> z [B, ...]
    key: jax.Array
    index: jax.Array  # [B], the examples' places in the global batch
    axis_name: str | None
    packing: int = 1  # what the critic is shown are packs of this many examples, [B / packing, ...]
    images: jax.Array | int = 0  # seen before this batch
    critic: Callable[[jax.Array], jax.Array] | None = None
    fake_critic: Callable[[jax.Array], jax.Array] | None = None  # with the draws of the loss's pass of generated ones
    real: jax.Array | None = None
    fake: jax.Array | None = None
    real_logits: jax.Array | None = None  # the loss's own, which the critic would give again
    fake_logits: jax.Array | None = None

    def everyones(self, logits: jax.Array) -> jax.Array:
        """Logits of the global batch."""
        return logits if self.axis_name is None else jax.lax.all_gather(logits, self.axis_name, tiled=True)

    def keys(self, stream: int = 0) -> jax.Array:
        """A key for each example."""
        key = jax.random.fold_in(self.key, stream)
        return jax.vmap(lambda i: jax.random.fold_in(key, i))(self.index)

    def keys_of_shown(self, stream: int = 0) -> jax.Array:
        """A key for each example, or pack of them, that the critic is shown."""
        return self.keys(stream)[:: self.packing]


class Term(NamedTuple):
    """A kind of penalty: `(view, **options) -> [...]`, or with a state `(view, state, **options) -> ([...], state)`."""

    sides: tuple[str, ...]
    function: Callable[..., Any]
    options: Mapping[str, Any]  # with their defaults
    state: Callable[[], PyTree] | None = None
    on_gradient: bool = False  # of the discriminator: wants one that does not mix examples


D, G = ("discriminator",), ("generator",)


def _augmentation(view: View, kind: str):
    """x -> x for the consistency terms: "auto" mirrors and shifts pictures as CR-GAN does, and jitters the rest."""
    pictures = view.real.ndim == 4
    if kind not in ("auto", "noise", "flip_shift") or (kind == "flip_shift" and not pictures):
        raise ConfigError(
            f"augmentation {kind!r} of a consistency penalty must be auto, noise or, for pictures, flip_shift"
        )
    key = view.keys_of_shown(0)
    if kind == "noise" or not pictures:
        return lambda x: augment.noise(key, x, 0.05)
    pixels = min(4, min(view.real.shape[1:3]) - 1)
    return lambda x: augment.shift(view.keys_of_shown(1), augment.flip(key, x), pixels)


def _dragan(view, **options):
    x = view.real.astype(jnp.float32)
    mean, square = jnp.mean(x), jnp.mean(jnp.square(x))
    if view.axis_name is not None:
        mean, square = jax.lax.pmean((mean, square), view.axis_name)
    std = jnp.sqrt(jnp.maximum(0.0, square - jnp.square(mean)))
    return losses.dragan_penalty(view.critic, view.real, view.keys_of_shown(), std=std, **options)


def _zcr(penalty, on_critic: bool):
    def term(view, radius):
        def shown(z):
            return losses.pack(view.generator(z), view.packing)

        functions = (view.critic, shown) if on_critic else (view.generator,)
        return penalty(*functions, view.latents(view.keys(0)), lambda z: augment.noise(view.keys(1), z, radius))

    return term


def _path_length(view, mean, decay):
    z = view.latents(view.keys(0))
    return losses.path_length_penalty(
        view.generator, z, view.keys(1), mean, decay=decay, axis_name=view.axis_name
    )


def _mode_seeking(view, eps):
    z, other = (view.latents(view.keys(stream)) for stream in (0, 1))
    return losses.mode_seeking_penalty(view.generator(z), view.generator(other), z, other, eps=eps)


TERMS: dict[str, Term] = {
    "r1": Term(D, lambda view: losses.r1_penalty(view.critic, view.real), {}, on_gradient=True),
    "r2": Term(D, lambda view: losses.r2_penalty(view.fake_critic, view.fake), {}, on_gradient=True),
    "wgan_gp": Term(
        D,
        lambda view, **options: losses.wgan_gp_penalty(
            view.critic, view.real, view.fake, view.keys_of_shown(), **options
        ),
        {"target": 1.0, "one_sided": False},
        on_gradient=True,
    ),
    "wgan_lp": Term(
        D,
        lambda view, target: losses.wgan_lp_penalty(view.critic, view.real, view.fake, view.keys_of_shown(), target),
        {"target": 1.0},
        on_gradient=True,
    ),
    "dragan": Term(D, _dragan, {"target": 1.0, "noise": "uniform", "scale": 0.5}, on_gradient=True),
    "zero_centered_gp": Term(
        D,
        lambda view: losses.zero_centered_gp_penalty(view.critic, view.real, view.fake, view.keys_of_shown()),
        {},
        on_gradient=True,
    ),
    "lecam": Term(
        D,
        lambda view, state, **options: losses.lecam_penalty(
            view.everyones(view.real_logits), view.everyones(view.fake_logits), state, **options
        ),
        {"decay": 0.99, "start": 0, "rectified": True},
        losses.lecam_init,
    ),
    "cr": Term(
        D,
        lambda view, augmentation: losses.cr_penalty(
            view.critic, view.real, _augmentation(view, augmentation), real_logits=view.real_logits
        ),
        {"augmentation": "auto"},
    ),
    "bcr": Term(
        D,
        lambda view, augmentation, fake_weight: losses.bcr_penalty(
            view.critic,
            view.real,
            view.fake,
            _augmentation(view, augmentation),
            fake_weight=fake_weight,
            real_logits=view.real_logits,
            fake_logits=view.fake_logits,
        ),
        {"augmentation": "auto", "fake_weight": 1.0},
    ),
    "zcr_discriminator": Term(D, _zcr(losses.zcr_discriminator_penalty, on_critic=True), {"radius": 0.05}),
    "zcr_generator": Term(G, _zcr(losses.zcr_generator_penalty, on_critic=False), {"radius": 0.05}),
    "path_length": Term(G, _path_length, {"decay": 0.01}, lambda: jnp.float32(0.0)),
    "mode_seeking": Term(G, _mode_seeking, {"eps": 1e-5}),
    "orthogonal": Term(D + G, lambda view: losses.orthogonal_penalty(view.params), {}),
    "l2": Term(D + G, lambda view: losses.l2_penalty(view.params), {}),
}


class Penalty(NamedTuple):
    """A term as it was configured."""

    name: str
    weight: float | Ramp
    every: int
    sides: tuple[str, ...]
    options: dict[str, Any]


def read_penalties(penalties: Mapping[str, float | Mapping[str, Any]]) -> tuple[Penalty, ...]:
    """Penalties from numbers (weights) or mappings ("weight", "every", "side" and the term's own options).

    Weight 0 means none; a `Ramp` follows the images seen. `every` k takes the term at each k-th step of its side, times
    k (lazy regularisation). `side` is "discriminator", "generator" or "both" where a term can be either's; the
    discriminator's if it is left out.

    Raises:
        ConfigError: unknown names or options, or values that make no sense.
    """
    found = (_read(name, value) for name, value in penalties.items())
    return tuple(penalty for penalty in found if not is_off(penalty.weight))


def _read(name: str, value: float | Mapping[str, Any]) -> Penalty:
    where = f"config.loss.penalties.{name}"
    if name not in TERMS:
        raise ConfigError(f"unknown penalty {name!r} in config.loss.penalties; known: {', '.join(TERMS)}")
    settings = dict(value) if isinstance(value, Mapping) else {"weight": value}
    weight, every = settings.pop("weight", None), settings.pop("every", 1)
    if isinstance(weight, Ramp) or is_traced(weight):
        return _with_options(name, weight, every, settings)
    if not isinstance(weight, (int, float)) or isinstance(weight, bool) or not weight >= 0:
        raise ConfigError(f"{where} needs a weight, a number of 0 or more, not {weight!r}")
    return _with_options(name, float(weight), every, settings)


def _with_options(name: str, weight: float | Ramp, every: int, settings: dict[str, Any]) -> Penalty:
    where, term = f"config.loss.penalties.{name}", TERMS[name]
    if not isinstance(every, int) or every < 1:
        raise ConfigError(f"{where}.every is {every!r}; it has to be a whole number, 1 or more")
    side = settings.pop("side", term.sides[0])
    sides = term.sides if side == "both" else (side,)
    if not set(sides) <= set(term.sides):
        raise ConfigError(f"{where}.side is {side!r}; known: {', '.join(term.sides)}, both")
    unknown = sorted(set(settings) - set(term.options))
    if unknown:
        takes = ", ".join(["weight", "every", "side", *term.options])
        raise ConfigError(f"{where} has no {', '.join(unknown)}; it takes {takes}")
    return Penalty(name, weight, every, sides, {**term.options, **settings})


def initial_state(penalties: tuple[Penalty, ...]) -> Adaptive:
    """What the terms remember, and how many steps each side has taken (for `every`)."""
    state = {p.name: TERMS[p.name].state() for p in penalties if TERMS[p.name].state}
    for side in D + G:
        if any(side in p.sides and p.every > 1 for p in penalties):
            state[f"{side}_steps"] = jnp.int32(0)
    return state


def evaluate(
    penalties: tuple[Penalty, ...], side: str, view: View, adaptive: Adaptive
) -> tuple[jax.Array | float, dict[str, jax.Array], Adaptive]:
    """The weighted sum of a side's penalties, each one's mean by name, and what they remember."""
    total, metrics, adaptive = 0.0, {}, dict(adaptive)
    step = adaptive.get(f"{side}_steps")
    for number, penalty in enumerate(penalties):
        if side not in penalty.sides:
            continue
        seen = view._replace(key=jax.random.fold_in(view.key, number))
        value, state = _term(penalty, seen, step, adaptive.get(penalty.name))
        if state is not None:
            adaptive[penalty.name] = state
        metrics[f"penalty_{penalty.name}" + ("_g" if len(penalty.sides) > 1 and side == "generator" else "")] = value
        weight = penalty.weight(view.images) if isinstance(penalty.weight, Ramp) else penalty.weight
        total = total + weight * value
    if step is not None:
        adaptive[f"{side}_steps"] = step + 1
    return total, metrics, adaptive


def _term(penalty: Penalty, view: View, step, state):
    function, stateful = TERMS[penalty.name].function, state is not None

    def mean(*state):
        value = function(view, *state, **penalty.options)
        value, state = value if stateful else (value, None)
        return (jnp.mean(value), state) if stateful else jnp.mean(value)

    if penalty.every == 1:
        return mean(state) if stateful else (mean(), None)
    if stateful:
        return losses.lazy_regularization(mean, step, penalty.every, state)
    return losses.lazy_regularization(mean, step, penalty.every), None
