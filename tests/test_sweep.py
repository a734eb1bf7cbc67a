"""Sweeps as a whole: with a runner of a few lines, with real runs, and as processes that are stopped and killed."""

import csv
import pathlib
import re
import shlex
import signal
import subprocess
import time

import pytest

from experiments import toy2d
from jaxgan.errors import CheckpointError, ConfigError, DataError
from jaxgan.evaluate import load_trained
from jaxgan.sweep import sweep
from jaxgan.sweeps.runner import Outcome, one_by_one
from jaxgan.sweeps.space import Space
from jaxgan.writers import ProgressLine
from tests.runs import ROOT, command, environment, launch, rows

RATES = Space(
    suggest=lambda trial: {
        "optimizer.generator.learning_rate": trial.suggest_float("rate", 1e-4, 1e-2, log=True),
        "seed": trial.suggest_int("seed", 0, 3),
    }
)


class Fake:
    """A runner that takes a run's learning rate for its distance, and notes what it was handed."""

    def __init__(self, fails=None):
        self.batches, self.fails = [], fails or {}

    def __call__(self, configs, workdirs, overrides, report):
        self.batches.append([pathlib.Path(workdir).name for workdir in workdirs])
        outcomes = []
        for member, config in enumerate(configs):
            fail = self.fails.get(int(self.batches[-1][member]))
            if isinstance(fail, Exception):
                raise fail
            number = config.optimizer.generator.learning_rate
            values = {"swd1k_train_raw": number, "modes1k_train_raw": float(config.seed)}
            asked = report(member, 10, values)
            outcomes.append(fail or Outcome(values, "stopped" if asked else "complete"))
        return outcomes


def leaderboard(workdir):
    with (workdir / "leaderboard.csv").open() as file:
        return list(csv.DictReader(file))


def test_a_sweep_leaves_its_leaderboard_its_page_and_the_best_as_a_command(tmp_path):
    runner = Fake({1: Outcome({}, "diverged", "update 7 gave loss_d = nan")})
    said = sweep(toy2d.get_config("tiny"), str(tmp_path), RATES, trials=6, runner=runner, experiment="mine.py")
    assert runner.batches == [[f"{run:04}"] for run in range(6)]
    board = leaderboard(tmp_path)
    assert [row["state"] for row in board] == ["complete"] * 5 + ["failed"]
    assert [float(row["swd"]) for row in board[:5]] == sorted(float(row["swd"]) for row in board[:5])
    assert board[5]["run"] == "1" and "update 7" in board[5]["reason"]
    best = board[0]["optimizer.generator.learning_rate"]
    assert f"--config=mine.py --config.optimizer.generator.learning_rate={best}" in said
    assert "6 of 6 trials are done" in said
    page = (tmp_path / "sweep.html").read_text()
    assert "update 7 gave" in page and not re.search(r'(src|href)="(https?:)?//', page)


def test_a_restart_runs_what_is_left_and_nothing_else(tmp_path):
    config = toy2d.get_config("tiny")
    first = Fake({3: DataError("the disk is gone")})
    with pytest.raises(DataError):
        sweep(config, str(tmp_path), RATES, trials=5, runner=first)
    second = Fake()
    sweep(config, str(tmp_path), RATES, trials=5, runner=second)
    assert first.batches == [["0000"], ["0001"], ["0002"], ["0003"]]
    assert sorted(second.batches) == [["0003"], ["0004"]]
    third = Fake()
    assert "5 of 5" in sweep(config, str(tmp_path), RATES, trials=5, runner=third)
    assert third.batches == []
    sweep(config, str(tmp_path), RATES, trials=6, runner=third)
    assert third.batches == [["0005"]]
    undisturbed = tmp_path / "undisturbed"
    sweep(config, str(undisturbed), RATES, trials=6, runner=Fake(), sampler="random")
    names = ("run", "swd", "optimizer.generator.learning_rate", "seed")
    assert [[row[name] for name in names] for row in leaderboard(tmp_path)] == [
        [row[name] for name in names] for row in leaderboard(undisturbed)
    ]
    with pytest.raises(CheckpointError, match="batch_size"):
        config.batch_size = 4
        sweep(config, str(tmp_path), RATES, trials=6, runner=third)


