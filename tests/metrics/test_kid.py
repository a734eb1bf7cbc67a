"""The kernel distance against double loops, torch-fidelity's number and what chance allows."""

import sys

import numpy as np
import pytest

from jaxgan.metrics.kid import kid, kid_blocks, kid_subsets
from tests.metrics import peers

module = sys.modules["jaxgan.metrics.kid"]  # the package's attribute of this name is the function


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


def brute_force(x, y):
    """Pair by pair, as the definition has it."""

    def kernel(a, b):
        return (float(a @ b) / len(a) + 1) ** 3

    def within(x):
        return np.mean([kernel(a, b) for i, a in enumerate(x) for j, b in enumerate(x) if i != j])

    return within(x) + within(y) - 2 * np.mean([kernel(a, b) for a in x for b in y])


@pytest.mark.parametrize(("n", "m"), [(40, 40), (40, 25), (2, 2)])
@pytest.mark.parametrize("rows", [7, 1000])
def test_the_full_estimate_is_the_double_loop(monkeypatch, n, m, rows):
    monkeypatch.setattr(module, "_ROWS", rows)
    x, y = normal(0, n, 5), 1.5 * normal(1, m, 5) + 0.4
    ours = kid(x, y)
    assert ours.mean == pytest.approx(brute_force(x, y), abs=1e-10)
    assert np.isnan(ours.std) and isinstance(ours.mean, float)


def test_float32_features_lose_little():
    x, y = (f[:200] for f in peers.features(0))
    ours, exact = kid(x, y).mean, kid(x.astype(np.float64), y.astype(np.float64)).mean
    assert ours != exact
    assert ours == pytest.approx(exact, rel=1e-5)


def test_blocks_are_averaged_in_order():
    x, y = normal(0, 23, 4), normal(1, 20, 4) + 0.2
    # 23 examples in blocks of 10 at most are three blocks, of 8, 8 and 7, and of 7, 7 and 6 of the other kind.
    parts = [(x[:8], y[:7]), (x[8:16], y[7:14]), (x[16:], y[14:])]
    values = [brute_force(*part) for part in parts]
    ours = kid_blocks(x, y, block_size=10)
    assert ours.mean == pytest.approx(np.mean(values), abs=1e-10)
    assert ours.std == pytest.approx(np.std(values, ddof=1) / np.sqrt(3), abs=1e-10)
    assert kid_blocks(y, x, block_size=10).mean == pytest.approx(ours.mean, abs=1e-10)


@pytest.mark.filterwarnings("error")
def test_one_block_is_the_full_estimate_without_an_error():
    x, y = normal(0, 23, 4), normal(1, 20, 4)
    ours = kid_blocks(x, y, block_size=23)
    assert ours.mean == pytest.approx(kid(x, y).mean, abs=1e-14)
    assert np.isnan(ours.std)
    assert kid_blocks(x[:2], y[:2]).mean == kid(x[:2], y[:2]).mean
    assert not np.isnan(kid_blocks(x, y, block_size=22).std)
    assert kid_blocks(x, y).mean == ours.mean
    many = normal(2, 1025, 1)
    assert np.isnan(kid_blocks(many[:1024], many[:1024]).std) and not np.isnan(kid_blocks(many, many).std)


def subset_values(x, y, subsets, size, seed):
    rng = np.random.RandomState(seed)
    draws = [(rng.choice(len(x), size, replace=False), rng.choice(len(y), size, replace=False)) for _ in range(subsets)]
    return [brute_force(x[i], y[j]) for i, j in draws]


@pytest.mark.parametrize(("subsets", "size"), [(12, 12), (3, 5), (1, 20)])
def test_subsets_are_drawn_as_the_references_draw_them(subsets, size):
    x, y = normal(0, 30, 3), normal(1, 20, 3) + 0.3
    values = subset_values(x, y, subsets, size, 2020)
    ours = kid_subsets(x, y, subsets=subsets, subset_size=size)
    assert ours == pytest.approx((np.mean(values), np.std(values)), abs=1e-10)
    assert kid_subsets(x, y, subsets=subsets, subset_size=size, seed=1).mean != ours.mean


