"""hftd/recorder/causes.py: synthetic orders and pauses, one for each cause; what is kept; the gateway's own part of it."""

import mmap

import numpy as np
import pytest

from hftd.control.config import build
from hftd.gateway.memory import TAILS, gateway_counters_dtype, tail_dtype
from hftd.msg.enums import CAUSE_TEXT, Cause, Role
from hftd.recorder.causes import Causes, Found, cause_of, spans
from hftd.recorder.memory import NEWEST, WORST
from hftd.shm import map as shared
from hftd.shm import pauses
from hftd.shm.segment import Segment, size_of

FEED, RISK, GATEWAY, RECORDER, SUPERVISOR = (int(Role[n]) for n in ("FEED", "RISK", "GATEWAY", "RECORDER", "SUPERVISOR"))
STRATEGY = int(Role.STRATEGY)
START = 1_000_000


def slow(feed=100, strategy=100, risk=100, gateway=100, call=100, batch=1, number=1, ts_recv=START, which=0):
    """A slow order with these ticks in each stage."""
    made = np.zeros(1, tail_dtype)
    made["number"], made["ts_recv"], made["batch"], made["strategy"] = number, ts_recv, batch, which
    made["t_feed"], made["t_strategy"] = feed, feed + strategy
    made["t_risk"], made["t_sent"], made["t_call"] = feed + strategy + risk, feed + strategy + risk + gateway, call
    return made[0]


def pause(begin, end, kind=pauses.TURN, **counts):
    """A pause from `begin` to `end` ticks after START."""
    made = np.zeros(1, pauses.pause_dtype)
    made["begin"], made["end"], made["kind"] = START + begin, START + end, kind
    for name, value in counts.items():
        made[name] = value
    return made


def judge(order, *, fused=False, since=None, **paused):
    """Find the cause with these pauses by role. since: role -> tick after START from which its pauses are kept."""
    marks = {"feed": FEED, "risk": RISK, "gateway": GATEWAY, "recorder": RECORDER, "supervisor": SUPERVISOR, "strategy": STRATEGY,
             "strategy_1": STRATEGY + 1}  # fmt: skip
    held = {marks[name]: rows for name, rows in paused.items()}
    begun = {marks[name]: START + tick for name, tick in (since or {}).items()}
    none = np.zeros(0, pauses.pause_dtype)
    return cause_of(order, lambda mark: pauses.Kept(held.get(mark, none), begun.get(mark, 0)), fused)


@pytest.mark.parametrize(("kind", "counts", "cause"), [
    (pauses.TURN, {"involuntary": 1}, Cause.SWITCHED),
    (pauses.TURN, {"involuntary": 1, "minor": 40}, Cause.SWITCHED),
    (pauses.PARK, {"involuntary": 1}, Cause.SWITCHED),
    (pauses.TURN, {"voluntary": 1}, Cause.WAITED),
    (pauses.TURN, {"minor": 1}, Cause.FAULT),
    (pauses.TURN, {"major": 1, "voluntary": 1}, Cause.FAULT),
    (pauses.TURN, {"work": 64}, Cause.WORK),
    (pauses.TURN, {"work": 1}, Cause.HOST),
    (pauses.TURN, {"involuntary": -1}, Cause.HOST),
    (pauses.COLD, {"minor": 3}, Cause.COLD),
    (pauses.PARK, {}, Cause.PARKED),
    (pauses.HELD, {}, Cause.RING_FULL),
    (pauses.SOCKET, {}, Cause.SOCKET_FULL),
])  # fmt: skip
def test_pause_of_the_role_whose_stage_it_covers_is_the_cause(kind, counts, cause):
    """Risk stood still for most of its stage."""
    found = judge(slow(risk=5000), risk=pause(150, 5100, kind, **counts))
    assert found == Found(cause, 2, RISK, 4900, max(counts.get("work", 0), 0))


def test_each_stage_has_its_role():
    """A pause counts only where the stage is that role's: the others pause without harm."""
    for stage, name in enumerate(("feed", "strategy", "risk", "gateway")):
        order = slow(**{name: 8000})
        begin, end = (value - START for value in spans(order)[stage])
        found = judge(order, **{name: pause(begin, end)})
        assert (found.stage, found.overlap) == (stage, 8000)
        others = {other: pause(begin, end) for other in ("feed", "strategy", "risk", "gateway") if other != name}
        assert judge(order, **others) == Found(Cause.UNKNOWN, stage)


