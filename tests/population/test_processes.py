"""A population that several processes share: real ones, started as a user starts them."""

import csv
import json
import shutil
import signal
import time

import pytest

from jaxgan.evaluate import load_trained
from tests.runs import fingerprint, launch, rows
from tests.test_distributed import arguments, finish, start

TOY = "experiments/toy2d.py:tiny"
SEEDS = 5
SETTINGS = {"duration": "12 steps", "log_every": "3 steps", "checkpoint_every": "4 steps", "sample_every": "0 steps"}
SETTINGS |= {"eval.every": "6 steps", "steps_per_call": 2}
ENDLESS = {**SETTINGS, "duration": "100k steps", "checkpoint_every": "50 steps", "eval.every": "50k steps"}
ENDLESS["log_every"] = "10 steps"


def seeds(workdir, **settings):
    return (*arguments(TOY, workdir, **{**SETTINGS, **settings}), f"--seeds={SEEDS}")


def members(workdir):
    return [workdir / f"seed_{seed}" for seed in range(SEEDS)]


def table(workdir):
    return list(csv.reader((workdir / "seeds.csv").open()))


def steps_of(workdir):
    return [int(path.name) for path in (workdir / "checkpoints").glob("*") if path.name.isdigit()]


def wait_until_all_are_saved(workdir, processes, least=0):
    while not all(max(steps_of(member), default=-1) > least for member in members(workdir)):
        assert all(process.poll() is None for process in processes), finish(processes)
        time.sleep(0.05)


