"""The paper venue of the tape: what it answers where several orders of one callback meet."""

from hftd.msg.enums import EventKind
from tests.support.strategy_desk import PX, SELL, Desk

SOURCE = """from hftd.strategy import BUY, layout, replace, submit

state = layout("once", 16, [("first", "i8"), ("second", "i8")])


def on_trade(ctx, trade):
    if ctx.state.first == 0:
        ctx.state.first = submit(ctx, 0, BUY, {px}, 100)
        ctx.state.second = replace(ctx, ctx.state.first, {px}, trade.qty)
"""


def run(folder, total):
    """Have 100 shares meet an ask of 40, and be replaced at once by a total of `total`; return the position row."""
    path = folder / "replace_at_once.py"
    path.write_text(SOURCE.format(px=PX + 200))
    desk = Desk(path, symbols=("AAA",))
    desk.quote(qty=40)
    desk.tape["paper"] = 1
    desk.event(EventKind.HIDDEN_TRADE, PX + 100, total, SELL)
    return desk, {name: value for name, value in desk.position(0).items() if value}


def test_a_replacement_whose_total_is_executed_already_cancels_the_original(tmp_path):
    """The open shares became negative, and were told as four thousand million."""
    desk, row = run(tmp_path, 30)
    assert (row["bought_qty"], row["orders"], row["fills"]) == (40, 1, 1)
    assert {name for name in row if name.startswith("open")} == set()
    assert (int(desk.tape["filled_qty"]), desk.counters()["rejected"]) == (40, 1)


def test_a_replacement_keeps_what_its_total_leaves(tmp_path):
    """40 of 70 are executed: 30 are open, and trade again with what the book shows."""
    desk, row = run(tmp_path, 70)
    assert (row["bought_qty"], row["orders"], row["fills"]) == (70, 2, 2)
    assert (int(desk.tape["filled_qty"]), desk.counters()["rejected"]) == (70, 0)
