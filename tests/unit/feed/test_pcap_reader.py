"""Captures of every kind hold the same session; what cannot be read is counted or refused, and never guessed at."""

import gzip
import json
import random
import struct
import subprocess

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from hftd.feed.books import books
from hftd.feed.files import DataError, ItchFile
from hftd.feed.sources import desk as desks
from hftd.feed.sources.capture import CaptureFile, is_capture
from tests.support import captures as cap
from tests.support import itch_messages as itch
from tests.support.data import shared_data

T0 = 1_700_000_000_123_456_789
SESSION = "SYNTH00001"
FATES = ("packets", "other_lines", "not_ip", "ipv6", "not_udp", "fragments", "truncated", "malformed", "too_long", "unknown_links")
"""What becomes of a frame: one of these."""

MESSAGES = [itch.directory(7, "AAPL"), *(itch.add(7, ref, "BS"[ref % 2], 100, 1_000_000 + 100 * (ref % 2) + ref % 5, ts=ref * 1000)
                                         for ref in range(1, 60))]  # fmt: skip


def payloads(size: int = 7) -> list[bytes]:
    """The session as packets of `size` messages, and its end."""
    made = [itch.packet(SESSION, at + 1, *MESSAGES[at : at + size]) for at in range(0, len(MESSAGES), size)]
    return [*made, SESSION.encode() + struct.pack(">QH", len(MESSAGES) + 1, 0xFFFF)]


def run(path, lines=(), take=None, chunk_bytes: int = 1 << 20, symbols=()):
    """Play a capture; return the desk after it."""
    wanted = desks.wanted_of(desks.parse_lines(list(lines)), None)
    source = CaptureFile(path, wanted, chunk_bytes=chunk_bytes)
    made = desks.Desk(desks.settings(None, [], list(symbols), 4096, offline=True), take=take)
    try:
        made.run_capture(source, desks.Pace(), [])
    finally:
        made.close()
    return made


def play(tmp_path, data: bytes, **how):
    """Play the bytes of a capture."""
    path = tmp_path / "made.cap"
    path.write_bytes(data)
    return run(path, **how)


def sound(desk, frames: int | None = None) -> bool:
    """Tell whether the whole session was heard, once."""
    facts = desk.summary()
    assert facts["capture"]["frames"] == (frames or facts["capture"]["frames"])
    assert not any(facts["errors"].values()), facts["errors"]
    return facts["messages"] == len(MESSAGES) and facts["live_orders"] == 59 and facts["session"] == SESSION


# ---------------------------------------------------------------- formats


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=some.sampled_from("<>"), kind=some.sampled_from(("micro", "nano", "pcapng")), zipped=some.booleans(),
       link=some.sampled_from((cap.ETHERNET, cap.NULL, cap.RAW, cap.RAW_BSD, cap.COOKED, cap.IPV4, cap.COOKED2)),
       tags=some.sampled_from(((), (0x8100,), (0x88A8, 0x8100), (0x9100, 0x8100), (0x8100, 0x8100, 0x8100))),
       options=some.integers(0, 10), padding=some.integers(0, 30), size=some.integers(1, 25), chunk=some.integers(4096, 9000))
def test_every_format_link_and_byte_order_gives_the_same_session(tmp_path, order, kind, zipped, link, tags, options, padding, size,
                                                                chunk):  # fmt: skip
    if link == cap.COOKED2:
        tags = ()
    frames = [(T0 + 1000 * i, cap.framed(cap.udp(payload, options=options), link, tags) + bytes(padding))
              for i, payload in enumerate(payloads(size))]  # fmt: skip
    data = cap.pcapng(frames, order, link) if kind == "pcapng" else cap.pcap(frames, order, kind == "nano", link)
    path = tmp_path / "made.cap"
    path.write_bytes(gzip.compress(data) if zipped else data)
    assert is_capture(path)

    stamps = []
    desk = run(path, take=lambda events: stamps.extend(events["ts_recv"].tolist()), chunk_bytes=chunk)

    assert sound(desk, len(frames)) and desk.capture.counts()["packets"] == len(frames)
    assert desk.capture.counts()["vlan"] == (len(frames) if tags and link in (cap.ETHERNET, cap.COOKED) else 0)
    unit = 1000 if kind == "micro" else 1
    assert stamps[0] == T0 // unit * unit and stamps[-1] == (T0 + 1000 * (len(frames) - 2)) // unit * unit
    assert int(desk.capture.state["now"]) == (T0 + 1000 * (len(frames) - 1)) // unit * unit


