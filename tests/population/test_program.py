"""The compiled program of a group: its layout, and that members have nothing to say to each other."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import toy2d
from jaxgan import build
from jaxgan.aot import hlo
from jaxgan.errors import ConfigError
from jaxgan.overrides import apply_overrides
from jaxgan.parallel import Parallel
from jaxgan.population.program import Program
from tests import ring
from tests.small import assert_close

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
    text = made.compile(1, True).lower(*made.abstract(arrays, True)).compile().as_text()
    assert "f32[2,8,8]" in text  # two members' kernels on each device, not all eight
    assert not re.search("all-reduce|all-gather|all-to-all|collective|reduce-scatter", text)


RATES = {"seed": np.array([0, 5], np.int32), "optimizer.generator.learning_rate": np.array([0.1, 0.2], np.float32)}
REAL = {"real": np.random.default_rng(0).normal(size=(64, 2)).astype(np.float32)}


def of_two_members(**overrides):
    """Two members of two devices each, of a game with batch norm, after three updates."""
    config = apply_overrides(ring.get_config(), {"population_devices": 2, **overrides})
    made = Program(config, FACTS, RATES, 2, jax.devices()[:4])
    call, states = made.compile(1, True), made.new_states()
    for _ in range(3):
        given = (made.awake([True, True]), made.values, made.divide(np.arange(8, dtype=np.int32)), made.share(REAL))
        states, metrics = call(states, *given)
    return [made.member(states, place) for place in range(2)], metrics


def alone(place, devices, **overrides):
    """The same member as a single run on so many devices."""
    config = apply_overrides(ring.get_config(), {**{name: x[place].item() for name, x in RATES.items()}, **overrides})
    parallel = Parallel("shard_map", jax.devices()[:devices])
    experiment = build.make_experiment(config, *FACTS)
    step, state = parallel.compile(experiment.step, shared=1), parallel.replicate(jax.jit(experiment.new_state)())
    for _ in range(3):
        index = parallel.split(np.arange(8, dtype=np.int32))
        state, metrics = step(state, index, parallel.replicate(REAL))
    return state, metrics


@pytest.mark.slow  # three compilations
def test_members_of_two_devices_are_single_runs_on_two_devices():
    states, metrics = of_two_members()
    for place, state in enumerate(states):
        expected, own = alone(place, 2)
        assert_close(state, expected, rtol=1e-5, atol=1e-6)
        assert_close({name: x[place] for name, x in metrics.items()}, own, rtol=1e-5, atol=1e-6)
    one_device, _ = alone(1, 1)  # batch norm is of the whole batch
    assert_close(states[1].params_g, one_device.params_g)


@pytest.mark.slow  # two more compilations
def test_vectorised_members_of_two_devices_are_the_same_and_statistics_may_be_each_device_s():
    own = {"batch_stats": "per_device"}
    for overrides in ({"population": "vmap"}, own):
        states, _ = of_two_members(**overrides)
        assert_close(states[1], alone(1, 2, **overrides)[0])
    with pytest.raises(AssertionError):
        assert_close(of_two_members(**own)[0][1].params_g, alone(1, 1, **own)[0].params_g)


def test_what_a_member_s_devices_send_stays_among_them():
    made = program(2, population_devices=2)
    assert made.describe() == "map over 4 device(s), 2 to a member, 1 member(s) on each"
    arrays = {"real": jax.ShapeDtypeStruct((64, 2), jnp.float32)}
    text = made.compile(1, True).lower(*made.abstract(arrays, True)).compile().as_text()
    collectives = hlo.count(text).collectives
    assert sum(size for c in collectives for size in c.sizes) >= 8 * 8 and all(c.is_within(2) for c in collectives)


@pytest.mark.parametrize("count, slots, devices", [(1, 1, 2), (2, 2, 4), (3, 4, 4)])
def test_members_of_two_devices_divide_too(count, slots, devices):
    made = program(count, population_devices=2)
    assert (made.slots, len(made.devices)) == (slots, devices)


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"population_devices": 5}, "population_devices 5: .* from 1 to all 4"),
        ({"population_devices": 0}, "population_devices 0"),
        ({"population_devices": 4, "batch_size": 6}, "batch_size 6 does not divide over 4 devices"),
        ({"game.packing": 3}, "batch_size 8 does not divide over 1 devices in packs of 3"),
    ],
    ids=str,
)
def test_devices_that_members_cannot_have(wrong, message):
    with pytest.raises(ConfigError, match=message):
        program(2, **wrong)


@pytest.mark.parametrize("count, each", [(5, 1), (3, 2)])
def test_a_member_s_state_is_its_slot_s_and_lies_on_one_device(count, each):
    made = program(count, population_devices=each)
    states = made.new_states()
    for place in range(count):
        state = made.member(states, place)
        assert_close(state, jax.tree.map(lambda x, place=place: x[place], states), rtol=0, atol=0)
        assert {device for x in jax.tree.leaves(state) for device in x.devices()} == {jax.devices()[0]}


def test_a_member_takes_another_s_state_but_not_its_key_and_numbers_of_its_own():
    made = program(3, devices=2)
    states = made.new_states()
    before = [made.member(states, place) for place in range(3)]
    states = made.copy(states, 2, 0)
    rate = "optimizer.generator.learning_rate"
    states = made.change(states, {"seed": np.arange(3, dtype=np.int32), rate: np.float32([1.0, 2.0, 3.0])})
    after = [made.member(states, place) for place in range(3)]
    assert_close(after[2].params_g, before[0].params_g, rtol=0, atol=0)
    assert_close(after[2].opt_d, before[0].opt_d, rtol=0, atol=0)
    assert_close(after[2].key, before[2].key)
    assert_close(after[1].params_g, before[1].params_g, rtol=0, atol=0)
    assert [float(state.opt_g.hyperparams["learning_rate"]) for state in after] == [1.0, 2.0, 3.0]
    assert made.values[rate].tolist() == [1.0, 2.0, 3.0, 3.0]
