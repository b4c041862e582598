"""Other people's packages read each real file while the test runs, and say what our books, counters and tables say.

itch-book and itchcpp (C++, order by order) over every file; meatpy (Python) where its pace allows, down to each queue's order. The
recorded oracles of `test_books_real.py` are results of theirs, too; here nothing stands between their code and ours.
"""

import contextlib
import datetime
from collections import Counter

import numpy as np
import pytest

from hftd.feed.files import ItchFile
from hftd.feed.sources import desk as desks
from hftd.feed.sources.capture import CaptureFile
from hftd.venues.nasdaq.itch50 import unframed
from tests.support.data import shared_data
from tests.support.feed_books import Feed
from tests.support.pcap import udp_payloads

ITCH = [
    "itch50-aapl-20200130/aapl_20200130.itch.gz",
    "itch50-start-of-day-20191230/first1000_20191230.itch.gz",
    "lobster-goog-20120621/goog_20120621_level10.itch.gz",
    "lobster-aapl-goog-20120621/aapl_goog_20120621.itch.gz",
]
CAPTURES = ["itch50-aapl-20200130/aapl_20200130.moldudp64.pcap.gz"]
WIRE = "nasdaq-wire-captures"
HEADER = 20


class Ours:
    """A file or a capture through our feed: the framed messages that others get, and what we made of them."""

    def __init__(self, name: str):
        path = shared_data(name)
        self.top: list[tuple] = []
        self.prints: list[tuple] = []
        if ".itch" in name:
            source = ItchFile(path)
            self.raw = source.load()[0].tobytes()
            orders, wanted = desks.orders_in_file(source), 0
        else:
            source = CaptureFile(path)
            self.raw = b"".join(payload[HEADER:] for payload in udp_payloads(path) if payload[18:20] not in (b"\0\0", b"\xff\xff"))
            orders, wanted = desks.orders_in_capture(source), 1
        self.desk = desks.Desk(desks.settings(None, [], [], orders, offline=True))
        try:
            (self.desk.run_capture if wanted else self.desk.run_file)(source, desks.Pace(), [])
        finally:
            self.desk.close()
        self.facts = self.desk.summary()


@pytest.fixture(scope="module", params=[*ITCH, *CAPTURES], ids=lambda name: name.split("/")[1])
def ours(request) -> Ours:
    return Ours(request.param)