@pytest.mark.timeout(60)
@pytest.mark.parametrize("resolution", [0, 6, 9, 0x80 | 1])
@pytest.mark.parametrize("units", [(1 << 64) - 1, 1 << 63, (1 << 62) + 1])
def test_a_stamp_of_no_time_on_earth_is_not_waited_for(tmp_path, resolution, units):
    """It lies beyond the limit that stands for none: the walk stopped there, was asked again, and stopped, for ever."""
    packets = [itch.packet("SESSION001", 1, itch.directory(7, "AAPL")), itch.packet("SESSION001", 2, itch.delete(7, 1))]
    raw = b"".join(cap.enhanced(cap.framed(cap.udp(packet)), units) for packet in packets)
    desk = play(tmp_path, cap.section() + cap.interface(resolution=resolution) + raw)
    assert desk.capture.counts()["frames"] == 2 and desk.summary()["messages"] == 2


LATEST_S = (1 << 62) // 10**9 * 10**9


@pytest.mark.parametrize(("resolution", "units", "offset", "ns"), [
    (None, 1_700_000_000_123_456, 0, 1_700_000_000_123_456_000), (6, 1_700_000_000_123_456, 0, 1_700_000_000_123_456_000),
    (3, 1_700_000_000_123, 0, 1_700_000_000_123_000_000), (0, 1_700_000_000, 0, 1_700_000_000_000_000_000),
    (9, T0, 0, T0), (9, T0 - 10**18, 10**9, T0), (12, 1_700_000_000_123 * 1000, 0, 1_700_000_000_123),
    (0x80 | 10, (1_700_000_000 << 10) + 512, 0, 1_700_000_000_500_000_000),
    (0x80 | 32, (1_700_000_000 << 32) + (1 << 30), 0, 1_700_000_000_250_000_000),
    (0x80 | 40, (1_700_000 << 40) + (3 << 38), 0, 1_700_000_750_000_000),
    # beyond 2**63 units, as every stamp of today in these units is
    (10, 17_000_000_001_234_567_891, 0, 1_700_000_000_123_456_789), (10, (1 << 64) - 1, 0, 1_844_674_407_370_955_161),
    (0x80 | 33, (1_700_000_000 << 33) + (3 << 31), 0, 1_700_000_000_750_000_000),
    (12, 17_000_000_000_000_000_007, 1_683_000_000, 1_700_000_000_000_000_000),
    (0x80 | 63, (1 << 63) + (1 << 62), 1_700_000_000, 1_700_000_001_500_000_000),
    (19, (1 << 64) - 1, 1_700_000_000, 1_700_000_001_844_674_407),
    (9, 10**9, -5, 0), (6, 1 << 60, 0, 1 << 62), (3, (1 << 64) - 5, 0, 1 << 62), (0x80 | 2, 1 << 62, 0, LATEST_S),
])  # fmt: skip
def test_stamps_of_any_unit_become_nanoseconds(tmp_path, resolution, units, offset, ns):
    packet = cap.framed(cap.udp(payloads(60)[0]))
    desk = play(tmp_path, cap.section() + cap.interface(resolution=resolution, offset=offset) + cap.enhanced(packet, units))

    assert int(desk.capture.state["now"]) == ns