@pytest.fixture(scope="module")
def one_process(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("one") / "run"
    launch(*seeds(workdir), devices="2")
    return workdir


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    """The work folder, and what the processes printed."""
    workdir = tmp_path_factory.mktemp("two") / "run"
    outcome = finish(start(*seeds(workdir)))
    assert [status for status, _, _ in outcome] == [0, 0], "\n".join(map(str, outcome))
    return workdir, outcome


def assert_same_members(workdir, expected):
    for own, theirs in zip(members(workdir), members(expected), strict=True):
        assert rows(own) == rows(theirs)
        assert fingerprint(own, 12) == fingerprint(theirs, 12)
        assert json.loads((own / "outcome.json").read_text()) == json.loads((theirs / "outcome.json").read_text())
        assert sorted(path.name for path in own.iterdir()) == sorted(path.name for path in theirs.iterdir())
    assert table(workdir) == table(expected)


@pytest.mark.slow
def test_two_processes_train_the_members_that_one_would_bit_for_bit(one_process, two_processes):
    workdir, ((_, told, logged), (_, silent, warned)) = two_processes
    assert_same_members(workdir, one_process)
    assert "divided over 2 processes" in logged and "3 members" in logged and "standard error" in told
    assert silent == "" and "members" not in warned
    for own in members(workdir):  # a folder is that of a single run
        assert int(load_trained(str(own)).state.step) == 12
        assert len(json.loads((own / "environment.json").read_text())) == 1


@pytest.mark.slow
def test_another_number_of_processes_goes_on_with_them(one_process, two_processes, tmp_path):
    for name, source in (("one", one_process), ("two", two_processes[0])):
        shutil.copytree(source, tmp_path / name)
        for own in members(tmp_path / name)[: 3 if name == "one" else SEEDS]:
            shutil.rmtree(own / "checkpoints" / "12")
            (own / "outcome.json").unlink()
    launch(*seeds(tmp_path / "two"), devices="2")
    outcome = finish(start(*seeds(tmp_path / "one")))
    assert [status for status, _, _ in outcome] == [0, 0], "\n".join(map(str, outcome))
    for name in ("one", "two"):
        for own, theirs in zip(members(tmp_path / name), members(one_process), strict=True):
            assert rows(own) == rows(theirs) and fingerprint(own, 12) == fingerprint(theirs, 12)
        assert table(tmp_path / name) == table(one_process)


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_lost_process_ends_the_other_and_the_same_command_goes_on(victim, tmp_path):
    processes = start(*seeds(tmp_path / "run", **ENDLESS))
    wait_until_all_are_saved(tmp_path / "run", processes)
    processes[victim].kill()
    begun = time.monotonic()
    outcome = finish(processes)
    assert time.monotonic() - begun < 90
    assert outcome[1 - victim][0] not in (0, None)
    reached = max(step for own in members(tmp_path / "run") for step in steps_of(own))
    total = {**ENDLESS, "duration": f"{reached + 2} steps", "checkpoint_every": "5000 steps"}
    again = finish(start(*seeds(tmp_path / "run", **total)))
    assert [status for status, _, _ in again] == [0, 0], again
    launch(*seeds(tmp_path / "straight", **total), devices="2")
    for own, theirs in zip(members(tmp_path / "run"), members(tmp_path / "straight"), strict=True):
        assert fingerprint(own, reached + 2) == fingerprint(theirs, reached + 2)
        assert rows(own) == rows(theirs)


@pytest.mark.slow
def test_a_signal_to_one_process_saves_and_stops_both(tmp_path):
    processes = start(*seeds(tmp_path / "run", **ENDLESS))
    wait_until_all_are_saved(tmp_path / "run", processes)
    processes[1].send_signal(signal.SIGTERM)
    outcome = finish(processes)
    assert [status for status, _, _ in outcome] == [0, 0], "\n".join(map(str, outcome))
    assert table(tmp_path / "run")[1][3:] == ["interrupted"] * SEEDS
    for own in members(tmp_path / "run"):
        assert max(steps_of(own)) >= rows(own)[-1]["step"]


@pytest.mark.slow
def test_more_processes_than_members_and_a_mistake_in_one_of_them(tmp_path):
    few = (*arguments(TOY, tmp_path / "few", **SETTINGS), "--seeds=1")
    outcome = finish(start(*few))
    assert [status for status, _, _ in outcome] == [0, 0], "\n".join(map(str, outcome))
    assert (tmp_path / "few" / "seed_0" / "checkpoints" / "12").exists()
    (tmp_path / "other" / "seed_1").mkdir(parents=True)  # the second process's member
    (tmp_path / "other" / "seed_1" / "mine.txt").write_text("something else")
    outcome = finish(start(*seeds(tmp_path / "other")))
    assert all(status not in (0, None) for status, _, _ in outcome)
    assert "is not empty and holds no run" in outcome[1][2] and "Traceback" not in outcome[1][2]
    assert not any((own / "metrics.jsonl").exists() for own in members(tmp_path / "other"))


def sweep(workdir, *flags, **settings):
    common = {**SETTINGS, "loss.penalties.r1": 0.1, **settings}
    return ("--mode=sweep", *arguments(TOY, workdir, **common), *flags)


def leaderboard(workdir):
    return list(csv.DictReader((workdir / "leaderboard.csv").open()))


@pytest.mark.slow
@pytest.mark.parametrize("flags", [("--batch=4", "--pruner=median"), ()], ids=["population", "one run over all"])
def test_a_sweep_of_two_processes_finishes_every_trial_once(flags, tmp_path):
    given = sweep(tmp_path / "run", "--trials=6" if flags else "--trials=2", "--sampler=random", *flags)
    outcome = finish(start(*given))
    assert [status for status, _, _ in outcome] == [0, 0], "\n".join(map(str, outcome))
    assert outcome[1][1] == "" and "trials are done" in outcome[0][1]
    found = leaderboard(tmp_path / "run")
    assert sorted(int(row["run"]) for row in found) == list(range(6 if flags else 2))
    assert {row["state"] for row in found} <= {"complete", "pruned"} and found[0]["state"] == "complete"
    for row in found:
        member = tmp_path / "run" / row["folder"]
        assert json.loads((member / "config.json").read_text())["overrides"]
        assert steps_of(member) and (row["state"] == "pruned" or max(steps_of(member)) == 12)
    # The same command again has nothing to do.
    again = finish(start(*given))
    assert [status for status, _, _ in again] == [0, 0] and leaderboard(tmp_path / "run") == found


@pytest.mark.slow
def test_members_of_a_process_go_on_from_each_other_alone(tmp_path):
    given = sweep(tmp_path / "run", "--pbt=0.5", "--trials=4", **{"eval.every": "4 steps"})
    outcome = finish(start(*given))
    assert [status for status, _, _ in outcome] == [0, 0], "\n".join(map(str, outcome))
    assert "of their own process" in outcome[0][2]
    with (tmp_path / "run" / "pbt.csv").open() as file:
        found = list(csv.DictReader(file))
    assert len(found) == 4 and all(row["status"] == "complete" for row in found)
    copies = 0
    for place in range(4):
        file = tmp_path / "run" / "trials" / f"{place:04}" / "lineage.json"
        for entry in json.loads(file.read_text()) if file.exists() else ():
            assert entry["member"] % 2 == place % 2  # dealt out in turn
            copies += 1
    assert copies == 2 * 2  # one of each pair, at each evaluation but the last
