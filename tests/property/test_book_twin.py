"""Random streams of order messages: after every message the engine's books equal those of a naive twin, queues and all."""

import random

import pytest

from tests.naive.book import NaiveBooks
from tests.support import itch_messages as itch
from tests.support.feed_books import Feed
from tests.support.interpreted import is_child

STEPS = 150 if is_child() else 1500
SEEDS = range(2 if is_child() else 8)
SYMBOLS = {1: "AAA", 7: "BBB", 65535: "CCC"}


def stream(seed: int, steps: int):
    """Yield messages of three symbols: mostly sound, one in thirty not."""
    rng = random.Random(seed)
    spread = rng.choice((3, 40, 2000))
    stride = rng.choice((1, 4, 1 << 16, 1 << 20, 12_345_678_901))
    live: list[tuple[int, int]] = []
    ref = rng.randrange(1, 1 << 40)
    for locate, name in SYMBOLS.items():
        yield itch.directory(locate, name)
    for _ in range(steps):
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
        if kind == "E":
            yield itch.executed(locate, known, qty)
        elif kind == "C":
            yield itch.executed_at(locate, known, qty, 1_000_000, printable=rng.random() < 0.5)
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


@pytest.mark.parametrize("seed", SEEDS)
def test_books_equal_the_naive_twin_after_every_message(seed):
    feed, naive = Feed(instruments=3, levels=4096, orders=4096), NaiveBooks()
    checked = 0
    for step, message in enumerate(stream(seed, STEPS)):
        feed.apply(message)
        naive.apply(message)
        if message[0:1] == b"R":
            continue
        locate = int.from_bytes(message[1:3], "big")
        wanted = naive.sides(locate)
        assert feed.sides(feed.instrument(SYMBOLS[locate])) == tuple(wanted), f"seed {seed}, step {step}, {message.hex()}"
        bids, asks = wanted
        top = tuple(value for side in (bids, asks) for value in ((side[0][0], sum(q for _, q in side[0][1])) if side else (0, 0)))
        assert feed.quote(feed.instrument(SYMBOLS[locate])) == top, f"seed {seed}, step {step}"
        checked += 1
    assert checked >= STEPS
    for name, count in naive.errors.items():
        assert feed.counter(name) == count, name
    assert feed.counter("volume") == naive.volume
    assert feed.counter("orders_live") == len(naive.orders) == int(feed.build.agent["engine"]["orders"]["used"])
