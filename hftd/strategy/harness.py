"""`Tape`: one strategy, recorded market events, a paper venue, private memory. For tests, benchmarks and a first look at an idea.

    tape = Tape("strategies/market_maker.py", instruments=1)
    tape.play(events)                     # a NumPy array of market_event_dtype
    tape.position(0), tape.intents()      # what it held, what it sent

The strategy runs in the same compiled turn as in the daemon. With NUMBA_DISABLE_JIT=1 it runs as plain Python, step by step in a
debugger, and decides the same.
"""

import mmap
import time
from pathlib import Path

import numpy as np

from hftd.control import config as configuration
from hftd.core.agent import push_log
from hftd.core.memory import records, set_array
from hftd.feed.build import Build, private_tables
from hftd.feed.files import ItchFile, Scan
from hftd.feed.state import SINK_RING
from hftd.msg.enums import RunState
from hftd.msg.records import FLAG_END_OF_PACKET, intent_dtype, market_event_dtype, report_dtype
from hftd.shm import map as memory_map
from hftd.shm import ring
from hftd.shm.histogram import histogram_dtype
from hftd.shm.segment import Segment, size_of
from hftd.strategy import tape as tapes
from hftd.strategy.setup import StrategyAgent
from hftd.strategy.synthetic import market_events
from hftd.venues.nasdaq.itchfeed import apply_run


def private_memory(config) -> memory_map.Memory:
    """Return every segment of a configuration in memory of this process alone, under no name."""
    opened = {name: Segment(name, parts, mmap.mmap(-1, size_of(parts))) for name, parts in memory_map.segments(config).items()}
    return memory_map.Memory(config.daemon.name, opened)


class Tape:
    """A strategy and the events it is shown."""

    def __init__(self, file, instruments: int = 1, params: dict | None = None, symbols: list[str] | None = None,
                 orders_max: int = 4096, epoch: int = 1, rings: dict | None = None, paper: bool = True,
                 follow: list[str] | None = None, levels_max: int = 1 << 16):  # fmt: skip
        names = symbols or [f"S{i}" for i in range(instruments)]
        sizes = {"md": 1024, "intent": 1024, "report": 1024, "log": 64, "order": 64} | (rings or {})
        self.config = configuration.build({
            "universe": {"symbols": names, "max": len(names)},
            "feed": {"levels_max": levels_max},
            "strategy": [{"file": str(Path(file).resolve()), "params": params or {},
                          "symbols": follow or [], "orders_max": orders_max}],
            "rings": sizes,
        })  # fmt: skip
        self.memory = private_memory(self.config)
        control = self.memory["control"]
        clock = np.asarray(control["clock"])[0]
        clock["mult"] = clock["inverse"] = 1 << 32            # one tick is one nanosecond, from 0
        clock["hz"] = 1_000_000_000
        self.run = control["run"][0]
        self.run["state"], self.run["session_up"] = int(RunState.READY), 1
        self.agent = StrategyAgent(self.config, self.memory, 0)
        self.agent.open()
        self.agent.handle["epoch"] = epoch
        self.program = self.agent.program
        self._tape = records(tapes.tape_dtype, 1)
        self.tape = self._tape[0]
        self._rests = records(tapes.paper_order_dtype, 4097)
        set_array(self.tape["rests"], self._rests)
        self.tape["paper"] = int(paper)
        ring.open_producer(self.tape["md"], self.memory["ring.md"])
        ring.open_producer(self.tape["reports"], self.memory["ring.report"])
        ring.open_consumer(self.tape["intents"], self.memory["ring.intent.0"], memory_map.PLACE_RISK)
        self._kernel = self.program.bind(tapes.play, "play")

    def play(self, events: np.ndarray, keep: int = 1 << 16) -> int:
        """Play events to the end; return how many. `keep`: how many intents to keep for `intents`."""
        self._events = np.ascontiguousarray(events, dtype=market_event_dtype)
        self._sent = np.zeros(max(keep, 1), dtype=intent_dtype)
        tape = self.tape
        set_array(tape["events"], self._events)
        set_array(tape["sent"], self._sent)
        tape["next"] = tape["intents_sent"] = tape["reason"] = 0
        return int(self._kernel(self.agent.handle, tape, len(self._events)))

    def idle(self, now: int) -> None:
        """Let the strategy take idle turns at `now` ticks."""
        self.tape["now"] = now
        self.play(np.zeros(0, market_event_dtype))

    def say(self, **fields) -> None:
        """Send the strategy an execution report of your own; fields as in report_dtype."""
        made = np.zeros(1, report_dtype)
        for name, value in fields.items():
            made[name] = value
        push_log(self.tape["reports"], made.ctypes.data)

    def intents(self) -> np.ndarray:
        """Return the intents of the last `play`."""
        return self._sent[: min(int(self.tape["intents_sent"]), len(self._sent))]

    def position(self, instrument: int) -> dict[str, int]:
        """Return the strategy's position row."""
        held = np.asarray(self.agent.segment["positions"])[instrument]
        return {name: int(held[name]) for name in held.dtype.names if name != "pad"}

    def counters(self) -> dict[str, int]:
        """Return the host's counters."""
        block = np.asarray(self.agent.segment["counters"])[0]
        return {name: int(block[name]) for name in block.dtype.names if name != "pad"}

    def state(self) -> np.void:
        """Return the strategy's `state` record."""
        raw = np.asarray(self.agent.segment["state"]).view(np.uint8)
        return raw[: self.program.state_dtype.itemsize].view(self.program.state_dtype)[0]


