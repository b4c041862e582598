"""The feed under faults: the simulated exchange and a feed agent on real sockets, stepped in turn in one process.

    python -m tests.fault.matrix --seeds 1000 [--first 0] [--case NAME]

Each run plays a session of synthetic flow through one kind of fault, from a seed that also chooses its strength. At the end the
feed must be LIVE, have every order of every book in its place (against a feed that applied the exchange's own tape, without a
network), have told strategies the same (their books rebuilt from the market events alone), and have counters that tell what
happened. Exit status 1 when a run fails; its seed and case repeat it.
"""

import argparse
import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from hftd.control.config import ConfigError
from hftd.core import clock as clocks
from hftd.core.memory import address
from hftd.msg.enums import BookState, EventKind
from hftd.sim.loop import cycle
from hftd.sim.options import Options, SimError, check
from hftd.sim.server import Server, warm
from hftd.sim.wire import beat_both
from hftd.venues.nasdaq.itchfeed import apply_run
from tests.support.feed_books import Feed
from tests.support.live_feed import Live
from tests.support.sim_venue import free_ports

SYMBOLS = 4
STEP_S = 0.0002
LIMIT_S = 30.0
EVERY = 1_000_000
"""A fault's rate in the exchange's lines: parts of a million."""


@dataclass
class Run:
    """One session: what the exchange is told, what the feed is told, and what happens on the way."""

    rng: random.Random
    faults: dict = field(default_factory=dict)    # hftd.sim.options.Options
    feed: dict = field(default_factory=dict)      # [feed]
    messages: int = 3000
    rate: int = 60_000
    during: Callable[["Session", int], None] = lambda session, published: None
    tells: Callable[[Counter], bool] = lambda counted: True
    agents: int = 1


