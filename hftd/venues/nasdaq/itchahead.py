"""Looking ahead: the lines that later messages of a run will need are asked for while earlier ones are applied.

Three looks at each message, STAGE messages apart, each fetching what the last one found the address of:

                 of its order                        of its book
    first        the slot of its reference           all its lines, and the quote
    second       the first order of that slot        the slots a price goes in among; the level that is joined
    third        the level that order stands in
    last         when the message is next: what its turn reads first, from the second-level cache into the first

Where orders do not fit the cache but books do, those at the order are enough (`look_at_orders`), and worth a sixth with 30,000 live
orders. Where there are so many instruments that books do not fit either, both are made (`look_at_all`). What a message is, is a
coin toss, so no look branches on it: it chooses addresses, or fetches what may be for nothing. Nothing that looks read is believed:
a message that comes in between may change it. What counts is that no load of a message's own turn has to wait: one that does costs
as much as five messages. What few messages need is not looked for: what a replacement adds to, what moves where a level closes;
asking cost every message more than it saved these.

Looks at all go to the second-level cache only, where three times as many lines may be under way as in the first; from there the
next look has them in a few cycles. A message's turn goes through three of them one after the other, so the last look fetches those
nearer.

In a long run one message is looked at for each that has its turn; groups, looked at and then applied, took a sixth longer. In a
packet the first message should not wait for what the last one needs: GROUP messages at a time (`look_at_group`). Looking is a call
of its own: runs that do not look ahead do not pay for it.
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
    prefetch_write,
    record_at,
    row,
    span,
    swap16,
    swap32,
    swap64,
)
from hftd.feed.book import SLOT_BYTES, TOP_BYTES, TOPS_AT, end_of_rest, last_word, tables
from hftd.feed.memory import LANES, book_dtype, level_dtype, side_dtype, slot_dtype
from hftd.feed.moves import count_above
from hftd.feed.orders import head_dtype, resting_dtype, slot_of
from hftd.feed.state import DOES_TAKE, LOOKS, kind_dtype, listed_dtype, look_dtype
from hftd.msg.records import quote_dtype
from hftd.venues.nasdaq.itch50 import add_order_dtype, add_order_mpid_dtype, order_delete_dtype
from hftd.venues.nasdaq.itchrare import SELL

STAGE = 8
"""Messages between two looks at a message, and between the last and its turn."""
LOOKED = 3 * STAGE
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

HEAD_BYTES, RESTING_BYTES, BOOK_BYTES = head_dtype.itemsize, resting_dtype.itemsize, book_dtype.itemsize
LEVEL_BYTES, QUOTE_BYTES, SIDE_BYTES = level_dtype.itemsize, quote_dtype.itemsize, side_dtype.itemsize
REF_AT, SIDE_AT, PRICE_AT = (2 + offset_of(add_order_dtype, name) for name in ("ref", "side", "price"))
"""Of a framed message."""
SIDES_AT = offset_of(book_dtype, "sides")

assert LOOKS > LOOKED


@leaf
def ask(address, near):
    """Ask for the line at an address: for the first-level cache, to be written, or for the second-level cache."""
    if near:
        prefetch_write(address)
    else:
        prefetch_far(address)


@leaf
def choose(a, b, mask):
    """Return `a` where mask is 0, `b` where it is -1, without a branch."""
    return a ^ ((a ^ b) & mask)


# ---------------------------------------------------------------- orders


@leaf
def look_for_slot(t, ahead, at, end, near):
    """First look at the message framed at `at`: fetch the slot of its reference. Returns where the next one is."""
    length, slot = 0, 0
    if at + LONGEST <= end:
        length = 2 + swap16(load16(at))
        slot = slot_of(swap64(load64(at + REF_AT)), t.mask)
        ask(t.heads.base + HEAD_BYTES * slot, near)
    ahead.slot = slot
    return at + length


@leaf
def look_for_order(t, ahead, near):
    """Second look: fetch the first order of the slot. Where there is none, and so for most that come, that is row 0."""
    order = row(t.heads, ahead.slot, head_dtype).order * 1
    ask(t.orders.base + RESTING_BYTES * order, near)
    ahead.order = order


@leaf
def look_for_level(t, ahead, near):
    """Third look: fetch the level that order stands in. Returns its row."""
    level = row(t.orders, ahead.order, resting_dtype).level * 1
    ask(t.levels.base + LEVEL_BYTES * level, near)
    return level


# ---------------------------------------------------------------- books


@leaf
def look_for_book(agent, t, listing, kinds, ahead, at, end):
    """First look at the message framed at `at`: fetch its book and its quote, whatever it does to them."""
    if at + LONGEST <= end:
        instrument = max(row(listing, swap16(load16(at + 3)), listed_dtype).instrument - 1, 0)
        which = 1 if load8(at + SIDE_AT) == SELL else 0
        px = swap32(load32(at + PRICE_AT))
        book_at = t.books.base + BOOK_BYTES * instrument
        prefetch_far(book_at)
        prefetch_far(book_at + TOPS_AT)
        prefetch_far(book_at + TOPS_AT + TOP_BYTES)
        prefetch_far(agent.quotes.base + QUOTE_BYTES * instrument)
        ahead.side_at = book_at + SIDES_AT + SIDE_BYTES * which
        ahead.top_at = book_at + TOPS_AT + TOP_BYTES * which
        ahead.word = last_word(-px if which == 1 else px)
        ahead.takes = -1 if row(kinds, load8(at + 2), kind_dtype).does & DOES_TAKE != 0 else 0


@leaf
def look_for_price(t, ahead):
    """Second look: fetch the slots that an order which comes goes in among, and of those in the top the level it is to join.

    Of a message that takes there is no price: what its bytes say is the price of no level, or of any.
    """
    better = count_above(ahead.top_at, ahead.word)
    side = record_at(ahead.side_at, side_dtype)
    near_at = choose(ahead.top_at * 1, end_of_rest(t, side) - TOP_BYTES, -(better // LANES))
    prefetch_far(near_at)
    prefetch_far(near_at + TOP_BYTES - SLOT_BYTES)
    joined_at = ahead.top_at + SLOT_BYTES * (LANES - 1 - min(better, LANES - 1))
    level = record_at(joined_at, slot_dtype).level & ~ahead.takes
    prefetch_far(t.levels.base + LEVEL_BYTES * level)
    ahead.level = level


@leaf
def look_last(t, ahead):
    """Last look: fetch nearer what the message's turn, which is next, has to wait for."""
    prefetch_write(t.orders.base + RESTING_BYTES * ahead.order)
    prefetch_write(t.levels.base + LEVEL_BYTES * ahead.level)
    prefetch_write(ahead.top_at)


