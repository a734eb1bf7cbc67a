"""Populations: each member is the run that it would have been alone, whatever becomes of the others."""

import json
import signal
import subprocess
import time

import jax
import numpy as np
import pytest

from experiments import dcgan, mlp, toy2d
from jaxgan import distributed, population
from jaxgan.errors import CheckpointError, ConfigError
from jaxgan.evaluate import evaluate, load_trained
from jaxgan.overrides import apply_overrides
from jaxgan.population import member, train_population
from jaxgan.population.program import Program
from jaxgan.train import train
from tests.runs import command, environment, fingerprint, launch, numbers, rows
from tests.small import assert_close

SHORT = {"duration": "4 steps", "log_every": "2 steps", "checkpoint_every": "2 steps", "sample_every": "0 steps"}
SHORT |= {"eval.every": "2 steps", "steps_per_call": 2, "parallel": "jit"}
RAMP = {"from": 1e-3, "to": 1e-4, "over": "40 images", "shape": "cosine"}


SHORT |= {"eval.features": "raw", "eval.metrics": ("swd",)}


def configs(*different, experiment=mlp, **common):
    base = apply_overrides(experiment.get_config("tiny"), {**SHORT, **common})
    return [apply_overrides(base, overrides) for overrides in different]


def folders(path, members):
    return [path / f"member_{i}" for i in range(len(members))]


def state_of(workdir):
    return load_trained(workdir).state


def assert_same_rows(a, b):
    assert [row.get("protocol") for row in rows(a)] == [row.get("protocol") for row in rows(b)]
    a, b = numbers(a), numbers(b)
    assert [sorted(row) for row in a] == [sorted(row) for row in b]
    for one, other in zip(a, b, strict=True):
        for name, value in one.items():
            np.testing.assert_allclose(value, other[name], rtol=1e-4, atol=1e-5, err_msg=f"{name} at {one['step']}")


def assert_same_runs(population, alone):
    for a, b in zip(population, alone, strict=True):
        assert_close(state_of(a), state_of(b))
        assert_same_rows(a, b)
        names = {file.name for file in (b / "samples").iterdir()}
        assert {file.name for file in (a / "samples").iterdir()} == names


@pytest.fixture
def compiled(monkeypatch):
    """The programs that populations make in this test."""
    made, compile_ = [], Program.compile
    monkeypatch.setattr(Program, "compile", lambda *given: made.append(compile_(*given)) or made[-1])
    return made


def compilations(programs):
    return sum(program._cache_size() for program in set(programs))


BASE = {"loss.penalties.r1": 0.5, "loss.label_smoothing": 0.1}
DIFFERENT = [
    BASE,
    {"loss.penalties.r1": 2.0, "loss.label_smoothing": 0.3, "seed": 3, "ema.half_life_images": 3.0},
    {**BASE, "optimizer.discriminator.learning_rate": 1e-2, "optimizer.generator.b1": 0.9, "ema.rampup": 0.5},
]


@pytest.fixture
def sealed(monkeypatch):
    """The statuses that were written into an outcome.json; each of them after the checkpoint that it is about."""
    written, write = [], member.write_json

    def noted(file, outcome):
        assert (file.parent / "checkpoints" / str(outcome["step"]) / "_CHECKPOINT_METADATA").exists()
        written.append(outcome["status"])
        write(file, outcome)

    monkeypatch.setattr(member, "write_json", noted)
    return written


def test_members_are_the_runs_that_they_would_have_been_alone_and_compile_once(tmp_path, compiled, sealed):
    """Points in the plane, whose data depend on the seed too: three members on two devices, so a slot is filled up."""
    members = configs(*DIFFERENT, experiment=toy2d)
    population, alone = folders(tmp_path / "population", members), folders(tmp_path / "alone", members)
    outcomes = train_population(members, population, DIFFERENT, devices=jax.devices()[:2])
    assert compilations(compiled) == 1 and sealed == ["complete"] * 3
    for place in (1, 2):
        train(members[place], alone[place])
    assert_same_runs(population[1:], alone[1:])
    for place, (workdir, outcome) in enumerate(zip(population, outcomes, strict=True)):
        assert (outcome.status, outcome.step) == ("complete", 4)
        last = rows(workdir)[-1]
        assert outcome.values and all(last[name] == value for name, value in outcome.values.items())
        assert json.loads((workdir / "config.json").read_text())["overrides"] == DIFFERENT[place]
    # The members are different runs: nobody's numbers are a neighbour's.
    assert len({outcome.values["swd16_train_raw"] for outcome in outcomes}) == len(members)


@pytest.mark.slow
def test_pictures_of_convolutions_are_the_same_too(tmp_path):
    different = [{}, {"seed": 1, "optimizer.generator.learning_rate": 1e-3}]
    members = configs(*different, experiment=dcgan, **{"duration": "2 steps", "steps_per_call": 1})
    population, alone = folders(tmp_path / "population", members), folders(tmp_path / "alone", members)
    train_population(members, population, devices=jax.devices()[:1])
    for config, workdir in zip(members, alone, strict=True):
        train(config, workdir)
    assert_same_runs(population, alone)
    for a, b in zip(population, alone, strict=True):
        assert (a / "samples" / "final.png").read_bytes() == (b / "samples" / "final.png").read_bytes()


