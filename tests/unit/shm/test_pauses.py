"""hftd/shm/pauses.py and hftd/core/meter.py: what is noted, what the kernel did meanwhile, and that old rows give way."""

import functools
import mmap

import numpy as np
import pytest

from hftd.core import clock as clocks
from hftd.core import duty, idle, meter
from hftd.core.atomics import tsc
from hftd.core.bind import bind
from hftd.core.jit import leaf
from hftd.core.layout import layout
from hftd.core.memory import records
from hftd.shm import control, pauses
from hftd.shm.control import mark_dtype
from hftd.shm.segment import Segment, size_of

role_dtype = layout("busy_role", 32, [("turns", "i8"), ("long_at", "i8"), ("long_ticks", "i8"), ("work", "i8")])
MARK = 3


@leaf
def _turn(agent, now):
    """A turn that takes `long_ticks` once."""
    agent.turns += 1
    if agent.turns == agent.long_at:
        while tsc() - now < agent.long_ticks:
            pass
        return agent.work * 1
    return 0


@functools.cache
def _cycle():
    return bind(duty.duty_cycle, "pauses", turn=_turn)


@functools.cache
def _fused():
    return bind(duty.fused_cycle, "pauses", turn_a=_turn, turn_b=_turn, turn_c=_turn)


class Loop:
    """A duty cycle with its meter, over a control segment of its own."""

    def __init__(self, mode=idle.SPIN, threshold_us=1_000_000, **waiting):
        parts = control.parts()
        self.control = Segment("control", parts, mmap.mmap(-1, size_of(parts)))
        self.clock = clocks.new_clock()[0]
        self.hz = int(self.clock["hz"])
        self.waiting, self.mark = records(idle.idle_dtype, 1)[0], records(mark_dtype, 1)[0]
        self.role = records(role_dtype, 1)[0]
        idle.set_idle(self.waiting, idle.SPIN)
        _cycle()(self.role, self.mark, self.waiting, 1)  # compiled before anybody looks at the clock
        self.role["turns"] = 0
        idle.set_idle(self.waiting, mode, **waiting)
        self.meter = meter.Meter(self.waiting, self.control, MARK, self.clock, threshold_us)

    def ticks(self, us):
        return us * self.hz // 1_000_000

    def slice(self, turns=1):
        self.meter.begin()
        _cycle()(self.role, self.mark, self.waiting, turns)
        self.meter.end()

    def rows(self):
        return self.kept().rows

    def kept(self):
        return pauses.kept(self.control["meters"], self.control["pauses"], MARK)


def test_loop_that_runs_notes_nothing():
    """Turns that follow one another closely, with a threshold that this machine keeps."""
    loop = Loop()
    loop.slice(1000)
    assert len(loop.rows()) == 0
    assert pauses.summary(loop.control["meters"][MARK], loop.hz, clocks.now_ticks())["kinds"] == {}


def test_time_between_two_slices_is_the_roles_own_python():
    """The gap lies before a slice's first turn."""
    loop = Loop()
    gap = loop.ticks(5_000_000)
    loop.waiting["turned"] = begin = clocks.now_ticks() - gap
    loop.slice(3)
    (row,) = loop.rows()
    assert (int(row["kind"]), int(row["begin"])) == (pauses.COLD, begin)
    assert int(row["end"] - row["begin"]) >= gap


def test_long_turn_is_noted_with_its_work():
    """The next turn sees how long the one before took."""
    loop = Loop(threshold_us=2000)
    loop.role["long_at"], loop.role["long_ticks"], loop.role["work"] = 2, loop.ticks(20_000), 17
    loop.slice(4)
    (row,) = [row for row in loop.rows() if int(row["work"])]
    assert (int(row["kind"]), int(row["work"])) == (pauses.TURN, 17)
    assert int(row["end"] - row["begin"]) >= loop.ticks(20_000)
    assert int(row["involuntary"]) >= 0, "the meter did not complete it"


def test_fused_loop_has_one_meter():
    """Three agents in one process pause together."""
    loop = Loop()
    loop.waiting["turned"] = clocks.now_ticks() - loop.ticks(5_000_000)
    marks = records(mark_dtype, 3)
    _fused()(loop.role, marks[0], loop.role, marks[1], loop.role, marks[2], loop.waiting, 2)
    assert [int(row["kind"]) for row in loop.rows()] == [pauses.COLD]


def test_sleeping_as_long_as_asked_is_no_pause_and_longer_is():
    """A parking loop sleeps 1 ms; a threshold of a minute keeps every sleep out, one of nothing takes all of them."""
    loop = Loop(idle.PARK, threshold_us=60_000_000, spins=0, yields=0, park_ns=1_000_000)
    loop.slice(8)
    assert len(loop.rows()) == 0
    loop.waiting["pause_ticks"] = 0
    loop.waiting["park_ticks"] = 0
    loop.slice(8)
    kinds = [int(row["kind"]) for row in loop.rows()]
    assert kinds.count(pauses.PARK) >= 6
    loop.waiting["park_ticks"] = 1 << 40
    before = len(loop.rows())
    loop.slice(1)
    loop.waiting["turned"] = clocks.now_ticks()
    loop.slice(5)
    assert {int(row["kind"]) for row in loop.rows()[before:]} <= {pauses.COLD}


