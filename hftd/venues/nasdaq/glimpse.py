"""GLIMPSE 5.0 received: all books at one moment, for a feed that came late or lost what nobody can send again.

    server ──TCP──▶ stage (raw SoupBinTCP) ──collect──▶ spin: | len message | len message | … | ──▶ moldgap.take_snapshot
                                                        framed as in a packet, followed instruments only

Cold code connects, logs in and receives between slices of the loop, some hundred kilobytes each time, never waiting; live packets
queue meanwhile. `collect` is compiled: it takes SoupBinTCP apart, drops instruments that are not followed, and refuses what no
snapshot contains. At the End of Snapshot the loop gets the address, the count and the number to go on from (`Spin.offer`).

Nothing is believed before the end: a session other than the feed's, a number that is none, a message that changes an order, a
connection cut short or silent are one failure each, and the books stay as they were. Memory: an add for each order the store can
hold, and some messages for each instrument, as address space; pages are taken as the snapshot fills them.
"""

import contextlib
import errno
import mmap
import os
import socket

from hftd.core import clock as clocks
from hftd.core.jit import hot
from hftd.core.layout import layout
from hftd.core.memory import address, copy_bytes, load8, load16, load64, records, row, span, span_dtype, store8, store16, swap16
from hftd.feed.state import LOCATES, SNAPSHOT_FAILED, SNAPSHOT_READY, SNAPSHOT_WANTED
from hftd.msg.records import instrument_dtype
from hftd.venues.nasdaq import soupbintcp as soup
from hftd.venues.nasdaq.itch50 import (
    ADD_ORDER_MPID,
    BROKEN_TRADE,
    CROSS_TRADE,
    MESSAGES,
    ORDER_CANCEL,
    ORDER_DELETE,
    ORDER_EXECUTED,
    ORDER_EXECUTED_PRICE,
    ORDER_REPLACE,
    STOCK_DIRECTORY,
    TRADE,
)
from hftd.venues.nasdaq.moldudp64 import session_to_text

END_OF_SNAPSHOT, END_SIZE = ord("G"), 21
MORE, LOGGED_IN, COMPLETE = 0, 1, 2
NOT_SOUND, TOO_LARGE, REFUSED, CUT_OFF, FOREIGN, SILENT, NO_CONNECTION = -1, -2, -3, -4, -5, -6, -7
"""What `collect` returns, and why a snapshot failed."""

STAGE = 4 * 65536
RECEIVES = 4
"""Receive calls in one slice."""

TIMEOUT_S = 5.0
"""Time without a message of the snapshot after which the server is given up."""

PAUSE_S = 1.0
"""Between two snapshots asked for, at least."""

PER_INSTRUMENT = 160
"""Bytes of a snapshot about an instrument besides its orders: directory, trading action, Reg SHO, RPII, halt."""

DIGIT_0, DIGIT_9, SPACE = ord("0"), ord("9"), ord(" ")

spin_dtype = layout("spin", 192, [
    ("stage", span_dtype),                        # bytes as received
    ("stage_head", "i8"),                         # offset of the first byte not parsed
    ("stage_tail", "i8"),                         # offset after the last received
    ("out", span_dtype),                          # the snapshot's messages, each with its length before it
    ("out_tail", "i8"),
    ("messages", "i8"),                           # how many
    ("end_sequence", "i8"),                       # number to go on from
    ("answer_at", "i8"),                          # address of the payload of Login Accepted
    ("followed", span_dtype),                     # a byte by locate: 1, its instrument is followed
    ("instruments", span_dtype),                  # instrument_dtype, the feed's
    ("used", "i8"),                               # of them
    ("chosen", "i8"),                             # 1: only those are followed; 0: all
    ("taken", "i8"),                              # sequenced messages taken apart, whoever they are about
    ("pad", ("i8", (7,))),
])  # fmt: skip


