"""THE records that travel through the rings: 64 bytes each, the last eight being the slot's own sequence number.

`ts_recv` is the time stamp counter at the receipt of the packet that caused the record; the `t_…` fields are ticks after it
(saturating at 2**32-1, 1.6 s at 2.6 GHz), stamped as each hop sends, so that every order carries its own latency breakdown.
Prices are int64 in the venue's scale (1e-4 of the currency for Nasdaq). Narrow fields are widened as they are loaded.
`seq` belongs to the ring: `commit` writes it, nobody else.
"""

from hftd.core.layout import layout, offset_of
from hftd.core.memory import span_dtype

SLOT = 64

# feed -> strategies, recorder
market_event_dtype = layout("market_event", SLOT, [
    ("ts_recv", "i8"),                            # ticks: receipt of the packet
    ("ts_event", "i8"),                           # ns since the venue's midnight
    ("px", "i8"),                                 # venue scale: of the level, or of the print
    ("qty", "i8"),                                # shares: the level's new total, or the print's size
    ("ref", "i8"),                                # venue's order reference that caused it, or the match number
    ("orders", "u4"),                             # LEVEL: orders at the level after the change
    ("instrument", "u2"),                         # index into the instrument table
    ("kind", "u1"),                               # EventKind
    ("flags", "u1"),                              # FLAG_…: side, end of packet, snapshot; BookState in the top bits
    ("t_feed", "u4"),                             # ticks after ts_recv when the feed published
    ("wire_seq", "u4"),                           # low 32 bits of the venue's sequence number
    ("seq", "i8"),                                # the ring's
])  # fmt: skip

FLAG_SELL = 1  # the side bit: 0 buy, 1 sell
FLAG_END_OF_PACKET = 2  # the last event that this packet causes for this instrument
FLAG_SNAPSHOT = 4  # part of a snapshot or of recovery, not live flow
FLAG_STATE_SHIFT = 4  # BookState in bits 4 and 5

# strategy -> risk
intent_dtype = layout("intent", SLOT, [
    ("ts_recv", "i8"),                            # ticks: the packet (or report) that made the strategy act
    ("cl_ord_id", "i8"),                          # ours: new, or for CANCEL the order meant (see ids.py)
    ("px", "i8"),                                 # venue scale
    ("qty", "u4"),                                # shares; REPLACE: the new total of the chain, executed shares included
    ("orig_seq", "u4"),                           # REPLACE: sequence part of the order that is replaced (same strategy, epoch)
    ("instrument", "u2"),
    ("kind", "u1"),                               # IntentKind
    ("side", "u1"),                               # Side
    ("tif", "u1"),                                # Tif
    ("flags", "u1"),                              # INTENT_…
    ("strategy", "u2"),                           # index
    ("t_feed", "u4"),                             # ticks after ts_recv when the feed published the cause
    ("t_strategy", "u4"),                         # ticks after ts_recv when the strategy published
    ("pad0", "i8"),
    ("seq", "i8"),
])  # fmt: skip

INTENT_SHORT = 1  # a sell that is marked short
INTENT_POST_ONLY = 2
INTENT_ANY_STATE = 4  # the strategy asked to trade although the book is not LIVE

# risk -> gateway
order_dtype = layout("order", SLOT, [
    ("ts_recv", "i8"),
    ("cl_ord_id", "i8"),
    ("px", "i8"),
    ("qty", "u4"),
    ("orig_seq", "u4"),
    ("instrument", "u2"),
    ("kind", "u1"),
    ("side", "u1"),
    ("tif", "u1"),
    ("flags", "u1"),
    ("strategy", "u2"),
    ("check", "u4"),                              # checksum over the fields and risk's running count (the ring's seq)
    ("t_feed", "u4"),
    ("t_strategy", "u4"),
    ("t_risk", "u4"),                             # ticks after ts_recv when risk published
    ("seq", "i8"),                                # also risk's running count of approved orders
])  # fmt: skip

