"""Rows, ranks, fronts, seeds and command lines against what a person works out by hand."""

import csv
import math
import shlex

import pytest

from experiments import r3gan, toy2d
from jaxgan.overrides import apply_overrides
from jaxgan.sweeps.objective import Objective
from jaxgan.sweeps.results import Row, command_of, front_of, groups_of, importances, ranked, write_leaderboard

FID, RECALL = Objective("fid", True), Objective("recall", False)


def row(run, *numbers, state="complete", **fields):
    given = {"overrides": {}, "params": {}, "log_scaled": frozenset(), "curve": {}, "values": {}, "reason": ""}
    return Row(run=run, state=state, numbers=numbers or None, seconds=1.0, **{**given, **fields})


def test_ranks_of_one_objective():
    rows = [row(0, 3.0), row(1, 1.0), row(2, state="failed"), row(3, 2.0), row(4, 1.0)]
    assert [r.run for r in ranked(rows, [FID])] == [1, 4, 3, 0]
    assert [r.run for r in ranked(rows, [RECALL])] == [0, 3, 1, 4]
    assert [r.run for r in front_of(rows, [FID])] == [1, 4]
    assert front_of(rows[2:3], [FID]) == []


def test_fronts_of_two_objectives():
    rows = [row(0, 1.0, 0.1), row(1, 2.0, 0.5), row(2, 2.5, 0.4), row(3, 3.0, 0.9), row(4, 4.0, 0.3)]
    assert [r.run for r in front_of(rows, [FID, RECALL])] == [0, 1, 3]
    assert [r.run for r in ranked(rows, [FID, RECALL])] == [0, 1, 3, 2, 4]


def test_runs_that_differ_in_their_seeds_are_one_group():
    rows = [
        row(i, n, overrides={"batch_size": b, "seed": i}) for i, (b, n) in enumerate([(8, 2.0), (8, 4.0), (16, 1.0)])
    ]
    rows.append(row(3, state="failed", overrides={"batch_size": 16, "seed": 9}))
    best, other = groups_of(rows, [FID])
    assert best.overrides == {"batch_size": 16} and best.mean == 1.0 and math.isnan(best.error)
    # Standard deviation of 2 and 4 is sqrt(2), over sqrt(2) runs.
    assert other.mean == 3.0 and other.error == pytest.approx(1.0)
    assert [group.mean for group in groups_of(rows, [RECALL])] == [3.0, 1.0]
    assert groups_of(rows[1:], [FID]) == []


def test_a_command_line_gives_the_configuration_back(tmp_path):
    config = toy2d.get_config("tiny")
    overrides = {"optimizer.generator.b1": 1 / 3, "loss.name": "hinge", "share_fake": False, "duration": "2 steps"}
    typed = {"batch_size": 16, "loss.name": "least_squares"}
    first, *rest = command_of(row(0, overrides=overrides), "x.py:tiny", config, typed, str(tmp_path / "a b")).split(
        "\n"
    )
    assert rest == []
    program, script, experiment, *flags, workdir = shlex.split(first)
    assert (program, script, experiment) == ("python", "launch.py", "--config=x.py:tiny")
    assert workdir == f"--workdir={tmp_path}/a b"
    given = dict(flag.removeprefix("--config.").split("=", 1) for flag in flags)
    assert given.pop("loss.name") == "hinge" and given.pop("duration") == "2 steps"
    assert {name: eval(text) for name, text in given.items()} == {
        "optimizer.generator.b1": 1 / 3,
        "share_fake": False,
        "batch_size": 16,
    }


def test_sections_become_their_fields_where_the_configuration_has_them():
    (overrides, *_) = r3gan.sweep()
    text = command_of(row(0, overrides=overrides), "x.py", r3gan.get_config("tiny"), {}, "w")
    assert "--config.loss.penalties.r1.weight.from=0.25" in text and "\n" not in text
    text = command_of(row(0, overrides=overrides), "x.py", toy2d.get_config("tiny"), {}, "w")
    command, comment = text.split("\n")
    assert "penalties" not in command
    assert comment.endswith(f"c.loss.penalties = {overrides['loss.penalties']!r}")
    assert apply_overrides(toy2d.get_config(), overrides).loss.penalties.to_dict() == overrides["loss.penalties"]


def test_the_leaderboard_is_a_table_that_programs_read(tmp_path):
    rows = [
        row(0, 2.0, overrides={"a.b": 1e-05, "c": (1, 2)}, values={"fid1k_train_digits": 2.0}),
        row(1, state="failed", reason='update 3, "nan"'),
        row(2, 1.0 / 3.0),
    ]
    write_leaderboard(tmp_path / "x.csv", rows, [FID])
    with (tmp_path / "x.csv").open() as file:
        read = list(csv.DictReader(file))
    assert [line["run"] for line in read] == ["2", "0", "1"] and [line["rank"] for line in read] == ["1", "2", ""]
    assert float(read[0]["fid"]) == 1.0 / 3.0 and float(read[1]["a.b"]) == 1e-05
    assert read[2]["reason"] == 'update 3, "nan"' and read[1]["folder"] == "trials/0000"
    assert [path.name for path in tmp_path.iterdir()] == ["x.csv"]


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_what_matters_is_found(direction):
    import optuna

    study = optuna.create_study(direction=direction, sampler=optuna.samplers.RandomSampler(seed=0))
    assert importances(study, 0) == {}
    sign = 1 if direction == "minimize" else -1

    def objective(trial):
        x, _, _ = (trial.suggest_float(name, 0.0, 1.0) for name in ("x", "y", "always"))
        return sign * (x - 0.2) ** 2

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study.optimize(objective, n_trials=60)
    found = importances(study, 0)
    assert found["x"] > 2 * max(found["y"], found["always"]) and sum(found.values()) == pytest.approx(1.0)
