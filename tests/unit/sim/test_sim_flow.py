"""The synthetic market: what it looks like, that it repeats, and that strangers read it as we mean it."""

import datetime as dt
import hashlib
from collections import Counter

import pytest

from hftd.sim.exchange import Exchange
from hftd.sim.options import Options
from tests.support.sim_desk import framed, itch_tuple, messages, play

COUNT = 60_000


@pytest.fixture(scope="module")
def flow() -> Exchange:
    return play(Exchange(Options(fast=True, messages=COUNT, symbols=4, seed=11)))


@pytest.fixture(scope="module")
def file(flow, tmp_path_factory):
    path = tmp_path_factory.mktemp("flow") / "synthetic.itch"
    path.write_bytes(framed(flow))
    return path


def digest(**options) -> str:
    return hashlib.sha256(framed(play(Exchange(Options(fast=True, messages=3000, symbols=3, **options))))).hexdigest()


def test_seed_repeats_itself_and_another_does_not():
    assert digest(seed=5) == digest(seed=5) != digest(seed=6)


def test_mix_of_messages_is_that_of_real_days(flow):
    kinds = Counter(chr(raw[0]) for raw in messages(flow))
    total = sum(kinds.values())
    share = {kind: 100 * count / total for kind, count in kinds.items()}
    assert 40 < share["A"] + share["F"] < 48 and 35 < share["D"] < 43 and 7 < share["U"] < 12
    assert 4 < share["E"] + share["C"] < 9 and 0.5 < share["X"] < 1.5 and 0.5 < share["P"] < 1.5
    assert set("SRHYLVIQAFECXDUPB") <= set(kinds)


def test_day_begins_and_ends_as_days_do(flow):
    events = [chr(raw[11]) for raw in messages(flow) if raw[0] == ord("S")]
    assert events == list("OSQMEC")
    stamps = [int.from_bytes(raw[5:11], "big") for raw in messages(flow)]
    assert stamps == sorted(stamps)


def test_books_are_deep_tight_and_never_crossed(flow):
    books: dict[int, list[Counter]] = {}
    orders: dict[int, list[int]] = {}
    spreads, depths = Counter(), Counter()
    opened = False
    for number, raw in enumerate(messages(flow)):
        opened = opened or (raw[0] == ord("S") and raw[11] == ord("Q"))
        kind, *rest = itch_tuple(raw)
        locate = int.from_bytes(raw[1:3], "big")
        book = books.setdefault(locate, [Counter(), Counter()])
        if kind == "A":
            ref, side, shares, px = rest
            orders[ref] = [side, px, shares]
            book[side][px] += 1
        elif kind in "ECXDU":
            side, px, shares = orders[rest[0]]
            left = 0 if kind in "DU" else shares - rest[1]
            assert left >= 0
            if left == 0:
                del orders[rest[0]]
                book[side][px] -= 1
                if not book[side][px]:
                    del book[side][px]
            else:
                orders[rest[0]][2] = left
            if kind == "U":
                orders[rest[1]] = [side, rest[3], rest[2]]
                book[side][rest[3]] += 1
        else:
            continue
        if opened and book[0] and book[1] and number % 7 == 0:
            bid, ask = max(book[0]), min(book[1])
            assert bid < ask
            spreads[(ask - bid) // 100] += 1
            depths[min(len(book[0]), len(book[1]))] += 1
    assert min(depths) >= 10
    total = sum(spreads.values())
    assert sum(count for ticks, count in spreads.items() if ticks <= 4) > 0.85 * total
    assert spreads[1] > 0.1 * total and max(spreads) < 30


def test_prices_walk(flow):
    last: dict[int, list[int]] = {}
    orders = {}
    for raw in messages(flow):
        kind, *rest = itch_tuple(raw)
        if kind == "A":
            orders[rest[0]] = rest[3]
        elif kind == "U":
            orders[rest[1]] = rest[3]
        elif kind == "E":
            last.setdefault(int.from_bytes(raw[1:3], "big"), []).append(orders[rest[0]])
    for prices in last.values():
        assert max(prices) - min(prices) > 500 and max(prices) < 1.2 * min(prices)


def test_itchcpp_reads_the_same_messages(flow, file):
    from itchcpp.parser import MessageParser

    with file.open("rb") as stream:
        read = list(MessageParser().parse_file(stream))
    assert [bytes(one.to_bytes()) for one in read] == messages(flow)


def test_meatpy_reads_the_same_messages(flow, tmp_path):
    """All but O: meatpy takes it for 52 bytes long, the specification says 48."""
    from meatpy.itch50 import ITCH50MessageReader

    known, file = [message for message in messages(flow) if message[:1] != b"O"], tmp_path / "without.itch"
    file.write_bytes(b"".join(len(message).to_bytes(2, "big") + message for message in known))
    with ITCH50MessageReader(file) as reader:
        assert [message.to_bytes() for message in reader] == known


def test_itch_book_builds_the_same_books(flow, file):
    import itch_book

    with itch_book.open(str(file), price_type="fixed", date=dt.date(2024, 6, 3)) as feed:
        rows = 0
        best: dict[int, tuple] = {}
        for batch in feed.batches(tables=("bbo",)):
            table = batch.bbo
            for k in range(len(table["seq"])):
                best[int(table["locate"][k])] = tuple(int(table[name][k]) for name in ("bid_px", "bid_sz", "ask_px", "ask_sz"))
            rows += len(table["seq"])
        stats = feed.stats
    assert rows > 1000
    for locate, (bid, bid_size, ask, ask_size) in best.items():
        halves = [flow.levels[int(flow.halves[2 * locate + side]["best"])] for side in range(2)]
        assert [(int(level["px"]), int(level["qty"])) for level in halves] == [(bid, bid_size), (ask, ask_size)]
    wrong = ("unknown", "malformed", "missing_ref", "dup_ref", "rejected", "clamped", "crossed_books")
    assert {key: stats[key] for key in wrong} == dict.fromkeys(wrong, 0)
    assert stats["live_orders"] == int(flow.x["orders"]["used"])
