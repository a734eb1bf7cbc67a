"""One update of the game: the discriminator's steps, then the generator's; the only place that takes gradients.

`update(state, batch, axis_name=None, is_cut=False)` is pure. By itself it is a single-device update; under `jax.pmap`
or `jax.shard_map` with `axis_name` set, the same body averages gradients and metrics over devices. It knows no network
and no loss: those are the game's; nor how arrays are cut over devices: that is `jaxgan.shares`'s.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxgan.data.sampler import finish, sample
from jaxgan.errors import ConfigError
from jaxgan.games import Aux, Game
from jaxgan.optim import Lookahead, Optimizer, Optimizers, Ramp
from jaxgan.shares import Shares
from jaxgan.state import TrainState
from jaxgan.traced import is_off

PyTree = Any
Update = Callable[..., tuple[TrainState, dict[str, jax.Array]]]


def create_state(game: Game, optimizers: Optimizers, key: jax.Array, batch: dict[str, jax.Array]) -> TrainState:
    """The state at step 0; `batch` gives shapes only (two examples are enough)."""
    key_init, key_run = jax.random.split(key)
    params_g, params_d, variables = game.init(key_init, batch)
    adaptive = variables.pop("adaptive", {})
    if optimizers.lookahead is not None:
        adaptive["slow"] = jax.tree.map(jnp.copy, {"g": params_g, "d": params_d})
    return TrainState(
        step=jnp.int32(0),
        images=jnp.uint32(0),
        params_g=params_g,
        params_d=params_d,
        variables=variables,
        opt_g=optimizers.generator.init(params_g),
        opt_d=optimizers.discriminator.init(params_d),
        # Copies: the state is donated to the update, and one buffer cannot be given away twice.
        ema_g=jax.tree.map(jnp.copy, params_g),
        ema_variables=jax.tree.map(jnp.copy, variables["generator"]),
        adaptive=adaptive,
        key=key_run,
    )


def make_update(game: Game, optimizers: Optimizers, config: Any) -> Update:
    """The update of a game.

    Args:
        game: the pure functions of the two sides.
        optimizers: of both sides, with their schedules.
        config: has `d_steps` (discriminator steps per generator step), `share_fake` (one generator pass serves the D
            and the G step; only where d_steps is 1), `simultaneous` (the generator answers the discriminator as it was
            before its step), `accumulate` (parts in which a batch is taken, one after another, to save memory),
            `ema.half_life_images` and `ema.rampup`.

    Returns:
        `update(state, batch, axis_name=None, is_cut=False) -> (state, metrics)`. `batch` holds `d_steps * B` examples,
        leaves [d_steps * B, ...], example-major: entry `b * d_steps + k` is example b of D step k, so that a contiguous
        part of the global batch holds whole examples. The G step sees the last D step's. Metrics are scalars; of
        several D steps the last one's are given. Where the state `is_cut`, this device has its own shares of `opt_g`,
        `opt_d` and `ema_g`.
    """
    d_steps, parts = config.d_steps, config.accumulate
    share_fake = config.share_fake and d_steps == parts == 1
    half_life, rampup = config.ema.half_life_images, config.ema.rampup
    gradient_d, gradient_g = (_accumulated(loss, parts) for loss in (game.discriminator_loss, game.generator_loss))
    _check(config)

    def discriminator_step(state, batch, key, shares, fake=None):
        seen, axis_name = {**batch, "images": state.images}, shares.axis_name
        grads, aux = gradient_d(state.params_d, state.params_g, _variables(state), seen, key, axis_name, fake)
        moved = _move(optimizers.discriminator, grads, state.opt_d, state.params_d, state.images, shares)
        images = state.images + _batch_size(batch, axis_name)
        state = state.replace(params_d=moved.params, opt_d=moved.state, images=images, **_split(aux.variables))
        return state, {**aux.metrics, "grad_norm_d": moved.norm}

    def generator_step(state, batch, key, shares, params_d, shared=None):
        params_d = params_d if config.simultaneous else state.params_d
        batch, axis_name = {**batch, "images": state.images}, shares.axis_name
        if shared is None:
            grads, aux = gradient_g(state.params_g, params_d, _variables(state), batch, key, axis_name)
        else:
            fake, pullback = shared

            def loss(params_g, fake):
                return game.generator_loss(params_g, params_d, _variables(state), batch, key, axis_name, fake)

            # Through the shared pass, and directly: penalties make samples of their own.
            (direct, cotangent), aux = jax.grad(loss, (0, 1), has_aux=True)(state.params_g, fake)
            grads = jax.tree.map(jnp.add, direct, pullback(cotangent)[0])
        moved = _move(optimizers.generator, grads, state.opt_g, state.params_g, state.images, shares)
        state = state.replace(params_g=moved.params, opt_g=moved.state, **_split(aux.variables))
        return state, {**aux.metrics, "grad_norm_g": moved.norm}

    def play_shared(state, batch, key, shares):
        """D and G step on one pass of the generator, as in the classic DCGAN code."""
        params_d = state.params_d
        key_fake, key_d, key_g = jax.random.split(key, 3)
        fake, pullback, variables = jax.vjp(
            lambda params_g: game.generate(params_g, _variables(state), batch, key_fake, shares.axis_name),
            state.params_g,
            has_aux=True,
        )
        state, metrics_d = discriminator_step(state.replace(**_split(variables)), batch, key_d, shares, fake)
        state, metrics_g = generator_step(state, batch, key_g, shares, params_d, (fake, pullback))
        return state, {**metrics_d, **metrics_g}

    def play(state, batch, key, shares):
        params_d = state.params_d
        key_d, key_g = jax.random.split(key)
        parts = jax.tree.map(lambda x: jnp.moveaxis(x.reshape(-1, d_steps, *x.shape[1:]), 1, 0), batch)

        def body(state, inputs):
            part, k = inputs
            return discriminator_step(state, part, jax.random.fold_in(key_d, k), shares)

        state, metrics_d = jax.lax.scan(body, state, (parts, jnp.arange(d_steps)))
        last = jax.tree.map(lambda x: x[-1], (parts, metrics_d))
        state, metrics_g = generator_step(state, last[0], key_g, shares, params_d)
        return state, {**last[1], **metrics_g}

    def update(state: TrainState, batch: dict[str, jax.Array], axis_name: str | None = None, is_cut: bool = False):
        key, shares = jax.random.fold_in(jax.random.fold_in(state.key, 0), state.step), Shares(axis_name, is_cut)
        state, metrics = (play_shared if share_fake else play)(state, batch, key, shares)
        state = _look_ahead(state, optimizers.lookahead)
        decay = ema_decay(state.images, _batch_size(batch, axis_name), half_life, rampup)
        variables = _mean(state.variables, axis_name)  # before their average, which has to be one everywhere too
        state = state.replace(
            step=state.step + 1,
            variables=variables,
            ema_g=_average(state.ema_g, shares.own(state.params_g), decay),
            ema_variables=_average(state.ema_variables, variables["generator"], decay),
        )
        return state, _mean(metrics, axis_name)

    return update


def _accumulated(loss: Callable, parts: int) -> Callable:
    """`jax.grad(loss, has_aux=True)`, of a batch taken in parts: the mean of their gradients and metrics.

    An example's draws are the same as in one pass. What mixes examples (batch norm, losses over the batch) sees a part.
    Collections move from part to part; what the game adapts moves once, by the last one.
    """
    gradient = jax.grad(loss, has_aux=True)
    if parts == 1:
        return gradient

    def in_parts(params, others, variables, batch, key, axis_name, fake=None):
        def split(x):
            return x.reshape(parts, x.shape[0] // parts, *x.shape[1:])

        whole = {name: x for name, x in batch.items() if x.ndim == 0}
        adaptive = variables["adaptive"]

        def one(collections, part):
            seen, own = {**whole, **part[0]}, {**collections, "adaptive": adaptive}
            grads, aux = gradient(params, others, own, seen, key, axis_name, part[1])
            collections = dict(aux.variables)
            return collections, (grads, aux.metrics, collections.pop("adaptive"))

        examples = {name: split(x) for name, x in batch.items() if x.ndim}
        collections = {name: tree for name, tree in variables.items() if name != "adaptive"}
        inputs = (examples, None if fake is None else split(fake))
        collections, (grads, metrics, moved) = jax.lax.scan(one, collections, inputs)
        mean = jax.tree.map(lambda x: jnp.mean(x, axis=0), (grads, metrics))
        last = jax.tree.map(lambda x: x[-1], moved)
        return mean[0], Aux(mean[1], {**collections, "adaptive": last})

    return in_parts


class _Moved(NamedTuple):
    params: PyTree
    state: PyTree  # the optimizer's
    norm: jax.Array  # of the gradients, []


def _move(
    optimizer: Optimizer, grads: PyTree, state: PyTree, params: PyTree, images: jax.Array, shares: Shares
) -> _Moved:
    """One side's params after a step of its optimizer, of which this device takes its share."""
    grads, own = shares.mean(grads), shares.own(params)
    updates, state = optimizer.updates(grads, state, own, images)
    return _Moved(shares.whole(optax.apply_updates(own, updates), params), state, shares.norm(grads, params))


