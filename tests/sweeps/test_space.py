"""What is tried, from experiment files as a person writes them."""

import importlib
import math

import pytest

from experiments import dcgan, toy2d
from jaxgan.errors import ConfigError
from jaxgan.overrides import apply_overrides
from jaxgan.sweeps.space import Space, as_parameters, check_space, combinations, read_space

BOTH = """
def sweep():
    return [{"seed": 1}, {"seed": 2}]


def search_space(trial):
    return {"batch_size": trial.suggest_int("batch_size", 8, 32, step=8)}
"""


@pytest.fixture
def experiment(tmp_path):
    """(text) -> the path of a file with it"""

    def write(text):
        file = tmp_path / "mine.py"
        file.write_text(text)
        return str(file)

    return write


def test_the_sampler_says_which_of_the_two_is_taken(experiment):
    both, listed, suggested = (experiment(BOTH), None, None)
    assert read_space(both).points is None and read_space(both, "qmc").points is None
    assert read_space(f"{both}:variant", "grid").points == ({"seed": 1}, {"seed": 2})
    listed = experiment(BOTH.split("def search_space", maxsplit=1)[0])
    assert read_space(listed).points == ({"seed": 1}, {"seed": 2})
    with pytest.raises(ConfigError, match="--sampler=tpe needs a search_space"):
        read_space(listed, "tpe")
    suggested = experiment("def search_space" + BOTH.split("def search_space", maxsplit=1)[1])
    assert read_space(suggested, "grid").points == tuple({"batch_size": size} for size in (8, 16, 24, 32))
    with pytest.raises(ConfigError, match="neither sweep"):
        read_space(experiment("x = 1"))
    with pytest.raises(ConfigError, match="cannot read the experiment"):
        read_space("/nowhere/x.py")


@pytest.mark.parametrize("module", [dcgan, toy2d])
def test_the_experiments_own_spaces_fit_all_their_variants(module):
    for variant in ("", "tiny"):
        check_space(Space(suggest=module.search_space), module.get_config(variant))


def test_r3gan_s_list_fits():
    module = importlib.import_module("experiments.r3gan")
    check_space(Space(points=tuple(module.sweep())), module.get_config())


@pytest.mark.parametrize(
    "space",
    [
        Space(points=({"seed": 1}, {"optimizer.generator.learnin_rate": 1e-3})),
        Space(suggest=lambda trial: {"optimizer.generator.learnin_rate": trial.suggest_float("x", 0, 1)}),
        Space(suggest=lambda trial: {"batch_size": trial.suggest_float("batch_size", 1, 2)}),
        Space(points=()),
    ],
)
def test_a_space_that_does_not_fit_is_refused(space):
    with pytest.raises(ConfigError):
        check_space(space, toy2d.get_config())


def test_a_grid_has_all_combinations_and_round_ends():
    def suggest(trial):
        return {
            "a": trial.suggest_float("a", 1e-4, 1e-2, log=True),
            "b": trial.suggest_float("b", 0.0, 0.3, step=0.1),
            "c": trial.suggest_categorical("c", ["x", "y"]),
            "d": trial.suggest_int("d", 1, 100, log=True),
        }

    points = combinations(suggest)
    assert len(points) == len({tuple(point.values()) for point in points}) == 5 * 4 * 2 * 5
    a = sorted({point["a"] for point in points})
    assert a[0] == 1e-4 and a[-1] == 1e-2
    assert [math.log10(value) for value in a] == pytest.approx([-4, -3.5, -3, -2.5, -2])
    assert sorted({point["b"] for point in points}) == pytest.approx([0.0, 0.1, 0.2, 0.3])
    assert {point["d"] for point in points} == {1, 3, 10, 32, 100}


def test_a_space_with_branches_has_no_grid():
    def suggest(trial):
        return {"x": trial.suggest_float("x", 0, 1) if trial.suggest_categorical("on", [True, False]) else 0.0}

    with pytest.raises(ConfigError, match="no grid"):
        combinations(suggest)


def test_points_become_parameters_of_what_varies():
    config = toy2d.get_config()
    points = [{"seed": 1, "batch_size": 8}, {"seed": 1, "loss.penalties": {"r1": 1.0}}]
    (first, distributions), (second, _) = as_parameters(points, config)
    assert set(distributions) == {"batch_size", "loss.penalties"}
    assert (first["batch_size"], second["batch_size"]) == (8, config.batch_size)
    assert second["loss.penalties"] == '{"r1": 1.0}'
    assert first["loss.penalties"] in distributions["loss.penalties"].choices
    assert apply_overrides(config, points[0]).batch_size == 8
