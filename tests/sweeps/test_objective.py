"""What a trial is judged by, from what a person types and what an evaluation gives."""

import math

import pytest

from jaxgan.errors import ConfigError
from jaxgan.evaluation import METRICS
from jaxgan.sweeps.objective import Objective, dominates, read_objectives

MEASURED = ("fid", "precision", "recall")


@pytest.mark.parametrize(
    "text, expected",
    [
        ("", [("fid", True)]),
        ("recall", [("recall", False)]),
        ("fid:min,recall:max", [("fid", True), ("recall", False)]),
        ("fid:max", [("fid", False)]),
        (" recall , fid", [("recall", False), ("fid", True)]),
    ],
)
def test_names_and_directions(text, expected):
    assert list(read_objectives(text, "fid", MEASURED)) == [Objective(*pair) for pair in expected]


@pytest.mark.parametrize("text", ["kid", "fid:low", "fid,fid:min", "fid,,recall"])
def test_what_is_refused(text):
    with pytest.raises(ConfigError):
        read_objectives(text, "fid", MEASURED)


def test_a_number_is_found_by_its_short_name_and_no_other_is():
    values = {f"{short}1k_train_digits": float(i) for i, short in enumerate(_shorts())}
    for i, short in enumerate(_shorts()):
        assert Objective(short, True).of(values) == i, short
    assert Objective("recall", False).of({"recall1500_test80_raw": 0.5}) == 0.5
    assert math.isnan(Objective("fid", True).of({"fid_infinity1k_train_digits": 1.0}))


def _shorts():
    return list(dict.fromkeys(short for metric in METRICS.values() for short in metric.lower_is_better))


def test_domination():
    objectives = [Objective("fid", True), Objective("recall", False)]
    assert dominates((1.0, 0.5), (2.0, 0.5), objectives) and dominates((1.0, 0.6), (1.0, 0.5), objectives)
    assert not dominates((1.0, 0.4), (2.0, 0.5), objectives)
    assert not dominates((1.0, 0.5), (1.0, 0.5), objectives)
