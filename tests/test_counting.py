"""Durations in steps, epochs and images against arithmetic done by hand."""

import math
import random

import pytest

from jaxgan.counting import Counting
from jaxgan.errors import ConfigError

COUNTING = Counting(images_per_step=64, images_per_epoch=5000)


@pytest.mark.parametrize(
    "duration, images",
    [
        ("1 image", 1),
        ("40 epochs", 200_000),
        ("1 epoch", 5000),
        ("0.5 epochs", 2500),
        (".5 epochs", 2500),
        ("500 steps", 32_000),
        ("1 step", 64),
        ("10k images", 10_000),
        ("2.5k steps", 160_000),
        ("25M images", 25_000_000),
        ("  3  epochs ", 15_000),
        ("3epochs", 15_000),
        ("0 steps", 0),
    ],
)
def test_a_duration_in_images(duration, images):
    assert COUNTING.images(duration) == pytest.approx(images)


@pytest.mark.parametrize("duration", ["", "40", "epochs", "40 eggs", "-1 steps", "1 2 steps", "1e3 steps", "4K images"])
def test_what_is_no_duration_is_named_with_examples_of_what_is(duration):
    with pytest.raises(ConfigError) as error:
        COUNTING.images(duration)
    assert repr(duration) in str(error.value)
    assert "40 epochs" in str(error.value)


def test_steps_are_rounded_up_to_whole_calls():
    assert COUNTING.steps("1 epoch") == 79  # 78.125
    assert COUNTING.steps("64 images") == 1
    assert COUNTING.steps("65 images") == 2
    in_twenties = COUNTING._replace(steps_per_call=20)
    assert in_twenties.steps("1 epoch") == 80
    assert in_twenties.steps("20 steps") == 20
    assert in_twenties.steps("21 steps") == 40
    assert in_twenties.steps("1 image") == 20


def test_only_a_duration_of_nothing_is_no_step():
    assert COUNTING.steps("0 epochs") == COUNTING.steps("0 images") == 0
    large = Counting(images_per_step=4096 * 5, images_per_epoch=10**6, steps_per_call=200)
    assert large.steps("1 image") == 200


def test_rounding_errors_add_no_call():
    """0.1 + 0.2 is above 0.3 in binary; a whole number of steps has to stay that number."""
    numbers = random.Random(0)
    for _ in range(2000):
        counting = Counting(numbers.randint(1, 512), numbers.randint(1, 10**6), numbers.choice([1, 2, 20]))
        calls = numbers.randint(1, 10**5)
        steps = calls * counting.steps_per_call
        assert counting.steps(f"{steps} steps") == steps
        assert counting.steps(f"{steps / 1000:.3f}k steps") == steps
        assert counting.steps(f"{steps * counting.images_per_step} images") == steps
    assert Counting(50, 1000).steps("0.3 epochs") == 6


def test_steps_cover_the_duration_and_no_call_more():
    numbers = random.Random(1)
    for _ in range(500):
        counting = Counting(numbers.randint(1, 512), numbers.randint(1, 10**5), numbers.choice([1, 7, 20]))
        epochs = numbers.randint(1, 50)
        needed = math.ceil(epochs * counting.images_per_epoch / counting.images_per_step)
        steps = counting.steps(f"{epochs} epochs")
        assert steps % counting.steps_per_call == 0
        assert needed <= steps < needed + counting.steps_per_call


def test_the_head_of_a_row():
    assert COUNTING.row(0) == {"step": 0, "images": 0, "epoch": 0.0}
    assert COUNTING.row(100) == {"step": 100, "images": 6400, "epoch": 1.28}
    assert list(COUNTING.row(1)) == ["step", "images", "epoch"]


def test_calls_of_several_updates_begin_at_their_own_steps():
    counting = Counting(64, 5000, steps_per_call=5)
    assert [counting.updates_from(step) for step in (0, 5, 10, 7, 8, 9)] == [5, 5, 5, 1, 1, 1]
    assert {COUNTING.updates_from(step) for step in range(9)} == {1}
