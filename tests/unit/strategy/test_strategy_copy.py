"""A strategy that joins late knows what one from the start knows: books, prints, statuses, each message once."""

import random
import time
from pathlib import Path

import numpy as np
import pytest

from hftd.control.supervisor import HUNG_S
from hftd.errors import HftdError
from hftd.feed.events import tell_void
from hftd.feed.setup import FeedAgent
from hftd.msg.enums import BookState, EventKind, RunState, TradingState
from hftd.msg.records import FLAG_SNAPSHOT
from hftd.strategy.setup import StrategyAgent
from tests.support import itch_messages as itch
from tests.support.live_feed import Live
from tests.support.strategy_desk import BUY, PX, SELL, Desk

WATCHER = Path(__file__).with_name("watcher.py")
K = EventKind
SYMBOLS = ((5, "AAA"), (6, "BBB"))


def day(seed: int, count: int) -> list[bytes]:
    """Return a day of two symbols in which everything happens: orders, prints, broken ones, halts, collars, breakers."""
    rng, messages, orders, matches = random.Random(seed), [], [], []
    for locate, symbol in SYMBOLS:
        messages += [itch.directory(locate, symbol), itch.action(locate, "T", symbol=symbol)]
    messages += [itch.system("Q"), itch.breaker_levels(7, 5, 3)]
    for ref in range(1, count):
        locate, symbol = rng.choice(SYMBOLS)
        what = rng.choice("AAAAEEDPPQBHHhYJNIW")
        mine = [order for order in orders if order[1] == locate]
        if what == "A":
            side = rng.choice("BS")
            messages.append(itch.add(locate, ref, side, 100, PX + (100 if side == "S" else -100) * rng.randrange(1, 9), symbol))
            orders.append((ref, locate))
        elif what in "ED" and mine:
            order = rng.choice(mine)
            messages.append(itch.executed(locate, order[0], 100, match=ref) if what == "E" else itch.delete(locate, order[0]))
            orders.remove(order)
            matches += [(locate, ref)] if what == "E" else []
        elif what in "PQ":
            messages.append(itch.trade(locate, 50, PX + ref, match=ref, symbol=symbol) if what == "P"
                            else itch.cross(locate, 500, PX + ref, match=ref, symbol=symbol))  # fmt: skip
            matches.append((locate, ref))
        elif what == "B" and matches:
            messages.append(itch.broken(*rng.choice(matches)))
        elif what == "H":
            messages.append(itch.action(locate, rng.choice("THPQ"), f"R{ref % 100}", symbol))
        elif what == "h":
            messages.append(itch.operational(locate, "Q", rng.choice("HT"), symbol))
        elif what == "Y":
            messages.append(itch.reg_sho(locate, rng.choice("01"), symbol))
        elif what == "J":
            messages.append(itch.collar(locate, PX, PX - ref, PX + ref, symbol=symbol))
        elif what == "N":
            messages.append(itch.retail(locate, rng.choice("BSAN"), symbol))
        elif what == "I":
            messages.append(itch.imbalance(locate, ref, 1, "B", PX, symbol))
        elif what == "W":
            messages.append(itch.breach(rng.choice("12")))
    return messages


class Pair:
    """A feed, a strategy from the start, and one that joins when it is told to."""

    def __init__(self):
        files = [{"file": str(WATCHER), "name": name} for name in ("early", "late")]
        self.live = Live(rows=2, strategy=files, md=1 << 14)
        self.live.memory["control"]["run"][0]["state"] = int(RunState.READY)
        self.early = StrategyAgent(self.live.config, self.live.memory, 0)
        self.early.prepare(False)
        self.sent = 0
        self.late = None

    def go_on(self, count: int) -> None:
        """Let the feed take up the next `count` messages, a packet each three of them."""
        end = min(self.sent + count, len(self.live.messages))
        while self.sent < end:
            more = min(3, end - self.sent)
            self.live.publish(self.sent + 1, more)
            self.sent += more
            self.live.until(lambda: self.live.expected() == self.sent + 1, limit_s=200)

    def join(self, between) -> None:
        """Start the late one; `between` is called before each look at the ring that copying takes."""

        class Joiner(StrategyAgent):
            def published(self):
                between()
                told = super().published()
                between()
                return told

        self.late = Joiner(self.live.config, self.live.memory, 1)
        self.late.prepare(False)

    def restart(self) -> None:
        """The feed's process dies and is started again: nothing is announced, and no message is known."""
        self.live.agent.close()
        self.live.agent = FeedAgent(self.live.config, self.live.memory)
        self.live.agent.prepare(False)

    def recover(self) -> None:
        """The venue's heartbeat tells the feed what it lacks, and a server sends it again."""
        self.live.control(self.sent + 1)
        self.live.until(lambda: self.live.expected() == self.sent + 1, step=self.live.answer, limit_s=200)

    def run(self, agent) -> None:
        """Let a strategy take up all there is."""
        agent.cold(1 << 60)
        for _ in range(100):
            agent.kernel()(agent.handle, agent.mark, agent.waiting, 10)

    def known(self, agent) -> list:
        """Return what a strategy knows."""
        book = np.asarray(agent.books)
        names = ("bid_px", "bid_qty", "ask_px", "ask_qty", "last_px", "volume", "state", "trading")
        statuses = [{name: int(row[name]) for name in row.dtype.names if name != "version"} for row in agent.statuses]
        session = agent.handle["session"]
        return [
            [{name: int(row[name]) for name in names} for row in book], statuses,
            {name: int(session[name]) for name in session.dtype.names if name != "version"},
        ]  # fmt: skip

    def close(self) -> None:
        """Give everything back."""
        self.early.close()
        if self.late is not None:
            self.late.close()
        self.live.close()


