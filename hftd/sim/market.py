"""A whole market's messages, made fast: thousands of symbols, any number of live orders, a hundred million messages in seconds.

`hftd sim` matches orders and answers them, for a few symbols; this only says what a market says, as ITCH 5.0, for loads that the
feed must carry. What it says is valid by construction: every order that leaves was there, no book is ever crossed or locked, no
reference comes twice.

    symbol ─▶ anchor (ticks): asks stand at it and above, bids below it
           ─▶ counts of bids and asks by tick, so that the anchor moves only past ticks where nobody stands
           ─▶ its live orders, the youngest last; most of those that leave are young

The mix is that of genuine days (`calibration.py`): adds 43 %, deletes 40 %, replaces 10 %, executions 5 %, partial cancels 1 %,
prints and imbalances the rest. Which symbol: by a table of shares (Zipf). How deep: by a table of ticks.
"""

from hftd.core.jit import hot, leaf
from hftd.core.layout import LINE, layout
from hftd.core.memory import record_at, row, span, span_dtype, store16, store64, swap16, swap32, swap64
from hftd.sim.chance import below, chance
from hftd.venues.nasdaq import itch50 as itch
from hftd.venues.nasdaq.moldudp64 import HEADER, PAYLOAD_MAX, packet_dtype

TICK = 100
LADDER = 512
"""Ticks whose orders are counted, around the anchor; what is further shares a count, which only keeps the anchor where it is."""
YOUNG = 64
"""Of the orders that leave, most are among so many of the youngest."""
PICKS, DEPTHS = 1 << 14, 1 << 10
"""Rows of the tables of shares and of depths."""
BUY, SELL, YES, NO_CROSS, REGULAR = ord("B"), ord("S"), ord("Y"), ord("O"), ord("L")
MESSAGE_MAX = 2 + itch.noii_dtype.itemsize

pick_dtype = layout("market_pick", 4, [("symbol", "i4")])
depth_dtype = layout("market_depth", 4, [("ticks", "i4")])
count_dtype = layout("market_count", 8, [("bids", "i4"), ("asks", "i4")])

live_dtype = layout("market_live", 24, [
    ("ref", "i8"),
    ("ticks", "i4"),                              # price
    ("qty", "i4"),
    ("which", "i8"),                              # Side
])  # fmt: skip

listing_dtype = layout("market_listing", LINE, [
    ("stock", "i8"),
    ("live", "i8"),                               # its first row of `live`
    ("count", "i8"),                              # live orders
    ("room", "i8"),
    ("target", "i8"),                             # live orders it tends to
    ("anchor", "i8"),                             # ticks
    ("ladder", "i8"),                             # its first row of `counts`
    ("pad0", "i8"),
])  # fmt: skip

market_dtype = layout("market", 192, [
    ("random", "u4"), ("random2", "u4"),          # chance.py
    ("ts", "i8"),                                 # ns since midnight
    ("gap", "i8"),                                # mean ns between messages
    ("ref", "i8"),                                # last reference
    ("match", "i8"),                              # last match number
    ("messages", "i8"),                           # made so far
    ("fill", "i8"),                               # the first messages add so many orders, to each symbol in turn
    ("filled", "i8"),
    ("listings", span_dtype),                     # listing_dtype; locate is the row + 1
    ("live", span_dtype),                         # live_dtype
    ("counts", span_dtype),                       # count_dtype
    ("picks", span_dtype),                        # pick_dtype
    ("depths", span_dtype),                       # depth_dtype
    ("session_a", "i8"),                          # of packets, as moldudp64.packet_dtype has it
    ("session_b", "i8"),
    ("pad", ("i8", (4,))),
])  # fmt: skip


@leaf
def say(market, at, kind, locate, size):
    """Write the frame and the header of a message; return its address."""
    market.ts += below(market, 2 * market.gap)
    market.messages += 1
    store16(at, swap16(size))
    head = record_at(at + 2, itch.header_dtype)
    head.type = kind
    head.locate = swap16(locate)
    head.tracking = 0
    itch.set_stamp(head, market.ts)
    return at + 2


@leaf
def tally(market, listing, ticks, which, change):
    """Count an order at a tick, or no longer."""
    counted = row(span(market.counts), listing.ladder + (ticks & (LADDER - 1)), count_dtype)
    if which == 0:
        counted.bids += change
    else:
        counted.asks += change


@leaf
def drift(market, listing):
    """Move the anchor by a tick, where nobody stands in the way."""
    counts = span(market.counts)
    if below(market, 2) == 0:
        if row(counts, listing.ladder + (listing.anchor & (LADDER - 1)), count_dtype).asks == 0:
            listing.anchor += 1
    elif listing.anchor > LADDER and row(counts, listing.ladder + ((listing.anchor - 1) & (LADDER - 1)), count_dtype).bids == 0:
        listing.anchor -= 1


