"""hftd/shm/pool.py: the last row given back is the first taken; row 0 is never anybody's; an empty pool refuses."""

import numpy as np
import pytest

from tests.support.pools import Pool


@pytest.fixture(params=["i4", "i8"])
def pool(request):
    """Five rows, four of them usable, with either width of the link."""
    return Pool(5, request.param)


def test_rows_come_fresh_then_warm_then_not_at_all(pool):
    """1..4, then the refusal is counted; then last in, first out."""
    assert [pool.take() for _ in range(5)] == [1, 2, 3, 4, 0]
    pool.give(2)
    pool.give(4)
    assert [pool.take() for _ in range(3)] == [4, 2, 0]
    assert (pool.used, pool.most_used, pool.refused) == (4, 4, 2)


def test_an_arena_is_given_back_at_once(pool):
    """All rows are fresh again; the peak remembers."""
    assert [pool.take() for _ in range(3)] == [1, 2, 3]
    pool.reset()
    assert pool.used == 0
    assert [pool.take() for _ in range(4)] == [1, 2, 3, 4]
    assert pool.most_used == 4


def test_row_zero_stays_as_it_was(pool):
    """0 means none."""
    for _ in range(3):
        taken = [pool.take() for _ in range(4)]
        for index in taken:
            pool.give(index)
    assert not np.asarray(pool.rows[0:1]).view(np.uint8).any()
