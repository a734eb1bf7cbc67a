"""From a configuration to the objects of a run. `ConfigDict` stops here: below, everything takes plain values."""

import importlib
import inspect
import math
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from flax import linen as nn
from ml_collections import ConfigDict

import jaxgan.games
import jaxgan.models
from jaxgan import data
from jaxgan.counting import Counting
from jaxgan.data import stream
from jaxgan.errors import ConfigError
from jaxgan.games import Game, heads
from jaxgan.games.augmentation import read_augmentation
from jaxgan.games.heads import Codes, read_heads
from jaxgan.games.penalties import TERMS, read_penalties
from jaxgan.losses import ADVERSARIAL, AdversarialLoss, weight_clipping
from jaxgan.optim import ELEMENTWISE, Lookahead, Optimizer, Optimizers, Ramp, make_optimizer, make_ramp, make_schedule
from jaxgan.parallel import Parallel
from jaxgan.state import CUT, TrainState
from jaxgan.traced import is_off, passes
from jaxgan.update import create_state, make_update, with_batches, with_data


def load_data(config: ConfigDict, split: str = "") -> data.Dataset:
    """The data set that `config.data` names: its training split, or another one.

    Raises:
        ConfigError: `config.data` names something unknown.
        DataError: see `jaxgan.data.load`.
    """
    c = config.data
    dataset = data.load(
        c.name,
        split=split or c.split,
        image_size=c.image_size or None,
        channels=c.channels or None,
        data_dir=c.data_dir or None,
        path=c.path or None,
        seed=config.seed,
        stream_above=stream_above(config),
    )
    if dataset.is_streamed:
        stream.check(c.workers)
    return dataset


def stream_above(config: ConfigDict) -> float:
    """The bytes of decoded pictures above which a data set is streamed, by `config.data`."""
    # Runs of older versions have no such fields, and were not streamed.
    when = config.data.get("stream", "never")
    limits = {"auto": config.data.get("resident_bytes", math.inf), "always": 0.0, "never": math.inf}
    if when not in limits:
        raise ConfigError(f"unknown config.data.stream {when!r}; known: {', '.join(limits)}")
    return limits[when]


def make_parallel(config: ConfigDict, devices: Sequence[jax.Device] | None = None) -> Parallel:
    """The layout over devices (all of them by default) that `config.parallel` and `config.shard_state` ask for.

    Raises:
        ConfigError: there is no such layout, or the batch does not divide over its devices.
    """
    parallel = Parallel(config.parallel, devices, CUT if config.shard_state else ())
    parallel.check_batch_size(config.batch_size, config.game.get("packing", 1))
    return parallel


class Experiment(NamedTuple):
    """A configuration turned into pure functions."""

    counting: Counting
    game: Game
    step: Callable  # one update on a batch that it draws for itself, see `jaxgan.update.with_data`
    step_on: Callable  # the same on a batch that it is given, see `jaxgan.update.with_batches`
    new_state: Callable[[], TrainState]  # the state at step 0


def label_counts(dataset: data.Dataset) -> tuple[int, ...]:
    """How many examples each class has; () where there are no labels."""
    if not dataset.label_names:
        return ()
    return tuple(np.bincount(dataset.arrays["label"], minlength=len(dataset.label_names)).tolist())


def make_experiment(
    config: ConfigDict, shape: Sequence[int], examples: int, label_counts: Sequence[int] = ()
) -> Experiment:
    """Everything of a run but its data.

    Args:
        config: see experiments/common.py.
        shape: of one example.
        examples: in the data set, which is what an epoch means.
        label_counts: how many of them are of each class.

    Raises:
        ConfigError: a name is unknown, or values do not fit together or to the shape.
    """
    experiment = assemble(config, shape, examples, label_counts)
    state = jax.eval_shape(experiment.new_state)  # a network that cannot make or take this shape says so here
    _warn_of_mixed_examples(_with_ramps(config.loss.penalties.to_dict(), experiment.counting), state)
    return experiment