def test_sections_of_both_orders_and_interfaces_of_several_kinds_in_one_file(tmp_path):
    first, second, third, *rest = (cap.udp(payload) for payload in payloads(5))
    data = cap.section("<") + cap.interface("<", resolution=6) + cap.interface("<", cap.RAW)
    data += cap.enhanced(cap.framed(first), T0 // 1000) + cap.enhanced(second, T0 + 1000, which=1)
    data += cap.block("<", 4, b"names") + cap.block("<", 0x80000001, bytes(20))  # types that are not for us
    data += cap.section(">") + cap.interface(">", cap.COOKED)
    data += cap.enhanced(cap.framed(third, cap.COOKED), T0 + 2000, ">")
    data += b"".join(cap.simple(cap.framed(packet, cap.COOKED), ">") for packet in rest)
    desk = play(tmp_path, data)

    counts = desk.capture.counts()
    assert sound(desk) and counts["blocks_skipped"] == 2 and counts["stampless"] == len(rest)


def test_what_a_capture_lost_is_told(tmp_path):
    statistics = struct.pack("<III", 0, 0, 0) + struct.pack("<HHQ", 5, 8, 41) + struct.pack("<HH", 0, 0)
    data = cap.pcapng([(T0, cap.framed(cap.udp(payload))) for payload in payloads()])
    more = statistics.replace(struct.pack("<Q", 41), struct.pack("<Q", 43))
    desk = play(tmp_path, data + cap.block("<", 5, statistics) + cap.block("<", 5, more))

    assert desk.capture.counts()["drops"] == 43


# ---------------------------------------------------------------- frames that are not ours


def test_each_frame_that_cannot_be_used_is_counted_under_its_reason(tmp_path):
    good = [cap.framed(cap.udp(payload)) for payload in payloads()]
    datagram = cap.udp(payloads()[0])
    broken_size = bytearray(datagram)
    broken_size[24:26] = struct.pack(">H", 5000)      # UDP longer than IP
    odd = {
        "ipv6": [cap.framed(bytes([0x60]) + bytes(60), ethertype=0x86DD)] * 2,
        "not_ip": [cap.framed(bytes(46), ethertype=kind) for kind in (0x0806, 0x0040, 0x88CC)],
        "not_udp": [cap.framed(cap.udp(payloads()[0], protocol=6))],
        "fragments": [cap.framed(cap.udp(payloads()[0], fragment=bits)) for bits in (0x2000, 0x2005, 0x0001)],
        "malformed": [cap.framed(bytes(broken_size)), cap.framed(b"\x44" + datagram[1:]), cap.framed(b"\x55" + datagram[1:]),
                      cap.framed(datagram[:2] + b"\0\1" + datagram[4:])],
        "other_lines": [cap.framed(cap.udp(b"not MoldUDP64", to="239.9.9.9"))],
    }  # fmt: skip
    frames = [frame for frames in odd.values() for frame in frames]
    desk = play(tmp_path, cap.pcap([(T0 + i, frame) for i, frame in enumerate(frames + good)]))

    counts = desk.capture.counts()
    assert sound(desk) and {name: counts[name] for name in odd} == {name: len(frames) for name, frames in odd.items()}
    assert counts["frames"] == len(frames) + len(good) == sum(counts[name] for name in (*odd, "packets", "truncated"))


def test_do_not_fragment_is_no_fragment(tmp_path):
    assert sound(play(tmp_path, cap.pcap([(T0, cap.framed(cap.udp(payload, fragment=0x4000))) for payload in payloads()])))


@pytest.mark.parametrize("link", [cap.ETHERNET, cap.COOKED, cap.COOKED2, cap.RAW, cap.NULL])
def test_frames_cut_by_the_capture_are_counted_wherever_the_cut_is(tmp_path, link):
    whole = cap.framed(cap.udp(payloads(30)[0]), link, (0x8100,) if link == cap.ETHERNET else ())
    for snap in {1, 3, 12, 13, 15, 16, 17, 18, 19, 21, 25, 33, 37, 40, 45, 60, len(whole) - 1}:
        desk = play(tmp_path, cap.pcap([(T0, whole)], link=link, snap=snap))
        counts = desk.capture.counts()
        assert (counts["truncated"], counts["packets"]) == (1, 0) and desk.summary()["messages"] == 0


def test_a_payload_longer_than_the_feed_takes_is_counted(tmp_path):
    frames = [(T0, cap.framed(cap.udp(payload))) for payload in payloads()]
    long = cap.framed(cap.udp(itch.packet(SESSION, 1, *MESSAGES)))
    desk = play(tmp_path, cap.pcap([*frames[:2], (T0, long), *frames[2:]]))

    assert sound(desk) and desk.capture.counts()["too_long"] == 1


# ---------------------------------------------------------------- lines


def test_two_lines_of_a_session_are_found_and_a_third_or_another_session_is_not(tmp_path):
    frames = []
    for i, payload in enumerate(payloads()):
        other = payload.replace(SESSION.encode(), b"ANOTHER001")
        for to, data in (("239.1.1.1", payload), ("239.1.1.9", other), ("239.1.1.2", payload), ("239.1.1.3", payload)):
            frames.append((T0 + i, cap.framed(cap.udp(data, to=to))))
    desk = play(tmp_path, cap.pcap(frames))

    assert sound(desk)
    assert [(row["to"], row["line"]) for row in desk.capture.lines()] == [
        ("239.1.1.1:4000", "A"), ("239.1.1.9:4000", None), ("239.1.1.2:4000", "B"), ("239.1.1.3:4000", None),
    ]  # fmt: skip
    lines = desk.summary()["lines"]
    assert lines["a"]["packets"] == lines["b"]["packets"] == len(payloads())
    assert lines["b"]["first"] == 0 and lines["b"]["duplicates"] == len(payloads()) - 1


@pytest.mark.parametrize("lines", [(), (f"{cap.GROUP}:{cap.PORT}",)])
def test_a_line_is_found_behind_any_number_of_other_destinations(tmp_path, lines):
    """The table was full, and everything that came after it was another line's: no message, no error."""
    others = [(T0, cap.framed(cap.udp(b"hello", port=5000 + each))) for each in range(200) for _ in range(1 + each % 3)]
    desk = play(tmp_path, cap.pcap(others + [(T0, cap.framed(cap.udp(payload))) for payload in payloads()]), lines=lines)

    assert sound(desk) and desk.capture.counts()["other_lines"] == len(others)
    assert desk.capture.counts()["forgotten"] == 201 - 64
    assert [row["packets"] for row in desk.capture.lines() if row["line"] == "A"] == [len(payloads())]


def test_a_port_that_more_addresses_have_than_the_table_takes_the_first_of_them(tmp_path):
    """All that are in the table are lines then, and none of them leaves."""
    frames = [(T0, cap.framed(cap.udp(b"hello", to=f"239.1.{each // 250}.{1 + each % 250}", port=7))) for each in range(300)]
    counts = play(tmp_path, cap.pcap(frames), lines=["0.0.0.0:7"]).capture.counts()

    assert (counts["packets"], counts["other_lines"], counts["forgotten"]) == (64, 236, 0)


def test_lines_that_are_named_are_taken_and_no_others(tmp_path):
    frames = [(T0, cap.framed(cap.udp(payload, to=to, port=port))) for payload in payloads()
              for to, port in (("239.1.1.1", 1), ("239.1.1.1", 2), ("239.1.1.2", 2))]  # fmt: skip
    desk = play(tmp_path, cap.pcap(frames), lines=["239.1.1.2:2", "239.1.1.1:1"])

    assert sound(desk) and [row["line"] for row in desk.capture.lines()] == ["B", None, "A"]


def test_a_capture_that_begins_within_a_session_says_so(tmp_path):
    frames = [(T0 + i, cap.framed(cap.udp(payload))) for i, payload in enumerate(payloads())]
    facts = play(tmp_path, cap.pcap(frames[2:])).summary()

    assert facts["messages"] == len(MESSAGES) - 14 and facts["gaps"]["lost_messages"] == 14
    assert facts["state"] == "STALE" and facts["live_orders"] == 59 - 13 and facts["next_sequence"] == len(MESSAGES) + 1


@pytest.mark.parametrize("lost", [1, 4, 8])
def test_line_b_fills_what_line_a_lost_and_a_loss_on_both_is_told(tmp_path, lost):
    packets = payloads()
    frames = [(T0 + 10_000 * i, cap.framed(cap.udp(payload, to=to))) for i, payload in enumerate(packets)
              for to in ("239.1.1.1", "239.1.1.2") if not (i == lost and to == "239.1.1.1")]  # fmt: skip
    desk = play(tmp_path, cap.pcap(frames))
    assert sound(desk) and desk.summary()["state"] == "LIVE"

    frames = [(T0 + 10_000 * i, cap.framed(cap.udp(payload))) for i, payload in enumerate(packets) if i != lost]
    facts = play(tmp_path, cap.pcap(frames)).summary()
    missing = len(MESSAGES[7 * lost : 7 * lost + 7])
    assert facts["messages"] == len(MESSAGES) - missing and facts["gaps"]["gaps"] == 1
    assert facts["gaps"]["lost_messages"] == (missing if lost < 8 else 0) and facts["state"] == "STALE"


# ---------------------------------------------------------------- damage


@pytest.mark.parametrize(("data", "says"), [
    (b"", "is empty"), (b"hello, this is text", "is not a capture"), (b"\x28\xb5\x2f\xfd" + bytes(30), "zstd -d"),
    (b"\xa1\xb2\xcd\x34" + bytes(30), "editcap"), (struct.pack("<IHHiIII", 0xA1B2C3D4, 1, 0, 0, 0, 9, 1), "version 1"),
    (struct.pack("<IHHiII", 0xA1B2C3D4, 2, 4, 0, 0, 9), "cut short"), (b"\x0a\x0d\x0d\x0a" + bytes(40), "makes no sense"),
    (cap.section() + cap.enhanced(bytes(60), 1), "make no sense"), (cap.section()[:20], "cut short"),
    (cap.section() + cap.interface() + cap.block("<", 3, b""), "make no sense"),
    (cap.section() + cap.block("<", 1, b"")[:12], "makes no sense"),
    (cap.section() + cap.interface(resolution=0x80 | 70), "makes no sense"), (cap.pcap([]) + b"\xff" * 16, "make no sense"),
    (cap.section() + cap.interface() + struct.pack("<II", 6, 33) + bytes(25), "make no sense"),
    (cap.section() + cap.interface() + cap.enhanced(bytes(60), 1)[:-4] + b"\0\0\0\1", "make no sense"),
    (gzip.compress(cap.pcap([(T0, bytes(60))]))[:-20], "gzip"),
])  # fmt: skip
def test_damage_is_one_line_that_names_file_and_place(tmp_path, data, says):
    with pytest.raises(DataError) as error:
        play(tmp_path, data)
    assert says in str(error.value) and "made.cap" in str(error.value) and "\n" not in str(error.value)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=some.integers(1, 4000), kind=some.booleans())
