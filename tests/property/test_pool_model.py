"""The pool against a set: no row is ever in two hands, none is lost, and the counts are right."""

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.pools import Pool

USABLE = 12


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(["i4", "i8"]), st.lists(st.integers(-1, USABLE), max_size=120))
def test_a_row_is_in_one_hand_at_a_time(width, steps):
    """-1 gives all back; 0..3 take; above, one of the rows held is given back. Content written to a row stays while it is held."""
    pool, held = Pool(USABLE + 1, width), []
    peak = refused = 0
    for step in steps:
        if step == -1:
            pool.reset()
            held = []
        elif step <= 3 or not held:
            index = pool.take()
            if len(held) == USABLE:
                assert index == 0
                refused += 1
            else:
                assert 1 <= index <= USABLE and index not in held
                held.append(index)
                pool.rows["value"][index] = index * 1000
                peak = max(peak, len(held))
        else:
            pool.give(held.pop(step % len(held)))
        assert (pool.used, pool.most_used, pool.refused) == (len(held), peak, refused)
        assert all(int(pool.rows["value"][index]) == index * 1000 for index in held)
