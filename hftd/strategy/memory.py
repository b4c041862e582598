"""What the strategy stage keeps in shared memory: one segment `strategy.K` for each strategy, written by its process alone.

    positions    by instrument, as this strategy's reports tell it; they outlive a restart of the strategy
    params       the values its parameters have, in the order of the file's `params`
    state        the first bytes are the file's `state` record; the layout is the file's
    undo         the sums that a report changes, as they were before: a crash in its middle is taken back
    user         the strategy's own counters
    counters     of the host around it
    histograms   see HISTOGRAMS

None of it depends on the strategy's file, so that tools can attach after the file was edited.
"""

from hftd.core.layout import layout
from hftd.msg.records import position_dtype
from hftd.shm.counters import counters
from hftd.shm.histogram import histogram_dtype
from hftd.shm.segment import Part

PARAMS_MAX = 64
STATE_MAX = 1 << 16

HISTOGRAMS = ("strategy: on_book, one call in 64", "strategy: feed published to intent published")
"""Histograms of the segment, in ticks."""
H_ON_BOOK, H_DECISION = 0, 1

strategy_counters_dtype = counters("strategy", [
    ("events", "market events read"),
    ("books", "on_book calls"),
    ("trades", "on_trade calls"),
    ("reports", "reports of this strategy applied"),
    ("timers", "on_timer calls"),
    ("intents", "intents sent"),
    ("refused", "orders and cancels refused before they left: the function returned a negative DenyReason"),
    ("last_refusal", "the newest of those reasons"),
    ("denied", "orders denied by risk"),
    ("last_denial", "the newest of those reasons"),
    ("rejected", "orders rejected by the venue"),
    ("fills", "executions"),
    ("broken", "executions voided by the venue"),
    ("foreign_reports", "reports about orders of an earlier start of this strategy"),
    ("bad_reports", "reports or events dropped: their instrument is not in the table"),
    ("overruns", "times this strategy was too slow and lost market events"),
    ("rejoins", "times its books were made anew from the feed's"),
    ("starts", "times this strategy was started"),
    ("epoch", "instance epoch: part of its order ids, never used again"),
    ("levels_refused", "levels that found no room in the strategy's books; raise feed.levels_max"),
])  # fmt: skip

undo_dtype = layout("strategy_undo", 128, [
    ("seq", "i8"),                                # the report that is being applied; done when our head on ring.report says so
    ("orders", "i8"),                             # of its position row, before: of a NEW, REPLACED
    ("fills", "i8"),                              # the same, of a FILL, BROKEN
    ("pad", ("i8", (5,))),
    ("sums", ("i8", (4,))),                       # and SUMS_KEPT
    ("pad1", ("i8", (4,))),
])  # fmt: skip

SUMS_KEPT = ("bought_qty", "sold_qty", "bought_cash", "sold_cash")
assert position_dtype.names[: len(SUMS_KEPT)] == SUMS_KEPT

word_dtype = layout("word", 8, [("value", "i8")])
user_counters_dtype = layout("user_counters", 128, [("values", ("i8", (16,)))])


def parts(config, index: int) -> list[Part]:
    """Return the parts of the segment of strategy `index`."""
    return [
        Part("positions", position_dtype, config.instruments),
        Part("undo", undo_dtype, 1),
        Part("params", word_dtype, PARAMS_MAX),
        Part("state", word_dtype, STATE_MAX // 8),
        Part("user", user_counters_dtype, 1),
        Part("counters", strategy_counters_dtype, 1),
        Part("histograms", histogram_dtype, len(HISTOGRAMS)),
    ]
