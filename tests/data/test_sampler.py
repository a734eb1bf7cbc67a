"""The stream of examples: every one once an epoch, in an order that the key makes, whoever asks for it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan.data import sampler
from jaxgan.data.sampler import in_rows, sample, shuffled_index

KEY = jax.random.key(0)
SIZE, BATCH = 10, 4


def order(key, size):
    return np.asarray(jax.jit(lambda key: shuffled_index(key, jnp.arange(size), size))(key))


def numbered(n=SIZE):
    """Pictures that tell which example they are."""
    return {"real": jnp.broadcast_to(jnp.arange(n, dtype=jnp.uint8)[:, None, None, None], (n, 2, 3, 1))}


def points(n=SIZE):
    return {"real": jnp.arange(2.0 * n).reshape(n, 2), "label": jnp.arange(n)}


@jax.jit
def draw_at(first, index, key):
    return sample(points(), key, first, index)


def draw(first, n=BATCH, key=KEY):
    return draw_at(first, jnp.arange(n), key)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 64, 65, 100, 1023, 1024, 1025, 5000])
def test_an_epoch_is_a_permutation(size):
    for seed in range(3):
        drawn = order(jax.random.key(seed), size)
        assert drawn.dtype == np.int32
        np.testing.assert_array_equal(np.sort(drawn), np.arange(size))


def test_single_places_are_those_of_the_whole_epoch():
    drawn = order(KEY, 100)
    some = np.array([[99, 3], [0, 50]])
    single = jax.jit(lambda place: shuffled_index(KEY, place, 100))
    np.testing.assert_array_equal(single(jnp.asarray(some)), drawn[some])


def test_other_keys_give_other_orders():
    """Two random orders of 1,000 agree in about one place; so does a random order with the data set's own."""
    orders = [order(jax.random.key(seed), 1000) for seed in range(5)] + [np.arange(1000)]
    for i, a in enumerate(orders):
        for b in orders[:i]:
            assert np.sum(a == b) < 10


def chi_square(counts):
    expected = counts.sum() / counts.size
    return np.sum((counts - expected) ** 2 / expected)


def test_every_example_comes_at_every_place_equally_often():
    keys, size = jax.random.split(jax.random.key(1), 4000), 50
    orders = np.asarray(jax.jit(jax.vmap(lambda k: shuffled_index(k, jnp.arange(size), size)))(keys))
    counts = np.stack([np.bincount(orders[:, place], minlength=size) for place in range(size)])
    freedom = (size - 1) ** 2
    assert chi_square(counts) < freedom + 6 * np.sqrt(2 * freedom)


