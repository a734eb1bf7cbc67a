"""The experiment files' search spaces: helpers, and every sweep() against its own configuration."""

import importlib
import pathlib

import pytest

from experiments import common, toy2d
from jaxgan.overrides import apply_overrides
from jaxgan.population.knobs import divide

FILES = sorted((pathlib.Path(__file__).parent.parent / "experiments").glob("*.py"))
SWEEPS = [file.stem for file in FILES if "\ndef sweep(" in file.read_text()]


def test_grid_is_every_combination():
    points = common.grid({"a.b": [1, 2], "seed": range(3)})
    assert points == [{"a.b": a, "seed": seed} for a in (1, 2) for seed in (0, 1, 2)]
    assert common.grid({}) == [{}] and common.grid({"a": []}) == []


def test_zip_takes_values_side_by_side():
    assert common.zip_({"a": [1, 2], "b": "xy"}) == [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]
    with pytest.raises(ValueError, match="shorter"):
        common.zip_({"a": [1, 2], "b": [1]})


def test_product_is_every_point_of_one_space_with_every_one_of_another():
    points = common.product(common.both("b1", [0.0, 0.5]), [{"seed": 1}, {"seed": 2}])
    assert len(points) == 4
    assert points[1] == {"optimizer.generator.b1": 0.0, "optimizer.discriminator.b1": 0.0, "seed": 2}


@pytest.mark.parametrize("experiment", SWEEPS)
def test_every_sweep_fits_its_configuration(experiment):
    module = importlib.import_module(f"experiments.{experiment}")
    points = module.sweep()
    configs = [apply_overrides(module.get_config(), point) for point in points]
    assert len({str(config) for config in configs}) == len(points) > 1


def test_the_sweep_of_points_is_one_group():
    points = toy2d.sweep()
    assert len(points) == 16 and {"toy2d", "dcgan", "r3gan"} <= set(SWEEPS)
    assert len(divide([apply_overrides(toy2d.get_config("grid"), point) for point in points], [()] * 16)) == 1
