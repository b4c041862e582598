"""The host around a strategy: too slow, started late, started again, memory, kernel."""

import numpy as np
import pytest

from hftd.core.idle import SPIN, set_idle
from hftd.core.memory import address
from hftd.feed.memory import LANES, SHARES_AT
from hftd.msg.enums import AgentState, BookState, DenyReason, EventKind, ExecType, IntentKind, OrdStatus, Reason
from hftd.msg.ids import EPOCH_MASK, epoch_of, make_id, strategy_of
from hftd.shm import map as memory_map
from hftd.shm import ring
from hftd.strategy.levels import LEVEL
from hftd.strategy.params import symbol_word
from hftd.strategy.records import level_dtype
from hftd.strategy.setup import StrategyAgent
from tests.support.strategy_desk import BUY, PX, SELL, Desk


@pytest.fixture
def desk():
    made = Desk()
    made.quote()
    return made


def fill_feed_book(desk, instrument, bids, asks, wire_seq):
    """Write a book into the feed's segment, as it lies between two messages. bids, asks: (px, qty, orders), best last."""
    books, levels, slots = (np.asarray(desk.memory["books"][name]) for name in ("books", "levels", "slots"))
    at = 1 + 100 * instrument
    for side, rows in ((0, bids), (1, asks)):
        books["sides"][instrument, side] = (at, len(rows), 16, at + len(rows) - 1 if rows else 0)
        handles = np.arange(at, at + len(rows))
        rest, top = handles[:-LANES], handles[-LANES:]
        slots["level"][at : at + len(rest)] = rest
        books["tops"]["level"][instrument, LANES * (side + 1) - len(top) : LANES * (side + 1)] = top
        for px, qty, orders in rows:
            levels[at] = (-px if side else px, orders, qty << SHARES_AT | instrument)
            at += 1
    books["events"][instrument], books["wire_seq"][instrument], books["version"][instrument] = 500, wire_seq, 12


def detach(desk):
    """What the feed does with a slow consumer."""
    np.asarray(desk.memory["ring.md"]["control"])["consumers"]["state"][0, 0] = ring.DETACHED


def test_a_strategy_that_was_too_slow_cancels_and_joins_again_with_the_feeds_books(desk):
    """Detached: everything is canceled at once; then the feed's books are copied and older events are skipped."""
    made, _ = desk.accepted()
    fill_feed_book(desk, 0, [(PX - 300, 10, 1), (PX - 200, 20, 2)], [(PX + 500, 30, 3)], wire_seq=40)
    detach(desk)

    desk.idle(desk.clock)
    assert int(desk.tape["reason"]) == Reason.OVERRUN
    desk.collect()
    assert [one["kind"] for one in desk.last()] == [IntentKind.CANCEL_ALL]
    desk.agent.on_reason(int(Reason.OVERRUN))
    desk.reopen_feed()

    desk.level(BUY, PX + 100, 999, wire=38)                           # older than the copy: in it already
    desk.level(BUY, PX + 100, 999, wire=40)                           # its newest, not published yet
    assert desk.do(5, 0, BUY, 0, PX, state=0)[0] == 2
    desk.level(BUY, PX - 100, 50, wire=42)
    assert desk.do(5, 0, BUY, 0, PX - 200)[:5] == [3, PX - 100, 50, 1, 20]
    assert desk.do(5, 0, SELL, 0, PX)[:4] == [1, PX + 500, 30, 3]
    assert (desk.saw("bid_px"), desk.saw("ask_px")) == (PX - 100, PX + 500)
    assert desk.counters()["overruns"] == 1
    assert desk.counters()["rejoins"] == 1
    assert desk.order(made)["is_open"] == 1                           # until the venue says that it is canceled


def test_a_strategy_that_lost_events_is_told_by_on_state(desk):
    """Lost books are STALE; made anew, they are what they were: on_state has both, and an empty book is nobody's news."""
    changes = desk.saw("changes")
    fill_feed_book(desk, 0, [(PX - 200, 20, 2)], [(PX + 500, 30, 3)], wire_seq=40)
    detach(desk)
    desk.idle(desk.clock)
    desk.collect()
    assert (desk.saw("changes"), desk.saw("instrument"), desk.saw("book")) == (changes + 1, 0, BookState.STALE)
    desk.agent.on_reason(int(Reason.OVERRUN))
    desk.reopen_feed()
    desk.idle(desk.clock)
    assert (desk.saw("changes"), desk.saw("book"), desk.saw("starts")) == (changes + 2, BookState.LIVE, 1)
    desk.idle(desk.clock)
    assert desk.saw("changes") == changes + 2


