"""One generator against one discriminator: G(z) makes examples from noise, D(x) gives each a logit.

Goodfellow et al., Generative Adversarial Networks, 2014, with any adversarial loss of `jaxgan.losses`.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxgan.games import Aux, Game
from jaxgan.losses import AdversarialLoss


def make_game(
    generator: nn.Module, discriminator: nn.Module, loss: AdversarialLoss, latent_size: int
) -> Game:
    """The game of two linen modules.

    Args:
        generator: called as `generator(z [B, latent_size], train=, index=)`, gives examples [B, ...].
        discriminator: called as `discriminator(x [B, ...], train=, index=)`, gives logits, [B] or patches [B, h, w, 1].
        loss: both sides of the adversarial loss.
        latent_size: length of z, drawn from N(0, I).
    """

    def latents(key, index):
        return jax.vmap(lambda i: jax.random.normal(jax.random.fold_in(key, i), (latent_size,)))(index)

    def init(key, batch):
        key_g, key_d = jax.random.split(key)
        z = latents(key, batch["index"])
        params_g, collections_g = _initialise(generator, key_g, z)
        params_d, collections_d = _initialise(discriminator, key_d, batch["real"])
        return params_g, params_d, {"generator": collections_g, "discriminator": collections_d}

    def generate(params_g, variables, batch, key, axis_name=None):
        key_z, key_noise = jax.random.split(key)
        z = latents(key_z, batch["index"])
        collections = variables["generator"]
        fake, collections = _apply(generator, params_g, collections, z, batch["index"], key_noise, axis_name)
        return fake, {**variables, "generator": collections}

    def logits(params_d, variables, x, batch, key, axis_name):
        collections = variables["discriminator"]
        out, collections = _apply(discriminator, params_d, collections, x, batch["index"], key, axis_name)
        # Losses see the global batch: some compare an example with the mean of all others.
        return _gather(out, axis_name), {**variables, "discriminator": collections}

    def discriminator_loss(params_d, params_g, variables, batch, key, axis_name=None, fake=None):
        key_fake, key_real_pass, key_fake_pass = jax.random.split(key, 3)
        if fake is None:
            fake, variables = generate(params_g, variables, batch, key_fake, axis_name)
        fake = jax.lax.stop_gradient(fake)
        real_logits, variables = logits(params_d, variables, batch["real"], batch, key_real_pass, axis_name)
        fake_logits, variables = logits(params_d, variables, fake, batch, key_fake_pass, axis_name)
        value = jnp.mean(loss.discriminator(real_logits, fake_logits))
        metrics = {
            "loss_d": value,
            "logits_real": jnp.mean(real_logits),
            "logits_fake": jnp.mean(fake_logits),
            # Share of pairs in the right order: needs no threshold, so it means the same for every loss.
            "accuracy_d": jnp.mean(real_logits > fake_logits, dtype=jnp.float32),
            "std_real": batch_std(batch["real"], axis_name),
        }
        return value, Aux(metrics, variables)

    def generator_loss(params_g, params_d, variables, batch, key, axis_name=None, fake=None):
        key_fake, key_real_pass, key_fake_pass = jax.random.split(key, 3)
        if fake is None:
            fake, variables = generate(params_g, variables, batch, key_fake, axis_name)
        # Only relativistic losses look at the real logits; for the others the compiler drops that pass. What the
        # discriminator's collections become here is dropped too: its own step has moved them already.
        real_logits, _ = logits(params_d, variables, batch["real"], batch, key_real_pass, axis_name)
        fake_logits, _ = logits(params_d, variables, fake, batch, key_fake_pass, axis_name)
        value = jnp.mean(loss.generator(real_logits, fake_logits))
        metrics = {"loss_g": value, "std_fake": batch_std(jax.lax.stop_gradient(fake), axis_name)}
        return value, Aux(metrics, variables)

    def decode(params_g, variables, z, condition=None):
        if condition is not None:
            raise ValueError("this game is unconditional: it takes no condition")
        return generator.apply({"params": params_g, **variables["generator"]}, z, train=False)

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


def _initialise(module, key, x):
    key_params, key_dropout = jax.random.split(key)
    variables = module.init({"params": key_params, "dropout": key_dropout}, x, train=True)
    params = variables.pop("params")
    return params, variables


def _apply(module, params, collections, x, index, key, axis_name):
    return module.clone(axis_name=axis_name).apply(
        {"params": params, **collections},
        x,
        train=True,
        index=index,
        rngs={"dropout": key},
        mutable=list(collections),
    )