def session(raw: bytes, *tables: str, depth: int = 0):
    """itch-book over framed bytes."""
    core = pytest.importorskip("itch_book", reason="itch-book is absent: source scripts/environment test")
    made = core.Session(tables=list(tables), depth=depth, symbols=[])
    made.reserve(len(raw) // 20)
    made.feed(raw)
    return made


def test_itch_book_counts_the_same_and_ends_with_the_same_prices_and_shares(ours):
    theirs = session(ours.raw, "bbo", "trades")
    stats, counts, counters = theirs.stats(), ours.facts["counts"], ours.facts["counters"]

    assert stats["messages"] == ours.facts["messages"] and stats["unknown"] == stats["malformed"] == 0
    for name, kinds in (("adds", "AF"), ("executes", "EC"), ("cancels", "X"), ("deletes", "D"), ("replaces", "U")):
        assert stats[name] == sum(counts.get(kind, 0) for kind in kinds), name
    assert stats["live_orders"] == ours.facts["live_orders"]
    assert [stats[name] for name in ("missing_ref", "dup_ref", "rejected", "clamped", "crossed_books")] == [
        counters.get(name, 0) for name in ("unknown_refs", "duplicate_refs", "bad_fields", "overfills", "crossed")
    ]  # fmt: skip
    trades = theirs.take_trades()
    assert int(trades["size"].sum()) == ours.facts["executed_shares"]
    displayed = np.isin(trades["kind"], [ord("E"), ord("C")])
    assert int(displayed.sum()) == counters.get("trades", 0)
    tables = ours.desk.agent.build.tables
    rows, quotes, instruments = theirs.take_bbo(), tables["quotes"].rows, tables["instruments"].rows["locate"]
    last = {int(locate): i for i, locate in enumerate(rows["locate"])}
    for index, locate in enumerate(instruments[: ours.facts["instruments"]].tolist()):
        best = [int(quotes[name][index]) for name in ("bid_px", "bid_qty", "ask_px", "ask_qty")]
        at = last.get(locate)
        assert best == ([0] * 4 if at is None else [int(rows[name][at]) for name in ("bid_px", "bid_sz", "ask_px", "ask_sz")])
        shares = int(trades["size"][trades["locate"] == locate].sum())
        assert shares == int(quotes["volume"][index])


def test_itch_book_has_the_same_ten_levels_at_the_end(ours):
    depth = session(ours.raw, depth=10).take_depth()
    last = {int(locate): i for i, locate in enumerate(depth["locate"])}
    compared = 0
    for index, symbol in enumerate(ours.desk.symbols()):
        at = last.get(int(ours.desk.agent.build.tables["instruments"].rows["locate"][index]))
        if at is None:
            continue
        book = ours.desk.book(symbol, 10)
        for side in ("bid", "ask"):
            theirs = [[int(depth[f"{side}_{what}_{level:02d}"][at]) for what in ("px", "sz", "ct")] for level in range(10)]
            assert book[f"{side}s"] == [level for level in theirs if level[1]], (symbol, side)
            compared += len(book[f"{side}s"])
    assert compared > 0 or not ours.facts["live_orders"]


def test_itchcpp_counts_the_same_and_ends_with_the_same_best_prices(ours):
    parser = pytest.importorskip("itchcpp.parser", reason="itchcpp is absent: source scripts/environment test")
    from itchcpp.book import BookManager

    counts = Counter(message.message_type.decode() for message in parser.MessageParser().parse_stream(ours.raw))
    assert counts == ours.facts["counts"]
    manager = BookManager()
    manager.process_stream(ours.raw)
    compared = 0
    for symbol in ours.desk.symbols():
        book = ours.desk.book(symbol, 1)
        try:
            best = manager.book_for_symbol(symbol).bbo()
        except (KeyError, IndexError, AttributeError):    # it makes a book with the first order
            assert not book["bids"] and not book["asks"]
            continue
        assert [[round(best.bid_price * 10_000), best.bid_shares]] * best.has_bid == [row[:2] for row in book["bids"]]
        assert [[round(best.ask_price * 10_000), best.ask_shares]] * best.has_ask == [row[:2] for row in book["asks"]]
        compared += bool(best.has_bid or best.has_ask)
    assert compared > 0 or not ours.facts["live_orders"]


@pytest.mark.parametrize(("name", "symbol"), [(ITCH[0], "AAPL"), (ITCH[2], "GOOG")])
def test_meatpy_agrees_at_every_tenth_of_the_file_and_on_every_queue(name, symbol):
    processors = pytest.importorskip("meatpy.itch50", reason="meatpy is absent: source scripts/environment test")
    from meatpy import ExecutionPriorityExceptionList
    from meatpy.itch50.itch50_market_message import ITCH50MarketMessage

    raw = ItchFile(shared_data(name)).load()[0].tobytes()
    theirs = processors.ITCH50MarketProcessor(symbol, datetime.datetime(2020, 1, 30))
    every = list(unframed(raw))[:40_000]              # its pace is 5 us a message
    feed = Feed(instruments=4, levels=1 << 13, orders=1 << 14)
    step, compared = len(every) // 10, 0
    for seq, message in enumerate(every, 1):
        with contextlib.suppress(*([ExecutionPriorityExceptionList] if "lobster" in name else [])):
            theirs.process_message(ITCH50MarketMessage.from_bytes(message))  # LOBSTER's queues break its rule; it goes on
        feed.apply(message)
        if seq % step == 0:
            bids, asks = feed.sides(feed.instrument(symbol))
            for levels, wanted in ((bids, theirs.current_lob.bid_levels), (asks, theirs.current_lob.ask_levels)):
                assert levels == [[int(level.price), [[order.order_id, order.volume] for order in level.queue]] for level in wanted]
                compared += len(levels)
    assert compared > 500


def test_itchcpp_reads_the_genuine_packets_as_we_do():
    parser = pytest.importorskip("itchcpp.parser", reason="itchcpp is absent: source scripts/environment test")
    folder = shared_data(f"{WIRE}/README.md").parent
    seen = 0
    for path in sorted(folder.glob("*Itch*.pcap")):
        for payload in udp_payloads(path):
            theirs = Counter(each.message_type.decode() for each in parser.MessageParser().parse_stream(payload[HEADER:]))
            feed = Feed(instruments=64)
            assert feed.apply_framed(payload[HEADER:]) == sum(theirs.values()) == int.from_bytes(payload[18:20], "big")
            types = feed.build.tables["types"].rows["count"]
            assert {chr(kind): int(types[kind]) for kind in np.nonzero(types)[0]} == theirs
            seen += sum(theirs.values())
    assert seen >= 48
