"""Where an order's time goes: the histograms of the path, against their budgets, as text and as a picture.

    feed         packet received -> event published          strategy   event published -> intent published
    risk         intent published -> order published         gateway    order published -> send() called
    tick_to_trade    packet received -> send() called        send       the call itself      answer   the venue's first word

Each order carries the stamps of its hops, so the histograms count every order and no sample is drawn: nothing slow is left out.
`send` counts calls: orders that are ready together share one.
They only grow; what happened between two looks is the difference of two copies. Budgets are those of `core/budgets.py`, for roles
that spin; a stage meets it where the median does.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from xml.sax.saxutils import escape

import numpy as np

from hftd.core.budgets import STAGES, Budget
from hftd.shm.histogram import BUCKETS, value_of

POINTS = (50.0, 90.0, 99.0, 99.9, 99.99)
BLOCKS = " ▁▂▃▄▅▆▇█"


@dataclass(frozen=True)
class Distribution:
    """A copy of one histogram. scale: ns per tick."""

    stage: str
    counts: np.ndarray
    smallest: int
    largest: int
    total: int
    scale: float

    @property
    def count(self) -> int:
        """How many values."""
        return int(self.counts.sum())

    @property
    def budget(self) -> Budget:
        """The stage's budget."""
        return STAGES.get(self.stage, Budget())

    def minus(self, earlier: "Distribution") -> "Distribution":
        """Return what came since an earlier copy. Its extremes are those of its buckets."""
        counts = self.counts - earlier.counts
        if (counts < 0).any():                    # the daemon was started anew
            return self
        filled = np.flatnonzero(counts)
        low, high = (value_of(int(filled[0])), value_of(int(filled[-1]))) if len(filled) else (0, 0)
        return Distribution(self.stage, counts, low, high, self.total - earlier.total, self.scale)

    def at(self, percent: float) -> float:
        """Return a percentile in ns; 0 where nothing was counted."""
        if not self.count:
            return 0.0
        rank = max(1, math.ceil(self.count * percent / 100 - 1e-6))
        bucket = int(np.searchsorted(np.cumsum(self.counts), rank))
        return min(value_of(bucket), self.largest) * self.scale

    @property
    def met(self) -> bool | None:
        """Whether the budget is met; None where there is none, or nothing was counted."""
        if not self.count or not self.budget.p50:
            return None
        return self.at(50) <= self.budget.p50 and (not self.budget.p99 or self.at(99) <= self.budget.p99)

    def bins(self, low: float, high: float, n: int) -> np.ndarray:
        """Return the counts of `n` bins, evenly spaced on a logarithmic axis from `low` to `high` ns; the ends take the rest."""
        filled = np.flatnonzero(self.counts)
        values = np.array([max(value_of(int(bucket)) * self.scale, 1e-3) for bucket in filled])
        where = (np.log(values / low) / math.log(high / low) * n).astype(np.int64).clip(0, n - 1) if len(values) else filled
        made = np.zeros(n, np.int64)
        np.add.at(made, where, self.counts[filled])
        return made

    def as_dict(self) -> dict[str, Any]:
        """The figures for JSON, in ns."""
        return {
            "stage": self.stage,
            "count": self.count,
            "min": round(self.smallest * self.scale, 1),
            **{f"p{percent:g}": round(self.at(percent), 1) for percent in POINTS},
            "max": round(self.largest * self.scale, 1),
            "mean": round(self.total * self.scale / self.count, 1) if self.count else 0.0,
            "budget_p50": self.budget.p50 or None,
            "budget_p99": self.budget.p99 or None,
            "met": self.met,
            "about": self.budget.why,
        }


def read(block: np.ndarray, labels: Sequence[str], hz: int) -> list[Distribution]:
    """Copy histograms (histogram_dtype records) out of shared memory."""
    made = []
    for label, row in zip(labels, block):
        counts = np.array(row["buckets"])
        assert len(counts) == BUCKETS
        made.append(Distribution(label, counts, int(row["smallest"]), int(row["largest"]), int(row["total"]), 1e9 / hz))
    return made


def since(now: Sequence[Distribution], before: Sequence[Distribution]) -> list[Distribution]:
    """Return what came between two reads."""
    old = {one.stage: one for one in before}
    return [one.minus(old[one.stage]) if one.stage in old else one for one in now]


def span(found: Sequence[Distribution]) -> tuple[float, float]:
    """Return the axis that holds all of them: whole decades, in ns."""
    lows = [one.smallest * one.scale for one in found if one.count]
    highs = [one.largest * one.scale for one in found if one.count]
    low = 10.0 ** math.floor(math.log10(max(min(lows, default=10.0), 1.0)))
    high = 10.0 ** math.ceil(math.log10(max(max(highs, default=1e3), 10.0)) + 1e-9)
    return low, max(high, low * 10)