@hot
def collect(spin):
    """Take apart what was received; return LOGGED_IN, COMPLETE, MORE, or (negative) why the snapshot is no good."""
    stage, out, followed, instruments = span(spin.stage), span(spin.out), span(spin.followed), span(spin.instruments)
    result = MORE
    while result == MORE and spin.stage_tail - spin.stage_head >= soup.HEADER:
        at = stage.base + spin.stage_head
        length = swap16(load16(at))
        if length == 0:
            return NOT_SOUND
        if spin.stage_tail - spin.stage_head < length + 2:
            break
        spin.stage_head += length + 2
        packet, size, message = load8(at + 2), length - 1, at + 3
        if packet == soup.LOGIN_ACCEPTED:
            if size != soup.LOGIN_ACCEPTED_SIZE - soup.HEADER or spin.answer_at != 0:
                return NOT_SOUND
            spin.answer_at = message
            result = LOGGED_IN
        elif packet == soup.LOGIN_REJECTED:
            return REFUSED
        elif packet == soup.END_OF_SESSION:
            return CUT_OFF
        elif packet == soup.SEQUENCED:
            kind = load8(message) if size > 0 else 0
            if spin.answer_at == 0 or size == 0:
                return NOT_SOUND
            spin.taken += 1
            if kind == END_OF_SNAPSHOT:
                number = digits = 0
                for i in range(1, END_SIZE if size == END_SIZE else 1):
                    digit = load8(message + i)
                    if DIGIT_0 <= digit <= DIGIT_9 and number < 1 << 56:
                        number = number * 10 + digit - DIGIT_0
                        digits += 1
                    elif digit != SPACE:
                        return NOT_SOUND
                if digits == 0 or number == 0:
                    return NOT_SOUND
                spin.end_sequence = number
                return COMPLETE
            if (kind == ORDER_EXECUTED or kind == ORDER_EXECUTED_PRICE or kind == ORDER_CANCEL or kind == ORDER_DELETE
                    or kind == ORDER_REPLACE or kind == TRADE or kind == CROSS_TRADE or kind == BROKEN_TRADE):  # fmt: skip
                return NOT_SOUND
            wanted = 1
            if spin.chosen != 0 and size >= 3:
                locate = swap16(load16(message + 1))
                if kind == STOCK_DIRECTORY and size >= 19:
                    stock, known = load64(message + 11), 0
                    for index in range(spin.used):
                        known += 1 if row(instruments, index, instrument_dtype).symbol == stock else 0
                    store8(followed.base + locate, 1 if known > 0 else 0)
                wanted = 1 if locate == 0 else load8(followed.base + locate)
            if wanted != 0:
                if spin.out_tail + 2 + size > out.count:
                    return TOO_LARGE
                store16(out.base + spin.out_tail, swap16(size))
                copy_bytes(out.base + spin.out_tail + 2, message, size)
                spin.out_tail += 2 + size
                spin.messages += 1
        elif packet != soup.DEBUG and packet != soup.SERVER_HEARTBEAT:
            return NOT_SOUND
    return result


# ---------------------------------------------------------------- cold

assert MESSAGES[STOCK_DIRECTORY].fields["stock"][1] == 11