def test_batches_of_a_sorted_data_set_are_mixed():
    """Ten classes stored one after another: the counts in a batch vary as when drawing without replacement."""
    keys, size, batch = jax.random.split(jax.random.key(2), 2000), 5000, 100
    orders = np.asarray(jax.jit(jax.vmap(lambda k: shuffled_index(k, jnp.arange(batch), size)))(keys))
    statistic = np.mean([chi_square(np.bincount(order // 500, minlength=10)) for order in orders])
    assert statistic == pytest.approx(9 * (size - batch) / (size - 1), rel=0.05)
    steps = np.diff(orders, axis=1)
    assert np.mean(steps == 1) < 2 / size and np.mean(steps == -1) < 2 / size


def test_the_stream_visits_each_example_once_an_epoch():
    """Batches of 4 over 10 examples: some straddle the end of an epoch."""
    stream = np.concatenate([draw(jnp.uint32(step * BATCH))["label"] for step in range(15)])
    epochs = stream.reshape(6, SIZE)
    np.testing.assert_array_equal(np.sort(epochs, axis=1), np.tile(np.arange(SIZE), (6, 1)))
    assert len({tuple(epoch) for epoch in epochs}) == 6


def test_a_batch_larger_than_the_data_set():
    batch = jax.jit(sample)(points(3), KEY, jnp.uint32(0), jnp.arange(12))
    np.testing.assert_array_equal(np.sort(np.asarray(batch["label"]).reshape(4, 3), axis=1), [[0, 1, 2]] * 4)


def test_parts_of_the_index_are_parts_of_the_batch():
    """So that a device that asks for its own examples gets what it would have got in the whole batch."""
    index = jnp.arange(8)
    arrays = {**numbered(), "label": jnp.arange(SIZE)}
    flipped = jax.jit(lambda index: sample(arrays, KEY, jnp.uint32(7), index, flip=True))
    whole = flipped(index)
    for part in (index[:2], index[2:4], index[jnp.array([7, 0])]):
        drawn = flipped(part)
        for name, value in drawn.items():
            np.testing.assert_array_equal(value, whole[name][part])


def test_a_batch_begins_where_the_one_before_ended():
    np.testing.assert_array_equal(draw(jnp.uint32(4))["label"], draw(jnp.uint32(0), 8)["label"][4:])


def test_arrays_stay_together_and_points_as_they_are():
    batch = draw(jnp.uint32(3))
    np.testing.assert_array_equal(batch["real"], points()["real"][batch["label"]])
    assert batch["real"].dtype == jnp.float32
    np.testing.assert_array_equal(batch["index"], jnp.arange(BATCH))


def test_other_keys_give_other_streams():
    streams = [draw(jnp.uint32(0), 20, jax.random.key(seed))["label"].tolist() for seed in range(5)]
    assert len({tuple(stream) for stream in streams}) == 5


def test_bytes_become_values_from_minus_one_to_one():
    arrays = {"real": jnp.arange(256, dtype=jnp.uint8).reshape(256, 1, 1, 1), "label": jnp.arange(256)}
    batch = jax.jit(sample)(arrays, KEY, jnp.uint32(0), jnp.arange(256))
    assert batch["real"].dtype == jnp.float32 and batch["real"].shape == (256, 1, 1, 1)
    values = np.asarray(batch["real"]).ravel()[np.argsort(batch["label"])]
    np.testing.assert_allclose(values, np.arange(256) / 127.5 - 1, atol=1e-7)
    assert values[0] == -1.0 and values[255] == 1.0


def test_flip_mirrors_half_of_them_left_to_right_and_nothing_else():
    n = 600
    picture = np.random.default_rng(0).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    arrays = {"real": jnp.asarray(np.tile(picture, (n, 1, 1, 1)))}
    draw_flipped = jax.jit(lambda first: sample(arrays, KEY, first, jnp.arange(n), flip=True)["real"])
    real, again = (np.asarray(draw_flipped(jnp.uint32(first))) for first in (0, n))
    plain = np.tile(picture.astype(np.float32) / 127.5 - 1, (n, 1, 1, 1))
    as_it_was, mirrored = [np.all(np.isclose(real, x, atol=1e-6), axis=(1, 2, 3)) for x in (plain, plain[:, :, ::-1])]
    assert np.all(as_it_was ^ mirrored)
    assert abs(mirrored.mean() - 0.5) < 4 * 0.5 / np.sqrt(n)
    assert 0.3 < np.mean(np.all(again == real, axis=(1, 2, 3))) < 0.7  # a new coin every epoch


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_rows_give_the_same_examples(dtype):
    arrays = {"real": np.random.default_rng(0).integers(0, 256, (20, 4, 5, 3)).astype(dtype), "label": np.arange(20)}
    rows = in_rows(arrays)
    assert rows["real"].shape == (20, 60) and rows["real"].dtype == dtype

    def draw(arrays, shape=()):
        return jax.jit(lambda arrays: sample(arrays, KEY, jnp.uint32(7), jnp.arange(9), flip=True, shape=shape))(arrays)

    jax.tree.map(np.testing.assert_array_equal, draw(rows, (4, 5, 3)), draw(arrays))


def test_the_count_of_images_may_wrap_around():
    first = jnp.uint32(2**32 - 3)
    labels = np.asarray(draw(first, 8)["label"])
    assert np.all((labels >= 0) & (labels < SIZE))
    np.testing.assert_array_equal(labels[3:], draw(jnp.uint32(0), 5)["label"])


@pytest.mark.parametrize("width", [1, 4, 5])
def test_both_forms_of_mirroring_are_one(width):
    draws = np.random.default_rng(0)
    x, coin = jnp.asarray(draws.normal(size=(6, 3, width, 2))), jnp.asarray([1, 0, 0, 1, 1, 0], bool)
    plain = sampler._mirror(coin, x)
    np.testing.assert_array_equal(sampler._mirror_on_cpu(coin, x), plain)
    np.testing.assert_array_equal(plain[0], x[0, :, ::-1])
    np.testing.assert_array_equal(plain[1], x[1])