def _look_ahead(state: TrainState, lookahead: Lookahead | None) -> TrainState:
    """At each k-th update both sides go back to where they were, but for a share of the way (Lookahead-minmax)."""
    if lookahead is None:
        return state
    slow, fast = state.adaptive["slow"], {"g": state.params_g, "d": state.params_d}
    due = (state.step + 1) % lookahead.every == 0
    between = jax.tree.map(lambda s, f: s + lookahead.share * (f - s), slow, fast)
    slow, fast = (jax.tree.map(lambda a, b: jnp.where(due, a, b), between, old) for old in (slow, fast))
    return state.replace(params_g=fast["g"], params_d=fast["d"], adaptive={**state.adaptive, "slow": slow})


def _check(config: Any) -> None:
    if config.accumulate < 1 or config.batch_size % config.accumulate:
        raise ConfigError(f"config.accumulate {config.accumulate} must divide the batch size {config.batch_size}")
    if config.simultaneous and config.d_steps > 1:
        raise ConfigError(f"simultaneous updates are one step of each side, but d_steps is {config.d_steps}")


def with_data(update: Update, *, flip: bool = False, shape: tuple[int, ...] = ()) -> Callable:
    """`update` on batches that it draws for itself: `(state, index, arrays, **how) -> (state, metrics)`.

    Args:
        update: see `make_update`.
        flip: mirror pictures at random.
        shape: of one example, where the data set lies in rows (`jaxgan.data.sampler.in_rows`).

    Returns:
        A step whose `index` are the global indices [d_steps * B] of the examples wanted here, and whose `arrays` are
        the whole data set, on the device. Which examples those are depends on the state alone. `how` is the
        update's: `axis_name` and `is_cut`.
    """

    def step(state: TrainState, index: jax.Array, arrays: dict[str, jax.Array], **how):
        batch = sample(arrays, data_key(state.key), state.images, index, flip=flip, shape=shape)
        return update(state, batch, **how)

    return step


