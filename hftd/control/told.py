"""Signals that end a command which has something to give back: the demonstration, the benchmarks. Cold."""

import signal
import time

SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
AGAIN_S = 1.0
"""So soon after a signal another is the same: timeout(1) sends it to us, and to the group that we are in."""


class Told:
    """SIGTERM, SIGHUP and Ctrl-C, which end what runs in good order: what it started is ended, what it made is removed.

    The handler raises; but an exception in a callback of the compiler, or where an object is let go, is swallowed there, so that
    loops `check()` besides. A signal that whoever started us has us ignore stays ignored.
    """

    def __init__(self):
        self.number, self._at = 0, 0.0
        self._before = {}
        for number in SIGNALS:
            if signal.getsignal(number) != signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._told)

    def _told(self, number, frame):
        again = self.number and time.monotonic() < self._at + AGAIN_S
        self.number, self._at = number, time.monotonic()
        if not again:
            self.check()

    def check(self) -> None:
        """End here, with the exit code of the signal, where one came."""
        if self.number:
            raise SystemExit(128 + self.number)

    def ignore(self) -> None:
        """From now on, hear no signal: what is being ended is ended in good order, and in bounded time."""
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)

    def forget(self) -> None:
        """Give the signals back to whoever had them."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
