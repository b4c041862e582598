"""What one can see of a running daemon, read from shared memory alone: it answers when every process is wedged."""

import contextlib
import time
from typing import Any

import numpy as np

from hftd.control.config import LAYOUTS, Config
from hftd.control.placing import asked, since_warm
from hftd.core import clock as clocks
from hftd.core.agent import alive
from hftd.core.fixed import PRICE_SCALE, to_text
from hftd.errors import HftdError
from hftd.gateway import memory as gateway_memory
from hftd.msg.enums import AgentState, BookState, LogCode, Reason, RunState, TradingState
from hftd.msg.records import INSTRUMENT_SHORT_RESTRICTED, quote_dtype
from hftd.risk import kill, ledger, opening
from hftd.risk.earlier import EARLIER_TEXT
from hftd.shm import map as shared
from hftd.shm import ring
from hftd.shm.control import REHEARSED_TEXT
from hftd.shm.counters import values
from hftd.shm.errlog import ROWS
from hftd.shm.histogram import percentiles
from hftd.shm.segment import instances
from hftd.venues.nasdaq.itch50 import symbol_to_text
from hftd.venues.nasdaq.trading_day import day_text

POINTS = (50.0, 90.0, 99.0, 99.9, 99.99)
COUNTED = {"market": "feed", "risk": "risk", "orders": "gateway", "recorder": "recorder"}


def snapshot(config: Config, memory: shared.Memory) -> dict[str, Any]:
    """Return everything `hftd status --json` prints, as plain data."""
    control = memory["control"]
    run, clock = control["run"][0], clocks.snapshot(control["clock"][0])
    now = clocks.now_ticks()
    return {
        "name": config.daemon.name,
        "config": config.path,
        "state": RunState(int(run["state"])).name,
        "layout": LAYOUTS[int(run["layout"])],
        "started_utc_ns": int(run["epoch"]),
        "uptime_s": round((time.time_ns() - int(run["epoch"])) / 1e9, 1),
        "session_up": bool(run["session_up"]),
        "killed": bool(run["kill"]),
        "kill": kill.in_force(config, memory),
        "agents": [_agent(config, memory, role, index, name, clock, now) for role, index, name in shared.agents(config)],
        "positions": carried(config, memory),
        "counters": counters(config, memory),
        "latency_ns": latencies(memory, clock),
        "rehearsal": rehearsals(config, memory),
        "rings": rings(memory),
        "errors": errors(config, memory),
        "placement": asked(control["placed"][0]),
        "shared_memory_mib": round(memory.bytes / (1 << 20), 1),
    }


def _agent(config, memory, role, index, name, clock, now) -> dict[str, Any]:
    at = shared.mark_of(role, index)
    mark, placed = memory["control"]["marks"][at], memory["control"]["placed"][at]
    pid = int(mark["pid"])
    cycles, busy = int(mark["cycles"]), int(mark["busy"])
    return {
        "agent": name,
        "pid": pid,
        "alive": bool(pid) and alive(pid),
        "state": AgentState(int(mark["state"])).name,
        "ready": bool(mark["ready"]),
        "core": int(mark["core"]),
        "starts": int(mark["starts"]),
        "heartbeat_ms": round(max(now - int(mark["heartbeat"]), 0) / int(clock["hz"]) * 1e3, 1),
        "cycles": cycles,
        "busy": busy,
        "utilisation": round(busy / cycles, 4) if cycles else 0.0,
        "compiled": int(mark["compiled"]),
        "last_reason": Reason(int(mark["reason"])).name,
        "placement": asked(placed),
        "since_warm": since_warm(placed, pid),
    }


def counters(config: Config, memory: shared.Memory) -> dict[str, dict[str, int]]:
    """Return every agent's counters by block name."""
    found = {}
    names = {**COUNTED, **{f"strategy.{i}": f"strategy.{i}" for i, row in enumerate(config.strategy) if row.enabled}}
    for segment, label in names.items():
        if segment in memory and "counters" in memory[segment].parts:
            found[label] = values(memory[segment]["counters"][0])
    return found


