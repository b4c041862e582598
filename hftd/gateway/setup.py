"""The gateway's host: memory, the way to an open and reconciled session, and the way out.

    DOWN ─▶ (probe) ─▶ CONNECTING ─▶ REPLAY ─▶ (CLEANING) ─▶ UP ─▶ CLOSED      one step between two slices, nothing blocks
      ▲____________________│____________│____________│________│ connection lost: open orders UNKNOWN, back-off, log in again

REPLAY: logged in with the session's name and the next sequence number we want, so that everything missed comes first. An Account
Query goes out at once; its answer is sequenced behind all that, and so it is the barrier: what it does not settle, did not reach
the venue. CLEANING: open orders of an earlier instance were found and are being cancelled. Only then is `run.session_up` set.

The replay itself may hold answers to earlier queries, which must not be taken for the barrier. Resuming, we know how many of ours
were never answered: as many queries more are sent, and that many answers more awaited. On a fresh start nothing is known, so a
first log-in, the probe, asks for sequence 0 (the newest) and leaves: the number the venue gives says where the old ends. Answers
behind it alone are counted, then and after a reconnect; until it is passed one query more is sent, since the first answer may get
that very number.

A session that we knew is taken up where we were, also after a probe. One of its name that is younger than what we heard of it is
another one. One that begins behind where we were has a gap: what was in it nobody can say, and risk pulls the kill switch.

What survives a crash of this process lies in the segment `orders`: rows, fills, positions, the session's name and numbers.
"""

import contextlib
import time

import numpy as np

from hftd.control.config import Config, host_port, password
from hftd.core import clock as clocks
from hftd.core.agent import Agent
from hftd.core.budgets import STAGES
from hftd.core.idle import SPIN
from hftd.core.memory import block, records, set_array, set_span
from hftd.core.meter import Meter
from hftd.errors import HftdError
from hftd.gateway import left, loop
from hftd.gateway.left import open_rows
from hftd.gateway.loop import gateway_agent_dtype, serve_request
from hftd.gateway.memory import (
    KEEP_FINISHED,
    LINK_CLEANING,
    LINK_CLOSED,
    LINK_CONNECTING,
    LINK_DOWN,
    LINK_PARTING,
    LINK_REPLAY,
    LINK_UP,
    fills_max,
)
from hftd.gateway.outgoing import BATCH
from hftd.msg import ids
from hftd.msg.enums import LogCode, OrdStatus, Reason, Role, Side, Tif
from hftd.msg.records import instrument_dtype
from hftd.shm import ring
from hftd.shm.errlog import ROWS
from hftd.shm.map import PLACE_GATEWAY, PLACE_RISK
from hftd.venues.nasdaq import ouch_encode, session, soup_link, soupbintcp

CAPACITY_PRINCIPAL = ord("P")
RETRY_FIRST_NS, RETRY_MAX_NS, RETRY_REFUSED_NS, PART_NS = 50_000_000, 2_000_000_000, 5_000_000_000, 500_000_000
CHECKS_PER_SECOND = 2000
TAIL_PARK_US = 1000
EXIT_ORDERS_OPEN = 4
"""Exit code of a gateway that had to stop with orders open."""

LOST_BY_PEER, LOST_BY_SILENCE, LOST_SESSION_END = 100, 101, 102
"""Detail `a` of a SESSION_LOST log record, besides errno and the codes of venues/nasdaq/session.py (those negative)."""


class OrdersStay(HftdError):
    """The venue does not cancel what an earlier run left open there: nothing may be traded beside it."""

    exit_code = EXIT_ORDERS_OPEN


def private_sizes(config: Config) -> dict[str, int]:
    """Return what the gateway holds for itself alone, in one block: name -> bytes."""
    n = config.gateway.orders_max
    return {"images": 64 * config.instruments * ouch_encode.IMAGES_PER_INSTRUMENT, "rx": soup_link.RX_SIZE, "tx": soup_link.TX_SIZE,
            "batch": 16 * BATCH, "buckets": 8 * n, "refs": 8 * n, "finished": 4 * n, "fill_buckets": 8 * fills_max(n)}  # fmt: skip


