"""The order states one by one: every message in every state, compiled, and the table of it in the gateway's README."""

import os
from pathlib import Path

import pytest

from hftd.core.jit import hot
from hftd.core.memory import records
from hftd.gateway import order_state as states
from hftd.gateway.memory import order_row_dtype
from hftd.msg.enums import ExecType, OrdStatus

README = Path(states.__file__).parent / "README.md"
BEGIN, END = "<!-- states: made by tests/unit/gateway/test_order_states.py -->", "<!-- end -->"
MARKS = {
    "PENDING_NEW": 0, "LIVE": states.MARK_ACCEPTED, "PARTIALLY_FILLED": states.MARK_ACCEPTED,
    "PENDING_REPLACE": states.MARK_ACCEPTED | states.MARK_REPLACE_SENT,
    "PENDING_CANCEL": states.MARK_ACCEPTED | states.MARK_CANCEL_SENT, "UNKNOWN": states.MARK_ACCEPTED | states.MARK_UNKNOWN,
}  # fmt: skip
EVENTS = ("accepted", "fill, part", "fill, rest", "cancel, part", "cancel, rest", "modified", "rejected", "cancel rejected",
          "replaced (R)", "replaced (O)")  # fmt: skip


@hot
def apply(event, order, other):
    """Apply event number `event` of EVENTS to a row."""
    if event == 0:
        return states.accept(order, 100, 50, 7, 0)
    if event == 1:
        return states.execute(order, 10)
    if event == 2:
        return states.execute(order, order.leaves * 1)
    if event == 3:
        return states.cancel(order, 10)
    if event == 4:
        return states.cancel(order, order.leaves * 1)
    if event == 5:
        return states.modify(order, 20)
    if event == 6:
        return states.reject(order)
    if event == 7:
        return states.cancel_rejected(order)
    if event == 8:
        return states.replace(other, order, 80, 51, 8, 0)
    return states.replace(order, other, 80, 51, 8, 0)


def row(status: str):
    """Return a row of 100 shares in a state (30 executed where it is partly filled) and an untouched order beside it."""
    made = records(order_row_dtype, 2)
    order, other = made[0], made[1]
    order["qty"] = order["leaves"] = other["qty"] = other["leaves"] = 100
    other["status"] = states.PENDING_NEW
    order["marks"] = MARKS.get(status, states.MARK_ACCEPTED)
    if status == "PARTIALLY_FILLED":
        order["cum"], order["leaves"] = 30, 70
    if status in ("FILLED", "CANCELED", "REJECTED"):
        order["leaves"] = 0
        order["cum"] = 100 if status == "FILLED" else 0
    order["status"] = int(OrdStatus[status])
    return made, order, other


def outcome(status: str, event: int) -> tuple[str, str]:
    """Return (status after, what is reported) of an event in a state."""
    made, order, other = row(status)
    if EVENTS[event] == "replaced (R)":
        other["marks"], other["status"] = states.MARK_ACCEPTED | states.MARK_REPLACE_SENT, states.PENDING_REPLACE
    before = [bytes(memoryview(made)[i : i + 1]) for i in range(2)]
    say = int(apply(event, order, other))
    after = OrdStatus(int(order["status"])).name
    if say == states.CONTRADICTION:
        assert [bytes(memoryview(made)[i : i + 1]) for i in range(2)] == before, "a message that does not fit changed something"
        return after, "-"
    if say == states.REPEAT:
        return after, "known"
    finished = after in ("FILLED", "CANCELED", "REJECTED")
    assert (int(order["leaves"]) == 0) == finished
    assert int(order["cum"]) + int(order["leaves"]) <= max(int(order["qty"]), int(order["cum"]))
    return after, ExecType(say).name


def table() -> str:
    """Return the state table as Markdown."""
    columns = [name for name in OrdStatus.__members__ if name != "NONE"]
    lines = ["| message | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for event, name in enumerate(EVENTS):
        cells = []
        for status in columns:
            after, say = outcome(status, event)
            cells.append("-" if say == "-" else "known" if say == "known" else f"{say} → {after}" if after != status else f"{say}")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def test_readme_has_the_table_the_code_makes():
    """The README's table is what the functions do. HFTD_WRITE_DOCS=1 writes it."""
    text = README.read_text()
    head, rest = text.split(BEGIN)
    old, tail = rest.split(END)
    if os.environ.get("HFTD_WRITE_DOCS"):
        README.write_text(f"{head}{BEGIN}\n{table()}\n{END}{tail}")
        return
    assert old.strip() == table()


@pytest.mark.parametrize("status", ["FILLED", "CANCELED", "REJECTED"])
def test_a_finished_order_stays_finished(status):
    """No message opens an order again."""
    for event in range(len(EVENTS)):
        assert outcome(status, event)[0] == status


@pytest.mark.parametrize("status", ["PENDING_NEW", "LIVE", "PARTIALLY_FILLED", "PENDING_REPLACE", "PENDING_CANCEL", "UNKNOWN"])
def test_a_fill_always_counts(status):
    """Every open state takes a fill; the last one finishes the order."""
    assert outcome(status, 1)[1] == "FILL"
    assert outcome(status, 2) == ("FILLED", "FILL")


@pytest.mark.parametrize("status", ["FILLED", "CANCELED", "REJECTED"])
def test_a_late_fill_counts_too(status):
    """A fill of a finished order raises what was executed, and opens nothing."""
    made, order, other = row(status)
    before = int(order["cum"])
    assert int(apply(1, order, other)) == states.SAY_FILL
    assert (int(order["cum"]), int(order["leaves"])) == (before + 10, 0)
    assert len(made) == 2


def test_unknown_hides_no_fact():
    """What was under way before the connection broke is under way again when it is back."""

    for status in ("PENDING_NEW", "LIVE", "PARTIALLY_FILLED", "PENDING_REPLACE", "PENDING_CANCEL"):
        _, order, _ = row(status)
        lose_and_find(order)
        assert OrdStatus(int(order["status"])).name == status


@hot
def lose_and_find(order):
    """Break the connection and bring it back."""
    states.lose(order)
    states.unmark(order, 8)
