"""Looking ahead: the lines that later messages of a run will need are asked for while earlier ones are applied.

Six looks at each message. Five are STAGE messages apart, each fetching what the last one found the address of:

    first     its book; the slot of its reference
    second    the first order of that slot; the slots of the side it adds to
    third     the level it takes from; the level whose price it adds at
    fourth    the slots where a level may go; the quote, where the top may move
    fifth     of a replacement: the level whose price it adds at
    last      when the message is next: what its turn reads first, from the second-level cache into the first

What a message is, is a coin toss, so the first four do not branch on it: they choose addresses, and where there is nothing to fetch
they ask for a line that is there already. Nothing they read is believed: a message that comes in between may change it, and then a
line was fetched for nothing. What counts is that no load of a message's own turn has to wait: one that does costs as much as five
messages.

In a long run one message is looked at for each that has its turn (`look`); groups, looked at and then applied, took a sixth longer.
In a packet the first message should not wait for what the last one needs: GROUP messages at a time (`look_at_group`). Lines go to
the second-level cache only, where three times as many may be under way as in the first; from there the next look has them in a few
cycles. A message's turn goes through three of them one after the other, so the last look fetches those nearer. Looking is a call of
its own: runs that do not look ahead do not pay for it.
"""

from hftd.core.apart import apart
from hftd.core.jit import hot, leaf
from hftd.core.layout import offset_of
from hftd.core.memory import (
    load8,
    load16,
    load32,
    load64,
    prefetch_far,
    prefetch_near,
    prefetch_write,
    record_at,
    row,
    span,
    swap16,
    swap32,
    swap64,
)
from hftd.feed.book import LOW, SLOT_BYTES, last_word, tables
from hftd.feed.memory import LANES, book_dtype, level_dtype, side_dtype, slot_dtype
from hftd.feed.moves import count_above
from hftd.feed.orders import head_dtype, resting_dtype, slot_of
from hftd.feed.state import DOES_ADD, DOES_TAKE, LOOKS, kind_dtype, listed_dtype, look_dtype
from hftd.msg.records import quote_dtype
from hftd.venues.nasdaq.itch50 import add_order_dtype, add_order_mpid_dtype, order_delete_dtype, order_replace_dtype
from hftd.venues.nasdaq.itchrare import SELL

STAGE = 8
"""Messages between two looks at a message, and between the last and its turn."""
LOOKED = 5 * STAGE
"""Messages that a message is looked at before its turn."""
READ_AHEAD = 2048
"""Bytes ahead of the first look that a long run itself is fetched: the processor's own prefetcher ends with each page."""
LOOK_MASK = LOOKS - 1
LONGEST = 2 + add_order_mpid_dtype.itemsize
"""Bytes of the longest framed message about an order."""
SHORTEST = 2 + order_delete_dtype.itemsize
"""Of the shortest."""
GROUP = 12
"""Messages of a short run that are looked at together: the first of them has to wait for it."""
LONG, SHORT = 4096, 3 * LONGEST
"""Bytes of a run from which on it is long (no packet is), and up to which looking gains nothing: then `fetch_few`."""
BOTH = DOES_ADD | DOES_TAKE

HEAD_BYTES, RESTING_BYTES, BOOK_BYTES = head_dtype.itemsize, resting_dtype.itemsize, book_dtype.itemsize
LEVEL_BYTES, QUOTE_BYTES, SIDE_BYTES = level_dtype.itemsize, quote_dtype.itemsize, side_dtype.itemsize
REF_AT, SIDE_AT, PRICE_AT = (2 + offset_of(add_order_dtype, name) for name in ("ref", "side", "price"))
NEW_PRICE_AT = 2 + offset_of(order_replace_dtype, "price")
"""Of a framed message."""
SIDES_AT = offset_of(book_dtype, "sides")

assert LOW == 2 * LANES and LOOKS > LOOKED


@leaf
def look_first(t, listing, kinds, ahead, at, end):
    """First look at the message framed at `at`: fetch its book, and the slot of its reference. Returns where the next one is."""
    length, does, instrument = 0, 0, 0
    if at + LONGEST <= end:
        length = 2 + swap16(load16(at))
        does = row(kinds, load8(at + 2), kind_dtype).does * 1
        instrument = max(row(listing, swap16(load16(at + 3)), listed_dtype).instrument - 1, 0)
        slot = slot_of(swap64(load64(at + REF_AT)), t.mask)
        which = 1 if load8(at + SIDE_AT) == SELL else 0
        px = swap32(load32(at + PRICE_AT))
        book_at = t.books.base + BOOK_BYTES * instrument
        prefetch_far(t.heads.base + HEAD_BYTES * slot)
        prefetch_far(book_at)
        ahead.new_px = swap32(load32(at + NEW_PRICE_AT))
        ahead.slot = slot
        ahead.word = last_word(-px if which == 1 else px)
        ahead.side_at = book_at + SIDES_AT + SIDE_BYTES * which
    ahead.instrument = instrument
    ahead.does = does
    return at + length


@leaf
def fetch_slots(t, side, wanted):
    """Fetch the LOW best slots of a side where `wanted` is -1, some others where it is 0. Returns the one after the best."""
    top = LOW + ((side.start + side.count - LOW) & wanted)
    top_at = t.slots.base + SLOT_BYTES * top
    prefetch_far(top_at - SLOT_BYTES)
    prefetch_far(top_at - SLOT_BYTES * LANES)
    prefetch_far(top_at - SLOT_BYTES * LOW)
    return top