def test_the_cancel_of_a_strategy_that_was_too_slow_waits_for_room(desk):
    """With the ring to risk full it was lost: the orders stayed open while the books were made anew."""
    made, _ = desk.accepted()
    agent, heads = desk.agent, np.asarray(desk.memory["ring.intent.0"]["control"])["consumers"]["head"]
    size = int(agent.handle["intents"]["mask"]) + 1
    heads[0, memory_map.PLACE_RISK] -= size                           # risk has read nothing for a whole ring
    agent.handle["intents"]["limit"] = agent.handle["intents"]["tail"]
    detach(desk)
    set_idle(agent.waiting, SPIN)
    assert agent.kernel()(agent.handle, agent.mark, agent.waiting, 3) == Reason.SLICE
    assert desk.counters()["overruns"] == 0
    heads[0, memory_map.PLACE_RISK] += size
    assert agent.kernel()(agent.handle, agent.mark, agent.waiting, 3) == Reason.OVERRUN
    desk.collect()
    assert [one["kind"] for one in desk.last()] == [IntentKind.CANCEL_ALL]
    assert int(agent.orders["status"][agent.orders["id"] == made][0]) == OrdStatus.PENDING_CANCEL


def test_a_strategy_that_starts_late_has_the_book_from_the_start():
    """Books, last price and state are there before the first event; levels too deep for the book's own line as well."""
    desk = Desk()
    bids = [(PX - 100 * deep, 10 + deep, 1 + deep) for deep in range(LANES + 3)][::-1]
    fill_feed_book(desk, 1, bids, [(PX + 100, 30, 3)], wire_seq=7)
    late = StrategyAgent(desk.config, desk.memory, 0)
    late.open()
    book = np.asarray(late.books)[1]
    assert (int(book["bid_px"]), int(book["ask_px"]), int(book["state"])) == (PX, PX + 100, BookState.LIVE)
    start = (int(book["sides"]["base"][0]) - address(late.levels)) // LEVEL
    mine = np.frombuffer(late.levels, level_dtype, len(bids), start * LEVEL)
    assert [(int(row["key"]), int(row["qty"]), int(row["orders"])) for row in mine] == bids
    assert int(np.asarray(late.books)[0]["state"]) == BookState.EMPTY


def test_a_restart_keeps_the_position_and_takes_a_new_epoch(desk):
    """Two starts within the same second give different ids; what was open is risk's to cancel."""
    made, _ = desk.accepted()
    desk.report(2, made, px=PX, qty=40, leaves_qty=60)
    before = int(desk.agent.segment["counters"]["epoch"][0])
    again = StrategyAgent(desk.config, desk.memory, 0)
    again.open()
    row = np.asarray(again.segment["positions"])[0]
    assert (int(row["bought_qty"]), int(row["open_buy_qty"]), int(row["open_orders"])) == (40, 0, 0)
    assert int(again.handle["epoch"]) == before + 1
    assert int(epoch_of(made)) != int(again.handle["epoch"])
    assert int(again.handle["reports"]["next"]) == 2                  # goes on after the reports it has applied


def test_the_epoch_never_leaves_its_bits(desk):
    """The last epoch before it begins anew (once in 194 days): an id is still this strategy's."""
    desk.agent.segment["counters"]["epoch"] = EPOCH_MASK
    again = StrategyAgent(desk.config, desk.memory, 0)
    again.open()
    assert 0 <= int(again.handle["epoch"]) < EPOCH_MASK
    assert strategy_of(make_id(0, int(again.handle["epoch"]), 1)) == 0


def test_lost_reports_end_trading(desk):
    """Positions can no longer be known: everything is canceled, nothing new is sent, and it shows."""
    np.asarray(desk.memory["ring.report"]["control"])["consumers"]["state"][0, 0] = ring.DETACHED
    desk.idle(desk.clock)
    assert int(desk.tape["reason"]) == Reason.BROKEN_INVARIANT
    desk.agent.on_reason(int(Reason.BROKEN_INVARIANT))
    assert int(desk.agent.mark["state"]) == AgentState.DEGRADED
    assert desk.submit() == -DenyReason.STRATEGY_DISABLED


