"""After a crash: the open orders in shared memory are taken for true; hash, lists, free rows and sums are made from them again.

The process may have died between any two stores, so nothing that follows from the orders is believed. A row whose order was
entered but never sent holds its exposure until the gateway's word: the worst case, which is the right one. Cold, at start,
before the first turn.
"""

import numpy as np

from hftd.core.memory import Span
from hftd.risk.memory import NO_ASK
from hftd.risk.orders import bucket_of_id

_bucket = getattr(bucket_of_id, "py_func", bucket_of_id)


def rebuild(segment, pool) -> int:
    """Make everything that follows from the rows of open orders; return their number. pool: the handle's pool_dtype record."""
    orders, buckets = segment["orders"], segment["buckets"]
    positions, exposures, strategies = segment["positions"], segment["exposures"], segment["strategies"]
    account = segment["account"][0]
    buckets["row"][:] = 0
    for field in ("open_buy_qty", "open_sell_qty", "open_buy_cash", "open_sell_cash", "open_orders"):
        positions[field][:] = 0
    exposures["first"][:] = 0
    exposures["own_bid_px"][:] = 0
    exposures["own_ask_px"][:] = NO_ASK
    strategies["open_orders"][:] = 0
    used = [int(at) for at in np.flatnonzero(orders["id"]) if at]
    held = Span(0, len(buckets))
    open_cash = standing = 0
    for at in used:
        order = orders[at]
        orig, following = int(order["orig"]), int(order["successor"])
        if orig and (int(orders[orig]["id"]) == 0 or int(orders[orig]["successor"]) != at):
            order["orig"] = orig = 0
        if following and (int(orders[following]["id"]) == 0 or int(orders[following]["orig"]) != at):
            order["successor"] = 0
        bucket = buckets[_bucket(held, int(order["id"])) // 4]
        order["next"] = int(bucket["row"])
        bucket["row"] = at
        exposure, position = exposures[int(order["instrument"])], positions[int(order["instrument"])]
        first = int(exposure["first"])
        order["before"], order["after"] = 0, first
        if first:
            orders[first]["before"] = at
        exposure["first"] = at
        side, px = ("sell" if int(order["side"]) else "buy"), int(order["px"])
        if side == "buy":
            exposure["own_bid_px"] = max(int(exposure["own_bid_px"]), px)
        else:
            exposure["own_ask_px"] = min(int(exposure["own_ask_px"]), px)
        position[f"open_{side}_qty"] = int(position[f"open_{side}_qty"]) + int(order["hold_qty"])
        position[f"open_{side}_cash"] = int(position[f"open_{side}_cash"]) + int(order["hold_cash"])
        open_cash += int(order["hold_cash"])
        if not orig:
            standing += 1
            position["open_orders"] = int(position["open_orders"]) + 1
            row = strategies[int(order["strategy"])]
            row["open_orders"] = int(row["open_orders"]) + 1
    account["open_cash"], account["open_orders"] = open_cash, standing
    account["held_cash"] = int(np.sum(exposures["held_cash"]))
    account["pnl"] = int(np.sum(exposures["pnl"]))
    _free_rows(orders, used, pool)
    return len(used)


def _free_rows(orders, used: list[int], pool) -> None:
    """Set the pool's free list: the gaps between used rows, then everything after the last one."""
    taken = set(used)
    fresh = max(used, default=0) + 1
    free = 0
    for at in range(1, fresh):
        if at not in taken:
            orders[at]["next"] = free
            free = at
    pool["free"], pool["fresh"], pool["used"], pool["peak"] = free, fresh, len(used), len(used)
