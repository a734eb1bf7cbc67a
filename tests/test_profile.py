"""The profile: what a trace says, by hand and of a real one."""

import json
import pathlib

import jax
import pytest

from experiments import toy2d
from jaxgan import profile as module
from jaxgan.errors import ConfigError
from jaxgan.profile import in_words, operations, profile, sources

EVENTS = [
    {"ph": "X", "dur": 300.0, "args": {"hlo_op": "dot.1"}},
    {"ph": "X", "dur": 100.0, "args": {"hlo_op": "dot.1"}},
    {"ph": "X", "dur": 1200.0, "args": {"hlo_op": "fusion.2"}},
    {"ph": "X", "dur": 9e9, "name": "python"},
    {"ph": "M", "args": {"name": "thread"}},
]


def test_instructions_are_added_up_and_the_costliest_comes_first():
    found = operations(EVENTS, {"dot.1": "Dense_0/dot_general"}, updates=2)
    expected = [("fusion.2", "", 0.0006, 0.75, 0.5), ("dot.1", "Dense_0/dot_general", 0.0002, 0.25, 1.0)]
    for one, other in zip(found, expected, strict=True):
        assert one[:2] == other[:2] and one[2:] == pytest.approx(other[2:])


def test_where_an_instruction_comes_from():
    text = """
  %dot.1 = f32[2,2]{1,0} dot(%a, %b), metadata={op_type="dot" op_name="jit(step)/jvp(Generator)/Dense_0/dot_general"}
  ROOT fusion.2 = f32[] fusion(%dot.1), kind=kLoop, metadata={op_name="pmap(step)/while/body/closed_call/add"}
  %p = f32[] parameter(0)
"""
    assert sources(text) == {"dot.1": "jvp(Generator)/Dense_0/dot_general", "fusion.2": "add"}


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    config = toy2d.get_config("tiny")
    config.steps_per_call = 2
    return json.loads(profile(config, str(tmp_path_factory.mktemp("profile")), seconds=0.01, as_json=True))


def test_the_profile_of_a_real_update(report):
    assert report["updates_per_call"] == 2 and report["calls_timed"] >= 5
    assert report["images_per_second"] == pytest.approx(8 / report["update_seconds"])
    # One pass of G for both sides, D on real and generated points, their derivatives: of 8 examples on all devices.
    generator, discriminator = 2 * 8 + 8 * 8 + 8 * 2, 2 * 8 + 8 * 8 + 8
    upper = 2 * 8 * (3 * generator + 8 * discriminator) / jax.device_count()
    assert upper / 2 < report["flops"] <= upper
    assert sum(op["share"] for op in report["operations"]) == pytest.approx(1.0)
    assert any("Generator" in op["source"] for op in report["operations"])
    assert pathlib.Path(report["trace"]).is_file()


def test_the_profile_in_words(report):
    text = in_words(report)
    assert report["trace"] in text and report["operations"][0]["name"] in text


def test_a_program_that_does_not_fit_is_told(monkeypatch, tmp_path):
    compile_update = module.compile_update
    monkeypatch.setattr(module, "compile_update", lambda *given: compile_update(*given)._replace(compiled=None))
    with pytest.raises(ConfigError, match="batch of 8 does not fit"):
        profile(toy2d.get_config("tiny"), str(tmp_path))
