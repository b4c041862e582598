"""hftd/shm/seqlock.py: a reader takes a whole value or none, also after a writer that died inside."""

import pytest

from hftd.core.jit import hot
from hftd.core.memory import records
from hftd.msg.records import quote_dtype
from hftd.shm import seqlock


@hot
def _begin(cell):
    seqlock.begin_write(cell)


@hot
def _end(cell):
    seqlock.end_write(cell)


@hot
def _read(cell, target):
    return seqlock.try_read(cell, target, 128)


@pytest.fixture
def cell():
    """A quote cell and a place to read it to."""
    arrays = records(quote_dtype, 1), records(quote_dtype, 1)
    return arrays[0][0], arrays[1][0]


def _write(cell, px):
    _begin(cell)
    cell["bid_px"], cell["last_match"] = px, px
    _end(cell)


def test_a_closed_cell_is_read_whole(cell):
    """First field to last."""
    source, target = cell
    _write(source, 1234)
    assert _read(source, target)
    assert (int(target["bid_px"]), int(target["last_match"]), int(target["version"])) == (1234, 1234, 2)


def test_an_open_cell_is_refused(cell):
    """Between begin and end nobody gets anything."""
    source, target = cell
    _begin(source)
    assert not _read(source, target)
    _end(source)
    assert _read(source, target)


def test_a_writer_that_died_inside_does_not_turn_the_parity(cell):
    """Its successor opens an open cell: still closed to readers until the end."""
    source, target = cell
    _begin(source)
    before = int(source["version"])
    _begin(source)
    assert not _read(source, target)
    _end(source)
    assert _read(source, target)
    assert int(source["version"]) > before and int(source["version"]) % 2 == 0
