"""Hostile market data, made from arbitrary bytes: one decoder and one set of invariants for every fuzzer.

    bytes ─▶ steps ─▶ packets   handle_packet, catch_up, mend, snapshots     `Packets.run`
                   └▶ messages  apply_run, beside a naive twin               `Messages.run`

Both put what they deliver at the end of a page that is followed by one without access: a byte read beyond it ends the process. With
HFTD_CHECKED=1 each row that is touched is checked against its span. After each step: books are consistent (every invariant of
tests/support/feed_books.py), rejected input has left them as they were, and no counter went back.
"""

import ctypes
import mmap

import numpy as np

from hftd.core.jit import hot
from hftd.core.memory import address, set_array
from hftd.feed.build import CROWDED, MANY, Build, private_tables
from hftd.feed.state import (
    MEND_NONE,
    PACKET_ROOM,
    SINK_RING,
    SNAPSHOT_NONE,
    SNAPSHOT_READY,
    SNAPSHOT_WANTED,
    ticket_dtype,
    waiting_dtype,
)
from hftd.shm import ring
from hftd.shm.segment import Segment, size_of
from hftd.venues.nasdaq import glimpse
from hftd.venues.nasdaq.itch50 import LENGTH, MESSAGES
from hftd.venues.nasdaq.itchfeed import apply_one, apply_run
from hftd.venues.nasdaq.itchmend import mend
from hftd.venues.nasdaq.moldfeed import handle_packet
from hftd.venues.nasdaq.moldgap import catch_up
from tests.naive.book import NaiveBooks
from tests.support import itch_messages as itch
from tests.support.feed_books import Feed

SYMBOLS = {1: "AAA", 2: "BBB", 3: "CCC"}
KINDS = bytes(sorted(MESSAGES))
ORDER_KINDS = b"AFECXDU"
QUEUE = 16
STEPS = 64
"""Steps one input may have."""

PAGE = mmap.PAGESIZE
ROOM = 16 * PAGE
SPIN_ROOM = 1 << 16


@hot
def deliver(agent, at, length, line):
    """Hand one datagram to the feed."""
    handle_packet(agent, at, length, line)


@hot
def pass_time(agent, now):
    """Do what the passing of time asks for."""
    if agent.mending != MEND_NONE:
        mend(agent, now)
    if agent.behind != 0:
        catch_up(agent, now)


class Guarded:
    """Bytes whose end is the end of what may be read."""

    def __init__(self):
        self.map = mmap.mmap(-1, ROOM + PAGE)
        self.end = address(self.map) + ROOM
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.mprotect(ctypes.c_void_p(self.end), PAGE, 0) != 0:
            raise OSError(ctypes.get_errno(), "mprotect")

    def put(self, data: bytes) -> int:
        """Return the address of `data`, which ends where access ends."""
        at = self.end - len(data)
        ctypes.memmove(at, data, len(data))
        return at


class Reader:
    """Takes small numbers off a string of bytes; zeros when it is used up."""

    def __init__(self, data: bytes):
        self.data, self.at = data, 0

    def __bool__(self) -> bool:
        return self.at < len(self.data)

    def byte(self) -> int:
        self.at += 1
        return self.data[self.at - 1] if self.at <= len(self.data) else 0

    def bytes(self, count: int) -> bytes:
        taken = self.data[self.at : self.at + count]
        self.at += count
        return taken.ljust(count, b"\0")

    def number(self, size: int, usual: int) -> int:
        """Return a number of `size` bytes: mostly below `usual`, sometimes anything."""
        first = self.byte()
        return int.from_bytes(self.bytes(size), "big") if first >= 248 else first % usual


def shares(read: Reader) -> int:
    return read.number(4, 6) * 50 & 0xFFFFFFFF


def price(read: Reader) -> int:
    return read.number(4, 12) * 100 & 0xFFFFFFFF


