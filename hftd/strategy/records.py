"""What a strategy's process keeps for itself: books, orders, and the views that callbacks are given. Private memory, one writer.

    books    book_dtype, one row per instrument: the best prices at hand, and two sides of levels
    levels   level_dtype, best last, in blocks that double when they are full (levels.py)
    orders   order_row_dtype, a table indexed by the low bits of an order's sequence number (orders.py)
    statuses status_dtype (msg/records.py), one row per instrument: what the venue said beside the book
    views    trade_dtype, fill_dtype, change_dtype, notice_dtype: filled before a callback, good until it returns

A strategy's decision depends on nothing else: market events and reports go in, intents come out, and a replay of the same input
gives the same output. Prices are int64 in the venue's scale (1e-4 of the currency for Nasdaq), quantities shares.
"""

from hftd.core.clock import clock_dtype
from hftd.core.layout import layout
from hftd.core.memory import span_dtype
from hftd.msg.records import session_dtype
from hftd.shm.ring import consumer_dtype, producer_dtype

level_dtype = layout("level", 24, [
    ("key", "i8"),                                # px of a bid, -px of an ask: the larger, the better
    ("qty", "i8"),                                # shares displayed
    ("orders", "i8"),                             # orders displayed
])  # fmt: skip

side_dtype = layout("side", 40, [
    ("base", "i8"),                               # address of the first (worst) level
    ("count", "i8"),                              # levels in use; the best is row count - 1
    ("room", "i8"),                               # levels the block holds
    ("first", "i8"),                              # row of our newest open order on this side; 0: none
    ("own", "i8"),                                # a bit for each price at which one of them may be (`price_bit` in orders.py)
])  # fmt: skip

book_dtype = layout("book", 256, [
    ("instrument", "i8"),                         # index
    ("bid_px", "i8"),                             # best bid; 0: no bid
    ("bid_qty", "i8"),
    ("ask_px", "i8"),                             # best ask; 0: no ask
    ("ask_qty", "i8"),
    ("last_px", "i8"),                            # last print; 0: none yet
    ("last_qty", "i8"),
    ("volume", "i8"),                             # shares printed today
    ("ts_event", "i8"),                           # ns since the venue's midnight: last event
    ("tick", "i8"),                               # price increment
    ("lot", "i8"),                                # round lot, shares
    ("state", "i8"),                              # BookState
    ("trading", "i8"),                            # TradingState
    ("end_of_packet", "i8"),                      # 1: no more events of this instrument in the packet
    ("events", "i8"),                             # market events applied
    ("dirty", "i8"),                              # the host's: changed since on_book was last called
    ("subscribed", "i8"),                         # the host's: 1 where this strategy follows the instrument
    ("newest_ref", "i8"),                         # the host's: largest order reference seen
    ("skip_to", "i8"),                            # the host's: number of the last message our copy has; -1: we are past it
    ("skip_before", "i8"),                        # the host's: ring.md before this record is in our copy
    ("pad", ("i8", (2,))),
    ("sides", (side_dtype, (2,))),                # bids, asks
])  # fmt: skip

arena_dtype = layout("arena", 256, [
    ("fresh", "i8"),                              # address of the first byte never handed out
    ("end", "i8"),                                # address after the last
    ("refused", "i8"),                            # times a level found no room
    ("used", "i8"),                               # bytes handed out, ever
    ("free", ("i8", (28,))),                      # free blocks of FIRST_ROOM << k levels, linked through their first word
])  # fmt: skip

order_row_dtype = layout("order_row", 192, [
    ("id", "i8"),                                 # cl_ord_id; 0: row never used
    ("status", "i8"),                             # OrdStatus
    ("px", "i8"),
    ("qty", "i8"),                                # shares asked for, those already executed before a replace included
    ("leaves_qty", "i8"),                         # shares still open
    ("cum_qty", "i8"),                            # shares executed, predecessors' included
    ("instrument", "i8"),
    ("side", "i8"),
    ("tif", "i8"),
    ("orig_id", "i8"),                            # the order this one replaces; 0: none
    ("next_id", "i8"),                            # the order that replaces this one; 0: none
    ("venue_id", "i8"),                           # the venue's order reference; 0: not accepted yet
    ("ahead_qty", "i8"),                          # estimate of the shares queued before ours; -1: not known
    ("ahead_ref", "i8"),                          # orders at our price with references up to this one stand before us
    ("sent_ns", "i8"),                            # utc ns of the cause that made us send it
    ("open", "i8"),                               # 1 until terminal
    ("next", "i8"), ("prev", "i8"),               # rows: open orders of one side of one instrument
    ("held_qty", "i8"),                           # what the position row counts as open for this order
    ("held_cash", "i8"),
    ("shown", "i8"),                              # 1: the book we see has it
    ("pad", ("i8", (3,))),
])  # fmt: skip

