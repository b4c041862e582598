"""The risk agent: limits from the configuration into rows, rings joined, positions taken up, and the cold side of the checks.

Once a millisecond at most, cold code: arms the limits of instruments as the venue announces them, notes that market data arrives,
looks after dead and hung strategies, and sees the kill switch. All of it reaches the turn through words in the rows and the handle.
"""

import numpy as np

from hftd.control.config import Config, ConfigError
from hftd.core import clock as clocks
from hftd.core.agent import Agent, alive
from hftd.core.memory import records, set_span
from hftd.msg.enums import AgentState, DenyReason, LogCode, Role, RunState
from hftd.msg.records import INSTRUMENT_ANNOUNCED
from hftd.risk import kill, ledger, loop
from hftd.risk.earlier import Earlier
from hftd.risk.handle import risk_agent_dtype
from hftd.risk.memory import STRATEGY_DEAD, STRATEGY_NONE, STRATEGY_ON, STRATEGY_OVERRUN, cash_cap
from hftd.risk.rebuild import rebuild, revalue, take_back
from hftd.shm import ring
from hftd.shm.map import PLACE_RISK
from hftd.shm.pool import open_pool

HUNG_NS = 2_000_000_000
"""A strategy whose heartbeat is older than this is taken for hung: its orders are cancelled."""

DOUBT_NS = 5_000_000
"""A strategy whose heartbeat is younger than this lives: the kernel is asked only about others."""

LOOK_NS = 10_000_000
"""Marks of strategies are looked at this often."""

PRICE_SCALE = 10_000


