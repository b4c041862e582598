"""What risk keeps in shared memory: limits, exposure, positions and every open order. Risk alone writes it (and, before it
starts, `ledger.begin`); anybody may read.

    limits      one line an instrument: what may be ordered. Written by cold code, read by every check
    exposures   one line an instrument: what an order on it would meet: mark, profit, own best prices, list of open orders
    positions   what the account has done today, and what is open (position_dtype)
    account     sums and limits of the whole account, and the message-rate window
    window      messages sent, counted by slices of 1/64 s
    strategies  one line a strategy: switched on or off, its last order id, its counts
    orders      every open order (a pool), `buckets` its hash by cl_ord_id
    fills       the fills seen lately, so that none is counted twice
    carried     by symbol, what is held from before this run: the day's opening position and earlier runs of the day (ledger.py)
    undo        what the report that is being applied changes, as it was before: a crash in its middle is taken back

All of it outlives a crash of the risk process, so the next one takes up where the last one stood (`setup.py`).
"""

from hftd.core.layout import layout
from hftd.msg.enums import DenyReason
from hftd.msg.records import position_dtype
from hftd.shm.control import STRATEGIES_MAX
from hftd.shm.counters import counters
from hftd.shm.histogram import histogram_dtype
from hftd.shm.segment import Part

PX_MAX = 1 << 40
"""Prices at or above this are refused before they are multiplied: px * qty then fits 60 bits for any legal quantity."""

QTY_MAX = 999_999
"""The largest quantity that OUCH carries."""

SLICES = 128
"""Rows of the rate window; 65 of them are in it at a time."""

FILLS = 1 << 13
"""Rows of the table of recent fills."""

limits_dtype = layout("limits", 64, [
    ("armed", "i8"),                              # 1: announced by the venue, and the limits below are this instrument's
    ("qty_max", "i8"),                            # shares an order may have open
    ("notional_max", "i8"),                       # px * qty of an order, venue scale
    ("position_max", "i8"),                       # |shares| held if every open order on a side were filled
    ("collar_bps", "i8"),                         # how far from the book a price may be
    ("tick", "i8"),                               # price increment, venue scale, > 0
    ("stale_ticks", "i8"),                        # market data older than this denies
    ("symbol", "i8"),                             # instrument_dtype's when it was first armed, and for good; 0: never armed
])  # fmt: skip

exposure_dtype = layout("exposure", 64, [
    ("mark_px", "i8"),                            # price the position is valued at; 0: none known yet
    ("held_cash", "i8"),                          # |position| * mark_px, as it stands in account.held_cash
    ("pnl", "i8"),                                # realised and marked, as it stands in account.pnl
    ("own_bid_px", "i8"),                         # no own open buy order is above this; 0: none
    ("own_ask_px", "i8"),                         # no own open sell order is below this; NO_ASK: none
    ("first", "i8"),                              # first of this instrument's open orders; 0: none
    ("carried_qty", "i8"),                        # shares held from before this run (carried_dtype)
    ("carried_cash", "i8"),                       # sold less bought before this run, the opening position bought at its price
])  # fmt: skip

NO_ASK = 1 << 62

account_dtype = layout("account", 256, [
    ("open_cash", "i8"),                          # sum of px * qty of open orders, pending ones at their worst
    ("held_cash", "i8"),                          # sum of |position| * mark
    ("pnl", "i8"),                                # realised and marked, venue scale
    ("open_orders", "i8"),
    ("gross_max", "i8"),                          # limit on open_cash + held_cash
    ("loss_max", "i8"),                           # limit on -pnl
    ("open_orders_max", "i8"),
    ("loss_latched", "i8"),                       # ticks when the loss limit was reached; 0: not today
    ("window_total", "i8"),                       # messages in the window
    ("window_at", "i8"),                          # number of the slice that runs
    ("window_end", "i8"),                         # ticks when it ends
    ("slice_ticks", "i8"),                        # length of a slice: 1/64 s, rounded up
    ("rate_max", "i8"),                           # messages a window may have
    ("report_seq", "i8"),                         # reports applied: where a restart goes on
    ("self_cross", "i8"),                         # 1: orders that would trade with our own are denied
    ("cap", "i8"),                                # value of one position at which its sums saturate
    ("day", "i8"),                                # trading day of these positions, days since 1970-01-01; 0: nobody began one
    ("marked_at", "i8"),                          # next instrument of the sweep that revalues positions
    ("entering", "i8"),                           # row of the order that is being approved; 0: none (a crash in between)
    ("session", ("u1", (16,))),                   # order entry session the day's trades were done in; empty: none yet
    ("session_is", "i8"),                         # SESSION_…
    ("earlier", "i8"),                            # EARLIER_…: how the carried trades stand to the venue's replay
    ("earlier_seen", "i8"),                       # 1 + the gateway's earlier_version that was taken up; 0: none yet
    ("lost", "i8"),                               # 1: reports went by unread, or cannot be; no new risk until started anew
    ("breaker", "i8"),                            # level of the market-wide breaker that was acted upon; 0: none
    ("pad", ("i8", (6,))),
])  # fmt: skip

