"""hftd/shm/errlog.py and counters.py: distinct errors with count and time; counters with a sentence each."""

import pytest

from hftd.core.jit import hot
from hftd.core.layout import layout
from hftd.core.memory import records, set_array, span, span_dtype
from hftd.shm import counters, errlog

holder_dtype = layout("holder", 16, [("log", span_dtype)])


@hot
def _note(held, code, a, b, now):
    errlog.note_error(span(held.log), code, a, b, now)


@pytest.fixture
def log():
    """Four rows, and how to write to them."""
    rows, held = records(errlog.error_dtype, 4), records(holder_dtype, 1)
    set_array(held[0]["log"], rows)
    return rows, lambda *what: _note(held[0], *what)


def test_the_same_error_is_one_row(log):
    """Code and first integer tell errors apart; count, first and last time and latest detail are kept."""
    rows, note = log
    note(5, 1, 10, 100)
    note(5, 2, 11, 101)
    note(5, 1, 12, 102)
    seen = [tuple(int(row[field]) for field in ("code", "a", "b", "count", "first", "last")) for row in rows]
    assert seen == [(5, 1, 12, 2, 100, 102), (5, 2, 11, 1, 101, 101), (0,) * 6, (0,) * 6]


def test_a_full_log_counts_the_rest_in_its_last_row(log):
    """Nothing is lost without a count, no row is overwritten."""
    rows, note = log
    for a in range(10):
        note(7, a, 0, a)
    assert [int(row["count"]) for row in rows] == [1, 1, 1, 7]
    assert int(rows[3]["last"]) == 9 and [int(row["a"]) for row in rows] == [0, 1, 2, 3]


def test_counters_are_padded_documented_and_listed():
    """A pair of lines at least; padding is not a counter."""
    kind = counters.counters("errlog_test", [(f"c{i}", f"counts {i}") for i in range(17)])
    assert kind.itemsize == 256 and counters.DOC["errlog_test"]["c3"] == "counts 3"
    block = records(kind, 1)
    block[0]["c16"] = 9
    assert counters.values(block[0]) == {**{f"c{i}": 0 for i in range(16)}, "c16": 9}
    assert counters.counters("errlog_full", [(f"c{i}", "x") for i in range(16)]).itemsize == 128
