"""ITCH 5.0's rare messages: everything that touches no order, out of the way of those that `itchfeed.py` applies.

All of it is called, never inlined (`apart`). Each message becomes one event, or two where one has no room for all its fields; the
event goes into the instrument's status row (msg/status.py) and into the ring, so that the row and what strategies know are one.
SYSTEM and BREAKER_LEVELS carry instrument 0 and concern all.

A message with a price, a size or a code that cannot be changes nothing. Where a code only says whether something is forbidden,
one we do not know forbids: an unknown trading state is a halt, an unknown Reg SHO action a restriction.
"""

from hftd.core.apart import apart
from hftd.core.jit import hot, leaf
from hftd.core.memory import record_at, row, span, swap32, swap64
from hftd.feed.events import emit, end_change, make_room, set_state
from hftd.feed.memory import book_dtype, feed_counters_dtype
from hftd.feed.prints import remember_print, take_back
from hftd.feed.state import DOES_EMIT, SINK_RING, SNAPSHOT_APPLYING, listed_dtype, standing_dtype
from hftd.msg.enums import EventKind, TradingState
from hftd.msg.records import (
    FLAG_END_OF_PACKET,
    FLAG_SELL,
    INSTRUMENT_ANNOUNCED,
    INSTRUMENT_ROUND_LOTS,
    INSTRUMENT_SHORT_RESTRICTED,
    INSTRUMENT_TEST,
    instrument_dtype,
    quote_dtype,
    session_dtype,
    status_dtype,
)
from hftd.msg.status import BREAKER, OPERATIONAL, RESUMED, SHORT, START_OF_DAY, apply_session, apply_status
from hftd.shm.seqlock import begin_write, end_write
from hftd.venues.nasdaq.itch50 import (
    BROKEN_TRADE,
    CROSS_TRADE,
    DIRECT_LISTING,
    IPO_QUOTING,
    LULD_COLLAR,
    MWCB_LEVELS,
    MWCB_STATUS,
    NOII,
    OPERATIONAL_HALT,
    REG_SHO_RESTRICTION,
    RPII,
    STOCK_DIRECTORY,
    SYSTEM_EVENT,
    TRADE,
    TRADING_ACTION,
    broken_trade_dtype,
    cross_trade_dtype,
    direct_listing_dtype,
    ipo_quoting_dtype,
    luld_collar_dtype,
    mwcb_levels_dtype,
    mwcb_status_dtype,
    noii_dtype,
    operational_halt_dtype,
    participant_position_dtype,
    reg_sho_restriction_dtype,
    rpii_dtype,
    stock_directory_dtype,
    system_event_dtype,
    trade_dtype,
    trading_action_dtype,
)
from hftd.venues.nasdaq.itchdoubt import refuse_field, tell_state

SCALE = 10_000
TICK = 100
"""Price increment at and above one dollar, venue scale; below it is 1."""

PX_MAX = 0x77359400
"""200,000.0000: the highest price ITCH 5.0 allows."""

QTY_MAX = 1 << 40
"""Shares of a print or an auction that are believed."""

SECOND_NS, DAY_S = 1_000_000_000, 86_400

BUY, SELL, BOTH = ord("B"), ord("S"), ord("A")
YES, NO_TEST, THIS_MARKET, ACTIVE, DIGIT_0 = ord("Y"), ord("0"), ord("Q"), ord("A"), ord("0")
TEST_SYMBOL = ord("T")
MWC, MWC_MASK = int.from_bytes(b"MWC", "little"), 0xFFFFFF
"""Reasons of trading actions by which a market-wide breaker stops an instrument begin so: MWC1, MWC2, MWC3 by its level."""
CODE_TRADING, CODE_PAUSED, CODE_QUOTE_ONLY = ord("T"), ord("P"), ord("Q")

HIDDEN, STATUS, SYSTEM, BROKEN, DIRECTORY = (
    int(EventKind.HIDDEN_TRADE), int(EventKind.STATUS), int(EventKind.SYSTEM), int(EventKind.BROKEN), int(EventKind.DIRECTORY),
)  # fmt: skip
IMBALANCE, IMBALANCE_PRICES, COLLAR, IPO, RETAIL = (
    int(EventKind.IMBALANCE), int(EventKind.IMBALANCE_PRICES), int(EventKind.COLLAR), int(EventKind.IPO), int(EventKind.RETAIL),
)  # fmt: skip
LISTING, LISTING_LIMITS, PARTICIPANT, BREAKER_LEVELS = (
    int(EventKind.LISTING), int(EventKind.LISTING_LIMITS), int(EventKind.PARTICIPANT), int(EventKind.BREAKER_LEVELS),
)  # fmt: skip
TRADING, HALTED, PAUSED, QUOTE_ONLY = (
    int(TradingState.TRADING), int(TradingState.HALTED), int(TradingState.PAUSED), int(TradingState.QUOTE_ONLY),
)  # fmt: skip


