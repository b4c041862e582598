"""The message-rate window: how many messages went out in the last second, exact to a slice of 1/64 s and never too few.

The window is the running slice and the 64 before it, so it spans at least one second: in no second whatever do more than `rate_max`
messages pass. A message leaves the count 1 to 1 1/64 s after it was sent. Slices lie in a ring of 128, as integers; nothing
divides. Turned down: a token bucket (passes twice its rate across an edge), a list of stamps (one line for each message).
"""

from hftd.core.jit import leaf
from hftd.core.memory import load64, store64
from hftd.risk.memory import SLICES

WINDOW = 65
"""Slices in the window."""


@leaf
def advance_window(account, slices, now):
    """Forget slices that left the window. account: account_dtype record; slices: address of the ring; now: ticks. Bounded."""
    if now < account.window_end:
        return
    for _ in range(WINDOW):
        at = account.window_at + 1
        account.window_at = at
        account.window_end += account.slice_ticks
        account.window_total -= load64(slices + 8 * ((at - WINDOW) & (SLICES - 1)))
        store64(slices + 8 * (at & (SLICES - 1)), 0)
        if now < account.window_end:
            return
    account.window_end = now + account.slice_ticks


@leaf
def count_message(account, slices):
    """Count one message in the running slice."""
    at = slices + 8 * (account.window_at & (SLICES - 1))
    store64(at, load64(at) + 1)
    account.window_total += 1
