"""Feed, strategy and risk over one memory: nothing is traded on a book that is not LIVE unless asked for; other books go on."""

import numpy as np
import pytest

from hftd.msg.enums import BookState, DenyReason, RunState
from hftd.msg.records import order_dtype
from hftd.risk.memory import DENIED_AT
from hftd.risk.setup import RiskAgent
from hftd.strategy.setup import StrategyAgent
from tests.support import itch_messages as itch
from tests.support.live_feed import Live

pytestmark = pytest.mark.timeout(300)  # three stages compile first

JOINER = '''"""Buys one share at the best bid of each book it is shown."""

from hftd.strategy import BUY, submit
{option}

def on_book(ctx, book):
    """Buy."""
    submit(ctx, book.instrument, BUY, book.bid_px, 1)
'''


class Chain:
    """A feed, one strategy and risk, each stepped by the test."""

    def __init__(self, tmp_path, option: str = "", **feed):
        file = tmp_path / "joiner.py"
        file.write_text(JOINER.replace("{option}", option))
        self.live = Live(strategy=[{"file": str(file)}], **feed)
        memory = self.live.memory
        self.run = memory["control"]["run"][0]
        self.strategy = StrategyAgent(self.live.config, memory, 0)
        self.strategy.prepare(False)
        self.risk = RiskAgent(self.live.config, memory)
        self.risk.prepare(False)
        self.run["state"], self.run["session_up"] = int(RunState.READY), 1
        self.seen = 0
        self.send(itch.directory(5, "AAPL"), itch.directory(6, "MSFT"), itch.action(5, "T"), itch.action(6, "T", symbol="MSFT"))
        for at, (locate, symbol) in enumerate(((5, "AAPL"), (6, "MSFT"))):
            bid, ask = (itch.add(locate, 10 * side + at, "BS"[side], 100, 1_000_000 + 100 * side, symbol) for side in (0, 1))
            self.send(bid, ask)

    def send(self, *messages: bytes) -> list[int]:
        """Send a packet through feed, strategy and risk; return the instruments of the orders that came out."""
        self.live.after(*messages)
        for agent in (self.strategy, self.risk):
            agent.cold(1 << 60)
            agent.kernel()(agent.handle, agent.mark, agent.waiting, 4)
        ring = self.live.memory["ring.order"]
        tail = int(ring["control"][0]["tail"])
        orders = np.asarray(ring["slots"]).view(np.ndarray).view(order_dtype)[self.seen : tail]
        self.seen = tail
        return [int(order["instrument"]) for order in orders]

    def both(self) -> list[int]:
        """Change both books, as two instruments of one packet."""
        ref = self.live.said + 100
        return self.send(itch.add(5, ref, "B", 100, 999_900), itch.add(6, ref + 100, "B", 100, 999_900, "MSFT"))

    def close(self) -> None:
        self.strategy.close()
        self.risk.close()
        self.live.close()


@pytest.fixture
def chain(request, tmp_path):
    made = Chain(tmp_path, **getattr(request, "param", {}))
    yield made
    made.close()


def test_a_tainted_book_is_not_traded_on_and_the_other_is(chain):
    assert chain.both() == [0, 1]
    chain.send(itch.delete(5, 999_999))
    assert (chain.live.state(0), chain.live.state(1)) == (BookState.STALE, BookState.LIVE)
    assert [chain.both() for _ in range(3)] == [[1], [1], [1]]


@pytest.mark.parametrize("chain", [{"option": "trade_any_state = True"}], indirect=True)
def test_a_strategy_that_asked_for_it_trades_on_it(chain):
    chain.send(itch.delete(5, 999_999))
    assert chain.live.state(0) == BookState.STALE and chain.both() == [0, 1]


@pytest.mark.parametrize("chain", [{"on_taint": "note"}], indirect=True)
def test_noted_it_is_traded_on(chain):
    chain.send(itch.delete(5, 999_999))
    assert chain.live.counter("unknown_refs") == 1 and chain.both() == [0, 1]


def test_risk_denies_by_itself_where_a_strategy_does_not_look(chain):
    """A strategy whose own books are behind: risk looks at the feed's word."""
    chain.send(itch.delete(5, 999_999))
    chain.strategy.books["state"][0] = int(BookState.LIVE)
    from hftd.strategy.orders import submit_order

    sent = submit_order(chain.strategy.handle, 0, 0, 1_000_000, 1, 0, 0, 0, 0, 0)
    assert sent > 0
    from hftd.shm.ring import publish

    publish(chain.strategy.handle["intents"])
    counters = np.asarray(chain.live.memory["risk"]["counters"]).view(np.ndarray).view(np.int64)
    before = int(counters[DENIED_AT + DenyReason.BOOK_NOT_LIVE])
    chain.risk.kernel()(chain.risk.handle, chain.risk.mark, chain.risk.waiting, 2)
    assert int(counters[DENIED_AT + DenyReason.BOOK_NOT_LIVE]) == before + 1


def test_a_breaker_stops_both_until_each_resumes(chain):
    """The market-wide circuit breaker, from the exchange's message to risk's denial."""
    assert chain.both() == [0, 1]
    chain.send(itch.breach("1"))
    assert chain.both() == []
    chain.send(itch.action(6, "H", "MWC1", symbol="MSFT"), itch.action(6, "T", "MWCQ", symbol="MSFT"))
    assert chain.both() == [1]
    chain.send(itch.action(5, "H", "MWC1"))
    assert chain.both() == [1]
    chain.send(itch.action(5, "T", "MWCQ"))
    assert chain.both() == [0, 1]
