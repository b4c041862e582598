"""A synthetic day of a whole market from a seed: the tables that `market.py` draws from, and how a day begins and ends. Cold.

    market = Market(symbols=8000, live=90, seed=9)        live: orders a symbol tends to
    market.opening()                                      framed messages: directory and state of every symbol
    market.run(at, end, most)                             framed messages into memory; `market.packets` the same in packets
"""

import math
import random

import numpy as np

from hftd.core.memory import prefault, records, set_array
from hftd.sim.chance import seed as seed_chance
from hftd.sim.load import HOUR, OPEN_NS, framed, number
from hftd.sim.market import (
    DEPTHS,
    LADDER,
    PICKS,
    count_dtype,
    depth_dtype,
    listing_dtype,
    live_dtype,
    make_packets,
    make_run,
    market_dtype,
    pick_dtype,
)
from hftd.venues.nasdaq.itch50 import symbol_to_int
from hftd.venues.nasdaq.moldudp64 import HEADER, PAYLOAD_MAX, packet_dtype, session_to_ints

ZIPF = 0.9
"""Of the symbols' shares of the messages."""
ROOM = 4
"""A symbol has room for so many times the live orders it tends to."""
SESSION_NS = int(6.5 * HOUR)


def symbol(index: int) -> str:
    """Return the name of a symbol: S1, S2, …"""
    return f"S{index + 1}"


class Market:
    """A market of `symbols` symbols with about `live` live orders each. messages: over which the session's hours are spread."""

    def __init__(self, symbols: int, live: int, seed: int, messages: int = 0, session: str = "SYNTHETIC"):
        dice = random.Random(seed)
        room = max(ROOM * live, 16)
        self.symbols = symbols
        self.listings, self.live = records(listing_dtype, symbols), np.zeros(symbols * room, live_dtype)
        self.counts = np.zeros(symbols * LADDER, count_dtype)
        rows = self.listings
        rows["stock"] = [symbol_to_int(symbol(index)) for index in range(symbols)]
        rows["live"], rows["room"], rows["target"] = np.arange(symbols) * room, room, live
        rows["ladder"] = np.arange(symbols) * LADDER
        rows["anchor"] = [dice.randrange(1000, 40_000) for _ in range(symbols)]
        self.picks, self.depths = np.zeros(PICKS, pick_dtype), np.zeros(DEPTHS, depth_dtype)
        shares = np.cumsum(1.0 / np.arange(1, symbols + 1) ** ZIPF)
        self.picks["symbol"] = np.searchsorted(shares, (np.arange(PICKS) + 0.5) / PICKS * shares[-1])
        self.picks["symbol"][-min(symbols, PICKS // 4):] = np.arange(symbols - min(symbols, PICKS // 4), symbols)
        self.depths["ticks"] = [self._depth(dice) for _ in range(DEPTHS)]
        self.array = records(market_dtype, 1)
        self.state = state = self.array[0]
        seed_chance(state, seed)
        for name, array in (("listings", self.listings), ("live", self.live), ("counts", self.counts), ("picks", self.picks),
                            ("depths", self.depths)):  # fmt: skip
            prefault(array)                           # all that a day needs is there from its first message
            set_array(state[name], array)
        state["ts"], state["gap"] = OPEN_NS, max(SESSION_NS // max(messages, 1_000_000), 1)
        state["fill"] = symbols * live
        state["session_a"], state["session_b"] = session_to_ints(session)

    @staticmethod
    def _depth(dice: random.Random) -> int:
        """Return how many ticks behind the best an order goes: most near it, a few far away."""
        mean = dice.choices((2.0, 12.0, 80.0), (70, 27, 3))[0]
        return min(int(-math.log(1.0 - dice.random()) * mean), LADDER // 2)

    def opening(self) -> bytes:
        """Return the framed messages before the open."""
        ts = 4 * HOUR
        said = bytearray(framed("S", 0, ts - HOUR, b"O"))
        for index in range(self.symbols):
            stock = symbol(index).encode().ljust(8)
            said += framed("R", index + 1, ts, stock + b"QN" + number(100, 4) + b"NC" + b"Z " + b"PNN1N" + number(0, 4) + b"N")
            said += framed("H", index + 1, ts, stock + b"T " + b"    ")
            said += framed("Y", index + 1, ts, stock + b"0")
            said += framed("L", index + 1, ts, b"SIMU" + stock + b"YNA")
        return bytes(said + framed("S", 0, ts, b"S") + framed("S", 0, OPEN_NS, b"Q"))

    def closing(self) -> bytes:
        """Return the framed messages that end the day."""
        ts = int(self.state["ts"])
        return framed("S", 0, ts, b"M") + framed("S", 0, ts, b"E") + framed("S", 0, ts, b"C")

    def run(self, at: int, end: int, most: int) -> int:
        """Write framed messages from address `at`, at most `most`, none beyond `end`. Returns the address after the last."""
        return int(make_run(self.state, at, end, most))

    def packets(self, at: int, end: int, most: int) -> int:
        """Write packets, each behind its length (i8). Returns the address after the last."""
        return int(make_packets(self.state, at, end, most))

    def packed(self, said: bytes) -> bytes:
        """Return framed messages in packets as `packets` makes them, with the next numbers of the session."""
        out, at = bytearray(), 0
        while at < len(said):
            first, begun, count = int(self.state["messages"]) + 1, at, 0
            while at < len(said):
                length = 2 + int.from_bytes(said[at : at + 2], "big")
                if at + length - begun > PAYLOAD_MAX - HEADER:
                    break
                at, count = at + length, count + 1
            head = np.zeros(1, packet_dtype)
            head["session_a"], head["session_b"] = self.state["session_a"], self.state["session_b"]
            packet = bytearray(head.tobytes() + said[begun:at])
            packet[10:18], packet[18:20] = number(first, 8), number(count, 2)
            out += len(packet).to_bytes(8, "little") + packet + bytes(-len(packet) % 8)
            self.state["messages"] += count
        return bytes(out)
