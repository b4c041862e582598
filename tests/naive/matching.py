"""The exchange's rules in the most obvious Python: one list of orders, sorted when it matters. Slow, and easy to believe.

Nothing here is taken from the engine. Prices, shares and references are ints; side 0 buys, 1 sells. `tape` is what market data
says, `told[account]` what each account is told, both as tuples. History (account 0) keeps two numbers per order: `left`, what
is open in this book, and `hist`, what history believes.
"""

from dataclasses import dataclass

QTY_MAX, PX_MAX, PX_MARKET = 999_999, 1_999_999_900, 2_000_000_000


@dataclass
class Order:
    """One order, alive or remembered."""

    ref: int
    side: int
    px: int
    left: int
    arrival: int
    account: int = 0
    user_ref: int = 0
    executed: int = 0
    hist: int = 0
    sale: str = "B"
    ioc: bool = False
    post_only: bool = False
    resting: bool = False


class Market:
    """One symbol, several accounts, and history."""

    def __init__(self, accounts: int, ref_next: int, match_next: int):
        self.orders: list[Order] = []
        self.tape: list[tuple] = []
        self.told: list[list[tuple]] = [[] for _ in range(accounts + 1)]
        self.last = [0] * (accounts + 1)
        self.ref, self.match, self.arrivals = ref_next, match_next, 0
        self.trades: list[tuple] = []
        self.capped = 0

    # ------------------------------------------------------------ the book

    def queue(self, side: int) -> list[Order]:
        """Resting orders of a side in the order in which they trade."""
        rows = [order for order in self.orders if order.resting and order.side == side]
        return sorted(rows, key=lambda order: (order.px if side else -order.px, order.arrival))

    def new(self, ref: int, side: int, px: int, left: int, **more) -> Order:
        self.arrivals += 1
        order = Order(ref, side, px, left, self.arrivals, **more)
        self.orders.append(order)
        return order

    def end(self, order: Order) -> None:
        order.resting = False
        self.orders.remove(order)

    @staticmethod
    def reaches(side: int, px: int, other: int) -> bool:
        return other <= px if side == 0 else other >= px

    # ------------------------------------------------------------ trading

    def trade(self, maker: Order, qty: int, taker: Order | None, side: int) -> None:
        """`maker` gives `qty` shares at its price to an aggressor of `side`."""
        match, self.match = self.match, self.match + 1
        self.tape.append(("E", maker.ref, qty, match))
        self.trades.append((maker.account, taker.account if taker else 0, side, maker.px, qty))
        for order, flag in ((maker, "A"), (taker, "R")):
            if order is not None and order.account:
                order.executed += qty
                self.told[order.account].append(("E", order.user_ref, qty, maker.px, flag, match))
        maker.left -= qty
        if maker.left == 0:
            maker.resting = False
            if maker.account or maker.hist <= 0:
                self.end(maker)

    def sweep(self, side: int, px: int, qty: int, taker: Order | None, own_only: bool = False) -> int:
        for maker in self.queue(1 - side):
            if qty == 0 or not self.reaches(side, px, maker.px):
                break
            if own_only and maker.account == 0:
                continue
            size = min(qty, maker.left)
            self.trade(maker, size, taker, side)
            qty -= size
        return qty

    def work(self, order: Order, replaced: int) -> None:
        opposite = self.queue(1 - order.side)
        crossing = bool(opposite) and self.reaches(order.side, order.px, opposite[0].px)
        if replaced:
            if crossing or order.ioc:
                self.tape.append(("D", replaced))
            else:
                self.tape.append(("U", replaced, order.ref, order.left, order.px))
                order.resting = True
                return
        if crossing and order.post_only:
            self.cancel_rest(order, "F")
            return
        order.left = self.sweep(order.side, order.px, order.left, order)
        if order.left == 0:
            self.end(order)
        elif order.ioc:
            self.cancel_rest(order, "I")
        else:
            self.tape.append(("A", order.ref, order.side, order.left, order.px))
            order.resting = True

    def cancel_rest(self, order: Order, reason: str) -> None:
        self.told[order.account].append(("C", order.user_ref, order.left, reason))
        self.end(order)

    def take_out(self, order: Order, reason: str) -> None:
        self.tape.append(("D", order.ref))
        self.cancel_rest(order, reason)

    # ------------------------------------------------------------ accounts

    def find(self, account: int, user_ref: int) -> Order | None:
        for order in self.orders:
            if order.account == account and order.user_ref == user_ref:
                return order
        return None

    @staticmethod
    def price(px: int, side: int) -> tuple[int, bool, bool]:
        """(price worked at, market order?, wrong?)"""
        if px >= PX_MARKET or px == 0x7FFFFFFF:
            return (1 if side else PX_MAX), True, False
        return px, False, px <= 0 or px > PX_MAX or (px >= 10_000 and px % 100 != 0)

    def enter(self, account: int, user_ref: int, sale: str, qty: int, px: int, ioc: bool, post_only: bool) -> None:
        if user_ref <= self.last[account]:
            return
        self.last[account] = user_ref
        side = 0 if sale == "B" else 1
        worked, market, wrong = self.price(px, side)
        if not 1 <= qty <= QTY_MAX:
            self.told[account].append(("J", user_ref, 0x13))
            return
        if sale not in "BSTE":
            self.told[account].append(("J", user_ref, 0x09))
            return
        if wrong:
            self.told[account].append(("J", user_ref, 0x1D))
            return
        order = self.new(self.ref, side, worked, qty, account=account, user_ref=user_ref, sale=sale, ioc=ioc or market,
                         post_only=post_only)  # fmt: skip
        self.ref += 1
        self.told[account].append(("A", user_ref, qty, order.ref, px))
        self.work(order, 0)

    def replace(self, account: int, orig: int, user_ref: int, qty: int, px: int, ioc: bool, post_only: bool) -> None:
        old = self.find(account, orig)
        if old is None or user_ref <= self.last[account]:
            return
        worked, market, wrong = self.price(px, old.side)
        if wrong or not 1 <= qty <= QTY_MAX:
            self.take_out(old, "Z")
            return
        if qty <= old.executed:
            self.take_out(old, "U")
            return
        self.last[account] = user_ref
        order = self.new(self.ref, old.side, worked, qty - old.executed, account=account, user_ref=user_ref, sale=old.sale,
                         executed=old.executed, ioc=ioc or market, post_only=post_only)  # fmt: skip
        self.ref += 1
        self.end(old)
        self.told[account].append(("U", orig, user_ref, order.left, order.ref, px))
        self.work(order, old.ref)

    def cancel(self, account: int, user_ref: int, total: int) -> None:
        order = self.find(account, user_ref)
        if order is None:
            return
        left = max(total - order.executed, 0)
        if left >= order.left:
            return
        if left == 0:
            self.take_out(order, "U")
            return
        gone, order.left = order.left - left, left
        self.tape.append(("X", order.ref, gone))
        self.told[account].append(("C", user_ref, gone, "U"))

    def modify(self, account: int, user_ref: int, sale: str, total: int) -> None:
        order = self.find(account, user_ref)
        if order is None or (order.sale != sale and (order.sale, sale) not in (("S", "T"), ("S", "E"), ("E", "T"))):
            return
        left = total - order.executed
        if left <= 0:
            self.take_out(order, "U")
            return
        order.sale = sale
        if left < order.left:
            self.tape.append(("X", order.ref, order.left - left))
            order.left = left
        self.told[account].append(("M", user_ref, sale, order.left))

    def query(self, account: int) -> None:
        self.told[account].append(("Q", self.last[account] + 1))

    def cancel_all(self, account: int, reason: str) -> None:
        """The newest first, as an exchange that keeps a list of an account's orders does."""
        for order in sorted((one for one in self.orders if one.account == account), key=lambda one: -one.arrival):
            self.take_out(order, reason)

    # ------------------------------------------------------------ history

    def historical(self, ref: int) -> Order | None:
        for order in self.orders:
            if order.account == 0 and order.ref == ref:
                return order
        return None

    def settle(self, order: Order) -> None:
        """When history has nothing left of an order, neither has the book."""
        if order.hist <= 0 and order in self.orders:
            if order.left > 0:
                self.tape.append(("D", order.ref))
            self.end(order)

    def history_add(self, ref: int, side: int, qty: int, px: int) -> None:
        left = self.sweep(side, px, qty, None, own_only=True)
        order = self.new(ref, side, px, left, hist=qty)
        if left:
            self.tape.append(("A", ref, side, left, px))
            order.resting = True

    def history_executed(self, ref: int, qty: int, match: int) -> None:
        order = self.historical(ref)
        if order is None:
            self.tape.append(("E", ref, qty, match))
            return
        rest = qty
        for ahead in self.queue(order.side):
            better = ahead.px > order.px if order.side == 0 else ahead.px < order.px
            before = ahead.px == order.px and ahead.arrival < order.arrival
            if ahead.account and (better or before) and rest:
                size = min(rest, ahead.left)
                self.trade(ahead, size, None, 1 - order.side)
                rest -= size
        given = min(rest, order.left)
        self.capped += rest - given
        order.hist -= qty
        if given:
            self.tape.append(("E", ref, given, match))
            order.left -= given
            order.resting = order.left > 0
        self.settle(order)

    def history_canceled(self, ref: int, qty: int) -> None:
        order = self.historical(ref)
        if order is None:
            self.tape.append(("X", ref, qty))
            return
        missing = max(order.hist - order.left, 0)  # what accounts took goes first
        order.hist -= qty
        gone = min(max(qty - missing, 0), order.left)
        if gone:
            self.tape.append(("X", ref, gone))
            order.left -= gone
            order.resting = order.left > 0
        self.settle(order)

    def history_deleted(self, ref: int) -> None:
        order = self.historical(ref)
        if order is None:
            self.tape.append(("D", ref))
            return
        if order.left:
            self.tape.append(("D", ref))
        self.end(order)

    def history_replaced(self, ref: int, new_ref: int, qty: int, px: int) -> None:
        old = self.historical(ref)
        if old is None:
            self.tape.append(("U", ref, new_ref, qty, px))
            return
        wanted = max(qty - max(old.hist - old.left, 0), 0)
        self.end(old)
        crossing = wanted > 0 and any(
            order.account and self.reaches(old.side, px, order.px) for order in self.queue(1 - old.side)
        )  # fmt: skip
        if crossing:
            if old.left:
                self.tape.append(("D", ref))
            left = self.sweep(old.side, px, wanted, None, own_only=True)
            order = self.new(new_ref, old.side, px, left, hist=qty)
            if left:
                self.tape.append(("A", new_ref, old.side, left, px))
        else:
            left = wanted
            order = self.new(new_ref, old.side, px, left, hist=qty)
            if left and old.left:
                self.tape.append(("U", ref, new_ref, left, px))
            elif left:
                self.tape.append(("A", new_ref, old.side, left, px))
            elif old.left:
                self.tape.append(("D", ref))
        order.resting = left > 0