def message_from(read: Reader) -> bytes:
    """Return a message with a sound length: fields from a few values that meet often, or from anything."""
    choice = read.byte()
    kind = ORDER_KINDS[choice % 7] if choice < 210 else KINDS[choice % len(KINDS)]
    locate = read.byte()
    locate = locate % 4 if locate < 250 else int.from_bytes(read.bytes(2), "big")
    symbol = SYMBOLS.get(locate, "DDD")
    ref = read.number(8, 40)
    if kind in b"AF":
        side = "BS"[read.byte() & 1] if read.byte() < 250 else "X"
        return itch.add(locate, ref, side, shares(read), price(read), symbol, mpid="MPID" if kind == ord("F") else "")
    if kind == ord("E"):
        return itch.executed(locate, ref, shares(read), match=read.number(8, 40))
    if kind == ord("C"):
        return itch.executed_at(locate, ref, shares(read), price(read), read.byte() < 128, match=read.number(8, 40))
    if kind == ord("X"):
        return itch.cancel(locate, ref, shares(read))
    if kind == ord("D"):
        return itch.delete(locate, ref)
    if kind == ord("U"):
        return itch.replace(locate, ref, read.number(8, 40), shares(read), price(read))
    if kind == ord("R"):
        return itch.directory(locate, symbol, lot=read.number(4, 200))
    if kind == ord("H"):
        return itch.action(locate, "TTTHPQ?"[read.byte() % 7], symbol=symbol)
    body = bytearray(int(LENGTH[kind]))
    body[0], body[1:3] = kind, locate.to_bytes(2, "big")
    fields = MESSAGES[kind].fields
    for name, (dtype, at) in fields.items():
        if at >= 11:
            value = read.number(dtype.itemsize, 100).to_bytes(dtype.itemsize, "big")
            body[at : at + dtype.itemsize] = symbol.encode().ljust(8) if name == "stock" else value
    return bytes(body)


def hostile_from(read: Reader) -> bytes:
    """Return bytes that may be no message at all, or one of another length."""
    what = read.byte()
    if what < 128:
        return read.bytes(read.byte() % 52)
    message = message_from(read)
    return message[: len(message) - 1 - read.byte() % len(message)] if what < 192 else message + read.bytes(1 + read.byte() % 8)


class Checked:
    """A feed of a few small tables that starts as new for each input."""

    def __init__(self):
        self.guarded = Guarded()
        self.feed = Feed.__new__(Feed)
        build = self.build = self.feed.build = Build(private_tables(4, 64), 256, [], SINK_RING)
        parts = ring.parts(1024)
        self.memory = Segment("fuzz", parts, mmap.mmap(-1, size_of(parts)))
        ring.open_producer(build.agent["md"], self.memory)
        self.agent = build.agent
        self.prepare()
        rows = [part.rows for part in (*build.tables.values(), *build.own.values())] + [build._agents, self.memory["control"]]
        self.arrays = [np.asarray(part).view(np.uint8).reshape(-1) for part in rows]
        self.images = [array.copy() for array in self.arrays]

    def prepare(self) -> None:
        """Fill in what a fuzzer needs beside the books."""

    def begin(self) -> None:
        """Be as new."""
        for array, image in zip(self.arrays, self.images, strict=True):
            array[:] = image

    def books(self) -> bytes:
        """Return everything that a book is made of."""
        tables = self.build.tables
        parts = (tables["books"].rows["orders"], tables["books"].rows["sides"], tables["levels"].rows, tables["slots"].rows,
                 self.build.orders.rows)  # fmt: skip
        return b"".join(np.asarray(part).tobytes() for part in parts)

    def counter(self, name: str) -> int:
        return int(self.build.counters[name])

    def check(self) -> None:
        """What must hold whatever came."""
        used = int(self.agent["used"])
        assert 0 <= used <= 4
        orders = 0
        for instrument in range(4):
            self.feed.sides(instrument)
            orders += int(self.build.tables["books"].rows[instrument]["orders"])
        assert orders == int(self.agent["engine"]["orders"]["used"])
        for name in ("quotes", "statuses"):
            assert not np.any(self.build.tables[name].rows["version"] & 1)
        assert min(int(self.build.counters[name]) for name in ("volume", "messages", "lost_a", "lost_b", "gap_messages")) >= 0


def told(message: bytes) -> bytes:
    """Return a message about one of the known instruments: which one a new symbol would be is not the twin's matter."""
    return message[:1] + bytes((0, 1 + message[2] % 3)) + message[3:] if len(message) >= 3 else message


