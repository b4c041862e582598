"""What the feed stage keeps in shared memory: instruments, quotes, counters, and every book to full depth.

    segment `market`   instruments | quotes, statuses, session (seqlock cells) | counters | histograms | types (messages by type)
    segment `books`    books (one per instrument) | levels (a pool) | slots (each side's sorted array of levels)

The feed is the only writer of all of it. A book's `version` is odd while the feed changes it, so a reader copies and compares
(`feed/view.py`). Orders are private to the feed: nobody else needs them, and they are the part that must lie on huge pages.
"""

from hftd.core.layout import LINE, layout
from hftd.msg.records import instrument_dtype, quote_dtype, session_dtype, status_dtype
from hftd.shm.counters import counters
from hftd.shm.histogram import histogram_dtype
from hftd.shm.segment import Part

HISTOGRAMS = ("packet", "gap", "lead_a", "lead_b", "wait")
"""packet: ticks from receipt to the packet's last event; gap: ticks from a gap's first sign to its end; lead_a: ticks by which line
A brought a packet before line B did, and lead_b the other way round. Their counts tell which line leads. (Lines are read in turn,
so what came on both during one turn counts as A's, by the time between the two calls.) wait: how long the first packet of each
receive call lay in the socket; with `feed.stamps = "kernel"` exactly, else at most: since the line was last looked at."""

LINE_A, LINE_B, LINE_R = 0, 1, 2
"""Where a packet came in: the two multicast lines, and the retransmission socket."""

LANES = 8
"""Levels of a side compared, and moved, at once, from the best (`feed/moves.py`)."""

feed_counters_dtype = counters("feed", [
    ("packets_a", "datagrams received on line A"),
    ("packets_b", "datagrams received on line B"),
    ("packets_r", "datagrams received from retransmission servers"),
    ("first_a", "datagrams of line A that brought something new"),
    ("first_b", "datagrams of line B that brought something new"),
    ("first_r", "retransmitted datagrams that brought something new"),
    ("duplicates_a", "datagrams of line A that brought nothing new"),
    ("duplicates_b", "datagrams of line B that brought nothing new"),
    ("duplicates_r", "retransmitted datagrams that brought nothing new"),
    ("late_a", "datagrams of line A that came after later ones of line A, and filled what was missing there"),
    ("late_b", "datagrams of line B that came after later ones of line B, and filled what was missing there"),
    ("lost_a", "messages missing on line A, whoever else brought them"),
    ("lost_b", "messages missing on line B, whoever else brought them"),
    ("heartbeats", "heartbeats received, all lines"),
    ("malformed", "datagrams dropped: too short, or their framing does not add up"),
    ("truncated", "datagrams dropped: longer than the receive buffer"),
    ("foreign", "datagrams dropped: of another session"),
    ("strangers", "datagrams dropped: to the retransmission socket, from an address that is no configured server's"),
    ("doubted", "datagrams dropped: so far ahead that they are believed only when more of their line agree"),
    ("sessions", "sessions begun"),
    ("session_ends", "end-of-session packets received"),
    ("receive_errors", "errors of the receive call other than nothing there"),
    ("messages", "messages applied, those of instruments that are not followed included"),
    ("skipped", "messages of instruments that are not followed"),
    ("unknown_types", "messages of a type that ITCH 5.0 does not have"),
    ("bad_lengths", "messages of a known type and another length"),
    ("bad_fields", "messages refused for a side, size or price that cannot be"),
    ("book_updates", "messages that changed a book"),
    ("events", "market events published; brought up to date every slice"),
    ("detached", "slow consumers of the market data ring that were detached"),
    ("gaps", "gaps found: sequence numbers missing on every line"),
    ("gap_messages", "messages missing in those gaps"),
    ("reordered", "gaps that closed within the reorder window, by the other line or a late packet"),
    ("recovered", "gaps filled by retransmission"),
    ("given_up", "gaps that no server filled: a snapshot was asked for, or, where there is no server for it, the books went STALE"),
    ("lost_messages", "messages never received"),
    ("requests", "retransmission requests sent"),
    ("snapshots", "snapshots applied"),
    ("snapshot_messages", "messages of snapshots applied; not counted under messages"),
    ("snapshot_failures", "snapshots that failed: refused, cut off, too late, too large, or not sound"),
    ("unstamped", "packets that the kernel did not stamp, or with a time that cannot be: their receipt is that of the call"),
    ("superseded", "messages that a snapshot stands for: their trades were never seen"),
    ("request_timeouts", "retransmission requests that nobody answered in time"),
    ("queued", "packets kept while a gap was filled"),
    ("queue_full", "packets dropped while a gap was filled, since the queue was full: asked for again"),
    ("unknown_refs", "messages about an order that no book has"),
    ("duplicate_refs", "orders refused: their reference number is in a book already"),
    ("overfills", "executions or cancels of more shares than the order had left"),
    ("crossed", "times a best bid came to stand above the best offer"),
    ("locked", "times a best bid came to stand at the best offer"),
    ("distrusted", "books that became STALE since a message contradicted them, or crossed while they traded: feed.on_taint"),
    ("mended", "of those, books made anew from a snapshot"),
    ("mend_failures", "snapshots for that which were too old, too late, or brought more messages than could be kept"),
    ("orders_full", "orders refused: the order store is full; raise feed.orders_max"),
    ("levels_full", "orders refused: the level store is full, raise feed.levels_max; or 2**47 shares would stand at one price"),
    ("slots_full", "orders refused: no room to grow a side of a book; raise feed.levels_max"),
    ("instruments_full", "symbols announced that found no row; raise universe.max"),
    ("directory", "directory messages of followed instruments"),
    ("status_changes", "changes of trading state, operational halts and short sale restrictions included"),
    ("trades", "executions of displayed orders that print"),
    ("hidden_trades", "prints without a displayed order, crosses included"),
    ("non_printable", "executions that do not print: a later bulk print covers them"),
    ("broken", "prints voided by the venue"),
    ("broken_volume", "shares of those, taken out of the volume"),
    ("broken_unknown", "of those, prints not known any more, or voided before: the volume still has them; raise feed.prints_max"),
    ("volume", "shares printed, hidden ones and crosses included, broken ones not"),
    ("hidden_volume", "shares printed without a displayed order, crosses included"),
    ("imbalances", "auction imbalance messages"),
    ("breakers", "market-wide circuit breaker messages: levels and breaches"),
    ("notices", "other messages about followed instruments: positions, collars, IPO, retail interest, direct listing"),
    ("orders_live", "orders in all books now"),
    ("orders_peak", "most orders in all books at once"),
    ("levels_live", "price levels in all books now"),
    ("levels_peak", "most price levels in all books at once"),
])  # fmt: skip