@pytest.fixture
def pair():
    made = Pair()
    yield made
    made.close()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", range(12))
def test_who_joins_late_knows_what_one_from_the_start_knows(pair, seed):
    """The feed goes on while the copy is taken, and after it; nothing is missing, and nothing counts twice."""
    rng = random.Random(seed)
    pair.live.messages = day(seed, 400)
    pair.go_on(rng.randrange(8, 200))
    pair.join(lambda: pair.go_on(rng.choice((0, 0, 1, 2, 9))))
    for _ in range(3):
        pair.go_on(rng.randrange(1, 30))
        pair.run(pair.early)
        pair.run(pair.late)
        assert pair.known(pair.late) == pair.known(pair.early)


@pytest.mark.timeout(300)
def test_what_a_copy_has_is_not_told_again(pair):
    """Statuses that stand in the ring, and were copied, cause no callback, and no older one stands in between."""
    pair.live.messages = [
        itch.directory(5, "AAA"), itch.directory(6, "BBB"), itch.add(5, 1, "B", 100, PX, "AAA"), itch.action(5, "T", symbol="AAA"),
        itch.action(5, "H", "T1", "AAA"), itch.breach("1"), itch.trade(5, 40, PX, match=9, symbol="AAA"),
        itch.action(5, "T", "R4", "AAA"), itch.retail(5, "A", "AAA"), itch.broken(5, 9),
    ]  # fmt: skip
    pair.go_on(3)
    steps = iter([6])
    pair.join(lambda: pair.go_on(next(steps, 0)))     # all of it after the place in the ring was taken, and before the copy
    book = pair.late.books[0]
    assert (int(book["volume"]), int(book["trading"])) == (40, TradingState.TRADING)
    pair.go_on(1)
    pair.run(pair.late)
    told = pair.late.segment["state"].view(np.int64)
    assert int(told[0]) == 1 and int(told[11]) == int(told[13]) == 0, "the broken print's notice, and no other: no change, no trade"
    assert int(book["volume"]) == 0 and int(pair.late.statuses["breaker"][0]) == 0 and int(pair.late.statuses["breaker"][1]) == 1
    pair.run(pair.early)
    assert pair.known(pair.late) == pair.known(pair.early)


@pytest.mark.timeout(300)
def test_a_print_behind_a_book_that_was_made_anew_counts_once(pair):
    """CLEAR ends what a message's number says of levels; what stood in the ring before the copy is in it all the same."""
    pair.live.messages = [itch.directory(5, "AAA"), itch.directory(6, "BBB"), itch.add(5, 1, "B", 100, PX, "AAA"),
                          itch.delete(5, 1), *(itch.trade(5, 10, PX, match=n, symbol="AAA") for n in range(1, 5))]  # fmt: skip
    pair.go_on(4)

    def made_anew():
        if pair.sent == 4:
            pair.go_on(2)
            feed = pair.live.agent.handle
            feed["flags"] = FLAG_SNAPSHOT
            tell_void(feed, 0)
            feed["flags"] = 0
            pair.go_on(2)

    pair.join(made_anew)
    pair.run(pair.late)
    pair.run(pair.early)
    assert int(pair.late.books["volume"][0]) == int(pair.early.books["volume"][0]) == 40