def with_batches(update: Update, *, flip: bool = False, shape: tuple[int, ...] = ()) -> Callable:
    """`update` on batches that are brought to it, as they are stored: `(state, batch, **how) -> (state, metrics)`.

    Args:
        update, flip, shape: see `with_data`.

    Returns:
        A step whose `batch` holds "index", the global indices [d_steps * B] of the examples wanted here, and those
        examples by the data set's names, leaves [d_steps * B, ...]. With the examples that `with_data` would have drawn
        for itself it is the same step.
    """

    def step(state: TrainState, batch: dict[str, jax.Array], **how):
        batch = finish(batch, data_key(state.key), state.images, flip=flip, shape=shape)
        return update(state, batch, **how)

    return step


def data_key(key: jax.Array) -> jax.Array:
    """The key of a run's data, made of the state's."""
    return jax.random.fold_in(key, 1)  # 0 is the update's


def repeat(step: Callable, times: int) -> Callable:
    """`step` run `times` times in one call: `(state, *inputs) -> (state, metrics with leaves [times])`."""

    def call(state, *inputs, **keywords):
        return jax.lax.scan(lambda s, _: step(s, *inputs, **keywords), state, length=times)

    return call


def repeat_on(step: Callable) -> Callable:
    """`step` of `with_batches` run on one batch after another: `(state, batches) -> (state, metrics [times])`.

    Leaves of `batches` are [d_steps * B, times, ...], so that a part of the first axis is a device's; "index" is
    [d_steps * B], the same for all.
    """

    def call(state, batches, **keywords):
        index = {"index": batches["index"]}
        examples = {name: jnp.moveaxis(x, 1, 0) for name, x in batches.items() if name not in index}
        return jax.lax.scan(lambda s, batch: step(s, {**batch, **index}, **keywords), state, examples)

    return call


def ema_decay(images: jax.Array, images_per_update: jax.Array, half_life: float | Ramp, rampup: float) -> jax.Array:
    """0.5 ** (images per update / half-life), where the half-life is at most `rampup` times the images seen so far.

    The ramp lets the average forget the first, useless networks of a short run. Half-life 0 gives decay 0: no average.
    Karras et al., Training GANs with Limited Data (StyleGAN2-ADA), 2020: ramp 0.05.
    """
    seen = images.astype(jnp.float32)
    half_life = half_life(images) if isinstance(half_life, Ramp) else half_life
    half_life = jnp.float32(half_life) if is_off(rampup) else jnp.minimum(half_life, rampup * seen)
    return 0.5 ** (images_per_update.astype(jnp.float32) / jnp.maximum(half_life, 1e-8))


def _variables(state: TrainState) -> dict[str, PyTree]:
    """What the game's functions call variables: the networks' collections, and what the game adapts."""
    return {**state.variables, "adaptive": state.adaptive}


def _split(variables: dict[str, PyTree]) -> dict[str, PyTree]:
    """`_variables` undone, as fields of the state."""
    rest = dict(variables)
    return {"adaptive": rest.pop("adaptive"), "variables": rest}


def _average(ema: PyTree, new: PyTree, decay: jax.Array) -> PyTree:
    return jax.tree.map(lambda e, n: e + (1.0 - decay) * (n - e), ema, new)


def _batch_size(batch, axis_name) -> jax.Array:
    """Examples in the global batch, as the type that counts images."""
    local = jnp.uint32(batch["index"].shape[0])
    return local if axis_name is None else local * jnp.uint32(jax.lax.axis_size(axis_name))


def _mean(tree: PyTree, axis_name: str | None) -> PyTree:
    return tree if axis_name is None else jax.lax.pmean(tree, axis_name)
