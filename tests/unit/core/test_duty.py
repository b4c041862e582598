"""hftd/core/duty.py, idle.py and bind.py: slices, reasons, marks, waiting, and loops bound to different turns."""

import functools

import pytest

from hftd.core import duty, idle
from hftd.core.bind import bind, clone
from hftd.core.jit import INTERPRETED, hot, leaf
from hftd.core.layout import layout
from hftd.core.memory import records
from hftd.shm.control import mark_dtype

role_dtype = layout("role", 32, [("turns", "i8"), ("busy_until", "i8"), ("stop_at", "i8"), ("last_now", "i8")])


@leaf
def _turn(agent, now):
    agent.turns += 1
    agent.last_now = now
    if agent.turns == agent.stop_at:
        return -4
    return 3 if agent.turns <= agent.busy_until else 0


@leaf
def _other_turn(agent, now):
    agent.turns += 100
    return 0


@functools.cache
def _cycle(name):
    return bind(duty.duty_cycle, name, turn=_turn if name == "plain" else _other_turn)


@functools.cache
def _fused():
    return bind(duty.fused_cycle, "test", turn_a=_turn, turn_b=_turn, turn_c=_turn)


def _role(**fields):
    role = records(role_dtype, 1)[0]
    for name, value in fields.items():
        role[name] = value
    return role


def _mark():
    return records(mark_dtype, 1)[0]


def _waiting(mode=idle.SPIN, **options):
    state = records(idle.idle_dtype, 1)[0]
    idle.set_idle(state, mode, **options)
    return state


def test_a_slice_runs_its_turns_and_keeps_the_mark():
    """Returns 0 after `turns`; heartbeat, cycles and busy turns stand in the mark."""
    role, mark, waiting = _role(busy_until=30), _mark(), _waiting()
    assert _cycle("plain")(role, mark, waiting, 100) == 0
    assert (int(role["turns"]), int(mark["cycles"]), int(mark["busy"])) == (100, 100, 30)
    assert int(mark["heartbeat"]) == int(role["last_now"]) > 0
    assert int(waiting["empty"]) == 70


def test_a_negative_turn_is_the_reason_and_ends_the_slice():
    """The host gets the reason at once, as a positive number."""
    role, mark = _role(stop_at=7), _mark()
    assert _cycle("plain")(role, mark, _waiting(), 100) == 4
    assert int(role["turns"]) == int(mark["cycles"]) == 7


def test_bindings_of_one_template_do_not_share_code():
    """Each loop calls the turn it was bound to, and is called after it."""
    first, second = _role(), _role()
    assert _cycle("plain")(first, _mark(), _waiting(), 10) == _cycle("other")(second, _mark(), _waiting(), 10) == 0
    assert (int(first["turns"]), int(second["turns"])) == (10, 1000)
    if not INTERPRETED:
        assert _cycle("plain").py_func.__qualname__ == "duty_cycle__plain"


def test_the_template_itself_is_untouched():
    """Binding clones: the module's slots stay empty."""
    _cycle("plain")
    assert duty.turn is None
    copy = clone(_template, "x", slot=5)
    assert copy(2) == 7 and slot is None and copy.__qualname__ == "_template__x" and copy.__doc__ == _template.__doc__


slot = None


def _template(value):
    """Add the slot."""
    return value + slot


def test_parking_spins_then_yields_then_sleeps_and_leaves_the_slice():
    """An idle PARK agent gives its core away and comes back to Python early; work starts the count anew."""
    waiting = _waiting(idle.PARK, spins=5, yields=3, park_ns=1000)
    role, mark = _role(), _mark()
    assert _cycle("plain")(role, mark, waiting, 10_000) == 0
    turns = int(role["turns"])
    assert 5 + 3 < turns <= 5 + 3 + 16
    assert int(waiting["parks"]) == turns - (5 + 3 - 1)
    role["busy_until"] = int(role["turns"]) + 1
    assert _cycle("plain")(role, mark, waiting, 1) == 0
    assert int(waiting["empty"]) == 0


def test_spinning_never_sleeps():
    """SPIN stays in the slice however long nothing comes."""
    waiting = _waiting(idle.SPIN)
    assert _cycle("plain")(_role(), _mark(), waiting, 2_000) == 0
    assert int(waiting["parks"]) == 0 and int(waiting["empty"]) == 2_000


@pytest.mark.parametrize("index", [0, 1, 2])
def test_the_fused_loop_says_whose_reason_it_is(index):
    """reason * 4 + index, after all three turns of that round."""
    roles, marks = [_role() for _ in range(3)], [_mark() for _ in range(3)]
    roles[index]["stop_at"] = 5
    arguments = [part for pair in zip(roles, marks, strict=True) for part in pair]
    assert _fused()(*arguments, _waiting(), 50) == 4 << 8 * index
    assert [int(role["turns"]) for role in roles] == [5, 5, 5]
    assert [int(mark["cycles"]) for mark in marks] == [5, 5, 5]


def test_the_fused_loop_gives_every_reason_of_a_turn():
    """After a pause the strategy may have lost market data and the gateway its session at once: the host is told both."""
    roles, marks = [_role(stop_at=5), _role(), _role(stop_at=5)], [_mark() for _ in range(3)]
    arguments = [part for pair in zip(roles, marks, strict=True) for part in pair]
    code = _fused()(*arguments, _waiting(), 50)
    assert [code >> 8 * place & 255 for place in range(3)] == [4, 0, 4]


@pytest.mark.skipif(INTERPRETED, reason="compiled kernels only")
def test_hot_functions_are_known_to_warm_and_certificate():
    """Every `@hot` dispatcher is in `kernels()` once."""
    from hftd.core.jit import kernels

    @hot
    def made_here(x):
        return x

    assert sum(kernel is made_here for kernel in kernels()) == 1