@pytest.mark.slow
def test_ramps_may_start_and_end_elsewhere(tmp_path, compiled):
    base = {"optimizer.generator.learning_rate": RAMP, "loss.penalties.r1": {"weight": {**RAMP, "from": 2.0}}}
    different = [
        base,
        {**base, "optimizer.generator.learning_rate": {**RAMP, "to": 1e-2}},
        {**base, "loss.penalties.r1": {"weight": {**RAMP, "from": 9.0}}},
    ]
    members = configs(*different)
    population, alone = folders(tmp_path / "population", members), folders(tmp_path / "alone", members)
    train_population(members, population, devices=jax.devices()[:1])
    assert compilations(compiled) == 1
    for config, workdir in zip(members, alone, strict=True):
        train(config, workdir)
    assert_same_runs(population, alone)


@pytest.mark.slow
def test_vectorised_and_over_four_devices_it_is_the_same_population(tmp_path):
    one, four, vectorised = (folders(tmp_path / name, [*DIFFERENT, BASE, BASE]) for name in ("one", "four", "vmap"))
    different = [*DIFFERENT, {**BASE, "seed": 7}, {**BASE, "seed": 8}]
    train_population(configs(*different), one, devices=jax.devices()[:1])
    train_population(configs(*different), four, devices=jax.devices()[:4])
    train_population(configs(*different, population="vmap"), vectorised, devices=jax.devices()[:2])
    for a, b, c in zip(one, four, vectorised, strict=True):
        assert_close(state_of(a), state_of(b), rtol=1e-5, atol=1e-6)
        assert_close(state_of(a), state_of(c))
        assert_same_rows(a, b)
        assert_same_rows(a, c)


@pytest.mark.slow
def test_static_differences_make_groups_that_are_compiled_once_each(tmp_path, compiled):
    different = [{"duration": "4 steps"}, {"duration": "2 steps", "seed": 1}, {"duration": "2 steps"}, {"seed": 5}]
    members = configs(*different)
    outcomes = train_population(members, folders(tmp_path, members), devices=jax.devices()[:1])
    assert [outcome.step for outcome in outcomes] == [4, 2, 2, 4]
    assert compilations(compiled) == 2


UNHELD = {"loss.name": "wasserstein", "duration": "40 steps", "eval.every": "20 steps", "checkpoint_every": "4 steps"}
RATES = [f"optimizer.{side}.learning_rate" for side in ("generator", "discriminator")]


def plain_gradients():
    """Three members, of which the second one's steps are far too large for an unbounded loss."""
    base = mlp.get_config("tiny")
    base.optimizer.generator = base.optimizer.discriminator = {"name": "sgd", "learning_rate": 1e-3}
    base = apply_overrides(base, {**SHORT, **UNHELD})
    return [apply_overrides(base, dict.fromkeys(RATES, rate)) for rate in (1e-3, 100.0, 2e-3)]


def test_who_diverges_or_is_stopped_is_frozen_and_the_others_do_not_notice(tmp_path, caplog):
    seen = []

    def report(member, step, values):
        seen.append((member, step, values["swd16_train_raw"]))
        return member == 0

    members = plain_gradients()
    population = folders(tmp_path / "population", members)
    outcomes = train_population(members, population, report=report, devices=jax.devices()[:1])
    assert [outcome.status for outcome in outcomes] == ["stopped", "diverged", "complete"]
    assert [(member, step) for member, step, _ in seen] == [(0, 20), (2, 20), (2, 40)]
    assert outcomes[0].step == 20 and outcomes[0].values["swd16_train_raw"] == seen[0][2]
    assert outcomes[2].values["swd16_train_raw"] == seen[2][2]
    assert outcomes[2].best["value"] == min(seen[1][2], seen[2][2]) and outcomes[2].best["name"] == "swd16_train_raw"
    # The one that diverged has kept what was good, and says what was not.
    assert str(population[1]) in caplog.text and " gave " in caplog.text
    assert outcomes[1].step < 20 and outcomes[1].values == {}
    assert all(np.isfinite(value) for row in numbers(population[1]) for value in row.values())
    train(members[2], tmp_path / "alone")
    assert_close(state_of(population[2]), state_of(tmp_path / "alone"))
    # Started again, everybody stays where they are.
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    before = {path: path.read_bytes() for path in files}
    again = train_population(members, population, devices=jax.devices()[:1])
    assert [(o.status, o.step, o.values) for o in again] == [(o.status, o.step, o.values) for o in outcomes]
    assert {path: path.read_bytes() for path in files} == before