def test_a_list_is_run_in_batches_each_point_once(tmp_path):
    points = tuple({"seed": seed} for seed in range(5))
    runner = Fake()
    sweep(toy2d.get_config("tiny"), str(tmp_path), Space(points=points), batch=2, runner=runner)
    assert runner.batches == [["0000", "0001"], ["0002", "0003"], ["0004"]]
    assert sorted(row["seed"] for row in leaderboard(tmp_path)) == list("01234")
    page = (tmp_path / "sweep.html").read_text()
    assert "Seeds: mean and standard error" in page
    with pytest.raises(CheckpointError, match="points"):
        sweep(toy2d.get_config("tiny"), str(tmp_path), Space(points=points[1:]), runner=runner)


def test_several_objectives_give_a_front(tmp_path):
    sweep(toy2d.get_config("tiny"), str(tmp_path), RATES, trials=8, runner=Fake(), objective="swd:min,modes:max")
    board = leaderboard(tmp_path)
    front, seeds = [], []
    for row in sorted(board, key=lambda row: float(row["swd"])):
        if not seeds or float(row["modes"]) > max(seeds):
            front.append(row["run"])
            seeds.append(float(row["modes"]))
    assert [row["run"] for row in board[: len(front)]] == front
    assert "What they trade" in (tmp_path / "sweep.html").read_text()


