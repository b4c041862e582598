"""What one can see of a running daemon, read from shared memory alone: it answers when every process is wedged."""

import time
from typing import Any

import numpy as np

from hftd.control.config import LAYOUTS, Config
from hftd.control.placing import asked, since_warm
from hftd.core import clock as clocks
from hftd.core.agent import alive
from hftd.core.fixed import PRICE_SCALE, to_text
from hftd.gateway import memory as gateway_memory
from hftd.msg.enums import AgentState, BookState, LogCode, Reason, RunState, TradingState
from hftd.msg.records import INSTRUMENT_SHORT_RESTRICTED, quote_dtype
from hftd.shm import map as shared
from hftd.shm import ring
from hftd.shm.control import REHEARSED_TEXT
from hftd.shm.counters import values
from hftd.shm.errlog import ROWS
from hftd.shm.histogram import percentiles
from hftd.venues.nasdaq.itch50 import symbol_to_text

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
        "agents": [_agent(config, memory, role, index, name, clock, now) for role, index, name in shared.agents(config)],
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


def positions(memory: shared.Memory, segment: str = "risk") -> list[dict[str, Any]]:
    """Return the instruments that traded or have orders: quantities, cash, average prices and P&L marked at the mid.

    Cash is in currency units; realised and unrealised together make `pnl`.
    """
    found = []
    rows = memory[segment]["positions"]
    for instrument, symbol in enumerate(symbols(memory)):
        row = rows[instrument]
        if not symbol or not (int(row["orders"]) or int(row["fills"]) or int(row["open_orders"])):
            continue
        cell = quote(memory, instrument)
        bid, ask, last = int(cell["bid_px"]), int(cell["ask_px"]), int(cell["last_px"])
        mark = (bid + ask) / 2 if bid and ask else last or int(row["last_fill_px"])
        position = int(row["bought_qty"]) - int(row["sold_qty"])
        cash = int(row["sold_cash"]) - int(row["bought_cash"])
        found.append({
            "symbol": symbol,
            "position": position,
            "bought": int(row["bought_qty"]),
            "sold": int(row["sold_qty"]),
            "bought_cash": int(row["bought_cash"]),
            "sold_cash": int(row["sold_cash"]),
            "orders": int(row["orders"]),
            "fills": int(row["fills"]),
            "open_orders": int(row["open_orders"]),
            "mark": mark / PRICE_SCALE,
            "cash": cash / PRICE_SCALE,
            "pnl": round((cash + position * mark) / PRICE_SCALE, 4),
        })  # fmt: skip
    return found


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
