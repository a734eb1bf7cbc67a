"""Small games that several tests play."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxgan.games import standard
from jaxgan.losses import ADVERSARIAL
from jaxgan.models import dcgan, mlp
from jaxgan.optim import Optimizer, Optimizers, make_schedule
from jaxgan.update import create_state, make_update, with_data

SHAPE = (8, 8, 1)


def dcgan_game(loss="non_saturating"):
    """A DCGAN of a few hundred parameters, with batch norm on both sides."""
    networks = dcgan.Generator(shape=SHAPE, widths=(8, 4)), dcgan.Discriminator(widths=(4, 8))
    return standard.make_game(*networks, ADVERSARIAL[loss], latent_size=6)


def mlp_game(loss="non_saturating", dropout=0.0):
    networks = mlp.Generator(shape=SHAPE, hidden=(16,)), mlp.Discriminator(hidden=(16, 8), dropout=dropout)
    return standard.make_game(*networks, ADVERSARIAL[loss], latent_size=6)


def sgd(learning_rate=0.1, schedule="constant", images=0.0):
    """Plain gradient steps: unlike Adam's they do not turn a rounding error near zero into a full step."""
    sgd = optax.inject_hyperparams(optax.sgd)(learning_rate=learning_rate)
    optimizer = Optimizer(sgd, make_schedule(schedule, images))
    return Optimizers(optimizer, optimizer)


def settings(d_steps=1, share_fake=False, half_life_images=100.0, rampup=0.0, simultaneous=False, accumulate=1):
    ema = SimpleNamespace(half_life_images=half_life_images, rampup=rampup)
    fields = {"d_steps": d_steps, "share_fake": share_fake, "simultaneous": simultaneous, "ema": ema}
    return SimpleNamespace(**fields, accumulate=accumulate, batch_size=8)


def new_state(game, optimizers, seed=0):
    example = {"real": jnp.zeros((2, *SHAPE)), "index": jnp.arange(2)}
    return jax.jit(lambda: create_state(game, optimizers, jax.random.key(seed), example))()


def dense_layers(params):
    """An MLP's layers in their order; a discriminator's last one is its judge's."""
    hidden = [params[name] for name in sorted(params) if name.startswith("Dense")]
    return [*hidden, params["judge"]["logit"]] if "judge" in params else hidden


def pictures(n=40, seed=0):
    return {"real": np.random.default_rng(seed).integers(0, 256, (n, *SHAPE), dtype=np.uint8)}


def make_step(game, optimizers, config):
    """One update on a batch that it draws for itself, as the loop's."""
    return with_data(make_update(game, optimizers, config))


def plain(state):
    """The state's arrays on the host, keys as their data."""
    def host(x):
        return np.asarray(jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x)

    return jax.tree.map(host, state)


def assert_close(a, b, rtol=1e-4, atol=1e-5):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=rtol, atol=atol), plain(a), plain(b))


def assert_equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, plain(a), plain(b))


