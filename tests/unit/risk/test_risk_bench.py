"""The loops that benchmarks time do what they say."""

import numpy as np

from hftd.core import clock as clocks
from hftd.core.memory import records
from hftd.msg.records import intent_dtype
from hftd.risk.bench import check_many, turn_many
from hftd.shm import ring
from hftd.shm.map import PLACE_GATEWAY
from tests.support.interpreted import is_child
from tests.support.risk_desk import NEW, PX, Desk

COUNT = 20 if is_child() else 1000


def bench_desk(tmp_path):
    """Return a desk, a template intent and an order consumer."""
    desk = Desk(tmp_path, risk={"message_rate_max": 10_000_000})
    template, orders = records(intent_dtype, 1), records(ring.consumer_dtype, 1)
    template[0]["px"], template[0]["qty"], template[0]["kind"] = PX, 100, NEW
    ring.open_consumer(orders[0], desk.memory["ring.order"], PLACE_GATEWAY)
    return desk, template, orders


def test_check_many_passes_every_check(tmp_path):
    """Nothing denied, nothing held; a bad template is denied each time."""
    desk, template, _ = bench_desk(tmp_path)
    now = clocks.now_ticks()
    assert check_many(desk.agent.handle, template[0], now, COUNT) == 0
    assert set(desk.open_sums().values()) == {0}
    template[0]["qty"] = 0
    assert check_many(desk.agent.handle, template[0], now, 10) == 10


def test_turn_many_sends_them_all(tmp_path):
    """Each intent becomes an order and ends; nothing is left."""
    desk, template, orders = bench_desk(tmp_path)
    now = clocks.now_ticks()
    assert turn_many(desk.agent.handle, desk.intents_out[0], orders[0], desk.report_out, template[0], now, COUNT) == COUNT
    assert desk.count("approved") == COUNT and desk.count("reports") == COUNT
    assert set(desk.open_sums().values()) == {0}
    assert int(np.asarray(desk.memory["ring.order"]["slots"]["seq"]).max()) == COUNT
