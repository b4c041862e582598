"""What the gateway keeps in shared memory, segment `orders`: readable by anybody while it runs and after it died.

    orders     one row for each order: open ones and the most recent finished ones. Row 0 is never used.
    fills      the most recent executions by match number: so that none counts twice, and a broken trade finds its price
    positions  bought and sold by instrument, from the gateway's own view
    earlier    by symbol, what orders of earlier instances traded in this session, by the venue's replay: risk takes it up
    session    one row: what is needed to resume the venue session after a crash
    undo       row and position images of the venue message being applied: after a crash in the middle it is applied again, whole
    counters, histograms
    tails      the stamps of slow orders (tails.py)

One writer, the gateway. Everything else it needs (indexes, free rows, the list of open orders) is private to the process and
rebuilt from these rows. A reader may see a row between two stores: the words are each whole, `status` is written last.
"""

from hftd.core.layout import layout
from hftd.msg.records import position_dtype
from hftd.shm.counters import counters
from hftd.shm.histogram import histogram_dtype
from hftd.shm.segment import Part

order_row_dtype = layout("order_row", 128, [
    ("cl_ord_id", "i8"),                          # ours (msg/ids.py); 0: an order of an earlier instance that we cannot name
    ("venue_id", "i8"),                           # the venue's order reference; 0: not accepted yet
    ("px", "i8"),                                 # venue scale
    ("ts_recv", "i8"),                            # ticks: what caused it
    ("ts_sent", "i8"),                            # ticks: handed to send(); 0: not yet
    ("ts_answer", "i8"),                          # ticks: first answer of the venue
    ("ts_event", "i8"),                           # ns since the venue's midnight: its last message
    ("count", "i8"),                              # risk's running count; an earlier instance's: 1 + its row of `earlier`
    ("counted_cash", "i8"),                       # what this order adds to the position row's open_…_cash
    ("counted_qty", "i4"),                        # what this order adds to the position row's open_…_qty
    ("user_ref", "u4"),                           # UserRefNum; the index ring leads from it to this row
    ("qty", "i4"),                                # shares; of a chain of replacements: its total, executed shares included
    ("cum", "i4"),                                # shares executed, of the whole chain
    ("leaves", "i4"),                             # shares open
    ("prev", "i4"),                               # row of the order this one replaces; 0: none
    ("follow", "i4"),                             # row of the pending replacement; 0: none
    ("open_prev", "i4"),                          # the list of open orders: rows before and after; 0: none
    ("open_next", "i4"),
    ("hash_next", "i4"),                          # next row in the same bucket of the id index
    ("instrument", "u2"),
    ("strategy", "u2"),
    ("status", "u1"),                             # OrdStatus; NONE: row never used
    ("side", "u1"),                               # Side
    ("tif", "u1"),                                # Tif
    ("rules", "u1"),                              # INTENT_… flags of the order
    ("marks", "u2"),                              # MARK_… (order_state.py)
    ("reason", "u2"),                             # the venue's code at the end: cancel or reject reason
    ("counted_open", "u1"),                       # 1 where it counts in the position row's open_orders
    ("pad", ("u1", (3,))),
])  # fmt: skip

fill_dtype = layout("fill", 64, [
    ("match", "i8"),                              # the venue's match number
    ("cl_ord_id", "i8"),
    ("px", "i8"),
    ("ts_event", "i8"),                           # ns since the venue's midnight
    ("user_ref", "u4"),
    ("qty", "i4"),
    ("hash_next", "i4"),                          # next fill in the same bucket; -1: none
    ("instrument", "u2"),
    ("side", "u1"),                               # Side
    ("state", "u1"),                              # FILL_…; 0: unused
    ("earlier", "i8"),                            # of an order of an earlier instance: 1 + its row of `earlier`
    ("pad", "i8"),
])  # fmt: skip

FILL_GOOD, FILL_BROKEN, FILL_FOREIGN, FILL_FOREIGN_BROKEN = 1, 2, 3, 4
"""Counted in the positions; voided by the venue; of an order of an earlier instance; the same, voided."""

earlier_dtype = layout("earlier", 128, [
    ("symbol", "i8"),                             # eight ASCII bytes as on the wire; 0: row is free
    ("bought_qty", "i8"),                         # as in position_dtype, voided executions taken out
    ("sold_qty", "i8"),
    ("bought_cash", "i8"),
    ("sold_cash", "i8"),
    ("fills", "i8"),
    ("orders", "i8"),                             # orders and replacements accepted
    ("broken_bought", "i8"),                      # shares of voided executions: with them, the sums before
    ("broken_sold", "i8"),
    ("broken", "i8"),                             # voided executions
    ("last_fill_px", "i8"),
    ("pad", ("i8", (5,))),
])  # fmt: skip