@pytest.mark.parametrize(
    "options, words",
    [
        ({"space": Space(suggest=lambda trial: {"optimizer.generator.rate": 1.0})}, "no field"),
        ({"objective": "fid"}, "measured are swd, modes"),
        ({"sampler": "annealing"}, "known: tpe"),
        ({"pruner": "gardener"}, "known: none"),
        ({"pruner": "median", "objective": "swd,modes"}, "compares one number"),
        ({"sampler": "cmaes", "objective": "swd,modes"}, "follows one number"),
        ({"trials": 0}, "count from 1"),
        ({"storage": "nothing://here"}, "cannot open"),
        ({"storage": "grpc://here"}, "grpc://host:port"),
        ({"storage": "postgresql://me:secret@127.0.0.1:1/none"}, "cannot open"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_mistakes_are_found_before_anything_runs(options, words, tmp_path):
    runner = Fake()
    with pytest.raises(ConfigError, match=words) as caught:
        sweep(toy2d.get_config("tiny"), str(tmp_path / "run"), **{"space": RATES, "runner": runner, **options})
    assert runner.batches == [] and "secret" not in str(caught.value)


def test_a_run_that_is_never_evaluated_cannot_be_swept(tmp_path):
    config = toy2d.get_config("tiny")
    config.eval.every = "0 steps"
    with pytest.raises(ConfigError, match=r"config\.eval\.every is 0"):
        sweep(config, str(tmp_path), RATES, runner=Fake())


def test_a_single_run_s_folder_is_refused(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="holds a single run"):
        sweep(toy2d.get_config("tiny"), str(tmp_path), RATES, runner=Fake())


def test_real_runs_complete_diverge_are_refused_and_stop(tmp_path):
    """The runner that trains one after another; each is a run like any other."""
    base = toy2d.get_config("tiny")
    base.duration, base.eval.every, base.sample_every, base.parallel = "4 steps", "2 steps", "4 steps", "jit"
    configs = [base.copy_and_resolve_references() for _ in range(4)]
    with configs[1].ignore_type():
        configs[1].optimizer.generator.learning_rate = float("inf")
    configs[2].game.packing = 3
    workdirs = [str(tmp_path / name) for name in "abcd"]
    reports, totals = [], []

    def report(member, step, values):
        reports.append((member, step))
        return member == 3 and step == 2

    def make_progress(member, total):
        totals.append((member, total))
        return ProgressLine(total)

    outcomes = one_by_one(configs, workdirs, [{}] * 4, report, make_progress)
    assert [outcome.status for outcome in outcomes] == ["complete", "diverged", "refused", "stopped"]
    assert outcomes[0].values["swd16_train_raw"] > 0 and "nan" in outcomes[1].reason and "pack" in outcomes[2].reason
    assert reports == [(0, 2), (0, 4), (3, 2)] and totals == [(0, 4), (1, 4), (3, 4)]
    assert int(load_trained(workdirs[0]).state.step) == 4
    assert sorted(path.name for path in (tmp_path / "d" / "checkpoints").iterdir())[-1] == "2"
    again = one_by_one(configs[:1], workdirs[:1], [{}], lambda *_: pytest.fail("it was complete"))
    assert again == outcomes[:1]


def arguments(workdir, *more):
    settings = {"duration": "3k steps", "log_every": "50 steps", "sample_every": "1k steps", "steps_per_call": 10}
    settings |= {"checkpoint_every": "200 steps", "eval.every": "1k steps"}
    return (
        "--config=experiments/toy2d.py:tiny",
        "--mode=sweep",
        "--trials=3",
        f"--workdir={workdir}",
        *(f"--config.{name}={value}" for name, value in settings.items()),
        *more,
    )


def start(workdir, *more):
    return subprocess.Popen(
        command(*arguments(workdir, *more)),
        cwd=ROOT,
        env=environment(JAX_NUM_CPU_DEVICES="1"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_for(file, process, lines=1, seconds=120):
    """Until a file has so many lines more than now."""

    def written():
        return len(file.read_text().splitlines()) if file.exists() else 0

    before, until = written(), time.monotonic() + seconds
    while written() < before + lines:
        assert process.poll() is None and time.monotonic() < until, process.communicate()[0]
        time.sleep(0.01)


def finished(workdir):
    names = ("rank", "run", "state", "swd", "optimizer.generator.learning_rate", "loss.penalties.r1")
    return [[row[name] for name in names] for row in leaderboard(workdir)]


@pytest.mark.slow
def test_stopped_killed_and_started_again_it_ends_as_if_it_had_not_been(tmp_path):
    """Ctrl-C in one trial, SIGKILL in another; each goes on from its checkpoint, and the study from its journal."""
    undisturbed, workdir = tmp_path / "undisturbed", tmp_path / "sweep"
    launch(*arguments(undisturbed))

    process = start(workdir)
    wait_for(workdir / "trials" / "0000" / "metrics.jsonl", process, lines=8)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0 and "0 of 3 trials are done" in output and "the same command goes on" in output

    process = start(workdir)
    wait_for(workdir / "trials" / "0001" / "metrics.jsonl", process, lines=8)
    process.kill()
    process.communicate()

    result = launch(*arguments(workdir))
    assert "its worker has died" in result.stderr and "3 of 3 trials are done" in result.stdout
    assert finished(workdir) == finished(undisturbed)
    for run in ("0000", "0001", "0002"):
        assert rows(workdir / "trials" / run) == rows(undisturbed / "trials" / run)
        starts = (workdir / "trials" / run / "environment.json").read_text().count('"command"')
        assert starts == (1 if run == "0002" else 2)
    again = launch(*arguments(workdir))
    assert "3 of 3 trials are done" in again.stdout and "running" not in again.stdout


@pytest.mark.slow
def test_launch_refuses_a_wrong_name_and_pastes_a_right_one(tmp_path):
    experiment = tmp_path / "mine.py"
    text = (ROOT / "experiments" / "toy2d.py").read_text()
    experiment.write_text(text.replace('"loss.penalties.r1": trial', '"loss.penalty.r1": trial'))
    options = ("--mode=sweep", f"--workdir={tmp_path}/sweep")
    result = launch(f"--config={experiment}:tiny", *options, check=False)
    assert result.returncode == 1 and "did you mean loss.penalties.r1" in result.stderr
    assert "Traceback" not in result.stderr and not (tmp_path / "sweep").exists()

    result = launch("--config=experiments/toy2d.py:tiny", "--trials=2", *options)
    (pasted,) = re.findall(r"^python launch.py (.*)$", result.stdout, re.MULTILINE)
    launch(*shlex.split(pasted))
    best = leaderboard(tmp_path / "sweep")[0]
    again = rows(tmp_path / "sweep" / "best")[-1]
    assert again["swd16_train_raw"] == float(best["swd"])
    assert "swd16" in launch("--mode=eval", f"--workdir={tmp_path}/sweep/trials/0000", "--num_samples=16").stdout
