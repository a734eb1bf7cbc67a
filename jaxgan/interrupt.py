"""Lets a run end between two updates when the system asks it to (SIGTERM on preemption, Ctrl-C at the terminal)."""

import signal
import threading

from absl import logging


class Interrupt:
    """A context in which the first SIGTERM or SIGINT sets `signal_name`; a second one has its ordinary effect."""

    def __init__(self):
        self.signal_name: str | None = None
        self._former = {}

    def __enter__(self) -> "Interrupt":
        # Python takes signals in the main thread only; elsewhere (a sweep's worker thread) they stay the owner's.
        if threading.current_thread() is threading.main_thread():
            self._former = {number: signal.signal(number, self._note) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *_) -> None:
        self._restore()

    def _note(self, number, _) -> None:
        self.signal_name = signal.Signals(number).name
        logging.warning("%s: saving after this update, then stopping (once more to stop at once)", self.signal_name)
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)
        self._former = {}
