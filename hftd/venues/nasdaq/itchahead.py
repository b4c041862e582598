"""Looking ahead: the lines that later messages of a run will need are asked for while earlier ones are applied.

Where orders do not fit the cache but books do, three looks at a message's order are enough (`look_at_orders`): the slot of its
reference, the first order of that slot, the level that stands in, STAGE messages apart. They take all messages for the same, and
are worth a sixth with 30,000 live orders.

Where there are so many instruments that books do not fit either, all that a message needs is looked at, seven times. Six looks are
STAGE messages apart, each fetching what the last one found the address of:

    first     its book; the top it adds to; the slot of its reference
    second    the first order of that slot
    third     the level it takes from; the slots it adds among
    fourth    the level whose price it adds at; the top where a level may go; the quote, where the top may move
    fifth     of a replacement: the slots it adds among
    sixth     of a replacement: the level whose price it adds at
    last      when the message is next: what its turn reads first, from the second-level cache into the first

What a message is, is a coin toss, so the first four do not branch on it: they choose addresses, and where there is nothing to fetch
they ask for a line that is there already. Nothing they read is believed: a message that comes in between may change it, and then a
line was fetched for nothing. What counts is that no load of a message's own turn has to wait: one that does costs as much as five
messages. The first six fetch to the second-level cache only, where three times as many lines may be under way as in the first; from
there the next look has them in a few cycles. A message's turn goes through three of them one after the other, so the last look
fetches those nearer.

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
from hftd.feed.book import SLOT_BYTES, TOP_BYTES, TOPS_AT, end_of_rest, last_word, side_of, tables
from hftd.feed.memory import LANES, book_dtype, level_dtype, side_dtype, slot_dtype
from hftd.feed.moves import count_above
from hftd.feed.orders import head_dtype, resting_dtype, slot_of
from hftd.feed.state import DOES_ADD, DOES_TAKE, LOOKS, kind_dtype, listed_dtype, look_dtype
from hftd.msg.records import quote_dtype
from hftd.venues.nasdaq.itch50 import add_order_dtype, add_order_mpid_dtype, order_delete_dtype, order_replace_dtype
from hftd.venues.nasdaq.itchrare import SELL

STAGE = 8
"""Messages between two looks at a message, and between the last and its turn."""
LOOKED = 6 * STAGE
"""Messages that a message is looked at before its turn."""
READ_AHEAD = 2048
"""Bytes ahead of the first look that a long run itself is fetched: the processor's own prefetcher ends with each page."""
ORDERS_LOOKED = 3 * STAGE
"""The same where only orders are looked at."""
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

assert LOOKS > LOOKED


@leaf
def taking(does):
    """Return -1 where a message takes from an order, else 0: to choose with, without a branch."""
    return -1 if does & DOES_TAKE != 0 else 0


@leaf
def choose(a, b, mask):
    """Return `a` where mask is 0, `b` where it is -1, without a branch."""
    return a ^ ((a ^ b) & mask)


@leaf
def look_first(t, listing, kinds, ahead, at, end):
    """First look at the message framed at `at`: fetch its book, the top it adds to, and the slot of its reference.

    Returns where the next one is.
    """
    length, does, instrument = 0, 0, 0
    if at + LONGEST <= end:
        length = 2 + swap16(load16(at))
        does = row(kinds, load8(at + 2), kind_dtype).does * 1
        instrument = max(row(listing, swap16(load16(at + 3)), listed_dtype).instrument - 1, 0)
        slot = slot_of(swap64(load64(at + REF_AT)), t.mask)
        which = 1 if load8(at + SIDE_AT) == SELL else 0
        px = swap32(load32(at + PRICE_AT))
        book_at = t.books.base + BOOK_BYTES * instrument
        top_at = choose(book_at + TOPS_AT + TOP_BYTES * which, t.slots.base, taking(does))
        prefetch_far(t.heads.base + HEAD_BYTES * slot)
        prefetch_far(book_at)
        prefetch_far(top_at)
        ahead.new_px = swap32(load32(at + NEW_PRICE_AT))
        ahead.slot = slot
        ahead.word = last_word(-px if which == 1 else px)
        ahead.side_at = book_at + SIDES_AT + SIDE_BYTES * which
        ahead.top_at = top_at
    ahead.instrument = instrument
    ahead.does = does
    return at + length


