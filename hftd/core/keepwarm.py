"""Keeping a path warm in quiet times: between two slices, one step of the rehearsal, with orders that cannot leave. Cold.

A loop that only polls for a second has the code of the order path pushed out of its caches and predictors by the little Python
between the slices. A step of the rehearsal (`control/rehearsal.py`) runs that very code over private memory: no counter, histogram,
journal or ring of the daemon sees it. It is taken only when the loop found nothing for `quiet_ms`, and no more often than that,
since what comes while a step runs must wait for it. `hftd bench warm` shows what it gains. A step that fails (on a
strategy's own assert, say: the tape's positions are not the real ones) ends the exercise, never the trading.
"""

from collections.abc import Callable

NEVER = 1 << 62


class KeepWarm:
    """Takes a step when a loop has been quiet. step: the rehearsal's; marks: of the agents whose work counts; failed: called when a
    step raised: it was the last."""

    def __init__(self, step: Callable[[], None], marks: list, quiet_ms: int, failed: Callable[[], None] | None = None):
        self.step, self.marks, self.failed = step, marks, failed
        self.quiet_ns = quiet_ms * 1_000_000
        self.steps = 0
        self._busy, self._due = -1, 0

    def turn(self, now_ns: int) -> bool:
        """Look whether there was work since the last call, and take a step when it is due; True where one was taken."""
        busy = sum(int(mark["busy"]) for mark in self.marks)
        if busy != self._busy:
            self._busy, self._due = busy, now_ns + self.quiet_ns
            return False
        if now_ns < self._due:
            return False
        try:
            self.step()
        except Exception:
            self.quiet_ns = NEVER
            self._due = now_ns + NEVER
            if self.failed is not None:
                self.failed()
            return False
        self.steps += 1
        self._due = now_ns + self.quiet_ns
        return True
