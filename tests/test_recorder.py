"""Rows are means over their windows, wherever a run was cut; the clock counts what it should."""

import json
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan.checkpoint import Checkpoints
from jaxgan.counting import Counting
from jaxgan.errors import DivergedError
from jaxgan.health import Health, Thresholds
from jaxgan.parallel import Parallel
from jaxgan.recorder import Recorder
from tests.small import mlp_game, new_state, sgd

NEVER = Thresholds(patience=10**9, accuracy=2.0, vanished=0.0, collapsed=-1.0)
STEPS, LOG_EVERY = 24, 6
NAMES = ("loss_d", "accuracy_d", "grad_norm_g", "std_fake", "std_real")
VALUES = {name: np.random.default_rng(i).normal(size=STEPS).astype(np.float32) for i, name in enumerate(NAMES)}


def recorder(several=1, memory=None, log_every=LOG_EVERY):
    return Recorder(Counting(8, 100, several), log_every, Health(NEVER), memory)


def metrics(step, several=1):
    """What a call that ends at `step` returns: scalars, or [several] of them."""
    return {name: v[step - 1] if several == 1 else v[step - several : step] for name, v in VALUES.items()}


def play(recorder, steps, several=1):
    rows = []
    for step in steps:
        rows += recorder.push(step, metrics(step, several), several)
    return rows + recorder.flush()


def numbers(rows):
    return [{name: value for name, value in row.items() if name not in ("time", "images_per_second")} for row in rows]