# ---------------------------------------------------------------- which instruments


@hot
def learn(agent, locate, stock):
    """Tie the venue's `locate` to the instrument of symbol `stock`; return its listing: index + 1, or -1 when it is not followed.

    With a chosen list only its symbols are followed; without, every symbol gets the next row until the table is full.
    """
    apart()
    instruments = span(agent.instruments)
    listed = row(span(agent.listed), locate, listed_dtype)
    found = -1
    for index in range(agent.used):
        if row(instruments, index, instrument_dtype).symbol == stock:
            found = index
            break
    if found < 0 and agent.chosen == 0:
        if agent.used < instruments.count:
            found = agent.used
            agent.used += 1
            instrument = row(instruments, found, instrument_dtype)
            instrument.symbol = stock
            instrument.tick = TICK
            instrument.scale = SCALE
            instrument.lot = 100
            breach = record_at(agent.session_state_at, session_dtype).breaker
            if breach != 0:                           # it fell before we knew of the instrument
                begin_breaker(agent, found, breach)
        else:
            record_at(agent.counters_at, feed_counters_dtype).instruments_full += 1
    before = listed.instrument - 1
    if before >= 0 and before != found:               # what this packet still has of `locate` is no more about that one
        tell_state(agent, row(span(agent.engine.books), before, book_dtype), before, FLAG_END_OF_PACKET)
    if found < 0:
        listed.instrument = -1
        return -1
    instrument = row(instruments, found, instrument_dtype)
    if instrument.locate != locate and instrument.locate >= 0:
        row(span(agent.listed), instrument.locate, listed_dtype).instrument = -1
    instrument.locate = locate
    if instrument.flags & INSTRUMENT_ANNOUNCED == 0:
        instrument.flags |= INSTRUMENT_ANNOUNCED
        set_state(agent, found, agent.state, 1)
    listed.instrument = found + 1
    return found + 1


# ---------------------------------------------------------------- telling


@leaf
def trading_state(code):
    """Return the TradingState of a trading action's code."""
    if code == CODE_TRADING:
        return TRADING
    if code == CODE_PAUSED:
        return PAUSED
    if code == CODE_QUOTE_ONLY:
        return QUOTE_ONLY
    return HALTED                                     # halted, or a code we do not know: not to be traded


@hot
def tell(agent, instrument, event, px, qty, orders, ref, flags):
    """Enter an event in the instrument's status row, and publish it."""
    apart()
    status = row(span(agent.statuses), instrument, status_dtype)
    begin_write(status)
    apply_status(status, event, px, qty, ref, orders)
    end_write(status)
    if agent.sink == SINK_RING:
        make_room(agent, 1)
        emit(agent, row(span(agent.engine.books), instrument, book_dtype), instrument, event, px, qty, orders, ref, flags)


@hot
def begin_breaker(agent, instrument, breach):
    """Let a market-wide breaker of level `breach` fall on an instrument. Whether an action stopped it is asked anew."""
    apart()
    status = row(span(agent.statuses), instrument, status_dtype)
    begin_write(status)
    status.breaker = max(status.breaker, breach)
    end_write(status)
    quote = row(span(agent.quotes), instrument, quote_dtype)
    begin_write(quote)
    quote.breaker = status.breaker
    end_write(quote)
    row(span(agent.standings), instrument, standing_dtype).stopped = 0


@hot
def tell_all(agent, event, px, qty, ref):
    """Enter an event that concerns all instruments in the session's row, and publish it; let a breaker fall on each of them.

    The row stays open until all of that is done: who finds it so after our death tells the breaker again (feed/kept.py).
    """
    apart()
    session = record_at(agent.session_state_at, session_dtype)
    begin_write(session)
    breach = apply_session(session, event, px, qty, ref)
    if breach != 0:
        for index in range(agent.used):
            begin_breaker(agent, index, breach)
    if agent.sink == SINK_RING:
        make_room(agent, 1)
        emit(agent, row(span(agent.engine.books), 0, book_dtype), 0, event, px, qty, 0, ref, 0)
    end_write(session)


