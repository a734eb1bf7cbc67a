"""How messages look at the terminal: ours as plain sentences, other libraries' only when they warn."""

import logging as std_logging
import pathlib
import sys

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
