"""A batch of trials as a population; one after another they are in tests/test_sweep.py."""

import pytest

from experiments import toy2d
from jaxgan.errors import ConfigError
from jaxgan.overrides import apply_overrides
from jaxgan.sweeps import runner
from jaxgan.sweeps.runner import together

SHORT = {"duration": "2 steps", "eval.every": "1 steps", "sample_every": "0 steps"}


def trials(*different):
    base = apply_overrides(toy2d.get_config("tiny"), SHORT)
    return [apply_overrides(base, overrides) for overrides in different]


def test_a_trial_that_does_not_fit_together_fails_alone(tmp_path):
    configs = trials({"seed": 1}, {"game.packing": 3}, {"seed": 2}, {"loss.label_smoothing": 1.5})
    workdirs, reports = [str(tmp_path / name) for name in "abcd"], []

    def report(member, step, values):
        reports.append((member, step))
        return False

    outcomes = together(configs, workdirs, [{}] * 4, report)
    assert [outcome.status for outcome in outcomes] == ["complete", "refused", "complete", "refused"]
    assert "packs of 3" in outcomes[1].reason and "label_smoothing" in outcomes[3].reason
    assert sorted(reports) == [(0, 1), (0, 2), (2, 1), (2, 2)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "c"]
    assert all(outcome.values for outcome in outcomes if outcome.status == "complete")


def test_where_nobody_fits_nothing_is_trained(tmp_path):
    outcomes = together(trials({"game.packing": 3}), [str(tmp_path / "a")], [{}], lambda *_: False)
    assert [outcome.status for outcome in outcomes] == ["refused"] and not list(tmp_path.iterdir())


def test_what_no_single_trial_is_to_blame_for_ends_the_batch(tmp_path, monkeypatch):
    def refuse(*_):
        raise ConfigError("of all of them")

    monkeypatch.setattr(runner, "train_population", refuse)
    with pytest.raises(ConfigError, match="of all of them"):
        together(trials({}, {"seed": 1}), [str(tmp_path / name) for name in "ab"], [{}] * 2, lambda *_: False)
