"""Several seeds and their table."""

import csv
import math

import numpy as np
import pytest

from experiments import mlp
from jaxgan.errors import ConfigError
from jaxgan.overrides import apply_overrides
from jaxgan.population import Outcome
from jaxgan.population.seeds import as_text, rows, train_seeds, with_seeds


def outcome(status, **values):
    return Outcome(values, None, status, 1)


def test_mean_and_standard_error_are_of_the_complete_seeds():
    outcomes = [outcome("complete", fid=1.0), outcome("complete", fid=4.0), outcome("diverged", fid=900.0)]
    outcomes.append(outcome("complete", fid=7.0))
    table = rows([3, 4, 5, 6], outcomes)
    assert table[0] == ["", "mean", "standard error", "seed 3", "seed 4", "seed 5", "seed 6"]
    assert table[1][3:] == ["complete", "complete", "diverged", "complete"]
    assert table[2][0] == "fid" and table[2][3:] == [1.0, 4.0, 900.0, 7.0]
    np.testing.assert_allclose(table[2][1:3], [4.0, 3.0 / math.sqrt(3)])


def test_one_seed_has_no_standard_error_and_none_no_mean():
    assert rows([0], [outcome("complete", fid=2.0)])[2] == ["fid", 2.0, "", 2.0]
    assert rows([0, 1], [outcome("diverged"), outcome("diverged", fid=2.0)])[2] == ["fid", "", "", "", 2.0]


def test_the_table_as_text_is_in_columns():
    lines = as_text(rows([0, 1], [outcome("complete", fid=2.0), outcome("complete", fid=3.25)])).splitlines()
    assert lines[0].split() == ["mean", "standard", "error", "seed", "0", "seed", "1"]
    assert lines[2].split() == ["fid", "2.625", "0.625", "2", "3.25"]
    assert lines[2].index("3.25") == lines[0].index("seed 1")


@pytest.mark.slow
def test_seeds_of_an_experiment(tmp_path):
    short = {"duration": "2 steps", "sample_every": "0 steps", "seed": 4}
    config = apply_overrides(mlp.get_config("tiny"), {**short, "eval.features": "raw", "eval.metrics": ("swd",)})
    text = train_seeds(config, str(tmp_path), 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["seed_4", "seed_5", "seeds.csv"]
    with (tmp_path / "seeds.csv").open(newline="") as file:
        header, status, swd = csv.reader(file)
    assert header[3:] == ["seed 4", "seed 5"] and status[3:] == ["complete", "complete"]
    assert swd[0] == "swd16_train_raw" and "swd16_train_raw" in text
    np.testing.assert_allclose(float(swd[1]), (float(swd[3]) + float(swd[4])) / 2)
    assert swd[3] != swd[4]


def test_no_seeds_at_all(tmp_path):
    with pytest.raises(ConfigError, match="--seeds=0"):
        train_seeds(mlp.get_config("tiny"), str(tmp_path / "none"), 0)
    assert not (tmp_path / "none").exists()


def test_points_with_seeds():
    points = [{"a": 1.0, "seed": 3}, {"a": 1.0, "seed": 4}, {"a": 2.0}]
    assert with_seeds(points, 7, 2) == [{"a": a, "seed": seed} for a in (1.0, 2.0) for seed in (7, 8)]
    assert with_seeds([{}], 0, 3) == [{"seed": 0}, {"seed": 1}, {"seed": 2}]