def sparkline(one: Distribution, low: float, high: float, width: int = 40) -> str:
    """Return the distribution as a line of blocks; heights are logarithms, or the tail would not show."""
    bins = one.bins(low, high, width)
    most = math.log1p(int(bins.max())) if len(bins) and bins.max() else 1.0
    return "".join(BLOCKS[math.ceil(math.log1p(int(count)) / most * (len(BLOCKS) - 1))] for count in bins)


def duration(value: float) -> str:
    """Return ns in the unit that suits them, short."""
    for limit, unit in ((1e3, "ns"), (1e6, "us"), (1e9, "ms")):
        if value < limit:
            return f"{value / limit * 1e3:.3g} {unit}"
    return f"{value / 1e9:.3g} s"


WIDTH, LEFT, RIGHT, PANEL, TOP, BOTTOM, BINS = 960, 130, 24, 96, 56, 40, 160
PLOT = WIDTH - LEFT - RIGHT


def svg(found: Sequence[Distribution], title: str, subtitle: str = "") -> str:
    """Return a picture: a panel for each stage that counted something, one logarithmic time axis, logarithmic heights."""
    shown = [one for one in found if one.count]
    low, high = span(shown)
    decades = round(math.log10(high / low))
    height = TOP + PANEL * max(len(shown), 1) + BOTTOM

    def x(value: float) -> float:
        return LEFT + PLOT * min(max(math.log(max(value, low) / low) / math.log(high / low), 0.0), 1.0)

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        'font-family="system-ui, sans-serif" font-size="11" fill="#222">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
        f'<text x="{LEFT}" y="22" font-size="15" font-weight="600">{escape(title)}</text>',
        f'<text x="{LEFT}" y="40" fill="#666">{escape(subtitle)}</text>',
    ]
    bottom = height - BOTTOM
    for decade in range(decades + 1):
        at = x(low * 10**decade)
        out.append(f'<line x1="{at:.1f}" y1="{TOP}" x2="{at:.1f}" y2="{bottom}" stroke="#ddd"/>')
        out.append(f'<text x="{at:.1f}" y="{bottom + 16}" text-anchor="middle">{duration(low * 10**decade)}</text>')
    for number, one in enumerate(shown):
        out += _panel(one, TOP + PANEL * number, low, high, x)
    if not shown:
        out.append(f'<text x="{LEFT}" y="{TOP + 40}">no order was sent yet</text>')
    out.append(f'<text x="{LEFT}" y="{height - 8}" fill="#666">time, logarithmic; heights are logarithms of counts; '
               "red: the budget of the median</text>")  # fmt: skip
    out.append("</svg>")
    return "\n".join(out) + "\n"


def _panel(one: Distribution, top: int, low: float, high: float, x) -> list[str]:
    base, tall = top + PANEL - 14, PANEL - 40
    bins = one.bins(low, high, BINS)
    most, width = math.log1p(int(bins.max())), PLOT / BINS
    out = [
        f'<text x="8" y="{base - 26}" font-weight="600">{escape(one.stage)}</text>',
        f'<text x="8" y="{base - 12}" fill="#666">{one.count:,} {"calls" if one.stage == "send" else "orders"}</text>',
        f'<line x1="{LEFT}" y1="{base}" x2="{LEFT + PLOT}" y2="{base}" stroke="#999"/>',
    ]
    for number, count in enumerate(bins):
        if count:
            tallness = max(math.log1p(int(count)) / most * tall, 1.0)
            out.append(f'<rect x="{LEFT + number * width:.1f}" y="{base - tallness:.1f}" width="{width:.1f}" '
                       f'height="{tallness:.1f}" fill="#4c78a8"><title>{int(count):,}</title></rect>')  # fmt: skip
    if one.budget.p50:
        at = x(one.budget.p50)
        out.append(f'<line x1="{at:.1f}" y1="{top + 18}" x2="{at:.1f}" y2="{base}" stroke="#c33" stroke-dasharray="4 3"/>')
    last = -1e9
    marks = [(f"p{percent:g}", one.at(percent)) for percent in POINTS] + [("max", one.largest * one.scale)]
    for name, value in marks:
        at = x(value)
        out.append(f'<line x1="{at:.1f}" y1="{base - tall}" x2="{at:.1f}" y2="{base}" stroke="#222" stroke-opacity="0.45"/>')
        if at - last > 86:                        # where two would overlap, the figure is in the table
            anchor = "end" if at > LEFT + PLOT - 60 else "start"
            out.append(f'<text x="{at:.1f}" y="{top + 20}" text-anchor="{anchor}" font-size="10">{name} {duration(value)}</text>')
            last = at
    return out
