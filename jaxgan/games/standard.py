"""One generator against one discriminator: G(z) makes examples from noise, D(x) gives each a logit.

Goodfellow et al., Generative Adversarial Networks, 2014, with any adversarial loss and penalties of `jaxgan.losses`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxgan.errors import ConfigError
from jaxgan.games import Aux, Game, networks
from jaxgan.games.penalties import View, evaluate, initial_state, read_penalties
from jaxgan.losses import AdversarialLoss, pack, top_k_mask


def make_game(
    generator: nn.Module,
    discriminator: nn.Module,
    loss: AdversarialLoss,
    latent_size: int,
    *,
    penalties: Mapping[str, Any] | None = None,
    top_k: float = 1.0,
    packing: int = 1,
    spectral_norm: Sequence[str] = (),
) -> Game:
    """The game of two linen modules.

    Args:
        generator: called as `generator(z [B, latent_size], train=, index=)`, gives examples [B, ...].
        discriminator: called as `discriminator(x [B, ...], train=, index=)`, gives logits, [B] or patches [B, h, w, 1].
        loss: both sides of the adversarial loss.
        latent_size: length of z, drawn from N(0, I).
        penalties: by name, see `jaxgan.games.penalties.read_penalties`.
        top_k: the share of the generated examples, those with the largest logits, that the generator learns from.
        packing: how many examples the discriminator judges together (PacGAN).
        spectral_norm: which networks are normalised, of "generator" and "discriminator". The vectors move by one power
            iteration in each step of the discriminator, before its passes, and in each pass of the generator.

    Raises:
        ConfigError: unknown names, or values out of range.
    """
    terms = read_penalties(penalties or {})
    _check(top_k, packing, spectral_norm)

    def latents(key, index):
        return jax.vmap(lambda i: _latent(jax.random.fold_in(key, i)))(index)

    def _latent(key):
        return jax.random.normal(key, (latent_size,))

    def init(key, batch):
        key_g, key_d = jax.random.split(key)
        z = latents(key, batch["index"])
        shown = pack(jnp.repeat(batch["real"], packing, axis=0), packing)
        params_g, collections_g = networks.initialise(generator, key_g, z, "generator" in spectral_norm)
        params_d, collections_d = networks.initialise(discriminator, key_d, shown, "discriminator" in spectral_norm)
        variables = {"generator": collections_g, "discriminator": collections_d}
        return params_g, params_d, {**variables, "adaptive": initial_state(terms)}

    def generate(params_g, variables, batch, key, axis_name=None):
        key_z, key_noise = jax.random.split(key)
        z = latents(key_z, batch["index"])
        collections = networks.iterate(params_g, variables["generator"])
        fake, collections = networks.apply(
            generator, params_g, collections, z, batch["index"], key_noise, axis_name
        )
        return fake, {**variables, "generator": collections}

    def logits(params_d, variables, x, batch, key, axis_name):
        collections, index = variables["discriminator"], batch["index"][::packing]
        out, collections = networks.apply(discriminator, params_d, collections, x, index, key, axis_name)
        return out, {**variables, "discriminator": collections}

    def view(params_g, params, variables, batch, key, axis_name, **more):
        """What penalties see; their draws are their own."""
        key_noise, key_penalties = jax.random.split(jax.random.fold_in(key, 1))

        def decode(z):
            collections = variables["generator"]
            return networks.apply(generator, params_g, collections, z, batch["index"], key_noise, axis_name)[0]

        return View(params, decode, jax.vmap(_latent), key_penalties, batch["index"], axis_name, packing, **more)

    def discriminator_loss(params_d, params_g, variables, batch, key, axis_name=None, fake=None):
        key_fake, key_real_pass, key_fake_pass = jax.random.split(key, 3)
        if fake is None:
            fake, variables = generate(params_g, variables, batch, key_fake, axis_name)
        collections = networks.iterate(params_d, variables["discriminator"])
        before = variables = {**variables, "discriminator": collections}
        real, fake = pack(batch["real"], packing), pack(jax.lax.stop_gradient(fake), packing)
        real_logits, variables = logits(params_d, variables, real, batch, key_real_pass, axis_name)
        fake_logits, variables = logits(params_d, variables, fake, batch, key_fake_pass, axis_name)
        # Of the global batch, because some losses compare an example with the mean of all others.
        r, f = _gather(real_logits, axis_name), _gather(fake_logits, axis_name)
        value = jnp.mean(loss.discriminator(r, f))
        metrics = {
            "loss_d": value,
            "logits_real": jnp.mean(r),
            "logits_fake": jnp.mean(f),
            # Share of pairs in the right order: needs no threshold, so it means the same for every loss.
            "accuracy_d": jnp.mean(r > f, dtype=jnp.float32),
            "std_real": batch_std(batch["real"], axis_name),
        }

        def critic(x):
            # The same pass as the loss's own where x is the same: the compiler makes one of both.
            collections, index = before["discriminator"], batch["index"][::packing]
            return networks.apply(discriminator, params_d, collections, x, index, key_real_pass, axis_name)[0]

        seen = {"real": real, "fake": fake, "real_logits": real_logits, "fake_logits": fake_logits}
        fixed_g = jax.lax.stop_gradient(params_g)
        shown = view(fixed_g, params_d, variables, batch, key, axis_name, critic=critic, **seen)
        return _add_penalties("discriminator", value, shown, metrics, variables)

    def generator_loss(params_g, params_d, variables, batch, key, axis_name=None, fake=None):
        key_fake, key_real_pass, key_fake_pass = jax.random.split(key, 3)
        if fake is None:
            fake, variables = generate(params_g, variables, batch, key_fake, axis_name)
        # Only relativistic losses look at the real logits; for the others the compiler drops that pass. What the
        # discriminator's collections become here is dropped too: its own step has moved them already.
        real, shown = pack(batch["real"], packing), pack(fake, packing)
        real_logits, _ = logits(params_d, variables, real, batch, key_real_pass, axis_name)
        fake_logits, _ = logits(params_d, variables, shown, batch, key_fake_pass, axis_name)
        r, f = _gather(real_logits, axis_name), _gather(fake_logits, axis_name)
        value = _mean_of_best(loss.generator(r, f), f)
        metrics = {"loss_g": value, "std_fake": batch_std(jax.lax.stop_gradient(fake), axis_name)}
        seen = view(params_g, params_g, variables, batch, key, axis_name)
        return _add_penalties("generator", value, seen, metrics, variables)

    def _add_penalties(side, value, seen, metrics, variables):
        if not terms:
            return value, Aux(metrics, variables)
        total, more, adaptive = evaluate(terms, side, seen, variables["adaptive"])
        return value + total, Aux({**metrics, **more}, {**variables, "adaptive": adaptive})

    def _mean_of_best(values, fake_logits):
        if top_k == 1.0:
            return jnp.mean(values)
        k = max(1, int(top_k * values.size))
        return jnp.sum(top_k_mask(fake_logits, k) * values) / k

    def decode(params_g, variables, z, condition=None):
        if condition is not None:
            raise ValueError("this game is unconditional: it takes no condition")
        return networks.evaluate(generator, params_g, variables["generator"], z)

    def sample(params_g, variables, key, n, condition=None):
        return decode(params_g, variables, latents(key, jnp.arange(n)), condition)

    return Game(init, generate, discriminator_loss, generator_loss, latents, decode, sample)


def batch_std(x: jax.Array, axis_name: str | None = None) -> jax.Array:
    """Root mean square over features of the standard deviation over the (global) batch, to about 1e-4."""
    mean, square = jnp.mean(x, axis=0), jnp.mean(jnp.square(x), axis=0)
    if axis_name is not None:
        mean, square = jax.lax.pmean((mean, square), axis_name)
    return jnp.sqrt(jnp.maximum(0.0, jnp.mean(square - jnp.square(mean))))


def _gather(x, axis_name):
    return x if axis_name is None else jax.lax.all_gather(x, axis_name, tiled=True)


def _check(top_k: float, packing: int, spectral_norm: Sequence[str]) -> None:
    if not 0.0 < top_k <= 1.0:
        raise ConfigError(f"top_k {top_k} is a share of the batch: above 0, at most 1")
    if packing < 1:
        raise ConfigError(f"packing {packing} must be 1 or more")
    unknown = sorted(set(spectral_norm) - {"generator", "discriminator"})
    if unknown:
        raise ConfigError(f"spectral_norm names {', '.join(unknown)}; known: generator, discriminator")
