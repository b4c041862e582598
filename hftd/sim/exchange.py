"""The exchange's memory and sockets: everything hot code works on, made once; and what is enlarged while it runs.

Stores are private mappings, touched as they fill, so a large one costs nothing until it is used; `Store.grow` moves the pages,
not the bytes. All of it lives as long as the Exchange object does.
"""

import ctypes
import mmap
import socket
from collections.abc import Iterator

import numpy as np

from hftd.core import clock as clocks
from hftd.core.idle import PARK, SPIN, set_idle
from hftd.core.memory import address, records, set_array
from hftd.msg.records import position_dtype
from hftd.shm.pool import open_pool
from hftd.sim import calibration, load
from hftd.sim.chance import seed
from hftd.sim.memory import (
    ACCOUNTS,
    HELD,
    INBOX,
    LIVE_MAX,
    OWN_BYTES,
    PACKETS,
    SOURCE_REPLAY,
    SOURCE_SYNTHETIC,
    account_dtype,
    cell_dtype,
    exchange_dtype,
    fill_log_dtype,
    growing_dtype,
    half_dtype,
    held_dtype,
    iovec_dtype,
    level_dtype,
    line_dtype,
    mmsghdr_dtype,
    order_dtype,
    order_log_dtype,
    pollfd_dtype,
    stream_dtype,
    symbol_dtype,
)
from hftd.sim.options import SYMBOLS, Options, SimError
from hftd.sim.session import greet
from hftd.sim.source import plan
from hftd.sim.wire import HEADER_STRIDE, REQUEST_STRIDE, REQUESTS
from hftd.venues.nasdaq import moldudp64 as mold

SCRATCH = 4096
SPARE_ROWS = 1 << 16
"""Order rows beyond those of the flow: the accounts' own."""


class Store:
    """Bytes that can be enlarged; their address may change then."""

    def __init__(self, size: int):
        self.map = mmap.mmap(-1, max(size, mmap.PAGESIZE), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)

    @property
    def base(self) -> int:
        return address(self.map)

    def grow(self) -> None:
        """Double the size; what is there stays."""
        self.map.resize(2 * len(self.map))

    def bytes(self, offset: int, size: int) -> bytes:
        return ctypes.string_at(self.base + offset, size)


class Stream:
    """Cold side of a `stream_dtype` record: its bytes and its index."""

    def __init__(self, record, size: int, rows: int):
        self.record, self.store, self.index = record, Store(size + SCRATCH), Store(rows * 8)
        self._fill()

    def _fill(self) -> None:
        self.record["base"], self.record["capacity"] = self.store.base, len(self.store.map) - SCRATCH
        self.record["index"], self.record["rows"] = self.index.base, len(self.index.map) // 8

    def grow(self, margin: int, margin_rows: int) -> None:
        """Enlarge what is short."""
        if int(self.record["capacity"]) - int(self.record["tail"]) < 2 * margin:
            self.store.grow()
        if int(self.record["rows"]) - int(self.record["count"]) < 2 * margin_rows:
            self.index.grow()
        self._fill()

    def offset(self, number: int) -> int:
        """Byte offset of message `number` (from 1); the tail for the one after the last."""
        if number > int(self.record["count"]):
            return int(self.record["tail"])
        return int(np.frombuffer(self.index.map, np.int64)[number - 1])

    def message(self, number: int) -> bytes:
        """Message `number` with its framing."""
        start = self.offset(number)
        return self.store.bytes(start, self.offset(number + 1) - start)

    def __len__(self) -> int:
        return int(self.record["count"])


class Log:
    """Cold side of a `growing_dtype` record: rows from 1 on."""

    def __init__(self, record, dtype: np.dtype, rows: int):
        self.record, self.dtype, self.store = record, dtype, Store(rows * dtype.itemsize)
        self._fill()

    def _fill(self) -> None:
        self.record["base"], self.record["rows"] = self.store.base, len(self.store.map) // self.dtype.itemsize

    def grow(self, margin: int) -> None:
        """Enlarge it where it is short."""
        if int(self.record["rows"]) - int(self.record["count"]) < 2 * margin:
            self.store.grow()
            self._fill()

    def rows(self) -> Iterator[np.void]:
        """Every row written."""
        count = int(self.record["count"])
        return iter(np.frombuffer(self.store.map, self.dtype, count + 1)[1:].copy())


def power_of_two(number: int) -> int:
    """Smallest power of two not below `number`."""
    return 1 << max(number - 1, 1).bit_length()


