"""Books that may be wrong: STALE at the contradiction, mended alone from a snapshot, while every other book stays LIVE."""

import pytest

from hftd.msg.enums import BookState, EventKind, TradingState
from tests.support import itch_messages as itch
from tests.support.feed_books import Feed
from tests.support.live_feed import Live
from tests.unit.feed.test_glimpse import Server, soup

LIVE, STALE = int(BookState.LIVE), int(BookState.STALE)
AAPL, MSFT = 5, 6


def said(feed: Feed, upto: int, *more: bytes) -> bytes:
    """Return what a snapshot server says of the books of `feed`, which is at message `upto`."""
    told = [itch.directory(AAPL, "AAPL"), itch.directory(MSFT, "MSFT"), itch.action(AAPL, "T"), itch.action(MSFT, "T")]
    for instrument, (locate, symbol) in enumerate(((AAPL, "AAPL"), (MSFT, "MSFT"))):
        for side, levels in zip("BS", feed.sides(instrument), strict=True):
            told += [itch.add(locate, ref, side, qty, px, symbol) for px, queue in levels for ref, qty in queue]
    told += [*more, b"G" + f"{upto + 1:>20}".encode()]
    return soup("A", f"{'SESSION001':>10}{1:>20}".encode()) + b"".join(soup("S", message) for message in told)


