"""A strategy's own order table and position against the gateway's, over everything that a venue and a bad line can do.

The same game as `test_orders_twin.py`, but its orders, replacements and cancels are a strategy's intents, and the gateway's reports
go to the strategy. Whenever all is quiet, both must say the same of every order, of every share, and of what is open.
"""

import pytest

from hftd.core.jit import INTERPRETED
from hftd.msg.enums import IntentKind, OrdStatus
from hftd.msg.records import report_dtype
from tests.property.test_orders_twin import Game
from tests.support.gateway_desk import PX
from tests.support.strategy_desk import Desk

SEEDS = range(2) if INTERPRETED else range(100, 112)
ROUNDS = 15
OVER = {OrdStatus.FILLED, OrdStatus.CANCELED, OrdStatus.REJECTED}
SUMS = ("bought_qty", "sold_qty", "bought_cash", "sold_cash", "fills", "broken", "orders", "open_buy_qty", "open_sell_qty")


class Both(Game):
    """One seed's run, with a strategy at the gateway's desk."""

    WEIGHTS = (0, 0, 0, 0, *Game.WEIGHTS[4:])         # what is asked for, the strategy asks for

    def __init__(self, path, seed: int):
        super().__init__(path, seed)
        self.strategy = Desk(epoch=7, orders_max=256)
        self.strategy.quote()
        self.made: list[int] = []

    def act(self) -> None:
        """Do one random thing: what a strategy may do, the strategy does."""
        pick, desk = self.random, self.strategy
        what = pick.random()
        if what > 0.4:
            super().act()
            return
        px, qty, known = PX + 100 * pick.randint(-50, 50), pick.randint(1, 400), self.made[-12:]
        if what < 0.17 or not known:
            made = desk.submit(side=pick.randrange(2), px=px, qty=qty)
        elif what < 0.3:
            made = desk.do(2, pick.choice(known), px, qty)[0]
        elif what < 0.39:
            made = desk.do(3, pick.choice(known))[0]
        else:
            made = desk.do(4, pick.choice([-1, 0]))[0]
        if made > 0 and what < 0.3:
            self.made.append(made)
        for one in desk.last():
            self.desk.send(one["kind"], cl_ord_id=one["cl_ord_id"], px=one["px"], qty=one["qty"], side=one["side"],
                           orig=one["orig_seq"] if one["kind"] == IntentKind.REPLACE else 0)  # fmt: skip
        self.hear()

    def hear(self) -> None:
        """Let the strategy hear the reports."""
        for item in self.desk.reports():
            self.strategy.say(**{name: item[name] for name in report_dtype.names if name != "seq"})
            self.strategy.idle(self.strategy.clock)

    def compare(self, seed: int) -> None:
        """Hold the strategy's table against the gateway's."""
        mine = {int(order["id"]): order for order in self.strategy.agent.orders if int(order["id"])}
        for cl_ord_id in self.made:
            if cl_ord_id not in mine:
                continue
            order, where = mine[cl_ord_id], f"seed {seed}, order {cl_ord_id & 0xFFFFFFFF}"
            status = OrdStatus(int(order["status"]))
            theirs = self.desk.status(cl_ord_id)
            if theirs == "NONE":                      # never sent, or its row has another order by now
                assert status in OVER, where
                continue
            row = self.desk.row(cl_ord_id)
            assert (status in OVER) == (theirs in {one.name for one in OVER}), f"{where}: {status.name}, {theirs}"
            assert int(order["cum_qty"]) == row["cum"] or status is OrdStatus.REJECTED, where
            if status not in OVER:
                assert (status.name, int(order["leaves_qty"])) == (theirs, row["leaves"]), where
        held, theirs = self.strategy.position(0), self.desk.position()
        assert {name: held[name] for name in SUMS} == {name: theirs[name] for name in SUMS}, f"seed {seed}"
        assert held["open_orders"] == int(self.strategy.agent.handle["open_orders"]) == theirs["open_orders"]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_strategy_and_the_gateway_tell_the_same_story(tmp_path, seed):
    """Whatever happens in whatever order."""
    game = Both(tmp_path, seed)
    game.play(ROUNDS, seed)
    game.strategy.do(4, -1)
    game.desk.send(IntentKind.CANCEL_ALL)
    game.settle()
    game.compare(seed)
    assert game.strategy.position(0)["open_orders"] == 0
    game.desk.close()


