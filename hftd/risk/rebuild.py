"""After a crash: the open orders in shared memory are taken for true; hash, lists, free rows and sums are made from them again.

The process may have died between any two stores: `take_back` undoes the report or the approval it was at, and `rebuild` believes
nothing that follows from the orders. Cold, at start, before the first turn.
"""

import numpy as np

from hftd.core.memory import Span
from hftd.msg.records import order_dtype
from hftd.risk.memory import NO_ASK
from hftd.risk.orders import bucket_of_id
from hftd.risk.reports import UNDO_ORDER, UNDO_POSITION, UNDO_REPLACED
from hftd.shm import ring

_bucket = getattr(bucket_of_id, "py_func", bucket_of_id)


def take_back(segment, order_ring) -> None:
    """Undo what the last process had half done: a report half applied comes again; an order entered but never sent goes."""
    account, undo = segment["account"][0], segment["undo"][0]
    positions, orders = segment["positions"], segment["orders"]
    if int(undo["seq"]) and int(undo["seq"]) == int(account["report_seq"]) + 1:
        at, index, orig, fill = (int(undo[name]) for name in ("instrument", "order", "orig", "fill"))
        raw = np.asarray(segment["undo"]).view(np.ndarray).view(np.uint8)
        copy_bytes_into(positions, at, raw[UNDO_POSITION : UNDO_POSITION + positions.dtype.itemsize])
        for row, image in ((index, UNDO_ORDER), (orig, UNDO_REPLACED)):
            if row:
                copy_bytes_into(orders, row, raw[image : image + orders.dtype.itemsize])
        if fill:
            row = segment["fills"][fill - 1]
            row["match"], row["cl_ord_id"] = 0, 0
        undo["seq"] = 0
    index = int(account["entering"])
    if index:
        tail, slots = ring.written_up_to(order_ring), np.asarray(order_ring["slots"]).view(np.ndarray).view(order_dtype)
        row = orders[index]
        if int(row["id"]) and (not tail or int(slots["cl_ord_id"][(tail - 1) % len(slots)]) != int(row["id"])):
            row["id"] = 0
        account["entering"] = 0


def copy_bytes_into(table, index: int, image) -> None:
    """Overwrite one row with an image of it."""
    raw = np.asarray(table).view(np.ndarray).view(np.uint8)
    size = table.dtype.itemsize
    raw[index * size : (index + 1) * size] = image


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
    account["held_cash"] = account["pnl"] = 0
    exposures["held_cash"][:] = 0
    exposures["pnl"][:] = 0
    traded = (positions["bought_qty"] != 0) | (positions["sold_qty"] != 0) | (exposures["carried_qty"] != 0)
    for at in np.flatnonzero(traded | (exposures["carried_cash"] != 0)):
        revalue(account, positions[int(at)], exposures[int(at)])
    _free_rows(orders, used, pool)
    return len(used)


def revalue(account, position, exposure) -> None:
    """Value a position from cold code, before the turn runs or in a row the turn has not touched yet."""
    shares = int(position["bought_qty"]) - int(position["sold_qty"]) + int(exposure["carried_qty"])
    cash = int(position["sold_cash"]) - int(position["bought_cash"]) + int(exposure["carried_cash"])
    held = min(abs(shares) * int(exposure["mark_px"]), int(account["cap"]))
    pnl = cash + (held if shares >= 0 else -held)
    account["held_cash"] = int(account["held_cash"]) + held - int(exposure["held_cash"])
    account["pnl"] = int(account["pnl"]) + pnl - int(exposure["pnl"])
    exposure["held_cash"], exposure["pnl"] = held, pnl


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