class Session:
    """An exchange and a feed, and how far they are."""

    def __init__(self, run: Run, seed: int):
        self.run, self.snapshot_from, self.rng = run, 0, run.rng
        request, glimpse, ouch = free_ports(3)
        settings = {"glimpse": f"127.0.0.1:{glimpse}", "request": [f"127.0.0.1:{request}"], "orders_max": 1 << 16,
                    "levels_max": 1 << 14, "queue_packets": 1024, "gap_timeout_ms": 4, "gap_retries": 3,
                    "reorder_ms": 1}  # fmt: skip
        self.live = Live(md=1 << 18, **(settings | run.feed))
        line_a, line_b = (f"{host}:{port}" for host, port in self.live.lines)
        self.server = Server(check(Options(
            line_a=line_a, line_b=line_b, request_port=request, glimpse_port=glimpse, ouch_port=ouch, fast=True, rate=run.rate,
            messages=run.messages, symbols=SYMBOLS, seed=seed + 1, spin=True, **run.faults,
        )))  # fmt: skip
        try:
            self.server.open()
        except SimError:
            self.close()
            raise
        self.x = self.server.exchange.x
        warm(self.server.exchange)
        self.listening = True
        self.counted: Counter = Counter()
        self._patient()

    def close(self) -> None:
        """Give everything back."""
        self.server.close()
        self.live.close()

    def _patient(self) -> None:
        """Let a snapshot be asked for as often as a short session needs it."""
        self.live.agent.spin.pause = 1000
        if self.snapshot_from:
            self.live.agent.handle["snapshot_from"] = self.snapshot_from

    def step(self) -> None:
        """Let the exchange run for a moment, then the feed."""
        exchange = self.server.exchange
        cycle(self.x, clocks.now_ticks() + exchange.ticks(STEP_S))
        self.server.cold()
        if self.listening:
            self.live.step()

    def stop_feed(self) -> None:
        """The feed dies."""
        self.live.agent.close()
        self.listening = False

    def start_feed(self, snapshot_from: int) -> None:
        """A new feed takes its place. snapshot_from: messages from which on it wants a snapshot."""
        made = type(self.live.agent)(self.live.config, self.live.memory)
        made.prepare(False)
        self.live.agent, self.listening, self.snapshot_from = made, True, snapshot_from
        self._patient()

    def lines(self, **faults: float) -> None:
        """Change both lines' faults now; percent."""
        for line in self.server.exchange.lines:
            for name, percent in faults.items():
                line[name] = int(percent * EVERY / 100)
            line["faulty"] = int(any(line[name] for name in ("loss", "duplicate", "reorder", "delay")))

    # ------------------------------------------------------------ a session from beginning to end

    def play(self) -> None:
        """Run the session, and until the feed has everything."""
        self.server.exchange.start_flow()
        end = time.monotonic() + LIMIT_S
        while not self.x["done"]:
            self.run.during(self, int(self.x["tape"]["count"]))
            self.step()
            assert time.monotonic() < end, f"the flow does not end: {self.live.counters()}"
        self.run.during(self, 1 << 40)
        settled = 0
        while settled < 20:
            if settled == 0:
                beat_both(self.x)
            self.step()
            whole = self.live.expected() == int(self.x["tape"]["count"]) + 1
            settled = settled + 1 if whole and self.live.ready() and not self.live.agent.handle["behind"] else 0
            assert time.monotonic() < end, f"the feed does not catch up: {self.live.expected()} of {int(self.x['tape']['count'])}, \
{self.live.counters()}"
        self.counted = Counter(self.live.counters())

    def check(self) -> None:
        """Compare every book with a run without packets, and what strategies were told; look at the counters."""
        truth = Feed(instruments=8, levels=1 << 14, orders=1 << 16)
        tape = bytearray(self.server.exchange.tape.store.bytes(0, int(self.x["tape"]["tail"])))
        assert int(apply_run(truth.build.agent, address(tape), address(tape) + len(tape), 1)) == int(self.x["tape"]["count"])
        ours = Feed.__new__(Feed)
        ours.build = self.live.agent.build
        told = strategy_books(self.live)
        names = truth.build.tables["instruments"].rows["symbol"][: int(truth.build.agent["used"])]
        assert len(names) == SYMBOLS
        symbols = ours.build.tables["instruments"].rows["symbol"]
        for index, name in enumerate(names):
            mine = next(i for i in range(SYMBOLS) if symbols[i] == name)
            sides = truth.sides(index)
            assert ours.sides(mine) == sides, f"instrument {index}: another book"
            assert ours.quote(mine) == truth.quote(index), f"instrument {index}: another quote"
            assert self.live.state(mine) == BookState.LIVE
            wanted = {(side, px): sum(qty for _, qty in queue) for side in (0, 1) for px, queue in sides[side]}
            assert told[mine] == (wanted, int(BookState.LIVE)), f"instrument {index}: strategies were told another book"
        counted = self.counted
        for name in ("malformed", "foreign", "strangers", "truncated", "unknown_types", "bad_lengths", "bad_fields", "unknown_refs",
                     "duplicate_refs", "overfills", "lost_messages", "orders_full", "levels_full", "detached"):  # fmt: skip
            assert counted[name] == 0, f"{name} {counted[name]}"
        if self.run.agents == 1:
            assert counted["messages"] + counted["superseded"] == int(self.x["tape"]["count"]), "every message once, or superseded"
        assert counted["first_a"] + counted["first_b"] + counted["first_r"] > 0
        assert self.run.tells(counted), f"the counters do not tell what happened: {dict(counted)}"


def strategy_books(live: Live) -> list[tuple[dict, int]]:
    """Return (levels, state) of each instrument as whoever has only the market events knows them."""
    books: list[dict] = [{} for _ in range(8)]
    states = [-1] * 8
    events = live.events()
    columns = (events[name].tolist() for name in ("instrument", "kind", "flags", "px", "qty"))
    for instrument, kind, flags, px, qty in zip(*columns):
        book = books[instrument]
        if kind == EventKind.LEVEL:
            if qty:
                book[(flags & 1, px)] = qty
            else:
                book.pop((flags & 1, px), None)
        elif kind == EventKind.CLEAR:
            book.clear()
        elif kind == EventKind.BOOK_STATE:
            states[instrument] = qty
    return list(zip(books, states))


# ---------------------------------------------------------------- the faults


