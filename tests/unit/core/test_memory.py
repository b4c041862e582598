"""hftd/core/memory.py: loads, stores, swaps and rows, the same compiled and interpreted."""

import mmap
import os
import subprocess
import sys

import numpy as np
import pytest

from hftd.core import memory as m
from hftd.core.jit import INTERPRETED, hot
from hftd.core.layout import PAIR, layout

SAMPLE = bytes(range(0x81, 0x81 + 16))
cell_dtype = layout("cell", 16, [("a", "i8"), ("b", "u4"), ("c", "u2"), ("d", "u1"), ("e", "i1")])
holder_dtype = layout("holder", 32, [("table", m.span_dtype), ("other", m.span_dtype)])


@hot
def _loads(at, out):
    m.store64(out, m.load8(at))
    m.store64(out + 8, m.load16(at + 1))
    m.store64(out + 16, m.load32(at + 1))
    m.store64(out + 24, m.load64(at + 1))
    m.store64(out + 32, m.swap16(m.load16(at + 1)))
    m.store64(out + 40, m.swap32(m.load32(at + 1)))
    m.store64(out + 48, m.swap64(m.load64(at + 1)))
    m.prefetch_far(at)
    m.prefetch_write(out)
    return m.load64(at + 1)


@hot
def _stores(at, value):
    m.store8(at, value)
    m.store16(at + 1, value)
    m.store32(at + 3, value)
    m.store64(at + 7, value)


@hot
def _copy(target, source, size):
    m.copy_bytes(target, source, size)


@hot
def _fill(held):
    table = m.span(held.table)
    for i in range(table.count):
        cell = m.row(table, i, cell_dtype)
        cell.a = -i
        cell.b = 5 * i
        cell.c = i
        cell.d = 255
        cell.e = -1
    return m.address_of(m.row(table, 2, cell_dtype))


@pytest.fixture
def raw():
    """A private buffer and its address."""
    array = np.zeros(256, np.uint8)
    return array, array.ctypes.data


def test_loads_zero_extend_and_eight_bytes_are_signed(raw):
    """Narrow loads give 0..2**n-1, eight bytes an int64, at any alignment; swaps reverse the bytes."""
    array, at = raw
    array[:16] = list(SAMPLE)
    out = np.zeros(8, np.int64)
    last = _loads(at, out.ctypes.data)
    little = [int.from_bytes(SAMPLE[1 : 1 + n], "little") for n in (2, 4)]
    assert list(out[:7]) == [
        SAMPLE[0], *little, int.from_bytes(SAMPLE[1:9], "little", signed=True),
        int.from_bytes(SAMPLE[1:3], "big"), int.from_bytes(SAMPLE[1:5], "big"), int.from_bytes(SAMPLE[1:9], "big", signed=True),
    ]  # fmt: skip
    assert last == out[3] < 0


def test_stores_keep_the_low_bytes_and_touch_no_neighbour(raw):
    """A store writes exactly its width, whatever the value."""
    array, at = raw
    array[:] = 0xEE
    _stores(at + 3, -2)
    assert bytes(array[:3]) == b"\xee" * 3
    assert bytes(array[3:18]) == b"\xfe" + b"\xfe\xff" + b"\xfe\xff\xff\xff" + b"\xfe" + b"\xff" * 7
    assert bytes(array[18:21]) == b"\xee" * 3


def test_copy_moves_exactly_the_bytes(raw):
    """Sizes 0 to 64, odd addresses."""
    array, at = raw
    for size in (0, 1, 7, 8, 33, 56, 64):
        array[:128] = np.arange(128)
        array[128:] = 0
        _copy(at + 129, at + 3, size)
        assert bytes(array[129 : 129 + size]) == bytes(range(3, 3 + size))
        assert array[128] == 0 and not array[129 + size :].any()


def test_rows_are_views_and_narrow_fields_wrap():
    """`row` reaches every row of a span; stores land in the array behind it."""
    table, held = m.records(cell_dtype, 4), m.records(holder_dtype, 1)
    m.set_array(held[0]["table"], table)
    assert _fill(held[0]) == table.ctypes.data + 32
    assert [int(value) for value in table["a"]] == [0, -1, -2, -3]
    assert [int(value) for value in table["b"]] == [0, 5, 10, 15]
    assert set(table["d"].tolist()) == {255} and set(table["e"].tolist()) == {-1}


@pytest.mark.parametrize("count", [1, 3, 1000])
def test_records_are_zeroed_and_keep_their_distance(count):
    """Private memory starts on a pair of lines, so that two agents' handles share none."""
    made = m.records(cell_dtype, count)
    assert made.shape == (count,) and made.ctypes.data % PAIR == 0
    assert not np.asarray(made).view(np.uint8).any()


def test_a_block_is_writable_and_faulted_in():
    """`block` gives whole pages; prefault leaves the content alone."""
    memory = m.block(3 * mmap.PAGESIZE + 1)
    view = np.frombuffer(memory, np.uint8)
    assert m.address(memory) % mmap.PAGESIZE == 0 and not view.any()
    view[5] = 9
    m.prefault(memory)
    assert view[5] == 9


@pytest.mark.skipif(not INTERPRETED, reason="interpreter twins only")
def test_interpreted_rows_outside_an_array_are_errors():
    """The twin of a record array knows its bounds; a field that is not there is an AttributeError."""
    made = m.records(cell_dtype, 2)
    assert made[-1].a == 0
    for index in (2, -3):
        with pytest.raises(IndexError, match="of 2"):
            made[index]
    with pytest.raises(AttributeError, match="no field zz"):
        _ = made[0].zz
    assert [row["a"] for row in made] == [0, 0]


CHECKED_SCRIPT = """
from hftd.core import memory as m
from hftd.core.jit import hot
from tests.unit.core.test_memory import cell_dtype, holder_dtype
@hot
def read(held, i):
    return m.row(m.span(held.table), i, cell_dtype).a
table, held = m.records(cell_dtype, 4), m.records(holder_dtype, 1)
m.set_array(held[0]["table"], table)
assert read(held[0], 3) == 0
for i in (4, -1):
    try:
        read(held[0], i)
    except IndexError as error:
        print(i, error)
"""


def test_checked_rows_refuse_an_index_outside_the_span():
    """With HFTD_CHECKED=1 the span's count is enforced in compiled code."""
    env = {**os.environ, "HFTD_CHECKED": "1"}
    child = subprocess.run([sys.executable, "-c", CHECKED_SCRIPT], env=env, capture_output=True, text=True, timeout=60, check=True)
    assert child.stdout.splitlines() == ["4 row outside its span", "-1 row outside its span"]
