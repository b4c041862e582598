"""Order identity: strategy, instance epoch and sequence in one int64, so that a restart reuses none and asks no database.

    bit 63    62..56        55..32       31..0
     0      | strategy 7 | epoch 24    | sequence 32 |

The epoch is seconds/8 of UTC at the strategy's start, so it grows over restarts within the day (and for 4 years).
"""

from hftd.core.jit import leaf

STRATEGY_MAX = 127
EPOCH_MASK = (1 << 24) - 1


@leaf
def make_id(strategy, epoch, sequence):
    """Return the cl_ord_id of a strategy's order number `sequence` (1..2**32-1)."""
    return (strategy << 56) | (epoch << 32) | sequence


@leaf
def strategy_of(cl_ord_id):
    """Return the strategy's index."""
    return (cl_ord_id >> 56) & 127


@leaf
def epoch_of(cl_ord_id):
    """Return the instance epoch."""
    return (cl_ord_id >> 32) & EPOCH_MASK


@leaf
def sequence_of(cl_ord_id):
    """Return the order's number within its instance."""
    return cl_ord_id & 0xFFFFFFFF


def epoch_now(utc_ns: int) -> int:
    """Return the instance epoch for a strategy that starts at `utc_ns`."""
    return (utc_ns // 8_000_000_000) & EPOCH_MASK


def text(cl_ord_id: int) -> str:
    """Return an id as people read it: strategy-epoch-sequence."""
    return f"{(cl_ord_id >> 56) & 127}-{(cl_ord_id >> 32) & EPOCH_MASK:x}-{cl_ord_id & 0xFFFFFFFF}"
