"""Which members share a program, and how a number gets into one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import r3gan, toy2d
from jaxgan.build import assemble
from jaxgan.overrides import apply_overrides, with_values
from jaxgan.population.knobs import divide, may_be_traced


def groups(*different, experiment=toy2d):
    base = experiment.get_config("tiny")
    return divide([apply_overrides(base, overrides) for overrides in different], [()] * len(different))


@pytest.mark.parametrize(
    "a, b",
    [
        ({"seed": 0}, {"seed": 2**31 - 1}),
        ({"optimizer.generator.learning_rate": 1e-3}, {"optimizer.generator.eps": 1e-3}),
        ({"loss.penalties.r1": 1.0}, {"loss.penalties.r1": 2.0}),
        ({"loss.penalties": {"r1": {"weight": 1, "every": 4}}}, {"loss.penalties": {"r1": {"weight": 2, "every": 4}}}),
        ({"loss.label_smoothing": 0.1}, {"loss.label_smoothing": 0.2}),
        ({"loss.auxiliary.info_gan": 1.0}, {"loss.auxiliary.info_gan": 2.0}),
        ({"ema.half_life_images": 0.0}, {"ema.half_life_images": 10.0}),
        ({"augment.p": 0.0}, {"augment.p": 0.7}),
        ({"augment.target": 0.5}, {"augment.speed_images": 1e3}),
    ],
    ids=str,
)
def test_members_that_share_a_program(a, b):
    (group,) = groups(a, b)
    assert group.members == (0, 1)
    assert set(group.values) == {
        name for name in {*a, *b} if name != "loss.penalties"
    } | ({"loss.penalties.r1.weight"} if "loss.penalties" in a else set())
    for column in group.values.values():
        assert column.shape == (2,) and column.dtype in (np.float32, np.int32)


@pytest.mark.parametrize(
    "a, b",
    [
        ({"seed": 0}, {"seed": 2**31}),  # does not fit a traced seed
        ({"loss.penalties.r1": 0.0}, {"loss.penalties.r1": 2.0}),  # another program without the term
        ({"loss.label_smoothing": 0.0}, {"loss.label_smoothing": 0.2}),
        ({"augment.p": -1.0}, {"augment.p": 0.5}),  # adapted, and given
        ({"ema.rampup": 0.0}, {"ema.rampup": 0.1}),
        ({"batch_size": 8}, {"batch_size": 16}),
        ({"duration": "1 steps"}, {"duration": "2 steps"}),
        ({"model.generator.hidden": (8, 8)}, {"model.generator.hidden": (8, 9)}),
        ({"d_steps": 1}, {"d_steps": 2}),
        ({"loss.name": "hinge"}, {"loss.name": "wasserstein"}),
        ({"loss.penalties": {"r1": {"weight": 1.0}}}, {"loss.penalties": {"r1": {"weight": 1.0, "every": 2}}}),
    ],
    ids=str,
)
def test_members_that_do_not(a, b):
    assert [group.members for group in groups(a, b)] == [(0,), (1,)]


def test_groups_are_found_whatever_the_order():
    different = [{"seed": 1}, {"d_steps": 2}, {"seed": 2}, {"d_steps": 2, "seed": 5}, {"seed": 1}]
    first, second = groups(*different)
    assert first.members == (0, 2, 4) and second.members == (1, 3)
    assert first.values["seed"].tolist() == [1, 2, 1] and second.values["seed"].tolist() == [0, 5]
    assert groups({}, {})[0].values == {}


def test_other_facts_make_groups_too():
    config = toy2d.get_config("tiny")
    assert len(divide([config, config], [(1, 2), (2, 1)])) == 2


def test_ends_of_ramps_are_traced_and_their_lengths_are_not():
    sweep = r3gan.sweep()
    (group,) = groups(*sweep, experiment=r3gan)
    expected = {f"loss.penalties.{name}.weight.{end}" for name in ("r1", "r2") for end in ("from", "to")}
    assert set(group.values) == expected
    np.testing.assert_allclose(group.values["loss.penalties.r1.weight.to"], [0.025, 0.05, 0.1, 0.2, 0.4])
    assert not may_be_traced("loss.penalties.r1.weight.over", "100k images")
    assert not may_be_traced("optimizer.generator.name", "adam")
    assert not may_be_traced("game.latent_size", 100)


@pytest.mark.parametrize("values", [{"loss.penalties.r1": 3.0, "loss.label_smoothing": 0.25, "ema.rampup": 0.3}])
def test_an_update_with_traced_numbers_is_the_update_with_those_numbers(values):
    config = apply_overrides(toy2d.get_config("tiny"), values)
    facts = ((2,), 64, (32, 32))
    arrays = {"real": jax.random.normal(jax.random.key(0), (64, 2))}
    other = apply_overrides(config, dict.fromkeys(values, 0.01))

    def update(config):
        experiment = assemble(config, *facts)
        return experiment.step(experiment.new_state(), jnp.arange(8, dtype=jnp.int32), arrays)[0]

    expected = jax.jit(lambda: update(config))()
    traced = jax.jit(lambda values: update(with_values(other, values)))(values)
    for a, b in zip(jax.tree.leaves(traced.params_d), jax.tree.leaves(expected.params_d), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    assert other.loss.label_smoothing == 0.01  # a copy was changed