def latencies(memory: shared.Memory, clock) -> dict[str, dict[str, float]]:
    """Return the gateway's stage histograms in nanoseconds: count, percentiles, max."""
    found = {}
    for label, histogram in zip(gateway_memory.HISTOGRAMS, memory["orders"]["histograms"]):
        if int(histogram["count"]) == 0:
            continue
        points = percentiles(histogram, POINTS)
        scale = 1e9 / int(clock["hz"])
        found[label] = {
            "count": int(histogram["count"]),
            **{f"p{point:g}": round(value * scale, 1) for point, value in zip(POINTS, points)},
            "max": round(int(histogram["largest"]) * scale, 1),
        }
    return found


def rehearsals(config: Config, memory: shared.Memory) -> list[dict[str, Any]]:
    """Return how each role did at rehearsal, before it was ready; roles that were not rehearsed are left out."""
    found = []
    for role, index, name in shared.agents(config):
        row = memory["control"]["rehearsals"][shared.mark_of(role, index)]
        if int(row["verdict"]):
            figures = {field: int(row[field]) for field in row.dtype.names if field not in ("verdict", "pad")}
            found.append({"agent": name, "verdict": REHEARSED_TEXT[int(row["verdict"])], **figures})
    return found


def rings(memory: shared.Memory) -> list[dict[str, Any]]:
    """Return each ring's tail, room and the lag of its consumers."""
    found = []
    for name in memory.names():
        if not name.startswith("ring."):
            continue
        head = memory[name]["control"][0]
        tail = int(head["tail"])
        lags = {
            str(place): tail - int(consumer["head"])
            for place, consumer in enumerate(head["consumers"]) if int(consumer["state"]) == ring.GATING
        }  # fmt: skip
        found.append({"ring": name, "tail": tail, "capacity": int(memory[name].parts["slots"].count), "full": int(head["full"]),
                      "lag": lags})  # fmt: skip
    return found


def errors(config: Config, memory: shared.Memory) -> list[dict[str, Any]]:
    """Return the distinct errors of all agents: code, details, count."""
    found = []
    log = memory["control"]["errors"]
    for role, index, name in shared.agents(config):
        at = shared.mark_of(role, index) * ROWS
        for entry in log[at : at + ROWS]:
            if int(entry["code"]):
                found.append({"agent": name, "error": LogCode(int(entry["code"])).name, "a": int(entry["a"]), "b": int(entry["b"]),
                              "count": int(entry["count"])})  # fmt: skip
    return found


def quote(memory: shared.Memory, instrument: int) -> np.void:
    """Return a consistent copy of an instrument's quote cell; the last seen one where the feed will not hold still."""
    cell = memory["market"]["quotes"][instrument : instrument + 1]
    copy = np.zeros(1, quote_dtype)
    for _ in range(1000):
        before = int(cell["version"][0])
        copy[:] = cell
        if before & 1 == 0 and int(cell["version"][0]) == before:
            break
    return copy[0]


def symbols(memory: shared.Memory) -> list[str]:
    """Return the symbol of each row of the instrument table, '' where the row is free."""
    return [symbol_to_text(int(value)) if value else "" for value in memory["market"]["instruments"]["symbol"]]


def carried(config: Config, memory: shared.Memory) -> dict[str, Any]:
    """Return the trading day, and what its positions rest on: the file, symbols held, those not announced by the venue."""
    day, kept = int(memory["risk"]["account"][0]["day"]), memory["risk"]["carried"]
    waiting = kept["symbol"][(kept["symbol"] != 0) & (kept["row"] == 0)]
    return {
        "day": day_text(day) if day else "",
        "file": config.risk.positions,
        "opening": int(np.count_nonzero(kept["opening_qty"])),
        "held": len(ledger.closing(ledger.snapshot(memory))),
        "not_announced": [ledger.symbol_text(int(symbol)) for symbol in waiting],
        "earlier": EARLIER_TEXT[int(memory["risk"]["account"][0]["earlier"])],
    }