@hot
def fallen(agent):
    """Tell whether a market-wide breaker fell today."""
    return record_at(agent.session_state_at, session_dtype).breaker != 0


@hot
def find_breaker(agent, level):
    """An instrument is stopped now by a breaker of `level`: let it fall on all others, too, where its own message went by unheard.

    It was lost on both lines, and the snapshot that made up for it does not speak of breakers.
    """
    apart()
    if record_at(agent.session_state_at, session_dtype).breaker < level <= 3:
        tell_all(agent, SYSTEM, 0, BREAKER, level)


# ---------------------------------------------------------------- everything that does not touch a book


@hot
def apply_rare(agent, at, kind, does, instrument, end):
    """Apply a message that touches no order. instrument: index, or -1 when it carries no locate. end: FLAG_END_OF_PACKET or 0."""
    apart()
    if kind == IPO_QUOTING and instrument < 0:        # the specification leaves its locate at 0
        instrument = find_symbol(agent, record_at(at, ipo_quoting_dtype).stock)
        if instrument >= 0 and not more_to_come(agent, instrument):
            end = FLAG_END_OF_PACKET
    if instrument >= 0:
        book = row(span(agent.engine.books), instrument, book_dtype)
        begin_write(book)                             # whoever copies it has its prints and status as of the same message
        apply_told(agent, at, kind, does, instrument, end)
        end_change(agent, book)
    else:
        apply_told(agent, at, kind, does, instrument, end)


@hot
def more_to_come(agent, instrument):
    """Tell whether the packet has a message about the instrument, under its own locate, after the one at hand."""
    locate = row(span(agent.instruments), instrument, instrument_dtype).locate
    if locate < 0:
        return False
    ahead = (row(span(agent.listed), locate, listed_dtype).last - agent.wire_seq) & 0xFFFFFFFF
    return 0 < ahead < 0x80000000


@hot
def apply_told(agent, at, kind, does, instrument, end):
    """Apply a message as `apply_rare` has found out whom it is about."""
    apart()
    counters = record_at(agent.counters_at, feed_counters_dtype)
    if kind == SYSTEM_EVENT or kind == MWCB_STATUS or kind == MWCB_LEVELS:
        apply_market(agent, at, kind)
    elif instrument < 0 or does & DOES_EMIT == 0:
        counters.skipped += 1
    elif kind == TRADE or kind == CROSS_TRADE:
        apply_print(agent, at, kind, instrument, end)
    elif kind == TRADING_ACTION or kind == OPERATIONAL_HALT or kind == REG_SHO_RESTRICTION:
        apply_action(agent, at, kind, instrument, end)
    elif kind == STOCK_DIRECTORY:
        apply_directory(agent, at, instrument, end)
    elif kind == NOII:
        apply_imbalance(agent, at, instrument, end)
    elif kind == BROKEN_TRADE:
        counters.broken += 1
        match = swap64(record_at(at, broken_trade_dtype).match)
        px, qty, last_px = take_back(agent, instrument, match)
        tell(agent, instrument, BROKEN, px, qty, last_px, match, end)
    else:
        apply_notice(agent, at, kind, instrument, end)


@hot
def find_symbol(agent, stock):
    """Return the index of the instrument with symbol `stock`, -1 where none has it."""
    for index in range(agent.used):
        if row(span(agent.instruments), index, instrument_dtype).symbol == stock:
            return index
    return -1


@hot
def apply_market(agent, at, kind):
    """S V W: what concerns all instruments.

    A snapshot has the day's system events, its start among them: that ends no breaker that fell since.
    """
    apart()
    counters = record_at(agent.counters_at, feed_counters_dtype)
    if kind == SYSTEM_EVENT:
        code = record_at(at, system_event_dtype).event_code + 0
        if agent.snapshot != SNAPSHOT_APPLYING or code != START_OF_DAY or not fallen(agent):
            tell_all(agent, SYSTEM, 0, code, 0)
    elif kind == MWCB_STATUS:
        counters.breakers += 1
        level = record_at(at, mwcb_status_dtype).breached_level - DIGIT_0
        if 1 <= level <= 3:
            tell_all(agent, SYSTEM, 0, BREAKER, level)
        else:
            refuse_field(agent, 0, kind, 0)
    else:
        counters.breakers += 1
        levels = record_at(at, mwcb_levels_dtype)
        first, second, third = swap64(levels.level_1), swap64(levels.level_2), swap64(levels.level_3)
        if first < 0 or second < 0 or third < 0:
            refuse_field(agent, 0, kind, 0)
        else:
            tell_all(agent, BREAKER_LEVELS, first, second, third)


