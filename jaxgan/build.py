"""From a configuration to the objects of a run. `ConfigDict` stops here: below, everything takes plain values."""

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from absl import logging
from flax import linen as nn
from ml_collections import ConfigDict

import jaxgan.games
import jaxgan.models
from jaxgan import data
from jaxgan.counting import Counting
from jaxgan.errors import ConfigError
from jaxgan.games import Game
from jaxgan.games.penalties import TERMS, read_penalties
from jaxgan.losses import ADVERSARIAL, AdversarialLoss, weight_clipping
from jaxgan.optim import Optimizers, make_optimizer, make_schedule
from jaxgan.state import TrainState
from jaxgan.update import create_state, make_update, with_data


def load_data(config: ConfigDict, split: str = "") -> data.Dataset:
    """The data set that `config.data` names: its training split, or another one."""
    c = config.data
    return data.load(
        c.name,
        split=split or c.split,
        image_size=c.image_size or None,
        channels=c.channels or None,
        data_dir=c.data_dir or None,
        path=c.path or None,
        seed=config.seed,
    )


class Experiment(NamedTuple):
    """A configuration turned into pure functions."""

    counting: Counting
    game: Game
    step: Callable  # one update on a batch that it draws for itself, see `jaxgan.update.with_data`
    new_state: Callable[[], TrainState]  # the state at step 0


def make_experiment(config: ConfigDict, shape: Sequence[int], examples: int) -> Experiment:
    """Everything of a run but its data.

    Args:
        config: see experiments/common.py.
        shape: of one example.
        examples: in the data set, which is what an epoch means.

    Raises:
        ConfigError: a name is unknown, or values do not fit together or to the shape.
    """
    if config.data.flip and len(shape) != 3:
        raise ConfigError(f"config.data.flip mirrors pictures; the examples here have the shape {tuple(shape)}")
    counting = make_counting(config, examples)
    game = make_game(config, tuple(shape))
    optimizers = make_optimizers(config, counting)

    def new_state():
        example = {"real": jnp.zeros((2, *shape)), "index": jnp.arange(2)}
        return create_state(game, optimizers, jax.random.key(config.seed), example)

    step = with_data(make_update(game, optimizers, config), flip=config.data.flip)
    state = jax.eval_shape(new_state)  # a network that cannot make or take this shape says so here
    _warn_of_mixed_examples(config, state)
    return Experiment(counting, game, step, new_state)


def _warn_of_mixed_examples(config: ConfigDict, state: TrainState) -> None:
    """A gradient penalty is of each example alone, which batch norm in the discriminator makes impossible."""
    wanted = [p.name for p in read_penalties(config.loss.penalties.to_dict()) if TERMS[p.name].on_gradient]
    if wanted and "batch_stats" in state.variables["discriminator"]:
        logging.warning(
            "%s penalises the discriminator's gradient at each example, but this discriminator normalises over the "
            "batch, so that examples mix. Turn that off (dcgan: --config.model.discriminator.batch_norm=False).",
            ", ".join(wanted),
        )


def make_counting(config: ConfigDict, examples: int) -> Counting:
    """How the run counts. Updates per call are 1 on a CPU and many elsewhere, unless configured."""
    if config.d_steps < 1:
        raise ConfigError(f"d_steps {config.d_steps} must be at least 1")
    # In a CPU's compiled loop a convolution's backward pass is many times slower (jax-ml/jax#12868); on an
    # accelerator a call of several short updates keeps the host out of the way.
    automatic = 1 if jax.default_backend() == "cpu" else 20
    return Counting(config.batch_size * config.d_steps, examples, config.steps_per_call or automatic)


def make_game(config: ConfigDict, shape: tuple[int, ...]) -> Game:
    """The game that `config.game` names, of the networks `config.model` names, for examples of this shape."""
    networks = _find(jaxgan.models, "model", config.model.name, ("Generator", "Discriminator"))
    generator = _construct(networks.Generator, "config.model.generator", config.model.generator, shape=shape)
    discriminator = _construct(networks.Discriminator, "config.model.discriminator", config.model.discriminator)
    game = _find(jaxgan.games, "game", config.game.name, ("make_game",))
    options = {name: value for name, value in config.game.items() if name != "name"}
    c = config.loss
    options |= {"penalties": c.penalties.to_dict(), "top_k": c.top_k}
    return game.make_game(generator, discriminator, make_loss(c), **options)


def make_loss(c: ConfigDict) -> AdversarialLoss:
    """The adversarial pair that `config.loss` names, smoothed where it asks for that."""
    if c.name not in ADVERSARIAL:
        raise ConfigError(f"unknown loss {c.name!r}; known: {', '.join(sorted(ADVERSARIAL))}")
    pair = ADVERSARIAL[c.name]
    if not c.label_smoothing:
        return pair
    if "label_smoothing" not in inspect.signature(pair.discriminator).parameters or not 0 < c.label_smoothing < 1:
        raise ConfigError(
            f"config.loss.label_smoothing {c.label_smoothing} is for minimax and non_saturating, and lies in [0, 1); "
            f"the loss here is {c.name}"
        )
    return pair._replace(discriminator=partial(pair.discriminator, label_smoothing=c.label_smoothing))


def make_optimizers(config: ConfigDict, counting: Counting) -> Optimizers:
    """Both sides' optimizers and their schedule."""

    def one(side):
        return make_optimizer(side.name, **{name: value for name, value in side.items() if name != "name"})

    c = config.optimizer
    schedule = make_schedule(c.schedule.name, counting.images(c.schedule.over))
    if c.clip_weights < 0:
        raise ConfigError(f"config.optimizer.clip_weights {c.clip_weights} must be above 0, or 0 for none")
    clip = weight_clipping(c.clip_weights) if c.clip_weights else None
    return Optimizers(one(c.generator), one(c.discriminator), schedule, clip)


def _find(package, kind: str, name: str, needs: tuple[str, ...]):
    """The module `<package>.<name>`; found by import path, so that a new file is a new name."""
    known = sorted(
        module.name
        for module in pkgutil.iter_modules(package.__path__)
        if all(hasattr(importlib.import_module(f"{package.__name__}.{module.name}"), need) for need in needs)
    )
    if name not in known:
        raise ConfigError(f"unknown {kind} {name!r}; known: {', '.join(known)}")
    return importlib.import_module(f"{package.__name__}.{name}")


def _construct(module: type[nn.Module], where: str, options: ConfigDict, **given) -> nn.Module:
    """`module(**options)`; an option that it does not have is an error that lists those it has."""
    known = [name for name in inspect.signature(module).parameters if name not in ("parent", "name", "axis_name")]
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise ConfigError(f"{where} has no {', '.join(unknown)}; {module.__module__} takes {', '.join(known)}")
    return module(**given, **options)
