"""The gateway against its naive twin: random orders, replacements and cancels racing fills, rejects and lost connections.

The venue answers late (`hold`), reads late (`deaf`), fills, decrements, cancels and rejects at random; the link breaks at times.
Whenever both sides are quiet, every order's state, every report about it and every share must be what the twin derives from the
wire alone; at the end nothing is open anywhere and the sums are the venue's own.
"""

import random

import pytest

from hftd.core.jit import INTERPRETED
from hftd.msg.enums import ExecType
from hftd.venues.nasdaq.ouch_encode import id_of_text
from tests.naive.orders import Orders
from tests.support.gateway_desk import CANCEL, CANCEL_ALL, PX, REPLACE, GatewayDesk

SEEDS = range(3) if INTERPRETED else range(16)
ROUNDS = 25
LINK_TALK = {"UNKNOWN", "MODIFIED", "CANCEL_REJECTED"}


class Game:
    """One seed's run."""

    WEIGHTS: tuple[float, ...] = (10, 9, 5, 0.3, 12, 2, 1, 2, 3, 3, 12, 1, 1, 0.4)

    def __init__(self, path, seed: int):
        self.random = random.Random(seed)
        self.desk = GatewayDesk(path, gateway={"orders_max": 512}, rings={"report": 4096, "order": 1024})
        self.line, self.exchange = self.desk.line, self.desk.line.exchange
        self.twin = Orders()
        self.seen_sent = self.seen_said = 0
        self.ids: list[int] = []
        self.told: dict[int, list[tuple]] = {}
        self.sides: dict[int, int] = {}
        self.denied: set[int] = set()
        self.asked: set[int] = set()
        self.breaks = 0

    def play(self, rounds: int, seed: int) -> None:
        """Do random things, and compare whenever all is quiet."""
        for _ in range(rounds):
            for _ in range(self.random.randint(5, 40)):
                self.act()
            self.settle()
            self.compare(seed)

    def act(self) -> None:
        """Do one random thing."""
        pick, desk, exchange = self.random, self.desk, self.exchange
        what = pick.choices(
            ["new", "replace", "cancel", "all", "fill", "decrement", "gone", "refuse", "hold", "deaf", "step", "bust", "again",
             "break"],
            self.WEIGHTS)[0]  # fmt: skip
        live = exchange.live()
        if what == "new":
            side = pick.randrange(2)
            self.ids.append(desk.send(qty=pick.randint(1, 300), px=PX + pick.randint(-50, 50), side=side))
            self.sides[self.ids[-1]] = side
        elif what == "replace" and self.ids:
            old = pick.choice(self.ids[-12:])
            side = self.sides[old]
            self.ids.append(desk.send(REPLACE, orig=old, qty=pick.randint(1, 400), px=PX + pick.randint(-50, 50), side=side))
            self.sides[self.ids[-1]] = side
        elif what == "cancel" and self.ids:
            order = pick.choice(self.ids[-12:])
            self.asked.add(order)
            desk.send(CANCEL, cl_ord_id=order)
        elif what == "all":
            desk.send(CANCEL_ALL)
        elif what == "fill" and live:
            ref = pick.choice(live)
            exchange.fill(ref, pick.randint(1, exchange.orders[ref].open), PX + pick.randint(-50, 50), pick.choice([b"A", b"R"]))
        elif what == "decrement" and live:
            ref = pick.choice(live)
            exchange.decrement(ref, pick.randint(1, exchange.orders[ref].open))
        elif what == "gone" and live:
            exchange.cancel(pick.choice(live))
        elif what == "refuse":
            exchange.refuse[exchange.last_ref + pick.randint(1, 3)] = 0x1D
        elif what == "bust" and exchange.trades:
            match = pick.choice(exchange.trades)[0]
            for message in exchange.log:
                if message[:1] == b"E" and int.from_bytes(message[26:34], "big") == match:
                    exchange.bust(int.from_bytes(message[9:13], "big"), match)
                    break
        elif what == "again":  # the venue says an execution twice
            said = [message for message in exchange.log if message[:1] == b"E"]
            if said:
                exchange.say(pick.choice(said))
        elif what == "hold":
            self.line.hold = not self.line.hold
        elif what == "deaf":
            self.line.deaf = not self.line.deaf
        elif what == "break" and self.breaks < 3:
            self.breaks += 1
            self.line.hang_up()
        else:
            desk.step(pick.randint(1, 2))
        self.hear()

    def hear(self) -> None:
        """Keep the reports."""
        for item in self.desk.reports():
            kind = ExecType(item["exec_type"]).name
            if kind == "DENIED":
                self.denied.add(item["cl_ord_id"])
            elif kind not in LINK_TALK:
                self.told.setdefault(item["cl_ord_id"], []).append((kind, item["qty"], item["leaves_qty"]))

    def quiet(self) -> bool:
        """Tell whether everything sent has arrived, both ways."""
        desk = self.desk
        return (desk.up() and self.line.client is not None and self.line.sent == len(self.exchange.log) and not self.line.received
                and int(desk.session["next_seq"]) == len(self.exchange.log) + 1
                and int(desk.agent.handle["link"]["tx_tail"]) == int(desk.agent.handle["link"]["tx_head"])
                and int(desk.agent.handle["table"]["wanted"]) == 0
                and int(desk.memory["ring.order"]["control"][0]["tail"]) == int(desk.agent.handle["orders"]["next"])
                and len([1 for kind, _ in self.line.packets if kind == b"U"]) == self.sent_messages())  # fmt: skip

    def sent_messages(self) -> int:
        """Return how many messages the exchange took in."""
        return len(self.exchange.inbound)

    def settle(self) -> None:
        """Let everything arrive."""
        self.line.hold = self.line.deaf = False
        for _ in range(6):
            self.desk.step()
        self.desk.until(self.quiet)
        for _ in range(6):
            self.desk.step()
        self.desk.until(self.quiet)
        self.hear()

    def compare(self, seed: int) -> None:
        """Hold the gateway against the twin."""
        for message in self.exchange.inbound[self.seen_sent :]:
            self.twin.sent(message)
        for message in self.exchange.log[self.seen_said :]:
            self.twin.heard(message)
        self.seen_sent, self.seen_said = len(self.exchange.inbound), len(self.exchange.log)
        known = {}
        for order in self.twin.by_ref.values():
            known[id_of_text(order.text)] = order
        for cl_ord_id, order in known.items():
            where = f"seed {seed}, order {cl_ord_id & 0xFFFFFFFF}, ref {order.ref}"
            assert self.desk.status(cl_ord_id) == self.twin.status(order), where
            row = self.desk.row(cl_ord_id)
            if order.accepted:
                leaves = 0 if self.twin.status(order) in ("FILLED", "CANCELED", "REJECTED") else order.leaves
                assert (row["cum"], row["leaves"]) == (order.cum, leaves), where
            assert self.told.get(cl_ord_id, []) == self.twin.story(order), where
        for cl_ord_id in self.ids:  # what never reached the venue is over, and was said to be
            if cl_ord_id not in known:
                assert self.desk.status(cl_ord_id) in ("NONE", "REJECTED"), f"seed {seed}, {cl_ord_id & 0xFFFFFFFF}"
                assert cl_ord_id in self.denied or [told[0] for told in self.told[cl_ord_id]] == ["REPLACE_REJECTED"]
        for cl_ord_id in self.asked:  # nobody who asked for a cancel was forgotten
            where = f"seed {seed}, {cl_ord_id & 0xFFFFFFFF}"
            assert self.desk.status(cl_ord_id) in ("NONE", "FILLED", "CANCELED", "REJECTED"), where
        position = self.desk.position()
        assert (position["bought_qty"], position["sold_qty"]) == (self.twin.bought, self.twin.sold)
        assert position["bought_cash"] + position["sold_cash"] == self.twin.cash
        leaves = {0: 0, 1: 0}
        for order in self.exchange.orders.values():
            leaves[0 if order.side == b"B" else 1] += order.open
        assert (position["open_buy_qty"], position["open_sell_qty"]) == (leaves[0], leaves[1])
        assert self.desk.counters.get("contradictions", 0) == 0
        assert self.desk.counters.get("unresolved", 0) == 0


@pytest.mark.parametrize("seed", SEEDS)
def test_gateway_equals_its_naive_twin(tmp_path, seed):
    """Whatever happens in whatever order, both tell the same story."""
    game = Game(tmp_path, seed)
    game.play(ROUNDS, seed)
    game.desk.send(CANCEL_ALL)
    game.settle()
    game.compare(seed)
    assert game.exchange.live() == []
    assert game.desk.position()["open_orders"] == 0
    assert int(game.desk.session["open_orders"]) == 0
    game.desk.close()
