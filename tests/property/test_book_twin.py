"""Random streams of all types: after every message every book equals that of a naive twin, queues and all, and so does the rest."""

import random

import pytest

from tests.naive.book import NaiveBooks
from tests.naive.status import NaiveStatus
from tests.support import itch_messages as itch
from tests.support.feed_books import Feed
from tests.support.interpreted import is_child

OTHERS = "PQBIHhYJKNOLSVW"
STEPS = 150 if is_child() else 1500
SEEDS = range(2 if is_child() else 8)
SYMBOLS = {1: "AAA", 7: "BBB", 65535: "CCC"}


def other(rng: random.Random, match: int, prints: list[tuple[int, int]]) -> bytes:
    """Return a message that is about no order: sound, or with a field that cannot be.

    match: its number, where it is a print. prints: (locate, match) of those before; one more is added.
    """
    kind = rng.choice(OTHERS)
    locate = rng.choice(list(SYMBOLS))
    symbol = SYMBOLS[locate]
    px = rng.choice((0, 1_000_000, 999_900, 2_000_000_000, 2_000_000_001))
    low, high = sorted((rng.choice((0, 900_000, 950_000)), rng.choice((950_000, 1_100_000))), reverse=rng.random() < 0.1)
    shares = rng.choice((0, 100, 5_000, 1 << 40, 1 << 63))
    letter = rng.choice("ABCHNOST Q1")
    if kind in "PQ":
        prints.append((locate, match))
    if kind == "P":
        return itch.trade(locate, shares & 0xFFFF_FFFF, px, match, symbol)
    if kind == "Q":
        return itch.cross(locate, shares, px, match, symbol, kind=rng.choice("OCH"))
    if kind == "B":
        return itch.broken(*rng.choice([*prints[-12:], (locate, match)]))
    if kind == "I":
        return itch.imbalance(locate, shares, rng.choice((0, 300)), rng.choice("BSNOP"), px, symbol, far=low, reference=high,
                              kind=letter, variation=letter)  # fmt: skip
    if kind == "H":
        return itch.action(locate, rng.choice("TTTHPQ?"), rng.choice(("", "LUDP", "MWC1")), symbol)
    if kind == "h":
        return itch.operational(locate, rng.choice("QBX"), rng.choice("HT"), symbol)
    if kind == "Y":
        return itch.reg_sho(locate, rng.choice("012"), symbol)
    if kind == "J":
        return itch.collar(locate, px, low, high, rng.randrange(3), symbol)
    if kind == "K":
        return itch.ipo(rng.choice((0, locate)), rng.choice((0, 34_200, 86_400)), rng.choice("AC"), px, symbol)
    if kind == "N":
        return itch.retail(locate, rng.choice("BSAN?"), symbol)
    if kind == "O":
        return itch.listing(locate, rng.choice("YN"), low, high, px, shares, low, high, symbol)
    if kind == "L":
        return itch.participant(locate, "NITE", "Y", "N", letter, symbol)
    if kind == "S":
        return itch.system(rng.choice("OSQMEC"))
    return itch.breaker_levels(shares, 2, 1) if kind == "V" else itch.breach(rng.choice("1123 "))


