"""The ring against the naive one, over any sequence of steps: nothing lost, twice or half, refusals change nothing."""

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from hftd.shm import ring as rings
from tests.naive.ring import NaiveRing
from tests.support.rings import Ring

CAPACITY = 8
places = st.integers(0, 2)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.integers(1, CAPACITY)),
        st.tuples(st.just("commit"), st.integers(1, 4)),
        st.tuples(st.just("publish"), st.just(0)),
        st.tuples(st.sampled_from(["take_slot", "take_tail", "take_one", "detach", "rejoin", "restart"]), places),
        st.tuples(st.just("observe"), st.integers(1, 12)),
        st.tuples(st.just("producer_restart"), st.just(0)),
        st.tuples(st.just("leave"), places),
        st.tuples(
            st.sampled_from(["rejoin_while", "restart_while"]),
            st.tuples(places, st.integers(0, 11), st.integers(1, 3 * CAPACITY)),
        ),
    ),
    max_size=60,
)


@pytest.fixture(scope="module")
def segment():
    """One segment for all examples; each example starts with it zeroed."""
    made = Ring(CAPACITY)
    yield made
    made.close()


def _fresh(ring: Ring) -> NaiveRing:
    import numpy as np

    for part in ("control", "slots"):
        np.asarray(ring.segment[part]).view(np.uint8)[:] = 0
    ring.producer_again()
    naive = NaiveRing(CAPACITY)
    for place in (0, 1):
        ring.join(place)
        naive.gating[place] = 0
    ring.join(10, gating=False)
    naive.observers[10], naive.lost[10] = 0, 0
    return naive


def _write_on(ring: Ring, naive: NaiveRing, value: int, count: int) -> int:
    """Write and publish `count` records, and detach whoever is in the way, as the feed does; return the next value."""
    for _ in range(count):
        ring.publish()
        naive.publish()
        while not ring.room(1):
            assert not naive.room(1)
            slowest = min(naive.gating, key=lambda place: (naive.gating[place], place))
            assert ring.detach() == slowest
            del naive.gating[slowest]
        assert naive.room(1)
        ring.commit(value)
        naive.commit(value)
        value += 1
    ring.publish()
    naive.publish()
    return value


def _join_while(ring: Ring, naive: NaiveRing, place: int, at: int, value: int, count: int, from_start: bool) -> int:
    """Join, while before load or store number `at` on the way the producer writes `count` records; return the next value.

    Whoever joined is told that it was detached, or stands where nothing was overwritten: at what is published, or where it stood
    before, which is beyond that where it took a record by its slot.
    """
    mine = ring.control["consumers"][place]
    done, stood = 0, naive.gating.get(place, 0)

    def between():
        nonlocal done, value
        if done == at:
            naive.gating.pop(place, None)
            if int(mine["state"]) == rings.GATING:    # what the producer sees of it so far
                naive.gating[place] = int(mine["head"])
            value = _write_on(ring, naive, value, count)
        done += 1

    ring.join_while(place, between, from_start)
    naive.gating.pop(place, None)
    if not ring.detached(place):
        start = int(ring.consumers[place]["next"])
        assert len(naive.written) - CAPACITY <= start <= max(naive.published, stood)
        naive.gating[place] = start
    return value


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps)
@example([("commit", 1), ("take_slot", 0), ("restart_while", (0, 4, 1))])
def test_any_sequence_of_steps_agrees_with_the_naive_ring(segment, sequence):
    """Gating, detaching, joining late, leaving, restarting either side, observing: the same answers at every step."""
    ring, naive = segment, _fresh(segment)
    value = 0
    for step, n in sequence:
        if step in ("write", "commit"):
            before = ring.slots
            there = ring.room(n)
            assert there == naive.room(n)
            if not there:
                assert ring.slots == before
                continue
            for _ in range(n):
                ring.commit(value)
                naive.commit(value)
                value += 1
            if step == "write":
                ring.publish()
                naive.publish()
        elif step == "publish":
            ring.publish()
            naive.publish()
        elif step in ("take_slot", "take_tail") and n in naive.gating:
            assert ring.take(n, step == "take_slot") == naive.take(n, step == "take_slot")
        elif step == "take_one" and n in naive.gating:
            at = naive.gating[n]
            expected = naive.written[at] if at < len(naive.written) else -1
            assert ring.take_one(n) == expected
            naive.gating[n] += expected != -1
        elif step == "detach":
            slowest = min(naive.gating, key=lambda place: (naive.gating[place], place), default=-1)
            assert ring.detach() == slowest
            if slowest >= 0:
                assert ring.detached(slowest)
                del naive.gating[slowest]
        elif step == "rejoin":
            ring.join(n)
            naive.gating[n] = naive.published
        elif step == "restart":
            held = n in naive.gating
            ring.join(n, from_start=True)
            if not held:
                naive.gating[n] = naive.published
        elif step in ("rejoin_while", "restart_while"):
            place, at, count = n
            value = _join_while(ring, naive, place, at, value, count, step == "restart_while")
        elif step == "leave":
            rings.release(ring.segment, n)
            naive.gating.pop(n, None)
        elif step == "producer_restart":
            ring.producer_again()
            naive.restart()
        elif step == "observe":
            for _ in range(n):
                assert ring.observe(10) == naive.observe(10)
            assert int(ring.consumers[10]["lost"]) == naive.lost[10]
    for place in list(naive.gating):
        assert ring.take(place) == naive.take(place, slot_poll=True)


@pytest.mark.parametrize("from_start", [False, True])
@pytest.mark.parametrize("at", range(12))
def test_a_newcomer_that_is_lapped_while_it_joins_knows_it(segment, at, from_start):
    """Wherever on the way: detached, and told; or in a place that the producer heeds."""
    ring, naive = segment, _fresh(segment)
    rings.release(ring.segment, 0)
    naive.gating.pop(0)
    ring.take(1)
    value = _write_on(ring, naive, 0, 5)
    value = _join_while(ring, naive, 0, at, value, 3 * CAPACITY, from_start)
    told = ring.detached(0)
    if not told:
        assert ring.take(0) == naive.take(0, slot_poll=True)
    _write_on(ring, naive, value, 2 * CAPACITY)
    assert ring.detached(0)
