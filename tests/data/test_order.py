"""The order on the host is the order in the compiled step, number by number."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan.data.order import PLACES, epochs_of
from jaxgan.data.sampler import order_ahead, sample

KEY = jax.random.key(3)
COUNT = 64


def drawn(size, first):
    """What the compiled step draws at these places."""
    arrays = {"real": jnp.zeros((size, 1)), "label": jnp.arange(size)}
    draw = jax.jit(lambda first: sample(arrays, KEY, first, jnp.arange(COUNT))["label"])
    return np.asarray(draw(jnp.uint32(first)))


@pytest.mark.parametrize("size", [1, 3, 64, 5000])
def test_the_host_s_rows_are_those_that_the_device_draws(size):
    for first in (0, 7 * size + 3, 2**31 - 5, PLACES - 20):
        rows = order_ahead(KEY, first, COUNT, size).rows(first + np.arange(COUNT))
        assert rows.dtype == np.int32
        np.testing.assert_array_equal(rows, drawn(size, first))


def test_a_set_as_large_as_the_numbers_go():
    size, first = 2**31 - 1, 5
    place = first + np.arange(COUNT)
    rows = order_ahead(KEY, first, COUNT, size).rows(place)
    assert len(set(rows.tolist())) == COUNT and rows.min() >= 0
    assert rows.mean() == pytest.approx(size / 2, rel=0.3)  # the standard error is 7 %


def test_a_part_of_the_places_is_a_part_of_the_order():
    order = order_ahead(KEY, 100, 300, 50)
    whole = order.rows(np.arange(100, 400))
    np.testing.assert_array_equal(order.rows(np.array([399, 100, 250])), whole[[299, 0, 150]])


@pytest.mark.parametrize("first, count, size", [(0, 10, 3), (5, 1, 3), (PLACES - 4, 9, 3), (2, 40, 50), (7, 0, 3)])
def test_the_epochs_of_a_part(first, count, size):
    expected = sorted({(place % PLACES) // size for place in range(first, first + count)})
    assert epochs_of(first, count, size).tolist() == expected
