"""A strategy killed at any instruction of a turn: the next process comes to the same positions."""

import pytest

from hftd.core.idle import SPIN, set_idle
from hftd.core.jit import INTERPRETED
from hftd.msg.enums import ExecType
from hftd.strategy.setup import StrategyAgent
from tests.support.stepped import bytes_of, put_back, states
from tests.support.strategy_desk import BUY, PX, Desk


@pytest.mark.skipif(INTERPRETED, reason="machine code only")
def test_reports_count_once_wherever_it_dies():
    """Accepted, two fills, one of them voided, all in one turn; killed between any two stores."""
    desk = Desk()
    desk.quote()
    first, _ = desk.accepted(qty=300)
    second = desk.submit(qty=50)
    desk.say(exec_type=int(ExecType.NEW), cl_ord_id=second, flags=BUY, px=PX, qty=50, leaves_qty=50, venue_id=900)
    desk.say(exec_type=int(ExecType.FILL), cl_ord_id=first, flags=BUY, px=PX, qty=100, leaves_qty=200, venue_id=901)
    desk.say(exec_type=int(ExecType.FILL), cl_ord_id=second, flags=BUY, px=PX, qty=50, leaves_qty=0, venue_id=902)
    desk.say(exec_type=int(ExecType.BROKEN), cl_ord_id=first, flags=BUY, px=PX, qty=100, leaves_qty=200, venue_id=901)
    agent = desk.agent
    kernel = agent.kernel()
    set_idle(agent.waiting, SPIN)
    watched = bytes_of(desk.memory["strategy.0"], "positions", "undo") + bytes_of(desk.memory["ring.report"], "control")
    kernel(agent.handle, agent.mark, agent.waiting, 0)
    images = states(kernel.dispatcher, (agent.handle, agent.mark, agent.waiting, 1), watched)
    assert len(images) > 15
    wrong = {}
    for number, image in enumerate(images):
        put_back(watched, image)
        made = StrategyAgent(desk.config, desk.memory, 0, agent.program)
        made.prepare(True)
        kernel(made.handle, made.mark, made.waiting, 2)
        row = desk.memory["strategy.0"]["positions"][0]
        found = {name: int(row[name]) for name in ("orders", "fills", "bought_qty", "sold_qty", "bought_cash")}
        if found != {"orders": 2, "fills": 1, "bought_qty": 50, "sold_qty": 0, "bought_cash": 50 * PX}:
            wrong[number] = found
    assert not wrong, f"{len(wrong)} of {len(images)}: {wrong}"