@leaf
def place(market, listing, which):
    """Return the ticks of a new order's price."""
    depth = row(span(market.depths), below(market, DEPTHS), depth_dtype).ticks
    return listing.anchor - 1 - depth if which == 0 else listing.anchor + depth


@leaf
def size(market):
    """Return the shares of a new order."""
    if chance(market, 600_000):
        return 100
    return 100 * (1 + below(market, 10)) if chance(market, 500_000) else 1 + below(market, 500)


@leaf
def put(market, listing, ref, ticks, qty, which):
    """Enter an order into the listing's live ones."""
    order = row(span(market.live), listing.live + listing.count, live_dtype)
    order.ref = ref
    order.ticks = ticks
    order.qty = qty
    order.which = which
    listing.count += 1
    tally(market, listing, ticks, which, 1)


@leaf
def choose(market, listing):
    """Return the row of an order that is to leave."""
    count = listing.count
    back = below(market, min(count, YOUNG)) if chance(market, 800_000) else below(market, count)
    return listing.live + count - 1 - back


@hot
def drop(market, listing, at):
    """Take the order in row `at` out of the listing's live ones; the young keep their order."""
    live = span(market.live)
    order = row(live, at, live_dtype)
    tally(market, listing, order.ticks * 1, order.which * 1, -1)
    last = listing.live + listing.count - 1
    if last - at > YOUNG:
        moved = row(live, last, live_dtype)
        order.ref, order.ticks, order.qty, order.which = moved.ref, moved.ticks, moved.qty, moved.which
    else:
        for i in range(at, last):
            here, after = row(live, i, live_dtype), row(live, i + 1, live_dtype)
            here.ref, here.ticks, here.qty, here.which = after.ref, after.ticks, after.qty, after.which
    listing.count -= 1


@leaf
def next_ref(market):
    """Return a fresh reference: they rise, with holes."""
    market.ref += 1 if chance(market, 750_000) else 1 + below(market, 6)
    return market.ref


@hot
def say_add(market, listing, locate, at):
    """A, F. Returns the address after the message."""
    if chance(market, 50_000):
        drift(market, listing)
    which = below(market, 2)
    ticks, qty, ref = place(market, listing, which), size(market), next_ref(market)
    signed = chance(market, 30_000)
    length = 40 if signed else 36
    add = record_at(say(market, at, itch.ADD_ORDER_MPID if signed else itch.ADD_ORDER, locate, length), itch.add_order_mpid_dtype)
    add.ref = swap64(ref)
    add.side = SELL if which == 1 else BUY
    add.shares = swap32(qty)
    add.stock = listing.stock
    add.price = swap32(ticks * TICK)
    if signed:
        add.attribution = 0x554D4953                  # SIMU
    put(market, listing, ref, ticks, qty, which)
    return at + 2 + length


@hot
def say_delete(market, listing, locate, at):
    """D. Returns the address after the message."""
    index = choose(market, listing)
    gone = record_at(say(market, at, itch.ORDER_DELETE, locate, 19), itch.order_delete_dtype)
    gone.ref = swap64(row(span(market.live), index, live_dtype).ref)
    drop(market, listing, index)
    return at + 21


@hot
def say_replace(market, listing, locate, at):
    """U: at the old price in one of seven, with the old size in half. Returns the address after the message."""
    index = choose(market, listing)
    order = row(span(market.live), index, live_dtype)
    old, which = order.ref, order.which * 1
    ticks = order.ticks * 1 if chance(market, 150_000) else place(market, listing, which)
    if which == 0 and ticks >= listing.anchor:
        ticks = listing.anchor - 1
    elif which == 1 and ticks < listing.anchor:
        ticks = listing.anchor * 1
    qty = order.qty * 1 if chance(market, 500_000) else size(market)
    ref = next_ref(market)
    drop(market, listing, index)
    replaced = record_at(say(market, at, itch.ORDER_REPLACE, locate, 35), itch.order_replace_dtype)
    replaced.orig_ref = swap64(old)
    replaced.new_ref = swap64(ref)
    replaced.shares = swap32(qty)
    replaced.price = swap32(ticks * TICK)
    put(market, listing, ref, ticks, qty, which)
    return at + 37


