"""A run whose data is streamed is the run whose data lies on the devices, bit for bit."""

import importlib
import json
import random
import signal
import subprocess
import threading
import time

import numpy as np
import pytest
from PIL import Image

from jaxgan.build import load_data
from jaxgan.errors import ConfigError, DataError
from jaxgan.judge import evaluator_of
from jaxgan.population import train_population
from jaxgan.train import train
from tests.runs import command, environment, fingerprint, launch, rows
from tests.small import assert_equal

EVERY = {"log_every": "2 steps", "checkpoint_every": "4 steps", "sample_every": "0 steps", "eval.every": "0 steps"}


def tiny(experiment="mlp", **overrides):
    config = importlib.import_module(f"experiments.{experiment}").get_config("tiny")
    config.update_from_flattened_dict({"duration": "8 steps", "data.flip": True, **EVERY, **overrides})
    return config


LAYOUTS = {
    "one device": {"parallel": "jit", "d_steps": 2},
    "four devices, several updates a call": {"parallel": "pmap", "steps_per_call": 4},
    "a mesh": {"parallel": "shard_map", "d_steps": 2, "steps_per_call": 2, "game.conditional": True},
}


@pytest.fixture(scope="module", params=LAYOUTS)
def resident(request, tmp_path_factory):
    """A layout, and the work folder and state of a run that draws its batches on the devices."""
    layout = dict(LAYOUTS[request.param])
    if layout.pop("game.conditional", False):
        layout["experiment"] = "cgan"
    workdir = tmp_path_factory.mktemp("resident") / "run"
    return layout, workdir, train(tiny(**layout, **{"data.stream": "never"}), workdir)


def assert_same_run(workdir, state, resident):
    _, expected, expected_state = resident
    assert_equal(state, expected_state)
    assert rows(workdir) == rows(expected)


def test_a_streamed_run_is_the_resident_one(resident, tmp_path):
    state = train(tiny(**resident[0], **{"data.stream": "always"}), tmp_path / "run")
    assert_same_run(tmp_path / "run", state, resident)
    told = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert all(0.0 <= row["input_wait"] <= 1.0 for row in told)


@pytest.mark.parametrize("resident", ["one device"], indirect=True)
def test_it_may_go_on_streamed_or_not(resident, tmp_path):
    for duration, stream in (("2 steps", "always"), ("4 steps", "never"), ("8 steps", "always")):
        state = train(tiny(**{**resident[0], "duration": duration, "data.stream": stream}), tmp_path / "run")
    assert_same_run(tmp_path / "run", state, resident)


@pytest.fixture
def folder(tmp_path):
    """Forty pictures of two kinds."""
    rng = np.random.default_rng(0)
    for i in range(40):
        kind = tmp_path / "pictures" / "ab"[i % 2]
        kind.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (30, 34, 3), dtype=np.uint8)).save(kind / f"{i:03}.png")
    return tmp_path / "pictures"


def of_folder(folder, **overrides):
    names = {"data.name": "folder", "data.path": str(folder), "data.image_size": 8, "data.stream": "always"}
    return tiny(**{**names, "duration": "12 steps", **overrides})


def test_a_picture_that_cannot_be_read_ends_the_run_and_costs_nothing_that_was_saved(folder, tmp_path):
    threads, picture = set(threading.enumerate()), folder / "a" / "004.png"
    expected = train(of_folder(folder, **{"data.stream": "never"}), tmp_path / "resident")
    train(of_folder(folder, duration="4 steps"), tmp_path / "run")
    whole = picture.read_bytes()
    picture.write_bytes(whole[:100])
    with pytest.raises(DataError, match=r"a/004\.png cannot be read .* start the same command again"):
        train(of_folder(folder), tmp_path / "run")
    picture.write_bytes(whole)
    assert_equal(train(of_folder(folder), tmp_path / "run"), expected)
    assert rows(tmp_path / "run") == rows(tmp_path / "resident")
    facts = [json.loads((tmp_path / run / "config.json").read_text())["data"] for run in ("run", "resident")]
    assert facts[0] == facts[1] and facts[0]["label_counts"] == [20, 20]
    begun = time.monotonic()
    while ours(threads) and time.monotonic() - begun < 10:
        time.sleep(0.01)
    assert not ours(threads)