# ---------------------------------------------------------------- runs


@leaf
def look_first(agent, t, listing, kinds, ahead, at, end):
    """First look at all that the message framed at `at` needs. Returns where the next one is."""
    look_for_book(agent, t, listing, kinds, ahead, at, end)
    return look_for_slot(t, ahead, at, end, False)


@leaf
def look_second(t, ahead):
    """Second look at all that a message needs."""
    look_for_order(t, ahead, False)
    look_for_price(t, ahead)


@leaf
def look_third(t, ahead):
    """Third look at all that a message needs."""
    ahead.level = choose(ahead.level * 1, look_for_level(t, ahead, False), ahead.takes)


@hot
def look_at_all(agent, far, end, k):
    """Look at the message framed at `far`, number k of a long run, and again at those before it. Returns where the next one is."""
    apart()
    t = tables(agent.engine)
    listing, kinds, looks = span(agent.listed), span(agent.kinds), span(agent.looks)
    prefetch_far(far + READ_AHEAD)
    far = look_first(agent, t, listing, kinds, row(looks, k & LOOK_MASK, look_dtype), far, end)
    look_second(t, row(looks, (k - STAGE) & LOOK_MASK, look_dtype))
    look_third(t, row(looks, (k - 2 * STAGE) & LOOK_MASK, look_dtype))
    look_last(t, row(looks, (k - LOOKED + 1) & LOOK_MASK, look_dtype))
    return far


@hot
def look_at_orders(agent, far, end, k):
    """As `look_at_all`, at the order of the message and at nothing else."""
    apart()
    t = tables(agent.engine)
    looks = span(agent.looks)
    far = look_for_slot(t, row(looks, k & LOOK_MASK, look_dtype), far, end, True)
    look_for_order(t, row(looks, (k - STAGE) & LOOK_MASK, look_dtype), True)
    look_for_level(t, row(looks, (k - 2 * STAGE) & LOOK_MASK, look_dtype), True)
    return far


@leaf
def look_on(agent, far, end, k, all_of_it):
    """Look at the next message of a long run, at all of it or at its order. Returns where the next one is."""
    return look_at_all(agent, far, end, k) if all_of_it else look_at_orders(agent, far, end, k)


@leaf
def fetch(agent, t, listing, at):
    """Ask for what a framed message says itself that it needs, all at once: book, slot of the reference, quote.

    The quote is written at the end of a message's turn, too far away for the processor to begin with it by itself.
    """
    instrument = max(row(listing, swap16(load16(at + 3)), listed_dtype).instrument - 1, 0)
    prefetch_write(t.heads.base + HEAD_BYTES * slot_of(swap64(load64(at + REF_AT)), t.mask))
    prefetch_write(t.books.base + BOOK_BYTES * instrument)
    prefetch_far(agent.quotes.base + QUOTE_BYTES * instrument)
    prefetch_far(agent.quotes.base + QUOTE_BYTES * instrument + 64)


@hot
def fetch_few(agent, at, end):
    """Fetch for each of a few messages."""
    apart()
    t, listing = tables(agent.engine), span(agent.listed)
    while at + SHORTEST <= end:
        fetch(agent, t, listing, at)
        at += 2 + swap16(load16(at))


@hot
def look_at_group(agent, at, end, all_of_it):
    """Look at the next GROUP messages of a short run, as often as they need, before the first of them has its turn."""
    apart()
    t = tables(agent.engine)
    listing, kinds, looks = span(agent.listed), span(agent.kinds), span(agent.looks)
    seen = 0
    while at + LONGEST <= end and seen < GROUP:
        ahead = row(looks, seen, look_dtype)
        at = look_first(agent, t, listing, kinds, ahead, at, end) if all_of_it else look_for_slot(t, ahead, at, end, True)
        seen += 1
    for i in range(seen):
        if all_of_it:
            look_second(t, row(looks, i, look_dtype))
        else:
            look_for_order(t, row(looks, i, look_dtype), True)
    for i in range(seen):
        if all_of_it:
            look_third(t, row(looks, i, look_dtype))
        else:
            look_for_level(t, row(looks, i, look_dtype), True)
