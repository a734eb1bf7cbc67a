"""The compiled program of a group: its layout, and that members have nothing to say to each other."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import toy2d
from jaxgan.errors import ConfigError
from jaxgan.overrides import apply_overrides
from jaxgan.population.program import Program

FACTS = ((2,), 64, (32, 32))


def program(count, devices=4, **overrides):
    config = apply_overrides(toy2d.get_config("tiny"), overrides)
    return Program(config, FACTS, {"seed": np.arange(count, dtype=np.int32)}, count, jax.devices()[:devices])


@pytest.mark.parametrize("count, slots, devices", [(1, 1, 1), (3, 3, 3), (4, 4, 4), (5, 8, 4), (8, 8, 4)])
def test_members_divide_over_the_devices(count, slots, devices):
    made = program(count)
    assert (made.slots, len(made.devices)) == (slots, devices)
    assert made.values["seed"].tolist() == [*range(count), *[count - 1] * (slots - count)]
    assert made.awake([True] * count).tolist() == [True] * count + [False] * (slots - count)
    shards = made.values["seed"].addressable_shards
    assert {shard.device for shard in shards} == set(jax.devices()[:devices])


def test_on_a_cpu_members_are_mapped_unless_asked_for_otherwise():
    assert program(2).mapping == "map" and program(2, population="vmap").mapping == "vmap"
    with pytest.raises(ConfigError, match="known: auto, map, vmap"):
        program(2, population="scan")


def test_nothing_is_sent_between_members():
    made = program(8)
    arrays = {"real": jax.ShapeDtypeStruct((64, 2), jnp.float32)}
    text = made.compile(1, True).lower(*made.abstract(arrays)).compile().as_text()
    assert "f32[2,8,8]" in text  # two members' kernels on each device, not all eight
    assert not re.search("all-reduce|all-gather|all-to-all|collective|reduce-scatter", text)