@leaf
def fetch_near(t, side, top_at, word):
    """Fetch the slots in which a price is looked for: the top of a side, or what is next to it. Returns their address."""
    near_at = choose(top_at, end_of_rest(t, side) - TOP_BYTES, -(count_above(top_at, word) // LANES))
    prefetch_far(near_at)
    prefetch_far(near_at + TOP_BYTES - SLOT_BYTES)
    return near_at


@leaf
def slot_near(near_at, word):
    """Return the address, of LANES slots, of the one whose level an order of price `word` joins or goes in above."""
    return near_at + SLOT_BYTES * (LANES - 1 - min(count_above(near_at, word), LANES - 1))


@leaf
def look_second(t, ahead):
    """Second look: fetch the first order of the slot."""
    order = row(t.heads, ahead.slot, head_dtype).order * 1
    prefetch_far(t.orders.base + RESTING_BYTES * order)
    ahead.order = order


@leaf
def look_third(t, ahead):
    """Third look: fetch the level it takes from, or the slots it adds among."""
    level = row(t.orders, ahead.order, resting_dtype).level & taking(ahead.does)
    prefetch_far(t.levels.base + LEVEL_BYTES * level)
    ahead.near_at = fetch_near(t, record_at(ahead.side_at, side_dtype), ahead.top_at, ahead.word)
    ahead.level = level


@leaf
def look_fourth(agent, t, ahead):
    """Fourth look: fetch the level whose price it adds at, the top where a level may go, and the quote."""
    takes = taking(ahead.does)
    taken = row(t.levels, ahead.level, level_dtype)
    which, moves = side_of(taken), taken.orders == 1 or ahead.does & BOTH == BOTH
    joins_at = slot_near(ahead.near_at, ahead.word)
    level = choose(record_at(joins_at, slot_dtype).level * 1, ahead.level * 1, takes)
    prefetch_far(t.levels.base + LEVEL_BYTES * level)
    book_at = t.books.base + BOOK_BYTES * ahead.instrument
    side_at = choose(ahead.side_at * 1, book_at + SIDES_AT + SIDE_BYTES * which, takes)
    top_at = choose(t.slots.base, book_at + TOPS_AT + TOP_BYTES * which, -moves)  # never of another side than side_at
    top_at = choose(ahead.top_at * 1, top_at, takes)
    prefetch_far(top_at)
    side = record_at(side_at, side_dtype)
    rest_at = choose(book_at, end_of_rest(t, side) - SLOT_BYTES, takes & -moves)
    prefetch_far(rest_at)
    prefetch_far(rest_at + SLOT_BYTES - TOP_BYTES)
    quote_at = agent.quotes.base + QUOTE_BYTES * (ahead.instrument if level == side.best else 0)
    prefetch_far(quote_at)
    prefetch_far(quote_at + 64)
    ahead.side_at = side_at
    ahead.top_at = top_at
    ahead.level = level


@leaf
def look_fifth(t, ahead):
    """Fifth look, at a replacement: fetch the slots it adds among. (One message in ten: this is a branch.)"""
    if ahead.does & BOTH == BOTH:
        sells = (ahead.side_at ^ SIDES_AT) & SIDE_BYTES != 0  # a book begins a line
        word = last_word(-ahead.new_px if sells else ahead.new_px * 1)
        ahead.near_at = fetch_near(t, record_at(ahead.side_at, side_dtype), ahead.top_at, word)
        ahead.word = word


@leaf
def look_sixth(t, ahead):
    """Sixth look, at a replacement: fetch the level whose price it adds at."""
    if ahead.does & BOTH == BOTH:
        level = record_at(slot_near(ahead.near_at, ahead.word), slot_dtype).level * 1
        prefetch_far(t.levels.base + LEVEL_BYTES * level)
        ahead.level = level


@leaf
def look_last(t, ahead):
    """Last look: fetch nearer what the message's turn, which is next, has to wait for."""
    prefetch_write(t.heads.base + HEAD_BYTES * ahead.slot)
    prefetch_write(t.orders.base + RESTING_BYTES * ahead.order)
    prefetch_write(t.levels.base + LEVEL_BYTES * ahead.level)
    prefetch_write(ahead.top_at)


@leaf
def fetch_slot(t, ahead, at, end):
    """First look at the order of the message framed at `at`: fetch the slot of its reference. Returns where the next message is."""
    length, slot = 0, 0
    if at + LONGEST <= end:
        length = 2 + swap16(load16(at))
        slot = slot_of(swap64(load64(at + REF_AT)), t.mask)
        prefetch_write(t.heads.base + HEAD_BYTES * slot)
    ahead.slot = slot
    return at + length


@leaf
def fetch_order(t, ahead):
    """Second look at an order: fetch the first of its slot. Where there is none, and so for most that come, that is row 0."""
    order = row(t.heads, ahead.slot, head_dtype).order * 1
    prefetch_write(t.orders.base + RESTING_BYTES * order)
    ahead.order = order


@leaf
def fetch_level(t, ahead):
    """Third look at an order: fetch the level it stands in."""
    prefetch_write(t.levels.base + LEVEL_BYTES * row(t.orders, ahead.order, resting_dtype).level)


@hot
def look_at_orders(agent, far, end, k):
    """As `look_at_all`, at the order of the message and at nothing else."""
    apart()
    t = tables(agent.engine)
    looks = span(agent.looks)
    far = fetch_slot(t, row(looks, k & LOOK_MASK, look_dtype), far, end)
    fetch_order(t, row(looks, (k - STAGE) & LOOK_MASK, look_dtype))
    fetch_level(t, row(looks, (k - 2 * STAGE) & LOOK_MASK, look_dtype))
    return far


@hot
def look_at_all(agent, far, end, k):
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
    look_sixth(t, row(looks, (k - 5 * STAGE) & LOOK_MASK, look_dtype))
    look_last(t, row(looks, (k - LOOKED + 1) & LOOK_MASK, look_dtype))
    return far


@leaf
def look_on(agent, far, end, k, all_of_it):
    """Look at the next message of a long run, at all of it or at its order. Returns where the next one is."""
    return look_at_all(agent, far, end, k) if all_of_it else look_at_orders(agent, far, end, k)


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
def look_at_group(agent, at, end, all_of_it):
    """Look at the next GROUP messages of a short run, as often as they need, before the first of them has its turn."""
    apart()
    t = tables(agent.engine)
    listing, kinds, looks = span(agent.listed), span(agent.kinds), span(agent.looks)
    seen = 0
    if not all_of_it:
        while at + LONGEST <= end and seen < GROUP:
            at = fetch_slot(t, row(looks, seen, look_dtype), at, end)
            seen += 1
        for i in range(seen):
            fetch_order(t, row(looks, i, look_dtype))
        for i in range(seen):
            fetch_level(t, row(looks, i, look_dtype))
        return
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
    for i in range(seen):
        look_sixth(t, row(looks, i, look_dtype))
