"""Each alarm goes off when it should, once, and not before."""

import json

import pytest
from absl import logging

from jaxgan.errors import DivergedError
from jaxgan.health import Health, Thresholds

LIMITS = Thresholds(patience=100, accuracy=0.99, vanished=0.01, collapsed=0.05)
WELL = {"accuracy_d": 0.7, "grad_norm_g": 2.0, "std_fake": 0.5, "std_real": 0.6}
WON = {**WELL, "accuracy_d": 1.0, "grad_norm_g": 0.001}
COLLAPSED = {**WELL, "std_fake": 0.001}


@pytest.fixture
def warnings(monkeypatch):
    seen = []
    monkeypatch.setattr(logging, "warning", lambda text, *values: seen.append(text % values))
    return seen


def feed(health, *rows, updates=10):
    for i, row in enumerate(rows):
        health.check((i + 1) * updates, updates, row)


@pytest.mark.parametrize("sign, words", [(WON, "has won"), (COLLAPSED, "collapsed")])
def test_a_warning_comes_once_and_after_the_patience(warnings, sign, words):
    health = Health(LIMITS)
    feed(health, WELL, *[sign] * 9)
    assert not warnings
    feed(health, sign)
    assert len(warnings) == 1
    assert words in warnings[0] and "Try" in warnings[0]
    feed(health, *[sign] * 50, *[WELL] * 3, *[sign] * 50)
    assert len(warnings) == 1


@pytest.mark.parametrize("sign", [WON, COLLAPSED])
def test_a_sign_that_goes_away_starts_again(warnings, sign):
    health = Health(LIMITS)
    feed(health, WELL, *[sign] * 9, WELL, *[sign] * 9)
    assert not warnings
    feed(health, sign)
    assert len(warnings) == 1


def test_the_messages_name_the_step_and_the_numbers(warnings):
    health = Health(LIMITS)
    feed(health, WELL, *[{**WON, "std_fake": 0.001}] * 10)
    won, collapsed = warnings
    assert won.startswith("step 110:") and "1.00e-03" in won and "2.00e+00" in won and "non_saturating" in won
    assert collapsed.startswith("step 110:") and "1.00e-03" in collapsed and "6.00e-01" in collapsed


def test_one_half_of_having_won_is_not_enough(warnings):
    feed(Health(LIMITS), WELL, *[{**WELL, "accuracy_d": 1.0}] * 50)
    feed(Health(LIMITS), WELL, *[{**WELL, "grad_norm_g": 0.001}] * 50)
    feed(Health(LIMITS), *[WON] * 50)  # small from the start: nothing has vanished
    assert not warnings


def test_the_gradient_is_compared_with_its_highest(warnings):
    row = {**WELL, "accuracy_d": 1.0, "grad_norm_g": 0.5}
    feed(Health(LIMITS), {**WELL, "grad_norm_g": 51.0}, *[row] * 10)
    feed(Health(LIMITS), {**WELL, "grad_norm_g": 49.0}, *[row] * 10)
    assert len(warnings) == 1


def test_spread_is_relative_to_the_data(warnings):
    feed(Health(LIMITS), *[{**WELL, "std_fake": 0.01, "std_real": 0.1}] * 20)
    assert not warnings
    feed(Health(LIMITS), *[{**WELL, "std_fake": 0.004, "std_real": 0.1}] * 20)
    assert len(warnings) == 1


@pytest.mark.parametrize("cut", range(1, 25, 3))
def test_a_stop_in_between_changes_nothing(warnings, cut):
    rows = [WELL, *[WON] * 4, WELL, *[{**WON, "std_fake": 0.0}] * 18]
    whole = Health(LIMITS)
    feed(whole, *rows)
    expected = list(warnings)
    assert len(expected) == 2
    warnings.clear()
    first = Health(LIMITS)
    feed(first, *rows[:cut])
    second = Health(LIMITS, json.loads(json.dumps(first.memory)))
    for i, row in enumerate(rows[cut:], start=cut):
        second.check((i + 1) * 10, 10, row)
    assert warnings == expected
    assert second.memory == whole.memory


def test_finite_metrics_pass():
    Health(LIMITS).check_finite(3, {"loss_d": 1e30, "loss_g": -1e-30}, None)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_stops_the_run(value):
    with pytest.raises(DivergedError) as error:
        Health(LIMITS).check_finite(123, {"loss_d": 0.5, "loss_g": value, "grad_norm_g": value}, 120)
    message = str(error.value)
    assert "update 123 " in message and "checkpoint is 120" in message
    assert f"loss_g = {value}" in message and f"grad_norm_g = {value}" in message
    assert "loss_d" not in message
    with pytest.raises(DivergedError, match="no checkpoint yet"):
        Health(LIMITS).check_finite(5, {"loss_d": value}, None)