@hot
def apply_print(agent, at, kind, instrument, end):
    """P Q: a print that touches no displayed order."""
    apart()
    counters = record_at(agent.counters_at, feed_counters_dtype)
    flags = cross_type = 0
    if kind == TRADE:
        trade = record_at(at, trade_dtype)
        px, qty, match = swap32(trade.price), swap32(trade.shares), swap64(trade.match)
        flags = FLAG_SELL if trade.side == SELL else 0
    else:
        cross = record_at(at, cross_trade_dtype)
        px, qty, match, cross_type = swap32(cross.price), swap64(cross.shares), swap64(cross.match), cross.cross_type + 0
    if qty < 0 or qty > QTY_MAX or px > PX_MAX:
        refuse_field(agent, instrument, kind, end)
        return
    counters.hidden_trades += 1
    counters.hidden_volume += qty
    counters.volume += qty
    quote = row(span(agent.quotes), instrument, quote_dtype)
    if qty > 0:
        begin_write(quote)
        quote.last_px = px
        quote.last_qty = qty
        quote.volume += qty
        remember_print(agent, quote, instrument, match, px, qty, 1)
        quote.ts_event = agent.ts_event
        quote.ts_recv = agent.ts_recv
        end_write(quote)
    tell(agent, instrument, HIDDEN, px, qty, cross_type, match, flags | end)


@hot
def apply_imbalance(agent, at, instrument, end):
    """I: what an auction would do now, in two events."""
    apart()
    noii = record_at(at, noii_dtype)
    paired, imbalance, sell = swap64(noii.paired_shares), swap64(noii.imbalance_shares), noii.imbalance_direction == SELL
    far, near, reference = swap32(noii.far_price), swap32(noii.near_price), swap32(noii.current_reference_price)
    if paired < 0 or paired > QTY_MAX or imbalance < 0 or imbalance > QTY_MAX or max(far, near, reference) > PX_MAX:
        refuse_field(agent, instrument, NOII, end)
        return
    record_at(agent.counters_at, feed_counters_dtype).imbalances += 1
    codes = (noii.imbalance_direction + 0) + ((noii.cross_type + 0) << 8) + ((noii.price_variation_indicator + 0) << 16)
    tell(agent, instrument, IMBALANCE_PRICES, far, reference, 0, 0, 0)
    tell(agent, instrument, IMBALANCE, near, paired, codes, -imbalance if sell else imbalance, (FLAG_SELL if sell else 0) | end)


@hot
def apply_directory(agent, at, instrument, end):
    """R: what the venue says of an instrument in the morning."""
    apart()
    record_at(agent.counters_at, feed_counters_dtype).directory += 1
    directory = record_at(at, stock_directory_dtype)
    facts = row(span(agent.instruments), instrument, instrument_dtype)
    lot = swap32(directory.round_lot_size)
    facts.lot = lot if lot > 0 else 100
    if directory.authenticity == TEST_SYMBOL:
        facts.flags |= INSTRUMENT_TEST
    if directory.round_lots_only == YES:
        facts.flags |= INSTRUMENT_ROUND_LOTS
    else:
        facts.flags &= ~INSTRUMENT_ROUND_LOTS
    facts.category = directory.market_category
    facts.financial = directory.financial_status_indicator
    facts.classification = directory.issue_classification
    facts.sub_type = directory.issue_sub_type
    facts.threshold = directory.short_sale_threshold_indicator
    facts.ipo = directory.ipo_flag
    facts.tier = directory.luld_reference_price_tier
    facts.etp = directory.etp_flag
    facts.leverage = swap32(directory.etp_leverage_factor)
    facts.inverse = directory.inverse_indicator
    tell(agent, instrument, DIRECTORY, 0, facts.locate, 0, facts.lot, end)


