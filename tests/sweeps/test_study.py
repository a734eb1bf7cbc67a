"""The trials as slots: several workers on one study, crashes at the worst moments, and what is tried again.

Two `Study` objects on one journal are two workers; real processes are killed in tests/test_sweep.py.
"""

import subprocess
import sys

import optuna
import pytest
from optuna.trial import TrialState

from jaxgan.errors import CheckpointError, ConfigError
from jaxgan.sweeps.objective import Objective
from jaxgan.sweeps.runner import Outcome
from jaxgan.sweeps.samplers import make_pruner
from jaxgan.sweeps.storage import open_storage
from jaxgan.sweeps.study import MOST_DEATHS, Study
from jaxgan.sweeps.worker import MISSED, is_gone, owner_of

FID = Objective("fid", True)


def suggest(trial):
    return {"x": trial.suggest_float("x", 0.0, 1.0), "n": trial.suggest_int("n", 1, 1000)}


@pytest.fixture
def worker(tmp_path):
    """(...) -> one more worker on the same study"""

    def make(objectives=(FID,), sampler="random", record=None, pruner=None, seed=0):
        storage = open_storage("", tmp_path)
        return Study(storage, "s", objectives, sampler, seed, pruner or make_pruner("none", 1, 1), record or {}, 30.0)

    return make


def complete(worker, trial, value=1.0):
    worker.finish(trial, Outcome({"fid1k_train_digits": value}, "complete"))


def numbers(worker):
    """How often each run was completed, superseded trials counted too."""
    done = [trial.user_attrs["run"] for trial in worker.trials() if trial.state == TrialState.COMPLETE]
    return {run: done.count(run) for run in done}


def test_each_run_is_taken_once_by_workers_in_turn(worker):
    a, b = worker(), worker()
    a.fill(5)
    b.fill(5)
    taken = [trial.user_attrs["run"] for w, n in ((a, 2), (b, 2), (a, 2), (b, 2)) for trial in w.take(n)]
    assert sorted(taken) == [0, 1, 2, 3, 4]
    assert not a.is_finished()


def test_two_workers_that_fill_at_once_run_nothing_twice(worker, monkeypatch):
    a, b = worker(), worker()
    monkeypatch.setattr(b, "trials", list)  # sees nothing of what a adds
    a.fill(3)
    b.fill(3)
    monkeypatch.undo()
    assert len(a.trials()) == 6
    for w in (b, a) * 4:
        for trial in w.take(1):
            complete(w, trial)
    assert a.is_finished() and numbers(a) == {0: 1, 1: 1, 2: 1}
    assert all(trial.state.is_finished() for trial in a.trials())


def test_more_runs_may_be_asked_for_later(worker):
    a = worker()
    a.fill(2)
    for trial in a.take(2):
        complete(a, trial)
    assert a.is_finished()
    a.fill(3)
    (trial,) = a.take(5)
    assert trial.user_attrs["run"] == 2


def test_what_is_put_back_goes_on_with_what_it_had(worker):
    a, b = worker(), worker()
    a.fill(1)
    (trial,) = a.take(1)
    tried = a.overrides(trial, suggest)
    a.report(trial, 10, {"fid1k_train_digits": 3.0})
    a.finish(trial, Outcome({}, "stopped"))
    (again,) = b.take(1)
    assert again.number != trial.number and again.params == trial.params
    assert b.overrides(again, lambda trial: pytest.fail("suggested anew")) == tried
    assert again.user_attrs["attempt"] == 1 and again.user_attrs["deaths"] == 0
    b.report(again, 10, {"fid1k_train_digits": 7.0})  # was reported before
    b.report(again, 20, {"fid1k_train_digits": 2.0})
    complete(b, again, 1.5)
    assert b.runs()[0].intermediate_values == {10: 3.0, 20: 2.0} and b.runs()[0].values == [1.5]
    assert b.is_finished()