def private_bytes(sizes: dict[str, int]) -> int:
    """Return the size of that block: each part begins on two lines of its own."""
    return sum(-(-size // 128) * 128 for size in sizes.values()) + 128


class GatewayAgent(Agent):
    """The one process that talks to the venue's order entry."""

    role = Role.GATEWAY

    def __init__(self, config: Config, memory, index: int = 0):
        super().__init__(config, memory, index)
        self.segment = memory["orders"]
        self.session = self.segment["session"][0]
        self.counters = self.segment["counters"][0]
        self.made = records(gateway_agent_dtype, 1, "handle")
        self.handle = self.made[0]
        self.attempt: session.LogIn | None = None
        self.socket = None
        self.retry_at_ns, self.backoff_ns = 0, RETRY_FIRST_NS
        self.query_deadline_ns = 0
        self.stop_deadline_ns = self.clean_deadline_ns = 0
        self.resumable = True
        self.probing = False
        self.probed: tuple[str, int] | None = None  # session and newest number, by the probe
        self.part_deadline_ns = 0

    # ------------------------------------------------------------ memory

    def kernel(self):
        """Return the compiled duty cycle."""
        return loop.kernel()

    def open(self) -> None:
        """Make the private memory, take up what a predecessor left, and start to connect."""
        handle, config, segment = self.handle, self.config.gateway, self.segment
        n, instruments = config.orders_max, self.config.instruments
        ring.open_consumer(handle["orders"], self.memory["ring.order"], PLACE_GATEWAY, gating=True, from_start=True)
        ring.open_producer(handle["reports"], self.memory["ring.report"])
        sizes = private_sizes(self.config)
        self.private = block(private_bytes(sizes), huge=True, name="images, buffers, indexes")
        at, where = np.frombuffer(self.private, np.uint8).ctypes.data, {}
        for name, size in sizes.items():
            where[name], at = at, at + -(-size // 128) * 128

        hz = int(self.clock["hz"])
        soup_link.open_link(handle["link"], where["rx"], where["tx"], hz, config.dead_after_s)
        table = handle["table"]
        set_array(table["rows"], segment["orders"])
        set_array(table["fills"], segment["fills"])
        set_array(table["positions"], segment["positions"])
        set_span(table["buckets"], where["buckets"], 2 * n)
        set_span(table["refs"], where["refs"], 2 * n)
        set_span(table["finished"], where["finished"], n)
        set_span(table["fill_buckets"], where["fill_buckets"], 2 * segment.parts["fills"].count)
        table["session_at"] = handle["session_at"] = segment.address("session")
        table["fresh"], table["keep"] = 1, min(KEEP_FINISHED, n // 2)

        market, control = self.memory["market"], self.memory["control"]
        set_span(handle["images"], where["images"], instruments * ouch_encode.IMAGES_PER_INSTRUMENT)
        set_span(handle["instruments"], market.address("instruments"), market.parts["instruments"].count)
        assert market.parts["instruments"].dtype == instrument_dtype
        set_span(handle["errors"], self.errors_at, ROWS)
        set_span(handle["undo"], segment.address("undo"), segment.parts["undo"].count)
        set_span(handle["earlier"], segment.address("earlier"), segment.parts["earlier"].count)
        handle["undo_position_at"] = segment.address("undo_position")
        handle["counters_at"], handle["histograms_at"] = segment.address("counters"), segment.address("histograms")
        handle["run_at"] = control.address("run")
        marks = control.parts["marks"].dtype.itemsize
        handle["risk_mark_at"] = control.address("marks") + int(Role.RISK) * marks
        handle["risk_reader_at"] = self.memory["ring.report"].address("control") + ring.PAIR * (1 + PLACE_RISK)
        handle["batch_at"] = where["batch"]
        handle["capacity"], handle["firm"] = CAPACITY_PRINCIPAL, ouch_encode.firm_word(config.firm)
        handle["image_size"] = ouch_encode.image_size(config.firm)
        handle["risk_dead_ticks"] = handle["patience_ticks"] = hz * config.risk_dead_ms // 1000
        handle["check_ticks"] = hz // CHECKS_PER_SECOND
        handle["kill_seen"] = handle["held_since"] = 0
        set_span(handle["tails"], segment.address("tails"), segment.parts["tails"].count)
        handle["tail_ticks"] = hz * (tail_us(self.config, int(self.waiting["mode"]) == SPIN)) // 1_000_000
        self.password = password(self.config)

        state = self.session
        self.run["session_up"] = 0
        state["state"], state["latched"], state["killed"], state["risk_dead"], state["disabled"] = LINK_DOWN, 0, 0, 0, 0
        if int(state["next_ref"]) == 0:
            state["next_ref"] = 1
        self._ask(loop.REQUEST_REBUILD)
        table["peak"] = max(int(table["peak"]), int(self.counters["orders_peak"]))    # of the day, not of this process
        self.handle["losing"] = int(self._ask(loop.REQUEST_LOSE) > 0)

    def open_meter(self, spin: bool) -> Meter:
        """Open the meter, and let the loop note there how long orders were held up."""
        meter = super().open_meter(spin)
        self.handle["meter_at"], self.handle["pauses_at"] = meter.meter_at, meter.pauses_at
        return meter

    def _ask(self, request: int, value: int = 0) -> int:
        return int(serve_request(self.handle, request, value, clocks.now_ticks()))

    # ------------------------------------------------------------ towards an open session

    def cold(self, now_ns: int) -> None:
        """Go one step towards an open session."""
        state = int(self.session["state"])
        if state == LINK_UP or state == LINK_CLOSED:
            return
        if state == LINK_DOWN:
            if self.socket is not None:
                self._close_socket()
            if now_ns >= self.retry_at_ns:
                self._connect(now_ns)
        elif state == LINK_CONNECTING:
            self._log_in(now_ns)
        elif state == LINK_PARTING:
            self._part(now_ns)
        elif state == LINK_REPLAY:
            if int(self.handle["barrier"]) > 0:
                self._settle()
            elif now_ns > self.query_deadline_ns:
                self._give_up(session.NO_ANSWER, now_ns)
        elif state == LINK_CLEANING:
            if int(self.session["foreign_open"]) == 0:
                self._up()
            elif now_ns > self.clean_deadline_ns and not self.stopping:
                self._not_cleaned()

    def _connect(self, now_ns: int) -> None:
        gateway = self.config.gateway
        known = self.session_name()
        self.probing = False
        if known and self.resumable:
            name, sequence = known, int(self.session["next_seq"])
        elif self.probed is not None:
            name, sequence = self.probed[0], max(int(self.session["next_seq"]), 1) if self._goes_on() else 1
        else:
            self.probing = True
            name, sequence = gateway.session, 0
        host, port = host_port(gateway.address)
        try:
            request = soupbintcp.login_request(gateway.username, self.password, name, sequence)
            self.attempt = session.LogIn(host, port, request, gateway.login_timeout_s, now_ns)
        except session.SessionError as error:
            self._give_up(error.code, now_ns)
            return
        self.asked = sequence
        self.session["state"] = LINK_CONNECTING

    def _goes_on(self) -> bool:
        """Tell whether the session probed is the one we knew: it has the name, and has come as far as we had heard it."""
        heard = int(self.session["next_seq"]) - 1
        return self.probed is not None and self.probed[0] == self.session_name() and self.probed[1] >= heard

    def session_name(self) -> str:
        """Return the SoupBinTCP session logged into last; empty: none yet."""
        return bytes(np.asarray(self.session["name"]).tolist()).rstrip(b"\0").decode("ascii", "replace")

    def _log_in(self, now_ns: int) -> None:
        assert self.attempt is not None
        before = self.attempt.connected
        try:
            opened = self.attempt.step(now_ns)
        except session.SessionError as error:
            self._give_up(error.code, now_ns)
            return
        finally:
            self._count("connects", self.attempt is not None and self.attempt.connected and not before)
        if opened is None:
            return
        self.attempt = None
        self.socket = opened.socket
        if self.probing:
            self.probed = (opened.session, opened.sequence)
            with contextlib.suppress(OSError):
                opened.socket.send(soupbintcp.empty(soupbintcp.LOGOUT_REQUEST))
            self.part_deadline_ns = now_ns + PART_NS
            self.session["state"] = LINK_PARTING
            return
        self._logged_in(opened, now_ns)

    def _logged_in(self, opened: session.LoggedIn, now_ns: int) -> None:
        state, handle = self.session, self.handle
        same = opened.session == self.session_name() if self.probed is None else self._goes_on()
        if self.probed is not None and self.probed[0] != opened.session:
            self.probed = None  # the session changed between the probe and now
            self._give_up(session.OTHER_SESSION, now_ns)
            return
        if self.probed is None and (not same or opened.sequence < self.asked):
            self.resumable = False  # another session than the one we knew, or an older part of it: probe it first
            self._unplug()
            return
        self._count("logins")
        self._count("resumes", same and opened.sequence == self.asked)
        self._count("sequence_jumps", opened.sequence != self.asked)
        gap = same and opened.sequence > int(state["next_seq"])
        if gap:
            state["earlier_doubts"] += 1
            state["earlier_version"] += 1
        if not same or opened.sequence != self.asked:
            state["earlier_from"] = max(int(state["earlier_from"]), int(state["next_seq"])) if same else 0
            if not same or gap:
                state["replayed_from"] = opened.sequence
            state["next_seq"] = opened.sequence
            handle["skip_next"] = state["told_seq"] = 0
        if self.probed is not None:
            state["answers_from"], state["queries_sent"], state["queries_seen"] = self.probed[1], 0, 0
        needed = handle["answers_needed"] = 1 + max(int(state["queries_sent"]) - int(state["queries_seen"]), 0)
        handle["same_session"] = int((same and not gap) or int(state["open_orders"]) == 0)
        self.probed, self.resumable = None, True
        self._set_name(opened.session.encode("ascii", "replace")[:16])
        state["connected_utc_ns"] = time.time_ns()
        link = handle["link"]
        soup_link.plug(link, opened.socket.fileno(), clocks.now_ticks())
        if opened.rest:
            start = int(link["rx_base"]) - np.frombuffer(self.private, np.uint8).ctypes.data
            self.private[start : start + len(opened.rest)] = opened.rest
            link["rx_tail"] = len(opened.rest)
        handle["barrier"] = handle["answers"] = 0
        state["state"] = LINK_REPLAY
        self.query_deadline_ns = now_ns + int(self.config.gateway.login_timeout_s * 1e9)
        for _ in range(needed + int(state["next_seq"] <= state["answers_from"])):
            self._ask(loop.REQUEST_QUERY)
            state["queries_sent"] += 1

    def _part(self, now_ns: int) -> None:
        """Leave the probe: wait until the venue closed it too, so that it does not take the log-in to come for a second one."""
        try:
            gone = not self.socket.recv(65536)
        except BlockingIOError:
            gone = now_ns > self.part_deadline_ns
        except OSError:
            gone = True
        if gone:
            self._unplug()
            self.retry_at_ns = 0

    def _set_name(self, text: bytes) -> None:
        padded = text.ljust(16, b"\0")
        array = self.segment["session"]
        np.asarray(array).view(np.ndarray)["name"][0] = list(padded)

    def _settle(self) -> None:
        """The barrier was reached: settle every UNKNOWN order; cancel what an earlier instance left; then trade."""
        if not self._ask(loop.REQUEST_RECONCILE):
            return
        if int(self.session["foreign_open"]) > 0:
            self.session["state"] = LINK_CLEANING
            self.clean_deadline_ns = time.monotonic_ns() + int(self.config.gateway.clean_timeout_s * 1e9)
            self._ask(loop.REQUEST_SWEEP, -2)
            return
        self._up()

    def _not_cleaned(self) -> None:
        """Give up on a venue that does not cancel what an earlier run left. Raises OrdersStay, always."""
        self._log_open()
        limit, orders = self.config.gateway.clean_timeout_s, left.in_words(self.memory)
        where = f"{self.config.path}: gateway.clean_timeout_s"
        raise OrdersStay(f"{where}: the venue did not cancel within {limit:g} s what an earlier run left open there: "
                         f"{orders}; cancel it at the venue, then start again")  # fmt: skip

    def _log_open(self) -> None:
        for order in open_rows(self.segment):
            self.log(LogCode.GATEWAY_REFUSED, int(order["cl_ord_id"]), int(order["user_ref"]), int(order["leaves"]),
                     int(order["status"]))  # fmt: skip

    def _up(self) -> None:
        self.backoff_ns = RETRY_FIRST_NS
        self.session["state"] = LINK_UP
        self.run["session_up"] = 1
        self.log(LogCode.SESSION_UP, int(self.session["next_seq"]), int(self.session["next_ref"]), int(self.session["open_orders"]),
                 int(self.session["unknown_orders"]))  # fmt: skip
        self.ready(True)

    def _give_up(self, code: int, now_ns: int) -> None:
        """This attempt failed: note it, and try again after a while, each time a longer one until a session is open."""
        if self.attempt is not None:
            self.attempt.abandon()
            self.attempt = None
        refused = code in (session.NOT_AUTHORISED, session.NO_SESSION)
        self._count("login_rejects", refused)
        self._count("connect_failures", not refused)
        if code == session.NO_SESSION and (self.session_name() or self.probed):
            self.resumable, self.probed = False, None  # the session we knew is over: the next log-in asks for the current one
            refused = False
        self.log(LogCode.SESSION_LOST, -code, int(self.session["next_seq"]), int(self.session["open_orders"]))
        self._unplug()
        self.retry_at_ns = now_ns + (RETRY_REFUSED_NS if refused else self.backoff_ns)
        self.backoff_ns = min(2 * self.backoff_ns, RETRY_MAX_NS)
        self.reason_down = code

    def _unplug(self) -> None:
        soup_link.unplug(self.handle["link"])
        self.session["state"] = LINK_DOWN
        self._close_socket()

    def _close_socket(self) -> None:
        if self.socket is not None:
            with contextlib.suppress(OSError):
                self.socket.close()
            self.socket = None

    def _count(self, name: str, yes: bool = True) -> None:
        if yes:
            self.counters[name] += 1

    # ------------------------------------------------------------ what the loop came back for

    def on_reason(self, reason: int) -> None:
        """LOGIN: the account query was answered. RECONNECT, SESSION_END: the connection is gone."""
        now_ns = time.monotonic_ns()
        if reason == Reason.LOGIN:
            if int(self.session["state"]) == LINK_REPLAY:
                self._settle()
        elif reason in (Reason.RECONNECT, Reason.SESSION_END):
            self.run["session_up"] = 0
            self.ready(False)
            link = self.handle["link"]
            self._count("disconnects")
            why = LOST_SESSION_END if reason == Reason.SESSION_END else int(link["error"])
            if why == 0:
                why = LOST_BY_PEER if int(link["eof"]) else LOST_BY_SILENCE
            self.log(LogCode.SESSION_LOST, why, int(self.session["next_seq"]), int(self.session["open_orders"]))
            self._unplug()
            if reason == Reason.SESSION_END:
                self.resumable, self.probed = False, None
            if self._ask(loop.REQUEST_LOSE) > 0:
                self.handle["losing"] = 1
            self.retry_at_ns, self.backoff_ns = now_ns + self.backoff_ns, min(2 * self.backoff_ns, RETRY_MAX_NS)

    # ------------------------------------------------------------ the way out

    def stop(self) -> bool:
        """Cancel everything, turn until every order is finished, log out. At the deadline say what is still open, by id."""
        now_ns = time.monotonic_ns()
        if self.stop_deadline_ns == 0:
            self.stop_deadline_ns = now_ns + int(self.config.daemon.stop_timeout_s * 1e9)
            self.handle["stopping"] = 1
            self._ask(loop.REQUEST_SWEEP, -1)
        still = int(self.handle["table"]["open_count"])
        if still and now_ns < self.stop_deadline_ns:
            return False
        if still:
            self.counters["open_at_stop"] = still
            self.exit_code = EXIT_ORDERS_OPEN
            self._log_open()
        self.run["session_up"] = 0
        if self.socket is not None and int(self.handle["link"]["fd"]) >= 0:
            self._ask(loop.REQUEST_LOGOUT, soupbintcp.LOGOUT_REQUEST)
            soup_link.unplug(self.handle["link"])
            session.hang_up(self.socket)
            self.socket = None
        self.session["state"] = LINK_CLOSED
        return True

    def close(self) -> None:
        """Close the socket, whatever state it is in. The venue cancels on disconnect what we could not."""
        self.run["session_up"] = 0
        if self.attempt is not None:
            self.attempt.abandon()
        soup_link.unplug(self.handle["link"])
        self._close_socket()


def tail_us(config: Config, spin: bool) -> int:
    """Return from when on an order is slow: as configured, or ten times what the stages may take; parked roles are slower."""
    if config.daemon.tail_us:
        return config.daemon.tail_us
    stages = sum(STAGES[name].p50 for name in ("feed", "strategy", "risk", "gateway"))
    return round(10 * stages / 1000) if spin else TAIL_PARK_US


# ---------------------------------------------------------------- for people


def read_orders(config: Config, memory, symbols: list[str], open_only: bool = False) -> list[dict]:
    """Return the order table for people, newest first: read from shared memory, so it answers whatever state the daemon is in."""
    segment = memory["orders"]
    orders = np.asarray(segment["orders"]).view(np.ndarray)
    rows = open_rows(segment) if open_only else list(orders[orders["status"] != OrdStatus.NONE])
    clock = memory["control"]["clock"][0]
    scale = 1e6 / max(int(clock["hz"]), 1)
    found = []
    for order in sorted(rows, key=lambda item: -int(item["user_ref"])):
        instrument = int(order["instrument"])
        answer, sent = int(order["ts_answer"]), int(order["ts_sent"])
        found.append({
            "id": ids.text(int(order["cl_ord_id"])),
            "user_ref": int(order["user_ref"]),
            "venue_ref": int(order["venue_id"]),
            "strategy": int(order["strategy"]),
            "symbol": symbols[instrument] if instrument < len(symbols) else "?",
            "side": Side(int(order["side"])).name,
            "tif": Tif(int(order["tif"])).name,
            "status": OrdStatus(int(order["status"])).name,
            "px": int(order["px"]),
            "qty": int(order["qty"]),
            "cum_qty": int(order["cum"]),
            "leaves_qty": int(order["leaves"]),
            "reason": int(order["reason"]),
            "answer_us": round((answer - sent) * scale, 1) if answer and sent else None,
        })  # fmt: skip
    return found
