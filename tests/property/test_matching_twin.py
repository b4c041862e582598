"""Random days at the exchange: the engine says, answers and writes down what the naive twin does, message for message.

Two accounts and a history that is consistent in itself act on one symbol, in a narrow band of prices, so that everything happens:
queues, partial fills, self-trades, post-only refusals, ghosts, and history about shares that accounts took.
"""

import struct

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hftd.sim.memory import SOURCE_REPLAY
from hftd.sim.session import LOST_PEER, lose
from tests.naive.matching import Market
from tests.support.interpreted import is_child
from tests.support.sim_desk import POST_ONLY, Desk, cancel, enter, modify, replace

STEPS = 1500 if is_child() else 6000
REF, MATCH = 1_000_000, 5_000_000
STOCK = b"ALFA    "
small = st.integers(0, 11)
ACTIONS = ("enter", "enter", "enter", "ioc", "market", "replace", "cancel", "modify", "query", "leave",
           "add", "add", "add", "add", "executed", "executed", "executed", "canceled", "deleted", "replaced",
           "unknown")  # fmt: skip
action = st.tuples(st.sampled_from(ACTIONS), small, small, small, small)


class Day:
    """Performs each drawn action on the engine and on the twin."""

    def __init__(self):
        self.desk = Desk(accounts=2).open()
        self.desk.x["source"] = SOURCE_REPLAY
        self.desk.x["ref_next"], self.desk.x["match_next"] = REF, MATCH
        self.twin = Market(2, REF, MATCH)
        self.heads = [0, 0, 0]
        self.said = 0
        self.users = [0, 0]
        self.past: dict[int, list[int]] = {}          # history's own book: ref -> [side, px, shares left]
        self.refs, self.matches = 100, 900

    def head(self, kind: str) -> bytes:
        return kind.encode() + b"\0\1" + b"\0" * 8

    def account(self, name: str, a: int, b: int, c: int, d: int) -> None:
        who, side, qty = a % 2, "BSTE"[b % 4], (0, 1, 5, 10, 10, 20, 20, 30, 50, 100, 7, 1_000_000)[c]
        px = 100 * (94 + d)
        number = who + 1
        if name in ("enter", "ioc", "market"):
            user = self.users[who] + (0 if b == 11 else 1)
            self.users[who] = max(user, self.users[who])
            post = name == "enter" and a == 7
            said = 2_000_000_000 if name == "market" else 0 if d == 11 and c == 2 else px
            raw = enter(user, "Q" if b == 10 and c == 9 else side, qty, said, tif="3" if name == "ioc" else "0",
                        appendage=b"\x03\x18\0\1" + POST_ONLY if post else b"")  # fmt: skip
            self.desk.give(raw, who)
            self.twin.enter(number, user, "Q" if b == 10 and c == 9 else side, qty, said, name == "ioc", post)
        elif name == "replace":
            qty = self.near(number, b, d, qty)
            orig, user = max(self.users[who] - b, 0), self.users[who] + (0 if a == 11 else 1)
            self.desk.give(replace(orig, user, qty, px, tif="3" if a == 9 else "0", appendage=POST_ONLY if a == 5 else b""), who)
            self.twin.replace(number, orig, user, qty, px, a == 9, a == 5)
            self.users[who] = max(self.users[who], self.twin.last[number])
        elif name == "cancel":
            qty = self.near(number, b, d, qty)
            user = max(self.users[who] - b, 0)
            self.desk.give(cancel(user, 0 if c < 3 else qty), who)
            self.twin.cancel(number, user, 0 if c < 3 else qty)
        elif name == "modify":
            user = max(self.users[who] - b, 0)
            self.desk.give(modify(user, "SET"[d % 3], qty), who)
            self.twin.modify(number, user, "SET"[d % 3], qty)
        elif name == "query":
            self.desk.give(b"Q", who)
            self.twin.query(number)
        else:
            lose(self.desk.x, self.desk.numbers[who], LOST_PEER)
            self.twin.cancel_all(number, "S")

    def near(self, number: int, back: int, d: int, qty: int) -> int:
        """Now and then a total at or just beside what was executed, where the rules have their edges."""
        order = self.twin.find(number, max(self.users[number - 1] - back, 0))
        return qty if order is None or d < 8 else max(order.executed + d - 9, 0)

    def history(self, name: str, a: int, b: int, c: int, d: int) -> None:
        qty = (1, 5, 10, 10, 20, 20, 30, 50, 100, 7, 3, 200)[c]
        live = sorted(self.past)
        if name == "add":
            side, px = a % 2, 100 * (99 - d // 2 if a % 2 == 0 else 100 + d // 2)
            self.refs += 1
            self.past[self.refs] = [side, px, qty]
            raw = self.head("A") + struct.pack(">QcI", self.refs, b"BS"[side : side + 1], qty) + STOCK + struct.pack(">I", px)
            self.desk.history(raw)
            self.twin.history_add(self.refs, side, qty, px)
            return
        if name == "unknown" or not live:
            self.desk.history(self.head("D") + struct.pack(">Q", 77))
            self.twin.history_deleted(77)
            return
        ref = live[b % len(live)]
        row = self.past[ref]
        if name == "executed":
            size = min(qty, row[2])
            self.matches += 1
            self.desk.history(self.head("E") + struct.pack(">QIQ", ref, size, self.matches))
            self.twin.history_executed(ref, size, self.matches)
            row[2] -= size
        elif name == "canceled":
            size = min(qty, row[2])
            self.desk.history(self.head("X") + struct.pack(">QI", ref, size))
            self.twin.history_canceled(ref, size)
            row[2] -= size
        elif name == "deleted":
            self.desk.history(self.head("D") + struct.pack(">Q", ref))
            self.twin.history_deleted(ref)
            row[2] = 0
        else:
            px = 100 * (99 - d // 2 if row[0] == 0 else 100 + d // 2)
            self.refs += 1
            self.desk.history(self.head("U") + struct.pack(">QQII", ref, self.refs, qty, px))
            self.twin.history_replaced(ref, self.refs, qty, px)
            self.past[self.refs] = [row[0], px, qty]
            row[2] = 0
        if row[2] == 0:
            del self.past[ref]

    def compare(self) -> None:
        assert self.desk.tape() == self.twin.tape[self.said :]
        self.said = len(self.twin.tape)
        for who in range(2):
            assert self.desk.told(who) == self.twin.told[who + 1][self.heads[who] :]
            self.heads[who] = len(self.twin.told[who + 1])

    def book(self) -> list[list[tuple]]:
        exchange = self.desk.exchange
        sides = []
        for side in range(2):
            rows = []
            level = int(exchange.halves[2 + side]["best"])
            while level:
                index = int(exchange.levels[level]["head"])
                shares = 0
                while index:
                    order = exchange.orders[index]
                    rows.append((int(order["ref"]), int(order["px"]), int(order["left"])))
                    shares += int(order["left"])
                    index = int(order["next"])
                assert shares == int(exchange.levels[level]["qty"])
                level = int(exchange.levels[level]["next"])
            sides.append(rows)
        return sides

    def end(self) -> None:
        wanted = [[(order.ref, order.px, order.left) for order in self.twin.queue(side)] for side in range(2)]
        assert self.book() == wanted
        bids, asks = wanted
        assert not bids or not asks or bids[0][1] < asks[0][1]
        self.ledger()

    def ledger(self) -> None:
        exchange = self.desk.exchange
        sums = {number: [0, 0, 0, 0, 0] for number in range(3)}
        for maker, taker, side, px, qty in self.twin.trades:
            for number, way in ((maker, 1 - side), (taker, side)):
                if maker or taker:
                    sums[number][way] += qty
                    sums[number][2 + way] += px * qty
                    sums[number][4] += 1
        locates = len(exchange.symbols)
        for number, row in sums.items():
            position = exchange.positions[number * locates + 1]
            assert [int(position[key]) for key in ("bought_qty", "sold_qty", "bought_cash", "sold_cash", "fills")] == row
        bought, sold, paid, received = (sum(row[k] for row in sums.values()) for k in range(4))
        assert (bought, paid) == (sold, received)
        assert int(exchange.x["capped"]) == self.twin.capped
        assert int(exchange.x["orders"]["used"]) == len(self.twin.orders)
        assert int(exchange.x["orphans"]) == 0


def perform(actions) -> Day:
    day = Day()
    for name, *numbers in actions:
        if name in ACTIONS[:10]:
            day.account(name, *numbers)
        else:
            day.history(name, *numbers)
        day.compare()
    day.end()
    return day


@settings(max_examples=5 if is_child() else 120, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(action, min_size=1, max_size=80))
def test_engine_and_twin_say_answer_and_write_the_same(actions):
    perform(actions)


def test_a_long_day_is_told_alike_and_everything_happened():
    """One seeded day long enough that every kind of message and answer occurs."""
    import random

    rng = random.Random(20_240_607)
    day = perform([(rng.choice(ACTIONS), *(rng.randrange(12) for _ in range(4))) for _ in range(STEPS)])
    kinds = {row[0] for row in day.twin.tape}
    answers = {row[0] for told in day.twin.told for row in told}
    assert kinds == set("AEXDU") and answers == set("AUCEJMQ")
    assert int(day.desk.x["self_trades"]) > 0 and int(day.desk.x["dropped"]) > 0 and int(day.desk.x["altered"]) > 0
