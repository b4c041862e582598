"""Every record of the simulated exchange. One process, one thread: nothing here is shared, all of it is private memory.

`exchange_dtype` is the one handle that hot code passes around; it holds the pools, the tables and the streams below.

    orders  pool   one row per order that is alive, ours or the flow's; FIFO in its level by next/prev
    levels  pool   one row per price with orders, best first by next/prev; a half-book's best is in `halves`
    refs    cells  order reference -> order row            (open addressing, no tombstones)
    owns    cells  account << 32 | UserRefNum -> order row (open orders of accounts)
    stocks  cells  eight symbol bytes -> locate
    tape    stream every ITCH message of the session, framed as MoldUDP64 blocks: what the lines send is a slice of it, and so is
                   the answer to a retransmission request
    account.stream the same for an account's OUCH messages, framed as SoupBinTCP packets: a reconnect replays a slice of it

All integers are i8 where hot code does arithmetic, so that every function is compiled for one type only.
"""

from hftd.core.clock import clock_dtype
from hftd.core.idle import idle_dtype
from hftd.core.layout import layout, packed
from hftd.core.memory import span_dtype
from hftd.shm.pool import pool_dtype

ACCOUNTS = 17
"""Rows of the account table. Row 0 is the market: the flow that is nobody's account."""

INBOX = 1 << 17
"""Bytes kept of what an account sent and is not handled yet: one packet of the largest size fits."""

OWN_BYTES = 64
"""More than what canceling one order writes to any one stream."""

PACKETS = 32
"""Datagrams handed to the kernel in one sendmmsg."""

HELD = 256
"""Datagrams a line may hold back at once (faults: delay, reorder)."""

stream_dtype = layout("sim_stream", 64, [
    ("base", "i8"),                               # address of the first byte
    ("capacity", "i8"),                           # bytes; as many again as a scratch message lie behind it
    ("tail", "i8"),                               # bytes written
    ("count", "i8"),                              # messages written; the first is number 1
    ("index", "i8"),                              # address of i8[rows]: byte offset of message n at n - 1
    ("rows", "i8"),
    ("overflow", "i8"),                           # messages that found no room: the session is void
    ("pad0", "i8"),
])  # fmt: skip

cell_dtype = layout("sim_cell", 16, [("key", "i8"), ("value", "i8")])

order_dtype = layout("sim_order", 176, [
    ("ref", "i8"),                                # day-unique reference, as published
    ("px", "i8"),                                 # 1e-4
    ("left", "i8"),                               # shares open in this book
    ("hist", "i8"),                               # replay: shares that history says are left; 0 for an account's order
    ("next", "i8"),                               # behind this one in its level; the pool's free list
    ("prev", "i8"),                               # ahead of this one
    ("level", "i8"),                              # row of its level; 0: not in the book
    ("account", "i8"),                            # 0: the market's
    ("locate", "i8"),
    ("side", "i8"),                               # Side
    ("slot", "i8"),                               # synthetic: place in the symbol's list of the market's live orders
    ("own_next", "i8"),                           # the account's open orders
    ("own_prev", "i8"),
    ("log", "i8"),                                # row in the order log
    ("user_ref", "i8"),                           # OUCH UserRefNum
    ("arrival", "i8"),                            # grows with every order that ever came: time priority
    ("executed", "i8"),                           # shares executed in the whole chain of replacements
    ("canceled", "i8"),                           # shares of the chain taken away by cancels
    ("side_code", "u1"),                          # B S T E
    ("tif", "u1"),
    ("display", "u1"),
    ("capacity", "u1"),
    ("iso", "u1"),
    ("cross_type", "u1"),
    ("post_only", "u1"),                          # 1: may not take
    ("ioc", "u1"),                                # 1: what does not trade at once is canceled
    ("cl_ord_id", ("u1", (14,))),
    ("pad0", ("u1", (2,))),
    ("firm", "u4"),                               # four wire bytes; blanks: the account's default
    ("pad1", ("u1", (4,))),
])  # fmt: skip

level_dtype = layout("sim_level", 80, [
    ("px", "i8"),
    ("qty", "i8"),
    ("orders", "i8"),
    ("own", "i8"),                                # orders of accounts among them
    ("head", "i8"),                               # first order in time
    ("tail", "i8"),
    ("next", "i8"),                               # the next worse price; the pool's free list
    ("prev", "i8"),                               # the next better price
    ("locate", "i8"),
    ("side", "i8"),
])  # fmt: skip