class Pair:
    """A live feed and the books it should have."""

    def __init__(self, **feed):
        self.server = Server()
        options = {"glimpse": self.server.text, "glimpse_user": "GLIMPS"} | feed
        self.live = Live(gap_timeout_ms=5, **options)
        if self.live.agent.spin is not None:
            self.live.agent.spin.timeout_s, self.live.agent.spin.pause = 0.3, 1000
        self.right, self.seq, self.ref = Feed(levels=2048, orders=4096), 0, 100
        self.say(itch.directory(AAPL, "AAPL"), itch.directory(MSFT, "MSFT"), itch.action(AAPL, "T"), itch.action(MSFT, "T"))

    def say(self, *messages: bytes, wrong: bool = False, step: bool = True) -> None:
        """Send messages; `wrong` ones are none of the exchange's books."""
        self.live.send(itch.packet(self.live.session, self.seq + 1, *messages))
        self.seq += len(messages)
        if not wrong:
            self.right.apply(*messages)
        if step:
            self.live.until(lambda: self.live.expected() == self.seq + 1)

    def flow(self, count: int = 20) -> None:
        """Send some orders of both instruments."""
        for _ in range(count):
            self.ref += 1
            locate, symbol = ((AAPL, "AAPL"), (MSFT, "MSFT"))[self.ref % 2]
            side = "BS"[self.ref // 2 % 2]
            self.say(itch.add(locate, self.ref, side, 100, 1_000_000 + (100 if side == "S" else -100) * (1 + self.ref % 5), symbol))
            if self.ref % 3 == 0:
                self.say(itch.delete(locate, self.ref))

    def same(self, instrument: int) -> bool:
        """Tell whether the feed's book is right: levels, queues, best prices."""
        ours = Feed.__new__(Feed)
        ours.build = self.live.agent.build
        return ours.sides(instrument) == self.right.sides(instrument) and ours.quote(instrument) == self.right.quote(instrument)

    def states(self) -> tuple[int, int]:
        return self.live.state(0), self.live.state(1)

    def close(self) -> None:
        self.live.close()
        self.server.close()


@pytest.fixture
def pair():
    made = Pair()
    yield made
    made.close()


def lose(pair, locate: int = AAPL, symbol: str = "AAPL") -> None:
    """Let the feed believe that a book has lost an order of the exchange's, and say something about it."""
    pair.flow(10)
    kept = pair.ref + 1
    pair.ref += 2
    pair.right.apply(itch.add(locate, kept, "B", 300, 990_000, symbol))
    pair.say(itch.executed(locate, kept, 100))


def test_a_tainted_book_is_stale_at_once_and_mended_alone_while_others_stay_live(pair):
    lose(pair)
    assert pair.states() == (STALE, LIVE) and pair.live.counter("distrusted") == 1 and pair.live.ready()
    assert not pair.same(0) and pair.same(1)
    before = len(pair.live.events())
    pair.live.until(lambda: pair.live.agent.spin.busy)
    pair.flow(10)                                     # before the snapshot: in it
    answer = said(pair.right, pair.seq)
    pair.flow(10)                                     # behind it: kept meanwhile
    assert pair.states() == (STALE, LIVE)
    pair.live.until(lambda: pair.live.counter("mended") == 1, step=lambda: pair.server.serve(answer))
    assert pair.states() == (LIVE, LIVE) and pair.same(0) and pair.same(1)
    pair.flow(10)
    assert pair.same(0) and pair.same(1) and pair.live.counter("unknown_refs") == 1
    assert pair.live.counter("snapshots") == 0 and pair.live.counter("messages") == pair.seq
    events = pair.live.events()[before:]
    cleared = [int(e["instrument"]) for e in events if e["kind"] == EventKind.CLEAR]
    assert cleared == [0], "nobody else was told to start again"
    told = [(int(e["instrument"]), int(e["qty"])) for e in events if e["kind"] == EventKind.BOOK_STATE]
    assert told == [(0, LIVE)]
    book: dict = {}
    for event in events[[int(e["kind"]) for e in events].index(int(EventKind.CLEAR)) :]:
        if event["kind"] == EventKind.LEVEL and event["instrument"] == 0:
            book[(int(event["flags"]) & 1, int(event["px"]))] = int(event["qty"])
    wanted = {(s, px): sum(q for _, q in queue) for s, side in enumerate(pair.right.sides(0)) for px, queue in side}
    assert {key: qty for key, qty in book.items() if qty} == wanted, "a strategy's own book, from events alone"


@pytest.mark.parametrize("case", ["unknown", "double", "overfill", "crossed"])
def test_each_contradiction_makes_the_book_stale(case):
    pair = Pair(glimpse="")
    try:
        pair.say(itch.add(AAPL, 1, "B", 100, 1_000_000), itch.add(AAPL, 2, "S", 100, 1_000_100))
        bad = {"unknown": itch.delete(AAPL, 9), "double": itch.add(AAPL, 1, "B", 100, 1_000_000),
               "overfill": itch.cancel(AAPL, 1, 101), "crossed": itch.add(AAPL, 3, "B", 100, 1_000_200)}[case]  # fmt: skip
        pair.say(bad)
        assert pair.states() == (STALE, LIVE) and pair.live.counter("distrusted") == 1
        pair.flow(4)
        assert pair.states() == (STALE, LIVE) and pair.live.counter("distrusted") == 1, "nobody can mend it"
    finally:
        pair.close()


def test_a_book_crossed_in_a_halt_or_locked_is_counted_and_stays_live():
    pair = Pair(glimpse="")
    try:
        pair.say(itch.add(AAPL, 1, "B", 100, 1_000_000), itch.add(AAPL, 2, "S", 100, 1_000_000))
        assert pair.live.counter("locked") == 1 and pair.states() == (LIVE, LIVE)
        pair.say(itch.action(AAPL, "H", "T1"), itch.add(AAPL, 3, "S", 100, 990_000))
        assert pair.live.counter("crossed") == 1 and pair.states() == (LIVE, LIVE)
    finally:
        pair.close()


def test_note_leaves_the_book_live():
    pair = Pair(glimpse="", on_taint="note")
    try:
        pair.say(itch.delete(AAPL, 9))
        assert pair.states() == (LIVE, LIVE) and pair.live.counter("distrusted") == 0 and pair.live.counter("unknown_refs") == 1
    finally:
        pair.close()


def test_a_book_first_contradicted_while_a_snapshot_is_on_its_way_waits_for_the_next(pair):
    """Of its messages between that snapshot and the contradiction nothing was kept: made from it, it would be LIVE and wrong."""
    lose(pair)
    pair.live.until(lambda: pair.live.agent.spin.busy)
    answer = said(pair.right, pair.seq)
    pair.flow(11)
    lose(pair, MSFT, "MSFT")
    pair.flow(11)
    assert pair.states() == (STALE, STALE)
    pair.live.until(lambda: pair.live.counter("mended") == 1, step=lambda: pair.server.serve(answer))
    assert pair.states() == (LIVE, STALE) and pair.same(0)
    pair.live.until(lambda: pair.live.agent.spin.busy)
    answer = said(pair.right, pair.seq)
    pair.live.until(lambda: pair.live.counter("mended") == 2, step=lambda: pair.server.serve(answer))
    assert pair.states() == (LIVE, LIVE) and pair.same(0) and pair.same(1)


def test_mending_tells_nothing_twice_and_brings_back_no_old_state(pair):
    """Prints and trading states of a distrusted book are taken up when they come; the snapshot's are older."""
    pair.say(itch.add(AAPL, 50, "B", 500, 980_000))
    lose(pair)
    pair.live.until(lambda: pair.live.agent.spin.busy)
    answer = said(pair.right, pair.seq)               # says that it trades
    begun = pair.live.counter("volume"), pair.live.counter("trades"), pair.live.counter("hidden_trades")
    pair.say(itch.executed(AAPL, 50, 100, match=901), itch.executed_at(AAPL, 50, 70, 980_000, match=902),
             itch.trade(AAPL, 30, 985_000, match=903), itch.action(AAPL, "H", "T1"))  # fmt: skip
    before = len(pair.live.events())
    pair.live.until(lambda: pair.live.counter("mended") == 1, step=lambda: pair.server.serve(answer))
    now = pair.live.counter("volume"), pair.live.counter("trades"), pair.live.counter("hidden_trades")
    assert [b - a for a, b in zip(begun, now, strict=True)] == [200, 2, 1]
    told = {EventKind(int(event["kind"])).name for event in pair.live.events()[before:]}
    assert told == {"CLEAR", "LEVEL", "BOOK_STATE"} and pair.states()[0] == LIVE
    quote = pair.live.memory["market"]["quotes"][0]
    assert int(quote["trading"]) == TradingState.HALTED and int(quote["last_px"]) == 985_000 and pair.same(0)


def test_a_snapshot_that_does_not_fit_is_asked_for_again(pair):
    lose(pair)
    pair.live.until(lambda: pair.live.agent.spin.busy)
    old = said(pair.right, pair.seq - 1)              # ends before what was kept begins
    pair.live.until(lambda: pair.live.counter("mend_failures") == 1, step=lambda: pair.server.serve(old))
    assert pair.states() == (STALE, LIVE)
    pair.live.until(lambda: pair.live.agent.spin.busy)
    answer = said(pair.right, pair.seq)
    pair.live.until(lambda: pair.live.counter("mended") == 1, step=lambda: pair.server.serve(answer))
    assert pair.states() == (LIVE, LIVE) and pair.same(0)


def test_a_snapshot_server_that_is_gone_leaves_the_book_stale(pair):
    lose(pair)
    pair.live.until(lambda: pair.live.counter("snapshot_failures") >= 2, step=lambda: pair.server.serve(soup("J", b"A")))
    assert pair.states() == (STALE, LIVE) and pair.same(1) and pair.live.ready()


def test_more_messages_than_can_be_kept(pair):
    pair.live.agent.handle["mend_log"]["count"] = 64
    lose(pair)
    pair.live.until(lambda: pair.live.agent.spin.busy)
    answer = said(pair.right, pair.seq)
    pair.flow(10)
    pair.live.until(lambda: pair.live.counter("mend_failures") >= 1, step=lambda: pair.server.serve(answer))
    assert pair.states() == (STALE, LIVE)


def test_a_gap_goes_first(pair):
    """Called off while messages are missing; taken up again when they have come."""
    lose(pair)
    pair.live.until(lambda: pair.live.agent.spin.busy)
    missing = itch.add(MSFT, 5000, "B", 100, 900_000, "MSFT")
    pair.right.apply(missing)
    pair.seq += 1
    pair.say(itch.add(MSFT, 5001, "B", 100, 900_100, "MSFT"), step=False)
    pair.live.until(lambda: int(pair.live.agent.handle["behind"]) == 1)
    pair.live.step()
    pair.live.messages = [b""] * (pair.seq - 2) + [missing]
    pair.live.until(lambda: pair.live.expected() == pair.seq + 1, step=pair.live.answer)
    assert pair.live.state(0) == STALE and pair.live.counter("snapshots") == 0
    pair.live.until(lambda: pair.live.agent.spin.busy)
    answer = said(pair.right, pair.seq)
    pair.live.until(lambda: pair.live.counter("mended") == 1, step=lambda: pair.server.serve(answer))
    pair.live.until(pair.live.ready)
    assert pair.states() == (LIVE, LIVE) and pair.same(0) and pair.same(1)


def test_a_book_contradicted_again_while_it_is_mended_has_another_turn(pair):
    lose(pair)
    pair.live.until(lambda: pair.live.agent.spin.busy)
    wrong = said(pair.right, pair.seq, itch.add(AAPL, 101, "B", 100, 1_000_000), itch.add(AAPL, 101, "B", 100, 1_000_000))
    pair.live.until(lambda: pair.live.counter("duplicate_refs") > 0, step=lambda: pair.server.serve(wrong))
    assert pair.live.counter("mended") == 0 and pair.live.state(0) == STALE
    pair.live.until(lambda: pair.live.agent.spin.busy)
    answer = said(pair.right, pair.seq)
    pair.live.until(lambda: pair.live.counter("mended") == 1, step=lambda: pair.server.serve(answer))
    assert pair.states() == (LIVE, LIVE) and pair.same(0)