@hot
def say_executed(market, listing, locate, at):
    """E, C: of a few orders the one that stands best, half of the time all of it. Returns the address after the message."""
    live = span(market.live)
    index, best = 0, 1 << 40
    for _ in range(4):
        tried = choose(market, listing)
        order = row(live, tried, live_dtype)
        away = listing.anchor - order.ticks if order.which == 0 else order.ticks - listing.anchor + 1
        if away < best:
            index, best = tried, away
    order = row(live, index, live_dtype)
    qty = order.qty * 1 if chance(market, 500_000) else 1 + below(market, order.qty * 1)
    market.match += 1
    priced = chance(market, 60_000)
    length = 36 if priced else 31
    kind = itch.ORDER_EXECUTED_PRICE if priced else itch.ORDER_EXECUTED
    executed = record_at(say(market, at, kind, locate, length), itch.order_executed_price_dtype)
    executed.ref = swap64(order.ref)
    executed.shares = swap32(qty)
    executed.match = swap64(market.match)
    if priced:
        executed.printable = YES
        executed.price = swap32(order.ticks * TICK)
    if qty == order.qty:
        drop(market, listing, index)
    else:
        order.qty -= qty
    return at + 2 + length


@hot
def say_cancel(market, listing, locate, at):
    """X, of an order that has more than a share. Returns the address after the message, or `at`."""
    order = row(span(market.live), choose(market, listing), live_dtype)
    if order.qty < 2:
        return at
    qty = 1 + below(market, order.qty - 1)
    cut = record_at(say(market, at, itch.ORDER_CANCEL, locate, 23), itch.order_cancel_dtype)
    cut.ref = swap64(order.ref)
    cut.shares = swap32(qty)
    order.qty -= qty
    return at + 25


@hot
def say_other(market, listing, locate, at):
    """P, I: a print of a hidden order, or an imbalance. Returns the address after the message."""
    px = swap32(listing.anchor * TICK)
    if chance(market, 750_000):
        market.match += 1
        trade = record_at(say(market, at, itch.TRADE, locate, 44), itch.trade_dtype)
        trade.ref = 0
        trade.side = BUY
        trade.shares = swap32(size(market))
        trade.stock = listing.stock
        trade.price = px
        trade.match = swap64(market.match)
        return at + 46
    noii = record_at(say(market, at, itch.NOII, locate, 50), itch.noii_dtype)
    noii.paired_shares = swap64(1000)
    noii.imbalance_shares = swap64(10)
    noii.imbalance_direction = BUY
    noii.stock = listing.stock
    noii.far_price = px
    noii.near_price = px
    noii.current_reference_price = px
    noii.cross_type = NO_CROSS
    noii.price_variation_indicator = REGULAR
    return at + 52


@leaf
def say_one(market, at):
    """Write the next message at an address, framed; return the address after it. MESSAGE_MAX bytes at most."""
    if market.filled < market.fill:
        index = market.filled % market.listings.count
        market.filled += 1
        return say_add(market, row(span(market.listings), index, listing_dtype), index + 1, at)
    index = row(span(market.picks), below(market, PICKS), pick_dtype).symbol * 1
    listing = row(span(market.listings), index, listing_dtype)
    locate, count, what = index + 1, listing.count, below(market, 1000)
    crowded = count >= listing.room or (count > 2 * listing.target and below(market, 2) == 0)
    if count == 0 or (what < 425 and not crowded):
        return say_add(market, listing, locate, at)
    if what < 830:
        if count < listing.target >> 1:
            return say_add(market, listing, locate, at)
        return say_delete(market, listing, locate, at)
    if what < 930:
        return say_replace(market, listing, locate, at)
    if what < 980:
        return say_executed(market, listing, locate, at)
    if what < 992:
        return say_cancel(market, listing, locate, at)
    return say_other(market, listing, locate, at)


@hot
def make_run(market, at, end, most):
    """Write framed messages from `at` on, at most `most` and none beyond `end`; return the address after the last."""
    stop = market.messages + most
    while market.messages < stop and at + MESSAGE_MAX <= end:
        at = say_one(market, at)
    return at


@hot
def make_packets(market, at, end, most):
    """Write MoldUDP64 packets, each behind its length (i8), up to `end` or `most` messages; return the address after the last."""
    stop = market.messages + most
    while market.messages < stop and at + PAYLOAD_MAX + 16 <= end:
        first = market.messages
        head = at + 8
        body = head + HEADER
        while market.messages < stop and body + MESSAGE_MAX <= head + PAYLOAD_MAX:
            body = say_one(market, body)
        store64(at, body - head)
        packet = record_at(head, packet_dtype)
        packet.session_a = market.session_a
        packet.session_b = market.session_b
        packet.sequence = swap64(first + 1)
        packet.count = swap16(market.messages - first)
        at = (body + 7) & -8
    return at