class Messages(Checked):
    """Runs of messages, framing sound, content not; beside a naive twin."""

    def run(self, data: bytes) -> int:
        """Apply what `data` says; return how many messages. Raises AssertionError or IndexError where something is wrong."""
        self.begin()
        twin, read, seq = NaiveBooks(), Reader(data), 1
        mode = read.byte()
        on_taint = mode & 1
        self.agent["on_taint"], self.agent["crowded"] = on_taint, 0 if mode & 2 else CROWDED
        self.agent["many"] = 0 if mode & 4 else MANY
        seq = self.apply([itch.directory(locate, name) for locate, name in SYMBOLS.items()], seq)
        steps = 0
        while read and steps < STEPS:
            steps += 1
            what, batch = read.byte(), []
            for _ in range(1 + (what & 3)):
                batch.append(message_from(read) if what < 200 else hostile_from(read))
            batch = [told(message) for message in batch if message[:1] != b"R"]
            before, refused = self.books(), sum(self.counter(name) for name in ("unknown_types", "bad_lengths"))
            seq = self.apply(batch, seq)
            for message in batch:
                if message and len(message) == LENGTH[message[0]]:
                    twin.apply(message)
            now_refused = sum(self.counter(name) for name in ("unknown_types", "bad_lengths"))
            if batch and now_refused - refused == len(batch):
                assert self.books() == before, "refused messages moved a book"
            self.check()
            for locate, name in SYMBOLS.items():
                assert self.feed.sides(self.feed.instrument(name)) == tuple(twin.sides(locate)), (locate, [m.hex() for m in batch])
            for name, count in twin.errors.items():
                assert self.counter(name) >= count, name
        return seq - 1

    def apply(self, messages: list[bytes], seq: int) -> int:
        framed = itch.framed(*messages)
        assert len(framed) < ROOM
        at = self.guarded.put(framed)
        if len(messages) == 1:
            apply_one(self.agent, at, seq)
        else:
            assert int(apply_run(self.agent, at, at + len(framed), seq)) == len(messages)
        return seq + len(messages)