# gateway -> strategies, risk, recorder; and risk -> the same, for denials
report_dtype = layout("report", SLOT, [
    ("ts_recv", "i8"),                            # ticks: receipt of the venue's message (of the intent, for a denial)
    ("ts_event", "i8"),                           # ns since the venue's midnight
    ("cl_ord_id", "i8"),
    ("px", "i8"),                                 # FILL: last price; else the order's price
    ("venue_id", "i8"),                           # order reference or match number (ExecType says which)
    ("qty", "u4"),                                # FILL, CANCELED: shares of this event; else the order's quantity
    ("leaves_qty", "u4"),                         # shares still open afterwards
    ("orig_seq", "u4"),                           # REPLACED: sequence part of the replaced order's id
    ("instrument", "u2"),
    ("exec_type", "u1"),                          # ExecType
    ("flags", "u1"),                              # REPORT_…: side, resting or aggressing
    ("seq", "i8"),
])  # fmt: skip

REPORT_SELL = 1
REPORT_REMOVED = 2  # FILL: we took liquidity

# any agent -> recorder
log_dtype = layout("log", SLOT, [
    ("ts", "i8"),                                 # ticks
    ("code", "i8"),                               # LogCode
    ("a", "i8"),                                  # what a..d mean is the code's to say (recorder/logs.py)
    ("b", "i8"),
    ("c", "i8"),
    ("d", "i8"),
    ("role", "i8"),                               # index of the agent's mark
    ("seq", "i8"),
])  # fmt: skip

RECORDS = {
    "market_event": market_event_dtype,
    "intent": intent_dtype,
    "order": order_dtype,
    "report": report_dtype,
    "log": log_dtype,
}

# feed -> whoever wants the top of a book at a glance: one seqlock cell per instrument (shm/seqlock.py)
quote_dtype = layout("quote", 128, [
    ("version", "i8"),                            # odd while the feed writes
    ("bid_px", "i8"),                             # venue scale; 0: side empty
    ("bid_qty", "i8"),
    ("ask_px", "i8"),
    ("ask_qty", "i8"),
    ("ts_event", "i8"),                           # ns since the venue's midnight
    ("ts_recv", "i8"),                            # ticks
    ("events", "i8"),                             # market events published for this instrument
    ("last_px", "i8"),                            # last print
    ("last_qty", "i8"),
    ("volume", "i8"),                             # shares printed today
    ("state", "i8"),                              # BookState
    ("trading", "i8"),                            # TradingState
    ("collar_low", "u4"), ("collar_high", "u4"),  # prices an order may have in the auction that ends a pause; 0: no collar
    ("breaker", "i8"),                            # level of a market-wide breaker in force for this instrument; 0: none
    ("last_match", "i8"),                         # match number of the last print; 0: not known
])  # fmt: skip

# cold at first, then read by all: which instruments there are
instrument_dtype = layout("instrument", 64, [
    ("symbol", "i8"),                             # eight ASCII bytes as they lie on the wire, space-padded
    ("locate", "i8"),                             # the venue's index of the day; -1 until announced
    ("tick", "i8"),                               # price increment, venue scale
    ("lot", "i8"),                                # round lot, shares
    ("scale", "i8"),                              # price units per currency unit (10_000 for Nasdaq)
    ("flags", "i8"),                              # INSTRUMENT_…
    # as the venue's directory has them, ASCII
    ("category", "u1"),                           # market it is listed on
    ("financial", "u1"),                          # financial status
    ("classification", "u1"),                     # class of issue
    ("threshold", "u1"),                          # 'Y': on the short sale threshold list
    ("ipo", "u1"),                                # 'Y': new by an IPO, 'Z': a new listing without one
    ("tier", "u1"),                               # '1' or '2': of the LULD reference price
    ("etp", "u1"),                                # 'Y': exchange traded product
    ("inverse", "u1"),                            # 'Y': an inverse one
    ("leverage", "u4"),                           # its leverage, rounded down
    ("sub_type", "u2"),                           # two characters, as on the wire
    ("pad0", "u2"),
])  # fmt: skip

INSTRUMENT_ANNOUNCED = 1
INSTRUMENT_SHORT_RESTRICTED = 2  # Reg SHO price test in force
INSTRUMENT_TEST = 4  # a test symbol: never traded
INSTRUMENT_ROUND_LOTS = 8  # trades in round lots only

