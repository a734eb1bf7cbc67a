"""How messages look at the terminal: ours as plain sentences, other libraries' only when they warn."""

import logging as std_logging
import pathlib
import sys
import time
from collections.abc import Callable

from absl import logging

_HERE = str(pathlib.Path(__file__).parent)
# Orbax logs what it also raises, which our own messages tell; TFDS warns of every folder that it has yet to write.
_LEAST = {"orbax": std_logging.CRITICAL, "tensorflow_datasets": std_logging.ERROR}


def set_up_logging() -> None:
    """For a program's start: Orbax and JAX tell every step they take as INFO, which would drown the run's own lines."""
    handler = logging.get_absl_handler()
    handler.addFilter(_wanted)
    handler.setFormatter(_Formatter())
    handler.python_handler.setFormatter(_Formatter())
    logging.use_absl_handler()
    logging.set_verbosity(logging.INFO)
    sys.unraisablehook = _unraisable


def warn_only() -> None:
    """For a process beside the one that tells how the run goes."""
    logging.set_verbosity(logging.WARNING)


def progress_of(what: str, every: float = 10.0) -> Callable[[int, int], None]:
    """`(done, total) -> None`, which tells how far a long piece of work is, its rate and the time left.

    Says nothing of what is done within `every` seconds, and no more often afterwards.
    """
    begun = told = time.monotonic()

    def tell(done: int, total: int) -> None:
        nonlocal told
        now = time.monotonic()
        if now - told >= every:
            told, rate = now, done / (now - begun)
            logging.info("%d of %d %s, %.0f a second, %.0f s left", done, total, what, rate, (total - done) / rate)

    return tell


def _wanted(record: std_logging.LogRecord) -> bool:
    if record.pathname.startswith(_HERE):
        return True
    least = next((level for name, level in _LEAST.items() if name in record.pathname), std_logging.WARNING)
    return record.levelno >= least


def _unraisable(error) -> None:
    # When a save fails, TensorStore's threads still report to the event loop that Orbax has closed by then.
    if not (isinstance(error.exc_value, RuntimeError) and "Event loop is closed" in str(error.exc_value)):
        sys.__unraisablehook__(error)


class _Formatter(std_logging.Formatter):
    def format(self, record: std_logging.LogRecord) -> str:
        # On a terminal the progress line may stand where this message begins.
        clear = "\r\x1b[K" if sys.stderr.isatty() else ""
        level = "" if record.levelno < std_logging.WARNING else f"{record.levelname.lower()}: "
        return f"{clear}{level}{record.getMessage()}"