half_dtype = layout("sim_half", 32, [
    ("best", "i8"),                               # row of the best level; 0: none
    ("levels", "i8"),
    ("orders", "i8"),
    ("own", "i8"),                                # orders of accounts
])  # fmt: skip

symbol_dtype = layout("sim_symbol", 128, [
    ("stock", "i8"),                              # eight wire bytes; 0: not announced
    ("state", "i8"),                              # trading state as on the wire: T H P Q; 0: never said
    ("base_px", "i8"),                            # synthetic: where the walk began
    ("tick", "i8"),                               # 1e-4
    ("live", "i8"),                               # synthetic: address of i8[LIVE_MAX], rows of the market's live orders
    ("live_count", "i8"),
    ("lean", "i8"),                               # synthetic: -1000..1000, where takers push
    ("last_px", "i8"),                            # of the last print
    ("last_qty", "i8"),
    ("last_match", "i8"),                         # match number of the last hidden print, for a later break; 0: none
    ("trades", "i8"),
    ("shares", "i8"),
    ("opened", "i8"),                             # own orders were ever in this book
    ("fair", "i8"),                               # synthetic: what the market thinks it is worth, in half ticks of price
    ("pad0", "i8"), ("pad1", "i8"),
])  # fmt: skip

account_dtype = layout("sim_account", 320, [
    ("stream", stream_dtype),
    ("name", "i8"),                               # user name, ASCII, at most 6 bytes
    ("fd", "i8"),                                 # -1: nobody is logged in
    ("sent", "i8"),                               # bytes of the stream this connection was given
    ("inbox", "i8"),                              # address of INBOX bytes
    ("fill", "i8"),                               # bytes in it
    ("user_ref", "i8"),                           # the last UserRefNum used
    ("heard", "i8"),                              # ticks: last bytes received
    ("said", "i8"),                               # ticks: last bytes sent
    ("own", "i8"),                                # first of its open orders
    ("own_count", "i8"),
    ("disabled", "i8"),                           # 1: order entry disabled by its owner
    ("lost_fd", "i8"),                            # a connection that ended, for cold code to close; -1: none
    ("lost_why", "i8"),                           # LOST_…
    ("logins", "i8"),
    ("received", "i8"),                           # OUCH messages
    ("entered", "i8"),                            # Enter Orders accepted
    ("replaced", "i8"),
    ("canceled", "i8"),                           # orders canceled, by whatever cause
    ("rejected", "i8"),
    ("ignored", "i8"),                            # silently ignored, as the specification says
    ("malformed", "i8"),
    ("fills", "i8"),                              # Executed messages
    ("self_trades", "i8"),                        # trades with itself
    ("disconnects", "i8"),                        # connections lost without a logout
    ("swept", "i8"),                              # orders canceled because the connection was lost
    ("bytes_in", "i8"),
    ("logged_out", "i8"),                         # 1: the last connection ended with a Logout Request
    ("until_drop", "i8"),                         # fault: OUCH messages left before the connection is dropped; 0: never
    ("pad0", ("i8", (4,))),
])  # fmt: skip

order_log_dtype = layout("sim_order_log", 128, [
    ("account", "i8"), ("user_ref", "i8"),
    ("orig_user_ref", "i8"),                      # the order this one replaced; 0: none
    ("ref", "i8"), ("locate", "i8"), ("side", "i8"), ("px", "i8"),
    ("qty", "i8"),                                # outstanding when it was accepted
    ("filled", "i8"), ("cash", "i8"),             # cash: sum of px * qty of its fills
    ("canceled", "i8"),                           # shares
    ("state", "i8"),                              # ORDER_…
    ("reason", "i8"),                             # OUCH cancel reason of a canceled order
    ("ts", "i8"), ("ts_end", "i8"),               # ns since midnight
    ("pad0", "i8"),
])  # fmt: skip

fill_log_dtype = layout("sim_fill_log", 96, [
    ("ts", "i8"), ("match", "i8"), ("locate", "i8"), ("px", "i8"), ("qty", "i8"),
    ("maker", "i8"), ("maker_ref", "i8"),         # account (0: the market) and its UserRefNum
    ("taker", "i8"), ("taker_ref", "i8"),
    ("maker_side", "i8"),
    ("seq", "i8"),                                # of the ITCH message that published it
    ("pad0", "i8"),
])  # fmt: skip

ORDER_OPEN, ORDER_FILLED, ORDER_CANCELED, ORDER_REPLACED = 0, 1, 2, 3
LOST_PEER, LOST_ERROR, LOST_DEAD, LOST_LOGOUT, LOST_MALFORMED, LOST_FAULT, LOST_END = 1, 2, 3, 4, 5, 6, 7

