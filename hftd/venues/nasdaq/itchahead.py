"""Looking ahead: the lines that later messages of a run will need are asked for while earlier ones are applied.

Four looks at each message, STAGE messages apart, each fetching what the last one found the address of:

    first     its book; the slot of its reference
    second    the first order of that slot; the best of the side it adds to
    third     the level it takes from, and the order's neighbours; the level whose price it adds at
    fourth    the youngest order of the level it adds to; the slots where a level may go or come; the quote, where the top may move

What a message is, is a coin toss, so the looks do not branch on it: they choose addresses, and where there is nothing to fetch they
ask for a line that is there already. Nothing they read is believed: a message that comes in between may change it, and then a line
was fetched for nothing. Asking one message after the other matters: a burst of requests finds the line-fill buffers full, and those
beyond are dropped (eight messages at once took a third longer than eight in turn).
"""

from hftd.core.jit import leaf
from hftd.core.layout import offset_of
from hftd.core.memory import load8, load16, load32, load64, prefetch_write, record_at, row, swap16, swap32, swap64
from hftd.feed.book import SLOT_BYTES, last_word
from hftd.feed.memory import LANES, book_dtype, level_dtype, side_dtype, slot_dtype
from hftd.feed.moves import count_above
from hftd.feed.orders import head_dtype, resting_dtype, slot_of
from hftd.feed.state import DOES_ADD, DOES_TAKE, LOOKS, kind_dtype, listed_dtype
from hftd.msg.records import quote_dtype
from hftd.venues.nasdaq.itch50 import add_order_dtype, add_order_mpid_dtype
from hftd.venues.nasdaq.itchrare import SELL

STAGE = 6
"""Messages between the four looks at a message, and between the last and its turn."""
LOOK_MASK = LOOKS - 1
LONGEST = 2 + add_order_mpid_dtype.itemsize
"""Bytes of the longest framed message about an order."""

HEAD_BYTES, RESTING_BYTES, BOOK_BYTES = head_dtype.itemsize, resting_dtype.itemsize, book_dtype.itemsize
LEVEL_BYTES, QUOTE_BYTES, SIDE_BYTES = level_dtype.itemsize, quote_dtype.itemsize, side_dtype.itemsize
REF_AT, SIDE_AT, PRICE_AT = (2 + offset_of(add_order_dtype, name) for name in ("ref", "side", "price"))
"""Of a framed message."""
SIDES_AT = offset_of(book_dtype, "sides")


@leaf
def look_first(t, listing, kinds, ahead, at, end):
    """First look at the message framed at `at`: fetch its book, and the slot of its reference. Returns where the next one is."""
    length = swap16(load16(at))
    kind, instrument = 0, 0
    if at + LONGEST <= end:
        kind = load8(at + 2)
        instrument = max(row(listing, swap16(load16(at + 3)), listed_dtype).instrument - 1, 0)
        ahead.slot = slot_of(swap64(load64(at + REF_AT)), t.mask)
        which = 1 if load8(at + SIDE_AT) == SELL else 0
        px = swap32(load32(at + PRICE_AT))
        ahead.word = last_word(-px if which == 1 else px)
        ahead.side_at = t.books.base + BOOK_BYTES * instrument + SIDES_AT + SIDE_BYTES * which
        prefetch_write(t.heads.base + HEAD_BYTES * ahead.slot)
        prefetch_write(t.books.base + BOOK_BYTES * instrument)
    ahead.does = row(kinds, kind, kind_dtype).does
    ahead.instrument = instrument
    return at + 2 + length


@leaf
def look_second(t, ahead):
    """Second look: fetch the first order of the slot, and the best of the side it adds to."""
    ahead.order = row(t.heads, ahead.slot, head_dtype).order
    prefetch_write(t.orders.base + RESTING_BYTES * ahead.order)
    side = record_at(ahead.side_at, side_dtype)
    adds = ahead.does & (DOES_ADD | DOES_TAKE) == DOES_ADD
    ahead.top_at = t.slots.base + SLOT_BYTES * (side.start + side.count if adds else LANES)
    fetch_slots(ahead.top_at)


@leaf
def fetch_slots(top_at):
    """Fetch the LANES slots before an address."""
    prefetch_write(top_at - SLOT_BYTES)
    prefetch_write(top_at - SLOT_BYTES * LANES)


@leaf
def look_third(t, ahead):
    """Third look: fetch the level it takes from and the order's neighbours, or the level whose price it adds at."""
    takes = ahead.does & DOES_TAKE != 0
    order = row(t.orders, ahead.order, resting_dtype)
    better = count_above(ahead.top_at - SLOT_BYTES * LANES, ahead.word)
    joined = record_at(ahead.top_at - SLOT_BYTES * (1 + min(better, LANES - 1)), slot_dtype).level * 1
    ahead.level = order.level * 1 if takes else joined
    prefetch_write(t.levels.base + LEVEL_BYTES * ahead.level)
    prefetch_write(t.orders.base + RESTING_BYTES * (order.next * 1 if takes else 0))
    prefetch_write(t.orders.base + RESTING_BYTES * (order.prev * 1 if takes else 0))


@leaf
def look_fourth(agent, t, ahead):
    """Fourth look: fetch the youngest order of the level it adds to, the slots where a level may go or come, and the quote."""
    does = ahead.does
    level = row(t.levels, ahead.level, level_dtype)
    side = row(t.books, ahead.instrument, book_dtype).sides[level.side]
    prefetch_write(t.orders.base + RESTING_BYTES * (level.last * 1 if does & DOES_TAKE == 0 else 0))
    moves = does & DOES_TAKE != 0 and (level.orders == 1 or does & DOES_ADD != 0)
    fetch_slots(t.slots.base + SLOT_BYTES * (side.start + side.count if moves else LANES))
    prefetch_write(agent.quotes.base + QUOTE_BYTES * (ahead.instrument if ahead.level == side.best else 0))