def sharing(config: Config) -> list[str]:
    """Return the other instances on this host that took up the same file of positions, as far as this user may see them."""
    found = []
    for name in set(instances()) - {config.daemon.name}:
        with contextlib.suppress(HftdError):
            other, _ = shared.attach(name)
            files = {opening.path_of(one).resolve() for one in (config, other)}
            if config.risk.positions and other.risk.positions and len(files) == 1:
                found.append(name)
    return found


def positions(memory: shared.Memory) -> list[dict[str, Any]]:
    """Return what risk holds and did on its trading day, by instrument, as `position_row` has it, marked at the mid.

    Symbols that are carried and that the venue has not announced stand at the end.
    """
    day, rows = ledger.snapshot(memory)["instruments"], memory["risk"]["positions"]
    found = []
    for instrument, symbol in enumerate(symbols(memory)):
        open_orders = int(rows["open_orders"][instrument])
        figures = day.pop(symbol, dict.fromkeys(ledger.FIGURES, 0))
        if symbol and (open_orders or _matters(figures)):
            cell = quote(memory, instrument)
            bid, ask, last = int(cell["bid_px"]), int(cell["ask_px"]), int(cell["last_px"])
            mark = (bid + ask) / 2 if bid and ask else last or figures["mark_px"] or int(rows["last_fill_px"][instrument])
            found.append(position_row(symbol, figures, mark, open_orders))
    return found + [position_row(symbol, figures, figures["mark_px"]) for symbol, figures in day.items() if _matters(figures)]


def closed_positions(facts: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the same of a ledger on disk (`ledger.read`), marked at what it was last valued at."""
    rows = sorted(facts["instruments"].items())
    return [position_row(symbol, figures, figures["mark_px"]) for symbol, figures in rows if _matters(figures)]


def _matters(figures: dict[str, int]) -> bool:
    return any(figures[name] for name in ledger.FIGURES if name != "mark_px")


def position_row(symbol: str, figures: dict[str, int], mark: float, open_orders: int = 0) -> dict[str, Any]:
    """Return one symbol's day. Quantities are shares; prices (`opening_px`, `mark`) and amounts are in currency units, all of them.

    position = opening + bought - sold; pnl = cash - opening * opening_px + position * mark. figures: ledger.FIGURES, and `mark`,
    in the venue's scale.
    """
    opening, opening_cash, held = figures["opening_qty"], figures["opening_cash"], ledger.net(figures)
    cash = figures["sold_cash"] - figures["bought_cash"]
    return {
        "symbol": symbol,
        "position": held,
        "opening": opening,
        "opening_px": round(opening_cash / opening / PRICE_SCALE, 8) if opening else 0.0,
        "bought": figures["bought_qty"],
        "sold": figures["sold_qty"],
        "bought_cash": figures["bought_cash"] / PRICE_SCALE,
        "sold_cash": figures["sold_cash"] / PRICE_SCALE,
        "orders": figures["orders"],
        "fills": figures["fills"],
        "open_orders": open_orders,
        "mark": mark / PRICE_SCALE,
        "cash": cash / PRICE_SCALE,
        "pnl": round((cash - opening_cash + held * mark) / PRICE_SCALE, 4),
    }


def trading_words(memory: shared.Memory, instrument: int) -> str:
    """Return 'LIVE, TRADING' and the like, and what else holds for the instrument now."""
    cell = quote(memory, instrument)
    words = [BookState(int(cell["state"])).name, TradingState(int(cell["trading"])).name]
    if int(cell["breaker"]):
        words.append(f"market-wide breaker of level {int(cell['breaker'])}")
    if int(cell["collar_high"]):
        words.append(f"auction collar {to_text(int(cell['collar_low']))} to {to_text(int(cell['collar_high']))}")
    if int(memory["market"]["instruments"][instrument]["flags"]) & INSTRUMENT_SHORT_RESTRICTED:
        words.append("short sales restricted")
    return ", ".join(words)