SESSION_WHOLE, SESSION_SEVERAL, SESSION_SPANS, SESSION_BEFORE = range(4)
"""`session` has the day's trades and no others; is the newest of several that have some; has trades from before the opening
position, too; is the one of the ledger of an earlier day."""

EARLIER_NONE, EARLIER_AGREED, EARLIER_CORRECTED, EARLIER_DISPUTED, EARLIER_APART = range(5)
"""Not compared yet; the ledger was right; the venue's word took its place; they contradict each other: the kill switch was
pulled; they cannot be compared, since the session has trades from before the opening position."""

carried_dtype = layout("carried", 128, [
    ("symbol", "i8"),                             # eight ASCII bytes; 0: row is free
    ("row", "i8"),                                # its instrument plus 1; 0: the venue has not announced it
    ("opening_qty", "i8"),                        # shares held before the day's first trade
    ("opening_cash", "i8"),                       # the same times their average price
    ("bought_qty", "i8"),                         # earlier runs of the day, like position_dtype's
    ("sold_qty", "i8"),
    ("bought_cash", "i8"),
    ("sold_cash", "i8"),
    ("fills", "i8"),
    ("orders", "i8"),
    ("mark_px", "i8"),                            # price it was last valued at
    ("pad", ("i8", (5,))),
])  # fmt: skip

FIGURES = carried_dtype.names[2:-1]
"""What the day's ledger says of a symbol."""

CARRIED_SPARE = 64
"""Rows of `carried` beyond one for each instrument: symbols that left the universe during the day."""

undo_dtype = layout("undo", 384, [
    ("seq", "i8"),                                # the report that is being applied; done when account.report_seq says so
    ("instrument", "i8"),
    ("order", "i8"),                              # row of the order it is about; 0: none
    ("fill", "i8"),                               # row of `fills` it was noted in, plus 1; 0: none
    ("orig", "i8"),                               # row of the order that one is to replace; 0: none
    ("pad0", ("i8", (3,))),
    ("position", position_dtype),                 # the position row before
    ("before", ("i8", (8,))),                     # the order row before
    ("replaced", ("i8", (8,))),                   # the row of `orig` before
    ("pad1", ("i8", (8,))),
])  # fmt: skip

strategy_row_dtype = layout("strategy_row", 128, [
    ("state", "i8"),                              # STRATEGY_…
    ("last_id", "i8"),                            # highest cl_ord_id seen: ids only grow
    ("open_orders", "i8"),
    ("approved", "i8"),
    ("denied", "i8"),
    ("cancels", "i8"),
    ("cancel_wanted", "i8"),                      # 1: cold code asks the turn to cancel all of this strategy's orders
    ("canceled_all", "i8"),                       # how often it did
    ("starts", "i8"),                             # its mark's, when last looked at; 0: never
    ("pad", ("i8", (7,))),
])  # fmt: skip

STRATEGY_NONE, STRATEGY_ON, STRATEGY_OFF, STRATEGY_DEAD, STRATEGY_OVERRUN = 0, 1, 2, 3, 4
"""No such strategy; may trade; switched off by an operator; its process is gone or hangs; it was detached from a ring."""

