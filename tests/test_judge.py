"""Evaluation within a run: which number is the best's, when the run stops, and what is refused before it starts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import toy2d
from jaxgan.data.toy import load as load_toy
from jaxgan.errors import ConfigError
from jaxgan.judge import Judge, make_judge
from tests.test_sampling import affine_game, affine_state

RING = load_toy("ring", n=2000)
KEY = jax.random.key(0)


class Points:
    """A generator that gives ring points, moved by what the state holds."""

    def samples(self, state, key, n):
        return load_toy("ring", n=n, seed=1).arrays["real"] + np.float32(state)


def config(**fields):
    c = toy2d.get_config("tiny")
    c.eval.samples = 500
    for name, value in fields.items():
        part, _, field = name.partition("__")
        c[part][field] = value
    return c


def judge(**fields):
    return Judge(config(**fields), RING, Points(), KEY)


def test_the_first_number_is_the_best_s_unless_another_is_named():
    values, badness = judge().measure(0.0, 1)
    assert set(values) == {f"{name}500_train_raw" for name in ("swd", "modes", "reverse_kl", "high_quality")}
    assert badness == values["swd500_train_raw"]
    values, badness = judge(eval__best="high_quality").measure(0.0, 1)
    assert badness == -values["high_quality500_train_raw"] < -0.9


def test_it_stops_when_the_number_is_good_for_long_enough_and_remembers():
    fields = {"stop__metric": "modes", "stop__above": 7.5, "stop__patience": 2}
    first = judge(**fields)
    for state, satisfied in ((0.0, False), (9.0, False), (0.0, False)):
        first.measure(state, 1)
        assert first.is_satisfied is satisfied
    second = judge(**fields)
    second.remember(first.memory)
    second.measure(0.0, 2)
    assert second.is_satisfied
    third = judge()
    third.remember(second.memory)  # a run that is to stop no more goes on
    assert not third.is_satisfied
    judge(**fields).remember(third.memory)


def test_the_record_says_what_the_numbers_depend_on():
    c = config()
    c.seed = 5
    entry = Judge(c, RING, Points(), KEY).record(7, {"swd500_train_raw": 1.0})
    assert entry["step"] == 7 and entry["ema"] and entry["samples"] == 500 and entry["seed"] == 5
    assert entry["features"]["name"] == "raw" and entry["reference"]["size"] == 500


@pytest.mark.parametrize(
    "fields, words",
    [
        ({"eval__samples": 1}, "eval.samples 1"),
        ({"eval__metrics": ("swb",)}, "unknown metric swb"),
        ({"eval__best": "fid"}, "eval.best is 'fid'.*it measures swd, modes, reverse_kl, high_quality"),
        ({"stop__metric": "recall"}, "stop.metric is 'recall'.*it measures swd"),
        ({"stop__metric": "swd"}, r"config\.stop\.below has to say"),
        ({"stop__metric": "modes", "stop__below": 1.0}, r"config\.stop\.above has to say"),
        ({"eval__features": "inseption"}, "inseption.*inception"),
    ],
)
def test_mistakes_are_found_before_the_run(fields, words):
    with pytest.raises(ConfigError, match=words):
        judge(**fields)


def test_a_run_that_is_never_evaluated_has_no_judge():
    assert make_judge(config(), RING, Points(), KEY, every=0) is None
    assert isinstance(make_judge(config(), RING, Points(), KEY, every=5), Judge)
    with pytest.raises(ConfigError, match="'swd' is never measured"):
        make_judge(config(stop__metric="swd", stop__below=1.0), RING, Points(), KEY, every=0)


def test_pictures_are_measured_as_bytes():
    from jaxgan.judge import as_measured

    np.testing.assert_array_equal(as_measured(np.array([[[[-1.0]], [[1.0]]]], np.float32)).ravel(), [0, 255])
    points = np.zeros((3, 2), np.float32)
    assert as_measured(points) is points


def test_the_averaged_generator_is_measured():
    from jaxgan.sampling import Generator

    measured = Judge(config(), RING, Generator(affine_game()), KEY)
    near = measured.measure(affine_state(raw=[50.0, 50.0], ema=[0.0, 0.0]), 1)[1]
    far = measured.measure(affine_state(raw=[0.0, 0.0], ema=[50.0, 50.0]), 1)[1]
    assert near < 2 < far and jnp.isfinite(far)
