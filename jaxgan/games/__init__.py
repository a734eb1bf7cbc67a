"""Who plays whom: the only place where families of GANs differ.

A game is a `Game`: pure functions over params and variables (pytrees of arrays). Networks, losses and sizes are
closed over when the game is made, by `jaxgan.games.<name>.make_game(...)`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

PyTree = Any


class Aux(NamedTuple):
    """What a loss function hands back beside its scalar."""

    metrics: dict[str, jax.Array]  # scalars, averaged over devices by the update
    variables: dict[str, PyTree]  # the networks' mutable collections after the pass, and "adaptive"


class Game(NamedTuple):
    """The pure functions that an update, a sampler and an evaluation need.

    `batch` is a dict of arrays [B, ...]: "real", perhaps "label", and "index", the example's place in the global
    batch; and "images", how many the run has seen before it, for what follows a schedule. Everything random is drawn
    from (key, index), so that a run does not know its devices. With `axis_name` the functions run on one device's part
    of the batch, and what mixes examples (batch norm, losses over the batch) is computed over all parts; gradients are
    left to the update to average. `variables` holds the networks' mutable collections, "generator" and
    "discriminator", and under "adaptive" what the game itself remembers from step to step (the state's `adaptive`),
    which has to come out the same on every device.

    init(key, batch) -> (params_g, params_d, variables)
    generate(params_g, variables, batch, key, axis_name=None) -> (fake [B, ...], variables)
    discriminator_loss(params_d, params_g, variables, batch, key, axis_name=None, fake=None) -> (scalar, Aux)
    generator_loss(params_g, params_d, variables, batch, key, axis_name=None, fake=None) -> (scalar, Aux)
        with `fake` given, the loss of that pass of the generator: an update may share one pass between both sides.
    latents(key, index, truncation=None) -> z, a pytree with leaves [B, ...], one for each global index [B]
    decode(params_g, variables, z, condition=None, truncation=None) -> [B, ...]: what the generator makes of z when it
        is not training. Truncation trades variety for quality: a bound on z, or a factor on the styles' spread
    sample(params_g, variables, key, n, condition=None) -> [n, ...] in the data's range: decode of the first n latents
    conditions(key, index) -> a pytree with leaves [B, ...], drawn as the data has them; None where there are none
    """

    init: Callable[..., tuple[PyTree, PyTree, dict[str, PyTree]]]
    generate: Callable[..., tuple[jax.Array, dict[str, PyTree]]]
    discriminator_loss: Callable[..., tuple[jax.Array, Aux]]
    generator_loss: Callable[..., tuple[jax.Array, Aux]]
    latents: Callable[..., PyTree]
    decode: Callable[..., jax.Array]
    sample: Callable[..., jax.Array]
    conditions: Callable[..., PyTree] | None = None