risk_order_dtype = layout("risk_order", 64, [
    ("id", "i8"),                                 # cl_ord_id; 0: row is free
    ("px", "i8"),
    ("hold_cash", "i8"),                          # what it counts for in account.open_cash
    ("hold_qty", "i4"),                           # what it counts for in open_…_qty: its open shares, or a replacement's excess
    ("qty", "i4"),                                # a replacement's total of the chain, executed shares included
    ("executed", "i4"),                           # shares the chain has traded
    ("next", "i4"),                               # free list, and chain of a hash bucket
    ("orig", "i4"),                               # row of the order this one is to replace; 0: it stands by itself
    ("successor", "i4"),                          # row of the replacement under way; 0: none
    ("before", "i4"), ("after", "i4"),            # neighbours in the instrument's list
    ("instrument", "u2"),
    ("side", "u1"),
    ("status", "u1"),                             # OrdStatus
    ("strategy", "u2"),
    ("depth", "u1"),                              # replacements under way before this one
    ("marked", "u1"),                             # 1: a sale that is marked short
])  # fmt: skip

fill_dtype = layout("fill", 16, [
    ("match", "i8"),
    ("cl_ord_id", "i8"),
])  # fmt: skip

slice_dtype = layout("slice", 8, [("count", "i8")])
bucket_dtype = layout("bucket", 4, [("row", "i4")])

_DENIALS = [(f"denied_{reason.name.lower()}", f"intents denied: {reason.name}") for reason in DenyReason if reason]

risk_counters_dtype = counters("risk", [
    ("intents", "intents read"),
    ("approved", "orders and cancels passed on: the order ring's sequence"),
    ("denied", "intents denied"),
    ("orders", "new orders approved"),
    ("replaces", "replaces approved"),
    ("cancels", "cancels passed on"),
    ("cancels_unknown", "cancels of orders risk holds for finished, passed on"),
    ("cancel_alls", "cancels of everything a strategy has open, its own wish or risk's"),
    ("reports", "reports applied"),
    ("reports_unknown", "reports about orders risk does not hold"),
    ("reports_impossible", "reports with a price or quantity that no order can have: not applied, no new risk any more"),
    ("adopted", "orders risk did not hold until a report spoke of them"),
    ("fills", "fills counted"),
    ("fills_repeated", "fills reported twice, counted once"),
    ("excess_leaves", "reports with more open shares than were ordered"),
    ("quotes_torn", "checks that could not read the quote cell whole"),
    ("deny_overruns", "strategies detached from the denial ring: too slow"),
    ("orders_peak", "most rows of the order table in use"),
    *_DENIALS,
])  # fmt: skip
"""The last counters are one for each DenyReason, in its order: reason r is `DENIED_AT + r`."""

DENIED_AT = risk_counters_dtype.names.index("denied_killed") - 1
"""Index of the counter of reason 0, which does not exist: add the reason."""

HISTOGRAMS = ("risk: intent published to order published", "risk: packet received to order published")
"""Histograms of the segment, in ticks."""

for _reason in DenyReason:
    assert not _reason or risk_counters_dtype.names[DENIED_AT + _reason] == f"denied_{_reason.name.lower()}"


def cash_cap(instruments: int) -> int:
    """Return the value of one position at which its sums saturate, venue scale: so many of them fit an int64."""
    return 1 << (61 - max(instruments - 1, 1).bit_length())


def parts(config) -> list[Part]:
    """Return the parts of the stage's segment."""
    n, orders = config.instruments, config.gateway.orders_max
    return [
        Part("account", account_dtype, 1),
        Part("limits", limits_dtype, n),
        Part("exposures", exposure_dtype, n),
        Part("positions", position_dtype, n),
        Part("strategies", strategy_row_dtype, STRATEGIES_MAX),
        Part("window", slice_dtype, SLICES),
        Part("orders", risk_order_dtype, orders + 1),
        Part("buckets", bucket_dtype, 2 * orders),
        Part("fills", fill_dtype, FILLS),
        Part("undo", undo_dtype, 1),
        Part("counters", risk_counters_dtype, 1),
        Part("histograms", histogram_dtype, len(HISTOGRAMS)),
        Part("carried", carried_dtype, n + CARRIED_SPARE),
    ]