@pytest.mark.slow
def test_a_member_s_folder_is_a_run_s(tmp_path):
    members = configs({}, {"seed": 1}, duration="8 steps")
    workdirs = folders(tmp_path, members)
    stopped = train_population(members, workdirs, report=lambda member, step, _: member == 1 and step == 4)
    assert [outcome.status for outcome in stopped] == ["complete", "stopped"]
    assert "swd16_train_raw" in evaluate(str(workdirs[1]), num_samples=16, metrics=("swd",))
    assert int(train(members[1], workdirs[1]).step) == 8  # a single run goes on where the member was stopped
    assert [outcome.status for outcome in train_population(members, workdirs)] == ["complete", "complete"]


@pytest.mark.slow
def test_members_at_different_steps_go_on_in_one_program_and_lose_nothing(tmp_path, compiled):
    different = [{}, {"seed": 1}, {"seed": 2}]
    straight, workdirs = folders(tmp_path / "straight", different), folders(tmp_path / "population", different)
    members = configs(*different, duration="8 steps")
    train_population(members, straight, devices=jax.devices()[:1])
    train_population(configs(*different[:2], duration="2 steps"), workdirs[:2], devices=jax.devices()[:1])
    train(configs(*different, duration="4 steps")[1], workdirs[1])  # one is ahead, one has not begun
    before = compilations(compiled)
    train_population(members, workdirs, devices=jax.devices()[:1])
    assert compilations(compiled) - before == 1
    for a, b in zip(workdirs, straight, strict=True):
        assert_close(state_of(a), state_of(b))
        assert_same_rows(a, b)


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"optimizer.generator.name": "adamm"}, "adamm"),
        ({"loss.penalties.r1": -1.0}, "r1"),
        ({"loss.label_smoothing": 1.5}, "label_smoothing"),
        ({"population": "pmap"}, "population 'pmap'; known: auto, map, vmap"),
        ({"model.name": "mpl"}, "unknown model"),
    ],
    ids=str,
)
def test_mistakes_of_any_member_are_found_before_anything_is_written(wrong, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        train_population(configs({}, wrong), [tmp_path / "a" / "0", tmp_path / "a" / "1"])
    assert not (tmp_path / "a").exists()


def test_members_need_folders_of_their_own(tmp_path):
    with pytest.raises(ConfigError, match="of its own"):
        train_population(configs({}, {"seed": 1}), [tmp_path / "a", tmp_path / "a"])
    with pytest.raises(ConfigError, match="at least one"):
        train_population([], [])


@pytest.mark.parametrize("processes", [1, 2, 3, 8])
def test_members_are_dealt_out_evenly_over_processes_whatever_their_groups(processes, monkeypatch, tmp_path):
    monkeypatch.setattr(distributed, "count", lambda: processes)
    different = [{}, {"seed": 1}, {"batch_size": 4}, {"seed": 2}, {"batch_size": 4, "seed": 3}]
    given = configs(*different)
    prepared = population._prepare_all(given, folders(tmp_path, given), jax.devices()[:1])
    shares = [[[m.place for m in part.members] for part in group] for group in population._shares(prepared)]
    assert [sorted(place for part in group for place in part) for group in shares] == [[0, 1, 3], [2, 4]]
    each = [sum(len(group[process]) for group in shares) for process in range(processes)]
    assert max(each) - min(each) <= 1 and sum(each) == 5


@pytest.mark.slow
def test_another_run_s_folder_is_refused(tmp_path):
    train(configs({})[0], tmp_path / "a")
    with pytest.raises(CheckpointError, match="seed: 0 there, 1 here"):
        train_population(configs({"seed": 1}), [tmp_path / "a"])


LAUNCHED = ("--config=experiments/toy2d.py:tiny", "--seeds=3", "--config.duration=300 steps")
LAUNCHED += ("--config.log_every=7 steps", "--config.checkpoint_every=10 steps")
LAUNCHED += ("--config.sample_every=100 steps", "--config.eval.every=100 steps")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_killed_and_started_again_it_ends_as_if_it_had_not_been(number, tmp_path):
    straight, disturbed = tmp_path / "straight", tmp_path / "disturbed"
    table = launch(*LAUNCHED, f"--workdir={straight}").stdout
    assert "standard error" in table and "swd16_train_raw" in table
    for wanted in (30, 110):
        process = subprocess.Popen(
            [*command(*LAUNCHED), f"--workdir={disturbed}"],
            env=environment(JAX_NUM_CPU_DEVICES="1"),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        while process.poll() is None and not (disturbed / "seed_2" / "checkpoints" / str(wanted)).exists():
            time.sleep(0.005)
        process.send_signal(number)
        process.wait(timeout=120)
        assert process.returncode == (0 if number == signal.SIGTERM else -number)
    launch(*LAUNCHED, f"--workdir={disturbed}")
    for seed in range(3):
        a, b = straight / f"seed_{seed}", disturbed / f"seed_{seed}"
        assert rows(a) == rows(b)
        assert fingerprint(a, 300) == fingerprint(b, 300)
    assert (straight / "seeds.csv").read_text() == (disturbed / "seeds.csv").read_text()
