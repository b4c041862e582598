"""Risk and its naive twin, given the same intents, quotes and reports, agree on every reason and sum; and the limits hold."""

import tempfile
from fractions import Fraction
from pathlib import Path
from random import Random

import hypothesis.strategies as st
from hypothesis import HealthCheck, given, settings

from hftd.msg.enums import BookState, DenyReason, ExecType, TradingState
from hftd.msg.ids import make_id
from hftd.msg.records import INTENT_SHORT
from hftd.risk.memory import NO_ASK
from tests.naive import risk as naive
from tests.support.risk_desk import CANCEL, NEW, PX, REPLACE, Desk

SCALES = {"order_qty_max": 500, "order_notional_max": 40_000.0, "position_max": 900, "gross_notional_max": 90_000.0,
          "loss_max": 40.0, "open_orders_max": 8, "collar_bps": 500, "message_rate_max": 10_000_000}  # fmt: skip


def naive_twin() -> naive.Risk:
    """Return the twin with the limits of SCALES."""
    limits = naive.Limits(
        qty_max=500, notional_max=40_000_0000, position_max=900, gross_max=90_000_0000, loss_max=40_0000, open_orders_max=8, rows=16
    )
    return naive.Risk([naive.Quote(PX - 100, PX + 100, PX) for _ in range(3)], limits)


class Pair:
    """A desk and its twin, with a venue between them that answers as a venue may."""

    def __init__(self, run_dir, opening: dict[int, tuple[int, str]]):
        """opening: instrument -> shares of before the day, and their average price as the file has it."""
        file = Path(run_dir) / "opening.csv"
        lines = [f"{'ABC'[at] * 3},{shares},{price}\n" for at, (shares, price) in opening.items()]
        file.write_text("symbol,quantity,price\n" + "".join(lines))
        self.desk = Desk(run_dir, risk={**SCALES, "positions": str(file)}, gateway={"orders_max": 64})
        self.twin = naive_twin()
        for at, (shares, price) in opening.items():
            self.twin.begin(at, shares, round(shares * Fraction(price) * 10_000))
        self.twin.limits.rows = 64
        self.sequence = {0: 0, 1: 0}
        self.match = 0
        self.sent = 0

    def ask(self, place, kind, side, instrument, px, qty, pick, stale_id) -> DenyReason:
        """Send one intent to both."""
        orig = 0
        if kind in (REPLACE, CANCEL):
            mine = [id for id in self.twin.orders if id >> 56 == place]
            orig = mine[pick % len(mine)] if mine else make_id(place, 1, 999_999)
            if kind == REPLACE and orig in self.twin.orders and pick % 7:
                instrument, side = self.twin.orders[orig].instrument, self.twin.orders[orig].side
        if not stale_id:
            self.sequence[place] += 1
        qty = qty if kind != CANCEL or pick % 3 == 0 else 0
        id = orig if kind == CANCEL else make_id(place, 1, max(self.sequence[place], 1))
        wanted = self.twin.intent(kind, id, side, px, qty, instrument, orig)
        found = self.desk.reason(kind=kind, side=side, px=px, qty=qty, instrument=instrument, place=place, orig=orig, cl_ord_id=id)
        assert found == wanted
        self.sent += found == DenyReason.OK
        if found == DenyReason.OK and kind != CANCEL:
            assert bool(self.desk.passed[-1]["flags"] & INTENT_SHORT) == self.twin.orders[id].marked
        return found

    def answer(self, what, pick, part) -> None:
        """Let the venue say something about one of the open orders, as it may at this point, to both."""
        orders = list(self.twin.orders.values())
        if not orders:
            return
        order = orders[pick % len(orders)]
        if not order.replaces and not order.answered:
            exec_type = (ExecType.NEW, ExecType.REJECTED, ExecType.DENIED, ExecType.NEW)[what % 4]
            if exec_type == ExecType.NEW:
                self.tell(exec_type, order, order.px, order.open, order.open)
            else:
                self.tell(exec_type, order, order.px, order.total, 0)
            return
        if order.replaces:
            before = self.twin.orders[order.replaces]
            if before.replaces or not before.answered:
                return
            if what % 5 == 0:
                self.tell(ExecType.REPLACE_REJECTED, order, order.px, order.total, 0, orig=before.id)
            elif order.total > before.executed:
                left = order.total - before.executed
                self.tell(ExecType.REPLACED, order, order.px, left, left, orig=before.id)
            else:
                self.tell(ExecType.CANCELED, before, before.px, before.open, 0)
            return
        if order.leaving and what % 4 == 3:
            self.tell(ExecType.CANCEL_REJECTED, order, order.px, order.open, order.open)
            return
        part = 1 + part % order.open
        if what == 0:
            self.tell(ExecType.CANCELED, order, order.px, order.open, 0)
        elif what == 1:
            self.tell(ExecType.CANCELED, order, order.px, part, order.open - part)
        else:
            self.match += 1
            left = order.open - part
            self.tell(ExecType.FILL, order, order.px, part, left, match=self.match)
            if what % 3 == 0:
                self.tell(ExecType.FILL, order, order.px, part, left, match=self.match)

    def tell(self, exec_type, order, px, qty, leaves, match=0, orig=0) -> None:
        """Send one report to both, and compare."""
        self.desk.report(exec_type, order.id, px=px, qty=qty, leaves=leaves, instrument=order.instrument, side=order.side,
                         venue_id=match, orig=orig)  # fmt: skip
        self.desk.step()
        self.twin.report(exec_type, order.id, order.instrument, order.side, px, qty, leaves, match, orig)
        self.compare()

    def quote(self, instrument, bid, ask, last, state, trading) -> None:
        """Move one market for both."""
        self.desk.quote(instrument, bid=bid, ask=ask, last=last, state=state, trading=trading)
        self.twin.quotes[instrument] = naive.Quote(bid, ask, last, state, trading)
        self.desk.step(8)
        for at in range(3):
            if at in self.twin.opening or any(fill[0] == at for fill in self.twin.fills):
                self.twin.mark(at)
        self.compare()

    def compare(self) -> None:
        """Every sum, and the limits that must hold whatever comes."""
        desk, twin = self.desk, self.twin
        for at in range(3):
            row = desk.position(at)
            assert row["bought_qty"] - row["sold_qty"] == twin.net(at) - twin.opening.get(at, (0, 0))[0]
            assert (row["open_buy_qty"], row["open_sell_qty"]) == (twin.open_qty(at, 0), twin.open_qty(at, 1))
            assert (row["open_buy_cash"], row["open_sell_cash"]) == (twin.open_cash(at, 0), twin.open_cash(at, 1))
            assert row["fills"] == sum(fill[0] == at for fill in twin.fills)
            exposure = desk.memory["risk"]["exposures"][at]
            assert int(exposure["own_bid_px"]) >= max(twin.own_best(at, 0), default=0)
            assert int(exposure["own_ask_px"]) <= min(twin.own_best(at, 1), default=NO_ASK)
            assert twin.net(at) + twin.open_qty(at, 0) <= 900, "worst case long"
            assert twin.net(at) - twin.open_qty(at, 1) >= -900, "worst case short"
        account = desk.account
        assert int(account["open_orders"]) == len(twin.standing())
        assert int(account["open_cash"]) == twin.open_cash()
        assert int(account["held_cash"]) == twin.held_cash()
        assert int(account["pnl"]) == twin.pnl()
        assert bool(account["loss_latched"]) == twin.latched
        assert int(desk.agent.handle["pool"]["used"]) == len(twin.orders)
        assert desk.count("approved") == self.sent == int(desk.memory["ring.order"]["control"][0]["tail"])
        assert sum(desk.position(at)["orders"] for at in range(3)) == twin.accepted

    def finish(self) -> None:
        """Cancel whatever is open: nothing may remain of it."""
        for order in list(self.twin.orders.values()):
            if order.id in self.twin.orders and not order.replaces:
                self.tell(ExecType.CANCELED, order, order.px, order.open, 0)
        assert set(self.desk.open_sums().values()) == {0}


