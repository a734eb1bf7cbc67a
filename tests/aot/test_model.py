"""The roofline and the wire, against arithmetic by hand."""

import pytest

from jaxgan.aot.chips import CHIPS, Chip
from jaxgan.aot.hlo import Collective, Cost
from jaxgan.aot.model import count_hops, is_ring, speed, transfer


def test_an_all_reduce_on_a_full_pod_goes_over_all_four_links():
    # 100 MB, twice, but for the chip's own 256th, over four links of 50 GB/s.
    assert transfer(CHIPS["v5e"], (16, 16), "all-reduce", 100e6) == pytest.approx(2 * 100e6 * 255 / 256 / 200e9)


def test_an_axis_that_is_no_ring_has_one_link_at_its_ends():
    assert not is_ring(CHIPS["v5e"], 8) and is_ring(CHIPS["v5e"], 16) and is_ring(CHIPS["v4"], 8)
    assert transfer(CHIPS["v5e"], (2, 4), "all-reduce", 8e6) == pytest.approx(2 * 8e6 * 7 / 8 / 100e9)
    assert transfer(CHIPS["v4"], (4, 4, 4), "all-reduce", 64e6) == pytest.approx(2 * 64e6 * 63 / 64 / 300e9)
    assert transfer(CHIPS["v4"], (2, 2, 1), "all-reduce", 4e6) == pytest.approx(2 * 4e6 * 3 / 4 / 100e9)


def test_a_gather_and_a_scatter_are_the_halves_of_a_reduction():
    whole = transfer(CHIPS["v6e"], (16, 16), "all-reduce", 1e6)
    halves = (transfer(CHIPS["v6e"], (16, 16), kind, 1e6) for kind in ("reduce-scatter", "all-gather"))
    assert sum(halves) == pytest.approx(whole)


def test_one_chip_has_no_wire():
    assert transfer(CHIPS["v5e"], (1, 1), "all-reduce", 1e9) == 0
    assert count_hops(CHIPS["v5e"], (1, 1), "all-reduce") == 0


def test_hops_are_half_of_a_ring_and_the_whole_of_a_line():
    assert count_hops(CHIPS["v5e"], (16, 16), "all-reduce") == 2 * (8 + 8)
    assert count_hops(CHIPS["v5e"], (2, 4), "all-reduce") == 2 * (1 + 3)
    assert count_hops(CHIPS["v5p"], (4, 4, 8), "all-gather") == 2 + 2 + 4


TOY = Chip("toy", 1.0, flops=100.0, bandwidth=10.0, link=5.0, axes=1, ring=4, clock=2.0)


def test_speed_where_products_bind():
    # 400 FLOP take 4 s, 20 bytes 2 s. The ring of four: 2 * 10 * 3 / 4 bytes over two links of 5, twice an update.
    s = speed(TOY, (4,), Cost(400.0, 20.0, 0.0, (Collective("all-reduce", (5, 5), 10, 2.0),), 0), images=8)
    assert (s.compute, s.memory, s.wire, s.hops) == (4.0, 2.0, 3.0, pytest.approx(8e-6))
    assert s.images_per_second == 2.0 and s.images_per_second_float32 == pytest.approx(8 / 24)
    assert s.efficiency == pytest.approx(4 / 7) and s.efficiency_with_hops == pytest.approx(4 / 7.000008)
    assert s.estimated is None and s.efficiency_estimated is None and s.efficiency_estimated_with_hops is None


def test_speed_where_memory_binds():
    s = speed(TOY, (4,), Cost(100.0, 20.0, 0.0, (), 0), images=8)
    assert (s.compute, s.memory, s.wire, s.efficiency) == (1.0, 2.0, 0.0, 1.0)
    assert s.images_per_second == 4.0 and s.images_per_second_float32 == pytest.approx(8 / 6)


def test_the_compiler_s_estimate_in_cycles_of_the_chip():
    cost = Cost(400.0, 20.0, 18.0, (Collective("all-reduce", (5, 5), 10, 2.0),), 0)
    s = speed(TOY, (4,), cost, images=8)
    assert s.estimated == 9.0 and s.efficiency == pytest.approx(4 / 7)
    assert s.efficiency_estimated == pytest.approx(9 / 12)
    assert s.efficiency_estimated_with_hops == pytest.approx(9 / 12.000008)
    assert speed(TOY._replace(clock=None), (4,), cost, images=8).estimated is None
