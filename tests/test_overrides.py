"""Dotted overrides: every field of the command line, and what a wrong one is told."""

import pytest

from experiments import r3gan, toy2d
from jaxgan.errors import ConfigError
from jaxgan.overrides import apply

RAMP = {"from": 1.0, "to": 0.1, "over": "10 images"}


def test_a_copy_is_changed():
    config = toy2d.get_config()
    changed = apply(config, {"batch_size": 4, "optimizer.generator.learning_rate": 1, "augment.policy": ["color"]})
    assert (changed.batch_size, config.batch_size) == (4, 256)
    rates = [c.optimizer.generator.learning_rate for c in (changed, config)]
    assert rates == [1.0, 2e-4] and isinstance(rates[0], float)
    assert changed.augment.policy == ("color",)
    assert changed.optimizer.discriminator.learning_rate == 2e-4


def test_a_mapping_takes_the_place_of_a_whole_field():
    config = toy2d.get_config()
    changed = apply(config, {"loss.penalties": {"r1": {"weight": 2.0, "every": 4}}})
    assert changed.loss.penalties.to_dict() == {"r1": {"weight": 2.0, "every": 4}}
    assert config.loss.penalties.r2 == 0.0


def test_ramps_and_numbers_take_each_other_s_place():
    config = r3gan.get_config()
    assert apply(config, {"augment.p": 1}).augment.p == 1.0
    assert apply(config, {"optimizer.generator.b2.from": 0.5}).optimizer.generator.b2["from"] == 0.5
    ramped = apply(toy2d.get_config(), {"ema.half_life_images": RAMP, "loss.penalties.r1": {"weight": RAMP}})
    assert ramped.ema.half_life_images.to_dict() == RAMP
    assert ramped.loss.penalties.r1.weight.to_dict() == RAMP


@pytest.mark.parametrize(
    "name, nearest",
    [
        ("batchsize", "batch_size"),
        ("optimizer.generator.learning_rte", "optimizer.generator.learning_rate"),
        ("penalties.r1", "loss.penalties.r1"),
        ("learning_rate", "optimizer.generator.learning_rate"),
        ("seed.more", "seed"),
        ("config.seed", "seed"),
    ],
)
def test_a_wrong_name_is_told_the_nearest(name, nearest):
    with pytest.raises(ConfigError, match=f"no field '{name}'.*nearest.*{nearest}"):
        apply(toy2d.get_config(), {"batch_size": 4, name: 1})


def test_a_name_like_no_other():
    with pytest.raises(ConfigError, match=r"no field 'qqqqq'$"):
        apply(toy2d.get_config(), {"qqqqq": 1})


@pytest.mark.parametrize(
    "name, value, now",
    [("batch_size", "many", "256"), ("batch_size", 2.5, "256"), ("data.flip", 1, "False"), ("ema", 3, "rampup")],
)
def test_a_wrong_value_is_told_what_the_field_holds(name, value, now):
    with pytest.raises(ConfigError, match=f"config.{name} cannot be .*{now}.*keeps its type"):
        apply(toy2d.get_config(), {name: value})
