"""The loop: exact resume after SIGKILL and SIGTERM, its records, its alarms, and what stops it."""

import importlib
import json
import pathlib
import random
import signal
import subprocess
import time

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from jaxgan.errors import CheckpointError, ConfigError, DivergedError
from jaxgan.run import due, merge
from jaxgan.train import train
from tests.runs import command, environment, fingerprint, launch, rows
from tests.small import assert_close, assert_equal

EXPERIMENTS = sorted(
    path.stem for path in (pathlib.Path(__file__).parent.parent / "experiments").glob("*.py") if path.stem != "common"
)


def tiny(experiment="toy2d", **overrides):
    config = importlib.import_module(f"experiments.{experiment}").get_config("tiny")
    config.update_from_flattened_dict(overrides)
    return config


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_trains_for_one_update(experiment, tmp_path):
    config = tiny(experiment)
    state = train(config, tmp_path / "run")
    images = config.batch_size * config.d_steps
    assert int(state.step) == 1 and int(state.images) == images
    (row,) = rows(tmp_path / "run")
    assert row["step"] == 1 and row["images"] == images and np.isfinite(row["loss_d"])
    measured = {"toy2d": "swd16_train_raw", "pacgan": "swd16_train_raw"}.get(experiment, "fid16_train_digits")
    assert row[measured] > 0
    names = {file.name for file in (tmp_path / "run" / "samples").iterdir()}
    assert {"final.png", "interpolation.png", "training.gif", "step_000000001_ema.png"} <= names
    assert (tmp_path / "run" / "checkpoints" / "1").is_dir()
    assert list((tmp_path / "run" / "tensorboard").iterdir())
    record = json.loads((tmp_path / "run" / "config.json").read_text())
    assert record["config"]["experiment"] == f"{experiment}-tiny"
    starts = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert len(starts) == 1 and starts[0]["packages"]["jax"] == jax.__version__


LONG = {
    "duration": "300 steps",
    "log_every": "7 steps",
    "sample_every": "100 steps",
    "checkpoint_every": "10 steps",
    "game.latent_size": 5,
}