def test_lost_reports_end_trading_for_good(desk):
    """Killed, or restarted by its supervisor, after the gateway gave it up: what went by is still missing from its position."""
    np.asarray(desk.memory["ring.report"]["control"])["consumers"]["state"][0, 0] = ring.DETACHED
    for _ in range(2):
        again = StrategyAgent(desk.config, desk.memory, 0)
        again.prepare(True)
        assert again.kernel()(again.handle, again.mark, again.waiting, 5) == Reason.BROKEN_INVARIANT
        again.on_reason(int(Reason.BROKEN_INVARIANT))
        assert int(again.handle["disabled"]) == 1
        assert int(again.mark["state"]) == AgentState.DEGRADED


@pytest.mark.parametrize("levels_max", [1024, 1 << 15])
def test_books_are_copied_whatever_the_size_of_the_store(levels_max):
    """Its memory is a whole number of large pages, not of levels."""
    desk = Desk(levels_max=levels_max)
    fill_feed_book(desk, 0, [(PX - 300, 10, 1), (PX - 200, 20, 2)], [(PX + 500, 30, 3)], wire_seq=40)
    assert desk.agent.copy_books() == 1
    assert (int(desk.agent.books["bid_px"][0]), int(desk.agent.books["ask_px"][0])) == (PX - 200, PX + 500)


def test_no_callback_sees_a_report_of_a_ring_that_gave_us_up(desk):
    """The gateway may have been writing there while it was read: the turn ends as for lost reports, without a decision on it."""
    made, ref = desk.accepted()
    before = desk.saw("reports")
    np.asarray(desk.memory["ring.report"]["control"])["consumers"]["state"][0, 0] = ring.DETACHED
    desk.report(ExecType.FILL, made, px=PX, qty=100, leaves_qty=0, venue_id=ref + 1)
    assert int(desk.tape["reason"]) == Reason.BROKEN_INVARIANT and desk.saw("reports") == before


def test_an_overwritten_slot_is_not_believed(desk):
    """The feed went round the ring while we read: the event is not applied, the turn ends with OVERRUN."""
    slots = desk.memory["ring.md"]["slots"]
    place = int(desk.agent.handle["md"]["next"]) % 1024
    np.asarray(slots["seq"])[place] = int(desk.agent.handle["md"]["next"]) + 1 + 1024
    desk.idle(desk.clock)
    assert int(desk.tape["reason"]) == 0                              # not ready: nothing was read
    assert desk.saw("books") == 1


def test_book_that_found_no_room_is_stale_until_it_is_cleared():
    """An arena of no size: the level is refused, counted, and the strategy is told not to trust the book."""
    desk = Desk()
    desk.agent.handle["arena"]["end"] = desk.agent.handle["arena"]["fresh"]
    desk.level(BUY, PX, 100)
    assert desk.counters()["levels_refused"] == 1
    assert desk.saw("book") == BookState.STALE
    desk.event(EventKind.CLEAR)
    assert desk.saw("book") == BookState.LIVE


def test_announcing_a_symbol_again_mends_no_book():
    """With symbols of its own, a strategy took the next DIRECTORY for a book that is right."""
    desk = Desk(follow=["AAA"])
    desk.memory["market"]["instruments"]["symbol"][0] = symbol_word("AAA")
    desk.agent.handle["arena"]["end"] = desk.agent.handle["arena"]["fresh"]
    desk.level(BUY, PX, 100)
    desk.event(EventKind.DIRECTORY, ref=100)
    assert (desk.saw("book"), int(desk.agent.books["state"][0])) == (BookState.STALE, BookState.STALE)


def test_stop_goes_on_for_one_slice_after_the_gateway(desk):
    """What the gateway reported last must still be applied."""
    assert desk.agent.stop() is False
    assert desk.agent.stop() is True


def test_duty_cycle_runs_with_the_strategy_in_it(desk):
    """The kernel of the daemon itself, for a few turns."""
    set_idle(desk.agent.waiting, SPIN)
    kernel = desk.agent.kernel()
    assert kernel(desk.agent.handle, desk.agent.mark, desk.agent.waiting, 3) == 0
    assert int(desk.agent.mark["cycles"]) == 3

