"""ITCH messages from a seed, for benchmarks: orders added, replaced, reduced, executed and deleted around drifting prices. Cold.

The mix is that of the genuine files (adds 46 %, deletes 42 %, replaces 6 %, executions 4 %, reductions 1 %, prints 1 %), with most
orders near the best price and short-lived. The generator keeps its own books in plain Python, so that a benchmark can compare the
feed's with them before it times anything. `hftd sim` is the calibrated market; this is a few hundred thousand messages, at once.
"""

import random
import struct
from dataclasses import dataclass

TICK = 100
SESSION_START_NS = 34_200_000_000_000


@dataclass
class Flow:
    """Messages, framed as in a file (two bytes of length each), and what the books must be at the end."""

    data: bytes
    messages: int
    symbols: list[str]
    best: list[tuple[int, int, int, int]]  # bid px, bid shares, ask px, ask shares by instrument


class _Maker:
    def __init__(self, seed: int, instruments: int):
        self.dice = random.Random(seed)
        self.out: list[bytes] = []
        self.ns = SESSION_START_NS
        self.orders: dict[int, list[int]] = {}  # reference -> instrument, side, px, shares
        self.live: list[list[int]] = [[] for _ in range(instruments)]
        self.levels: list[tuple[dict[int, int], dict[int, int]]] = [({}, {}) for _ in range(instruments)]
        self.middle = [self.dice.randrange(20, 400) * 10_000 for _ in range(instruments)]
        self.reference, self.match = 1000, 1

    def say(self, kind: str, locate: int, body: bytes) -> None:
        head = kind.encode() + struct.pack(">HH", locate, 0) + self.ns.to_bytes(6, "big")
        self.out.append(struct.pack(">H", len(head) + len(body)) + head + body)

    def shift(self, at: int, side: int, px: int, shares: int) -> None:
        level = self.levels[at][side]
        level[px] = level.get(px, 0) + shares
        if level[px] == 0:
            del level[px]

    def price(self, at: int, side: int) -> int:
        bids, asks = self.levels[at]
        away = min(int(self.dice.expovariate(0.35)), 60)
        if side == 0:
            top = min(asks) - TICK if asks else self.middle[at]
            return max(min(top, self.middle[at] + 2 * TICK) - away * TICK, TICK)
        floor = max(bids) + TICK if bids else self.middle[at] + TICK
        return max(floor, self.middle[at] - 2 * TICK) + away * TICK

    def put(self, at: int, side: int, px: int, shares: int) -> int:
        self.reference += self.dice.randrange(1, 20)
        self.orders[self.reference] = [at, side, px, shares]
        self.live[at].append(self.reference)
        self.shift(at, side, px, shares)
        return self.reference

    def drop(self, ref: int, shares: int) -> None:
        order = self.orders[ref]
        order[3] -= shares
        self.shift(order[0], order[1], order[2], -shares)
        if order[3] == 0:
            del self.orders[ref]

    def pick(self, at: int) -> int:
        live = self.live[at]
        while live:
            place = len(live) - 1 - min(int(self.dice.expovariate(0.02)), len(live) - 1)
            live[place], live[-1] = live[-1], live[place]
            ref = live[-1]
            if ref in self.orders:
                return ref
            live.pop()
        return 0

    def step(self, at: int, symbol: bytes) -> None:
        dice, locate = self.dice, at + 1
        self.ns += dice.randrange(100, 40_000)
        what, ref = dice.random(), self.pick(at)
        if dice.random() < 0.02:
            self.middle[at] = max(self.middle[at] + dice.choice((-TICK, TICK)), 50 * TICK)
        if what < 0.46 or not ref:
            side, shares = dice.randrange(2), dice.choice((100, 100, 100, 200, 300, 7, 50))
            px = self.price(at, side)
            new = self.put(at, side, px, shares)
            self.say("A", locate, struct.pack(">QcI8sI", new, b"BS"[side : side + 1], shares, symbol, px))
        elif what < 0.88:
            self.say("D", locate, struct.pack(">Q", ref))
            self.drop(ref, self.orders[ref][3])
        elif what < 0.94:
            _, side, _, shares = self.orders[ref]
            self.drop(ref, shares)
            px = self.price(at, side)
            new = self.put(at, side, px, shares)
            self.say("U", locate, struct.pack(">QQII", ref, new, shares, px))
        elif what < 0.98:
            shares = min(self.orders[ref][3], dice.choice((100, 50, 1000)))
            self.match += 1
            self.say("E", locate, struct.pack(">QIQ", ref, shares, self.match))
            self.drop(ref, shares)
        elif what < 0.99 and self.orders[ref][3] > 1:
            shares = self.orders[ref][3] // 2
            self.say("X", locate, struct.pack(">QI", ref, shares))
            self.drop(ref, shares)
        else:
            self.match += 1
            self.say("P", locate, struct.pack(">QcI8sIQ", 0, b"B", 100, symbol, self.middle[at], self.match))


def preamble(maker: "_Maker", symbols: list[str]) -> None:
    """The session begins: announced, trading."""
    maker.say("S", 0, b"Q")
    for at, symbol in enumerate(symbols):
        name = symbol.encode().ljust(8)
        maker.say("R", at + 1, name + b"QN" + struct.pack(">I", 100) + b"NC  PNN1N" + struct.pack(">I", 0) + b"N")
        maker.say("H", at + 1, name + b"T " + b"    ")


def make_flow(messages: int, seed: int = 7, instruments: int = 8) -> Flow:
    """Return `messages` messages of `instruments` books."""
    symbols = [f"BEN{chr(65 + at)}" for at in range(instruments)]
    names = [symbol.encode().ljust(8) for symbol in symbols]
    maker = _Maker(seed, instruments)
    preamble(maker, symbols)
    while len(maker.out) < messages:
        at = min(int(maker.dice.expovariate(0.5)), instruments - 1)
        maker.step(at, names[at])
    best = []
    for bids, asks in maker.levels:
        bid, ask = max(bids, default=0), min(asks, default=0)
        best.append((bid, bids.get(bid, 0), ask, asks.get(ask, 0)))
    return Flow(b"".join(maker.out), len(maker.out), symbols, best)