trade_dtype = layout("trade", 64, [
    ("instrument", "i8"),
    ("px", "i8"),
    ("qty", "i8"),
    ("side", "i8"),                               # of the resting order: BUY means that somebody sold into the bid
    ("ref", "i8"),                                # resting order's reference; hidden: match number
    ("hidden", "i8"),                             # 1: touched no displayed order, or came from a cross
    ("ts_event", "i8"),
    ("cross", "i8"),                              # 'O' opening, 'C' closing, 'H' halt or IPO cross; 0: no cross
])  # fmt: skip

fill_dtype = layout("fill", 128, [
    ("id", "i8"),                                 # cl_ord_id
    ("kind", "i8"),                               # ExecType: NEW, FILL, CANCELED, REPLACED, REJECTED, DENIED, …
    ("instrument", "i8"),
    ("side", "i8"),
    ("px", "i8"),                                 # FILL: last price; else the order's
    ("qty", "i8"),                                # FILL, CANCELED: shares of this event; else the order's
    ("leaves_qty", "i8"),                         # shares still open
    ("cum_qty", "i8"),                            # shares executed so far
    ("status", "i8"),                             # OrdStatus afterwards
    ("orig_id", "i8"),                            # REPLACED, REPLACE_REJECTED: the order that was to be replaced
    ("reason", "i8"),                             # DENIED: DenyReason; REJECTED: the venue's code
    ("removed", "i8"),                            # FILL: 1 where we took liquidity
    ("position", "i8"),                           # this strategy's in the instrument, afterwards
    ("venue_id", "i8"),
    ("ts_event", "i8"),
    ("pad0", "i8"),
])  # fmt: skip

change_dtype = layout("change", 32, [
    ("instrument", "i8"),
    ("book", "i8"),                               # BookState
    ("trading", "i8"),                            # TradingState
    ("pad0", "i8"),
])  # fmt: skip

notice_dtype = layout("notice", 64, [
    ("kind", "i8"),                               # EventKind: STATUS, IMBALANCE, COLLAR, IPO, …
    ("instrument", "i8"),                         # -1: concerns all (SYSTEM, BREAKER_LEVELS)
    ("px", "i8"), ("qty", "i8"), ("ref", "i8"), ("orders", "i8"),  # as the kind has them: hftd/feed/README.md
    ("ts_event", "i8"),
    ("pad0", "i8"),
])  # fmt: skip

strategy_agent_dtype = layout("strategy_agent", 1344, [
    ("md", consumer_dtype),
    ("reports", consumer_dtype),
    ("denials", consumer_dtype),
    ("intents", producer_dtype),
    ("clock", clock_dtype),                       # our own copy, refreshed between slices
    ("arena", arena_dtype),
    ("books", span_dtype),                        # book_dtype, by instrument
    ("orders", span_dtype),                       # order_row_dtype, a power of two
    ("positions", span_dtype),                    # position_dtype in the strategy's segment
    ("instruments", span_dtype),                  # instrument_dtype in the segment `market`
    ("wanted", span_dtype),                       # symbols this strategy follows (i8); none: all
    ("errors", span_dtype),
    ("run_at", "i8"),                             # run_dtype in the control segment
    ("params_at", "i8"),
    ("state_at", "i8"),
    ("states_at", "i8"),                          # one instrument_state record per instrument
    ("counters_at", "i8"),
    ("histograms_at", "i8"),
    ("user_at", "i8"),                            # the strategy's own counters
    ("index", "i8"),                              # of the strategy
    ("epoch", "i8"),
    ("sequence", "i8"),                           # last sequence number used
    ("open_orders", "i8"),
    ("open_max", "i8"),                           # orders that may be open at once
    ("timer_at", "i8"),                           # ticks; 0: not set
    ("started", "i8"),                            # 1 once on_start was called; 2: on_state is to tell of books made anew
    ("venue_ns", "i8"),                           # ns since the venue's midnight: last event
    ("calls", "i8"),                              # on_book calls, for sampling their time
    ("cut_off", "i8"),                            # 1 between being detached from ring.md and joining again
    ("disabled", "i8"),                           # 1: reports were lost; nothing new is sent
    ("statuses", span_dtype),                     # status_dtype, by instrument: made from events, our own
    ("skip_before", "i8"),                        # records of ring.md before this one are in our copy of `session`
    ("undo_at", "i8"),                            # undo_dtype in the strategy's segment
    ("pad", ("i8", (18,))),
    ("trade", trade_dtype),
    ("fill", fill_dtype),
    ("change", change_dtype),
    ("session", session_dtype),                   # what concerns all instruments, our own
    ("notice", notice_dtype),
])  # fmt: skip