@pytest.mark.timeout(300)
def test_who_joins_a_feed_that_starts_anew_misses_nothing_of_what_it_says_again(pair):
    """Books are empty, and messages begin at 1: the number that a book stood at before counts no more."""
    pair.live.messages = day(7, 300)
    pair.go_on(120)
    pair.restart()
    pair.join(lambda: None)
    pair.recover()
    pair.go_on(30)
    pair.run(pair.early)
    pair.run(pair.late)
    assert int(pair.late.books["state"][0]) == BookState.LIVE and int(pair.late.books["events"][0]) > 60
    assert pair.known(pair.late) == pair.known(pair.early)


@pytest.mark.timeout(300)
def test_who_joins_while_the_feed_is_dead_waits_for_the_next(pair, monkeypatch):
    """It died within a change, so that its book is open: only who makes all anew can close it, and takes some milliseconds."""
    pair.live.messages = day(8, 300)
    pair.go_on(120)
    pair.live.memory["books"]["books"]["version"][1] |= 1
    pair.live.memory["market"]["session"]["version"] |= 1
    waited = []

    def sleep(seconds):
        waited.append(seconds)
        if sum(waited) >= 1.5 and sum(waited[:-1]) < 1.5:
            pair.restart()

    monkeypatch.setattr(time, "sleep", sleep)
    pair.join(lambda: None)
    monkeypatch.undo()
    assert sum(waited) < HUNG_S, "else its supervisor takes it for hung"
    pair.recover()
    pair.run(pair.early)
    pair.run(pair.late)
    assert pair.known(pair.late) == pair.known(pair.early)


@pytest.mark.timeout(300)
def test_a_book_that_nobody_closes_is_given_up_with_a_word(pair, monkeypatch):
    pair.live.messages = day(9, 60)
    pair.go_on(60)
    pair.live.memory["books"]["books"]["version"][1] |= 1
    waited = []
    monkeypatch.setattr(time, "sleep", waited.append)
    with pytest.raises(HftdError, match="the feed never left the book of instrument 1 alone"):
        pair.join(lambda: None)
    assert 1 < sum(waited) < HUNG_S


def copied(volume: int = 1000, wire_seq: int = 40) -> Desk:
    """Return a desk with a copy of a book as of message `wire_seq`, some events of which are not published yet."""
    desk = Desk(WATCHER)
    desk.quote()
    market, books = desk.memory["market"], desk.memory["books"]["books"]
    books["events"][0], books["wire_seq"][0], books["state"][0] = 500, wire_seq, int(BookState.LIVE)
    market["quotes"]["volume"][0], market["quotes"]["last_px"][0], market["quotes"]["trading"][0] = volume, PX, 1
    market["statuses"]["trading"][0], market["statuses"]["retail"][0] = 1, 2
    assert desk.agent.copy_books() == 1
    return desk


def test_at_the_border_the_messages_number_decides():
    """Copied, but not yet published: the event is in the copy up to the book's own number."""
    desk = copied()
    book = desk.agent.books[0]
    desk.event(K.BOOK_STATE, 0, int(BookState.RECOVERING), state=int(BookState.RECOVERING), wire=40)
    assert int(book["state"]) == BookState.RECOVERING, "a state may be of later than its number"
    desk.event(K.TRADE, PX, 100, wire=40)
    desk.event(K.STATUS, 0, int(TradingState.HALTED), wire=39)
    desk.event(K.RETAIL, 0, 1, wire=40)
    assert (int(book["volume"]), int(book["trading"]), int(desk.agent.statuses["retail"][0])) == (1000, TradingState.TRADING, 2)
    desk.event(K.BROKEN, PX, 100, orders=PX, wire=41)
    assert int(book["volume"]) == 900 and int(book["skip_to"]) == -1
    desk.event(K.TRADE, PX, 100, wire=1)
    assert int(book["volume"]) == 1000


def test_a_day_that_begins_again_counts_its_prints_anew():
    """A feed that starts again says all of the day again; a book that is made anew does not."""
    desk = copied()
    book = desk.agent.books[0]
    desk.event(K.TRADE, PX, 100, wire=41)
    made = desk.agent.books[0]["volume"]
    assert int(made) == 1100
    desk.event(K.CLEAR, snapshot=True)
    assert (int(book["volume"]), int(book["last_px"])) == (1100, PX)
    desk.event(K.CLEAR)
    assert (int(book["volume"]), int(book["last_px"]), int(book["last_qty"])) == (0, 0, 0)
    desk.level(BUY, PX, 100)
    desk.level(SELL, PX + 100, 100)
    desk.event(K.TRADE, PX, 7)
    assert int(book["volume"]) == 7
