"""hftd/shm/ring.py: what each side may see, what a full ring refuses, who is lost, who comes back."""

import pytest

from hftd.shm import ring
from tests.support.rings import Ring


@pytest.fixture
def small():
    """A ring of eight slots with gating consumer 0."""
    made = Ring(8)
    made.join(0)
    yield made
    made.close()


def test_records_come_out_in_order_and_whole(small):
    """Many times around a small ring, both ways to poll."""
    for value in range(100):
        assert small.room()
        small.commit(value)
        small.publish()
        assert small.take(0, slot_poll=bool(value % 2)) == [value]
    assert small.take(0) == []


def test_a_full_ring_refuses_and_keeps_its_content(small):
    """Refusal changes no slot, and is counted; one record read makes room for one."""
    for value in range(8):
        assert small.room()
        small.commit(value)
    small.publish()
    before = small.slots
    assert not small.room() and not small.room() and not small.push(99)
    assert small.slots == before
    assert int(small.control["full"]) == 3
    assert small.take_one(0) == 0
    assert small.room() and not small.room(2)
    small.commit(8)
    assert small.take(0) == list(range(1, 9))


def test_a_batch_is_seen_by_slot_at_once_and_by_tail_after_publish(small):
    """`ready` follows commits; `available` follows publish, and is never negative where ready ran ahead."""
    small.commit(1)
    small.commit(2)
    assert small.waiting(0) == (0, True)
    assert small.take_one(0, slot_poll=True) == 1
    assert small.waiting(0) == (0, True)
    assert small.take_one(0, slot_poll=False) == -1
    small.publish()
    assert small.waiting(0) == (1, True)
    assert small.take(0, slot_poll=False) == [2]


def test_an_unpublished_batch_never_passes_the_capacity(small):
    """With nobody gating, a producer that forgets to publish is stopped by its own batch."""
    ring.release(small.segment, 0)
    for value in range(8):
        assert small.room()
        small.commit(value)
    assert not small.room()
    small.publish()
    assert small.room()


def test_push_copies_a_record_without_its_seq(small):
    """The cold way in: payload copied, sequence the ring's own."""
    assert small.push(41)
    slot = small.segment["slots"][0]
    assert (int(slot["a"]), int(slot["b"]), int(slot["seq"])) == (41, 42, 1)
    assert small.waiting(0) == (1, True)


def test_the_slowest_gating_consumer_holds_the_producer(small):
    """Others being fast does not help."""
    small.join(3)
    for value in range(8):
        small.commit(value)
    small.publish()
    assert small.take(3) == list(range(8))
    assert not small.room()
    assert small.take_one(0) == 0
    assert small.room() and not small.room(2)


def test_a_detached_consumer_no_longer_holds_and_knows_it(small):
    """The slowest is detached, by index; it sees that, joins at the tail, and gates again."""
    small.join(5)
    for value in range(8):
        small.commit(value)
    small.publish()
    assert small.take(5) == list(range(8))
    assert small.detach() == 0
    assert small.detached(0) and not small.detached(5)
    assert small.room()
    small.commit(8)
    small.publish()
    small.join(0)
    assert not small.detached(0) and small.take(0) == []
    small.commit(9)
    assert small.take(0) == [9]
    assert small.detach() == 5


def test_nobody_to_detach(small):
    """Without gating consumers detaching finds none; an observer is not one."""
    ring.release(small.segment, 0)
    small.join(1, gating=False)
    assert small.detach() == -1


def test_an_observer_that_was_lapped_counts_what_it_lost(small):
    """It resumes half a ring behind the tail."""
    small.join(7, gating=False)
    for value in range(29):
        small.commit(value)
        small.publish()
        small.take(0)
    assert small.observe(7) == (-1, None)
    assert int(small.consumers[7]["lost"]) == 25
    assert [small.observe(7) for _ in range(5)] == [(1, 25), (1, 26), (1, 27), (1, 28), (0, None)]


def test_an_observer_does_not_take_a_slot_that_is_being_written(small):
    """Not there yet; and once the producer may be a lap ahead, lapped, whatever the slot says: never half."""
    small.join(7, gating=False)
    small.segment["slots"][0]["a"] = 77
    assert small.observe(7) == (0, None)
    for value in range(8):
        small.commit(value)
    small.publish()
    small.take(0)
    assert small.room()
    assert int(small.segment["slots"][0]["seq"]) == 1 and int(small.control["reach"]) == 10
    assert small.observe(7) == (-1, None)
    assert int(small.consumers[7]["lost"]) == 4 and small.observe(7) == (1, 4)


