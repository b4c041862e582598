"""Recording over real sockets: what was sent is in the file, once, in order, stamped, with its addresses; what was lost is told."""

import os
import random
import socket
import struct
import threading
import time

import numpy as np
import pytest

from hftd.control.config import ConfigError
from hftd.core.memory import address
from hftd.feed.sources.capture import CaptureFile
from hftd.feed.sources.receive import recorded_line_dtype, take_stamp
from hftd.feed.sources.record import LINES_MAX, RecordError, Recording, configured_lines
from tests.support.disk import files_of_at_most
from tests.support.live_feed import udp
from tests.support.pcap import udp_payloads


def free_port() -> int:
    with udp() as probe:
        return probe.getsockname()[1]


def blocks(path) -> list[tuple[int, bytes]]:
    """The blocks of a pcapng file, (type, body), their lengths checked."""
    raw, at, found = path.read_bytes(), 0, []
    while at < len(raw):
        kind, size = struct.unpack_from("<II", raw, at)
        assert size % 4 == 0 and struct.unpack_from("<I", raw, at + size - 4)[0] == size
        found.append((kind, raw[at + 8 : at + size - 4]))
        at += size
    return found


def recorded(path, lines, send, **how) -> dict:
    """Record for a second, or to the limit of the file, while `send()` runs in a thread of its own; return the statistics."""
    recording = Recording(path, [("127.0.0.1", port) for port in lines], "127.0.0.1", **how)
    sender = threading.Thread(target=send)
    facts = recording.run(seconds=1.0, ready=sender.start)
    sender.join()
    return facts


def test_every_datagram_lies_in_the_file_with_its_stamp_and_addresses(tmp_path):
    ports, path = [free_port(), free_port()], tmp_path / "lines.pcapng"
    rng = random.Random(3)
    sent = [(rng.randrange(2), rng.randbytes(rng.choice((0, 1, 20, 500, 1400, 9000)))) for _ in range(400)]
    began = time.time_ns()

    def send():
        with udp() as out:
            for line, data in sent:
                out.sendto(data, ("127.0.0.1", ports[line]))

    facts = recorded(path, ports, send)

    assert [row["packets"] for row in facts["lines"]] == [sum(line == which for line, _ in sent) for which in (0, 1)]
    assert facts["dropped"] == 0 and facts["ended"] == "time" and facts["file_bytes"] == path.stat().st_size
    assert facts["stamps"] in ("software", "hardware")
    assert udp_payloads(path) == [data for _, data in sent]
    packets = [body for kind, body in blocks(path) if kind == 6]
    stamps = [(struct.unpack_from("<I", body, 4)[0] << 32) | struct.unpack_from("<I", body, 8)[0] for body in packets]
    assert stamps == sorted(stamps) and began <= stamps[0] and stamps[-1] <= time.time_ns()
    for body, (line, data) in zip(packets, sent, strict=True):
        which, _, _, kept, full = struct.unpack_from("<5I", body)
        frame = body[20 : 20 + kept]
        assert which == line and kept == full == len(data) + 42 and frame[30:34] == bytes([127, 0, 0, 1])
        assert struct.unpack_from(">HH", frame, 36) == (ports[line], 8 + len(data))
        assert sum(struct.unpack(">10H", frame[14:34])) % 0xFFFF == 0  # the header's checksum holds
    assert [kind for kind, _ in blocks(path)][:3] == [0x0A0D0D0A, 1, 1] and [kind for kind, _ in blocks(path)][-2:] == [5, 5]


def test_what_the_kernel_had_no_room_for_is_counted(tmp_path):
    port, path = free_port(), tmp_path / "full.pcapng"
    recording = Recording(path, [("127.0.0.1", port)], "127.0.0.1", receive_buffer=4096)
    with udp() as out:
        for number in range(20_000):
            out.sendto(number.to_bytes(4, "big") * 100, ("127.0.0.1", port))
    facts = recording.run(seconds=0.05)
    (row,) = facts["lines"]
    assert row["packets"] + row["dropped"] == 20_000 and row["dropped"] > 0
    assert len(udp_payloads(path)) == row["packets"]

    capture = CaptureFile(path)                       # the file says it, too
    capture.play(lambda state: pass_over(capture), lambda why: None)
    assert capture.counts()["drops"] == row["dropped"]


def pass_over(capture) -> int:
    """Walk a capture as the feed does, without a feed: only the blocks that Python reads matter."""
    from hftd.feed.sources.frames import BLOCK, NEED

    state = capture.state
    while int(state["at"]) + 12 <= int(state["end"]):
        at, left = int(state["at"]), int(state["end"]) - int(state["at"])
        raw = np.ctypeslib.as_array((np.ctypeslib.ctypes.c_uint8 * left).from_address(at))
        kind, size = raw[:8].view("<u4").tolist()
        if size > left:
            return NEED
        if kind != 6:
            return BLOCK
        state["at"] = at + size
    return NEED