def test_a_file_cut_anywhere_gives_what_came_before_and_an_error(tmp_path, cut, kind):
    frames = [(T0 + i, cap.framed(cap.udp(payload))) for i, payload in enumerate(payloads())]
    whole = cap.pcapng(frames) if kind else cap.pcap(frames)
    cut = cut % len(whole)
    heads = [28, 60] if kind else [24]
    ends = [*heads]
    for _, frame in frames:
        ends.append(ends[-1] + (32 + len(frame) + -len(frame) % 4 if kind else 16 + len(frame)))
    path = tmp_path / "cut.cap"
    path.write_bytes(whole[:cut])
    if cut in ends:
        assert run(path).capture.counts()["frames"] == max(ends.index(cut) - len(heads) + 1, 0)
        return
    with pytest.raises(DataError, match=r"cut short|is empty|is not a capture"):
        run(path)


@pytest.mark.parametrize(("spoil", "says"), [
    (lambda data: data[: len(data) * 3 // 4], "cut short: the gzip stream has no end"),
    (lambda data: data + b"more", "damaged gzip file"),
])  # fmt: skip
def test_what_a_spoilt_gzip_file_still_holds_is_read(tmp_path, spoil, says):
    """All that was unpacked in the step in which the end was missed, megabytes, was let go."""
    noise = random.Random(3)
    frames = [(T0 + each, cap.framed(cap.udp(noise.randbytes(300)))) for each in range(2000)]
    path = tmp_path / "made.cap"
    path.write_bytes(spoil(gzip.compress(cap.pcap(frames))))
    desk = desks.Desk(desks.settings(None, [], [], 4096, offline=True))
    try:
        with pytest.raises(DataError, match=says):
            desk.run_capture(CaptureFile(path), desks.Pace(), [])
    finally:
        desk.close()

    assert desk.capture.counts()["frames"] > 1200


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=some.lists(some.tuples(some.integers(0, 1 << 16), some.integers(0, 255)), min_size=1, max_size=8),
       kind=some.booleans())
def test_changed_bytes_never_do_more_than_an_error_or_a_count(tmp_path, changes, kind):
    frames = [(T0 + i, cap.framed(cap.udp(payload))) for i, payload in enumerate(payloads())]
    data = bytearray(cap.pcapng(frames) if kind else cap.pcap(frames))
    for at, value in changes:
        data[at % len(data)] = value
    path = tmp_path / "changed.cap"
    path.write_bytes(data)
    try:
        facts = run(path).summary()
    except DataError:
        return
    counts = facts["capture"]
    assert counts["frames"] == sum(counts[name] for name in FATES)


# ---------------------------------------------------------------- genuine captures

AAPL = "itch50-aapl-20200130"


def test_the_captured_day_makes_the_same_books_and_best_prices_as_the_file():
    wanted = books(shared_data(f"{AAPL}/aapl_20200130.itch.gz"))
    desk = run(shared_data(f"{AAPL}/aapl_20200130.moldudp64.pcap.gz"))
    facts = desk.summary()

    assert facts["counts"] == wanted["counts"] and facts["executed_shares"] == wanted["executed_shares"]
    assert not any(facts["errors"].values()) and facts["capture"]["frames"] == facts["capture"]["packets"]
    final = json.loads(shared_data(f"{AAPL}/l3_final.json").read_text())
    book = desk.book("AAPL", 10_000)
    for side in ("bids", "asks"):
        levels = [[level["px"], sum(qty for _, qty in level["orders"]), len(level["orders"])] for level in final[side]]
        assert book[side] == levels
    assert [book["bids"][0][0], book["asks"][0][0]] == [wanted["bbo"][0]["bid_px"], wanted["bbo"][0]["ask_px"]]


def test_genuine_packets_of_the_wire_are_read_tags_and_all():
    folder = shared_data("nasdaq-wire-captures/README.md").parent
    itch_files = sorted(path for path in folder.glob("*.pcap") if "Itch" in path.name)
    tagged = 0
    for path in itch_files:
        counts = run(path).capture.counts()
        assert counts["frames"] == counts["packets"] > 0, path.name
        tagged += counts["vlan"]
    assert len(itch_files) == 11 and tagged > 0
    several = run(next(path for path in itch_files if "Multiple" in path.name)).summary()
    assert several["messages"] >= 1 and several["state"] == "STALE" and several["gaps"]["lost_messages"] >= 14_764_494
    for path in folder.glob("*Ouch*.pcap"):
        counts = run(path).capture.counts()
        assert counts["frames"] == counts["not_udp"] == 1


@pytest.mark.parametrize(("name", "cut"), [("DEEP10.pcap.gz", True), ("TOPS16.pcapng.gz", False)])
def test_captures_of_another_feed_are_framed_right_and_never_taken_for_ours(name, cut):
    oracle = json.loads(shared_data(f"iex-tp-2017/{name.split('.')[0]}.counts.json").read_text())
    source = CaptureFile(shared_data(f"iex-tp-2017/{name}"))
    desk = desks.Desk(desks.settings(None, [], [], 1024, offline=True))
    try:
        if cut:                                       # as capinfos says of this file, too
            with pytest.raises(DataError, match="cut short: the last packet is incomplete"):
                desk.run_capture(source, desks.Pace(), [])
        else:
            desk.run_capture(source, desks.Pace(), [])
    finally:
        desk.close()
    counts = source.counts()
    assert counts["frames"] == counts["other_lines"] == oracle["packets"]
    (row,) = source.lines()
    assert row["packets"] == oracle["packets"] and row["line"] is None
    assert desk.summary()["messages"] == 0


def test_the_itch_reader_and_the_capture_reader_know_their_own(tmp_path):
    plain = tmp_path / "day.itch"
    plain.write_bytes(itch.framed(*MESSAGES))
    assert not is_capture(plain) and ItchFile(plain).load()[1] == len(MESSAGES)
    with pytest.raises(DataError):
        CaptureFile(plain)


def test_tshark_reads_the_same_stamps(tmp_path):
    path = tmp_path / "made.cap"
    frames = [(T0 + i, cap.framed(cap.udp(payload), tags=(0x8100,))) for i, payload in enumerate(payloads())]
    path.write_bytes(cap.pcapng(frames, ">"))
    try:
        child = subprocess.run(["tshark", "-r", str(path), "-T", "fields", "-e", "frame.time_epoch", "-e", "udp.length"],
                               capture_output=True, text=True, timeout=60)  # fmt: skip
    except FileNotFoundError:
        pytest.skip("tshark is not installed: apt-get install tshark")
    rows = [line.split("\t") for line in child.stdout.splitlines()]
    assert [round(float(stamp.split(".")[1])) for stamp, _ in rows] == [123_456_789 + i for i in range(len(payloads()))]
    assert [int(length) for _, length in rows] == [8 + len(payload) for payload in payloads()]
