"""Population-based training: what members take over, what is written of it, and that a kill changes nothing."""

import json
import signal
import subprocess
import time

import jax
import numpy as np
import pytest

from experiments import mlp, toy2d
from jaxgan.errors import ConfigError
from jaxgan.overrides import apply_overrides
from jaxgan.population import Exploit, train_population
from jaxgan.population.member import Member
from jaxgan.train import train
from tests.population.test_population import (
    RATES,
    SHORT,
    folders,
    plain_gradients,
    state_of,
)
from tests.runs import command, environment, fingerprint, launch, numbers, rows
from tests.small import assert_close, assert_equal

R1 = "loss.penalties.r1"
SLOW_AND_FAST = [{**dict.fromkeys(RATES, rate), "seed": seed} for seed, rate in enumerate((1e-7, 2e-7, 3e-7, 1e-2))]
SETTINGS = {**SHORT, "duration": "18 steps", "eval.every": "6 steps", "eval.samples": 64}
SETTINGS |= {"checkpoint_every": "8 steps", "log_every": "4 steps"}


def members(*different, **settings):
    base = apply_overrides(toy2d.get_config("tiny"), {**SETTINGS, **settings})
    return [apply_overrides(base, overrides) for overrides in different]


def lineage(workdir):
    file = workdir / "lineage.json"
    return json.loads(file.read_text()) if file.exists() else []


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Work folders of the population, its outcomes, and the names of what JAX compiled for it."""
    workdirs, compiled = folders(tmp_path_factory.mktemp("pbt"), SLOW_AND_FAST), []

    def note(event, _, fun_name="", **__):
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(fun_name)

    jax.monitoring.register_event_duration_secs_listener(note)
    outcomes = train_population(members(*SLOW_AND_FAST), workdirs, devices=jax.devices()[:2], exploit=Exploit(0.5))
    return workdirs, outcomes, list(compiled)


def test_nothing_is_compiled_again_for_other_numbers(trained):
    *_, compiled = trained
    for name in ("on_device", "_copy", "with_knobs"):  # the update, and what an exchange is made of
        assert sum(name in one for one in compiled) == 1, compiled


@pytest.mark.slow
def test_members_whose_rate_is_too_low_do_better_together(tmp_path):
    given = members(*SLOW_AND_FAST, **{"duration": "60 steps", "eval.every": "10 steps"})
    together, apart = (folders(tmp_path / name, given) for name in ("together", "apart"))
    outcomes = train_population(given, together, exploit=Exploit(0.5)), train_population(given, apart)
    means = [np.mean([outcome.values["swd64_train_raw"] for outcome in found]) for found in outcomes]
    assert means[0] < 0.9 * means[1]


def test_what_a_member_took_over_is_on_record(trained):
    workdirs, outcomes, _ = trained
    entries = [entry for workdir in workdirs for entry in lineage(workdir)]
    assert len(entries) == 2 * 2  # two of four, at each evaluation but the last
    for place, workdir in enumerate(workdirs):
        noted = {row["step"]: row for row in rows(workdir) if "copied_from" in row}
        assert sorted(noted) == [entry["step"] for entry in lineage(workdir)]
        for entry in lineage(workdir):
            assert entry["step"] in (6, 12) and entry["badness"] > entry["of_the_other"]
            row, member = noted[entry["step"]], entry["member"]
            assert row["copied_from"] == member != place and entry["from"] == f"member_{member}"
            assert set(entry["values"]) == set(RATES) and all(row[name] == entry["values"][name] for name in RATES)
            assert all(1e-7 <= value <= 1.001e-2 for value in entry["values"].values())
        # What it began with stays on record, and what its state holds is what it was given last.
        config = json.loads((workdir / "config.json").read_text())["config"]
        assert config["optimizer"]["generator"]["learning_rate"] == SLOW_AND_FAST[place][RATES[0]]
        rate = state_of(workdir).opt_g.hyperparams["learning_rate"]
        expected = lineage(workdir)[-1]["values"][RATES[0]] if lineage(workdir) else SLOW_AND_FAST[place][RATES[0]]
        assert float(rate) == np.float32(expected)
        assert [row["step"] for row in rows(workdir)] == [4, 6, 8, 12, 16, 18]
    assert {outcome.status for outcome in outcomes} == {"complete"}


def test_a_member_keeps_its_key(trained):
    workdirs, *_ = trained
    for seed, workdir in enumerate(workdirs):
        _, key_run = jax.random.split(jax.random.key(seed))
        assert_equal(state_of(workdir).key, key_run)


class Killed(BaseException):
    """What nobody catches."""


def killed_at(step, saved, *given, **options):
    """Trains a population that is killed in an exchange, when so many members have saved what came of it."""
    keep, kept = Member.keep, []

    def killed(member, state, at, *rest):
        if at == step and len(kept) == saved:
            raise Killed
        keep(member, state, at, *rest)
        if at == step:
            member.run.checkpoints.wait()
            kept.append(member)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Member, "keep", killed)
        train_population(*given, **options)


def newest(workdir):
    return max((int(path.name) for path in (workdir / "checkpoints").glob("[0-9]*")), default=0)


@pytest.mark.slow
@pytest.mark.parametrize("saved", [0, 1, 3])
def test_killed_between_an_exchange_and_its_checkpoints_it_ends_bit_for_bit_the_same(saved, trained, tmp_path):
    """At the second exchange, when so many of the four members have saved what came of it."""
    workdirs, (straight, *_) = folders(tmp_path, SLOW_AND_FAST), trained
    given, options = (members(*SLOW_AND_FAST), workdirs), {"devices": jax.devices()[:2], "exploit": Exploit(0.5)}
    killed_at(12, saved, *given, **options)
    assert sorted(map(newest, workdirs)) == [8] * (4 - saved) + [12] * saved
    train_population(*given, **options)
    for a, b in zip(workdirs, straight, strict=True):
        assert lineage(a) == lineage(b) and rows(a) == rows(b)
        assert fingerprint(a, 18) == fingerprint(b, 18)


@pytest.mark.slow  # three programs
def test_a_single_run_goes_on_with_what_the_member_has_taken_over_and_says_so(tmp_path, caplog):
    """Numbers that lie in the optimizer's state, and one that does not: the penalty's weight."""
    different = [{**point, R1: weight} for point, weight in zip(SLOW_AND_FAST[2:], (3.0, 0.1), strict=True)]
    settings = {"duration": "12 steps", "parallel": "jit"}
    workdirs, apart = folders(tmp_path / "a", different), folders(tmp_path / "b", different)
    for own in (workdirs, apart):
        train_population(members(*different, **settings), own, devices=jax.devices()[:1], exploit=Exploit(0.5))
    (taken,) = (place for place in range(2) if lineage(workdirs[place]))
    longer = members(*different, **{**settings, "duration": "16 steps"})
    with caplog.at_level("INFO", "absl"):
        train(longer[taken], workdirs[taken])
    value = lineage(workdirs[taken])[-1]["values"][R1]
    assert value != different[taken][R1] and f"{R1} = {value:.6g}" in caplog.text and "lineage.json" in caplog.text
    train_population(longer, apart, devices=jax.devices()[:1])
    assert_close(state_of(workdirs[taken]), state_of(apart[taken]))


@pytest.mark.slow  # those of a kill below hold it to more
def test_who_has_diverged_is_replaced_first_and_goes_on(tmp_path, caplog):
    base = plain_gradients()
    workdirs = folders(tmp_path, base)
    with caplog.at_level("INFO", "absl"):
        outcomes = train_population(base, workdirs, devices=jax.devices()[:1], exploit=Exploit(0.25))
    assert [outcome.status for outcome in outcomes] == ["complete"] * 3 and outcomes[1].step == 40
    assert "The other members go on" in caplog.text and "member_1 (diverged) goes on from member_" in caplog.text
    (entry,) = lineage(workdirs[1])
    assert entry["step"] == 20 and entry["badness"] is None and entry["member"] in (0, 2)
    assert all(np.isfinite(value) for row in numbers(workdirs[1]) for value in row.values())
    assert [row["step"] for row in rows(workdirs[1])][-1] == 40
    assert lineage(workdirs[0]) == lineage(workdirs[2]) == []


@pytest.mark.slow
@pytest.mark.parametrize("saved", [0, 1, 2])
def test_a_kill_does_not_change_how_one_that_has_diverged_goes_on(saved, tmp_path):
    """It saves before the two others, which are those that would make the exchange again."""
    given, straight, disturbed = plain_gradients(), folders(tmp_path / "a", [0] * 3), folders(tmp_path / "b", [0] * 3)
    options = {"devices": jax.devices()[:1], "exploit": Exploit(0.25)}
    train_population(given, straight, **options)
    killed_at(20, saved, given, disturbed, **options)
    assert list(map(newest, disturbed)) == [20 if saved > 1 else 16, 20 if saved else 0, 16]
    train_population(given, disturbed, **options)
    for a, b in zip(straight, disturbed, strict=True):
        assert lineage(a) == lineage(b) and fingerprint(a, 40) == fingerprint(b, 40)
        assert rows(a) == rows(b)


@pytest.mark.slow  # two programs
def test_groups_exchange_apart_and_seeds_alone_have_nothing_to_explore(tmp_path):
    different = [{"seed": 0}, {"seed": 1}, {"seed": 2, "d_steps": 2}]
    given = members(*different, duration="12 steps")
    workdirs = folders(tmp_path, different)
    train_population(given, workdirs, devices=jax.devices()[:1], exploit=Exploit(0.5))
    entries = [lineage(workdir) for workdir in workdirs]
    assert sorted(map(len, entries[:2])) == [0, 1] and entries[2] == []
    assert [entry["values"] for own in entries for entry in own] == [{}]


def test_without_evaluations_nobody_is_better(tmp_path):
    base = apply_overrides(mlp.get_config("tiny"), {**SHORT, "eval.every": "0 steps"})
    with pytest.raises(ConfigError, match=r"config\.eval\.every is 0"):
        train_population([base], [tmp_path / "a"], exploit=Exploit())
    assert not (tmp_path / "a").exists()


LAUNCHED = ("--mode=sweep", "--config=experiments/toy2d.py:tiny", "--pbt=0.5", "--trials=4")
LAUNCHED += ("--config.duration=300 steps", "--config.log_every=7 steps", "--config.checkpoint_every=10 steps")
LAUNCHED += ("--config.sample_every=100 steps", "--config.eval.every=50 steps")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_killed_as_a_process_and_started_again_it_ends_as_if_it_had_not_been(number, tmp_path):
    straight, disturbed = tmp_path / "straight", tmp_path / "disturbed"
    table = launch(*LAUNCHED, f"--workdir={straight}").stdout
    assert "trials/0003" in table and "times taken over" in table
    for place, wanted in ((2, 50), (0, 150), (3, 200)):
        process = subprocess.Popen(
            [*command(*LAUNCHED), f"--workdir={disturbed}"],
            env=environment(JAX_NUM_CPU_DEVICES="1"),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        reached = disturbed / "trials" / f"{place:04}" / "checkpoints" / str(wanted)
        while process.poll() is None and not reached.exists():
            time.sleep(0.005)
        process.send_signal(number)
        process.wait(timeout=120)
        assert process.returncode == (0 if number == signal.SIGTERM else -number)
    launch(*LAUNCHED, f"--workdir={disturbed}")
    for place in range(4):
        a, b = straight / "trials" / f"{place:04}", disturbed / "trials" / f"{place:04}"
        assert rows(a) == rows(b) and lineage(a) == lineage(b)
        assert fingerprint(a, 300) == fingerprint(b, 300)
    assert (straight / "pbt.csv").read_text() == (disturbed / "pbt.csv").read_text()
