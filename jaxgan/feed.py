"""What a call of the compiled step is given beside the state: a data set on the devices, or batches brought to them.

Both give the same examples at the same steps, so a run may change from one to the other when it goes on.
"""

import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from jaxgan.build import Experiment
from jaxgan.data import Dataset
from jaxgan.data.sampler import in_rows, order_ahead
from jaxgan.data.stream import Share, Stream
from jaxgan.parallel import Parallel
from jaxgan.state import TrainState
from jaxgan.update import data_key, repeat, repeat_on

PyTree = Any
CALLS_AHEAD = 2  # whose batches lie on the devices before they are needed
_PATIENCE = 30  # seconds for what reads to end


class Resident:
    """The whole data set on every device; the step draws its batches itself."""

    waited = None  # there is nothing to wait for

    def __init__(self, dataset: Dataset, experiment: Experiment, parallel: Parallel):
        self._experiment, self._parallel = experiment, parallel
        index = jnp.arange(experiment.counting.images_per_step, dtype=jnp.int32)
        self._given = parallel.split(index), parallel.replicate(in_rows(dataset.arrays))

    def compile(self, updates: int) -> Callable:
        """The call of so many updates: `(state, *given) -> (state, metrics)`."""
        return compile_call(self._experiment, self._parallel, updates)

    def begin(self, state: TrainState, total: int) -> None:
        """Nothing has to be read ahead."""

    def take(self, idle: Callable[[], None]) -> tuple[PyTree, ...]:
        """What the next call is given."""
        return self._given

    def close(self) -> None:
        """Nothing is open."""


class Streamed:
    """Batches read ahead of the run: each process reads its share and puts it on its devices.

    Args:
        dataset: that is streamed.
        experiment: of the run.
        parallel: its layout.
        workers: processes that read, see `jaxgan.data.stream.Stream`.
    """

    def __init__(self, dataset: Dataset, experiment: Experiment, parallel: Parallel, workers: int):
        self._dataset, self._experiment, self._parallel, self._workers = dataset, experiment, parallel, workers
        self._counting = experiment.counting
        self._index = parallel.split(np.arange(self._counting.images_per_step, dtype=np.int32))
        self._ready: queue.Queue = queue.Queue(CALLS_AHEAD)
        self._closing, self._thread = threading.Event(), None
        self.waited = 0.0  # seconds that the devices stood still for the last batch

    def compile(self, updates: int) -> Callable:
        """The call of so many updates: `(state, *given) -> (state, metrics)`."""
        return compile_call(self._experiment, self._parallel, updates, streamed=True)

    def begin(self, state: TrainState, total: int) -> None:
        """Starts to read, from where the state stands to the update `total`."""
        step, images = int(state.step), self._counting.images_per_step
        first, updates, size = int(state.images), total - step, len(self._dataset.arrays["real"])
        key = data_key(state.key.addressable_data(0))
        order = order_ahead(key, first, updates * images, size)
        share = Share(dict(self._dataset.arrays), order, first, images, self._parallel.own_rows(images))
        self._stream = Stream(share, updates, self._workers, CALLS_AHEAD * self._counting.steps_per_call)
        self._thread = threading.Thread(target=self._fill, args=(step, total), name="feed", daemon=True)
        self._thread.start()

    def take(self, idle: Callable[[], None]) -> tuple[PyTree, ...]:
        """What the next call is given; waits for it if it has to.

        Args:
            idle: returns when the devices have done what they were given; called before any waiting, so that the
                seconds `waited` are those in which they stand still.

        Raises:
            DataError: the data set cannot be read any more.
        """
        self.waited = 0.0
        if self._ready.empty():
            idle()
            begun = time.monotonic()
            batch = self._ready.get()
            self.waited = time.monotonic() - begun
        else:
            batch = self._ready.get()
        if isinstance(batch, Exception):
            raise batch
        return (batch,)

    def close(self) -> None:
        """Ends what reads; what was read ahead is dropped."""
        self._closing.set()
        if self._thread is None:
            return
        self._thread.join(_PATIENCE)
        if self._thread.is_alive():
            logging.warning("what reads the data set does not end; it is left behind")
            return
        self._stream.close()

    def _fill(self, step: int, total: int) -> None:
        try:
            for batch in self._calls(step, total):
                if not self._offer(batch):
                    return
        except Exception as error:  # raised where it can end the run
            self._offer(error)

    def _calls(self, step: int, total: int) -> Iterator[PyTree]:
        """The batches of one call after another, on the devices."""
        while step < total and not self._closing.is_set():
            updates = self._counting.updates_from(step)
            parts = [next(self._stream) for _ in range(updates)]
            together = {name: np.stack([part[name] for part in parts], axis=1) for name in parts[0]}
            batch = together if updates > 1 else {name: x[:, 0] for name, x in together.items()}
            yield {"index": self._index, **self._parallel.split_own(batch, self._counting.images_per_step)}
            step += updates

    def _offer(self, item: PyTree) -> bool:
        """Whether it was taken before the run ended."""
        while not self._closing.is_set():
            try:
                self._ready.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False


Feed = Resident | Streamed


def make_feed(dataset: Dataset, experiment: Experiment, parallel: Parallel, workers: int = 0) -> Feed:
    """What feeds a run with this data set."""
    if dataset.is_streamed:
        return Streamed(dataset, experiment, parallel, workers)
    return Resident(dataset, experiment, parallel)


def compile_call(experiment: Experiment, parallel: Parallel, updates: int, streamed: bool = False) -> Callable:
    """The compiled call of so many updates on the devices of a layout: `(state, *given) -> (state, metrics)`."""
    if streamed:
        return parallel.compile(experiment.step_on if updates == 1 else repeat_on(experiment.step_on))
    return parallel.compile(experiment.step if updates == 1 else repeat(experiment.step, updates), shared=1)


def abstract_given(
    experiment: Experiment,
    parallel: Parallel,
    updates: int,
    arrays: dict[str, jax.ShapeDtypeStruct],
    streamed: bool = False,
) -> tuple[PyTree, ...]:
    """The shapes of what a call is given, from those of the data set, to compile from."""
    images = experiment.counting.images_per_step
    index = parallel.abstract_split(jax.ShapeDtypeStruct((images,), jnp.int32))
    rows = jax.eval_shape(in_rows, arrays)
    if not streamed:
        return index, parallel.abstract(rows)
    times = (updates,) if updates > 1 else ()
    examples = {name: jax.ShapeDtypeStruct((images, *times, *x.shape[1:]), x.dtype) for name, x in rows.items()}
    return ({"index": index, **parallel.abstract_split(examples)},)
