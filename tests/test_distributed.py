"""One run in several processes: real ones, started as a user starts them."""

import importlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxgan import distributed
from jaxgan.errors import ConfigError
from jaxgan.train import train
from tests.runs import ROOT, assert_close_rows, command, environment, launch, rows
from tests.small import assert_close, assert_equal

RING = "tests/ring.py"
TOY = "experiments/toy2d.py:tiny"
ENDLESS = {
    "duration": "1M steps",
    "log_every": "20 steps",
    "checkpoint_every": "40 steps",
    "sample_every": "0 steps",
    "eval.every": "0 steps",
}


def arguments(experiment, workdir, **settings):
    overrides = (f"--config.{name}={value}" for name, value in settings.items())
    return (f"--config={experiment}", f"--workdir={workdir}", *overrides)


def here(experiment, workdir, **settings):
    """The same in this process, on its four devices or on one."""
    file, _, variant = experiment.partition(":")
    config = importlib.import_module(file.removesuffix(".py").replace("/", ".")).get_config(variant)
    config.update_from_flattened_dict(settings)
    return train(config, workdir)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def start(*given, variables=({}, {}), flags=True):
    """Two processes of two devices each."""
    port, processes = free_port(), []
    for i in range(2):
        own = (f"--coordinator=127.0.0.1:{port}", "--num_processes=2", f"--process_id={i}") if flags else ()
        processes.append(
            subprocess.Popen(
                command(*given, *own),
                cwd=ROOT,
                env=environment(JAX_NUM_CPU_DEVICES="2", **variables[i]),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    return processes


def finish(processes, seconds=600):
    """(exit status, stdout, stderr) of each; none is left behind."""
    try:
        outputs = [process.communicate(timeout=seconds) for process in processes]
    finally:
        for process in processes:
            process.kill()
    # On a CPU JAX's collectives tell of their connections where the answers are expected, two threads at times in one
    # line, whose ends then follow each other.
    plain = [[re.sub(r"\[Gloo\].*\n+", "", text) for text in output] for output in outputs]
    return [(process.returncode, *texts) for process, texts in zip(processes, plain, strict=True)]


def wait_for_checkpoint(workdir, processes):
    while not any(path.name.isdigit() for path in workdir.glob("checkpoints/*")):
        assert all(process.poll() is None for process in processes), finish(processes)
        time.sleep(0.05)


def newest(workdir) -> int:
    return max(int(path.name) for path in (workdir / "checkpoints").iterdir() if path.name.isdigit())


@pytest.fixture(scope="module")
def one_device(tmp_path_factory):
    """The work folder and the state of the run that all others have to equal."""
    workdir = tmp_path_factory.mktemp("one") / "run"
    return workdir, here(RING, workdir, parallel="jit")


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    """The same run in two processes of two devices, and what they printed."""
    workdir = tmp_path_factory.mktemp("two") / "run"
    outcome = finish(start(*arguments(RING, workdir)))
    assert [status for status, _, _ in outcome] == [0, 0], outcome
    return workdir, outcome


def assert_same_run(workdir, one_device):
    assert len(rows(workdir)) == 20
    assert_close_rows(workdir, one_device[0], rel=2e-4)


def assert_same_state(state, expected):
    for name in ("params_g", "params_d", "ema_g", "variables"):
        assert_close(getattr(state, name), getattr(expected, name), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("mode", ["pmap", "shard_map"])
def test_four_devices_are_one(mode, one_device, tmp_path):
    state = here(RING, tmp_path / "run", parallel=mode)
    assert_same_run(tmp_path / "run", one_device)
    assert_same_state(state, one_device[1])


def test_two_processes_are_one_and_one_of_them_writes(one_device, two_processes):
    workdir, ((_, told, logged), (_, silent, warned)) = two_processes
    assert_same_run(workdir, one_device)
    # The state, as it is read back from their checkpoint.
    assert_same_state(here(RING, workdir, parallel="jit"), one_device[1])
    assert "100% step 20/20" in told and "4 device(s) of 2 processes" in logged and "complete" in logged
    assert silent == "" and "complete" not in warned
    assert json.loads((workdir / "environment.json").read_text())[0]["processes"] == 2


def test_a_checkpoint_of_two_processes_goes_on_in_one_as_the_same_run(one_device, two_processes, tmp_path):
    shutil.copytree(two_processes[0], tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "20")
    state = here(RING, tmp_path / "run", parallel="shard_map")
    assert_same_run(tmp_path / "run", one_device)
    assert_same_state(state, one_device[1])


@pytest.mark.slow
def test_a_checkpoint_of_one_process_goes_on_in_two_as_the_same_run(one_device, tmp_path):
    shutil.copytree(one_device[0], tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "20")
    outcome = finish(start(*arguments(RING, tmp_path / "run")))
    assert [status for status, _, _ in outcome] == [0, 0], outcome
    assert "from update 10 to 20" in outcome[0][2]
    assert_same_run(tmp_path / "run", one_device)
    assert_same_state(here(RING, tmp_path / "run", parallel="jit"), one_device[1])


STREAMED = {"data.stream": "always", "data.flip": True, "batch_size": 16, "steps_per_call": 2, "d_steps": 2}
STREAMED |= {"duration": "8 steps", "log_every": "1 steps", "checkpoint_every": "4 steps", "sample_every": "0 steps"}
# As in ring.py: steps nearly proportional to the gradient.
for side in ("generator", "discriminator"):
    STREAMED |= {f"optimizer.{side}.eps": 0.1, f"optimizer.{side}.learning_rate": 0.1}


@pytest.mark.slow
def test_a_streamed_run_of_two_processes_is_the_resident_one_of_one_and_goes_on_in_one(tmp_path):
    digits = "experiments/mlp.py:tiny"
    expected = here(digits, tmp_path / "one", **{**STREAMED, "data.stream": "never", "parallel": "jit"})
    outcome = finish(start(*arguments(digits, tmp_path / "two", **STREAMED)))
    assert [status for status, _, _ in outcome] == [0, 0], outcome
    shutil.copytree(tmp_path / "two", tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "8")
    states = here(digits, tmp_path / "two", **STREAMED), here(digits, tmp_path / "run", **STREAMED, parallel="jit")
    for state, folder in zip(states, ("two", "run"), strict=True):
        assert_same_state(state, expected)
        assert_close_rows(tmp_path / folder, tmp_path / "one", rel=2e-4)


@pytest.mark.slow
def test_two_processes_hold_the_state_in_shares(tmp_path):
    """Evaluations and the checkpoint of a cut state, and one process that goes on with a whole one."""
    wide = {"model.generator.hidden": (64, 64), "model.discriminator.hidden": (64, 64), "eval.every": "10 steps"}
    expected = here(RING, tmp_path / "one", parallel="jit", **wide)
    outcome = finish(start(*arguments(RING, tmp_path / "two", shard_state=True, **wide)))
    assert [status for status, _, _ in outcome] == [0, 0], outcome
    assert "opt_g, opt_d, ema_g cut" in outcome[0][2] and "again" not in outcome[0][2]
    assert_same_run(tmp_path / "two", (tmp_path / "one", expected))
    assert_same_state(here(RING, tmp_path / "two", parallel="jit", **wide), expected)
    shutil.rmtree(tmp_path / "two" / "checkpoints" / "20")
    assert_same_state(here(RING, tmp_path / "two", parallel="jit", **wide), expected)
    shutil.rmtree(tmp_path / "one" / "checkpoints" / "20")
    again = finish(start(*arguments(RING, tmp_path / "one", shard_state=True, **wide)))
    assert [status for status, _, _ in again] == [0, 0] and "from update 10 to 20" in again[0][2], again
    assert_same_state(here(RING, tmp_path / "one", parallel="jit", **wide), expected)


@pytest.mark.slow
def test_two_processes_sample_and_measure_as_one(two_processes):
    workdir, _ = two_processes
    outcome = finish(start("--mode=sample", f"--workdir={workdir}", "--num_samples=37"))
    assert outcome[1][1] == "", outcome
    made = np.load(outcome[0][1].split()[0])["arr_0"]
    alone = np.load(launch("--mode=sample", f"--workdir={workdir}", "--num_samples=37").stdout.split()[0])["arr_0"]
    np.testing.assert_allclose(made, alone, rtol=1e-4, atol=1e-5)
    both = finish(start("--mode=eval", f"--workdir={workdir}", "--num_samples=37", "--checkpoint=last"))
    assert [status for status, _, _ in both] == [0, 0], both
    one = launch("--mode=eval", f"--workdir={workdir}", "--num_samples=37", "--checkpoint=last")
    tables = [[line.split() for line in text.splitlines()[1:]] for text in (both[0][1], one.stdout)]
    for a, b in zip(*tables, strict=True):
        assert a[0] == b[0] and (a[1] == b[1] or float(a[1]) == pytest.approx(float(b[1]), rel=1e-2))


@pytest.mark.slow
@pytest.mark.parametrize("number, told", [(signal.SIGTERM, 0), (signal.SIGTERM, 1), (signal.SIGINT, 1)])
def test_a_signal_to_one_process_saves_and_stops_both(number, told, tmp_path):
    workdir = tmp_path / "run"
    processes = start(*arguments(TOY, workdir, **ENDLESS))
    wait_for_checkpoint(workdir, processes)
    processes[told].send_signal(number)
    outcome = finish(processes)
    assert [status for status, _, _ in outcome] == [0, 0], outcome
    assert f"{number.name}: saving" in outcome[told][2]
    reason = number.name if told == 0 else "a signal to another process"  # the first process says why it ends
    assert f"{reason}; the same command goes on" in outcome[0][2]
    step = newest(workdir)
    assert step >= rows(workdir)[-1]["step"]
    assert int(here(TOY, workdir, **{**ENDLESS, "duration": f"{step + 2} steps"}).step) == step + 2


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_lost_process_ends_the_other_and_the_run_goes_on_without_it(victim, tmp_path):
    workdir = tmp_path / "run"
    processes = start(*arguments(TOY, workdir, **ENDLESS))
    wait_for_checkpoint(workdir, processes)
    processes[victim].kill()
    begun = time.monotonic()
    outcome = finish(processes)
    assert time.monotonic() - begun < 60
    status, _, logged = outcome[1 - victim]
    assert status not in (0, None) and "another" in logged
    step = newest(workdir)
    assert int(here(TOY, workdir, **{**ENDLESS, "duration": f"{step + 2} steps"}).step) == step + 2


@pytest.mark.slow
def test_a_mistake_in_one_process_ends_both_with_its_message(tmp_path):
    """Process 0 finds another run in the work folder, which the others do not look at."""
    here(TOY, tmp_path / "run")
    (_, _, said), (status, _, _) = outcome = finish(start(*arguments(TOY, tmp_path / "run", seed=3)))
    assert outcome[0][0] == 1 and status not in (0, None)
    assert "seed: 0 there, 3 here" in said and "Traceback" not in said


@pytest.mark.slow
def test_processes_of_different_configurations_are_refused(tmp_path):
    port, processes = free_port(), []
    for i in range(2):
        flags = (f"--coordinator=127.0.0.1:{port}", "--num_processes=2", f"--process_id={i}")
        given = arguments(TOY, tmp_path / "run", seed=i)
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        settings = environment(JAX_NUM_CPU_DEVICES="2")
        processes.append(subprocess.Popen(command(*given, *flags), cwd=ROOT, env=settings, **pipes))
    outcome = finish(processes)
    assert all(status == 1 and "the same configuration; that of process 1" in said for status, _, said in outcome)
    assert not (tmp_path / "run").exists()


def slurm(process_id, job):
    """What srun tells a process; the first node's name is where the coordinator is sought."""
    names = {"JOB_ID": job, "STEP_NODELIST": "127.0.0.1", "NTASKS": 2, "PROCID": process_id, "LOCALID": process_id}
    names |= {"STEP_NUM_NODES": 1}
    return {f"SLURM_{name}": str(value) for name, value in names.items()}


@pytest.mark.slow
def test_slurm_s_variables_are_enough(tmp_path):
    job = free_port() % 4096  # JAX makes a port of the job's number
    given = arguments(TOY, tmp_path / "run", duration="2 steps")
    outcome = finish(start(*given, flags=False, variables=[slurm(i, job) for i in range(2)]))
    assert [status for status, _, _ in outcome] == [0, 0], outcome
    assert "4 device(s) of 2 processes" in outcome[0][2] and outcome[1][1] == ""


def open_mpi(process_id, job):
    """What mpirun of Open MPI 4 tells a process; JAX makes a port of the job's number here too."""
    names = {"COMM_WORLD_SIZE": 2, "COMM_WORLD_RANK": process_id, "COMM_WORLD_LOCAL_RANK": process_id}
    names |= {"MCA_orte_hnp_uri": f"{job << 12}.0;tcp://127.0.0.1:34911"}
    return {f"OMPI_{name}": str(value) for name, value in names.items()}


@pytest.mark.slow
def test_open_mpi_s_variables_are_enough(tmp_path):
    job = free_port() % 4096
    given = arguments(TOY, tmp_path / "run", duration="2 steps")
    outcome = finish(start(*given, flags=False, variables=[open_mpi(i, job) for i in range(2)]))
    assert [status for status, _, _ in outcome] == [0, 0], outcome
    assert "4 device(s) of 2 processes" in outcome[0][2] and outcome[1][1] == ""


@pytest.fixture
def nowhere(monkeypatch):
    """An environment that tells of no other process."""
    for name in list(os.environ):
        if name.startswith(("SLURM_", "OMPI_", "KUBERNETES_", "JOB_")):
            monkeypatch.delenv(name)
    return monkeypatch


def test_a_process_alone_stays_alone(nowhere):
    assert distributed.recognise() == ""
    nowhere.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")  # any pod has it
    for name, value in slurm(0, 7).items():
        nowhere.setenv(name, value)
    nowhere.setenv("SLURM_NTASKS", "1")
    assert distributed.recognise() == ""
    distributed.initialize()
    assert not jax.distributed.is_initialized() and distributed.is_main()


def test_environments_that_tell_of_others(nowhere):
    nowhere.setenv("OMPI_COMM_WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match=r"--coordinator=HOST:PORT --num_processes=.OMPI_COMM_WORLD_SIZE"):
        distributed.recognise()
    nowhere.setenv("OMPI_MCA_orte_hnp_uri", "1531576320.0;tcp://10.96.0.1:34911")
    assert distributed.recognise() == "Open MPI"
    nowhere.delenv("OMPI_COMM_WORLD_SIZE")
    nowhere.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    nowhere.setenv("JOB_COMPLETION_INDEX", "0")
    assert distributed.recognise() == "Kubernetes"
    for name, value in slurm(1, 7).items():
        nowhere.setenv(name, value)
    assert distributed.recognise() == "SLURM"


def test_a_tpu_s_host_is_one_with_chips_and_their_library(nowhere):
    """JAX finds the others of its slice; a machine that is asked for another kind of device is none."""
    chips, library = {"/dev/accel[0-9]*": ["/dev/accel0"]}, {"libtpu": object()}
    nowhere.delenv("JAX_PLATFORMS", raising=False)
    nowhere.setattr(distributed.glob, "glob", lambda pattern: chips.get(pattern, []))
    nowhere.setattr(distributed.importlib.util, "find_spec", library.get)
    assert distributed.recognise() == "TPU"
    nowhere.setenv("JAX_PLATFORMS", "cpu")
    assert distributed.recognise() == ""
    nowhere.setenv("JAX_PLATFORMS", "tpu,cpu")
    assert distributed.recognise() == "TPU"
    chips["/dev/vfio/[0-9]*"] = chips.pop("/dev/accel[0-9]*")
    assert distributed.recognise() == "TPU"
    library.clear()
    assert distributed.recognise() == ""
    library["libtpu"] = object()
    chips.clear()
    assert distributed.recognise() == ""


@pytest.mark.parametrize(
    "given, message",
    [
        (("host:1234", 2, None), "go together"),
        ((None, 2, 0), "go together"),
        (("host", 2, 0), "HOST:PORT"),
        (("host:1234", 2, 2), "--process_id=2 of --num_processes=2"),
    ],
)
def test_arguments_that_do_not_go_together(given, message):
    with pytest.raises(ConfigError, match=message):
        distributed.initialize(*given)


def test_alone_everything_is_what_it_is():
    assert distributed.gather(3) == [3] and distributed.from_main(lambda: {"a": 1.5}) == {"a": 1.5}
    distributed.barrier("here")
    distributed.check_same("thing", 1)
    assert [distributed.Notice().any(flag) for flag in (False, True)] == [False, True]
    assert [distributed.Agreement().any(flag) for flag in (False, True)] == [False, True]
    np.testing.assert_array_equal(distributed.in_shares(lambda x: x + 1, np.arange(5)), np.arange(1, 6))
    sharding = NamedSharding(Mesh(jax.devices(), ("x",)), PartitionSpec())
    tree = {"key": jax.random.key(1), "x": np.arange(3)}
    assert_equal(distributed.put(tree, sharding), tree)
    with pytest.raises(ZeroDivisionError), distributed.Together():
        raise ZeroDivisionError


_EXCHANGE = """
import pathlib, re, signal, sys
import jax, numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxgan import distributed
def handled():
    caught = re.search(r"SigCgt:\\s*(\\w+)", pathlib.Path("/proc/self/status").read_text())[1]
    return int(caught, 16) >> (signal.SIGTERM - 1) & 1
me = int(sys.argv[1])
distributed.initialize(f"127.0.0.1:{sys.argv[2]}", 2, me)
distributed._ASK = 0
with distributed.Together():
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL and handled() == 0
    assert distributed.is_main() == (me == 0)
    assert distributed.gather({"me": me}) == [{"me": 0}, {"me": 1}]
    assert distributed.from_main(lambda: me + 0.1) == 0.1
    for n in (1, 4, 5):
        found = distributed.in_shares(lambda own: {"twice": 2 * own, "none": None}, np.arange(n, dtype=np.float32))
        assert found["twice"].tolist() == [2 * i for i in range(n)]
    agreement = distributed.Agreement()
    assert [agreement.any(flag) for flag in (False, me == 1, False, False)] == [False, False, True, False]
    with distributed.alone():
        assert distributed.is_main() and distributed.is_solo() and (distributed.count(), distributed.index()) == (1, 0)
        distributed.barrier("nobody else is here")
        assert distributed.gather(me) == [me] and distributed.from_main(lambda: me) == me
    assert not distributed.is_solo() and (distributed.count(), distributed.index()) == (2, me)
    notice = distributed.Notice()
    assert not notice.any(False)
    distributed.barrier("looked")
    assert me == 0 or notice.any(True)
    distributed.barrier("told")
    assert notice.any(False)
    everywhere = NamedSharding(Mesh(jax.devices(), ("x",)), PartitionSpec())
    key = distributed.put({"key": jax.random.key(5)}, everywhere)["key"]
    assert int(jax.jit(lambda k: jax.random.bits(k))(key)) == int(jax.random.bits(jax.random.key(5)))
    try:
        distributed.check_same("thing", me)
    except distributed.DistributedError as error:
        print(error)
"""


def test_what_processes_tell_each_other():
    port = str(free_port())
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    settings = environment(JAX_NUM_CPU_DEVICES="2", PYTHONPATH=str(ROOT))
    programs = [[sys.executable, "-c", _EXCHANGE, str(i), port] for i in range(2)]
    outcome = finish([subprocess.Popen(program, env=settings, **pipes) for program in programs])
    assert [status for status, _, _ in outcome] == [0, 0], outcome
    assert all("the same thing; that of process 1 differs" in said for _, said, _ in outcome)