EARLIER_SPARE = 64
"""Rows of `earlier` beyond one for each instrument: symbols that left the universe during the day."""

session_dtype = layout("gateway_session", 256, [
    ("name", ("u1", (16,))),                      # SoupBinTCP session, ASCII, zero-padded; empty: never logged in
    ("next_seq", "i8"),                           # next sequenced message expected; 0: never logged in
    ("next_ref", "i8"),                           # next UserRefNum to use
    ("fills_next", "i8"),                         # fills ever entered; the newest lies in row (fills_next - 1) & mask
    ("state", "i8"),                              # LINK_…
    ("open_orders", "i8"),
    ("unknown_orders", "i8"),                     # open orders whose state the venue has not confirmed
    ("foreign_open", "i8"),                       # open orders of an earlier instance, being cancelled
    ("latched", "i8"),                            # 1: an order did not carry risk's checksum; nothing new is sent any more
    ("killed", "i8"),                             # 1: the kill switch was seen, everything was cancelled
    ("risk_dead", "i8"),                          # 1: risk is silent; nothing new is sent
    ("disabled", "i8"),                           # 1: the venue turned order entry off for this account
    ("undo_seq", "i8"),                           # sequenced message being applied; 0: none
    ("undo_tail", "i8"),                          # the report ring's tail before it, less what was told of it already
    ("undo_fills", "i8"),                         # fills_next before it
    ("undo_rows", ("i4", (4,))),                  # rows whose images are kept; 0: none
    ("undo_instrument", "i8"),                    # position row whose image is kept (beyond the last: of `earlier`); -1: none
    ("undo_broken", "i8"),                        # 1 + row of the execution being voided; 0: none
    ("connected_utc_ns", "i8"),                   # last log-in
    ("queries_sent", "i8"),                       # account queries sent in this session
    ("queries_seen", "i8"),                       # answers to them seen
    ("earlier_version", "i8"),                    # grows after each change of `earlier`
    ("earlier_doubts", "i8"),                     # executions, or breaks of some, that could be booked nowhere; gaps in a session
    ("earlier_from", "i8"),                       # sequenced messages below this are booked already: a replay repeats them
    ("replayed_from", "i8"),                      # first sequenced message of this session that we were given; 1: all of it
    ("told_seq", "i8"),                           # sequenced message that was taken back after a crash in its middle
    ("told", "i8"),                               # reports of it that were published: they are not published again
    ("answers_from", "i8"),                       # answers to account queries up to this message may be an earlier instance's
    ("pad", ("i8", (2,))),
])  # fmt: skip

LINK_DOWN, LINK_CONNECTING, LINK_PARTING, LINK_REPLAY, LINK_CLEANING, LINK_UP, LINK_CLOSED = range(7)
LINK_TEXT = ("down", "connecting", "leaving the probe", "replaying", "cancelling orders of an earlier run", "up", "logged out")

UNDO_ROWS = 4