def test_ring_keeps_the_newest_and_the_sums_keep_all():
    """More pauses than rows."""
    loop = Loop()
    count = pauses.SHORTS + 100
    for number in range(count):
        loop.meter.note(1000 * number, 1000 * number + 7, pauses.SOCKET, number)
    rows = loop.rows()
    assert [int(row["work"]) for row in rows] == list(range(count - len(rows), count))
    assert len(rows) == pauses.SHORTS - 1, "the row that may be written now is left out"
    told = pauses.summary(loop.control["meters"][MARK], loop.hz, clocks.now_ticks())
    assert told["kinds"] == {"socket": {"count": count, "ns": round(7 * count * 1e9 / loop.hz)}}
    assert told["longest_ns"] == round(7e9 / loop.hz)


def test_long_pause_outlives_any_number_of_short_ones():
    """On a busy host a loop that parks is woken late all the time: a pause of 300 ms was overwritten before the recorder looked."""
    loop = Loop(threshold_us=10)
    loop.meter.begin()
    loop.meter.note(0, loop.ticks(300_000), pauses.TURN, 1)
    for number in range(3 * pauses.SHORTS):
        loop.meter.note(loop.ticks(300_000 + number), loop.ticks(300_011 + number), pauses.PARK)
    loop.meter.end()
    kept = loop.kept()
    first, *others = kept.rows
    assert (int(first["end"]), int(first["work"]), len(others)) == (loop.ticks(300_000), 1, pauses.SHORTS - 1)
    assert int(first["involuntary"]) >= 0, "what the kernel did meanwhile is told, too"
    assert np.all(np.diff(kept.rows["begin"]) >= 0)
    short, long = loop.ticks(10), loop.ticks(10 * pauses.LONG)
    assert (kept.whole_since(long), kept.whole_since(short)) == (0, int(others[0]["begin"]))
    for number in range(pauses.LONGS):
        loop.meter.note(long * number, long * (number + 1), pauses.COLD, 2)
    kept = loop.kept()
    assert kept.whole_since(long) == long and kept.rows["work"].tolist().count(2) == pauses.LONGS - 1
    assert kept.whole_since(short) == max(long, int(others[0]["begin"]))


def test_a_restarted_role_goes_on_with_sums_and_time():
    """The sums were the day's and the time that of the newest process: shares of more than all of the time."""
    loop = Loop()
    since = int(loop.control["meters"][MARK]["since"])
    loop.meter.note(0, loop.ticks(500), pauses.TURN)
    again = meter.Meter(loop.waiting, loop.control, MARK, loop.clock, 10)
    again.note(0, loop.ticks(500), pauses.COLD)
    told = pauses.summary(loop.control["meters"][MARK], loop.hz, since + loop.ticks(2000))
    assert told["stood"] == pytest.approx(0.5, abs=1e-3) and told["seconds"] == pytest.approx(0.002)


def test_time_in_which_orders_were_held_is_none_in_which_the_loop_stood():
    """Held orders, a full socket, a disk, a clock: the loop turned meanwhile, or stood for another reason that counts by itself."""
    loop = Loop()
    since = int(loop.control["meters"][MARK]["since"])
    for kind in (pauses.HELD, pauses.SOCKET, pauses.JOURNAL, pauses.CLOCK, pauses.PARK):
        loop.meter.note(0, loop.ticks(1000), kind)
    assert pauses.summary(loop.control["meters"][MARK], loop.hz, since + loop.ticks(2000))["stood"] == pytest.approx(0.5, abs=1e-3)


def test_wait_without_a_meter_is_not_noted_anywhere():
    """Address 0: tools and tests run loops that nobody watches."""
    pauses.note_wait(0, 0, 1, 2, pauses.HELD, 0)


@pytest.mark.parametrize(("moved", "wanted"), [
    ((2, 0, 0, 0), [("involuntary", [0, 1, 1])]),
    ((0, 0, 7, 1), [("minor", [2, 3, 2]), ("major", [0, 1, 0]), ("involuntary", [0, 0, 0])]),
])  # fmt: skip
def test_what_moved_goes_to_the_longest_first(moved, wanted):
    """Three pauses of 10, 30 and 20 ticks."""
    rows = np.zeros(3, pauses.pause_dtype)
    rows["end"] = [10, 30, 20]
    meter.complete(rows, np.arange(3), moved)
    for name, values in wanted:
        assert rows[name].tolist() == values
    meter.complete(rows, np.arange(0), moved)


def test_faults_of_cold_code_are_not_the_slices():
    """Memory touched between two slices shows in the pause between them, and not in one within."""
    loop = Loop(threshold_us=2000)
    loop.meter.begin()
    _cycle()(loop.role, loop.mark, loop.waiting, 1)
    loop.meter.end()
    fresh = mmap.mmap(-1, 256 * mmap.PAGESIZE)
    for at in range(0, len(fresh), mmap.PAGESIZE):
        fresh[at] = 1
    loop.waiting["turned"] = clocks.now_ticks() - loop.ticks(5_000_000)
    loop.role["turns"], loop.role["long_at"], loop.role["long_ticks"] = 0, 1, loop.ticks(20_000)
    loop.slice(2)
    cold, turn = loop.rows()[-2:]
    assert (int(cold["kind"]), int(turn["kind"])) == (pauses.COLD, pauses.TURN)
    assert int(cold["minor"]) >= 256 > int(turn["minor"])
