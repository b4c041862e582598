"""A feed without sockets for tests: bytes in, books out, with every invariant of the engine checked on the way out."""

import numpy as np

from hftd.core.memory import address
from hftd.feed.book import LOWEST
from hftd.feed.build import Build, private_tables
from hftd.feed.memory import LANES, SHARES_AT
from hftd.feed.orders import queue_of
from hftd.feed.view import rows_of
from hftd.venues.nasdaq.itch50 import symbol_to_int
from hftd.venues.nasdaq.itchfeed import apply_one, apply_run
from tests.support.itch_messages import framed


class Feed:
    """A Build over private memory that takes messages one by one."""

    def __init__(self, instruments: int = 8, levels: int = 256, orders: int = 1024, symbols: tuple[str, ...] = ()):
        self.build = Build(private_tables(instruments, levels), orders, list(symbols))
        self.seq = 1
        self._buffer = bytearray(1 << 16)
        self._at = address(self._buffer)

    def apply(self, *messages: bytes) -> None:
        """Apply messages, each by itself: by turns as a run of one, and as the one message of a packet."""
        for message in messages:
            data = framed(message)
            self._buffer[: len(data)] = data
            if self.seq & 1:
                apply_run(self.build.agent, self._at, self._at + len(data), self.seq)
            else:
                apply_one(self.build.agent, self._at, self.seq)
            self.seq += 1

    def apply_framed(self, data: bytes) -> int:
        """Apply a run of framed messages at once; return how many they were."""
        kept = bytearray(data)
        at = address(kept)
        done = int(apply_run(self.build.agent, at, at + len(kept), self.seq))
        self.seq += done
        return done

    def counter(self, name: str) -> int:
        """Return a counter."""
        return int(self.build.counters[name])

    def instrument(self, symbol: str) -> int:
        """Return a symbol's index."""
        found = np.nonzero(self.build.tables["instruments"].rows["symbol"] == symbol_to_int(symbol))[0]
        return int(found[0])

    def quote(self, instrument: int) -> tuple[int, int, int, int]:
        """Return bid px, bid qty, ask px, ask qty of a quote cell."""
        quote = self.build.tables["quotes"].rows[instrument]
        assert int(quote["version"]) % 2 == 0
        return tuple(int(quote[name]) for name in ("bid_px", "bid_qty", "ask_px", "ask_qty"))  # type: ignore[return-value]

    def sides(self, instrument: int) -> tuple[list, list]:
        """Return (bids, asks), best first: [px, [[ref, qty], …oldest first]], and check what must always hold of a book."""
        tables, engine = self.build.tables, self.build.agent["engine"]
        orders = self.build.orders.rows[: int(engine["orders"]["fresh"])]
        book = tables["books"].rows[instrument]
        assert int(book["version"]) % 2 == 0
        found, live = [], 0
        for which in (0, 1):
            side = book["sides"][which]
            at, count, room = int(side["start"]), int(side["count"]), int(side["room"])
            rest, top = max(count - LANES, 0), book["tops"][LANES * which : LANES * (which + 1)]
            assert 0 <= rest <= room
            assert np.all(top["px"][: max(LANES - count, 0)] == LOWEST), "what is empty has the lowest price"
            assert np.all(tables["slots"].rows["px"][at - LANES : at] == LOWEST), "and what is below the worst"
            prices, handles = (np.concatenate((tables["slots"].rows[name][at : at + rest], top[name][max(LANES - count, 0) :]))
                               for name in ("px", "level"))  # fmt: skip
            assert handles.tolist() == rows_of(book, tables["slots"].rows, which).tolist()
            assert np.all(np.diff(prices) > 0), "a side is strictly ascending"
            assert int(side["best"]) == (int(handles[-1]) if count else 0)
            rows = []
            for px, handle in zip(prices[::-1], handles[::-1]):
                level = tables["levels"].rows[int(handle)]
                assert int(level["px"]) == int(px) and (int(px) < 0) == bool(which)
                assert int(level["held"]) & 0xFFFF == instrument
                waiting = orders[queue_of(orders, int(handle))]
                queue = [[int(order["ref"]) & ((1 << 64) - 1), int(order["qty"])] for order in waiting]
                assert len(queue) == int(level["orders"]) > 0
                assert sum(qty for _, qty in queue) == int(level["held"]) >> SHARES_AT
                rows.append([abs(int(level["px"])), queue])
                live += len(queue)
            found.append(rows)
        assert live == int(book["orders"])
        return found[0], found[1]