def loss_on_one_line(rng: random.Random) -> Run:
    """Line A or B loses packets; the other has them all."""
    which, much = rng.randrange(2), rng.uniform(2, 60)
    mine, other = ("ab", "ba")[which]
    return Run(rng, {"loss": ((much, 0.0), (0.0, much))[which]}, {"reorder_ms": 200, "reorder_packets": 1 << 20},
               tells=lambda c: c[f"lost_{mine}"] > 0 == c[f"lost_{other}"] == c["recovered"] + c["requests"]
               + c["snapshots"])  # fmt: skip


def loss_on_both(rng: random.Random) -> Run:
    """Both lose packets, enough of them for some to be the same, and some retransmissions are not answered."""
    much = rng.uniform(12, 40)
    return Run(rng, {"loss": (much, much), "request_loss": rng.choice((0.0, 20.0))}, {"gap_retries": 50},
               tells=lambda c: c["lost_a"] > 0 < c["lost_b"] and c["recovered"] > 0
               and c["first_r"] > 0 == c["snapshots"])  # fmt: skip


def _silences(first: int, length: int, pause: int, between: float, times: int = 100) -> Callable[[Session, int], None]:
    """Both lines lose everything from message `first` on, for `length` messages at least, again after `pause`; `between` % else."""
    state = {"until": 0, "next": first, "times": times}

    def during(session: Session, published: int) -> None:
        if state["until"] and published >= state["until"]:
            state["until"], state["next"] = 0, published + pause
            session.lines(loss=0 if published > 1 << 39 else between)
        elif not state["until"] and state["next"] <= published < 1 << 39 and state["times"]:
            state["until"], state["times"] = published + length, state["times"] - 1
            session.lines(loss=100)
        elif published > 1 << 39:
            session.lines(loss=0)

    return during


def bursts(rng: random.Random) -> Run:
    """Both lines fall silent for a while, again and again."""
    return Run(rng, {}, {"gap_retries": 50},
               during=_silences(rng.randrange(300, 900), rng.randrange(50, 500), rng.randrange(100, 900), 0),
               tells=lambda c: c["gaps"] > 0 < c["recovered"] and c["lost_a"] == c["lost_b"] > 0)  # fmt: skip


def reordering(rng: random.Random) -> Run:
    """Packets come later than their successors, on both lines."""
    much = rng.uniform(5, 50)
    return Run(rng, {"reorder": (much, much)}, {"reorder_ms": 100, "gap_retries": 50},
               tells=lambda c: c["late_a"] > 0 < c["late_b"] and c["queued"] > 0 and c["lost_a"] == c["lost_b"] == 0)  # fmt: skip


def duplication(rng: random.Random) -> Run:
    """Packets come twice on each line."""
    much = rng.uniform(5, 60)
    return Run(rng, {"duplicate": (much, much)},
               tells=lambda c: c["duplicates_a"] + c["duplicates_b"] > max(c["packets_a"], c["packets_b"]) / 2
               and c["lost_a"] == c["lost_b"] == c["late_a"] == c["late_b"] == c["gaps"] == 0)  # fmt: skip


def delay_of_one_line(rng: random.Random) -> Run:
    """Some of one line's packets come milliseconds late; the other is in time."""
    which, much = rng.randrange(2), rng.uniform(10, 90)
    mine, other = ("ab", "ba")[which]
    return Run(rng, {"delay": ((much, 0.0), (0.0, much))[which], "delay_ms": rng.uniform(0.5, 8)}, {"reorder_ms": 200},
               tells=lambda c: c[f"late_{mine}"] > 0 == c[f"late_{other}"] and c[f"duplicates_{mine}"] > 0)  # fmt: skip


def dead_server(rng: random.Random) -> Run:
    """Both lose packets and nobody sends anything again: snapshots."""
    much = rng.uniform(1, 5)
    return Run(rng, {"loss": (much, much), "request_loss": 100.0}, {"gap_timeout_ms": 2, "gap_retries": 1}, messages=2000,
               during=_silences(700, 200, 0, much, times=1),
               tells=lambda c: c["given_up"] > 0 < c["snapshots"]
               and c["superseded"] > 0 == c["first_r"] + c["recovered"])  # fmt: skip


