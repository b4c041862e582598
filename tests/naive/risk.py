"""Risk as one would write it on a blackboard: lists, sums made anew each time, no tables, no totals kept. The twin of hftd/risk.

It decides from the same limits and quotes, and must give the same reason for every intent and the same exposure after every report.
"""

from dataclasses import dataclass, field

from hftd.msg.enums import BookState, DenyReason, ExecType, IntentKind, TradingState

QTY_MAX, PX_MAX = 999_999, 1 << 40


@dataclass
class Quote:
    """What risk may know of a market."""

    bid: int
    ask: int
    last: int
    state: int = int(BookState.LIVE)
    trading: int = int(TradingState.TRADING)


@dataclass
class Limits:
    """Of the account and of each instrument alike."""

    qty_max: int = 1000
    notional_max: int = 500_000_0000
    position_max: int = 5000
    collar_bps: int = 500
    tick: int = 100
    gross_max: int = 5_000_000_0000
    loss_max: int = 50_000_0000
    open_orders_max: int = 1000
    rows: int = 64
    depth_max: int = 8


@dataclass
class Order:
    """One order, or a replacement under way (`replaces` set)."""

    id: int
    instrument: int
    side: int
    px: int
    total: int
    open: int
    replaces: int = 0
    executed: int = 0
    answered: bool = False
    leaving: bool = False
    marked: bool = False