@hot
def apply_action(agent, at, kind, instrument, end):
    """H h Y: what may be done with an instrument. Trading resumed ends a pause, its collar and a breaker.

    A snapshot has an H for every instrument, and "T" for one that no action has stopped yet: that ends what an action is known to
    have begun, and nothing else. Nor does it have W and J, so what stands of these was told before it, and goes on.
    """
    apart()
    record_at(agent.counters_at, feed_counters_dtype).status_changes += 1
    standing = row(span(agent.standings), instrument, standing_dtype)
    facts = row(span(agent.instruments), instrument, instrument_dtype)
    bits = 0
    if kind == TRADING_ACTION:
        action = record_at(at, trading_action_dtype)
        standing.trading = trading_state(action.trading_state)
        standing.reason = action.reason
        if standing.trading != TRADING:
            if standing.reason & MWC_MASK == MWC and agent.snapshot != SNAPSHOT_APPLYING:
                find_breaker(agent, (standing.reason >> 24) - DIGIT_0)
            standing.stopped = 1
        else:
            if standing.stopped != 0 or agent.snapshot != SNAPSHOT_APPLYING:
                bits = RESUMED
            standing.stopped = 0
    elif kind == OPERATIONAL_HALT:
        halt = record_at(at, operational_halt_dtype)
        if halt.market_code == THIS_MARKET:
            standing.halted = 0 if halt.operational_halt_action == CODE_TRADING else 1
    elif record_at(at, reg_sho_restriction_dtype).reg_sho_action == NO_TEST:
        facts.flags &= ~INSTRUMENT_SHORT_RESTRICTED
    else:
        facts.flags |= INSTRUMENT_SHORT_RESTRICTED
    trading = standing.trading
    if standing.halted != 0:
        trading = HALTED
        bits |= OPERATIONAL
    if facts.flags & INSTRUMENT_SHORT_RESTRICTED != 0:
        bits |= SHORT
    quote = row(span(agent.quotes), instrument, quote_dtype)
    begin_write(quote)
    quote.trading = trading
    if bits & RESUMED != 0:
        quote.breaker = 0
        quote.collar_low = 0
        quote.collar_high = 0
    end_write(quote)
    tell(agent, instrument, STATUS, 0, trading, 0, standing.reason | bits, end)


@hot
def apply_notice(agent, at, kind, instrument, end):
    """J K L N O: collars, IPO, market makers, retail interest, direct listing."""
    apart()
    record_at(agent.counters_at, feed_counters_dtype).notices += 1
    if kind == LULD_COLLAR:
        collar = record_at(at, luld_collar_dtype)
        middle, low, high = (
            swap32(collar.auction_collar_reference_price), swap32(collar.lower_auction_collar_price),
            swap32(collar.upper_auction_collar_price),
        )  # fmt: skip
        if low > high or high > PX_MAX or middle > PX_MAX:
            refuse_field(agent, instrument, kind, end)
            return
        quote = row(span(agent.quotes), instrument, quote_dtype)
        begin_write(quote)
        quote.collar_low = low
        quote.collar_high = high
        end_write(quote)
        tell(agent, instrument, COLLAR, middle, low, swap32(collar.auction_collar_extension), high, end)
    elif kind == IPO_QUOTING:
        ipo = record_at(at, ipo_quoting_dtype)
        price, seconds = swap32(ipo.ipo_price), swap32(ipo.ipo_quotation_release_time)
        if price > PX_MAX or seconds >= DAY_S:
            refuse_field(agent, instrument, kind, end)
            return
        tell(agent, instrument, IPO, price, seconds * SECOND_NS, 0, ipo.ipo_quotation_release_qualifier + 0, end)
    elif kind == RPII:
        flag = record_at(at, rpii_dtype).interest_flag
        interest = (1 if flag == BUY or flag == BOTH else 0) | (2 if flag == SELL or flag == BOTH else 0)
        tell(agent, instrument, RETAIL, 0, interest, 0, 0, end)
    elif kind == DIRECT_LISTING:
        listing = record_at(at, direct_listing_dtype)
        least, most = swap32(listing.minimum_allowable_price), swap32(listing.maximum_allowable_price)
        near, when = swap32(listing.near_execution_price), swap64(listing.near_execution_time)
        low, high = swap32(listing.lower_price_range_collar), swap32(listing.upper_price_range_collar)
        if max(least, most, near, low, high) > PX_MAX or when < 0:
            refuse_field(agent, instrument, kind, end)
            return
        tell(agent, instrument, LISTING_LIMITS, least, most, 0, 1 if listing.open_eligibility_status == YES else 0, 0)
        tell(agent, instrument, LISTING, near, when, high, low, end)
    else:
        maker = record_at(at, participant_position_dtype)
        state, mode, primary = maker.market_participant_state + 0, maker.market_maker_mode + 0, maker.primary_market_maker + 0
        codes = state + (mode << 8) + (primary << 16)
        active = 1 if state == ACTIVE else 0
        tell(agent, instrument, PARTICIPANT, 0, active, codes, maker.mpid + 0, end)