growing_dtype = layout("sim_growing", 32, [
    ("base", "i8"), ("rows", "i8"), ("count", "i8"), ("overflow", "i8"),
])  # fmt: skip

held_dtype = layout("sim_held", 64, [
    ("busy", "i8"),
    ("due", "i8"),                                # ticks; 0: by `after`
    ("after", "i8"),                              # the line's packet count at which it goes
    ("sequence", "i8"), ("count", "i8"),
    ("offset", "i8"), ("size", "i8"),             # its blocks: a slice of the tape
    ("pad0", "i8"),
])  # fmt: skip

line_dtype = layout("sim_line", 192, [
    ("fd", "i8"),                                 # connected to the group; -1: no such line
    ("last", "i8"),                               # ticks of the last datagram
    ("packets", "i8"), ("bytes", "i8"), ("heartbeats", "i8"),
    ("errors", "i8"),                             # datagrams the kernel refused
    ("faulty", "i8"),                             # 1: any of the faults below is asked for
    ("loss", "i8"), ("duplicate", "i8"), ("reorder", "i8"), ("delay", "i8"),  # parts in a million
    ("delay_ticks", "i8"),
    ("lost", "i8"), ("duplicated", "i8"), ("reordered", "i8"), ("delayed", "i8"),
    ("random", "i8"), ("random2", "i8"),          # generator of its own, so that a seed gives the same faults
    ("held", span_dtype),
    ("holding", "i8"),                            # rows of `held` that are busy
    ("pad0", ("i8", (3,))),
])  # fmt: skip

PHASE_PLAY, PHASE_SOW, PHASE_OPEN, PHASE_FLOW, PHASE_CLOSE = 0, 1, 2, 3, 4
"""A replay is all PLAY. A synthetic day: reference data, the books before the open, the opening, the flow, the end of the day."""

SOURCE_NONE, SOURCE_REPLAY, SOURCE_SYNTHETIC = 0, 1, 2

exchange_dtype = layout("exchange", 1536, [
    ("tape", stream_dtype),
    ("orders", pool_dtype),
    ("levels", pool_dtype),
    ("clock", clock_dtype),
    ("idle", idle_dtype),
    ("lines", (line_dtype, (2,))),
    ("order_log", growing_dtype),
    ("fill_log", growing_dtype),
    ("admin", growing_dtype),                     # i8 rows: tape offsets of S R H Y h L messages, for the snapshot server
    ("refs", span_dtype), ("owns", span_dtype), ("stocks", span_dtype),  # cells; counts are powers of two
    ("symbols", span_dtype), ("halves", span_dtype), ("positions", span_dtype), ("accounts", span_dtype),
    # the venue's day
    ("ts", "i8"),                                 # ns since midnight: stamp of whatever is published now
    ("ref_next", "i8"),                           # reference of the next order that is ours to number
    ("match_next", "i8"),
    ("tick_min", "i8"),                           # accounts' prices of a dollar or more are multiples of it
    # the source
    ("source", "i8"),                             # SOURCE_…
    ("holding", "i8"),                            # 1: the flow waits (for a log-in)
    ("done", "i8"),                               # 1: the flow has ended
    ("start", "i8"),                              # ticks when the flow began
    ("next_due", "i8"),                           # ns after the start when the source's next event is due
    ("next_ts", "i8"),                            # its stamp
    ("last_due", "i8"), ("last_ts", "i8"),        # of the event before it
    ("data", "i8"), ("data_size", "i8"), ("position", "i8"), ("number", "i8"),  # replay: file in memory, offset, messages done
    ("due", "i8"),                                # replay: address of i8[messages], ns after the start; 0: at once
    ("rate", "i8"),                               # at once: at most so many messages a second; 0: no limit
    ("speed", "f8"),                              # synthetic: venue ns per real ns; 0: at once
    ("random", "i8"), ("random2", "i8"),
    ("table", "i8"),                              # synthetic: calibration_dtype record
    ("live_symbols", "i8"),                       # synthetic: locates 1..n
    ("active", "i8"),                             # synthetic: locate of the present burst
    ("until_ts", "i8"),                           # synthetic: the flow ends at this stamp
    ("until_count", "i8"),                        # synthetic: or after so many messages; 0: no limit
    ("phase", "i8"),                              # PHASE_… of the day
    ("cut_1", "i8"), ("cut_2", "i8"),             # synthetic: where in `data` the prelude and the opening end
    ("seeded", "i8"),                             # synthetic: seed orders sown
    ("seed_ts", "i8"), ("open_ts", "i8"),         # synthetic: stamps of the first seed order and of the open
    ("account_count", "i8"),                      # rows of the account table in use, row 0 included
    ("poll_cold", "i8"),                          # the first so many pollfds are cold code's: listening sockets, log-ins
    ("touched", "i8"),                            # replay: 1 since an account's order first met the book
    # the wire
    ("session_a", "i8"), ("session_b", "i8"),
    ("sent_bytes", "i8"), ("sent_seq", "i8"),     # of the tape: given to the lines so far, and the next sequence
    ("messages", "i8"), ("vectors", "i8"), ("headers", "i8"),  # mmsghdr[PACKETS], iovec[2 * PACKETS], 32-byte headers
    ("ending", "i8"),                             # 1: heartbeats say end of session
    ("beat_ticks", "i8"),                         # a second
    ("dead_ticks", "i8"),                         # silence after which a client is dropped
    ("request_fd", "i8"), ("request_messages", "i8"), ("requests", "i8"), ("request_bad", "i8"), ("answered", "i8"),
    ("request_loss", "i8"),                       # fault: parts in a million of the answers that are not sent
    ("polls", "i8"), ("poll_count", "i8"),        # pollfd[], rebuilt by cold code
    ("cancel_on_disconnect", "i8"),
    ("reject", "i8"),                             # fault: parts in a million of the entered orders that are rejected
    ("closing", "i8"),                            # 1: a connection ended, cold code has work
    # what happened
    ("published", "i8"), ("flow_events", "i8"), ("own_trades", "i8"), ("flow_trades", "i8"), ("self_trades", "i8"),
    ("dropped", "i8"),                            # replay: messages of history about shares we took
    ("altered", "i8"),                            # replay: messages of history that went out changed
    ("capped", "i8"),                             # replay: shares of historical executions that found nothing left
    ("orphans", "i8"),                            # orders for which a pool had no row: the session is void
    ("bad", "i8"),                                # replay: malformed messages in the file, passed on untouched
    ("turns", "i8"),
    ("scratch", "i8"),
    ("sleeps", "i8"),
    ("arrivals", "i8"),                           # orders that ever came,
])  # fmt: skip