def arguments(workdir, **overrides):
    settings = {**LONG, **overrides}
    return (
        "--config=experiments/toy2d.py:tiny",
        f"--workdir={workdir}",
        *(f"--config.{name}={value}" for name, value in settings.items()),
    )


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The run that the disturbed ones have to equal."""
    workdir = tmp_path_factory.mktemp("undisturbed") / "run"
    launch(*arguments(workdir))
    return workdir


def assert_same_run(a, b, step=300):
    assert rows(a) == rows(b)
    assert fingerprint(a, step) == fingerprint(b, step)
    for file in sorted((a / "samples").iterdir()):
        assert file.read_bytes() == (b / "samples" / file.name).read_bytes(), file.name


def start_and_signal(workdir, number, after_rows):
    """Starts the run, and sends it a signal when it has written some more rows."""
    file = workdir / "metrics.jsonl"

    def written():
        return len(file.read_text().splitlines()) if file.exists() else 0

    before = written()
    process = subprocess.Popen(
        command(*arguments(workdir)),
        env=environment(JAX_NUM_CPU_DEVICES="1"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    shrunk = False  # a resumed run drops the rows that it will write again
    while process.poll() is None:
        now = written()
        shrunk = shrunk or now < before
        if now >= (after_rows if shrunk else before + after_rows):
            break
        time.sleep(0.001)
    process.send_signal(number)
    output, _ = process.communicate(timeout=120)
    return process.returncode, output.decode()


@pytest.mark.smoke
def test_killed_at_any_moment_it_ends_as_if_it_had_not_been(undisturbed, tmp_path):
    workdir, chance = tmp_path / "run", random.Random(0)
    for _ in range(3):
        returncode, _ = start_and_signal(workdir, signal.SIGKILL, after_rows=chance.randint(1, 9))
        assert returncode == -signal.SIGKILL
    launch(*arguments(workdir))
    assert_same_run(undisturbed, workdir)
    steps = [row["step"] for row in rows(workdir)]
    assert steps == sorted(set(steps)) and set(range(7, 300, 7)) <= set(steps)


def test_sigterm_saves_first_and_ends_cleanly(undisturbed, tmp_path):
    workdir = tmp_path / "run"
    returncode, output = start_and_signal(workdir, signal.SIGTERM, after_rows=5)
    assert returncode == 0 and "the same command goes on" in output
    stopped_at = max(int(path.name) for path in (workdir / "checkpoints").iterdir())
    assert stopped_at >= rows(workdir)[-1]["step"] - 6
    launch(*arguments(workdir))
    assert_same_run(undisturbed, workdir)


def test_a_damaged_newest_checkpoint_costs_its_updates_only(undisturbed, tmp_path):
    workdir = tmp_path / "run"
    launch(*arguments(workdir, duration="100 steps"))
    for file in (workdir / "checkpoints" / "100" / "state" / "d").iterdir():
        file.write_bytes(b"damage")
    manifest = workdir / "checkpoints" / "100" / "state" / "manifest.ocdbt"
    manifest.write_bytes(manifest.read_bytes()[:10])
    result = launch(*arguments(workdir))
    assert "checkpoint 100" in result.stderr and "step 90" in result.stderr
    assert_same_run(undisturbed, workdir)


def test_a_finished_run_says_so_and_goes_on_when_asked_for_more(undisturbed, tmp_path):
    workdir = tmp_path / "run"
    first = launch(*arguments(workdir, duration="150 steps"))
    assert "complete" in first.stderr
    before = fingerprint(workdir, 150)
    again = launch(*arguments(workdir, duration="150 steps"))
    assert "is complete" in again.stderr and "--config.duration" in again.stderr
    assert fingerprint(workdir, 150) == before
    launch(*arguments(workdir))
    # Bit for bit the longer run; only the rows and pictures of the former end are extra.
    assert fingerprint(workdir, 300) == fingerprint(undisturbed, 300)


@pytest.mark.slow  # states in shares and streamed runs change devices by default
def test_it_may_go_on_with_other_devices(tmp_path):
    """Four devices, then one: the run of one device all along, to rounding."""
    config = tiny("dcgan", duration="6 steps", checkpoint_every="3 steps")
    for side in (config.optimizer.generator, config.optimizer.discriminator):
        side.learning_rate = 1e-5  # Adam turns a rounding error near a zero gradient into a whole step
    straight = train(config.copy_and_resolve_references().unlock(), tmp_path / "one")
    with config.unlocked():
        config.duration = "3 steps"
    train(config, tmp_path / "two")
    config.duration, config.parallel = "6 steps", "jit"
    resumed = train(config, tmp_path / "two")
    assert int(resumed.step) == 6
    assert_close(resumed.params_g, straight.params_g, rtol=1e-3, atol=2e-5)
    assert_close(resumed.params_d, straight.params_d, rtol=1e-3, atol=2e-5)


@pytest.mark.slow  # two more compilations
def test_several_updates_a_call_log_the_same_steps(tmp_path):
    common = {"duration": "12 steps", "log_every": "4 steps", "checkpoint_every": "6 steps"}
    single = train(tiny(**common), tmp_path / "single")
    several = train(tiny(**common, steps_per_call=2), tmp_path / "several")
    assert_close(single.params_g, several.params_g)
    assert [row["step"] for row in rows(tmp_path / "single")] == [row["step"] for row in rows(tmp_path / "several")]


@pytest.mark.slow  # two more compilations
def test_it_may_go_on_with_other_calls_from_between_two_of_them(tmp_path):
    common = {"log_every": "5 steps", "checkpoint_every": "5 steps"}
    straight = train(tiny(**common, duration="20 steps"), tmp_path / "straight")
    train(tiny(**common, duration="7 steps"), tmp_path / "run")
    resumed = train(tiny(**common, duration="20 steps", steps_per_call=5), tmp_path / "run")
    assert int(resumed.step) == 20
    assert_close(resumed.params_g, straight.params_g)
    assert [row["step"] for row in rows(tmp_path / "run")] == [5, 7, 10, 15, 20]  # 7 was the end of the first run


def test_nan_stops_the_run_and_names_step_quantity_and_checkpoint(tmp_path):
    config = tiny(duration="50 steps", checkpoint_every="2 steps", log_every="1 steps")
    config.loss.name = "wasserstein"  # unbounded, and unheld here: plain gradient steps make it grow ever faster
    config.optimizer.discriminator = ConfigDict({"name": "sgd", "learning_rate": 30.0})
    config.optimizer.generator = ConfigDict({"name": "sgd", "learning_rate": 30.0})
    with pytest.raises(DivergedError, match=r"update (\d+) gave .*= (nan|inf|-inf).*checkpoint is") as error:
        train(config, tmp_path / "run")
    update = int(str(error.value).split()[1])
    written = rows(tmp_path / "run")
    assert written[-1]["step"] < update and all(np.isfinite(value) for row in written for value in row.values())
    saved = [int(path.name) for path in (tmp_path / "run" / "checkpoints").iterdir()]
    assert f"checkpoint is {max(saved)}" in str(error.value)


def test_a_discriminator_that_has_won_raises_one_warning(tmp_path, caplog):
    config = tiny(duration="200 steps", log_every="5 steps", sample_every="0 steps", checkpoint_every="0 steps")
    config.health.patience = "50 steps"
    config.health.accuracy, config.health.vanished = -1.0, 1.1  # every discriminator counts as the winner against these
    train(config, tmp_path / "run")
    assert caplog.text.count("the discriminator has won") == 1


def test_a_collapsed_generator_raises_one_warning(tmp_path, caplog):
    config = tiny(duration="60 steps", log_every="5 steps", sample_every="0 steps", checkpoint_every="0 steps")
    config.health.patience = "20 steps"
    config.health.collapsed = 1e3  # every generator counts as collapsed against this
    train(config, tmp_path / "run")
    assert caplog.text.count("the generator has collapsed") == 1


def test_another_configuration_s_workdir_is_left_alone(tmp_path):
    train(tiny(), tmp_path / "run")
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    with pytest.raises(CheckpointError, match=r"batch_size: 8 there, 16 here"):
        train(tiny(batch_size=16), tmp_path / "run")
    assert before == {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "experiment, overrides, message",
    [
        ("toy2d", {"model.name": "mpl"}, r"unknown model 'mpl'; known: .*dcgan.*mlp"),
        ("toy2d", {"loss.name": "hinged"}, r"unknown loss 'hinged'; known: .*hinge, .*wasserstein"),
        ("toy2d", {"game.name": "chess"}, r"unknown game 'chess'; known: standard"),
        ("toy2d", {"data.name": "mnist6k"}, r"mnist6k"),
        ("toy2d", {"parallel": "horovod"}, r"unknown config.parallel 'horovod'; known: pmap, shard_map, jit"),
        ("toy2d", {"batch_size": 10}, r"batch_size 10 does not divide over 4 devices; .*8 and 12"),
        ("toy2d", {"batch_size": 0}, r"batch_size 0"),
        ("toy2d", {"d_steps": 0}, r"d_steps 0"),
        ("toy2d", {"duration": "ten epochs"}, r"cannot read the duration 'ten epochs'"),
        ("toy2d", {"optimizer.generator.name": "adamm"}, r"unknown optimizer 'adamm'"),
        ("toy2d", {"optimizer.schedule.name": "cosine"}, r"unknown schedule 'cosine'"),
        ("dcgan", {"data.image_size": 30}, r"dcgan: .*30x30.*32x32"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_mistakes_are_named_before_anything_is_written(experiment, overrides, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        train(tiny(experiment, **overrides), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_network_option_that_does_not_exist_lists_those_that_do(tmp_path):
    config = tiny()
    config.model.generator.widhts = (1, 2)
    with pytest.raises(ConfigError, match=r"config.model.generator has no widhts; .*takes .*hidden"):
        train(config, tmp_path / "run")


def test_due_and_merge():
    assert [step for step in range(1, 10) if due(step, 3)] == [3, 6, 9]
    assert not due(5, 0)
    table = [{"step": 1, "a": 1}]
    merge(table, {"step": 1, "images": 8}, {"b": 2})
    merge(table, {"step": 2, "images": 16}, {"b": 3})
    assert table == [{"step": 1, "a": 1, "b": 2}, {"step": 2, "images": 16, "b": 3}]


@pytest.mark.slow  # the killed run says the same by default
def test_equal_seeds_give_equal_runs(tmp_path):
    first, second = (train(tiny(duration="3 steps"), tmp_path / name) for name in "ab")
    assert_equal(first, second)
    other = train(tiny(duration="3 steps", seed=1), tmp_path / "c")
    assert not np.array_equal(jax.tree.leaves(first.params_g)[0], jax.tree.leaves(other.params_g)[0])


STOP = {"eval.every": "1 steps", "stop.metric": "swd", "stop.below": 1e9, "stop.patience": 3}


def test_a_run_that_is_good_enough_stops_saves_and_stays_stopped(tmp_path, caplog):
    config = tiny("toy2d", duration="20 steps", **STOP)
    state = train(config, tmp_path / "run")
    assert int(state.step) == 3
    assert (tmp_path / "run" / "checkpoints" / "3").is_dir() and (tmp_path / "run" / "samples" / "final.png").exists()
    assert int(train(config, tmp_path / "run").step) == 3  # says that it is complete
    config.stop.metric = ""
    config.duration = "5 steps"
    assert int(train(config, tmp_path / "run").step) == 5


def test_a_checkpoint_is_saved_with_every_evaluation(tmp_path):
    settings = {"eval.every": "2 steps", "checkpoint_every": "0 steps", "checkpoint.keep": 9}
    train(tiny("toy2d", duration="6 steps", **settings), tmp_path / "run")
    names = [folder.name for folder in (tmp_path / "run" / "checkpoints").iterdir()]
    assert sorted(int(name) for name in names if name.isdigit()) == [2, 4, 6]


@pytest.mark.slow  # sweeps rely on it too
def test_a_report_ends_the_run_as_a_signal_would(tmp_path):
    """What `report` is told, where it says stop, and that the run then goes on to what it would have been."""
    settings = {"duration": "40 steps", "eval.every": "10 steps", "checkpoint_every": "1k steps"}
    whole = train(tiny(**settings), tmp_path / "whole")
    told, shown = [], []

    class Progress:
        def show(self, row, seconds_left):
            shown.append(row["step"])

        def close(self):
            shown.append("closed")

    def report(step, values):
        told.append((step, values))
        return step in (20, 40)

    options = {"report": report, "make_progress": lambda total: shown.append(total) or Progress()}
    state = train(tiny(**settings), tmp_path / "run", **options)
    assert int(state.step) == 20 and (tmp_path / "run" / "checkpoints" / "20").is_dir()
    assert not (tmp_path / "run" / "samples" / "final.png").exists()
    assert shown[0] == 40 and shown[-1] == "closed" and 20 in shown
    assert_equal(train(tiny(**settings), tmp_path / "run", **options), whole)
    assert (tmp_path / "run" / "samples" / "final.png").exists()  # at the end there is nothing left to stop
    entries = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert told == [(entry["step"], entry["values"]) for entry in entries]
    assert [step for step, _ in told] == [10, 20, 30, 40]
