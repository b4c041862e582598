"""Every field of every message of the specification is read by hot code, or stands here with the reason why not.

What hot code reads is found in its source: `x = record_at(at, some_dtype)` and then `x.field`, or both in one.
"""

import ast

from hftd.venues.nasdaq.itch50 import MESSAGES
from hftd.venues.nasdaq.itchfeed import STOCK_AT
from tests.support.data import ROOT, shared_spec

HOT = ("itchfeed.py", "itchrare.py", "itchdoubt.py", "itchmend.py")

HEADER = {
    "Message Type": "apply_message: load8(at)",
    "Stock Locate": "apply_message: head.locate",
    "Timestamp": "apply_message: stamp(head)",
}  # fmt: skip
"""Read once for all types: the first eleven bytes are the same."""

ONE_BY_ONE = {("F", "Attribution"): "load32(at + MPID_AT)"}
"""Read without a record."""

THROUGH = {
    **{(f"order_executed{kind}", name): ("order_cancel", name) for kind in ("", "_price") for name in ("ref", "shares")},
    ("order_executed_price", "match"): ("order_executed", "match"),
    **{("add_order_mpid", name): ("add_order", name) for name in ("ref", "side", "shares", "stock", "price")},
}  # fmt: skip
"""Fields that several types have in the same place are read through one type's layout."""

UNREAD = {
    ("*", "Tracking Number"): "internal to Nasdaq; the specification gives it no meaning",
    ("H", "Reserved"): "no meaning",
    ("P", "Order Reference Number"): "always 0 since 2010-12-06",
}


def reads() -> set[tuple[str, str]]:
    """Return (layout, field) of everything hot code reads from a message."""
    found = set()
    for name in HOT:
        tree = ast.parse((ROOT / "hftd/venues/nasdaq" / name).read_text())
        for function in [node for node in tree.body if isinstance(node, ast.FunctionDef)]:
            layouts = {}
            for node in ast.walk(function):
                if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
                    layouts.setdefault(node.targets[0].id, set()).update(_layout(node.value))
            for node in ast.walk(function):
                if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
                    of = layouts.get(node.value.id, set()) if isinstance(node.value, ast.Name) else _layout(node.value)
                    found |= {(layout, node.attr) for layout in of}
    return found


def _layout(node: ast.expr) -> set[str]:
    if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "record_at" and isinstance(node.args[1], ast.Name):
        return {node.args[1].id.removesuffix("_dtype")}
    return set()


NAMES = {kind: name.removesuffix("_dtype") for kind, name in (
    (kind, next(name for name, value in vars(__import__("hftd.venues.nasdaq.itch50", fromlist=["x"])).items() if value is layout))
    for kind, layout in MESSAGES.items()
)}  # fmt: skip
"""Type byte -> the layout's name."""


def field_at(kind: int, offset: int, length: int) -> str:
    """Return the name of a message's field that lies there."""
    layout = MESSAGES[kind]
    return next(name for name, (dtype, at) in layout.fields.items() if (at, dtype.itemsize) == (offset, length))


def test_every_field_is_read_or_named_with_a_reason():
    found, missing, used, counted = reads(), [], set(), 0
    tables = shared_spec("itch50.json")
    assert {ord(kind) for kind in tables} == set(MESSAGES)
    for letter, table in tables.items():
        kind = ord(letter)
        for field in table["fields"]:
            counted += 1
            name, key = field["name"], next((key for key in ((letter, field["name"]), ("*", field["name"])) if key in UNREAD), None)
            if name in HEADER or (letter, name) in ONE_BY_ONE:
                continue
            if key:
                used.add(key)
                ours = field_at(kind, field["offset"], field["length"])
                assert key[0] == "*" or (NAMES[kind], ours) not in found, f"{letter} {name} is read: take it off UNREAD"
                continue
            ours = field_at(kind, field["offset"], field["length"])
            if name == "Stock":
                assert STOCK_AT[kind] == field["offset"], letter
                continue
            place = (NAMES[kind], ours)
            if place in THROUGH:
                other, same = THROUGH[place]
                through = MESSAGES[next(k for k, n in NAMES.items() if n == other)].fields[same]
                assert (through[1], through[0].itemsize) == (field["offset"], field["length"]), place
                place = THROUGH[place]
            if place not in found:
                missing.append(f"{letter} {name} ({place[0]}.{place[1]})")
    assert not missing, missing
    assert used == set(UNREAD), set(UNREAD) - used
    assert counted > 180


def test_the_header_is_read_as_said():
    source = (ROOT / "hftd/venues/nasdaq/itchfeed.py").read_text()
    for where in (*HEADER.values(), *(f": {text}" for text in ONE_BY_ONE.values())):
        assert where.partition(": ")[2] in source