def test_strategy_is_the_one_that_sent_the_order():
    """Another strategy's pause is not this order's."""
    order = slow(strategy=9000, which=1)
    assert judge(order, strategy=pause(0, 9000)).cause == Cause.UNKNOWN
    assert judge(order, strategy_1=pause(0, 9000)).mark == STRATEGY + 1


def test_fused_process_pauses_as_one():
    """Strategy, risk and gateway stages look at the gateway's meter."""
    order = slow(strategy=9000)
    assert judge(order, gateway=pause(100, 9000)).cause == Cause.UNKNOWN
    found = judge(order, fused=True, gateway=pause(100, 9000, involuntary=1))
    assert (found.cause, found.stage, found.mark) == (Cause.SWITCHED, 1, GATEWAY)


def test_the_longest_overlap_counts_and_a_small_one_does_not():
    """Two pauses; and one that covers less than a quarter."""
    both = np.concatenate([pause(100, 700, minor=1), pause(900, 4000, involuntary=1)])
    assert judge(slow(risk=5000), risk=both).cause == Cause.SWITCHED
    assert judge(slow(risk=5000), risk=pause(200, 700, involuntary=1)) == Found(Cause.UNKNOWN, 2)


def test_pause_before_the_packet_came_is_no_cause():
    """Only what lies within the order's own time."""
    assert judge(slow(feed=5000), feed=pause(-9000, -1)).cause == Cause.UNKNOWN
    assert judge(slow(feed=5000), feed=pause(-9000, 4000)).overlap == 4000


def test_what_no_pause_explains_is_named_by_its_stage():
    """The call, the orders before it, the disk, the clock; and nothing at all."""
    assert judge(slow(call=50_000)) == Found(Cause.SYSTEM_CALL, 4)
    assert judge(slow(gateway=5000, batch=3)) == Found(Cause.BATCH, 3, work=3)
    assert judge(slow(strategy=5000), recorder=pause(300, 400, pauses.JOURNAL)) == Found(Cause.JOURNAL, 1, RECORDER)
    assert judge(slow(strategy=5000), recorder=pause(9300, 9400, pauses.JOURNAL)).cause == Cause.UNKNOWN
    step = pause(-10_000, 20_000, pauses.CLOCK)
    assert judge(slow(strategy=5000), supervisor=step, recorder=pause(300, 400, pauses.JOURNAL)).cause == Cause.CLOCK_STEP
    assert judge(slow(strategy=5000)) == Found(Cause.UNKNOWN, 1)


def test_a_slow_call_is_not_laid_to_the_host():
    """Any send() above daemon.pause_us makes its turn a pause: the cause was always the host, and never the call."""
    order = slow(gateway=1000, call=50_000)
    around = pause(100, 51_500, work=1)
    assert judge(order, gateway=around) == Found(Cause.SYSTEM_CALL, 4, GATEWAY, 50_000, 1)
    assert judge(order, gateway=pause(100, 51_500, work=1, involuntary=1)).cause == Cause.SWITCHED
    assert judge(slow(gateway=50_000, call=1000), gateway=around).cause == Cause.HOST


def test_pauses_that_were_overwritten_are_not_taken_for_none():
    """A role whose pauses of that time are gone may have paused; one whose later pauses are gone has not."""
    order = slow(risk=5000)
    assert judge(order, since={"risk": 101}) == Found(Cause.UNKNOWN, 2), "it begins at 200"
    assert judge(order, since={"risk": 201}) == Found(Cause.OVERWRITTEN, 2, RISK)
    assert judge(order, since={"risk": 201, "gateway": 99_999}) == Found(Cause.OVERWRITTEN, 2, RISK), "the longest of them"
    assert judge(order, since={"feed": 50}) == Found(Cause.OVERWRITTEN, 0, FEED)
    assert judge(order, since={"risk": 300}, risk=pause(400, 5100, involuntary=1)).cause == Cause.SWITCHED, "what is there counts"
    assert judge(slow(call=50_000), since={"risk": 999_999}) == Found(Cause.SYSTEM_CALL, 4), "the order's own stamps say it"