def test_the_kernel_of_all_pairs_is_computed_once_where_that_is_less(monkeypatch):
    x, y = normal(0, 30, 3), normal(1, 20, 3)
    asked = []
    monkeypatch.setattr(module, "_kernel", lambda a, b: asked.append(len(a) * len(b)) or np.ones((len(a), len(b))))
    # With half of the symmetric matrices all pairs are 50^2 / 2 = 1250, and ten subsets of n examples 20 n^2.
    kid_subsets(x, y, subsets=10, subset_size=8)
    assert sum(asked) == 30 * 30 + 20 * 20 + 30 * 20
    asked.clear()
    kid_subsets(x, y, subsets=10, subset_size=7)
    assert sum(asked) == 10 * 3 * 7 * 7
    asked.clear()
    kid_subsets(x, y[:10], subsets=4, subset_size=10)  # equal costs
    assert sum(asked) == 30 * 30 + 10 * 10 + 30 * 10


def test_against_torch_fidelity():
    golden = np.load(peers.PATH)
    ours = kid_subsets(*peers.features(peers.SEED), subsets=peers.KID_SUBSETS, subset_size=peers.KID_SUBSET_SIZE)
    assert ours.mean == pytest.approx(float(golden["kid/mean"]), rel=1e-5)
    assert ours.std == pytest.approx(float(golden["kid/std"]), rel=1e-4)


def test_the_defaults_are_a_hundred_subsets_of_a_thousand():
    x, y = normal(0, 1000, 2), normal(1, 1001, 2)
    ours = kid_subsets(x, y)
    assert ours == pytest.approx(tuple(kid_subsets(x, y, subsets=100, subset_size=1000, seed=2020)), rel=1e-12)
    assert ours.std > 0
    assert ours != kid_subsets(x, y, subsets=101)
    with pytest.raises(ValueError, match="1000 or more"):
        kid_subsets(x[1:], y)


@pytest.mark.parametrize("estimate", [kid, lambda x, y: kid_blocks(x, y, block_size=50)])
def test_between_equal_distributions_it_is_0_on_average(estimate):
    values = [estimate(normal(2 * seed, 120, 6), normal(2 * seed + 1, 100, 6)).mean for seed in range(30)]
    error = np.std(values, ddof=1) / np.sqrt(len(values))
    assert abs(np.mean(values)) < 4 * error
    assert min(values) < 0 < max(values)


def test_it_is_symmetric_and_grows_with_the_shift():
    x, y = normal(0, 200, 4), normal(1, 150, 4)
    assert kid(x, y + 0.5).mean == pytest.approx(kid(y + 0.5, x).mean, rel=1e-10)
    distances = [kid(x, y + shift).mean for shift in (0.0, 0.3, 0.6, 1.2)]
    assert distances == sorted(distances)


@pytest.mark.parametrize("function", [kid, kid_subsets, kid_blocks])
def test_what_cannot_be_compared_is_refused(function):
    for shapes in [((5, 2), (5, 3)), ((5,), (5,)), ((1, 2), (5, 2)), ((5, 2), (1, 2))]:
        with pytest.raises(ValueError):
            function(*map(np.ones, shapes))
    with pytest.raises(ValueError, match="finite"):
        function(np.full((2000, 2), np.nan), np.ones((2000, 2)))


@pytest.mark.parametrize(("subsets", "size"), [(0, 5), (1, 1), (1, 0)])
def test_subsets_that_make_no_sense_are_refused(subsets, size):
    with pytest.raises(ValueError, match="subsets of"):
        kid_subsets(normal(0, 9, 2), normal(1, 9, 2), subsets=subsets, subset_size=size)
    assert kid_subsets(normal(0, 9, 2), normal(1, 9, 2), subsets=1, subset_size=2).std == 0.0


def test_blocks_with_less_than_two_examples_are_refused():
    x = normal(0, 12, 2)
    with pytest.raises(ValueError, match="12 and 7 examples do not fill 4 blocks"):
        kid_blocks(x, x[:7], block_size=3)
    with pytest.raises(ValueError, match="7 and 12"):
        kid_blocks(x[:7], x, block_size=3)
    kid_blocks(x, x[:8], block_size=3)