class Spin:
    """Fetches snapshots for a feed.

    agent: its handle; counters: its counters; orders_max: orders its store can hold; pause: ticks between two snapshots. `failure`
    says why the last one failed. Raises ValueError on over-long text.
    """

    def __init__(self, agent, counters, server: tuple[str, int], user: str, password: str, orders_max: int,
                 pause: int):  # fmt: skip
        soup.login_request(user, password)
        self.agent, self.counters, self.server, self.user, self.password = agent, counters, server, user, password
        self.timeout_s, self.pause, self.failure = TIMEOUT_S, pause, 0
        self.sock: socket.socket | None = None
        self.stage = bytearray(STAGE)
        size = orders_max * (2 + MESSAGES[ADD_ORDER_MPID].itemsize) + LOCATES * PER_INSTRUMENT
        self.out = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self.followed = bytearray(LOCATES)
        self.spin = records(spin_dtype, 1)[0]
        for name, memory in (("stage", self.stage), ("out", self.out), ("followed", self.followed)):
            self.spin[name]["base"], self.spin[name]["count"] = address(memory), len(memory)
        self.request = b""
        self.connected = False
        self.heard_ns = 0

    @property
    def busy(self) -> bool:
        """Whether a snapshot is being fetched."""
        return self.sock is not None

    def turn(self, now_ns: int) -> None:
        """Do what is due, without waiting. now_ns: CLOCK_MONOTONIC."""
        wanted = int(self.agent["snapshot"]) == SNAPSHOT_WANTED
        if self.sock is None:
            if wanted:
                self._begin(now_ns)
        elif not wanted:                              # the gap closed, or the session changed
            self.close()
        else:
            self._go_on(now_ns)

    def close(self) -> None:
        """Hang up."""
        if self.sock is not None:
            self.sock.close()
            self.sock = None

    def _begin(self, now_ns: int) -> None:
        spin, agent = self.spin, self.agent
        for name in ("stage_head", "stage_tail", "out_tail", "messages", "end_sequence", "answer_at", "taken"):
            spin[name] = 0
        spin["instruments"]["base"], spin["instruments"]["count"] = agent["instruments"]["base"], agent["instruments"]["count"]
        spin["used"], spin["chosen"] = agent["used"], agent["chosen"]
        self.followed[:] = bytes(LOCATES)
        self.request = soup.login_request(self.user, self.password)
        self.connected, self.heard_ns = False, now_ns
        made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        made.setblocking(False)
        self.sock = made
        failed = made.connect_ex(self.server)
        if failed not in (0, errno.EINPROGRESS):
            self._fail(NO_CONNECTION)

    def _go_on(self, now_ns: int) -> None:
        assert self.sock is not None
        try:
            if self.request and not self._ask():
                self._check_silence(now_ns)
                return
            for _ in range(RECEIVES):
                result = self._receive(now_ns)
                if result < 0:
                    self._fail(result)
                elif result == COMPLETE:
                    self._offer()
                if result != MORE:
                    return
        except BlockingIOError:
            self._check_silence(now_ns)
        except OSError:
            self._fail(NO_CONNECTION if not self.connected else CUT_OFF)

    def _check_silence(self, now_ns: int) -> None:
        if self._silent(now_ns):
            self._fail(SILENT)

    def _silent(self, now_ns: int) -> bool:
        """Tell whether nothing of a snapshot has come for too long."""
        return now_ns - self.heard_ns > self.timeout_s * 1e9

    def _ask(self) -> bool:
        """Send the log-in as soon as the connection stands; True when all of it went out. Raises OSError."""
        assert self.sock is not None
        failed = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if failed:
            raise OSError(failed, os.strerror(failed))
        with contextlib.suppress(BlockingIOError):
            try:
                self.request = self.request[self.sock.send(self.request) :]
            except OSError as error:
                if error.errno != errno.ENOTCONN:
                    raise
        if not self.request:
            self.connected = True
            self.agent["snapshot_floor"] = self.agent["highest"]
        return self.connected

    def _receive(self, now_ns: int) -> int:
        """Receive once and take apart what came. Raises BlockingIOError where there is nothing."""
        assert self.sock is not None
        spin = self.spin
        head, tail = int(spin["stage_head"]), int(spin["stage_tail"])
        self.stage[: tail - head] = self.stage[head:tail]
        spin["stage_head"], spin["stage_tail"] = 0, tail - head
        view = memoryview(self.stage)
        came = self.sock.recv_into(view[tail - head :])
        view.release()
        if came == 0:
            return CUT_OFF
        spin["stage_tail"] += came
        before = int(spin["taken"])
        result = collect(spin)
        if result == LOGGED_IN:
            at = int(spin["answer_at"]) - int(spin["stage"]["base"])
            session = bytes(self.stage[at : at + 10]).decode("ascii", "replace").strip()
            agent = self.agent
            if session and session != session_to_text(agent["session_a"], agent["session_b"]):
                return FOREIGN
            if bytes(self.stage[at + 10 : at + 30]).strip().lstrip(b"0") != b"1":
                return NOT_SOUND                      # from the middle of a snapshot on: books without their first orders
            result = collect(spin)
            self.heard_ns = now_ns
        if int(spin["taken"]) != before:
            self.heard_ns = now_ns
        elif result == MORE and self._silent(now_ns):
            return SILENT                             # heartbeats, or a message that does not end, are no snapshot
        return NOT_SOUND if result == LOGGED_IN else int(result)

    def _not_before(self) -> None:
        self.agent["snapshot_after"] = clocks.now_ticks() + self.pause

    def _fail(self, why: int) -> None:
        """Tell the loop that there is none."""
        self.close()
        self.failure = why
        self.counters["snapshot_failures"] += 1
        self._not_before()
        self.agent["snapshot"] = SNAPSHOT_FAILED

    def _offer(self) -> None:
        """Hand the snapshot over; its memory is the loop's until agent.snapshot is NONE again."""
        self.close()
        spin, agent = self.spin, self.agent
        base = int(spin["out"]["base"])
        agent["snapshot_at"], agent["snapshot_end"] = base, base + int(spin["out_tail"])
        agent["snapshot_next"] = spin["end_sequence"]
        agent["snapshot_seq"] = int(spin["end_sequence"]) - int(spin["messages"])
        self._not_before()
        agent["snapshot"] = SNAPSHOT_READY
