"""Order identity: strategy, instance epoch and sequence in one int64, so that a restart reuses none and asks no database.

    bit 63    62..56        55..32       31..0
     0      | strategy 7 | epoch 24    | sequence 32 |

The epoch is the second of UTC at the strategy's start, so it comes back after 194 days. Within one second a restart would take
the same one: `next_epoch` steps past the epoch before, which the strategy's segment keeps.
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


@leaf
def bucket_of(cl_ord_id, mask):
    """Return an id's place in an index of mask + 1. A strategy's ids follow on, so neighbours share lines."""
    return (cl_ord_id + (cl_ord_id >> 32) * 2654435761 + (cl_ord_id >> 56) * 40503) & mask


def epoch_now(utc_ns: int) -> int:
    """Return the instance epoch for a strategy that starts at `utc_ns`."""
    return (utc_ns // 1_000_000_000) & EPOCH_MASK


def next_epoch(utc_ns: int, previous: int) -> int:
    """Return the epoch for a restart at `utc_ns` of an instance whose epoch was `previous` (0: none): never the same again."""
    ahead = (epoch_now(utc_ns) - previous) & EPOCH_MASK
    if previous == 0 or 0 < ahead <= EPOCH_MASK // 2:
        return epoch_now(utc_ns)
    return (previous + 1) & EPOCH_MASK


def text(cl_ord_id: int) -> str:
    """Return an id as people read it: strategy-epoch-sequence."""
    return f"{(cl_ord_id >> 56) & 127}-{(cl_ord_id >> 32) & EPOCH_MASK:x}-{cl_ord_id & 0xFFFFFFFF}"