class RiskAgent(Agent):
    """Risk in a process of its own (or the second of three in the fused one)."""

    role = Role.RISK

    def __init__(self, config: Config, memory, index: int = 0):
        super().__init__(config, memory, index)
        self._handle = records(risk_agent_dtype, 1, "handle")
        self.handle = self._handle[0]
        self.segment, self.market = memory["risk"], memory["market"]
        self.account = self.segment["account"][0]
        self.limits, self.exposures = self.segment["limits"], self.segment["exposures"]
        self.strategies = self.segment["strategies"]
        self.served = [i for i, row in enumerate(config.strategy) if row.enabled]
        self.heard = -1
        self.armed = 0
        self.next_look_ns = 0
        self.catch_up: dict[int, int] = {}
        self.killed = False
        self.overruns = 0
        self.loss_told = False
        self.latched_before = False
        self.trading = False
        self.lost = False
        self.misnamed: set[int] = set()
        symbols = self.segment["carried"]["symbol"]
        self.carried = {int(symbols[at]): int(at) for at in np.flatnonzero(symbols)}
        self.earlier = Earlier(config, memory, self.carried)

    def kernel(self):
        return loop.kernel()

    # ------------------------------------------------------------ open

    def open(self) -> None:
        """Fill the handle; take up what an earlier risk process left in the segment."""
        handle, segment, market = self.handle, self.segment, self.market
        orders = self.config.gateway.orders_max
        open_pool(handle["pool"], segment.address("orders"), orders + 1)
        for field in ("buckets", "limits", "exposures", "positions", "strategies", "fills"):
            set_span(handle[field], segment.address(field), segment.parts[field].count)
        for field in ("instruments", "quotes"):
            set_span(handle[field], market.address(field), market.parts[field].count)
        handle["account_at"], handle["window_at"] = segment.address("account"), segment.address("window")
        handle["counters_at"], handle["histograms_at"] = segment.address("counters"), segment.address("histograms")
        handle["undo_at"] = segment.address("undo")
        handle["run_at"] = self.memory["control"].address("run")
        handle["places"] = max(self.served, default=-1) + 1
        restarted = int(self.account["slice_ticks"]) != 0
        self._set_account(restarted)
        self.latched_before = bool(int(self.account["loss_latched"]))
        for at in range(self.config.instruments):
            set_limits(self.limits[at], self.config.risk, {}, self.clock)
        self.limits["armed"] = 0                      # by arm() again, each with its own limits
        take_back(segment, self.memory["ring.order"])
        rebuild(segment, handle["pool"])
        pool = handle["pool"]
        pool["peak"] = max(int(pool["peak"]), int(segment["counters"]["orders_peak"][0]))    # of the day, not of this process
        ring.open_producer(handle["orders"], self.memory["ring.order"])
        ring.open_producer(handle["denies"], self.memory["ring.deny"])
        self._join_reports()
        for index in self.served:
            self._join_intents(index, restarted)
            if int(self.strategies[index]["state"]) == STRATEGY_NONE:     # whoever was switched off before we died stays so
                self.strategies[index]["state"] = STRATEGY_ON
        handle["gate"] = int(DenyReason.NOT_READY) if self.catch_up or self.lost else 0
        handle["feed_seen"] = clocks.now_ticks()
        self.arm()

    def _set_account(self, restarted: bool) -> None:
        account, risk = self.account, self.config.risk
        cap = cash_cap(self.config.instruments)
        account["gross_max"] = in_scale(risk.gross_notional_max, "risk.gross_notional_max", cap, self.config.path)
        account["loss_max"] = in_scale(risk.loss_max, "risk.loss_max", cap, self.config.path)
        account["cap"], account["open_orders_max"], account["rate_max"] = cap, risk.open_orders_max, risk.message_rate_max
        account["self_cross"] = int(risk.self_cross)
        hz = int(self.clock["hz"])
        account["slice_ticks"] = -(-hz // 64)
        if not restarted:
            account["window_end"] = clocks.now_ticks() + int(account["slice_ticks"])

    def _join_reports(self) -> None:
        """Stand on the report ring, at the first report not yet applied as long as it is still there."""
        handle, segment = self.handle["reports"], self.memory["ring.report"]
        ring.open_consumer(handle, segment, PLACE_RISK, from_start=True)
        if not resume_at(handle, segment, int(self.account["report_seq"])) or int(self.account["lost"]):
            self._reports_lost()

    def _reports_lost(self) -> None:
        """Reports went by unread, or cannot be: nobody vouches for positions any more. No new risk until the daemon is new.

        Kept in memory: a risk process that is started again, later, finds nothing missing by itself.
        """
        self.lost = True
        self.account["lost"] = 1
        self.handle["gate"] = int(DenyReason.NOT_READY)
        self.mark["state"] = int(AgentState.DEGRADED)
        self.ready(False)
        self.log(LogCode.RISK_GAP, int(self.account["report_seq"]), int(self.handle["reports"]["next"]))

    def _join_intents(self, index: int, restarted: bool) -> None:
        """Stand on a strategy's intent ring. What was written while risk was down is read, and denied: its prices are old."""
        handle, segment = self.handle["intents"][index], self.memory[f"ring.intent.{index}"]
        head = int(segment["control"][0]["consumers"][PLACE_RISK]["head"])
        ring.open_consumer(handle, segment, PLACE_RISK, from_start=True)
        if restarted:
            resume_at(handle, segment, head)
        tail = ring.written_up_to(segment)        # not only what is published: a callback may have been at it
        if int(handle["next"]) < tail:
            self.catch_up[index] = tail

    # ------------------------------------------------------------ cold

    def cold(self, now_ns: int) -> None:
        now = clocks.now_ticks()
        heard = self._heard()
        if heard != self.heard:
            self.heard = heard
            self.handle["feed_seen"] = now
        self.arm()
        if not self.trading:
            self._value_first()
        if self.catch_up and all(int(self.handle["intents"][index]["next"]) >= tail for index, tail in self.catch_up.items()):
            self.catch_up = {}
            self.handle["gate"] = int(DenyReason.NOT_READY) if self.lost else 0
        if now_ns >= self.next_look_ns:
            self.next_look_ns = now_ns + LOOK_NS
            self._look(now)

    def _heard(self) -> int:
        """Return how many packets of the lines brought something new, heartbeats included.

        Others say nothing of now: those of another session, malformed ones, what came before, and what a server sends again.
        """
        counted = self.market["counters"][0]
        return sum(int(counted[name]) for name in ("first_a", "first_b", "heartbeats"))

    def arm(self) -> None:
        """Give instruments that the venue announced since the last look their own limits, and let them be traded.

        A row is its first symbol's for the life of the shared memory, and no other row is: positions and orders go by row.
        """
        instruments = self.market["instruments"]
        if self.armed == self.config.instruments:
            return
        named, own = instruments["symbol"], self.limits["symbol"]
        free = (self.limits["armed"] == 0) & (named != 0) & ((own == 0) | (own == named))
        waiting = np.flatnonzero((instruments["flags"] & INSTRUMENT_ANNOUNCED != 0) & free)
        for at in waiting:
            if own[at] == 0 and named[at] in own:
                continue
            own[at] = named[at]
            symbol = ledger.symbol_text(int(named[at]))
            tick = int(instruments["tick"][at])
            set_limits(self.limits[at], self.config.risk, self.config.risk.instrument.get(symbol, {}), self.clock, tick)
            self._carry(int(at), int(named[at]))
            self.limits[at]["armed"] = 1
            self.armed += 1

    def _carry(self, at: int, symbol: int) -> None:
        """Count what is held from before this run, before the instrument may be traded, and when the venue corrects it."""
        place = self.carried.get(symbol)
        if place is None:
            return
        carried, exposure = self.segment["carried"][place], self.exposures[at]
        exposure["carried_qty"] = int(carried["opening_qty"]) + int(carried["bought_qty"]) - int(carried["sold_qty"])
        exposure["carried_cash"] = int(carried["sold_cash"]) - int(carried["bought_cash"]) - int(carried["opening_cash"])
        exposure["mark_px"] = int(exposure["mark_px"]) or int(carried["mark_px"])
        carried["row"] = at + 1
        revalue(self.account, self.segment["positions"][at], exposure)

    def _value_first(self) -> None:
        """Until trading begins, the loss counts when all carried positions have their prices: they come one after the other."""
        self.trading = int(self.run["state"]) >= int(RunState.READY)
        account = self.account
        if not self.latched_before and int(account["pnl"]) > -int(account["loss_max"]):
            account["loss_latched"] = 0

    def _take_up(self) -> None:
        """Take the venue's word for what earlier runs of the day traded. The daemon is not ready before that was done once."""
        at = self.market["instruments"]["symbol"]
        for symbol in self.earlier.take_up(self.log):
            for instrument in np.flatnonzero((at == symbol) & (self.limits["armed"] != 0)):
                self._carry(int(instrument), symbol)
        self.ready(not self.lost)

    def _look(self, now: int) -> None:
        if self.earlier.due():
            self._take_up()
        marks = self.memory["control"]["marks"]
        hung = HUNG_NS * int(self.clock["hz"]) // 1_000_000_000
        doubt = DOUBT_NS * int(self.clock["hz"]) // 1_000_000_000
        for index in self.served:
            mark, row = marks[int(Role.STRATEGY) + index], self.strategies[index]
            pid, state, starts = int(mark["pid"]), int(mark["state"]), int(mark["starts"])
            before, row["starts"] = int(row["starts"]) or starts, starts
            if starts != before:  # started again faster than we look: what its predecessor had open goes
                row["cancel_wanted"] = 1
                self.log(LogCode.STRATEGY_ERROR, index, pid, state)
            if state in (AgentState.NONE, AgentState.STARTING):
                continue
            age = now - int(mark["heartbeat"])
            dead = pid == 0 or age > hung or (age > doubt and not alive(pid))
            if dead and int(row["state"]) == STRATEGY_ON:
                row["state"], row["cancel_wanted"] = STRATEGY_DEAD, 1
                self.log(LogCode.STRATEGY_ERROR, index, pid, state)
            elif not dead and self._back(index, int(row["state"]), state):
                row["state"] = STRATEGY_ON
        if not self.lost and int(self.account["lost"]):
            self._reports_lost()
        if not self.lost and self._place("ring.report", PLACE_RISK) == ring.DETACHED:
            self._join_reports()
        if int(self.account["loss_latched"]) and not self.loss_told:
            self.log(LogCode.LOSS_LIMIT, int(self.account["pnl"]), int(self.account["loss_max"]))
        self.loss_told = bool(int(self.account["loss_latched"]))
        self._look_for_breaker()
        self._look_at_symbols()
        killed = int(self.run["kill"]) != 0
        if killed and not self.killed:
            self.log(LogCode.KILL, int(self.run["kill"]), int(self.run["kill_by"]))
            for index in self.served:
                self.strategies[index]["cancel_wanted"] = 1
        self.killed = killed
        overruns = int(self.segment["counters"][0]["deny_overruns"])
        if overruns != self.overruns:
            self.overruns = overruns
            self.log(LogCode.CONSUMER_DETACHED, int(Role.RISK), overruns)

    def _look_for_breaker(self) -> None:
        """Say that a market-wide circuit breaker fell, and pull the kill switch where the configuration wants a person to go on.

        A feed that is not ready may be telling the day again: a breaker from before is no new one.
        """
        level, before = int(self.market["session"][0]["breaker"]), int(self.account["breaker"])
        if level > before:
            wanted = self.config.risk.on_breaker == "kill"
            if wanted:
                kill.pull_within(self.config, self.memory, self.log, "breaker", f"market-wide circuit breaker, level {level}")
            self.log(LogCode.MARKET_BREAKER, level, int(wanted))
        if level > before or int(self.memory["control"]["marks"][int(Role.FEED)]["ready"]):
            self.account["breaker"] = level           # in memory: our successor does not take it for a new one

    def _look_at_symbols(self) -> None:
        """Say which rows market data calls otherwise than risk does. The turn denies all new risk in them by itself."""
        instruments, own = self.market["instruments"], self.limits["symbol"]
        announced = instruments["flags"] & INSTRUMENT_ANNOUNCED != 0
        found = np.flatnonzero(announced & (own != instruments["symbol"])).tolist()
        found = [at for at in found if own[at] or instruments["symbol"][at] in own]       # else announced a moment ago
        for at in found:
            if at not in self.misnamed:
                self.log(LogCode.RISK_SYMBOL, at, int(own[at]), int(instruments["symbol"][at]))
        self.misnamed = set(found)

    def _back(self, index: int, row_state: int, state: int) -> bool:
        """Tell whether a strategy that was switched off because it was gone, or too slow, is there again."""
        if row_state == STRATEGY_DEAD:
            return state == AgentState.RUNNING
        return row_state == STRATEGY_OVERRUN and self._place("ring.deny", index) == ring.GATING

    def _place(self, name: str, place: int) -> int:
        """Return the state of a consumer's place on a ring."""
        return int(self.memory[name]["control"][0]["consumers"][place]["state"])

    def close(self) -> None:
        """Say in the rows that nobody judges any more."""
        for index in self.served:
            if int(self.strategies[index]["state"]) == STRATEGY_ON:
                self.strategies[index]["state"] = STRATEGY_NONE


# ---------------------------------------------------------------- rows from the configuration


def in_scale(amount: float, where: str, most: int, path: str) -> int:
    """Return a currency amount in the venue's price scale. Raises ConfigError where the sums could not hold it."""
    value = round(amount * PRICE_SCALE)
    if value > most:
        raise ConfigError(f"{path}: {where}: must be at most {most / PRICE_SCALE:g} with this many instruments, was {amount:g}")
    return value


def set_limits(row, risk, own: dict, clock, tick: int = 1) -> None:
    """Fill a limits row from the account's limits and those of the instrument (`own`). The row is not armed by it."""
    values = {name: own.get(name, getattr(risk, name)) for name in (
        "order_qty_max", "order_notional_max", "position_max", "collar_bps", "feed_stale_ms")}  # fmt: skip
    row["qty_max"], row["position_max"], row["collar_bps"] = values["order_qty_max"], values["position_max"], values["collar_bps"]
    row["notional_max"] = min(round(values["order_notional_max"] * PRICE_SCALE), 1 << 61)
    row["stale_ticks"] = values["feed_stale_ms"] * int(clock["hz"]) // 1000
    row["tick"] = max(tick, 1)


def resume_at(handle, segment, seq: int) -> bool:
    """Move a consumer that just joined to record `seq`; False (and it stays) where that record was overwritten.

    Back, or on: a predecessor that died after it had applied records and before it had given them back (`done`, once a batch).
    """
    control, slots = segment["control"][0], segment["slots"]
    tail, capacity = int(control["tail"]), segment.parts["slots"].count
    if seq < int(handle["next"]) and (tail - seq > capacity or int(slots["seq"][seq % capacity]) != seq + 1):
        return False
    control["consumers"][PLACE_RISK]["head"] = seq
    handle["next"] = seq
    return True