@dataclass
class Risk:
    """The account: orders, fills, marks."""

    quotes: list[Quote]
    limits: Limits = field(default_factory=Limits)
    orders: dict[int, Order] = field(default_factory=dict)
    fills: list[tuple[int, int, int, int]] = field(default_factory=list)  # instrument, side, px, qty
    matches: set[tuple[int, int]] = field(default_factory=set)
    marks: dict[int, int] = field(default_factory=dict)
    last_id: dict[int, int] = field(default_factory=dict)
    latched: bool = False
    accepted: int = 0
    opening: dict[int, tuple[int, int]] = field(default_factory=dict)  # instrument -> shares of before the day, and their cost

    def begin(self, instrument: int, shares: int, cost: int) -> None:
        """Hold shares from before the day's first trade, valued at what they cost until there is a price."""
        self.opening[instrument] = (shares, cost)
        self.marks[instrument] = round(cost / shares)

    # ------------------------------------------------------------ sums, made anew

    def net(self, instrument: int) -> int:
        """Shares held."""
        begun = self.opening.get(instrument, (0, 0))[0]
        return begun + sum(qty if side == 0 else -qty for at, side, _, qty in self.fills if at == instrument)

    def chain(self, order: Order) -> list[Order]:
        """A standing order and the replacements under way behind it, in turn."""
        found = [order]
        while following := [other for other in self.orders.values() if other.replaces == found[-1].id]:
            found.append(following[0])
        return found

    def worst(self, order: Order) -> tuple[int, int]:
        """Shares and cash a chain may open at worst."""
        chain = self.chain(order)
        shares, cash, px = order.open, order.open * order.px, order.px
        for other in chain[1:]:
            px = max(px, other.px)
            shares = max(shares, other.total - order.executed)
            cash = max(cash, px * shares)
        return shares, cash

    def standing(self) -> list[Order]:
        """Orders that are not replacements under way."""
        return [order for order in self.orders.values() if not order.replaces]

    def open_qty(self, instrument: int, side: int) -> int:
        """Shares open on a side at worst."""
        return sum(self.worst(order)[0] for order in self.standing() if (order.instrument, order.side) == (instrument, side))

    def open_cash(self, instrument: int | None = None, side: int | None = None) -> int:
        """Value open at worst."""
        return sum(
            self.worst(order)[1] for order in self.standing()
            if instrument in (None, order.instrument) and side in (None, order.side)
        )  # fmt: skip

    def held_cash(self) -> int:
        """Value of all positions at their marks."""
        return sum(abs(self.net(at)) * self.marks.get(at, 0) for at in range(len(self.quotes)))

    def pnl(self) -> int:
        """Realised and marked."""
        cash = sum(-px * qty if side == 0 else px * qty for _, side, px, qty in self.fills)
        cash -= sum(cost for _, cost in self.opening.values())
        return cash + sum(self.net(at) * self.marks.get(at, 0) for at in range(len(self.quotes)))

    def own_best(self, instrument: int, side: int) -> list[int]:
        """Prices of our open orders on a side, replacements under way included, those asked to go left out."""
        asked = {order.replaces for order in self.orders.values()}
        return [
            order.px for order in self.orders.values()
            if (order.instrument, order.side) == (instrument, side) and order.id not in asked and not order.leaving
        ]  # fmt: skip

    # ------------------------------------------------------------ what a strategy asks

    def intent(self, kind: int, id: int, side: int, px: int, qty: int, instrument: int, orig: int = 0) -> DenyReason:
        """Decide; an order or replace that passes is entered."""
        if kind in (IntentKind.CANCEL, IntentKind.CANCEL_ALL):
            if kind == IntentKind.CANCEL and qty == 0 and id in self.orders:
                self.orders[id].leaving = True
            return DenyReason.OK
        reason, order = self._judge(kind, id, side, px, qty, instrument, orig)
        if reason == DenyReason.OK:
            if len(self.orders) >= self.limits.rows:
                return DenyReason.ORDER_TABLE_FULL
            self.orders[id] = order
        return reason

    def _judge(self, kind, id, side, px, qty, instrument, orig) -> tuple[DenyReason, Order]:
        limits = self.limits
        order = Order(id, instrument, side, px, qty, 0 if kind == IntentKind.REPLACE else qty)
        strategy = id >> 56
        if id <= self.last_id.get(strategy, 0):
            return DenyReason.DUPLICATE_ID, order
        self.last_id[strategy] = id
        if instrument >= len(self.quotes):
            return DenyReason.UNKNOWN_INSTRUMENT, order
        wanted = qty
        if kind == IntentKind.REPLACE:
            before = self.orders.get(orig)
            if before is None:
                return DenyReason.UNKNOWN_ORDER, order
            root, depth = before, 0
            while root.replaces:
                root, depth = self.orders[root.replaces], depth + 1
            if any(other.replaces == orig for other in self.orders.values()) or depth >= limits.depth_max:
                return DenyReason.NOT_OPEN, order
            if (before.side, before.instrument) != (side, instrument):
                return DenyReason.BAD_FIELD, order
            order.replaces = orig
            wanted = max(qty - root.executed, 0)
            if qty < 1 or qty > QTY_MAX or wanted > limits.qty_max:
                return DenyReason.ORDER_QTY, order
        elif not 1 <= qty <= min(limits.qty_max, QTY_MAX):
            return DenyReason.ORDER_QTY, order
        if not 0 < px < PX_MAX:
            return DenyReason.BAD_FIELD, order
        if px % limits.tick:
            return DenyReason.PRICE_TICK, order
        if px * wanted > limits.notional_max:
            return DenyReason.ORDER_NOTIONAL, order
        return self._against_market_and_account(order), order

    def _against_market_and_account(self, order: Order) -> DenyReason:
        limits, quote, instrument, side = self.limits, self.quotes[order.instrument], order.instrument, order.side
        if quote.trading != TradingState.TRADING:
            return DenyReason.NOT_TRADING
        low, high = quote.bid or quote.ask, quote.ask or quote.bid
        near, far = (low, high) if quote.bid and quote.ask else sorted((low, quote.last or low))
        if low <= 0 or (far - near) / near > 2 * limits.collar_bps / 10_000:
            low = high = quote.last
        if low <= 0:
            return DenyReason.NO_REFERENCE_PRICE
        if order.px > high + high * limits.collar_bps / 10_000 or order.px < low - low * limits.collar_bps / 10_000:
            return DenyReason.PRICE_COLLAR
        self.mark(instrument)
        net = self.net(instrument)
        if side == 1:
            before, after = self.open_qty(instrument, 1), self._open_with(order)
            if order.replaces:
                order.marked = self.orders[order.replaces].marked
                if not order.marked and after > before and after > net:
                    return DenyReason.SHORT_UNMARKED
            else:
                order.marked = after > net
        others = self.own_best(instrument, 1 - side)
        if side == 0 and others and order.px >= min(others):
            return DenyReason.SELF_CROSS
        if side == 1 and others and order.px <= max(others):
            return DenyReason.SELF_CROSS
        open_before, cash_before = self.open_qty(instrument, side), self.open_cash()
        self.orders[order.id] = order
        open_after, cash_after = self.open_qty(instrument, side), self.open_cash()
        del self.orders[order.id]
        signed = net if side == 0 else -net
        if open_after <= -signed:
            return DenyReason.OK
        if signed + open_after > limits.position_max:
            return DenyReason.POSITION
        if quote.state != BookState.LIVE:
            return DenyReason.BOOK_NOT_LIVE
        if len(self.standing()) + (not order.replaces) > limits.open_orders_max:
            return DenyReason.OPEN_ORDERS
        if cash_after + self.held_cash() > limits.gross_max:
            return DenyReason.GROSS_NOTIONAL
        if self.latched or self.pnl() <= -limits.loss_max:
            return DenyReason.LOSS_LIMIT
        assert cash_after >= cash_before and open_after >= open_before
        return DenyReason.OK

    def _open_with(self, order: Order) -> int:
        """Shares open on the order's side if it were entered."""
        self.orders[order.id] = order
        found = self.open_qty(order.instrument, order.side)
        del self.orders[order.id]
        return found

    def mark(self, instrument: int) -> None:
        """Value the position at the middle of a book that says something, else at the last print, else as before."""
        quote = self.quotes[instrument]
        if quote.state == BookState.RECOVERING:
            return
        stub = quote.bid and quote.ask and (quote.ask - quote.bid) / quote.bid > 2 * self.limits.collar_bps / 10_000
        if quote.bid and quote.ask and not stub:
            self.marks[instrument] = (quote.bid + quote.ask) // 2
        elif quote.last:
            self.marks[instrument] = quote.last
        self._latch()

    def _latch(self) -> None:
        if self.pnl() <= -self.limits.loss_max:
            self.latched = True

    # ------------------------------------------------------------ what the venue says

    def report(self, exec_type: int, id: int, instrument: int, side: int, px: int = 0, qty: int = 0, leaves: int = 0,
               match: int = 0, orig: int = 0) -> None:  # fmt: skip
        """Apply a report."""
        order = self.orders.get(id)
        if exec_type == ExecType.FILL:
            if (match, id) in self.matches:
                return
            self.matches.add((match, id))
            self.fills.append((instrument, side, px, qty))
            self.marks.setdefault(instrument, px)
            self._latch()
            if order:
                order.executed += qty
                order.open = leaves
        elif exec_type == ExecType.NEW:
            self.accepted += 1
            if order:
                order.open, order.answered = leaves, True
        elif exec_type == ExecType.REPLACED:
            self.accepted += 1
            before = self.orders.pop(orig)
            order.replaces, order.open, order.px, order.executed, order.answered = 0, leaves, px, before.executed, True
        elif exec_type in (ExecType.CANCELED, ExecType.MODIFIED):
            order.open = leaves
        elif exec_type in (ExecType.REJECTED, ExecType.DENIED, ExecType.REPLACE_REJECTED):
            self._drop(order)
            return
        elif exec_type == ExecType.CANCEL_REJECTED:
            order.leaving = False
        if order and not order.replaces and order.open == 0:
            self._drop(order)

    def _drop(self, order: Order) -> None:
        for other in self.chain(order):
            del self.orders[other.id]
