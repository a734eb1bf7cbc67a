"""A sweep as one population: its table, and what is refused. Whole ones run in tests/population/test_exchange.py."""

import pytest

from experiments import toy2d
from jaxgan.errors import CheckpointError, ConfigError
from jaxgan.population import Exploit, Outcome
from jaxgan.sweeps.evolution import evolve, rows
from jaxgan.sweeps.objective import Objective
from jaxgan.sweeps.space import Space, draw
from tests.runs import launch


def outcome(status, value=None):
    return Outcome({} if value is None else {"recall1k_train_raw": value}, None, status, 1)


def test_the_best_comes_first_with_what_it_has_come_to_have():
    points = [{"a": 1.0, "seed": 0}, {"a": 2.0, "seed": 1}, {"a": 3.0, "seed": 2}]
    outcomes = [outcome("complete", 0.3), outcome("diverged"), outcome("complete", 0.8)]
    lineages = [[{"step": 5, "from": "0002", "values": {"a": 3.6}}, {"step": 9, "from": "0002", "values": {"a": 4.0}}]]
    table = rows(points, outcomes, [*lineages, [], []], Objective("recall", False))
    own = ["a", "seed", "a at first", "seed at first"]
    assert table[0] == ["member", "status", "recall", *own, "times taken over", "from"]
    assert table[1] == ["trials/0002", "complete", 0.8, 3.0, 2, 3.0, 2, 0, ""]
    assert table[2] == ["trials/0000", "complete", 0.3, 4.0, 0, 1.0, 0, 2, "0002@5 0002@9"]
    assert table[3][:2] == ["trials/0001", "diverged"]


def test_the_same_seed_draws_the_same_points():
    def suggest(trial):
        return {"x": trial.suggest_float("x", 0.0, 1.0)}

    assert draw(suggest, 4, 1) == draw(suggest, 4, 1) and draw(suggest, 4, 1)[:2] == draw(suggest, 2, 1)
    assert draw(suggest, 4, 1) != draw(suggest, 4, 2) and len({point["x"] for point in draw(suggest, 4, 1)}) == 4


def test_what_is_wrong_is_found_before_anything_is_written(tmp_path):
    space, config = Space(points=({"seed": 0}, {"seed": 1})), toy2d.get_config("tiny")
    for wrong in ({"objective": "fid"}, {"exploit": Exploit(0.9)}, {"space": Space(points=({"sed": 0},))}):
        with pytest.raises(ConfigError):
            evolve(config, str(tmp_path / "pbt"), **{"space": space, "exploit": Exploit(), **wrong})
    assert not (tmp_path / "pbt").exists()
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="holds a single run"):
        evolve(config, str(tmp_path), space, Exploit())


@pytest.mark.slow  # a start of launch.py
def test_flags_that_do_not_go_together():
    options = ("--mode=sweep", "--config=experiments/toy2d.py:tiny", "--pbt=0.25", "--batch=4")
    result = launch(*options, check=False)
    assert result.returncode and "--pbt trains all trials as one population" in result.stderr + result.stdout
