"""What a trader must see of a running daemon on one screen: data, venue, limits, warnings. Read from shared memory alone.

`hftd status` prints it; everything else that can be known is in `status.py`. A warning is a sentence that says what is wrong and,
where there is something to be done, what: nothing else is in the list, so that an empty one means that all is well.
"""

from typing import Any

from hftd.control.config import Config
from hftd.control.status import quote, symbols
from hftd.core import clock as clocks
from hftd.core.fixed import PRICE_SCALE
from hftd.gateway.memory import LINK_TEXT, LINK_UP
from hftd.msg.enums import BookState, LogCode, TradingState
from hftd.msg.records import INSTRUMENT_ANNOUNCED
from hftd.recorder.logs import told_of_error
from hftd.shm import map as shared

NEAR = 0.8
"""A limit that is used so far is worth a line."""


def market(config: Config, memory: shared.Memory) -> dict[str, Any]:
    """Return what came in: packets by line, gaps, and which books are not LIVE, or not trading, by symbol.

    age_ms: since the newest change of a best price; None before the first.
    """
    counted = memory["market"]["counters"][0]
    hz = int(memory["control"]["clock"][0]["hz"])
    states: dict[str, list[str]] = {}
    halted, newest, known = [], 0, 0
    for instrument, symbol in enumerate(symbols(memory)):
        if not symbol:
            continue
        cell = quote(memory, instrument)
        known += 1
        states.setdefault(BookState(int(cell["state"])).name, []).append(symbol)
        newest = max(newest, int(cell["ts_recv"]))
        announced = int(memory["market"]["instruments"][instrument]["flags"]) & INSTRUMENT_ANNOUNCED
        if announced and int(cell["trading"]) != TradingState.TRADING:
            halted.append(symbol)
    lines = {"a": "packets_a"} | ({"b": "packets_b"} if config.feed.line_b else {})
    return {
        "lines": {line: int(counted[name]) for line, name in lines.items()},
        "gaps": int(counted["gaps"]),
        "lost_messages": int(counted["lost_messages"]),
        "given_up": int(counted["given_up"]),
        "instruments": known,
        "live": len(states.get(BookState.LIVE.name, [])),
        "books_not_live": {name: found for name, found in states.items() if name != BookState.LIVE.name},
        "not_trading": halted,
        "age_ms": round((clocks.now_ticks() - newest) / hz * 1e3, 1) if newest and hz else None,
    }


def venue(memory: shared.Memory) -> dict[str, Any]:
    """Return the state of the order entry session, and what stops the gateway from sending."""
    session = memory["orders"]["session"][0]
    stopped = {
        "latched": "an order did not carry risk's checksum: nothing new is sent; stop the daemon and start it anew",
        "risk_dead": "risk is silent: everything was cancelled, nothing new is sent",
        "disabled": "the venue turned order entry off for this account: call the venue",
    }
    return {
        "link": LINK_TEXT[int(session["state"])],
        "up": int(session["state"]) == LINK_UP,
        "open_orders": int(session["open_orders"]),
        "unknown_orders": int(session["unknown_orders"]),
        "stopped": [text for name, text in stopped.items() if int(session[name])],
    }


def account(memory: shared.Memory) -> dict[str, Any]:
    """Return what of the account's limits is used: name -> (used, limit), amounts in currency; and the day's result."""
    row = memory["risk"]["account"][0]
    return {
        "pnl": int(row["pnl"]) / PRICE_SCALE,
        "loss_latched": bool(row["loss_latched"]),
        "limits": {
            "gross": ((int(row["open_cash"]) + int(row["held_cash"])) / PRICE_SCALE, int(row["gross_max"]) / PRICE_SCALE),
            "loss": (max(-int(row["pnl"]), 0) / PRICE_SCALE, int(row["loss_max"]) / PRICE_SCALE),
            "open orders": (int(row["open_orders"]), int(row["open_orders_max"])),
            "messages/s": (int(row["window_total"]), int(row["rate_max"])),
        },
    }


def used(pair: tuple[float, float]) -> float:
    """Return how much of a limit is used: 1 is all of it; a limit of 0 is used up by anything, and by nothing not at all."""
    value, limit = pair
    return value / limit if limit else float(value > 0)