@leaf
def level_near(t, top, word):
    """Return the level, of the LOW slots before slot `top`, that an order of price `word` joins or goes in above."""
    top_at = t.slots.base + SLOT_BYTES * top
    better = count_above(top_at - SLOT_BYTES * LANES, word)
    better += count_above(top_at - SLOT_BYTES * LOW, word) & -(better // LANES)
    return row(t.slots, top - 1 - min(better, LOW - 1), slot_dtype).level * 1


@leaf
def taking(ahead):
    """Return -1 where the message takes from an order, else 0: to choose with, without a branch."""
    return -1 if ahead.does & DOES_TAKE != 0 else 0


@leaf
def look_second(t, ahead):
    """Second look: fetch the first order of the slot, and the slots of the side it adds to."""
    order = row(t.heads, ahead.slot, head_dtype).order * 1
    prefetch_far(t.orders.base + RESTING_BYTES * order)
    ahead.order = order
    ahead.top = fetch_slots(t, record_at(ahead.side_at, side_dtype), ~taking(ahead))


@leaf
def look_third(t, ahead):
    """Third look: fetch the level it takes from, or the level whose price it adds at."""
    takes = taking(ahead)
    order = row(t.orders, ahead.order, resting_dtype)
    joined = level_near(t, ahead.top * 1, ahead.word)
    level = joined ^ ((joined ^ order.level) & takes)
    prefetch_far(t.levels.base + LEVEL_BYTES * level)
    ahead.level = level


@leaf
def look_fourth(agent, t, ahead):
    """Fourth look: fetch the slots where a level may go, and the quote."""
    takes = taking(ahead)
    level = row(t.levels, ahead.level, level_dtype)
    side_at = t.books.base + BOOK_BYTES * ahead.instrument + SIDES_AT + SIDE_BYTES * level.side
    side = record_at(side_at, side_dtype)
    moves = level.orders == 1 or ahead.does & BOTH == BOTH
    ahead.top = fetch_slots(t, side, takes & -moves)
    ahead.side_at = side_at
    quote_at = agent.quotes.base + QUOTE_BYTES * (ahead.instrument if ahead.level == side.best else 0)
    prefetch_far(quote_at)
    prefetch_far(quote_at + 64)


@leaf
def look_fifth(t, ahead):
    """Fifth look, at a replacement: fetch the level whose price it adds at. (One message in ten: this is a branch.)"""
    if ahead.does & BOTH == BOTH:
        sells = (ahead.side_at ^ SIDES_AT) & SIDE_BYTES != 0  # a book begins a line
        level = level_near(t, ahead.top * 1, last_word(-ahead.new_px if sells else ahead.new_px * 1))
        prefetch_far(t.levels.base + LEVEL_BYTES * level)


@leaf
def look_last(t, ahead):
    """Last look: fetch nearer what the message's turn, which is next, has to wait for."""
    side = record_at(ahead.side_at, side_dtype)
    prefetch_write(t.heads.base + HEAD_BYTES * ahead.slot)
    prefetch_write(t.orders.base + RESTING_BYTES * ahead.order)
    prefetch_write(t.levels.base + LEVEL_BYTES * ahead.level)
    prefetch_near(t.slots.base + SLOT_BYTES * (side.start + side.count - LANES))


@hot
def look(agent, far, end, k):
    """Look at the message framed at `far`, number k of a long run, and again at those before it. Returns where the next one is."""
    apart()
    t = tables(agent.engine)
    listing, kinds, looks = span(agent.listed), span(agent.kinds), span(agent.looks)
    prefetch_far(far + READ_AHEAD)
    far = look_first(t, listing, kinds, row(looks, k & LOOK_MASK, look_dtype), far, end)
    look_second(t, row(looks, (k - STAGE) & LOOK_MASK, look_dtype))
    look_third(t, row(looks, (k - 2 * STAGE) & LOOK_MASK, look_dtype))
    look_fourth(agent, t, row(looks, (k - 3 * STAGE) & LOOK_MASK, look_dtype))
    look_fifth(t, row(looks, (k - 4 * STAGE) & LOOK_MASK, look_dtype))
    look_last(t, row(looks, (k - LOOKED + 1) & LOOK_MASK, look_dtype))
    return far


@hot
def fetch_few(agent, at, end):
    """Ask, of a few messages, for what they say themselves that they need, all at once: book, slot of the reference, quote.

    The quote is written at the end of a message's turn, too far away for the processor to begin with it by itself.
    """
    apart()
    t = tables(agent.engine)
    listing = span(agent.listed)
    while at + SHORTEST <= end:
        instrument = max(row(listing, swap16(load16(at + 3)), listed_dtype).instrument - 1, 0)
        prefetch_write(t.heads.base + HEAD_BYTES * slot_of(swap64(load64(at + REF_AT)), t.mask))
        prefetch_write(t.books.base + BOOK_BYTES * instrument)
        prefetch_far(agent.quotes.base + QUOTE_BYTES * instrument)
        prefetch_far(agent.quotes.base + QUOTE_BYTES * instrument + 64)
        at += 2 + swap16(load16(at))


@hot
def look_at_group(agent, at, end):
    """Look at the next GROUP messages of a short run, as often as they need, before the first of them has its turn."""
    apart()
    t = tables(agent.engine)
    listing, kinds, looks = span(agent.listed), span(agent.kinds), span(agent.looks)
    seen = 0
    while at + LONGEST <= end and seen < GROUP:
        at = look_first(t, listing, kinds, row(looks, seen, look_dtype), at, end)
        seen += 1
    for i in range(seen):
        look_second(t, row(looks, i, look_dtype))
    for i in range(seen):
        look_third(t, row(looks, i, look_dtype))
    for i in range(seen):
        look_fourth(agent, t, row(looks, i, look_dtype))
    for i in range(seen):
        look_fifth(t, row(looks, i, look_dtype))