def assemble(config: ConfigDict, shape: Sequence[int], examples: int, label_counts: Sequence[int] = ()) -> Experiment:
    """`make_experiment` without a trial of the networks; numbers of `config` may be traced, see `jaxgan.traced`."""
    if config.data.flip and len(shape) != 3:
        raise ConfigError(f"config.data.flip mirrors pictures; the examples here have the shape {tuple(shape)}")
    counting = make_counting(config, examples)
    if Codes(**config.game.codes).size and config.share_fake and config.d_steps == config.accumulate == 1:
        raise ConfigError("config.game.codes: each side has to know the codes of its own samples; set share_fake=False")
    game = make_game(config, tuple(shape), counting, label_counts)
    optimizers = make_optimizers(config, counting)

    def new_state():
        example = {"real": jnp.zeros((2, *shape)), "index": jnp.arange(2), "label": jnp.zeros(2, jnp.int32)}
        return create_state(game, optimizers, jax.random.key(config.seed), example)

    rules = config.copy_and_resolve_references()
    with rules.ignore_type():
        rules.ema.half_life_images = _value(config.ema.half_life_images, counting, "config.ema.half_life_images")
    update, options = make_update(game, optimizers, rules), {"flip": config.data.flip, "shape": tuple(shape)}
    steps = with_data(update, **options), with_batches(update, **options)
    return Experiment(counting, game, *steps, new_state)


def _warn_of_mixed_examples(penalties: dict[str, Any], state: TrainState) -> None:
    """A gradient penalty is of each example alone, which batch norm in the discriminator makes impossible."""
    wanted = [p.name for p in read_penalties(penalties) if TERMS[p.name].on_gradient]
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
    automatic = steps_per_call(jax.default_backend())
    return Counting(config.batch_size * config.d_steps, examples, config.steps_per_call or automatic)


def steps_per_call(platform: str) -> int:
    """Updates in one call of the compiled program where the configuration names no number."""
    # On an accelerator a call of several short updates keeps the host out of the way; on a CPU it gains nothing.
    return 1 if platform == "cpu" else 20


def make_game(
    config: ConfigDict, shape: tuple[int, ...], counting: Counting | None = None, label_counts: Sequence[int] = ()
) -> Game:
    """The game that `config.game` names, of the networks `config.model` names, for examples of this shape."""
    options = config.game.to_dict()
    name, conditional, codes = options.pop("name"), options.pop("conditional"), Codes(**options.pop("codes"))
    if conditional and not label_counts:
        raise ConfigError("config.game.conditional: this data set has no labels")
    counting = counting or make_counting(config, 1)
    generator, discriminator = make_networks(config, shape, len(label_counts))
    game = _find(jaxgan.games, "game", name, ("make_game",))
    c = config.loss
    options |= {"penalties": _with_ramps(c.penalties.to_dict(), counting), "top_k": c.top_k}
    options |= {"auxiliary": c.auxiliary.to_dict(), "codes": codes, "batch_stats": config.batch_stats}
    options["label_shares"] = tuple(n / sum(label_counts) for n in label_counts) if conditional else ()
    augment = {**config.augment.to_dict(), "p": _value(config.augment.p, counting, "config.augment.p")}
    options["augmentation"] = read_augmentation(augment, shape)
    options["precision"] = config.precision
    options["joint_pass"] = config.get("joint_pass", False)  # runs of older versions have no such field
    return game.make_game(generator, discriminator, make_loss(c), **options)


def make_networks(config: ConfigDict, shape: tuple[int, ...], classes: int) -> tuple[nn.Module, nn.Module]:
    """Generator and discriminator; what they are told of labels, heads and codes is what the game gives them.

    Args:
        config: see experiments/common.py.
        shape: of one example.
        classes: of the data; networks learn of them in a conditional game alone.
    """
    classes, codes = classes if config.game.conditional else 0, Codes(**config.game.codes)
    networks = _find(jaxgan.models, "model", config.model.name, ("Generator", "Discriminator"))
    terms = read_heads(config.loss.auxiliary.to_dict(), has_labels=classes > 0, codes=codes)
    wanted = sorted({heads.TERMS[term.name].head for term in terms})
    told_g = {"classes": classes} if classes else {}
    told_d = told_g | ({"heads": tuple(wanted)} if wanted else {})
    if "code" in wanted:
        told_d["code_size"] = codes.size
    generator = _construct(networks.Generator, "config.model.generator", config.model.generator, shape=shape, **told_g)
    discriminator = _construct(
        networks.Discriminator, "config.model.discriminator", config.model.discriminator, **told_d
    )
    return generator, discriminator


