"""From a configuration to a game: every name in it reaches what it names, and every mistake is named."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl import logging

from experiments import dcgan, toy2d
from jaxgan import losses
from jaxgan.build import make_experiment, make_game, make_loss, make_optimizers
from jaxgan.counting import Counting
from jaxgan.errors import ConfigError
from jaxgan.games.penalties import TERMS


def tiny():
    return toy2d.get_config("tiny")


def loss_of(name, **fields):
    c = tiny().loss
    c.name = name
    for field, value in fields.items():
        c[field] = value
    return make_loss(c)


@pytest.mark.parametrize("name", losses.ADVERSARIAL)
def test_every_loss_can_be_named(name):
    assert loss_of(name) is losses.ADVERSARIAL[name]


@pytest.mark.parametrize("name", ["minimax", "non_saturating"])
def test_label_smoothing(name):
    real, fake = jnp.array([1.0, -2.0]), jnp.array([0.5, 3.0])
    smooth = loss_of(name, label_smoothing=0.2)
    expected = losses.minimax_discriminator_loss(real, fake, label_smoothing=0.2)
    np.testing.assert_array_equal(smooth.discriminator(real, fake), expected)
    np.testing.assert_array_equal(smooth.generator(real, fake), losses.ADVERSARIAL[name].generator(real, fake))


@pytest.mark.parametrize("name, smoothing", [("hinge", 0.1), ("minimax", 1.0), ("minimax", -0.1)])
def test_label_smoothing_where_it_makes_no_sense(name, smoothing):
    with pytest.raises(ConfigError, match="label_smoothing"):
        loss_of(name, label_smoothing=smoothing)


def test_an_unknown_loss_lists_the_known():
    with pytest.raises(ConfigError, match=r"unknown loss 'hing'.*hinge"):
        loss_of("hing")


def test_the_base_configuration_lists_every_penalty_switched_off():
    assert tiny().loss.penalties.to_dict() == dict.fromkeys(TERMS, 0.0)


@pytest.mark.parametrize("given", [{"r1": 10.0}, {"lecam": {"weight": 1, "start": 5}, "l2": 2}])
def test_penalties_are_assigned_as_a_dict(given):
    config = tiny()
    config.loss.penalties = given
    game = make_game(config, (2,))
    params_g, params_d, variables = game.init(jax.random.key(0), {"real": jnp.zeros((2, 2)), "index": jnp.arange(2)})
    batch = {"real": jnp.ones((4, 2)), "index": jnp.arange(4)}
    _, aux = game.discriminator_loss(params_d, params_g, variables, batch, jax.random.key(1))
    assert {f"penalty_{name}" for name in given} <= set(aux.metrics)


def test_game_options_reach_the_game():
    config = tiny()
    config.game.packing, config.game.spectral_norm, config.loss.top_k = 2, ("discriminator",), 0.5
    game = make_game(config, (2,))
    _, params_d, variables = jax.eval_shape(
        game.init, jax.random.key(0), {"real": jnp.zeros((2, 2)), "index": jnp.arange(2)}
    )
    assert params_d["Dense_0"]["kernel"].shape[0] == 4
    assert "spectral" in variables["discriminator"] and "spectral" not in variables["generator"]
    config.loss.top_k = 2.0
    with pytest.raises(ConfigError, match="top_k"):
        make_game(config, (2,))


def test_weight_clipping_is_the_discriminator_s_alone():
    config = tiny()
    counting = Counting(8, 100)
    assert make_optimizers(config, counting).discriminator.box is None
    config.optimizer.clip_weights = -0.1
    with pytest.raises(ConfigError, match=r"clip_weights -0\.1"):
        make_optimizers(config, counting)
    config.optimizer.clip_weights = 0.01
    config.optimizer.schedule.name, config.optimizer.schedule.over = "linear_to_zero", "1000 images"
    experiment = make_experiment(config, (2,), 100)
    arrays = {"real": jnp.asarray(np.random.default_rng(0).normal(size=(100, 2)), jnp.float32)}
    state, _ = jax.jit(experiment.step)(experiment.new_state(), jnp.arange(8), arrays)
    largest = [max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(p)) for p in (state.params_d, state.params_g)]
    assert largest[0] <= 0.01 * (1 + 1e-6) and largest[1] > 0.05


@pytest.mark.parametrize("batch_norm", [True, False])
def test_a_gradient_penalty_under_batch_norm_is_warned_of(batch_norm, monkeypatch):
    said = []
    monkeypatch.setattr(logging, "warning", lambda text, *values: said.append(text % values))
    config = dcgan.get_config("tiny")
    config.model.discriminator.batch_norm = batch_norm
    config.loss.penalties = {"r1": 1.0, "lecam": 1.0}
    make_experiment(config, (28, 28, 1), 100)
    assert len(said) == batch_norm and (not said or said[0].startswith("r1 penalises"))
