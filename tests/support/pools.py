"""A pool driven a step at a time from tests."""

import functools

from hftd.core.bind import bind
from hftd.core.jit import hot
from hftd.core.layout import layout
from hftd.core.memory import records, span
from hftd.shm import pool as pools

row4_dtype = layout("row4", 16, [("value", "i8"), ("next", "i4"), ("pad0", "u4")])
row8_dtype = layout("row8", 16, [("value", "i8"), ("next", "i8")])
kind = None


def _take(pool):
    return pools.take_row(pool, span(pool.rows), kind)


def _give(pool, index):
    pools.give_row(pool, span(pool.rows), index, kind)


@hot
def _reset(pool):
    pools.reset_arena(pool)


@hot
def _most_used(pool):
    return pools.most_used(pool)


@functools.cache
def _bound(width):
    dtype = row4_dtype if width == "i4" else row8_dtype
    return bind(_take, width, kind=dtype), bind(_give, width, kind=dtype)


class Pool:
    """`count` rows, row 0 included, whose link has the given width."""

    def __init__(self, count: int, width: str = "i4"):
        self.rows = records(row4_dtype if width == "i4" else row8_dtype, count)
        self._array = records(pools.pool_dtype, 1)
        self.record = self._array[0]
        pools.open_pool(self.record, self.rows.ctypes.data, count)
        self._take, self._give = _bound(width)

    @property
    def most_used(self) -> int:
        """Return the most rows ever handed out at once."""
        return int(_most_used(self.record))

    def take(self) -> int:
        """Return a row, or 0."""
        return int(self._take(self.record))

    def give(self, index: int) -> None:
        """Give a row back."""
        self._give(self.record, index)

    def reset(self) -> None:
        """Give all back."""
        _reset(self.record)

    def __getattr__(self, name):
        return int(self.record[name])
