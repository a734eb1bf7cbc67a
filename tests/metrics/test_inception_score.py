"""The score against its definition, its extremes and torch-fidelity's numbers."""

import numpy as np
import pytest

from jaxgan.metrics.inception_score import inception_score
from tests.metrics import peers


def by_definition(logits):
    logits = logits.astype(np.longdouble)
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    marginal = p.mean(0)
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(p > 0, p * (np.log(p) - np.log(marginal)), 0.0)
    return float(np.exp(terms.sum(1).mean()))


def test_one_split_is_the_definition():
    logits = np.random.default_rng(0).normal(size=(50, 7)) * 2
    ours = inception_score(logits, 1)
    assert ours.mean == pytest.approx(by_definition(logits), rel=1e-12)
    assert ours.std == 0.0 and isinstance(ours.mean, float)


def test_splits_are_contiguous_and_as_equal_as_can_be():
    logits = np.random.default_rng(0).normal(size=(11, 4)) * 2
    scores = [by_definition(logits[a:b]) for a, b in ((0, 2), (2, 5), (5, 8), (8, 11))]
    assert inception_score(logits, 4) == pytest.approx((np.mean(scores), np.std(scores)), rel=1e-12)


def test_there_are_ten_splits_by_default_and_no_shuffling():
    logits = peers.logits(0)
    assert inception_score(logits) == inception_score(logits, 10, shuffle_seed=None) != inception_score(logits, 9)
    assert inception_score(logits, shuffle_seed=2020) != inception_score(logits)
    assert inception_score(logits, shuffle_seed=2020) != inception_score(logits, shuffle_seed=0)


@pytest.mark.parametrize(("name", "seed"), [("shuffled", 2020), ("in_order", None)])
def test_against_torch_fidelity(name, seed):
    golden = np.load(peers.PATH)
    ours = inception_score(peers.logits(peers.SEED), 10, shuffle_seed=seed)
    assert ours.mean == pytest.approx(float(golden[f"isc/{name}_mean"]), rel=1e-6)
    assert ours.std == pytest.approx(float(golden[f"isc/{name}_std"]), rel=1e-6)


@pytest.mark.parametrize("classes", [2, 10, 1008])
def test_the_extremes(classes):
    assert inception_score(np.zeros((20, classes)), 2) == pytest.approx((1.0, 0.0), abs=1e-6)
    every = np.tile(np.eye(classes) * 200.0, (2, 1))
    assert inception_score(every, 2) == pytest.approx((classes, 0.0), rel=1e-6, abs=1e-6)
    assert inception_score(np.tile(every[:1], (20, 1)), 2) == pytest.approx((1.0, 0.0), abs=1e-6)


def test_confident_classifiers_do_not_make_nan():
    logits = np.random.default_rng(0).normal(size=(100, 50)).astype(np.float32) * 500
    assert inception_score(logits, 1).mean == pytest.approx(by_definition(logits), rel=1e-10)
    assert 1.0 <= inception_score(1e30 * logits, 1).mean <= 50.0


def test_a_shift_of_an_examples_logits_does_not_matter():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(30, 5))
    shifted = logits + rng.normal(size=(30, 1)) * 100
    assert inception_score(shifted, 3) == pytest.approx(tuple(inception_score(logits, 3)), rel=1e-10)


def test_float32_logits_are_computed_in_float64():
    logits = peers.logits(0)
    assert inception_score(logits) == inception_score(logits.astype(np.float64))


@pytest.mark.parametrize(("shape", "splits"), [((5,), 1), ((5, 2, 2), 1), ((5, 2), 0), ((5, 2), 6), ((0, 2), 1)])
def test_what_makes_no_score_is_refused(shape, splits):
    with pytest.raises(ValueError, match="splits between 1 and N"):
        inception_score(np.ones(shape), splits)
    assert inception_score(np.ones((5, 2)), 5).mean == pytest.approx(1.0)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused(value):
    with pytest.raises(ValueError, match="finite"):
        inception_score([[1.0, value]], 1)