def headroom(memory: shared.Memory) -> list[dict[str, Any]]:
    """Return the instruments with a position or open orders, fullest first: position, open orders, worst case against the limit."""
    found, risk = [], memory["risk"]
    for instrument, symbol in enumerate(symbols(memory)):
        row, limit = risk["positions"][instrument], int(risk["limits"][instrument]["position_max"])
        shares = int(row["bought_qty"]) - int(row["sold_qty"]) + int(risk["exposures"][instrument]["carried_qty"])
        buy, sell = int(row["open_buy_qty"]), int(row["open_sell_qty"])
        if not symbol or not (shares or buy or sell or int(row["open_orders"])):
            continue
        worst = max(shares + buy, sell - shares, 0)
        found.append({"symbol": symbol, "position": shares, "open_buy": buy, "open_sell": sell, "worst": worst, "limit": limit,
                      "used": used((worst, limit))})  # fmt: skip
    return sorted(found, key=lambda one: -one["used"])


def not_announced(config: Config, memory: shared.Memory) -> list[str]:
    """Return the symbols that the configuration names and the venue has not announced, once it has announced any."""
    rows = memory["market"]["instruments"]
    known = {symbol for symbol, row in zip(symbols(memory), rows) if symbol and int(row["flags"]) & INSTRUMENT_ANNOUNCED}
    if not known:
        return []
    named = [("universe.symbols: ", config.universe.symbols), ("risk.instrument.", config.risk.instrument),
             *((f"strategy[{at}].symbols: ", row.symbols) for at, row in enumerate(config.strategy) if row.enabled)]  # fmt: skip
    missing = dict.fromkeys(symbol for _, names in named for symbol in names if symbol not in known)
    return [next(f"{key}{symbol}" for key, names in named if symbol in names) for symbol in missing]


def warnings(config: Config, memory: shared.Memory, facts: dict[str, Any]) -> list[str]:
    """Return what is wrong, worst first. facts: `status.snapshot`."""
    data, session, money = market(config, memory), venue(memory), account(memory)
    found = []
    for row in facts["agents"]:
        if not row["alive"] and row["state"] not in ("STOPPED", "NONE"):
            found.append(f"{row['agent']} is dead ({row['state']})")
        elif row["starts"] > 1:
            found.append(f"{row['agent']} was started {row['starts']} times; the log says why it ended")
    found += session["stopped"]
    if session["unknown_orders"]:
        found.append(f"{session['unknown_orders']} open orders whose state the venue has not confirmed")
    if money["loss_latched"]:
        found.append("the day's loss limit is reached: only orders that shrink a position pass (risk.loss_max)")
    if data["given_up"]:
        found.append(f"{data['given_up']} gaps could not be filled, {data['lost_messages']:,} messages were never received")
    for state, names in data["books_not_live"].items():
        found.append(f"{many(names, 'book is', 'books are')} {state}, and not traded on: {some(names)}")
    if data["not_trading"]:
        found.append(f"{many(data['not_trading'], 'instrument does', 'instruments do')} not trade now: {some(data['not_trading'])}")
    missing = not_announced(config, memory)
    if missing:
        found.append(f"{config.path}: the venue has announced no such symbol: {some(missing)}")
    for name, pair in money["limits"].items():
        if used(pair) >= NEAR:
            found.append(f"{name}: {used(pair):.0%} of the account's limit is used ({pair[0]:,.10g} of {pair[1]:,.10g})")
    found += [f"{ring['ring']} was full {ring['full']:,} times" for ring in facts["rings"] if ring["full"]]
    missed = [row["agent"] for row in facts["rehearsal"] if row["verdict"] == "MISSED"]
    if missed:
        found.append(f"rehearsal missed the budget: {some(missed)}")
    refused = sum(bool(one["why"]) for row in [*facts["agents"], facts] for one in row["placement"])
    if refused:
        found.append(f"placement: {refused} wishes were refused, or granted in part; `hftd status --all` says why")
    return found + [f"{row['agent']}: {in_words(row, memory)}, {row['count']:,} times" for row in facts["errors"]
                    if row["error"] != LogCode.KILL.name]  # fmt: skip


def in_words(row: dict[str, Any], memory: shared.Memory) -> str:
    """Return the sentence of a row of `status.errors`, with its integers under their names."""
    known = symbols(memory)
    _, _, sentence, facts = told_of_error(int(LogCode[row["error"]]), row["a"], row["b"],
                                          lambda at: known[at] if at < len(known) else str(at))  # fmt: skip
    return f"{sentence} ({', '.join(f'{name} {value}' for name, value in facts.items() if name)})" if facts else sentence


def many(names: list[str], one: str, more: str) -> str:
    """Return how many there are, with the words for one or for more."""
    return f"{len(names):,} {one if len(names) == 1 else more}"


def some(names: list[str], shown: int = 6) -> str:
    """Return the first names, and how many more there are."""
    more = f" and {len(names) - shown:,} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more
