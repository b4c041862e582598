"""A whole file in memory through the feed, in one compiled call: for benches and for whoever wants a day's books at once.

    replay = Replay(path)              the file, framed, in memory, and a feed large enough for it
    replay.frames()                    walk the framing only
    replay.decode()                    every field of every message, swapped and summed
    replay.books()                     the live path without packets: decode, books, quotes, counters; starts from empty books

Each returns (messages, checksum); the checksums tell that the work was done, and are the same every time.
"""

import os

from hftd.core.jit import hot, leaf
from hftd.core.memory import load8, load16, load64, prefault, record_at, row, span, swap16, swap32, swap64
from hftd.feed.book import shares_of
from hftd.feed.build import Build, private_tables
from hftd.feed.files import ItchFile, Scan
from hftd.feed.memory import level_dtype
from hftd.msg.enums import BookState
from hftd.venues.nasdaq.itch50 import (
    ADD_ORDER,
    ADD_ORDER_MPID,
    CROSS_TRADE,
    NOII,
    ORDER_CANCEL,
    ORDER_DELETE,
    ORDER_EXECUTED,
    ORDER_EXECUTED_PRICE,
    ORDER_REPLACE,
    TRADE,
    add_order_dtype,
    cross_trade_dtype,
    header_dtype,
    noii_dtype,
    order_cancel_dtype,
    order_executed_dtype,
    order_executed_price_dtype,
    order_replace_dtype,
    stamp,
    trade_dtype,
)
from hftd.venues.nasdaq.itchfeed import apply_run


@hot
def frames_run(at, end):
    """Walk framed messages; return how many."""
    count = 0
    while at < end:
        at += 2 + swap16(load16(at))
        count += 1
    return count


@leaf
def fields_of(at, kind):
    """Return the sum of a message's fields after its header."""
    if kind == ADD_ORDER or kind == ADD_ORDER_MPID:
        add = record_at(at, add_order_dtype)
        return swap64(add.ref) + add.side + swap32(add.shares) + load64(at + 24) + swap32(add.price)
    if kind == ORDER_DELETE:
        return swap64(load64(at + 11))
    if kind == ORDER_EXECUTED:
        executed = record_at(at, order_executed_dtype)
        return swap64(executed.ref) + swap32(executed.shares) + swap64(executed.match)
    if kind == ORDER_REPLACE:
        replace = record_at(at, order_replace_dtype)
        return swap64(replace.orig_ref) + swap64(replace.new_ref) + swap32(replace.shares) + swap32(replace.price)
    if kind == ORDER_CANCEL:
        cancel = record_at(at, order_cancel_dtype)
        return swap64(cancel.ref) + swap32(cancel.shares)
    if kind == TRADE:
        trade = record_at(at, trade_dtype)
        return swap64(trade.ref) + trade.side + swap32(trade.shares) + swap32(trade.price) + swap64(trade.match)
    if kind == ORDER_EXECUTED_PRICE:
        priced = record_at(at, order_executed_price_dtype)
        return swap64(priced.ref) + swap32(priced.shares) + swap64(priced.match) + priced.printable + swap32(priced.price)
    if kind == CROSS_TRADE:
        cross = record_at(at, cross_trade_dtype)
        return swap64(cross.shares) + swap32(cross.price) + swap64(cross.match) + cross.cross_type
    if kind == NOII:
        noii = record_at(at, noii_dtype)
        return swap64(noii.paired_shares) + swap64(noii.imbalance_shares) + swap32(noii.near_price) + noii.cross_type
    return load8(at + 11)


@hot
def decode_run(at, end):
    """Decode framed messages; return the sum of their fields."""
    total = 0
    while at < end:
        length = swap16(load16(at))
        head = record_at(at + 2, header_dtype)
        total += swap16(head.locate) + stamp(head) + fields_of(at + 2, load8(at + 2))
        at += 2 + length
    return total


@hot
def book_checksum(agent):
    """Return a number that depends on every level of every book."""
    levels = span(agent.engine.levels.rows)
    total = 0
    for index in range(1, agent.engine.levels.fresh):
        level = row(levels, index, level_dtype)
        if level.orders > 0:
            total += level.px * 31 + shares_of(level) * 1_000_003 + level.orders * 7919
    return total


class Replay:
    """A file in memory, with a feed of its own. orders_max: of the order store; 0: as many as one pass finds live at once."""

    def __init__(self, path: str | os.PathLike, orders_max: int = 0, symbols: list[str] | None = None):
        self.data, self.messages = ItchFile(path).load()
        prefault(self.data)
        self.at, self.end = self.data.ctypes.data, self.data.ctypes.data + len(self.data)
        scan = Scan()
        scan.add(self.at, len(self.data))
        wanted = max(scan["live_peak"] + 1, 1024)         # as if no order were ever executed whole
        instruments, followed = max(scan.locates(), 1), list(symbols or ())
        self.build = Build(private_tables(instruments, wanted + 1), orders_max or wanted, followed)
        if not orders_max:
            self.books()
            orders, levels = (max(int(self.build.counters[name]), 1) for name in ("orders_peak", "levels_peak"))
            self.build = Build(private_tables(instruments, levels + 1), orders, followed)

    def frames(self) -> tuple[int, int]:
        """Walk the framing."""
        return int(frames_run(self.at, self.end)), 0

    def decode(self) -> tuple[int, int]:
        """Decode everything."""
        return self.messages, int(decode_run(self.at, self.end))

    def books(self) -> tuple[int, int]:
        """Apply everything to empty books; call `clear` first where they are not. The checksum is of the final books."""
        return int(apply_run(self.build.agent, self.at, self.end, 1)), self.checksum()

    def clear(self) -> None:
        """Empty the books."""
        self.build.reset(int(BookState.LIVE), keep_counters=False)

    def checksum(self) -> int:
        """Return the checksum of the books as they are."""
        return int(book_checksum(self.build.agent))
