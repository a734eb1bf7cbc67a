"""Real and generated examples in one pass of the discriminator: the numbers of two passes."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import acgan, dcgan, mlp, sngan_projection, stylegan2_ada
from jaxgan import build
from jaxgan.errors import ConfigError
from jaxgan.parallel import AXIS, Parallel
from tests.small import assert_close, assert_equal

KEY = jax.random.key(5)
SHAPE, COUNTS, BATCH = (28, 28, 1), (20,) * 10, 8


def projection():
    """Labels and spectral normalisation."""
    return sngan_projection.get_config("tiny")


def heads():
    """Another head, and augmentation that draws for each example."""
    config = acgan.get_config("tiny")
    config.model.discriminator.batch_norm, config.model.discriminator.dropout = False, 0.0
    config.augment.name, config.augment.p = "ada", 0.8
    return config


def packs():
    config = dcgan.get_config("tiny")
    config.model.discriminator.batch_norm, config.game.packing = False, 2
    return config


def game_of(config, joint_pass):
    config.joint_pass = joint_pass
    return build.make_game(config, SHAPE, label_counts=COUNTS)


def batch():
    draws = np.random.default_rng(0)
    real, label = draws.uniform(-1, 1, (BATCH, *SHAPE)).astype(np.float32), draws.integers(0, 10, BATCH)
    return {"real": jnp.asarray(real), "index": jnp.arange(BATCH), "label": jnp.asarray(label, jnp.int32)}


@partial(jax.jit, static_argnums=(0, 5))
def step(game, params_g, params_d, variables, batch, axis_name=None):
    loss = jax.value_and_grad(game.discriminator_loss, has_aux=True)
    (value, aux), grads = loss(params_d, params_g, variables, batch, KEY, axis_name)
    return value, aux, grads if axis_name is None else jax.lax.pmean(grads, axis_name)


@pytest.mark.parametrize("make", [projection, heads, packs])
def test_one_pass_gives_the_numbers_of_two(make):
    apart, together = game_of(make(), False), game_of(make(), True)
    params_g, params_d, variables = jax.jit(apart.init)(KEY, batch())
    assert_equal(jax.jit(together.init)(KEY, batch())[1], params_d)
    expected = step(apart, params_g, params_d, variables, batch())
    assert_close(step(together, params_g, params_d, variables, batch()), expected)

    def convolutions(game):
        lowered = step.lower(game, params_g, params_d, variables, batch(), None)
        return str(lowered.as_text()).count("stablehlo.convolution")

    assert convolutions(together) < convolutions(apart)


def test_its_draws_do_not_know_the_devices():
    config = mlp.get_config("tiny")
    config.model.discriminator.dropout = 0.3
    game = game_of(config, True)
    params_g, params_d, variables = jax.jit(game.init)(KEY, batch())
    one = step(game, params_g, params_d, variables, batch())
    parallel = Parallel("pmap", jax.devices()[:4])
    on_four = jax.pmap(partial(step, game, axis_name=AXIS), AXIS, in_axes=(None, None, None, 0), out_axes=None)
    assert_close(on_four(params_g, params_d, variables, parallel.split(batch())), one)


@pytest.mark.parametrize("config", [dcgan.get_config("tiny"), stylegan2_ada.get_config("tiny")], ids=["norm", "spread"])
def test_a_discriminator_that_mixes_examples_is_refused(config):
    with pytest.raises(ConfigError, match=r"config\.joint_pass"):
        jax.eval_shape(game_of(config, True).init, KEY, batch())


def test_a_minibatch_of_one_does_not_mix():
    config = stylegan2_ada.get_config("tiny")
    config.model.discriminator.group_size = 1
    jax.eval_shape(game_of(config, True).init, KEY, batch())