def test_reach_is_told_before_a_slot_is_written(small):
    """An eighth of the ring beyond what is asked for; never beyond what the consumers allow."""
    assert small.room() and int(small.control["reach"]) == 2
    assert small.room(2) and int(small.control["reach"]) == 2
    assert small.room(5) and int(small.control["reach"]) == 6
    for value in range(5):
        small.commit(value)
    assert small.room(3) and int(small.control["reach"]) == 8
    for value in range(3):
        small.commit(value)
    small.publish()
    assert not small.room() and int(small.control["reach"]) == 8


def test_reach_never_goes_back(small):
    """A newcomer stands at the tail it read a moment ago, then corrects itself: until then there is no room, no more."""
    small.join(7, gating=False)
    for value in range(24):
        small.commit(value)
        small.publish()
        small.take(0)
    assert small.room() and int(small.control["reach"]) >= 25
    reach = int(small.control["reach"])
    newcomer = small.control["consumers"][4]
    newcomer["head"], newcomer["state"] = 3, ring.GATING
    assert not small.room(8) and int(small.control["reach"]) == reach
    newcomer["head"] = 24
    assert small.room()
    assert small.observe(7)[0] == -1


def test_a_watcher_starts_half_a_ring_back(small):
    """The CLI sees the recent past."""
    for value in range(20):
        small.commit(value)
        small.publish()
        small.take(0)
    small.watch(99)
    assert [small.observe(99)[1] for _ in range(4)] == [16, 17, 18, 19]
    assert small.observe(99) == (0, None)


def test_a_new_producer_takes_up_committed_records_that_were_never_published(small):
    """Those who poll slots may have acted on them already; a slot left half written is written again."""
    for value in range(3):
        small.commit(value)
    small.segment["slots"][3]["a"] = 99
    assert small.take(0) == [0, 1, 2]
    small.producer_again()
    assert int(small.control["tail"]) == 3
    small.commit(3)
    small.publish()
    assert small.take(0, slot_poll=False) == [3]


def test_a_new_producer_is_held_by_old_consumers(small):
    """Its first look is at the consumers, not at a limit made up."""
    for value in range(8):
        small.commit(value)
    small.publish()
    small.producer_again()
    assert not small.room()
    assert small.take(0) == list(range(8))
    assert small.room(8)


def test_a_consumer_that_died_finds_what_it_missed(small):
    """Its place went on gating; from_start resumes at its head."""
    small.commit(1)
    assert small.take(0) == [1]
    for value in (2, 3, 4):
        small.commit(value)
    small.publish()
    small.join(0, from_start=True)
    assert small.take(0) == [2, 3, 4]


def test_a_reserved_place_keeps_everything_for_who_comes_later(small):
    """And a place that nobody held starts at the tail: the producer may have passed it."""
    ring.reserve(small.segment, 2)
    for value in range(8):
        small.commit(value)
    small.publish()
    assert small.take(0) == list(range(8))
    assert not small.room()
    small.join(2, from_start=True)
    small.join(4, from_start=True)
    assert small.take(2) == list(range(8)) and small.take(4) == []


def test_whoever_joins_in_the_middle_of_a_batch_is_not_lapped(small):
    """The limit the producer cached before does not reach past what the newcomer has to read."""
    ring.release(small.segment, 0)
    for value in range(3):
        small.commit(value)
        small.publish()
    small.commit(3)
    small.commit(4)
    assert small.room()
    small.join(6)
    written = 5
    while small.room() and written < 100:
        small.commit(written)
        written += 1
    small.publish()
    assert small.take(6) == list(range(3, written))
    assert written <= 3 + 8


def test_sequences_far_along_do_not_matter(small):
    """Nine years at a hundred million a second: the mask and the comparison still hold."""
    far = (1 << 55) + 3
    small.control["tail"] = far
    small.producer_again()
    small.join(0)
    for value in range(8):
        assert small.room()
        small.commit(value)
    assert not small.room()
    small.publish()
    assert small.take(0, slot_poll=False) == list(range(8))


@pytest.mark.parametrize("capacity", [0, 1, 3, 12, -8])
def test_a_capacity_that_is_no_power_of_two_is_refused(capacity):
    """The mask would lie."""
    with pytest.raises(ValueError, match="power of two"):
        ring.parts(capacity)


@pytest.mark.parametrize("place", [-1, ring.CONSUMERS])
def test_a_place_outside_the_ring_is_refused(small, place):
    """There are CONSUMERS places."""
    with pytest.raises(ValueError, match="consumer must be 0"):
        small.join(place)
    with pytest.raises(ValueError, match="consumer must be 0"):
        ring.reserve(small.segment, place)
