"""A population compiled ahead of time: its layout, its memory, and that its members say nothing to one another."""

import json

import pytest

from experiments import dcgan, toy2d
from jaxgan.aot import examine_population, population_in_words
from jaxgan.errors import ConfigError
from jaxgan.overrides import apply_overrides
from jaxgan.population.seeds import with_seeds
from tests.runs import launch

TINY = toy2d.get_config("tiny")
RATES = with_seeds(toy2d.sweep(), 0, 4)


def of_two_devices(**overrides):
    return apply_overrides(TINY, {"population_devices": 2, **overrides})


def test_members_of_one_device_send_nothing():
    (report,) = examine_population(TINY, RATES)
    assert report["members"] == 16 and report["devices"] == 4 and report["members_per_device"] == 4
    assert report["collectives"] == report["between_members"] == {} and report["fits"] is None
    rates = [f"optimizer.{side}.learning_rate" for side in ("discriminator", "generator")]
    assert report["differ_in"] == [*rates, "seed"] and not report["data_is_shared"]
    # Four members on a device, each with points of its own.
    assert 4 * 100_000 * 2 * 4 < report["memory"]["arguments"] < 1.2 * 4 * 100_000 * 2 * 4
    words = population_in_words(report)
    assert "16 members" in words and "map over 4 device(s), 4 member(s) on each" in words
    assert "collectives     none" in words and "between members none" in words


def test_what_is_sent_within_a_member_is_told_from_what_is_sent_between_members():
    (report,) = examine_population(of_two_devices(), RATES[:2])
    sent, parameters = report["collectives"]["all-reduce"], report["parameters"]
    assert report["devices_per_member"] == 2 and sent["bytes"] >= 4 * sum(parameters.values())
    assert report["between_members"] == {}
    words = population_in_words(report)
    assert "2 to a member" in words and "8 of each member, 4 on a device" in words and "between members none" in words


@pytest.mark.slow  # two compilations
def test_each_group_has_a_program_of_its_own():
    reports = examine_population(TINY, [{"seed": 0}, {"d_steps": 2}, {"seed": 1}])
    assert [report["members"] for report in reports] == [2, 1]
    assert [report["images_per_update"] for report in reports] == [16, 16]


def test_devices_that_a_member_cannot_have():
    with pytest.raises(ConfigError, match="population_devices 8"):
        examine_population(of_two_devices(population_devices=8), RATES)


def test_streamed_data_is_refused_as_by_training():
    config = dcgan.get_config("tiny")
    config.data.stream = "always"
    with pytest.raises(ConfigError, match="mnist5k is streamed"):
        examine_population(config, [{}], data_shape="100,28,28,1")


@pytest.mark.slow  # a start of launch.py
def test_the_command_compiles_seeds_and_points():
    result = launch("--mode=compile", "--config=experiments/toy2d.py:tiny", "--seeds=3", "--json", devices="2")
    (report,) = json.loads(result.stdout)
    assert report["members"] == 3 and report["devices"] == 2 and report["differ_in"] == ["seed"]
    given = ("--mode=compile", "--config=experiments/toy2d.py:tiny", "--sampler=grid", "--seeds=2")
    assert "8 members" in launch(*given, devices="2").stdout


@pytest.mark.slow  # minutes
def test_a_trial_on_each_chip_of_a_pod_that_is_not_there():
    """Seeds and learning rates of toy2d:grid, one to each of 256 chips; and with a row of sixteen chips each."""
    pytest.importorskip("libtpu", reason="libtpu is not installed (requirements-tpu.txt)")
    config = toy2d.get_config("grid")
    (report,) = examine_population(config, with_seeds(toy2d.sweep(), 0, 64), "v5e:16x16")
    assert report["devices"] == report["members"] == 256 and report["members_per_device"] == 1 and report["fits"]
    assert report["collectives"] == {} and report["updates_per_call"] == 50 and report["unknown_loops"] == 0
    rows = apply_overrides(config, {"population_devices": 16})
    (report,) = examine_population(rows, toy2d.sweep(), "v5e:16x16")
    assert report["devices"] == 256 and report["members"] == 16 and report["between_members"] == {}
    assert report["collectives"]["all-reduce"]["bytes"] >= 4 * sum(report["parameters"].values())