@pytest.fixture
def clock(monkeypatch):
    """Time that passes when it is told to."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


@pytest.mark.parametrize("several", [1, 2, 3, 6])
def test_rows_are_the_means_of_their_windows(several):
    rows = play(recorder(several), range(several, STEPS + 1, several), several)
    assert [row["step"] for row in rows] == [6, 12, 18, 24]
    for i, row in enumerate(rows):
        assert row["images"] == row["step"] * 8 and row["epoch"] == row["images"] / 100
        for name, values in VALUES.items():
            expected = values[i * LOG_EVERY : (i + 1) * LOG_EVERY].astype(np.float64).mean()
            np.testing.assert_allclose(row[name], expected, rtol=1e-12)


def test_a_window_may_end_inside_a_call():
    rows = play(recorder(4), range(4, STEPS + 1, 4), 4)
    assert numbers(rows) == numbers(play(recorder(), range(1, STEPS + 1)))


def test_rows_come_one_call_late():
    r = recorder(log_every=2)
    assert [len(r.push(step, metrics(step))) for step in (1, 2, 3, 4, 5)] == [0, 0, 1, 0, 1]
    assert r.flush() == [] and r.flush() == []


@pytest.mark.parametrize("several", [1, 3])
@pytest.mark.parametrize("log_every", [1, 5, 6])
def test_a_stop_anywhere_changes_no_number(several, log_every):
    steps = range(several, STEPS + 1, several)
    whole = numbers(play(recorder(several, log_every=log_every), steps, several))
    for cut in range(len(steps) + 1):
        first = recorder(several, log_every=log_every)
        rows = play(first, steps[:cut], several)
        second = recorder(several, json.loads(json.dumps(first.memory)), log_every)
        assert numbers(rows + play(second, steps[cut:], several)) == whole


def test_what_a_checkpoint_was_given_stays_as_the_run_goes_on(tmp_path):
    """Checkpoints are written by a thread, so a dict that lives on would be saved as it is some updates later."""
    health = Health(NEVER)
    r = Recorder(Counting(8, 100), 1000, health)
    like = Parallel("jit").abstract(jax.eval_shape(lambda: new_state(mlp_game(), sgd())))
    state = Parallel("jit").replicate(new_state(mlp_game(), sgd()))
    checkpoints, expected = Checkpoints(tmp_path, keep=20), {}
    for step in range(1, 9):
        play(r, [step])
        expected[step] = json.loads(json.dumps({"recorder": r.memory, "health": health.memory}))
        checkpoints.save(state.replace(step=jnp.int32(step)), {"recorder": r.memory, "health": health.memory})
        play(r, range(1, STEPS))
        health.check(step, 1, {"accuracy_d": 1.0, "grad_norm_g": float(step), "std_fake": 1.0, "std_real": 1.0})
    checkpoints.wait()
    for step, memory in expected.items():
        assert checkpoints.restore(step, like)[1] == memory
    checkpoints.close()


def test_nan_names_the_exact_step_and_quantity():
    r = recorder(4)
    r.last_good = 4
    bad = metrics(12, 4)
    bad["std_fake"] = np.array([1.0, np.nan, 1.0, np.inf], np.float32)
    play(r, [4, 8], 4)
    assert r.push(12, bad, 4) == []
    with pytest.raises(DivergedError, match=r"update 10 gave std_fake = nan;.*checkpoint is 4\b"):
        r.push(16, metrics(16, 4), 4)


def test_health_sees_the_means_of_each_row():
    class Spy(Health):
        def check(self, step, updates, means):
            seen.append((step, updates, means["loss_d"]))

    seen = []
    play(Recorder(Counting(8, 100), LOG_EVERY, Spy(NEVER)), range(1, 13))
    assert [(step, updates) for step, updates, _ in seen] == [(6, 6), (12, 6)]
    np.testing.assert_allclose(seen[1][2], VALUES["loss_d"][6:12].astype(np.float64).mean(), rtol=1e-12)


def test_the_rate_leaves_out_the_call_that_compiled(clock):
    r, rows = recorder(), []
    for step in range(1, 14):
        clock[0] += 100.0 if step == 1 else 0.5
        rows += r.push(step, metrics(step))
        if step == 1:
            r.flush()
    # Step 1 took 100 s and is not timed: 5 updates of 8 images in 2.5 s and a flush that comes one call late.
    assert rows[0]["images_per_second"] == pytest.approx(5 * 8 / 3.0, abs=0.1)
    assert rows[1]["images_per_second"] == pytest.approx(8 / 0.5, abs=0.1)


def test_pause_leaves_time_out_of_the_rate(clock):
    r, rows = recorder(log_every=2), []
    play(r, [1])
    for step in (2, 3, 4):
        clock[0] += 1.0
        rows += r.push(step, metrics(step))
        rows += r.flush()
        with r.pause():
            clock[0] += 50.0
    assert rows[-1]["step"] == 4
    assert rows[-1]["images_per_second"] == pytest.approx(8.0)


def test_a_first_row_without_a_timed_update_has_no_rate():
    assert play(recorder(log_every=1), [1])[0]["images_per_second"] == 0.0


def test_a_clock_that_stands_still_divides_nothing_by_zero(clock):
    rows = play(recorder(log_every=1), [1, 2, 3])
    assert len(rows) == 3
    assert all(np.isfinite(row["images_per_second"]) for row in rows)


def test_seconds_left_is_the_pace_so_far(clock):
    r = recorder(log_every=2)
    assert r.seconds_left(0, 100) == 0.0
    play(r, [1])
    for step in (2, 3, 4, 5):
        clock[0] += 2.0
        play(r, [step])
    assert r.seconds_left(5, 105) == pytest.approx(200.0)


def test_no_rows_are_asked_for():
    """A duration of 0 means never for pictures and checkpoints; here too."""
    assert play(recorder(log_every=0), [1, 2, 3]) == []


def test_the_time_spent_waiting_for_data_is_a_share_of_each_row_and_told_of_once(clock, caplog):
    r, rows = recorder(log_every=2), []
    for step in range(1, 12):
        waited = {1: 50.0, 2: 0.5, 7: 0.5}.get(step, 0.0)  # before step 1 the program was compiled
        if waited:
            rows += r.flush()
            clock[0] += waited
        rows += r.push(step, metrics(step), 1, waited)
        clock[0] += 1.0
    rows += r.flush()
    assert [row["step"] for row in rows] == [2, 4, 6, 8, 10]
    assert rows[0]["input_wait"] == pytest.approx(0.5 / 1.5, abs=1e-4)  # from the end of step 1 to the end of step 2
    assert rows[1]["input_wait"] == rows[4]["input_wait"] == 0.0
    assert sum(row["input_wait"] > 0 for row in rows) == 2
    assert caplog.text.count("stood still") == 1 and "--config.data.workers" in caplog.text


def test_a_slow_start_is_no_reason_to_warn_and_a_resident_run_has_no_such_column(clock, caplog):
    r = recorder(log_every=1)
    for step in (1, 2, 3, 4):
        r.flush()
        clock[0] += 1.0
        r.push(step, metrics(step), 1, 1.0 if step < 3 else 0.0)
        clock[0] += 1.0
    assert "stood still" not in caplog.text
    assert all("input_wait" not in row for row in play(recorder(), range(1, STEPS + 1)))
