"""Calls between compiled functions: the caller's loop clears nothing for a call that it might have made, and results are right."""

import re
import types

import pytest
from numba import njit
from numba.core import callconv

from hftd.core import calls
from hftd.core.apart import apart
from hftd.core.jit import INTERPRETED, hot, leaf


@hot
def rare(value):
    apart()
    return 3 * value + 1


@hot
def raises(value):
    apart()
    if value < 0:
        raise ValueError("below zero")
    return value


@leaf
def either(value):
    return rare(value) if value % 7 == 0 else value


@hot
def total(n):
    found = 0
    for value in range(n):
        found += either(value)
    return found


@hot
def passes_on(n):
    found = 0
    for value in range(n, -2, -1):
        found += raises(value)
    return found


def test_results_and_exceptions_come_through():
    assert total(1000) == sum(3 * value + 1 if value % 7 == 0 else value for value in range(1000))
    with pytest.raises(ValueError, match="below zero"):
        passes_on(5)


def clears() -> int:
    """Compile the loop anew; return how many rooms for an exception it clears."""
    inner = njit(either.py_func, forceinline=True)
    loop = njit(types.FunctionType(total.py_func.__code__, {**total.py_func.__globals__, "either": inner}))
    assert loop(1000) == total(1000)
    return len(re.findall(r"store \S+ null, \S+ %excinfo", loop.inspect_llvm(loop.signatures[0])))


@pytest.mark.skipif(INTERPRETED, reason="about machine code")
def test_room_for_a_call_is_made_and_not_cleared(monkeypatch):
    assert callconv.CPUCallConv.call_function is calls._call_function
    assert clears() == 0
    monkeypatch.setattr(callconv.CPUCallConv, "call_function", calls._numbas)
    assert clears() > 0, "Numba clears it: what calls.py is for"