def _value(value: Any, counting: Counting, where: str) -> Any:
    """A number as it is; a mapping as a ramp over images."""
    if isinstance(value, (ConfigDict, Mapping)):
        return make_ramp(dict(value), counting.images, where)
    return value


def _with_ramps(penalties: dict[str, Any], counting: Counting) -> dict[str, Any]:
    """Penalties whose weight is given as a ramp, with the ramp made."""
    return {
        name: {**value, "weight": _value(value["weight"], counting, f"config.loss.penalties.{name}.weight")}
        if isinstance(value, Mapping) and "weight" in value
        else value
        for name, value in penalties.items()
    }


def make_loss(c: ConfigDict) -> AdversarialLoss:
    """The adversarial pair that `config.loss` names, smoothed where it asks for that."""
    if c.name not in ADVERSARIAL:
        raise ConfigError(f"unknown loss {c.name!r}; known: {', '.join(sorted(ADVERSARIAL))}")
    pair = ADVERSARIAL[c.name]
    smoothing = c.label_smoothing
    if is_off(smoothing):
        return pair
    takes_it = "label_smoothing" in inspect.signature(pair.discriminator).parameters
    if not takes_it or not passes(smoothing, lambda s: 0 < s < 1):
        raise ConfigError(
            f"config.loss.label_smoothing {c.label_smoothing} is for minimax and non_saturating, and lies in [0, 1); "
            f"the loss here is {c.name}"
        )
    return pair._replace(discriminator=partial(pair.discriminator, label_smoothing=smoothing))


def make_optimizers(config: ConfigDict, counting: Counting) -> Optimizers:
    """Both sides' optimizers and their schedule."""

    c = config.optimizer
    schedule = make_schedule(c.schedule.name, counting.images(c.schedule.over))

    def one(side):
        given = c[side].to_dict()
        name = given.pop("name")
        if config.get("shard_state", False) and name not in ELEMENTWISE:  # runs of older versions have no such field
            raise ConfigError(
                f"config.shard_state gives each device a share of every array, and {name!r} of "
                f"config.optimizer.{side} needs whole ones; those that do not are {', '.join(ELEMENTWISE)}"
            )
        knobs = {knob: _value(value, counting, f"config.optimizer.{side}.{knob}") for knob, value in given.items()}
        ramps = {knob: value for knob, value in knobs.items() if isinstance(value, Ramp)}
        start = {knob: value.start if isinstance(value, Ramp) else value for knob, value in knobs.items()}
        return Optimizer(make_optimizer(name, **start), schedule, ramps)

    if c.clip_weights < 0:
        raise ConfigError(f"config.optimizer.clip_weights {c.clip_weights} must be above 0, or 0 for none")
    clip = weight_clipping(c.clip_weights) if c.clip_weights else None
    if c.lookahead.every < 0 or not 0.0 < c.lookahead.share <= 1.0:
        raise ConfigError(f"config.optimizer.lookahead {dict(c.lookahead)}: every must be 0 or more, share in (0, 1]")
    lookahead = Lookahead(c.lookahead.every, c.lookahead.share) if c.lookahead.every else None
    return Optimizers(one("generator"), one("discriminator")._replace(box=clip), lookahead)


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
    """`module(**options)`; an option that it does not have is an error that lists those it has.

    What is `given` comes from the rest of the configuration.
    """
    takes = [name for name in inspect.signature(module).parameters if name not in ("parent", "name", "axis_name")]
    known = [name for name in takes if name not in ("shape", "classes", "heads", "code_size")]
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise ConfigError(f"{where} has no {', '.join(unknown)}; {module.__module__} takes {', '.join(known)}")
    lacking = sorted(set(given) - set(takes))
    if lacking:
        wanted = {"classes": "labels (config.game.conditional)", "heads": "heads (config.loss.auxiliary)"}
        raise ConfigError(f"{module.__module__}.{module.__name__} knows no {wanted.get(lacking[0], lacking[0])}")
    return module(**given, **options)