@pytest.fixture
def dead():
    """A worker of this machine that is no more."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    owner = owner_of(process.pid)
    assert not is_gone(owner)
    process.kill()
    process.wait()
    return owner


def test_a_dead_worker_s_run_is_tried_again_and_given_up_after_some_deaths(worker, dead):
    a, b = worker(), worker()
    a.fill(2)
    (first,) = a.take(1)
    overrides = a.overrides(first, suggest)
    for deaths in range(1, MOST_DEATHS):
        first.set_user_attr("owner", dead)
        taken = {trial.user_attrs["run"]: trial for trial in b.take(9)}
        first = taken[0]
        assert first.user_attrs["deaths"] == deaths and first.user_attrs["overrides"] == overrides
    first.set_user_attr("owner", dead)
    assert b.take(9) == []
    assert b.runs()[0].state == TrialState.FAIL and b.runs()[1].state == TrialState.RUNNING


def test_a_living_worker_s_run_is_left_alone(worker):
    a, b = worker(), worker()
    a.fill(1)
    a.take(1)
    assert b.take(1) == [] and b.runs()[0].state == TrialState.RUNNING and not b.is_finished()


def test_two_workers_that_bury_at_once_try_again_once(worker, dead, monkeypatch):
    a, b = worker(), worker()
    a.fill(1)
    (trial,) = a.take(1)
    trial.set_user_attr("owner", dead)
    before = a.runs()
    monkeypatch.setattr(b, "runs", lambda: before)  # has not seen that a did it
    a._bury_the_dead()
    b._bury_the_dead()
    monkeypatch.undo()
    assert len(a.trials()) == 3
    for w in (a, b, a, b):
        for again in w.take(1):
            complete(w, again)
    assert a.is_finished() and numbers(a) == {0: 1}


def test_a_crash_between_the_new_trial_and_the_end_of_the_old_one_loses_and_doubles_nothing(worker, dead, monkeypatch):
    a, b = worker(), worker()
    a.fill(1)
    (old,) = a.take(1)
    old.set_user_attr("owner", dead)

    def crash(number):
        raise MemoryError

    with monkeypatch.context() as patch, pytest.raises(MemoryError):
        patch.setattr(b, "_fail", crash)
        b.take(1)
    (again,) = b.take(1)
    complete(b, again)
    assert b.is_finished() and b.take(1) == []
    complete(a, old)  # it was not dead after all; its result comes too late
    assert numbers(b) == {0: 1}


def test_a_worker_that_was_taken_for_dead_stops_and_its_result_is_dropped(worker, dead):
    a, b = worker(), worker()
    a.fill(1)
    (old,) = a.take(1)
    heart = a.heart([old])
    assert heart._beats[0](1)
    old.set_user_attr("owner", dead)
    (again,) = b.take(1)
    assert not heart._beats[0](2)
    assert a.report(old, 10, {"fid1k_train_digits": 1.0})
    complete(a, old, 0.0)
    complete(b, again, 2.0)
    assert numbers(b) == {0: 1} and b.runs()[0].values == [2.0]


def test_a_silent_worker_elsewhere_is_taken_for_dead(worker, monkeypatch):
    a, b = worker(), worker()
    a.fill(1)
    (old,) = a.take(1)
    old.set_user_attr("owner", {"host": "elsewhere", "pid": 1, "started": "1"})
    now = 1000.0
    monkeypatch.setattr("jaxgan.sweeps.worker.time.monotonic", lambda: now)
    for beat in range(4):  # as long as it beats, it lives
        old.set_user_attr("beat", beat)
        assert b.take(1) == []
        now += 140.0
    assert b.take(1) == []
    now += 20.0  # 160 s since the last one was seen to be new, at 30 s each
    (again,) = b.take(1)
    assert again.user_attrs["run"] == 0


@pytest.mark.parametrize(
    "outcome, state, reason",
    [
        (Outcome({"fid1k_train_digits": 2.0}, "complete"), TrialState.COMPLETE, None),
        (Outcome({"fid1k_train_digits": float("nan")}, "complete"), TrialState.FAIL, "nan"),
        (Outcome({"recall1k_train_digits": 2.0}, "complete"), TrialState.FAIL, "nan"),
        (Outcome({}, "diverged", "update 3 gave loss_d = nan"), TrialState.FAIL, "update 3"),
        (Outcome({}, "refused", "batch_size 7"), TrialState.FAIL, "batch_size 7"),
        (Outcome({}, "stopped"), TrialState.WAITING, None),
    ],
)
def test_how_a_trial_ends(worker, outcome, state, reason):
    a = worker()
    a.fill(1)
    (trial,) = a.take(1)
    a.overrides(trial, suggest)
    a.finish(trial, outcome)
    assert a.runs()[0].state == state
    assert reason is None or reason in a.runs()[0].user_attrs["reason"]


def test_a_trial_worse_than_the_median_is_given_up(worker):
    a = worker(pruner=make_pruner("median", 10, 40))
    a.fill(7)
    for i, trial in enumerate(a.take(6)):
        for step in (10, 20, 30):
            assert not a.report(trial, step, {"fid1k_train_digits": 5.0 - i})
        complete(a, trial, 5.0 - i)
    (trial,) = a.take(1)
    assert not a.report(trial, 10, {"fid1k_train_digits": 9.0})  # too early to tell
    assert a.report(trial, 20, {"fid1k_train_digits": 9.0})
    a.finish(trial, Outcome({"fid1k_train_digits": 9.0}, "stopped"), is_pruned=True)
    assert a.runs()[6].state == TrialState.PRUNED and a.runs()[6].value == 9.0


def test_a_restart_and_a_second_worker_suggest_what_one_worker_would(worker, tmp_path):
    a, b = worker(), worker()
    a.fill(6)
    in_turn = {}
    for w in (a, b, worker(), a, b, worker()):
        (trial,) = w.take(1)
        in_turn[trial.user_attrs["run"]] = w.overrides(trial, suggest)
        complete(w, trial)
    alone = Study(optuna.storages.InMemoryStorage(), "s", a.objectives, "random", 0, make_pruner("none", 1, 1), {}, 30)
    alone.fill(6)
    assert in_turn == {trial.user_attrs["run"]: alone.overrides(trial, suggest) for trial in alone.take(6)}
    assert len({values["x"] for values in in_turn.values()}) == 6


def tried(sampler, runs, seed=0):
    """What a sampler suggests for x and y in [-4, 4], one trial after another, for (x - 0.3)^2 + y^2."""
    storage = optuna.storages.InMemoryStorage()
    study = Study(storage, "s", [FID], sampler, seed, make_pruner("none", 1, 1), {}, 30.0)
    study.fill(runs)
    points = []
    while trials := study.take(1):
        points.append(study.overrides(trials[0], lambda t: {name: t.suggest_float(name, -4.0, 4.0) for name in "xy"}))
        complete(study, trials[0], (points[-1]["x"] - 0.3) ** 2 + points[-1]["y"] ** 2)
    return points


@pytest.mark.parametrize("sampler", ["tpe", "cmaes"])
def test_samplers_that_learn_spend_their_last_trials_in_the_valley(sampler):
    far = [(point["x"] - 0.3) ** 2 + point["y"] ** 2 for point in tried(sampler, 40)]
    assert sum(far[-10:]) < 0.3 * sum(far[:10])


def test_qmc_goes_on_with_one_sequence_from_trial_to_trial():
    """16 points of a Sobol sequence have one in each of 16 equal parts of every axis; the trial before is chance."""
    points = tried("qmc", 17)[1:]
    for name in "xy":
        assert sorted(int((point[name] + 4) * 2) for point in points) == list(range(16))


def test_chance_is_another_one_for_another_seed():
    assert tried("random", 3) == tried("random", 3) and tried("random", 3) != tried("random", 3, seed=1)


def test_several_objectives(worker):
    a = worker(objectives=(FID, Objective("recall", False)), sampler="tpe")
    a.fill(2)
    for value, trial in enumerate(a.take(2)):
        a.overrides(trial, suggest)
        values = {"fid1k_train_digits": float(value), "recall1k_train_digits": 0.5}
        assert not a.report(trial, 10, values)
        a.finish(trial, Outcome(values, "complete"))
    assert a.runs()[1].values == [1.0, 0.5]
    assert [d.name for d in a.optuna.directions] == ["MINIMIZE", "MAXIMIZE"]


def test_a_study_of_something_else_is_refused_and_left_alone(worker):
    worker(record={"config": {"seed": 0}})
    with pytest.raises(CheckpointError, match=r"config\.seed: 0 there, 1 here"):
        worker(record={"config": {"seed": 1}})
    with pytest.raises(CheckpointError, match="objectives"):
        worker(record={"config": {"seed": 0}}, objectives=(Objective("recall", False),))
    worker(record={"config": {"seed": 0}})


def test_choices_that_changed_are_named(worker):
    a = worker()
    a.fill(1)
    (trial,) = a.take(1)
    trial.suggest_categorical("loss", ["a", "b"])
    with pytest.raises(ConfigError, match="another --workdir"):
        a.overrides(trial, lambda trial: {"loss.name": trial.suggest_categorical("loss", ["a", "b", "c"])})


def test_the_numbers_in_the_documentation_are_these(root):
    text = (root / "docs" / "sweeps.md").read_text()
    assert f"{MOST_DEATHS} times" in text and f"{MISSED} beats" in text
