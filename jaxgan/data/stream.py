"""The batches of a run read ahead of it from a data set on disk, by Grain.

An element of the pipeline is what this process needs of one update, a pure function of the update's number. Nothing of
it has to be saved: a run that goes on, with however many processes, asks for the updates that are left.
"""

import dataclasses
import importlib.util
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
from absl import flags

from jaxgan.data.order import Order
from jaxgan.errors import ConfigError, DataError, JaxganError

MOST_AHEAD = 2**30  # bytes of decoded pictures in the pipeline of one process
_PATIENCE = 10  # seconds that a worker outlives a SIGTERM

Batch = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Share:
    """What one process needs of each update, by the update's number from 0. It can be pickled.

    Attributes:
        arrays: of the data set.
        order: of the examples.
        first: place in the stream of update 0's first example.
        images: examples in an update, over all processes.
        own: which of them are this process's, [n].
    """

    arrays: dict[str, Any]
    order: Order
    first: int
    images: int
    own: np.ndarray

    def __call__(self, update: int) -> Batch:
        """Leaves [n, ...], each example of "real" as one row."""
        rows = self.order.rows(self.first + update * self.images + self.own)
        batch = {name: array.take(rows) for name, array in self.arrays.items()}
        return {**batch, "real": batch["real"].reshape(len(rows), -1)}


def check(workers: int) -> None:
    """Raises ConfigError where data cannot be streamed with so many workers."""
    if workers < 0:
        raise ConfigError(f"config.data.workers {workers} must be 0 or more")
    if importlib.util.find_spec("grain") is None:
        raise ConfigError("a data set that is streamed needs Grain: pip install grain, or config.data.stream=never")


class Stream:
    """The share of each update in turn, read by threads of this process or by processes of its own.

    Args:
        share: of this process.
        updates: how many.
        workers: processes that read; 0: threads here, which is enough where decoding is light, since Pillow decodes
            outside Python's lock.
        ahead: updates to keep ready, as far as they fit into `MOST_AHEAD`.
    """

    def __init__(self, share: Share, updates: int, workers: int = 0, ahead: int = 2):
        import grain  # most of a second that runs without a stream need not spend

        threads = -(-os.cpu_count() // max(1, workers))
        size = len(share.own) * int(np.prod(share.arrays["real"].shape[1:]))
        ahead = max(1, min(max(ahead, threads), MOST_AHEAD // size) // max(1, workers))
        read = grain.ReadOptions(num_threads=min(threads, ahead), prefetch_buffer_size=ahead)
        numbers = grain.MapDataset.range(updates)
        if workers:  # which leave their last batches in shared memory where they come to an end (grain 0.2.18)
            numbers = numbers.repeat()
        pipeline = numbers.map(share).to_iter_dataset(read)
        if workers:
            if not flags.FLAGS.is_parsed():  # Grain asks for some of its own, also where no launch.py has parsed any
                flags.FLAGS.mark_as_parsed()
            options = grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=1)
            pipeline = pipeline.mp_prefetch(options, worker_init_fn=_prepare_worker)
        self._batches, self._left = iter(pipeline), updates

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        """Leaves [n, ...].

        Raises:
            DataError: an example is damaged, or what reads them has died.
        """
        if not self._left:
            raise StopIteration
        self._left -= 1
        try:
            return next(self._batches)
        except JaxganError:
            raise
        except Exception as error:  # Grain's own, for a worker that was killed, and whatever a system's disks say
            raise DataError(
                f"the data set can no longer be read: {error}. If the machine ran out of memory, take fewer "
                "config.data.workers. The same command goes on from the newest checkpoint."
            )

    def close(self) -> None:
        """Ends the threads and processes."""
        self._batches.close()
        del self._batches  # what Grain does when it is freed fails at the interpreter's end


def _prepare_worker(*_: int) -> None:
    """Makes a worker end with its run, neither before nor after it.

    Ctrl-C and a system's SIGTERM reach it too, while the run still saves; of a run that is killed nobody tells it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: signal.alarm(_PATIENCE))
    threading.Thread(target=_end_with, args=(multiprocessing.parent_process(),), daemon=True).start()


def _end_with(parent: multiprocessing.process.BaseProcess) -> None:
    parent.join()
    os._exit(1)
