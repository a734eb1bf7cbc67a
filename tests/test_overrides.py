"""Dotted overrides against the configuration that a person would have written by hand."""

import pytest
from ml_collections import ConfigDict

from experiments import dcgan, r3gan, toy2d
from jaxgan.errors import ConfigError
from jaxgan.overrides import apply_overrides


def test_a_copy_has_the_values_and_the_original_is_left_as_it_is():
    config = dcgan.get_config("tiny")
    before = config.to_dict()
    changed = apply_overrides(
        config, {"optimizer.generator.b1": 0, "model.generator.widths": [16, 8], "loss.name": "hinge", "seed": 7}
    )
    assert config.to_dict() == before
    assert changed.optimizer.generator.b1 == 0.0 and isinstance(changed.optimizer.generator.b1, float)
    assert changed.model.generator.widths == (16, 8)
    assert (changed.loss.name, changed.seed) == ("hinge", 7)
    untouched = changed.to_dict()
    for name in ("optimizer", "model", "loss", "seed"):
        untouched[name] = before[name]
    assert untouched == before


def test_a_dict_takes_the_place_of_a_section_or_of_a_number():
    config = r3gan.get_config("tiny")
    for overrides in r3gan.sweep():
        (penalties,) = overrides.values()
        assert apply_overrides(config, overrides).loss.penalties.to_dict() == penalties
    ramp = {"from": 2e-4, "to": 5e-5, "over": "1k images"}
    toy = apply_overrides(toy2d.get_config(), {"optimizer.generator.learning_rate": ramp})
    assert toy.optimizer.generator.learning_rate.to_dict() == ramp


def test_a_number_takes_the_place_of_a_ramp():
    name = "optimizer.generator.learning_rate"
    assert apply_overrides(r3gan.get_config("tiny"), {name: 1e-4}).optimizer.generator.learning_rate == 1e-4


@pytest.mark.parametrize(
    "name, suggestion",
    [
        ("optimizer.generator.learningrate", "optimizer.generator.learning_rate"),
        ("optimiser.generator.b1", "optimizer.generator.b1"),
        ("learning_rate", "optimizer.generator.learning_rate"),
        ("penalties.r1", "loss.penalties.r1"),
        ("seed.more", "seed"),
        ("qqqqqqqq", "--dry_run"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest_ones(name, suggestion):
    with pytest.raises(ConfigError, match=r"has no field") as caught:
        apply_overrides(toy2d.get_config(), {name: 1})
    assert repr(name) in str(caught.value) and suggestion in str(caught.value)


@pytest.mark.parametrize(
    "name, value",
    [
        ("batch_size", 1.5),
        ("batch_size", "many"),
        ("batch_size", True),
        ("batch_size", None),
        ("share_fake", 1),
        ("loss.name", 3),
        ("loss.name", {"name": "hinge"}),
        ("share_fake", {"from": 0.0}),
        ("optimizer", 1e-4),
        ("model.generator.hidden", 3),
    ],
)
def test_a_value_of_another_type_is_refused(name, value):
    with pytest.raises(ConfigError, match=f"the field '{name}' is"):
        apply_overrides(toy2d.get_config(), {name: value})


def test_a_locked_configuration_may_be_overridden():
    config = ConfigDict({"a": {"b": 1.0}}).lock()
    assert apply_overrides(config, {"a.b": 2}).a.b == 2.0
