"""When a packet arrived: the return of the receive call, or the kernel's own stamp; and what waiting in the socket is told by."""

import struct

import numpy as np
import pytest

from hftd.core import clock as clocks
from hftd.core.jit import hot
from hftd.core.memory import address, block
from hftd.feed.memory import HISTOGRAMS
from hftd.venues.nasdaq import moldfeed
from tests.support import itch_messages as itch
from tests.support.feed_books import Feed
from tests.support.live_feed import Live

WAIT = HISTOGRAMS.index("wait")
HELD_S = 0.03


@hot
def _arrival(agent, header, now):
    return moldfeed.arrival(agent, header, now)


def session():
    book = [itch.add(9, 1, "B", 100, 1_000_000), itch.add(9, 2, "S", 100, 1_000_100)]
    return [itch.directory(9, "AAPL"), itch.action(9, "T"), *book]


def held_up(stamps):
    """A packet lies in the socket for HELD_S before the feed looks. Returns (events, ticks at send and at receipt, live)."""
    live = Live(stamps=stamps)
    live.messages = session()
    live.step()                                   # compiled before a packet waits
    live.publish(1, 2)
    live.until(lambda: live.expected() == 3)
    before = len(live.events())
    sent = clocks.now_ticks()
    live.publish(3, 2)
    while clocks.now_ticks() - sent < HELD_S * int(live.agent.clock["hz"]):
        pass
    looked = clocks.now_ticks()
    live.until(lambda: live.expected() == 5)
    return live.events()[before:], sent, looked, live


def waits(live):
    return live.memory["market"]["histograms"][WAIT]


def test_kernel_stamp_is_the_arrival_however_late_the_feed_looks():
    """The receipt lies between sending and looking: near sending; so waiting in the socket counts as the feed's time."""
    events, sent, looked, live = held_up("kernel")
    try:
        late = int(HELD_S * int(live.agent.clock["hz"]))
        for event in events:
            assert sent - late // 10 <= int(event["ts_recv"]) < looked
            assert int(event["t_feed"]) > 0
        assert int(events[0]["ts_recv"]) - sent < late, "the stamp is of the looking"
        assert int(events[-1]["t_feed"]) + int(events[-1]["ts_recv"]) >= looked
        assert live.counter("unstamped") == 0
        assert int(waits(live)["largest"]) >= looked - sent - late // 2
    finally:
        live.close()


def test_without_the_kernels_stamp_the_wait_is_bounded_by_the_look_before():
    """The receipt is that of the call; the histogram says how long it may have waited at most."""
    events, _, looked, live = held_up("tsc")
    try:
        assert all(int(event["ts_recv"]) >= looked for event in events)
        assert int(waits(live)["largest"]) >= HELD_S * int(live.agent.clock["hz"])
    finally:
        live.close()


def test_many_packets_in_one_call_each_have_their_own_stamp():
    """Control messages of the whole batch are read and given back to the kernel at full size, again and again."""
    live = Live(stamps="kernel")
    try:
        live.messages = session() + [itch.add(9, 10 + number, "B", 100, 990_000) for number in range(200)]
        for round_at in range(1, 200, 50):
            for at in range(round_at, round_at + 50):
                live.publish(at, 1)
            live.until(lambda wanted=round_at + 50: live.expected() == wanted)
        stamps = live.events()["ts_recv"]
        assert np.all(np.diff(stamps) >= 0) and len(np.unique(stamps)) > 150
        assert live.counter("unstamped") == 0
    finally:
        live.close()


@pytest.mark.parametrize(("length", "kind", "stamp_ns", "age"), [
    (32, 35, -5_000, 5_000), (32, 35, 0, 0), (32, 35, -9_999_999_999, 9_999_999_999),
    (0, 35, -5_000, None), (32, 37, -5_000, None), (32, 35, 1, None), (32, 35, -10_000_000_001, None),
])  # fmt: skip
def test_stamp_is_believed_only_where_it_can_be(length, kind, stamp_ns, age):
    """No control message, one of another kind, a stamp of the future or of long ago: the receipt is the call's, and counted."""
    feed = Feed()
    agent = feed.build.agent
    memory = block(4096)
    at = address(memory)
    now_ns = 1_800_000_000_123_456_789
    agent["per_ns"], agent["time_at"] = 3 << 32, at + 256
    struct.pack_into("=qq", memory, 256, *divmod(now_ns, 10**9))
    struct.pack_into("=QQ", memory, moldfeed.MSG_CONTROL, at + 128, length)
    struct.pack_into("=QIIqq", memory, 128, 32, 1, kind, *divmod(now_ns + stamp_ns, 10**9))
    now = 1 << 60
    found = int(_arrival(agent, at, now))
    assert found == (now if age is None else now - 3 * age)
    assert int(feed.build.counters["unstamped"]) == (age is None)
    if length:
        assert struct.unpack_from("=Q", memory, moldfeed.MSG_CONTROL_LENGTH)[0] == moldfeed.CONTROL_ROOM
