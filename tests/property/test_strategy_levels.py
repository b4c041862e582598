"""The strategy's sorted arrays against a dict: any sequence of level events, blocks that grow, an arena that runs out."""

from hypothesis import given, settings
from hypothesis import strategies as st

from hftd.core.jit import hot
from hftd.core.memory import records
from hftd.strategy.levels import FIRST_ROOM, LEVEL, NO_ROOM, apply_level, clear_levels, open_arena, refresh
from hftd.strategy.records import arena_dtype, book_dtype, level_dtype
from tests.naive.levels import Levels


@hot
def _apply(arena, book, side, px, qty, orders):
    before = apply_level(arena, book, side, px, qty, orders)
    refresh(book)
    return before


@hot
def _clear(book):
    clear_levels(book)


class Twin:
    """Both books, fed alike."""

    def __init__(self, levels: int):
        self.rows = records(level_dtype, levels)
        self.arenas, self.books = records(arena_dtype, 1), records(book_dtype, 1)
        self.arena, self.book = self.arenas[0], self.books[0]
        open_arena(self.arena, self.rows.ctypes.data, levels * LEVEL)
        self.naive = Levels()

    def apply(self, side, px, qty, orders):
        """Apply to both; the return values agree unless there was no room."""
        before = _apply(self.arena, self.book, side, px, qty, orders)
        if before == NO_ROOM:
            return False
        assert before == self.naive.apply(side, px, qty, orders)
        return True

    def levels(self, side):
        """Return the compiled book's side, best first."""
        held = self.book["sides"][side]
        at, count = (int(held["base"]) - self.rows.ctypes.data) // LEVEL, int(held["count"])
        found = self.rows.view(level_dtype)[at : at + count] if count else []
        return [(abs(int(row["key"])), int(row["qty"]), int(row["orders"])) for row in reversed(list(found))]

    def check(self):
        """Both books show the same, to full depth and at the top."""
        for side, name in ((0, "bid"), (1, "ask")):
            expected = self.naive.levels(side)
            assert self.levels(side) == expected
            top = expected[0] if expected else (0, 0, 0)
            assert (int(self.book[f"{name}_px"]), int(self.book[f"{name}_qty"])) == top[:2]


event = st.tuples(st.integers(0, 1), st.integers(1, 60), st.sampled_from([0, 0, 100, 200, 300]), st.integers(1, 3))


@settings(max_examples=120, deadline=None)
@given(st.lists(event, max_size=150))
def test_any_level_events_give_the_naive_book(events):
    """Inserts, changes and removals at any depth, on both sides."""
    twin = Twin(1024)
    for side, px, qty, orders in events:
        twin.apply(side, px * 100, qty, orders)
    twin.check()
    _clear(twin.book)
    twin.naive.clear()
    twin.check()


def test_deep_sides_grow_and_their_old_blocks_are_used_again():
    """A side of 300 levels went through blocks of 16 to 512; clearing keeps the block, and the other side takes the freed ones."""
    twin = Twin(2048)
    for px in range(300, 0, -1):
        twin.apply(0, px * 100, 100, 1)
    used = int(twin.arena["used"])
    for px in range(1000, 1000 + 100):
        twin.apply(1, px * 100, 100, 1)
    twin.check()
    assert used == sum(FIRST_ROOM << k for k in range(6)) * LEVEL
    assert int(twin.arena["used"]) == used        # 16, 32, 64 and 128 came from the free lists


def test_full_arena_refuses_a_level_counts_it_and_keeps_the_book():
    """With room for one block a side, the 17th level is refused and the 16 stay right."""
    twin = Twin(2 * FIRST_ROOM)
    for px in range(1, FIRST_ROOM + 1):
        assert twin.apply(0, px * 100, 100, 1)
        assert twin.apply(1, px * 100 + 9000, 100, 1)

    assert not twin.apply(0, 9900, 100, 1)
    assert int(twin.arena["refused"]) == 1
    twin.check()