side_dtype = layout("side", 16, [
    ("start", "i4"),                              # first of the side's entries in `slots`: all but its LANES best levels
    ("count", "i4"),                              # levels in all; the best entry is start + count - LANES - 1
    ("room", "i4"),                               # entries the side may use before it must grow; a power of two, or 0
    ("best", "i4"),                               # row of the best level; 0: the side is empty
])  # fmt: skip

slot_dtype = layout("book_slot", 8, [
    ("level", "u4"),                              # row of `levels`
    ("px", "i4"),                                 # the level's px
])  # fmt: skip
"""Read as one int64, slots are in order of price. So |px| must be below PX_LIMIT: ITCH's own bound is, and a venue with eight
decimals keeps ticks."""

PX_LIMIT = 1 << 31

book_dtype = layout("book", 3 * LINE, [
    ("version", "i8"),                            # odd while the feed writes
    ("events", "i8"),                             # market events published for this instrument
    ("sides", (side_dtype, (2,))),                # buy, sell
    ("orders", "i4"),                             # orders in this book
    ("taints", "i4"),                             # messages that this book contradicted: how far it is to be doubted
    ("wire_seq", "u4"),                           # low 32 bits of the number of the last message about it: levels, prints, status
    ("state", "u1"),                              # BookState
    ("lacking", "u1"),                            # LACKS_…: not LIVE until it is cleared
    ("pad0", "u2"),
    ("tops", (slot_dtype, (2 * LANES,)), LINE),   # the LANES best levels of each side, a line each, the best last
])  # fmt: skip

LACKS_ORDER, LACKS_TRUST, LACKS_MENDING = 1, 2, 4
"""book.lacking: a store was full, so an order is missing; a message contradicted the book; the snapshot asked for makes it anew."""

level_dtype = layout("level", 16, [
    ("px", "i4"),                                 # venue scale; asks negated, so that the best is the greatest on either side
    ("orders", "u4"),                             # how many
    ("held", "i8"),                               # shares of all orders, << SHARES_AT; the instrument below
])  # fmt: skip

SHARES_AT = 16
"""Bits of the instrument in `level.held`: four levels share a line."""

free_level_dtype = layout("free_level", 16, [     # a level's row while nobody uses it
    ("next", "u4"),                               # next free row
    ("orders", "u4"),                             # 0
    ("held", "i8"),                               # as it was
])  # fmt: skip

type_count_dtype = layout("type_count", 8, [("count", "i8")])

SIDE_ROOM = 16
"""Entries of a side's first block."""


def slots_for(instruments: int, levels: int) -> int:
    """Return entries for all sides: each side's block is at most twice its levels, blocks it has outgrown as much again.

    A first block has SIDE_ROOM; around each block stand 2 * LANES entries, which is as much again at the worst.
    """
    return 3 * LANES + 8 * levels + 2 * (SIDE_ROOM + 2 * LANES) * min(instruments, levels)


def market_parts(config) -> list[Part]:
    """Return the parts of the segment `market`."""
    n = config.instruments
    return [
        Part("instruments", instrument_dtype, n),
        Part("quotes", quote_dtype, n),
        Part("statuses", status_dtype, n),
        Part("session", session_dtype, 1),
        Part("counters", feed_counters_dtype, 1),
        Part("histograms", histogram_dtype, len(HISTOGRAMS)),
        Part("types", type_count_dtype, 256),
    ]


def book_parts(config) -> list[Part]:
    """Return the parts of the segment `books`."""
    n, levels = config.instruments, config.feed.levels_max
    return [Part("books", book_dtype, n), Part("levels", level_dtype, levels), Part("slots", slot_dtype, slots_for(n, levels))]