def _starts(rng: random.Random, stop: int, start: int, **more) -> dict:
    """A feed that is stopped at a message and started again at another."""
    state = {"next": 0}
    snapshot_from = rng.choice((100, 400))

    def during(session: Session, published: int) -> None:
        if state["next"] == 0 and published >= stop:
            session.stop_feed()
            state["next"] = 1
        elif state["next"] == 1 and published >= start:
            session.start_feed(snapshot_from)
            state["next"] = 2

    return {"during": during, "agents": 2, **more}


def late_join(rng: random.Random) -> Run:
    """The feed is started when the session is well under way."""
    at = rng.randrange(1000, 2500)
    return Run(rng, **_starts(rng, 0, at, agents=1, tells=lambda c: c["snapshots"] >= 1 and c["superseded"] >= at - 100))


def late_join_in_heavy_flow(rng: random.Random) -> Run:
    """The same while packets come as fast as they can be read, some lost on both lines."""
    at = rng.randrange(4000, 12000)
    return Run(rng, {"loss": (1.0, 1.0)}, {"gap_retries": 50}, messages=30_000, rate=rng.choice((200_000, 400_000)),
               **_starts(rng, 0, at, agents=1, tells=lambda c: c["snapshots"] >= 1 and c["queued"] > 0))  # fmt: skip


def restart(rng: random.Random) -> Run:
    """The feed dies and another takes its place; what it missed meanwhile is lost."""
    at = rng.randrange(800, 1800)
    return Run(rng, **_starts(rng, at, at + rng.randrange(1, 800), tells=lambda c: c["snapshots"] >= 1))


def everything(rng: random.Random) -> Run:
    """All at once, and a snapshot server besides one of retransmissions that is deaf every other time."""
    pair = {name: (rng.uniform(0, 8), rng.uniform(0, 8)) for name in ("loss", "duplicate", "reorder", "delay")}
    at = rng.randrange(500, 1500)
    return Run(rng, {**pair, "delay_ms": rng.uniform(0.5, 5), "request_loss": 50.0}, {"gap_timeout_ms": 3, "gap_retries": 2},
               **_starts(rng, at, at + rng.randrange(1, 500)))  # fmt: skip


CASES = {case.__name__: case for case in (
    loss_on_one_line, loss_on_both, bursts, reordering, duplication, delay_of_one_line, dead_server, late_join,
    late_join_in_heavy_flow, restart, everything,
)}  # fmt: skip


def play(name: str, seed: int) -> Counter:
    """Run one case from one seed; return the feed's counters. Raises AssertionError."""
    for left in range(4, -1, -1):
        try:
            session = Session(CASES[name](random.Random(f"{name} {seed}")), seed)
            break
        except (ConfigError, SimError):               # somebody else took a port that was free
            if left == 0:
                raise
    try:
        session.play()
        session.check()
    finally:
        session.close()
    return session.counted


def main() -> int:
    """Run the matrix."""
    parser = argparse.ArgumentParser(prog="python -m tests.fault.matrix", description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=100, help="how many runs; the cases take turns")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--case", choices=sorted(CASES), help="only this one")
    asked = parser.parse_args()
    names = [asked.case] if asked.case else list(CASES)
    total: Counter = Counter()
    failed = 0
    begun = time.monotonic()
    for seed in range(asked.first, asked.first + asked.seeds):
        name = names[seed % len(names)]
        try:
            total += play(name, seed)
        except AssertionError as error:
            failed += 1
            sys.stdout.write(f"FAILED --case {name} --first {seed} --seeds 1: {error}\n")
            sys.stdout.flush()
    keys = ("messages", "gaps", "reordered", "recovered", "given_up", "snapshots", "snapshot_failures", "superseded", "lost_a",
            "late_a")  # fmt: skip
    sys.stdout.write(f"{asked.seeds} runs, {failed} failed, {time.monotonic() - begun:.0f} s; "
                     + ", ".join(f"{key} {total[key]:,}" for key in keys) + "\n")  # fmt: skip
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
