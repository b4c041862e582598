"""Market events from a seed, for benchmarks and tests of strategies: random walks with books a few levels deep. Cold.

Not a market: `hftd sim` has one, calibrated to genuine files. Here it matters only that every event is consistent with those before
it (levels carry true totals, prints happen at the best price), that prices move, and that a seed gives the same events always.
"""

import random

import numpy as np

from hftd.msg.enums import EventKind
from hftd.msg.records import FLAG_END_OF_PACKET, FLAG_SELL, market_event_dtype


def market_events(count: int, seed: int = 1, instruments: int = 1, middle: int = 3_000_000, tick: int = 100,
                  spread: int = 2, apart_ns: int = 20_000) -> np.ndarray:  # fmt: skip
    """Return `count` market events of `instruments` books around `middle`, `spread` ticks wide in the mean."""
    dice = random.Random(seed)
    books: list[tuple[dict[int, list[int]], dict[int, list[int]]]] = [({}, {}) for _ in range(instruments)]
    made = np.zeros(count, dtype=market_event_dtype)
    rows: list[tuple] = []
    clock, reference = 1_000_000, 1000

    def event(instrument, kind, side, px, qty, orders, ref, last):
        flags = (FLAG_SELL if side else 0) | (FLAG_END_OF_PACKET if last else 0)
        rows.append((clock, clock, px, qty, ref, orders, instrument, int(kind), flags, 300, len(rows) + 1, 0))

    def level(instrument, side, px, shares, orders, ref, last):
        mine = books[instrument][side]
        qty, there = mine.get(px, [0, 0])
        qty, there = qty + shares, there + orders
        if qty <= 0:
            mine.pop(px, None)
            qty = there = 0
        else:
            mine[px] = [qty, max(there, 1)]
        event(instrument, EventKind.LEVEL, side, px, qty, max(there, 1) if qty else 0, ref, last)

    while len(rows) < count:
        clock += dice.randrange(1, 2 * apart_ns)
        i = dice.randrange(instruments)
        bids, asks = books[i]
        side = dice.randrange(2)
        mine, other = (asks, bids) if side else (bids, asks)
        best = (min(mine) if side else max(mine)) if mine else 0
        across = (max(other) if side else min(other)) if other else 0
        what = dice.random()
        reference += 1
        if what < 0.5 or len(mine) < 3:
            away = min(int(dice.expovariate(0.6)), 40)
            reach = spread if dice.random() < 0.25 else 0
            anchor = best or (across or middle) + (spread * tick if side else -spread * tick)
            px = anchor + (away - reach) * tick if side else anchor - (away - reach) * tick
            if across and (px <= across if side else px >= across):
                px = across + tick if side else across - tick
            level(i, side, px, 100 * dice.randrange(1, 6), 1, reference, True)
        elif what < 0.88:
            px = dice.choice(sorted(mine, reverse=not side)[:6])
            level(i, side, px, -min(mine[px][0], 100 * dice.randrange(1, 6)), -1, reference - 1, True)
        else:
            qty = min(mine[best][0], 100 * dice.randrange(1, 8))
            event(i, EventKind.TRADE, side, best, qty, 0, reference - 1, False)
            level(i, side, best, -qty, -1, reference - 1, True)
    made[:] = rows[:count]
    return made