def some_price(rng: Random) -> int:
    """A price near the book, mostly."""
    return rng.choice([PX + 50, 0, PX // 2, PX * 2, 1 << 41, -100]) if rng.random() < 0.05 else PX + 100 * rng.randint(-12, 12)


def some_opening(rng: Random) -> dict[int, tuple[int, str]]:
    """What is held before the day: nothing, or long or short within the limit, at a price with parts of a cent."""
    held = {at: rng.choice([0, 0, rng.randint(1, 900), 500, -rng.randint(1, 900)]) for at in range(3)}
    return {at: (shares, f"{100 + rng.uniform(-0.02, 0.02):.6f}") for at, shares in held.items() if shares}


def some_qty(rng: Random) -> int:
    """A quantity that may pass, mostly."""
    wild = [0, 500, 501, 999_999, 1_000_000, 0xFFFFFFFF]
    return rng.choice(wild) if rng.random() < 0.05 else rng.choice([rng.randint(1, 410), 100 * rng.randint(1, 5)])


def one_step(pair: Pair, rng: Random, lean: float, talk: float) -> None:
    """Let one thing happen. lean: share of sells; talk: share of steps in which a strategy acts."""
    what = rng.random()
    if what < talk:
        kind = rng.choice([NEW, NEW, NEW, REPLACE, REPLACE, CANCEL])
        instrument = rng.choices([0, 1, 2, 3], [60, 20, 18, 2])[0]
        pair.ask(rng.randint(0, 1), kind, int(rng.random() < lean), instrument, some_price(rng), some_qty(rng),
                 rng.randrange(1 << 16), rng.random() < 0.02)  # fmt: skip
    elif what < 0.95:
        pair.answer(rng.randint(0, 11), rng.randrange(1 << 16), rng.randrange(1 << 16))
    else:
        calm = rng.random() < 0.7
        bid = PX - 100 * rng.randint(1, 4) if calm else rng.choice([PX - 8_0000, 0, 100])
        ask = PX + 100 * rng.randint(1, 4) if calm else rng.choice([PX + 9_0000, 0, 199_999_0000])
        state = rng.choices((BookState.LIVE, BookState.STALE, BookState.RECOVERING), (90, 5, 5))[0]
        trading = TradingState.TRADING if rng.random() < 0.95 else TradingState.HALTED
        pair.quote(rng.randint(0, 2), bid, ask, rng.choice([PX, PX + 5000, 0]), int(state), int(trading))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 1 << 32), steps=st.integers(100, 400))
def test_risk_and_its_twin_agree(seed, steps):
    """Random intents of two strategies, a venue that answers as it likes, moving markets, shares held from before the day or none:
    equal after every step; 0 at the end.
    """
    rng = Random(seed)
    with tempfile.TemporaryDirectory() as run_dir:
        pair = Pair(run_dir, some_opening(rng))
        pair.compare()
        lean, talk = rng.random(), rng.uniform(0.3, 0.8)
        for _ in range(steps):
            one_step(pair, rng, lean, talk)
        pair.finish()