class Exchange:
    """All memory of one exchange. `x` is the handle; sockets are the server's, and put here as descriptors."""

    def __init__(self, options: Options):
        self.options = options
        self.handle = records(exchange_dtype, 1)
        self.x = x = self.handle[0]
        recording = load.read(options.data) if options.data else None
        if recording:
            locates, flow_orders = recording.locate_max + 1, recording.adds
            tape, rows = recording.bytes.size * 5 // 4 + (8 << 20), recording.messages + (1 << 18)
        else:
            locates, flow_orders = options.symbols + 1, LIVE_MAX * options.symbols
            tape, rows = 64 << 20, 1 << 21
        self._books(locates, flow_orders + SPARE_ROWS)
        self.tape = Stream(x["tape"], tape, rows)
        self.order_log = Log(x["order_log"], order_log_dtype, 1 << 16)
        self.fill_log = Log(x["fill_log"], fill_log_dtype, 1 << 16)
        self.admin = Log(x["admin"], np.dtype(np.int64), power_of_two(8 * locates + (1 << 15)))
        self.streams: dict[int, Stream] = {}
        self.names = ["market"]
        self._accounts()
        self._wire()
        clocks.calibrate(x["clock"])
        set_idle(x["idle"], SPIN if options.spin else PARK)
        x["beat_ticks"], x["dead_ticks"] = self.ticks(1.0), self.ticks(options.dead_after)
        x["cancel_on_disconnect"], x["reject"] = int(options.cancel_on_disconnect), _parts(options.reject)
        x["tick_min"], x["holding"] = options.tick, 1
        seed(x, options.seed)
        self._source(recording)
        plan(x)
        x["ts"] = x["last_ts"] = x["next_ts"]

    def ticks(self, seconds: float) -> int:
        """Time stamp counter ticks in `seconds`."""
        return int(seconds * int(self.x["clock"]["hz"]))

    # ------------------------------------------------------------ memory

    def _table(self, field: str, dtype: np.dtype, count: int) -> np.ndarray:
        made = records(dtype, count)
        set_array(self.x[field], made)
        return made

    def _books(self, locates: int, orders: int) -> None:
        x = self.x
        self.orders, self.levels = records(order_dtype, orders + 1), records(level_dtype, orders + 1)
        open_pool(x["orders"], self.orders.ctypes.data, orders + 1)
        open_pool(x["levels"], self.levels.ctypes.data, orders + 1)
        self.refs = self._table("refs", cell_dtype, power_of_two(2 * orders))
        self.owns = self._table("owns", cell_dtype, power_of_two(2 * orders))
        self.stocks = self._table("stocks", cell_dtype, power_of_two(2 * locates + 2))
        self.symbols = self._table("symbols", symbol_dtype, locates)
        self.halves = self._table("halves", half_dtype, 2 * locates)
        self.positions = self._table("positions", position_dtype, ACCOUNTS * locates)

    def _accounts(self) -> None:
        self.accounts = self._table("accounts", account_dtype, ACCOUNTS)
        self.inboxes = np.zeros(ACCOUNTS * INBOX, np.uint8)
        for number in range(ACCOUNTS):
            row = self.accounts[number]
            row["fd"] = row["lost_fd"] = -1
            row["inbox"] = self.inboxes.ctypes.data + number * INBOX
        self.x["account_count"] = 1

    def account(self, name: str) -> int:
        """Return the number of the account called `name`, made where it is new; 0 when there are too many."""
        if name in self.names:
            return self.names.index(name)
        number = len(self.names)
        if number == ACCOUNTS:
            return 0
        self.names.append(name)
        row = self.accounts[number]
        row["name"] = int.from_bytes(name.encode(), "little")
        row["until_drop"] = self.options.drop_after
        self.streams[number] = Stream(row["stream"], 4 << 20, 1 << 16)
        self.x["account_count"] = number + 1
        greet(self.x, number, ord("S"))
        return number

    def grow(self, margin: int, margin_rows: int) -> None:
        """Enlarge every store that is running short. Raises SimError where one did run out: the session is void then."""
        own = sum(int(account["own_count"]) for account in self.accounts)
        for stream in (self.tape, *self.streams.values()):
            stream.grow(margin + OWN_BYTES * own, margin_rows + own)
        for log in (self.order_log, self.fill_log, self.admin):
            log.grow(margin_rows)
        self.check()

    def check(self) -> None:
        """Raise SimError where something was lost for want of memory."""
        x = self.x
        lost = sum(int(stream.record["overflow"]) for stream in (self.tape, *self.streams.values()))
        lost += sum(int(log.record["overflow"]) for log in (self.order_log, self.fill_log, self.admin))
        if lost or x["orphans"]:
            raise SimError(f"the session is void: {lost} messages and {int(x['orphans'])} orders found no room")

    # ------------------------------------------------------------ the source

    def _source(self, recording: load.Recording | None) -> None:
        x, options = self.x, self.options
        if recording:
            self.data = recording.bytes
            x["source"] = SOURCE_REPLAY
            x["ref_next"], x["match_next"] = recording.ref_max + 1, recording.match_max + 1
            x["rate"] = options.rate
            x["speed"] = 0.0 if options.fast else options.speed
            self.due = load.pace(recording.stamps, options)
            x["due"] = 0 if self.due is None else self.due.ctypes.data
        else:
            raw, cut_1, cut_2 = load.synthetic_day(options.symbols)
            self.data = np.frombuffer(raw, np.uint8)
            x["source"] = SOURCE_SYNTHETIC
            x["cut_1"], x["cut_2"] = cut_1, cut_2
            x["seed_ts"], x["open_ts"] = load.SEED_NS, load.OPEN_NS
            x["ref_next"], x["match_next"] = 1, 1000
            rate = options.rate or 5000
            self.table = calibration.table(rate / options.speed)
            x["table"] = self.table[0].ctypes.data
            x["live_symbols"] = options.symbols
            x["speed"] = 0.0 if options.fast else options.speed
            x["rate"] = options.rate if options.fast else 0
            length = options.seconds * options.speed if options.seconds else 30 * 3600
            x["until_ts"] = load.OPEN_NS + int(length * 1e9)
            x["until_count"] = options.messages
            self.live = np.zeros((options.symbols + 1) * LIVE_MAX, np.int64)
            for locate in range(1, options.symbols + 1):
                row = self.symbols[locate]
                row["live"] = self.live.ctypes.data + 8 * LIVE_MAX * locate
                row["base_px"] = row["fair"] = round(SYMBOLS[locate - 1][1] * 100) * 100
                row["tick"] = 100
        x["data"], x["data_size"] = self.data.ctypes.data, self.data.size

    # ------------------------------------------------------------ the wire

    def _wire(self) -> None:
        x, options = self.x, self.options
        x["session_a"], x["session_b"] = mold.session_to_ints(options.session)
        x["sent_seq"], x["request_fd"] = 1, -1
        self.headers = np.zeros((PACKETS + 1) * HEADER_STRIDE, np.uint8)
        self.vectors = records(iovec_dtype, 2 * (PACKETS + 1))
        self.messages = records(mmsghdr_dtype, PACKETS + 1)
        for k in range(PACKETS + 1):
            self.vectors[2 * k]["base"] = self.headers.ctypes.data + k * HEADER_STRIDE
            self.vectors[2 * k]["size"] = mold.HEADER
            self.messages[k]["vector"], self.messages[k]["vectors"] = self.vectors.ctypes.data + 32 * k, 2
        x["headers"], x["vectors"], x["messages"] = (
            self.headers.ctypes.data, self.vectors.ctypes.data, self.messages.ctypes.data
        )  # fmt: skip
        self.request_bytes = np.zeros(REQUESTS * REQUEST_STRIDE, np.uint8)
        self.request_vectors = records(iovec_dtype, REQUESTS)
        self.request_messages = records(mmsghdr_dtype, REQUESTS)
        for k in range(REQUESTS):
            at = self.request_bytes.ctypes.data + k * REQUEST_STRIDE
            self.request_vectors[k]["base"], self.request_vectors[k]["size"] = at, 64
            message = self.request_messages[k]
            message["vector"], message["vectors"] = self.request_vectors.ctypes.data + 16 * k, 1
            message["name"], message["name_size"] = at + 96, 16
        x["request_messages"], x["request_loss"] = self.request_messages.ctypes.data, _parts(options.request_loss)
        self.held = records(held_dtype, 2 * HELD)
        self.lines = [x["lines"][which] for which in range(2)]
        for which, line in enumerate(self.lines):
            line["fd"] = -1
            set_array(line["held"], self.held[which * HELD : (which + 1) * HELD])
            for fault in ("loss", "duplicate", "reorder", "delay"):
                line[fault] = _parts(getattr(options, fault)[which])
            line["faulty"] = int(any(getattr(options, fault)[which] for fault in ("loss", "duplicate", "reorder", "delay")))
            seed(line, options.seed * 2 + which + 1)
        self.polls = records(pollfd_dtype, 64)
        x["polls"] = self.polls.ctypes.data

    def set_polls(self, cold: list[int], hot: list[int]) -> None:
        """Set which descriptors end a sleep; a `cold` one ends the slice too."""
        for number, fd in enumerate((cold + hot)[:64]):
            self.polls[number]["fd"], self.polls[number]["events"] = fd, 1
        self.x["poll_cold"], self.x["poll_count"] = min(len(cold), 64), min(len(cold) + len(hot), 64)

    def start_flow(self) -> None:
        """Let the flow begin now."""
        self.x["start"], self.x["holding"] = clocks.now_ticks(), 0

    def line_delay(self) -> None:
        """Set how late a delayed packet is (needs the clock)."""
        for line in self.lines:
            line["delay_ticks"] = self.ticks(self.options.delay_ms / 1e3)


def _parts(percent: float) -> int:
    return int(percent * 10_000)


def open_line(text: str, interface: str, name: str) -> socket.socket:
    """Open the sending socket of a line. Raises SimError."""
    host, _, port = text.rpartition(":")
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        made.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(interface))
        made.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 1)
        made.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
        made.connect((host, int(port)))
    except OSError as error:
        made.close()
        raise SimError(f"{name} {text} on interface {interface}: {error.strerror or error}; check both addresses") from None
    return made


__all__ = ["Exchange", "account_dtype", "growing_dtype", "line_dtype", "open_line", "stream_dtype"]
