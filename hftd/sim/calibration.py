"""The numbers that shape the synthetic market, and where they come from.

Aggregates of genuine Nasdaq days, measured over every message of one symbol (no data is kept here, only these shares):

    what                        AAPL 2020-01-30   GOOG 2012-06-21   AAPL 2012-06-21   here
                                03:07-07:59       09:30-16:00       09:30-16:00
    adds (A, F), % of messages  47.6              46.6              43.9              44
    deletes (D)                 40.8              42.6              32.6              40
    replaces (U)                 0.1               3.1               0.9              10 (a liquid stock of today)
    executions (E, C)            8.5               5.0              14.4               5
    partial cancels (X)          0.1               0.2               1.3               1
    hidden prints (P)            2.4               2.5               6.9               1
    size 100, % of adds         22                48                50                45
    size below 100              70                42                35                40
    executions in a row (1/2/3) 81/14/4           80/14/4           79/16/4           sweeps of 1 to a few orders
    executions that empty
      the order, %              54                71                73                45 + those by chance
    adds at the best price, %    5                16                44 (one level)    30
    adds inside the spread, %   20                16                56 (one level)    6 (spread of ticks, not of dimes)
    life of an order, ns
      p25 / p50                 0.8e9/5.5e9       0.13e9/2.2e9      0.01e9/0.4e9      newest six first, 60 %
    gap between messages, ns
      p25 / p50 / p75           0.1e6/43e6/1.1e9  86e3/0.7e6/29e6   0/0.1e6/19e6      bursts: 80 % within 12 us, the rest far
    live orders, p50            133               350               472               120
    price levels of a side, p50 48                31                -                 at least 12

The genuine spread was 5 to 20 ticks (early morning; a 580-dollar stock before its split); a liquid stock of ordinary price
keeps one to a few, which is what is made here.
"""

import numpy as np

from hftd.core.memory import records
from hftd.sim.memory import calibration_dtype, size_dtype

SHARES_PER_MILLION = {
    "add": 430_000, "delete": 395_000, "replace": 100_000, "execute": 45_000, "cancel": 10_000, "hidden": 10_000, "broken": 200,
    "attributed": 20_000,                         # of the adds
    "priced": 40_000,                             # of the executions
    "unprinted": 100_000,                         # of those
    "touch": 300_000, "inside": 60_000,           # of the adds
    "young": 600_000,                             # of the deletes and replaces
    "news": 40_000,                               # of all events
    "stale": 700_000,                             # of the deletes that find one
    "burst": 800_000,
}  # fmt: skip
"""What is not listed up to a million of the events is an add. Shares of different bases are marked."""

BURST_GAP_NS = 12_000.0
"""Mean gap inside a burst."""

SIZES = ((450_000, 100), (150_000, -99), (80_000, 10), (70_000, 50), (60_000, 30), (50_000, 200), (40_000, 1), (30_000, 300),
         (30_000, 500), (20_000, 400), (15_000, 1000), (5_000, -2000))  # fmt: skip
"""(share of a million, shares); below 0: any size from 1 to that many."""

DEPTH, SPREAD, LEVELS, REACH = 120, 3, 12, 6
"""Live orders a symbol tends to; ticks of a wide spread; levels a side keeps; mean ticks behind the best."""


def table(rate: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the calibration record for `rate` messages a venue second, and the size table it points to (keep both alive)."""
    made = records(calibration_dtype, 1)
    row = made[0]
    for name, share in SHARES_PER_MILLION.items():
        row[name] = share
    row["depth"], row["spread"], row["levels"], row["reach"] = DEPTH, SPREAD, LEVELS, REACH
    mean = 1e9 / rate
    part = SHARES_PER_MILLION["burst"] / 1e6
    row["gap_burst"] = min(BURST_GAP_NS, mean / 2)
    row["gap_quiet"] = (mean - part * row["gap_burst"]) / (1 - part)
    sizes = records(size_dtype, len(SIZES))
    done = 0
    for i, (share, shares) in enumerate(SIZES):
        done += share
        sizes[i]["parts"], sizes[i]["shares"] = done, shares
    assert done == 1_000_000
    row["sizes"], row["size_rows"] = sizes.ctypes.data, len(SIZES)
    return made, sizes
