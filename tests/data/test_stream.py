"""Batches read ahead by Grain: which examples, in which order, by whom, and what ends them."""

import io
import multiprocessing
import os
import signal
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxgan import data
from jaxgan.data.sampler import order_ahead, sample
from jaxgan.data.stored import Stored
from jaxgan.data.stream import Share, Stream
from jaxgan.errors import DataError

KEY = jax.random.key(1)
SIZE, IMAGES, FIRST = 40, 12, 100
PICTURES = np.random.default_rng(0).integers(0, 256, (SIZE, 4, 5, 3), dtype=np.uint8)
LABELS = np.arange(SIZE, dtype=np.int32)


def read(row):
    return PICTURES[row]


def share(updates, own=None, read=read):
    arrays = {"real": Stored(read, PICTURES.shape, "pictures", "files", "names"), "label": LABELS}
    order = order_ahead(KEY, FIRST, updates * IMAGES, SIZE)
    return Share(arrays, order, FIRST, IMAGES, np.arange(IMAGES) if own is None else own)


def taken(share, updates, **options):
    stream = Stream(share, updates, **options)
    try:
        return list(stream)
    finally:
        stream.close()


def test_it_gives_the_examples_that_the_compiled_step_would_draw():
    updates, arrays = 9, {"real": jnp.asarray(PICTURES, jnp.float32), "label": jnp.asarray(LABELS)}
    draw = jax.jit(lambda first: sample(arrays, KEY, first, jnp.arange(IMAGES)))
    batches = taken(share(updates), updates)
    assert len(batches) == updates
    for update, batch in enumerate(batches):
        expected = draw(np.uint32(FIRST + update * IMAGES))
        assert batch["real"].dtype == np.uint8 and batch["real"].shape == (IMAGES, 60)
        np.testing.assert_array_equal(batch["label"], expected["label"])
        np.testing.assert_array_equal(batch["real"], np.asarray(expected["real"]).reshape(IMAGES, 60))


def test_the_shares_of_processes_are_the_parts_of_the_whole():
    whole = taken(share(3), 3)
    for own in (np.arange(0, 6), np.arange(6, 12), np.array([0, 1, 2, 9, 10, 11])):
        for batch, part in zip(whole, taken(share(3, own), 3), strict=True):
            for name, value in part.items():
                np.testing.assert_array_equal(value, batch[name][own])


def test_closing_ends_its_threads_at_once():
    before = set(threading.enumerate())

    def slowly(row):
        time.sleep(0.01)
        return PICTURES[row]

    stream = Stream(share(1000, read=slowly), 1000, ahead=4)
    next(stream)
    begun = time.monotonic()
    stream.close()
    while set(threading.enumerate()) - before and time.monotonic() - begun < 5:
        time.sleep(0.01)
    assert not set(threading.enumerate()) - before


def test_a_damaged_example_is_named(mnist5k_copy):
    data_dir, folder = mnist5k_copy
    digits = data.load("mnist5k", data_dir=str(data_dir), stream_above=0)
    (file,) = folder.glob("*.array_record*")
    content = bytearray(file.read_bytes())
    content[len(content) // 3 : len(content) // 3 + 100] = bytes(100)
    file.write_bytes(content)
    order = order_ahead(KEY, 0, 5000, 5000)
    with pytest.raises(DataError, match=r"mnist5k.1\.0\.0 is damaged at example \d+: .* prepared anew"):
        taken(Share(dict(digits.arrays), order, 0, 100, np.arange(100)), 50)


def png(row):
    """A picture that another process can make."""
    file = io.BytesIO()
    Image.new("RGB", (5, 4), (row, 0, 0)).save(file, "PNG")
    return np.asarray(Image.open(file))


@pytest.mark.slow
def test_processes_that_read_give_the_same_and_end_with_the_stream():
    one, two = share(6, read=png), share(6, read=png)
    for a, b in zip(taken(one, 6), taken(two, 6, workers=2), strict=True):
        for name, value in a.items():
            np.testing.assert_array_equal(value, b[name])
    assert not multiprocessing.active_children()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_worker_that_is_killed_is_told_of_and_one_that_is_only_asked_goes_on(number):
    stream = Stream(share(60, read=png), 60, workers=1)
    next(stream)
    (worker,) = multiprocessing.active_children()
    os.kill(worker.pid, number)
    try:
        if number == signal.SIGKILL:
            with pytest.raises(DataError, match=r"can no longer be read.*goes on from the newest checkpoint"):
                list(stream)
        else:
            assert len(list(stream)) == 59
    finally:
        stream.close()