def test_order_whose_pauses_were_overwritten_before_the_look_says_so():
    """More pauses of risk between the order and the look than are kept of it; one fewer, and they tell."""
    few, many = pauses.SHORTS - 1, pauses.SHORTS
    for count, long, cause in ((many, 0, Cause.OVERWRITTEN), (few, 0, Cause.SWITCHED), (many, 48_000, Cause.SWITCHED),
                               (many, 10_000, Cause.SWITCHED), (many, 49_000, Cause.OVERWRITTEN)):  # fmt: skip
        box = Box()
        control = box.memory["control"]
        at = [control.address(part) + RISK * control.parts[part].dtype.itemsize * rows
              for part, rows in (("meters", 1), ("pauses", pauses.ROWS))]  # fmt: skip
        control["meters"][RISK]["long"] = long
        box.add(risk=50_000)
        pauses.note_wait(*at, START + 300, START + 49_000, pauses.TURN, 0)
        control["pauses"][RISK * pauses.ROWS + (pauses.SHORTS if 0 < long <= 48_700 else 0)]["involuntary"] = 1
        for number in range(1, count):
            pauses.note_wait(*at, START + 1_000_000 * number, START + 1_000_000 * number + 10, pauses.TURN, 0)
        assert box.look() == 1
        assert box.rows()[0] == [(1, cause)]
        row = box.causes.slow[0]
        assert (int(row["stage"]), int(row["mark"])) == (2, RISK)


def test_every_cause_has_words():
    """What `hftd latency` prints."""
    assert set(CAUSE_TEXT) == set(Cause) and all(CAUSE_TEXT.values())


class Box:
    """The segments the recorder's Causes read and write, in private memory."""

    def __init__(self):
        config = build({"strategy": [{"file": "a.py"}], "gateway": {"orders_max": 64}})
        wanted = shared.segments(config)
        self.memory = {name: Segment(name, wanted[name], mmap.mmap(-1, size_of(wanted[name])))
                       for name in ("control", "orders", "recorder")}  # fmt: skip
        self.counters = self.memory["recorder"]["counters"][0]
        self.causes = Causes(self.memory, self.counters, {"hz": 1_000_000_000}, False)
        self.told = 0

    def add(self, **fields):
        """Play the gateway: keep a slow order."""
        self.told += 1
        self.memory["orders"]["tails"][(self.told - 1) % TAILS] = slow(number=self.told, **fields)
        self.memory["orders"]["counters"]["slow_orders"] = self.told

    def look(self, now=START + 10_000_000_000):
        """Go through what is old enough."""
        return self.causes.look(now, lambda ticks: ticks * 2)

    def rows(self):
        """What is kept: the worst and the newest, as (number, cause)."""
        kept = [[(int(row["number"]), Cause(int(row["cause"]))) for row in part if int(row["number"])]
                for part in (self.causes.slow[:WORST], self.causes.slow[WORST:])]  # fmt: skip
        return sorted(kept[0]), sorted(kept[1])


def test_order_waits_until_every_role_has_told_its_pauses():
    """A pause is complete at the end of its slice: a young order is left for later, and not lost."""
    box = Box()
    box.add(risk=40_000, ts_recv=START)
    box.add(risk=50_000, ts_recv=START + 900_000_000)
    assert box.look(START + 200_000_000) == 0 and int(box.counters["slow_seen"]) == 0
    assert box.look(START + 400_000_000) == 1 and int(box.counters["slow_seen"]) == 1
    assert box.look(START + 400_000_000) == 0
    assert box.look() == 1 and box.look() == 0
    assert box.rows() == ([(1, Cause.UNKNOWN), (2, Cause.UNKNOWN)],) * 2
    assert int(box.causes.slow[WORST]["utc_ns"]) == 2 * START


def test_worst_and_newest_are_kept():
    """The worst since the start, whenever they came; the newest, however fast they were."""
    box = Box()
    for number in range(1, 201):
        box.add(risk=1_000_000 - number if number <= 10 else number)
        box.look()
    worst, newest = box.rows()
    assert len(worst) == WORST and [row[0] for row in worst[:10]] == list(range(1, 11))
    assert [row[0] for row in worst[10:]] == list(range(201 - (WORST - 10), 201))
    assert [row[0] for row in newest] == list(range(201 - NEWEST, 201))


def test_flood_is_thinned_to_the_slowest_and_counted():
    """More in one look than can be gone into, and more than the ring keeps."""
    box = Box()
    for number in range(TAILS + 50):
        box.add(risk=9_000_000 if number % 40 == 7 else 100)
    assert box.look() == 16
    assert int(box.counters["slow_seen"]) == TAILS + 50
    worst, _ = box.rows()
    slowest = {number for number, _ in worst}
    assert {number + 1 for number in range(50, TAILS + 50) if number % 40 == 7} <= slowest


def test_row_that_is_being_written_is_left_out():
    """The gateway zeroes a row's number while it writes; a row of another number was overwritten."""
    box = Box()
    box.add()
    box.memory["orders"]["tails"][0]["number"] = 0
    assert box.look() == 0


def test_counters_name_the_slow_orders():
    """What the gateway counts is what the recorder goes through."""
    assert "slow_orders" in gateway_counters_dtype.names