def stream(seed: int, steps: int):
    """Yield messages of three symbols: mostly sound, one in thirty not."""
    rng = random.Random(seed)
    spread = rng.choice((3, 40, 2000))
    stride = rng.choice((1, 4, 1 << 16, 1 << 20, 12_345_678_901))
    live: list[tuple[int, int]] = []
    prints: list[tuple[int, int]] = []
    ref, match = rng.randrange(1, 1 << 40), rng.randrange(1, 1 << 40)
    for locate, name in SYMBOLS.items():
        yield itch.directory(locate, name)
    for _ in range(steps):
        match += 2
        if rng.random() < 0.15:
            yield other(rng, match, prints)
        odd = rng.random() < 0.033
        kind = rng.choices("AFECXDU", (40, 4, 8, 2, 6, 30, 10))[0]
        if kind in "AF" or not live:
            locate = rng.choice((1, 7, 65535))
            ref += stride * rng.randrange(1, 4)
            given = rng.choice(live)[1] if odd and live else ref
            side, px = rng.choice("BS"), 1_000_000 + 100 * rng.randrange(spread)
            if odd:
                side, px = rng.choice("BSX"), rng.choice((0, px, 2_000_000_001))
            qty = rng.choice((0, 100)) if odd else rng.randrange(1, 5) * 100
            yield itch.add(locate, given, side, qty, px, symbol=SYMBOLS[locate], mpid="MPID" if kind == "F" else "")
            if given == ref:
                live.append((locate, ref))
            continue
        index = rng.randrange(len(live)) if rng.random() < 0.3 else max(len(live) - 1 - int(rng.expovariate(0.2)), 0)
        locate, known = live[index]
        if odd:
            locate, known = rng.choice(((locate, known + 1), (rng.choice((1, 7)), known), (locate, known)))
        qty = rng.choice((0, 100_000)) if odd else rng.choice((50, 100, 200))
        if kind in "EC":
            prints.append((locate, match + 1))
        if kind == "E":
            yield itch.executed(locate, known, qty, match + 1)
        elif kind == "C":
            yield itch.executed_at(locate, known, qty, 1_000_000, rng.random() < 0.5, match + 1)
        elif kind == "X":
            yield itch.cancel(locate, known, qty)
        elif kind == "D":
            yield itch.delete(locate, known)
        else:
            ref += stride
            yield itch.replace(locate, known, ref, 0 if odd else 300, 1_000_000 + 100 * rng.randrange(spread))
            live.append((locate, ref))
        if rng.random() < 0.5:
            live.pop(index)


def status_of(feed: Feed, name: str, index: int = 0) -> dict[str, int]:
    """Return the fields of a row that are not 0."""
    cell = feed.build.tables[name].rows[index]
    return {field: int(cell[field]) for field in cell.dtype.names if int(cell[field]) and field != "version"}


@pytest.mark.parametrize("seed", SEEDS)
def test_books_and_status_equal_the_naive_twins_after_every_message(seed):
    feed, naive = Feed(instruments=3, levels=4096, orders=4096), NaiveBooks()
    said = NaiveStatus({name: locate for locate, name in SYMBOLS.items()}, naive.prints)
    checked, seen = 0, set()
    for step, message in enumerate(stream(seed, STEPS)):
        feed.apply(message)
        seen.add(chr(message[0]))
        naive.apply(message)
        if message[0] not in b"AFECXDU":
            said.apply(message)
        if step < len(SYMBOLS):
            continue
        where = f"seed {seed}, step {step}, {message.hex()}"
        about = int.from_bytes(message[1:3], "big")
        for index, locate in enumerate(SYMBOLS):
            if about not in (0, locate) and step % 10:
                continue                              # those it is not about, now and then
            assert feed.instrument(SYMBOLS[locate]) == index
            bids, asks = naive.sides(locate)
            assert feed.sides(index) == (bids, asks), where
            top = tuple(v for side in (bids, asks) for v in ((side[0][0], sum(q for _, q in side[0][1])) if side else (0, 0)))
            assert feed.quote(index) == top, where
            wanted = {name: value for name, value in said.of[locate].items() if value}
            assert status_of(feed, "statuses", index) == wanted, where
            quote = feed.build.tables["quotes"].rows[index]
            assert [int(quote[name]) for name in ("trading", "breaker", "collar_low", "collar_high")] == [
                wanted.get(name, 0) for name in ("trading", "breaker", "collar_low", "collar_high")
            ], where
            assert tuple(int(quote[name]) for name in ("last_px", "last_qty", "volume")) == naive.last(locate), where
        assert status_of(feed, "session") == {name: value for name, value in said.session.items() if value}, where
        checked += 1
    assert checked >= STEPS and (is_child() or seen == set("RAFECXDU" + OTHERS))
    naive.errors["bad_fields"] += said.bad
    for name, count in naive.errors.items():
        assert feed.counter(name) == count, name
    hidden = sum(printed[3] for printed in naive.prints if printed[4])
    assert feed.counter("volume") == naive.volume + hidden and feed.counter("hidden_volume") == hidden
    assert is_child() or feed.counter("broken") > feed.counter("broken_unknown") > 0
    assert feed.counter("orders_live") == len(naive.orders) == int(feed.build.agent["engine"]["orders"]["used"])