def ours(before):
    return [t for t in threading.enumerate() if t not in before and ("feed" in t.name or "grain" in t.name.lower())]


def test_auto_streams_what_is_larger_than_the_limit():
    """mnist5k takes 3,920,000 bytes."""
    for limit, is_streamed in ((3.92e6, False), (3.919e6, True)):
        config = tiny(**{"data.stream": "auto", "data.resident_bytes": limit})
        assert load_data(config).is_streamed == is_streamed
    assert not load_data(tiny("toy2d", **{"data.stream": "always", "data.flip": False})).is_streamed


def test_what_cannot_be_streamed_is_found_before_anything_is_written(tmp_path):
    with pytest.raises(ConfigError, match=r"config\.data\.workers -1 must be 0 or more"):
        train(tiny(**{"data.stream": "always", "data.workers": -1}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_population_refuses_what_is_streamed(tmp_path):
    with pytest.raises(ConfigError, match=r"mnist5k is streamed: set config\.data\.stream=never, or train single runs"):
        train_population([tiny(**{"data.stream": "always"})], [tmp_path / "run"])
    assert not (tmp_path / "run").exists()


def test_a_streamed_set_is_measured_against_as_the_resident_one():
    evaluators = []
    for stream in ("never", "always"):
        config = tiny(**{"data.stream": stream, "data.split": "train[:500]"})
        evaluators.append(evaluator_of(config, load_data(config)))
    resident, streamed = evaluators
    assert streamed.protocol(100) == resident.protocol(100) and streamed.reference_size == 500
    assert streamed.floor() == resident.floor()


STREAMED = {"data.stream": "always", "duration": "120 steps", "log_every": "3 steps", "checkpoint_every": "10 steps"}


def arguments(workdir, **overrides):
    settings = {**EVERY, "data.flip": True, **STREAMED, **overrides}
    given = (f"--config.{name}={value}" for name, value in settings.items())
    return ("--config=experiments/mlp.py:tiny", f"--workdir={workdir}", *given)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1])
def test_killed_at_any_moment_it_ends_as_if_it_had_not_been(workers, tmp_path):
    launch(*arguments(tmp_path / "undisturbed", **{"data.stream": "never"}))
    workdir, chance = tmp_path / "run", random.Random(0)
    for _ in range(3):
        given = arguments(workdir, **{"data.workers": workers})
        process = subprocess.Popen(
            command(*given), env=environment(JAX_NUM_CPU_DEVICES="1"), stdout=subprocess.DEVNULL, start_new_session=True
        )
        wait_for_rows(workdir, chance.randint(1, 5), process)
        process.kill()
        process.wait()
        assert left_of(process.pid) == ""
    launch(*arguments(workdir, **{"data.workers": workers}))
    assert rows(workdir) == rows(tmp_path / "undisturbed")
    assert fingerprint(workdir, 120) == fingerprint(tmp_path / "undisturbed", 120)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_all_its_processes_saves_and_leaves_none_behind(number, workers, tmp_path):
    workdir = tmp_path / "run"
    given = arguments(workdir, duration="100k steps", **{"data.workers": workers})
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    process = subprocess.Popen(
        command(*given), env=environment(JAX_NUM_CPU_DEVICES="1"), start_new_session=True, **pipes
    )
    wait_for_rows(workdir, 5, process)
    subprocess.run(["kill", f"-{number.name[3:]}", "--", f"-{process.pid}"], check=True)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0 and "the same command goes on" in output and "Traceback" not in output, output
    assert left_of(process.pid) == ""


def wait_for_rows(workdir, more, process):
    file = workdir / "metrics.jsonl"
    before = len(file.read_text().splitlines()) if file.exists() else 0
    while process.poll() is None and len(file.read_text().splitlines() if file.exists() else ()) < before + more:
        time.sleep(0.01)


def left_of(session, seconds=30):
    """What is left of a session's processes after so many seconds; "" as soon as there is nothing."""
    begun, left = time.monotonic(), session
    while left and time.monotonic() - begun < seconds:
        time.sleep(0.1)
        asked = ["ps", "-o", "stat=,args=", "-s", str(session)]
        told = subprocess.run(asked, capture_output=True, text=True, check=False)
        left = "\n".join(line for line in told.stdout.splitlines() if not line.startswith("Z"))
    return left
