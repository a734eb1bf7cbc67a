"""From a configuration to a game: every name in it reaches what it names, and every mistake is named."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl import logging
from ml_collections import ConfigDict

from experiments import dcgan, r3gan, toy2d
from jaxgan import losses
from jaxgan.build import (
    label_counts,
    make_experiment,
    make_game,
    make_loss,
    make_optimizers,
    make_parallel,
    stream_above,
)
from jaxgan.counting import Counting
from jaxgan.data.dataset import make_dataset
from jaxgan.errors import ConfigError
from jaxgan.games.penalties import TERMS
from jaxgan.optim import Ramp
from jaxgan.update import ema_decay


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


def conditional(**auxiliary):
    config = tiny()
    config.game.conditional = True
    config.loss.auxiliary.update(auxiliary)
    return config


BATCH = {"real": jnp.ones((4, 2)), "index": jnp.arange(4), "label": jnp.array([0, 2, 1, 1])}


def shapes_of(config, counts=(5, 0, 15), shape=(2,)):
    game = make_game(config, shape, label_counts=counts)
    return game, jax.eval_shape(game.init, jax.random.key(0), {**BATCH, "real": jnp.zeros((4, *shape))})


def test_the_classes_of_a_data_set_are_counted():
    real = np.zeros((5, 2), np.float32)
    assert label_counts(make_dataset("points", real, np.array([2, 0, 2, 2, 0]), ("a", "b", "c", "d"))) == (2, 0, 3, 0)
    assert label_counts(make_dataset("points", real, np.zeros(5), ())) == ()


def test_a_conditional_game_tells_both_networks_the_classes():
    game, (params_g, params_d, _) = shapes_of(conditional())
    assert params_g["Dense_0"]["kernel"].shape == (2 + 3, 8)
    assert params_d["Dense_0"]["kernel"].shape == (2 + 3, 8)
    drawn = np.asarray(game.conditions(jax.random.key(0), jnp.arange(2000)))
    np.testing.assert_allclose(np.bincount(drawn, minlength=3) / 2000, [0.25, 0.0, 0.75], atol=0.03)
    game, (params_g, params_d, _) = shapes_of(tiny())  # labels of the data are not used unless they are asked for
    assert game.conditions is None
    assert params_g["Dense_0"]["kernel"].shape == params_d["Dense_0"]["kernel"].shape == (2, 8)


def test_heads_and_codes_reach_the_networks():
    config = conditional(ac_gan=1.0, reacgan=0.5, info_gan=1.0)
    config.game.codes = ConfigDict({"categorical": (3, 2), "continuous": 1})
    game, (params_g, params_d, variables) = shapes_of(config)
    assert params_g["Dense_0"]["kernel"].shape[0] == 2 + 6 + 3
    assert {"class", "code", "embedding", "proxy", "logit"} <= set(params_d["judge"])
    assert params_d["judge"]["class"]["kernel"].shape == (8, 3) and params_d["judge"]["code"]["kernel"].shape == (8, 6)
    _, aux = jax.eval_shape(game.discriminator_loss, params_d, params_g, variables, BATCH, jax.random.key(1))
    assert {"ac_gan_d", "reacgan_d", "info_gan_d"} <= set(aux.metrics) and "contragan_d" not in aux.metrics


@pytest.mark.parametrize("weight", [0.0, {"weight": 0.0}, {"weight": 0.0, "generator_weight": 0.0}])
def test_a_head_of_weight_0_is_none(weight):
    """However the 0 is written: the discriminator that is built gives what the game expects."""
    config = conditional()
    config.loss.auxiliary = {"ac_gan": weight}
    game = make_game(config, (2,), label_counts=(5, 5, 5))

    def value(key):
        params_g, params_d, variables = game.init(key, BATCH)
        return game.discriminator_loss(params_d, params_g, variables, BATCH, key)

    value, aux = jax.eval_shape(value, jax.random.key(0))
    assert value.shape == () and "ac_gan_d" not in aux.metrics


@pytest.mark.parametrize(
    "experiment, change, shape, words",
    [
        (toy2d, {"game.conditional": True}, (2,), r"config\.game\.conditional: this data set has no labels"),
        (toy2d, {"loss.auxiliary.ac_gan": 1.0}, (2,), r"ac_gan is of labels; set config\.game\.conditional=True"),
        (toy2d, {"loss.auxiliary.info_gan": 1.0}, (2,), r"info_gan reads codes back, but config\.game\.codes has none"),
        (toy2d, {"augment.name": "ada"}, (2,), r"config\.augment changes pictures; the examples here have .*\(2,\)"),
        (dcgan, {"augment.name": "adda"}, (28, 28, 1), r"unknown config\.augment\.name 'adda'"),
        (dcgan, {"augment.name": "ada", "augment.pipe": "x"}, (28, 28, 1), r"config\.augment: unknown preset 'x'"),
    ],
)
def test_mistakes_in_a_game_are_named(experiment, change, shape, words):
    config = experiment.get_config("tiny")
    config.update_from_flattened_dict(change)
    with pytest.raises(ConfigError, match=words):
        make_game(config, shape)


def test_an_unknown_head_lists_the_known():
    config = conditional()
    config.loss.auxiliary = {"acgan": 1.0}
    with pytest.raises(ConfigError, match=r"unknown head 'acgan'.*ac_gan, contragan, reacgan, info_gan"):
        make_game(config, (2,), label_counts=(5, 5))


def test_labels_and_packs_are_refused():
    config = conditional()
    config.game.packing = 2
    with pytest.raises(ConfigError, match="packing must be 1 in a conditional game"):
        make_game(config, (2,), label_counts=(5, 5))


def test_a_network_that_knows_no_heads_says_so():
    config = r3gan.get_config("tiny")
    config.game.conditional = True
    config.loss.auxiliary.ac_gan = 1.0
    with pytest.raises(ConfigError, match=r"r3gan\.Discriminator knows no heads \(config\.loss\.auxiliary\)"):
        make_game(config, (32, 32, 1), label_counts=(5, 5))


def test_options_that_the_rest_of_the_configuration_gives_cannot_be_set():
    for option in ("classes", "heads", "code_size"):
        config = tiny()
        config.model.discriminator[option] = 3
        with pytest.raises(ConfigError, match=rf"config\.model\.discriminator has no {option}; .*mlp takes hidden"):
            make_game(config, (2,))


def test_packs_are_augmented_or_refused_before_the_run():
    """A pack of two colour pictures has six channels, with which the pipe can do nothing."""
    config = dcgan.get_config("tiny")
    config.game.packing, config.augment.name, config.augment.p = 2, "ada", 0.5
    try:
        game = make_game(config, (28, 28, 3))
    except ConfigError:
        return

    def value(key):
        batch = {"real": jnp.zeros((4, 28, 28, 3)), "index": jnp.arange(4)}
        params_g, params_d, variables = game.init(key, batch)
        return game.discriminator_loss(params_d, params_g, variables, batch, key)

    assert jax.eval_shape(value, jax.random.key(0))[0].shape == ()


def ramp(start, end, **more):
    return {"from": start, "to": end, "over": "1k images", **more}


def with_ramps():
    """Every kind of value that may be a ramp."""
    config = tiny()
    adam = {"name": "adam", "learning_rate": ramp(2e-3, 1e-3), "b1": 0.5, "b2": ramp(0.9, 0.99), "eps": 1e-8}
    config.optimizer.discriminator = ConfigDict(adam)
    config.loss.penalties = {"r1": {"weight": ramp(4.0, 0.0)}}
    config.augment.name, config.augment.pipe = "ada", "blit"
    with config.ignore_type():
        config.augment.p = ramp(0.1, 0.5)
        config.ema.half_life_images = ramp(0.0, 400.0)
    config.ema.rampup = 0.0
    return config


def test_ramps_reach_what_they_are_written_for():
    """One update at 500 of 1,000 images: every value is half-way. (A penalty's weight has its test below.)"""
    config = with_ramps()
    config.loss.penalties = {}
    optimizers = make_optimizers(config, Counting(8, 100))
    assert optimizers.discriminator.ramps == {"learning_rate": Ramp(2e-3, 1e-3, 1000.0), "b2": Ramp(0.9, 0.99, 1000.0)}
    assert optimizers.generator.ramps == {}
    experiment = make_experiment(config, (8, 8, 1), 100)
    real = np.random.default_rng(0).integers(0, 256, (100, 8, 8, 1), dtype=np.uint8)
    start = experiment.new_state()
    start = start.replace(images=jnp.uint32(500))
    state, metrics = jax.jit(experiment.step)(start, jnp.arange(8), {"real": jnp.asarray(real)})
    knobs = state.opt_d.hyperparams
    np.testing.assert_allclose([knobs["learning_rate"], knobs["b2"]], [1.5e-3, 0.945], rtol=1e-5)
    np.testing.assert_allclose(metrics["augment_p"], 0.3, rtol=1e-5)
    half_life = Ramp(0.0, 400.0, 1000.0)
    decay = ema_decay(jnp.uint32(508), jnp.uint32(8), half_life, 0.0)
    np.testing.assert_allclose(decay, 0.5 ** (8 / 203.2), rtol=1e-5)
    moved = jax.tree.map(lambda e, a, b: (e - (a + (1 - decay) * (b - a))), state.ema_g, start.ema_g, state.params_g)
    assert max(np.abs(leaf).max() for leaf in jax.tree.leaves(moved)) < 1e-6
    way = jax.tree.map(lambda a, b: np.abs(b - a).max(), start.ema_g, state.params_g)
    assert max(jax.tree.leaves(way)) > 1e-4


def test_a_penalty_s_weight_may_be_a_ramp():
    """The value is the loss and the weighted penalty, at any number of images."""
    config = tiny()
    config.loss.penalties = {"r1": {"weight": ramp(4.0, 1.0, shape="cosine"), "every": 1}, "l2": 0.0}
    game = make_game(config, (2,))
    batch = {"real": jnp.linspace(-1.0, 1.0, 8).reshape(4, 2), "index": jnp.arange(4)}
    params_g, params_d, variables = jax.jit(game.init)(jax.random.key(0), batch)
    params_d = jax.tree.map(lambda x: 5.0 * x, params_d)
    loss = jax.jit(game.discriminator_loss)
    for images, weight in ((0, 4.0), (250, 4.0 - 3.0 * (0.5 - 0.5**1.5)), (500, 2.5), (1000, 1.0), (10**6, 1.0)):
        seen = {**batch, "images": jnp.uint32(images)}
        value, aux = loss(params_d, params_g, variables, seen, jax.random.key(1))
        assert aux.metrics["penalty_r1"] > 1e-3
        added = (value - aux.metrics["loss_d"]) / aux.metrics["penalty_r1"]
        np.testing.assert_allclose(added, weight, rtol=1e-3)
    assert set(aux.metrics).isdisjoint({"penalty_l2"})


@pytest.mark.parametrize(
    "place",
    [
        "optimizer.generator.learning_rate",
        "optimizer.discriminator.b2",
        "loss.penalties.r1.weight",
        "augment.p",
        "ema.half_life_images",
    ],
)
@pytest.mark.parametrize(
    "wrong, words",
    [
        ({"from": 1.0, "to": 0.5}, "a ramp has from, to, over and perhaps shape"),
        ({"from": 1.0, "to": 0.5, "over": "0 images"}, "over must be above 0"),
        ({"from": 1.0, "to": 0.5, "over": "1k images", "shape": "steps"}, "shape linear or cosine"),
    ],
)
def test_a_wrong_ramp_is_named_where_it_stands(place, wrong, words):
    config = with_ramps()
    *path, name = place.split(".")
    node = config
    for part in path:
        node = node[part]
    with config.ignore_type():
        node[name] = ConfigDict(wrong)
    with pytest.raises(ConfigError, match=f"config.{place} is .*{words}"):
        make_experiment(config, (8, 8, 1), 100)


def test_what_is_streamed():
    config = tiny()
    assert stream_above(config) == 4e9
    for stream, limit in (("always", 0.0), ("never", float("inf"))):
        config.data.stream = stream
        assert stream_above(config) == limit
    config.data.stream = "sometimes"
    with pytest.raises(ConfigError, match=r"config\.data\.stream 'sometimes'; known: auto, always, never"):
        stream_above(config)
    older = config.to_dict()
    del older["data"]["stream"], older["data"]["resident_bytes"]
    assert stream_above(ConfigDict(older)) == float("inf")


def test_the_layout_that_a_configuration_asks_for():
    config = toy2d.get_config("tiny")
    assert make_parallel(config).mode == "pmap"
    assert make_parallel(config, jax.devices()[:2]).devices == jax.devices()[:2]
    config.shard_state, config.parallel = True, "shard_map"
    assert "opt_g, opt_d, ema_g cut" in make_parallel(config).describe()
    config.parallel = "pmap"
    with pytest.raises(ConfigError, match=r"--config\.parallel=shard_map"):
        make_parallel(config)
    config.shard_state, config.batch_size = False, 6
    with pytest.raises(ConfigError, match="batch_size 6 does not divide over 4 devices"):
        make_parallel(config)


def test_an_optimizer_that_needs_whole_arrays_is_refused_shares():
    config = toy2d.get_config("tiny")
    config.shard_state = True
    make_optimizers(config, Counting(8, 100, 1))
    config.optimizer.discriminator = ConfigDict({"name": "lamb", "learning_rate": 1e-3})
    with pytest.raises(ConfigError, match=r"'lamb' of config\.optimizer\.discriminator needs whole ones.*adam, "):
        make_optimizers(config, Counting(8, 100, 1))
    config.shard_state = False
    make_optimizers(config, Counting(8, 100, 1))