@pytest.mark.parametrize("most", [10_000, 54_321, 200_000])
def test_the_file_never_grows_beyond_its_limit_and_stays_whole(tmp_path, most):
    port, path = free_port(), tmp_path / "small.pcapng"

    def send():
        with udp() as out:
            for number in range(1000):
                out.sendto(number.to_bytes(4, "big") * (number % 100), ("127.0.0.1", port))

    facts = recorded(path, [port], send, max_bytes=most)

    assert facts["ended"] == "largest size" and path.stat().st_size == facts["file_bytes"] <= most
    payloads = udp_payloads(path)
    assert len(payloads) == facts["packets"] and sum(map(len, payloads)) == facts["lines"][0]["bytes"]
    assert payloads == [number.to_bytes(4, "big") * (number % 100) for number in range(len(payloads))]
    assert path.stat().st_size > most - 10_000        # and what fits is there


@pytest.mark.parametrize("room", [1000, 2501, 30_000])
def test_a_full_disk_ends_the_recording_at_a_whole_block(tmp_path, room):
    """Half a packet was left at its end: whoever read the file was told that it is cut short."""
    port, path = free_port(), tmp_path / "full.pcapng"

    def send():
        with udp() as out:
            for _ in range(100):
                out.sendto(bytes(700), ("127.0.0.1", port))

    with files_of_at_most(room), pytest.raises(RecordError, match=r"full\.pcapng: .*; the recording ends there"):
        recorded(path, [port], send)
    found = blocks(path)
    assert room - 800 < path.stat().st_size <= room and found[0][0] == 0x0A0D0D0A
    CaptureFile(path)


def test_no_room_for_the_head_or_the_statistics(tmp_path):
    """No file that is none stays; and that the statistics are missing is said."""
    path = tmp_path / "x.pcapng"
    with files_of_at_most(100), pytest.raises(RecordError, match="you may write"):
        Recording(path, [("127.0.0.1", free_port())], "127.0.0.1")
    assert not path.exists()
    recording = Recording(path, [("127.0.0.1", free_port())], "127.0.0.1")
    whole = path.stat().st_size
    with files_of_at_most(whole + 40), pytest.raises(RecordError, match="the recording ends there"):
        recording.run(seconds=0.05)
    assert path.stat().st_size == whole and [kind for kind, _ in blocks(path)] == [0x0A0D0D0A, 1]


def test_stamps_are_taken_from_the_card_then_the_kernel_then_the_clock():
    def message(kind: int, body: bytes) -> bytes:
        return struct.pack("=Qii", 16 + len(body), 1, kind) + body + bytes(-len(body) % 8)

    soft, hard = struct.pack("=qq", 7, 8), struct.pack("=qq", 9, 10)
    rows = np.zeros(1, recorded_line_dtype)
    line = rows[0]
    for control, wanted in (
        (message(35, soft), 7_000_000_008), (message(37, soft + bytes(16) + hard), 9_000_000_010), (b"", 99),
        (message(37, soft + bytes(32)), 7_000_000_008), (message(40, b"\5\0\0\0") + message(35, soft), 7_000_000_008),
        (struct.pack("=Qii", 8, 1, 35) + soft, 99), (message(35, soft)[:20], 99), (message(40, b"\2\0\0\0"), 99),
    ):  # fmt: skip
        held = bytearray(control + bytes(8))
        assert stamp_of(line, address(held), len(control)) == wanted
    assert [int(line[name]) for name in ("hardware", "software", "unstamped")] == [1, 3, 4]
    assert int(line["drops"]) == (2 - 5) % (1 << 32) + 5  # the kernel's count is of 32 bits and goes round


def stamp_of(line, at: int, size: int) -> int:
    from hftd.core.jit import hot

    if not hasattr(stamp_of, "kernel"):
        stamp_of.kernel = hot(_stamp_of)
    return int(stamp_of.kernel(line, at, size))


def _stamp_of(line, at, size):
    return take_stamp(line, at, size, 99)


def test_mistakes_are_one_line_and_leave_nothing_behind(tmp_path):
    port, path = free_port(), tmp_path / "there.pcapng"
    path.write_bytes(b"kept")
    with pytest.raises(RecordError, match="exists already"):
        Recording(path, [("127.0.0.1", port)], "127.0.0.1")
    assert path.read_bytes() == b"kept"
    with pytest.raises(RecordError, match="directory"):
        Recording(tmp_path / "no/where.pcapng", [("127.0.0.1", port)], "127.0.0.1")
    with pytest.raises(RecordError, match="at least"):
        Recording(tmp_path / "a.pcapng", [("127.0.0.1", port)], "127.0.0.1", max_bytes=100)
    with pytest.raises(ConfigError, match="--line"):
        Recording(tmp_path / "b.pcapng", [("239.1.1.1", port)], "192.0.2.77")
    assert sorted(os.listdir(tmp_path)) == ["there.pcapng"]
    with udp() as probe:                              # every socket was closed: the port is free
        probe.close()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as again:
        again.bind(("127.0.0.1", port))


def test_lines_come_from_a_configuration():
    from hftd.control.config import build

    config = build({"feed": {"line_a": "239.1.1.1:5", "line_b": "239.1.1.2:6"}})
    assert configured_lines(config) == [("239.1.1.1", 5), ("239.1.1.2", 6)]
    assert configured_lines(build({"feed": {"line_a": "239.1.1.1:5"}})) == [("239.1.1.1", 5)] and LINES_MAX >= 2