def measure(file, count: int = 200_000, seed: int = 1, instruments: int = 4) -> dict:
    """Play synthetic events and time every turn. For benchmarks; compiled code only.

    Returns `events` and `decisions` (how many turns sent nothing, or something), `quiet` and `deciding` (their histograms, ticks of
    the time stamp counter, two readings of which are in each), and `ns_per_event`: a run without the stamps, the tape's own work
    (publishing the event, collecting and answering intents) included.
    """
    events = market_events(count, seed, instruments)
    plain = Tape(file, instruments=instruments)
    plain.play(events[:1])
    begun = time.perf_counter_ns()
    plain.play(events[1:])
    spent = time.perf_counter_ns() - begun
    tape = Tape(file, instruments=instruments)
    timed = records(histogram_dtype, 2)
    tape.tape["timed_at"] = timed.ctypes.data
    tape.play(events)
    return {
        "events": int(timed["count"][0]), "decisions": int(timed["count"][1]), "quiet": timed[0], "deciding": timed[1],
        "ns_per_event": spent / (count - 1), "intents": int(tape.tape["intents_sent"]), "fills": int(tape.tape["fills"]),
        "keep": timed,
    }  # fmt: skip


def recorded(path, symbols: list[str] | None = None) -> tuple[np.ndarray, list[str]]:
    """Return the market events that the feed makes of a recorded ITCH file, and the symbols by instrument index.

    Each message counts as a packet of its own, received at the moment of the venue's stamp (one tick is one nanosecond).
    """
    data, messages = ItchFile(path).load()
    at = data.ctypes.data
    scan = Scan()
    scan.add(at, len(data))
    live, count = max(scan["live_peak"] + 1, 1024), max(scan.locates(), 1)
    build = Build(private_tables(count, live + 1), live, list(symbols or ()), SINK_RING)
    capacity = 1 << (4 * messages + 1024).bit_length()
    parts = ring.parts(capacity)
    memory = Segment("tape", parts, mmap.mmap(-1, size_of(parts)))
    ring.open_producer(build.agent["md"], memory)
    apply_run(build.agent, at, at + len(data), 1)
    events = np.array(np.asarray(memory["slots"]).view(market_event_dtype)[: int(build.agent["md"]["tail"])])
    events["ts_recv"], events["t_feed"] = events["ts_event"], 0
    ends = np.append(events["wire_seq"][1:] != events["wire_seq"][:-1], True)
    events["flags"] |= np.where(ends, FLAG_END_OF_PACKET, 0).astype(np.uint8)
    words = build.tables["instruments"].rows["symbol"][: int(build.agent["used"])]
    return events, [int(word).to_bytes(8, "little", signed=True).decode("ascii").rstrip() for word in words]
