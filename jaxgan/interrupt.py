"""Lets a run end between two updates when the system asks it to (SIGTERM on preemption, Ctrl-C at the terminal)."""

import signal
import threading
from typing import ClassVar

from absl import logging


class Interrupt:
    """A context in which the first SIGTERM or SIGINT sets `signal_name`; a second one has its ordinary effect.

    One inside another, as a run's inside its sweep's, sees what the outer one sees.
    """

    _outermost: ClassVar["Interrupt | None"] = None

    def __init__(self):
        self._signal_name: str | None = None
        self._outer: Interrupt | None = None
        self._former = {}

    @property
    def signal_name(self) -> str | None:
        """Of the first signal; None where there was none yet."""
        return self._outer.signal_name if self._outer else self._signal_name

    def __enter__(self) -> "Interrupt":
        # Python takes signals in the main thread only; elsewhere (a sweep's worker thread) they stay the owner's.
        if threading.current_thread() is threading.main_thread():
            if Interrupt._outermost is None:
                Interrupt._outermost = self
                self._former = {number: signal.signal(number, self._note) for number in (signal.SIGTERM, signal.SIGINT)}
            else:
                self._outer = Interrupt._outermost
        return self

    def __exit__(self, *_) -> None:
        self._restore()
        if Interrupt._outermost is self:
            Interrupt._outermost = None

    def _note(self, number, _) -> None:
        self._signal_name = signal.Signals(number).name
        logging.warning("%s: saving after this update, then stopping (once more to stop at once)", self.signal_name)
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)
        self._former = {}