calibration_dtype = layout("sim_calibration", 256, [
    ("burst", "i8"),                              # parts in a million: the next event belongs to the same burst
    ("gap_burst", "f8"), ("gap_quiet", "f8"),     # mean ns between events inside and outside a burst
    ("add", "i8"), ("delete", "i8"), ("replace", "i8"), ("execute", "i8"), ("cancel", "i8"), ("hidden", "i8"),
    ("attributed", "i8"),                         # of the adds: F
    ("priced", "i8"),                             # of the executions: C
    ("unprinted", "i8"),                          # of the C: Printable N
    ("news", "i8"),                               # of all events: the symbol's fair price moves
    ("stale", "i8"),                              # of the deletes, where a best price is on the wrong side of fair: that one goes
    ("broken", "i8"),                             # of all events: an earlier hidden print is voided
    ("touch", "i8"), ("inside", "i8"),            # of the adds: at the best price, or better where the spread has room
    ("reach", "i8"),                              # ticks: mean distance of the other adds
    ("young", "i8"),                              # of the deletes: the newest orders
    ("depth", "i8"),                              # live orders a symbol tends to
    ("spread", "i8"),                             # ticks: wider than this, adds close it
    ("levels", "i8"),                             # levels a side never falls below
    ("sizes", "i8"), ("size_rows", "i8"),         # address of i8 pairs (parts in a million cumulative, shares)
    ("pad0", ("i8", (8,))),
])  # fmt: skip

LIVE_MAX = 4096
"""Live orders of the market a synthetic symbol can have."""

mmsghdr_dtype = packed("mmsghdr", 64, [
    ("name", "i8"), ("name_size", "i8"), ("vector", "i8"), ("vectors", "i8"), ("control", "i8"), ("control_size", "i8"),
    ("flags", "i8"), ("size", "i8"),
])  # fmt: skip
"""struct mmsghdr of 64-bit Linux; `size` is what recvmmsg reports and its padding."""

pollfd_dtype = layout("pollfd", 8, [("fd", "i4"), ("events", "i2"), ("revents", "i2")])

iovec_dtype = packed("iovec", 16, [("base", "i8"), ("size", "i8")])
slot_dtype = layout("sim_slot", 8, [("order", "i8")])
size_dtype = layout("sim_size", 16, [
    ("parts", "i8"),                              # of a million orders, how many are of this or an earlier size
    ("shares", "i8"),                             # a size; below 0: any from 1 to that many
])  # fmt: skip