# what the venue said about an instrument beside its book: the feed keeps one row each (seqlock cells, segment `market`), and each
# strategy makes its own from the events by the same function (msg/status.py)
status_dtype = layout("status", 256, [
    ("version", "i8"),                            # odd while the feed writes
    ("trading", "i8"),                            # TradingState
    ("reason", "i8"),                             # of the last trading action: four ASCII bytes as on the wire
    ("halted", "i8"),                             # 1: operational halt of this market
    ("short", "i8"),                              # 1: short sale price test in force
    ("breaker", "i8"),                            # level of a market-wide breaker, until trading resumes; 0: none
    ("collar_px", "i8"),                          # auction collar of a pause: reference price; 0: none
    ("collar_low", "i8"),                         # lowest price
    ("collar_high", "i8"),                        # highest price
    ("collar_extension", "i8"),                   # how often it was widened
    ("ipo_px", "i8"),                             # price of an IPO
    ("ipo_ns", "i8"),                             # release to quotation, ns since midnight; 0: cancelled or postponed
    ("ipo_qualifier", "i8"),                      # 'A' anticipated, 'C' cancelled or postponed; 0: no IPO
    ("retail", "i8"),                             # retail price improvement: 1 buy interest, 2 sell interest, 3 both
    ("listing_open", "i8"),                       # direct listing: 1 it may open
    ("listing_min", "i8"),                        # lowest allowable price
    ("listing_max", "i8"),                        # highest
    ("listing_px", "i8"),                         # near execution price
    ("listing_ns", "i8"),                         # near execution time, ns since midnight
    ("listing_low", "i8"),                        # lower price range collar
    ("listing_high", "i8"),                       # upper
    ("paired_qty", "i8"),                         # auction (NOII): shares paired at the reference price
    ("imbalance_qty", "i8"),                      # shares not paired; negative: to sell
    ("direction", "i8"),                          # 'B', 'S', 'N' none, 'O' insufficient orders, 'P' paused
    ("near_px", "i8"),                            # crosses auction and continuous orders; 0: none
    ("far_px", "i8"),                             # crosses auction orders alone; 0: none
    ("reference_px", "i8"),                       # current reference price
    ("auction", "i8"),                            # 'O' opening, 'C' closing, 'H' halt or IPO, 'A' extended close
    ("variation", "i8"),                          # 'L' less than 1 %, '1' … '9', 'A', 'B', 'C': how far near is from reference
    ("cross_px", "i8"),                           # last cross: price
    ("cross_qty", "i8"),                          # shares
    ("cross_type", "i8"),                         # 'O', 'C', 'H'; 0: none yet
])  # fmt: skip

session_dtype = layout("session", 64, [
    ("version", "i8"),                            # odd while the feed writes
    ("phase", "i8"),                              # the venue's last system event: 'O', 'S', 'Q', 'M', 'E', 'C'; 0: none yet
    ("breaker", "i8"),                            # highest level breached today; 0: none
    ("level_1", "i8"), ("level_2", "i8"), ("level_3", "i8"),  # of the market-wide circuit breaker, 1e-8; 0: not told yet
    ("pad0", "i8"), ("pad1", "i8"),
])  # fmt: skip

# what an instrument has done for us today: the gateway, risk, each strategy and the simulated exchange keep one row each, from
# their own view of the reports, and all must agree to the share and the cent
position_dtype = layout("position", 128, [
    ("bought_qty", "i8"),                         # shares
    ("sold_qty", "i8"),
    ("bought_cash", "i8"),                        # sum of px * qty, venue scale
    ("sold_cash", "i8"),
    ("fills", "i8"),
    ("orders", "i8"),                             # accepted by the venue (a replacement counts as one)
    ("open_buy_qty", "i8"),                       # shares of open orders, pending ones at their worst
    ("open_sell_qty", "i8"),
    ("open_buy_cash", "i8"),                      # px * qty of the same
    ("open_sell_cash", "i8"),
    ("open_orders", "i8"),
    ("broken", "i8"),                             # fills voided by the venue (taken back out of the sums above)
    ("last_fill_px", "i8"),
    ("pad", ("i8", (3,))),
])  # fmt: skip

SEQ_OFFSET = offset_of(market_event_dtype, "seq")

__all__ = [name for name in globals() if name.endswith("_dtype") or name.isupper()]

assert all(offset_of(kind, "seq") == SEQ_OFFSET for kind in RECORDS.values())
assert span_dtype.itemsize == 16