class Packets(Checked):
    """Datagrams of two lines and a server, most of them wrong in some way; time passes; snapshots come, sound or not."""

    def prepare(self) -> None:
        agent = self.agent
        self.order, self.tickets = np.zeros(QUEUE, waiting_dtype), np.zeros(QUEUE, ticket_dtype)
        self.queue = bytearray(QUEUE * PACKET_ROOM)
        set_array(agent["order"], self.order)
        set_array(agent["free_buffers"], self.tickets)
        agent["queue_at"] = address(self.queue)
        agent["reorder"], agent["timeout"], agent["tries_max"], agent["reorder_packets"] = 5, 10, 2, 4
        agent["silence"] = 1000
        self.kept = bytearray(4096)
        agent["mend_log"]["base"], agent["mend_log"]["count"] = address(self.kept), len(self.kept)
        self.spin = glimpse.Spin(agent, self.build.counters, ("127.0.0.1", 9), "USER", "PASS", 256, 3)

    def begin(self) -> None:
        super().begin()
        self.tickets["buffer"] = range(QUEUE)
        self.agent["free_count"] = QUEUE
        self.now = 1000

    def run(self, data: bytes) -> int:
        """Deliver what `data` says; return how many datagrams. Raises AssertionError or IndexError where something is wrong."""
        self.begin()
        agent, read = self.agent, Reader(data)
        mode = read.byte()
        agent["on_taint"], agent["snapshot_from"] = mode & 1, 20 if mode & 2 else 0
        agent["crowded"], agent["many"] = 0 if mode & 4 else CROWDED, 0 if mode & 8 else MANY
        sent, steps, batch = 0, 0, [itch.directory(locate, name) for locate, name in SYMBOLS.items()]
        while read and steps < STEPS:
            steps += 1
            what = read.byte()
            if what < 120:
                batch.append(message_from(read))
            elif what < 132:
                batch.append(hostile_from(read))
            elif what < 220:
                self.send(self.datagram(read, batch), read.byte() % 8)
                sent, batch = sent + 1, []
            elif what < 228:
                self.send(read.bytes(read.byte()), read.byte() % 8)
                sent += 1
            elif what < 244:
                self.now += 1 + read.byte()
                agent["ts_recv"] = self.now
                pass_time(agent, self.now)
                self.check()
            else:
                self.snapshot(read)
        return sent

    def datagram(self, read: Reader, batch: list[bytes]) -> bytes:
        """Return a packet of the messages at hand; now and then wrong in number, count, session or length."""
        wrong = read.byte()
        sequence = max(int(self.agent["expected"]), 1)
        if 200 <= wrong < 240:
            sequence = max(sequence + read.byte() - 8, 0)
        elif wrong >= 240:
            sequence = int.from_bytes(read.bytes(8), "big")
        made = bytearray(itch.packet("SESSION001" if read.byte() < 250 else "ANOTHER", sequence, *batch))
        twist = read.byte()
        if twist >= 246:
            made[18:20] = read.bytes(2)
        elif twist >= 240:
            del made[len(made) - 1 - read.byte() % len(made) :]
        elif twist >= 232 and len(made) > 20:
            made[20 + read.byte() % (len(made) - 20)] = read.byte()
        elif twist >= 228:
            made = made[:18] + (b"\0\0" if twist & 1 else b"\xff\xff")
        return bytes(made)

    def send(self, data: bytes, line: int) -> None:
        """Deliver one datagram on line A, B or from a server."""
        agent = self.agent
        self.now += 1
        agent["ts_recv"] = self.now
        before = {name: self.counter(name) for name in ("malformed", "foreign", "doubted", "truncated")}
        books, expected = self.books(), int(agent["expected"])
        deliver(agent, self.guarded.put(data), len(data), 2 if line == 7 else line & 1)
        if any(self.counter(name) > count for name, count in before.items()):
            assert self.books() == books and int(agent["expected"]) == expected, "a rejected packet moved a book"
        assert int(agent["expected"]) >= expected or int(agent["expected"]) == 0
        agent["reason"] = 0
        self.check()

    def snapshot(self, read: Reader) -> None:
        """Play the snapshot server, where one is wanted."""
        agent, spin = self.agent, self.spin.spin
        if int(agent["snapshot"]) != SNAPSHOT_WANTED:
            return
        for name in ("stage_head", "stage_tail", "out_tail", "messages", "end_sequence", "answer_at"):
            spin[name] = 0
        spin["instruments"]["base"], spin["instruments"]["count"] = agent["instruments"]["base"], agent["instruments"]["count"]
        spin["used"], spin["chosen"] = agent["used"], agent["chosen"]
        agent["snapshot_floor"] = agent["highest"]
        said = [b"A" + b"SESSION001" + b"%20d" % 1]
        for _ in range(read.byte() % 12):
            said.append(b"S" + (message_from(read) if read.byte() < 230 else hostile_from(read)))
        upto = int(agent["highest"]) - 3 + read.byte() % 8 if read.byte() < 230 else read.number(8, 200)
        said.append(b"SG" + b"%20d" % max(upto, 0))
        stream = bytearray(b"".join(len(packet).to_bytes(2, "big") + packet for packet in said))
        if read.byte() >= 240:
            stream[read.byte() % len(stream)] = read.byte()
        stream = stream[: len(self.spin.stage)]
        self.spin.stage[: len(stream)] = stream
        spin["stage_tail"] = len(stream)
        result = int(glimpse.collect(spin))
        if result == glimpse.LOGGED_IN:
            result = int(glimpse.collect(spin))
        if result == glimpse.COMPLETE:
            agent["snapshot_at"] = spin["out"]["base"]
            agent["snapshot_end"] = int(spin["out"]["base"]) + int(spin["out_tail"])
            agent["snapshot_next"] = spin["end_sequence"]
            agent["snapshot_seq"] = int(spin["end_sequence"]) - int(spin["messages"])
            agent["snapshot"] = SNAPSHOT_READY
            for _ in range(4):
                self.now += 1
                pass_time(agent, self.now)
                self.check()
        else:
            agent["snapshot"] = SNAPSHOT_NONE if read.byte() & 1 else glimpse.SNAPSHOT_FAILED


TARGETS = {"messages": Messages, "packets": Packets}
