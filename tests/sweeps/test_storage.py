"""A study in a real PostgreSQL server, and behind Optuna's proxy, with real processes that are killed.

The server is started here, in a temporary folder; Debian's package `postgresql` brings it.
"""

import collections
import json
import os
import pathlib
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import time

import optuna
import pytest
from optuna.trial import TrialState

from jaxgan.sweeps.storage import open_storage
from tests.runs import ROOT, command, environment

# A worker whose trials are sleeps, so that many can be watched in a short time. It writes a line at each start and end.
WORKER = """
import pathlib, sys, time
from experiments import toy2d
from jaxgan.sweep import sweep
from jaxgan.sweeps import worker
from jaxgan.sweeps.runner import Outcome
from jaxgan.sweeps.space import Space

name, workdir, storage, host = sys.argv[1:]
if host:
    worker._host = lambda: host  # as if each were on a machine of its own: they know of each other by their beats alone


def runner(configs, workdirs, overrides, report):
    (config,), (folder,) = configs, workdirs
    log = pathlib.Path(workdir, "log")
    with log.open("a") as file:
        print(name, "begins", pathlib.Path(folder).name, config.seed, file=file, flush=True)
    for step in range(5):
        time.sleep(0.2)
        report(0, step, {"swd1k_train_raw": float(config.seed)})
    with log.open("a") as file:
        print(name, "ends", pathlib.Path(folder).name, config.seed, file=file, flush=True)
    return [Outcome({"swd1k_train_raw": float(config.seed)}, "complete")]


space = Space(suggest=lambda trial: {"seed": trial.suggest_int("seed", 0, 10**6)})
options = {"trials": 12, "runner": runner, "storage": storage, "heartbeat": 0.5}
sweep(toy2d.get_config("tiny"), workdir, space, **options)
"""


@pytest.fixture(scope="module")
def postgresql(tmp_path_factory):
    """The address of a fresh database."""
    programs = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin")) or [None]
    initdb = shutil.which("initdb", path=programs[-1])
    if initdb is None:
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    pytest.importorskip("psycopg")
    as_somebody = []
    if os.getuid() == 0:  # PostgreSQL refuses to run as root
        if shutil.which("runuser") is None or not _is_user("postgres"):
            pytest.skip("root cannot run PostgreSQL, and there is no user postgres to run it as")
        as_somebody = ["runuser", "-u", "postgres", "--"]
    # A short path that every user may enter: a socket's is limited to 107 characters.
    folder = pathlib.Path(subprocess.check_output([*as_somebody, "mktemp", "-d", "/tmp/pg.XXXXXX"], text=True).strip())
    pg_ctl, port = str(pathlib.Path(initdb).with_name("pg_ctl")), free_port()
    options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
    server = [*as_somebody, pg_ctl, "-D", f"{folder}/data", "-w", "-l", f"{folder}/log"]
    try:
        subprocess.run(
            [*as_somebody, initdb, "-D", f"{folder}/data", "-U", "jaxgan", "-A", "trust", "-E", "UTF8"],
            check=True,
            capture_output=True,
            cwd=folder,
        )
        subprocess.run([*server, "-o", options, "start"], check=True, cwd=folder, stdout=subprocess.DEVNULL)
        yield f"postgresql+psycopg://jaxgan@127.0.0.1:{port}/postgres"
        subprocess.run([*server, "-m", "fast", "stop"], check=True, cwd=folder, stdout=subprocess.DEVNULL)
    finally:
        shutil.rmtree(folder)


def _is_user(name):
    return any(user.pw_name == name for user in pwd.getpwall())


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def proxy(postgresql):
    """The address of Optuna's proxy before that database."""
    pytest.importorskip("grpc")
    port = free_port()
    code = (
        "import sys, optuna; from jaxgan.sweeps.storage import open_storage\n"
        "storage = open_storage(sys.argv[1], '.')\n"
        "optuna.storages.run_grpc_proxy_server(storage, host='127.0.0.1', port=int(sys.argv[2]))"
    )
    process = subprocess.Popen([sys.executable, "-c", code, postgresql, str(port)], cwd=ROOT, stderr=subprocess.DEVNULL)
    yield f"grpc://127.0.0.1:{port}"
    process.kill()
    process.wait()


def lines(workdir):
    log = workdir / "log"
    return [line.split() for line in log.read_text().splitlines()] if log.exists() else []


