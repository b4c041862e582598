"""The referee's word: the exchange's own record of every accepted order and every trade, as JSON.

    positions    one row per symbol, over all accounts, with what `hftd demo` compares
    accounts     the same per account, with its counters
    market       the other side: what the flow traded with accounts, so that bought = sold over accounts and market together
    orders       every accepted order: quantities in shares, prices and cash in 1e-4 of the currency
    executions   every trade with an account in it; `seq` is the sequence number of the message that published it
"""

import json
from pathlib import Path
from typing import Any

from hftd.msg.records import position_dtype
from hftd.sim.memory import ORDER_CANCELED, ORDER_FILLED, ORDER_OPEN, ORDER_REPLACED
from hftd.sim.options import SimError
from hftd.venues.nasdaq.itch50 import symbol_to_text

SUMS = ("bought_qty", "sold_qty", "bought_cash", "sold_cash", "fills", "orders")
OPEN = ("open_orders", "open_buy_qty", "open_sell_qty", "open_buy_cash", "open_sell_cash")
STATES = {ORDER_OPEN: "open", ORDER_FILLED: "filled", ORDER_CANCELED: "canceled", ORDER_REPLACED: "replaced"}
ACCOUNT_COUNTERS = ("logins", "received", "entered", "replaced", "canceled", "rejected", "ignored", "malformed", "fills",
                    "self_trades", "disconnects", "swept", "user_ref")  # fmt: skip
ORDER_KEYS = ("user_ref", "orig_user_ref", "ref", "px", "qty", "filled", "cash", "canceled", "ts", "ts_end")
WIRE_COUNTERS = ("packets", "bytes", "heartbeats", "errors", "lost", "duplicated", "reordered", "delayed")
FLOW_COUNTERS = ("published", "flow_events", "own_trades", "flow_trades", "self_trades", "dropped", "altered", "capped", "bad",
                 "requests", "request_bad", "answered", "turns", "sleeps")  # fmt: skip


def ledger(exchange) -> dict[str, Any]:
    """Return the whole ledger. exchange: hftd.sim.exchange.Exchange."""
    names = [symbol_to_text(stock) if stock else "" for stock in exchange.symbols["stock"].tolist()]
    orders = [_order(row, names, exchange.names) for row in exchange.order_log.rows()]
    fills = [_fill(row, names, exchange.names) for row in exchange.fill_log.rows()]
    accounts = []
    total: dict[str, dict[str, Any]] = {}
    for number, name in enumerate(exchange.names):
        if number == 0:
            continue
        rows = _positions(exchange, number, names)
        for row in orders:
            if row["account"] == name and row["state"] == "open":
                _add_open(rows.setdefault(row["symbol"], _empty(row["symbol"])), row)
        for symbol, row in rows.items():
            into = total.setdefault(symbol, _empty(symbol))
            for key in SUMS + OPEN:
                into[key] += row[key]
        counters = {key: int(exchange.accounts[number][key]) for key in ACCOUNT_COUNTERS}
        accounts.append({"name": name, "messages": int(exchange.accounts[number]["stream"]["count"]), "counters": counters,
                         "positions": sorted(rows.values(), key=lambda row: row["symbol"])})  # fmt: skip
    x = exchange.x
    return {
        "session": exchange.options.session,
        "messages": int(x["tape"]["count"]),
        "orders": len(orders),
        "fills": sum(row["fills"] for row in total.values()),
        "open_orders": sum(row["state"] == "open" for row in orders),
        "positions": sorted(total.values(), key=lambda row: row["symbol"]),
        "accounts": accounts,
        "market": sorted(_positions(exchange, 0, names).values(), key=lambda row: row["symbol"]),
        "counters": {key: int(x[key]) for key in FLOW_COUNTERS},
        "lines": [{key: int(line[key]) for key in WIRE_COUNTERS} for line in exchange.lines],
        "order_log": orders,
        "executions": fills,
    }


def write(path: str, facts: dict[str, Any]) -> None:
    """Write the ledger in one piece. Raises SimError."""
    target = Path(path)
    part = target.with_name(target.name + ".part")
    try:
        part.write_text(json.dumps(facts) + "\n")
        part.replace(target)
    except OSError as error:
        raise SimError(f"--ledger {path}: {error.strerror}") from None


def _empty(symbol: str) -> dict[str, Any]:
    return {"symbol": symbol, **dict.fromkeys(SUMS + OPEN, 0)}


def _positions(exchange, account: int, names: list[str]) -> dict[str, dict[str, Any]]:
    count = len(names)
    rows = exchange.positions[account * count : (account + 1) * count]
    assert rows.dtype == position_dtype
    found = {}
    for locate in (rows["orders"] + rows["fills"]).nonzero()[0].tolist():
        row = _empty(names[locate])
        for key in SUMS:
            row[key] = int(rows[key][locate])
        found[names[locate]] = row
    return found


def _add_open(row: dict[str, Any], order: dict[str, Any]) -> None:
    left = order["qty"] - order["filled"] - order["canceled"]
    side = "buy" if order["side"] == "B" else "sell"
    row["open_orders"] += 1
    row[f"open_{side}_qty"] += left
    row[f"open_{side}_cash"] += left * order["px"]


def _order(row, names: list[str], accounts: list[str]) -> dict[str, Any]:
    made = {key: int(row[key]) for key in ORDER_KEYS}
    made["account"], made["symbol"] = accounts[int(row["account"])], names[int(row["locate"])]
    made["side"], made["state"] = "BS"[int(row["side"])], STATES[int(row["state"])]
    made["reason"] = chr(int(row["reason"])) if row["reason"] else ""
    return made


def _fill(row, names: list[str], accounts: list[str]) -> dict[str, Any]:
    made = {key: int(row[key]) for key in ("ts", "match", "px", "qty", "maker_ref", "taker_ref", "seq")}
    made["symbol"], made["maker_side"] = names[int(row["locate"])], "BS"[int(row["maker_side"])]
    made["maker"], made["taker"] = accounts[int(row["maker"])], accounts[int(row["taker"])]
    return made