gateway_counters_dtype = counters("gateway", [
    ("turns", "turns that found work"),
    ("orders_taken", "records taken from the order ring"),
    ("enters_sent", "Enter Order messages handed to the socket"),
    ("replaces_sent", "Replace Order messages handed to the socket"),
    ("cancels_sent", "Cancel Order messages handed to the socket"),
    ("sends", "send() calls for orders; several ready orders share one"),
    ("denied", "new orders and replacements refused here, with a DenyReason"),
    ("cancels_refused", "cancels refused: no such order, or finished"),
    ("cancels_repeated", "cancels of an order whose cancel is under way already; not sent again"),
    ("checksum_refused", "orders that did not carry risk's running count and checksum; the first stops the gateway"),
    ("order_repeats", "orders read a second time after a restart, and not sent a second time"),
    ("ref_skips", "UserRefNums left out because an old open order still holds their place in the index"),
    ("messages", "sequenced messages from the venue applied"),
    ("accepted", "orders accepted by the venue"),
    ("replaced", "replacements accepted by the venue"),
    ("fills", "executions counted"),
    ("filled_qty", "shares executed"),
    ("canceled", "cancel messages from the venue, whole or partial"),
    ("rejected", "orders and replacements rejected by the venue"),
    ("replaces_lost", "replacements that ended without an answer because their original was finished first"),
    ("broken", "executions voided by the venue"),
    ("repeats", "messages that told what was known already: after a reconnect"),
    ("late_fills", "executions of an order that was finished already; counted in the position all the same"),
    ("contradictions", "messages that do not fit the order's state; see the error log"),
    ("unknown_refs", "messages about a UserRefNum we do not know"),
    ("orphan_fills", "executions of a UserRefNum we do not know: the position may be wrong; the kill switch is pulled"),
    ("foreign_orders", "open or finished orders of an earlier instance, found in the venue's replay"),
    ("foreign_fills", "executions of orders of an earlier instance: risk carries them, the positions of this run do not"),
    ("foreign_broken", "executions of an earlier instance's orders voided by the venue"),
    ("broken_unknown", "voided executions that are not remembered: the position may be wrong; the kill switch is pulled"),
    ("unknown_types", "messages of a type this version does not know"),
    ("short_messages", "messages shorter than their type needs"),
    ("other_packets", "SoupBinTCP packets of another kind than sequenced data and heartbeats"),
    ("reports", "reports published"),
    ("report_stalls", "turns that left the venue's messages waiting because the report ring was full"),
    ("consumers_detached", "consumers of the report ring given up as too slow; their orders were cancelled"),
    ("cancel_sweeps", "times every open order (of one strategy, or of all) was told to go"),
    ("kills", "times the kill switch was seen"),
    ("risk_lost", "times risk was silent for gateway.risk_dead_ms"),
    ("connects", "TCP connections made"),
    ("connect_failures", "TCP connections that failed"),
    ("logins", "log-ins accepted"),
    ("login_rejects", "log-ins rejected by the venue"),
    ("resumes", "log-ins that took up the session where it was left"),
    ("sequence_jumps", "log-ins that gave another sequence number than the one asked for"),
    ("disconnects", "connections lost"),
    ("reconciled", "orders whose state was confirmed after a reconnect"),
    ("never_arrived", "orders proven not to have reached the venue before the connection broke"),
    ("unresolved", "orders the venue's replay did not settle: they stay UNKNOWN"),
    ("open_at_stop", "orders still open when a stop ran out of time"),
    ("table_full", "orders denied because every row of the order table was open"),
    ("orders_peak", "most orders open at once"),
    ("partial_sends", "sends the socket took only a part of, or nothing"),
    ("heartbeats_sent", "SoupBinTCP heartbeats sent"),
    ("heartbeats_received", "SoupBinTCP heartbeats received"),
    ("slow_orders", "orders slower than daemon.tail_us, from their cause to send() or in it: `hftd latency` shows why"),
])

TAILS = 256
"""Slow orders kept for the recorder to look at, a power of two."""

tail_dtype = layout("tail", 128, [
    ("number", "i8"),                             # of the slow order, from 1; 0 while it is written
    ("cl_ord_id", "i8"),
    ("ts_recv", "i8"),                            # ticks: what caused it
    ("t_feed", "i8"),                             # ticks after ts_recv: as in order_dtype
    ("t_strategy", "i8"),
    ("t_risk", "i8"),
    ("t_sent", "i8"),                             # send() called
    ("t_call", "i8"),                             # ticks that send() took
    ("batch", "i8"),                              # orders in that send()
    ("instrument", "i8"),
    ("strategy", "i8"),
    ("kind", "i8"),                               # IntentKind
    ("pad", ("i8", (4,))),
])  # fmt: skip

HISTOGRAMS = ("feed", "strategy", "risk", "gateway", "tick_to_trade", "send", "answer")
"""Ticks. feed, strategy, risk: each hop's publishing after the hop before; gateway: send() called after risk published;
tick_to_trade: send() called after the packet was received; send: the call; answer: first answer of the venue after it."""

RISK_SILENT = 1
"""Detail `a` of a KILL entry in the error log: risk was silent (0: the kill switch itself)."""

KEEP_FINISHED = 1024
"""Finished orders kept for people to see, before their rows are used again."""


def fills_max(orders_max: int) -> int:
    """Return how many executions are remembered: a power of two."""
    return max(orders_max, 1 << 10)


def earlier_max(instruments: int) -> int:
    """Return the rows of `earlier`: a power of two."""
    return 1 << (instruments + EARLIER_SPARE - 1).bit_length()


def parts(config) -> list[Part]:
    """Return the parts of the stage's segment."""
    n = config.gateway.orders_max
    return [
        Part("orders", order_row_dtype, n),
        Part("fills", fill_dtype, fills_max(n)),
        Part("positions", position_dtype, config.instruments),
        Part("session", session_dtype, 1),
        Part("undo", order_row_dtype, UNDO_ROWS),
        Part("undo_position", position_dtype, 1),
        Part("counters", gateway_counters_dtype, 1),
        Part("histograms", histogram_dtype, len(HISTOGRAMS)),
        Part("tails", tail_dtype, TAILS),
        Part("earlier", earlier_dtype, earlier_max(config.instruments)),
    ]