def start(name, workdir, storage, host=""):
    arguments = [sys.executable, "-c", WORKER, name, str(workdir), storage, host]
    return subprocess.Popen(arguments, cwd=ROOT, env=environment(JAX_NUM_CPU_DEVICES="1"))


def kill_in_a_trial(process, name, workdir, after):
    """SIGKILL while the worker is at a trial, its `after`-th; gives that trial's run."""
    until = time.monotonic() + 300
    while True:
        own = [(verb, run) for who, verb, run, _ in lines(workdir) if who == name]
        if len([verb for verb, _ in own if verb == "begins"]) >= after and own[-1][0] == "begins":
            process.kill()
            process.wait()
            break
        assert time.monotonic() < until and process.poll() is None
        time.sleep(0.02)
    (*_, (verb, run)) = [(verb, run) for who, verb, run, _ in lines(workdir) if who == name]
    return run if verb == "begins" else None


@pytest.mark.slow
@pytest.mark.parametrize("storage", ["postgresql", "proxy", "journal"])
@pytest.mark.parametrize("hosts", [("", ""), ("one", "another")], ids=["one host", "two hosts"])
def test_a_killed_worker_s_trial_is_tried_again_and_every_run_ends_once(storage, hosts, tmp_path, request):
    """Two processes on one study, one of them killed in the middle of a trial."""
    address = "" if storage == "journal" else request.getfixturevalue(storage)
    workers = {name: start(name, tmp_path, address, host) for name, host in zip("ab", hosts, strict=True)}
    killed = kill_in_a_trial(workers["a"], "a", tmp_path, after=1)
    assert killed is not None, "it had ended when the signal came"
    assert workers["b"].wait(timeout=600) == 0

    begun = collections.Counter(run for _, verb, run, _ in lines(tmp_path) if verb == "begins")
    ended = collections.Counter(run for _, verb, run, _ in lines(tmp_path) if verb == "ends")
    assert ended == {f"{run:04}": 1 for run in range(12)}
    assert begun == ended + collections.Counter([killed])
    assert {who for who, *_ in lines(tmp_path)} == {"a", "b"}
    # The second attempt was of the same trial.
    assert len({seed for _, _, run, seed in lines(tmp_path) if run == killed}) == 1
    # And the study says so too.
    name = "sweep" if storage == "journal" else str(tmp_path)
    study = optuna.load_study(study_name=name, storage=open_storage(address, tmp_path))
    complete = [trial for trial in study.trials if trial.state == TrialState.COMPLETE]
    assert sorted(trial.user_attrs["run"] for trial in complete) == list(range(12))
    (again,) = [trial for trial in complete if trial.user_attrs["attempt"]]
    assert f"{again.user_attrs['run']:04}" == killed and again.user_attrs["deaths"] == 1
    assert all(trial.state != TrialState.WAITING for trial in study.trials)


@pytest.mark.slow
def test_two_launches_share_a_database_and_one_is_killed_while_it_trains(postgresql, tmp_path):
    """The command line of docs/sweeps.md; the run that is taken over goes on from its checkpoint."""
    settings = {"duration": "3k steps", "log_every": "50 steps", "sample_every": "3k steps", "steps_per_call": 10}
    settings |= {"checkpoint_every": "200 steps", "eval.every": "1k steps"}
    arguments = command(
        "--config=experiments/toy2d.py:tiny",
        "--mode=sweep",
        "--trials=4",
        f"--workdir={tmp_path}/sweep",
        f"--storage={postgresql}",
        *(f"--config.{name}={value}" for name, value in settings.items()),
    )
    options = {"cwd": ROOT, "env": environment(JAX_NUM_CPU_DEVICES="1"), "text": True}
    both = [subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options) for _ in range(2)]
    trials, until = tmp_path / "sweep" / "trials", time.monotonic() + 600
    while len(list(trials.glob("*/checkpoints/200"))) < 2:  # both are at work
        assert time.monotonic() < until and both[0].poll() is None
        time.sleep(0.02)
    both[0].send_signal(signal.SIGKILL)
    both[0].communicate()
    output, _ = both[1].communicate(timeout=600)
    assert both[1].returncode == 0, output
    assert "4 of 4 trials are done" in output and "its worker has died" in output
    starts = {run.name: len(json.loads((run / "environment.json").read_text())) for run in trials.iterdir()}
    assert sorted(starts.values()) == [1, 1, 1, 2], starts
    evaluated = [json.loads((run / "evaluation.json").read_text()) for run in trials.iterdir()]
    assert all([entry["step"] for entry in entries] == [1000, 2000, 3000] for entries in evaluated)
