"""When a run is good enough, and when it has turned bad, in sequences of one number."""

import json

import pytest
from absl import logging

from jaxgan.verdict import Verdict


@pytest.fixture
def said(monkeypatch):
    lines = []
    monkeypatch.setattr(logging, "warning", lambda text, *values: lines.append(text % values))
    return lines


def feed(verdict, values, first=1):
    """After which of the values the threshold counts as reached."""
    reached = []
    for step, value in enumerate(values, first):
        verdict.take(step, "fid1k", value)
        reached.append(verdict.is_reached)
    return reached


@pytest.mark.parametrize(
    "lower, threshold, patience, values, reached",
    [
        (True, 5.0, 1, [6.0, 5.0, 4.9, 5.1], [False, False, True, False]),
        (True, 5.0, 2, [4.0, 6.0, 4.0, 3.0], [False, False, False, True]),
        (False, 0.5, 2, [0.6, 0.7, 0.4], [False, True, False]),
        (False, 0.5, 1, [0.5], [False]),
    ],
)
def test_the_threshold_has_to_hold_for_as_long_as_asked(lower, threshold, patience, values, reached):
    assert feed(Verdict(lower, threshold, patience), values) == reached


def test_without_a_threshold_nothing_is_ever_reached():
    assert feed(Verdict(True), [0.0, -1.0]) == [False, False]


@pytest.mark.parametrize(
    "lower, values", [(True, [9.0, 2.0, 4.1, 7.0, 8.0, 9.0]), (False, [0.1, 0.8, 0.3, 0.2, 0.1, 0.1])]
)
def test_a_number_that_turns_and_stays_bad_is_told_once_with_the_best(lower, values, said):
    verdict = Verdict(lower, turned=2.0, turned_patience=3)
    feed(verdict, values[:4])
    assert said == []
    feed(verdict, values[4:], first=5)
    assert len(said) == 1
    assert "step 5: fid1k has turned bad" in said[0] and f"{values[1]:.4g} at step 2" in said[0]


@pytest.mark.parametrize(
    "values", [[2.0, 5.0, 5.0, 3.9, 5.0, 5.0], [2.0, 4.0, 4.0, 4.0], [-1.0, 9.0, 9.0, 9.0], [0.0, 9.0, 9.0, 9.0]]
)
def test_what_recovers_or_is_within_the_factor_or_has_no_scale_is_not_told(values, said):
    feed(Verdict(True, turned=2.0, turned_patience=3), values)
    feed(Verdict(True, turned=0.0, turned_patience=1), values)
    assert said == []


def test_a_resumed_run_is_one_run(said):
    first = Verdict(True, 1.0, 2, turned=2.0, turned_patience=2)
    feed(first, [3.0, 7.0])
    memory = json.loads(json.dumps(first.memory))
    second = Verdict(True, 1.0, 2, turned=2.0, turned_patience=2, memory=memory)
    feed(second, [8.0, 0.9], first=3)
    assert len(said) == 1 and "3 at step 1" in said[0]
    third = Verdict(True, 1.0, 2, memory=second.memory)
    assert feed(third, [0.9]) == [True]
    assert second.memory["reached_for"] == 1  # a copy was taken


def test_another_state_in_the_place_of_one_may_be_the_best_and_ends_what_was_bad(said):
    verdict = Verdict(True, 5.0, 2, 3.0, 2)
    assert feed(verdict, [6.0, 30.0, 4.0]) == [False, False, False]
    verdict.replace(3, 2.0)
    assert verdict.memory["best"] == 2.0 and verdict.memory["best_step"] == 3
    assert feed(verdict, [4.0, 4.5], first=4) == [False, True]
    verdict.replace(5, 9.0)
    assert verdict.memory["best_step"] == 3 and not verdict.is_reached and not said
