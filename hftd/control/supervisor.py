"""The supervisor: makes the shared memory, forks the roles, watches them, answers the CLI. Never in the data path.

    reclaim what a crash left -> create segments -> calibrate -> fork recorder, feed, risk, strategies, gateway
      -> all ready: run.state = READY, systemd told -> watch -> STOPPING: the gateway cancels and logs out, the rest follow
      -> unlink

Everything is compiled before the first fork; a child is ready in milliseconds and never compiles. A role that dies is started
again, at most RESTARTS times in RESTART_WINDOW_S; its place on the market data ring is freed
meanwhile, so that the feed never waits; the rings that carry orders and reports keep theirs, and it misses nothing.
If this process is killed the children see it within a millisecond: the gateway cancels everything and logs out, and the
recorder, last, removes the shared memory.
"""

import contextlib
import faulthandler
import fcntl
import gc
import os
import resource
import signal
import time
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path

from hftd.cli.main import complain
from hftd.control import waiting
from hftd.control.channel import Server
from hftd.control.config import LAYOUTS, Config, log_dir, resolved, role_placement, run_dir
from hftd.control.fused import FusedHost, blamed
from hftd.control.host import Placement, place
from hftd.control.memorymap import users
from hftd.control.placing import Placing, hold_latency, home
from hftd.control.rehearsal import Rehearsal, judge
from hftd.control.sdnotify import Notifier
from hftd.control.warm import watch_for_compiling
from hftd.core import clock as clocks
from hftd.core.agent import Agent, Flag, alive
from hftd.core.keepwarm import KeepWarm
from hftd.core.libc import die_with_parent, set_name
from hftd.core.placement import PAGES, node_at
from hftd.errors import WRONG, HftdError, exit_code
from hftd.feed.setup import FeedAgent
from hftd.gateway import left
from hftd.gateway.setup import EXIT_ORDERS_OPEN, GatewayAgent
from hftd.msg.enums import AgentState, LogCode, Role, RunState
from hftd.recorder import salvage
from hftd.recorder.setup import RecorderAgent
from hftd.risk import kill, ledger
from hftd.risk.setup import RiskAgent
from hftd.shm import map as shared
from hftd.shm import pauses, ring, segment
from hftd.shm.control import REHEARSED_MISSED
from hftd.shm.placed import HELD_ROWS, hold
from hftd.strategy.setup import StrategyAgent

AGENTS = {
    Role.RECORDER: RecorderAgent, Role.FEED: FeedAgent, Role.RISK: RiskAgent, Role.STRATEGY: StrategyAgent,
    Role.GATEWAY: GatewayAgent,
}  # fmt: skip
RESTARTS = 5
RESTART_WINDOW_S = 60.0
HUNG_S = 10.0
HELD_UP_S = 1.0
"""Longer than this between two looks, and the supervisor was stopped itself: what the roles did meanwhile says nothing."""
KILLED_IN_TURN = (Role.GATEWAY,), (Role.STRATEGY, Role.RISK, Role.FEED), (Role.RECORDER,)
"""At the end of a stop that takes too long. Who only waited for one that hangs ends by itself when it is gone; the recorder then
takes what they left and seals the journal and the day's positions."""

ENDED_S = 2.0
CLEANERS = 3
"""Gateways that a stop starts, at most, where the one before died with orders open."""

TICK_S = 0.01
CLOCK_STEP_NS = 1_000_000
"""Clocks that move further apart than this in a second have been stepped; drift and slewing stay below."""


class StartError(HftdError):
    """The daemon did not come up, and why. code: WRONG where trying again cannot help."""

    def __init__(self, text: str, code: int = 1):
        super().__init__(text)
        self.exit_code = code


def take_lock(config: Config, wait_s: float = 0.0) -> int:
    """Take the instance's lock and return its descriptor; it is held as long as any process of the daemon lives.

    Raises StartError where another instance of this name runs (and still does after `wait_s`).
    """
    path = run_dir(config) / "pid"
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise StartError(f"{path}: {error.strerror}; remove it, or choose another daemon.run_dir") from None
    deadline = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() > deadline:
                owner = os.pread(handle, 32, 0).decode().strip() or "unknown"
                os.close(handle)
                raise StartError(
                    f"{config.path}: daemon.name: an instance called {config.daemon.name!r} is running (pid {owner}); "
                    "stop it with `hftd stop`, or choose another name"
                ) from None
            time.sleep(0.05)
    sign_lock(handle)
    try:
        refuse_second(config.daemon.name)             # before anything is compiled
    except HftdError:
        os.close(handle)
        raise
    return handle


def sign_lock(handle: int) -> None:
    """Write this process's number into the lock: who is refused reads it, while this one compiles too."""
    with contextlib.suppress(OSError):                # a full disk; the lock holds all the same
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)


def refuse_second(instance: str) -> None:
    """Raise StartError where an instance of this name runs, in whatever run directory: its memory would be ours.

    It runs, too, while roles of a dead supervisor cancel: the last of them removes the memory, by its name.
    """
    for name in segment.existing(instance):
        pid = segment.holder(name)
        if pid and pid != os.getpid():
            raise StartError(f"an instance called {instance!r} is running (pid {pid}); stop it, or choose another daemon.name")
        if not segment.owner(name) and (still := segment.held_by(name)):
            pids = ", ".join(map(str, still))
            raise StartError(f"an instance called {instance!r} is ending, its supervisor is gone: pid {pids} of it cancel "
                             "yet; wait for them with `hftd stop`, or choose another daemon.name")  # fmt: skip


def reclaim(instance: str) -> list[str]:
    """Remove the segments that a crashed instance left behind, and return their names. What its rings hold is journaled first.

    The caller holds the lock; but a lock lies in a run directory, and a daemon started elsewhere may have another one. Raises
    StartError where the daemon that made them runs.
    """
    refuse_second(instance)
    if segment.full_name(instance, "control") in segment.existing(instance) and (text := salvage.told(instance)):
        with contextlib.suppress(OSError):
            complain(text)
    return [name for name in segment.existing(instance) if segment.unlink(name)]


class Supervisor:
    """One run of the daemon. `run()` returns the process's exit code."""

    def __init__(self, config: Config, lock: int, notifier: Notifier | None = None, on_ready: Callable[[str], None] | None = None):
        self.config, self.lock = resolved(config), lock
        self.notifier = notifier or Notifier()
        self.on_ready = on_ready or (lambda why: None)
        self.placement: Placement = place(config)
        self.children: dict[int, tuple[Role, int, str]] = {}
        self.failures: list[str] = []
        self._started: dict[str, list[float]] = {}
        self._began: dict[str, int] = {}
        self._exit: dict[str, int] = {}
        self._looked = self._patient = self._cleaners = 0

    def run(self) -> int:
        """Bring everything up, watch until told to stop, take everything down. Raises StartError where it does not come up."""
        set_name("hftd")
        faulthandler.enable()
        os.sched_setaffinity(0, self.placement.rest)
        sign_lock(self.lock)
        stopped = Flag(signal.SIGTERM, signal.SIGINT)
        reclaim(self.config.daemon.name)
        large = self.config.placement.huge_pages != "none"
        self.memory = shared.create(self.config, time.time_ns(), homes=self._homes(), large=large)
        control = self.memory["control"]
        self.run_words, self.clock = control["run"][0], control["clock"][0]
        self.marks = control["marks"]
        server, latency = None, -1
        try:
            latency = hold_latency(self.config, control["placed"][0])
            self._tell_segments(control)
            clocks.calibrate(self.clock)
            self.run_words["epoch"] = time.time_ns()
            self.run_words["layout"] = LAYOUTS.index(self.placement.layout)
            self.run_words["strategies"] = sum(row.enabled for row in self.config.strategy)
            kill.load_latch(self.config, self.memory)
            ledger.begin(self.config, self.memory)
            server = Server(run_dir(self.config) / "control.sock")
            gc.collect()
            gc.freeze()
            self._spawn_all()
            self._await_ready(stopped, server)
            code = self._watch(stopped, server)
        except BaseException as error:
            self._take_down()
            if isinstance(error, StartError) and (open_now := left.in_words(self.memory)) and open_now not in str(error):
                raise StartError(f"{error}; orders may live at the venue: {open_now}", error.exit_code) from None
            raise
        finally:
            if server:
                server.close()
            self._kill_rest()
            self.memory.unlink()
            if latency >= 0:
                os.close(latency)
        return code

    def _homes(self) -> dict[str, tuple[int, bool]]:
        """Segment -> NUMA node of the role that writes it, and whether it must be that one."""
        found = {}
        for name in shared.segments(self.config):
            writer = users(self.config, name)[0][0]
            node = home(self.config, writer, self.placement.cores.get(writer))
            if node >= 0:
                found[name] = node, role_placement(self.config, writer).node >= 0
        return found

    def _tell_segments(self, control) -> None:
        """Write down the pages and the node of each segment, as the supervisor's own blocks."""
        blocks = []
        for name in self.memory.names():
            one = self.memory[name]
            blocks.append((name, one.base, one.size, 0, one.large, PAGES.index("advise") if one.large else 0, node_at(one.base)))
        hold(control["held"][:HELD_ROWS], blocks)

    # ------------------------------------------------------------ children

    def _spawn_all(self) -> None:
        for role, index, name in shared.agents(self.config):
            if self.placement.fused and role in (Role.STRATEGY, Role.RISK):
                continue
            self._spawn(role, index, name)

    def _spawn(self, role: Role, index: int, name: str) -> None:
        history = self._started.setdefault(name, [])
        history.append(time.monotonic())
        self._began[name] = clocks.now_ticks()
        for one in self._members(role, index):
            mark = self.marks[shared.mark_of(*one)]
            mark["starts"] = len(history)
            mark["state"], mark["ready"], mark["heartbeat"] = int(AgentState.STARTING), 0, self._began[name]
        supervisor = os.getpid()
        pid = os.fork()
        if pid == 0:
            code = 70
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            die_with_parent(signal.SIGTERM, supervisor)
            try:
                code = self._child(role, index, name)
            except HftdError as error:
                self._report(self._whose(role, index, error), str(error))
                code = exit_code(error) if exit_code(error) != 1 else code
            except BaseException as error:
                self._report(self._whose(role, index, error), traceback.format_exc())
            finally:
                os._exit(code)
        self.children[pid] = (role, index, name)
        for one in self._members(role, index):        # at once: while this one lives, others do not take the gateway for gone
            self.marks[shared.mark_of(*one)]["pid"] = pid

    def _members(self, role: Role, index: int) -> list[tuple[Role, int]]:
        if self.placement.fused and role == Role.GATEWAY:
            strategy = next(i for i, row in enumerate(self.config.strategy) if row.enabled)
            return [(Role.STRATEGY, strategy), (Role.RISK, 0), (Role.GATEWAY, 0)]
        return [(role, index)]

    def _child(self, role: Role, index: int, name: str) -> int:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        gc.disable()
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        set_name(f"hftd:{name}")
        core = self.placement.cores.get(name)
        members = self._members(role, index)
        for one in members:
            self.marks[shared.mark_of(*one)]["core"] = -1 if core is None else core
        spin = self.placement.spin and role != Role.RECORDER
        watch_for_compiling(self.marks[shared.mark_of(*members[-1])])
        rows = [self.memory["control"]["placed"][shared.mark_of(*one)] for one in members]
        placing = Placing(self.config, name, rows, core, spin, self.placement.spare)
        placing.before()
        rehearsed = self._rehearse(role, index) if role != Role.RECORDER else None
        placing.set_aside("rehearsal")
        program = rehearsed.program if rehearsed is not None else None
        agents: list[Agent] = [
            AGENTS[one](self.config, self.memory, number) if one != Role.STRATEGY or program is None
            else StrategyAgent(self.config, self.memory, number, program) for one, number in members
        ]  # fmt: skip
        if rehearsed is not None:
            self._after_rehearsal(rehearsed, agents, spin)
        if agents[-1].keep_warm is None:
            placing.forget("rehearsal")
        agents[-1].on_open = lambda: self._opened(placing, agents, members)
        if len(agents) > 1:
            return FusedHost(agents).serve(spin)
        return agents[0].serve(spin)

    def _rehearse(self, role: Role, index: int) -> Rehearsal | None:
        """Play a role's tape in its process. A role that died and comes back does not: it is wanted at once."""
        begun = time.perf_counter_ns()
        lead = self._members(role, index)[0] if self.placement.fused and role == Role.GATEWAY else (role, index)
        mark = shared.mark_of(role, index)
        if int(self.marks[mark]["starts"]) > 1:
            return None
        made = Rehearsal(self.config, role, lead[1], self.placement.fused and role == Role.GATEWAY, self.clock)
        found = made.play()
        row, wanted = self.memory["control"]["rehearsals"][mark], self.config.daemon.ready_budget
        if judge(row, found, wanted, time.perf_counter_ns() - begun) == REHEARSED_MISSED and wanted == "refuse":
            raise HftdError(
                f"{self.config.path}: daemon.ready_budget: refused: {role.name.lower()} took {found['p50_ns']} ns in rehearsal, "
                f"its budget is {found['budget_ns']} ns; give roles cores of their own (`hftd check`), or set \"warn\""
            )
        return made

    def _after_rehearsal(self, rehearsed: Rehearsal, agents: list, spin: bool) -> None:
        """Tell a missed budget; keep the rehearsal to keep warm by, or give it back."""
        row = self.memory["control"]["rehearsals"][int(agents[-1].role) + agents[-1].index]
        if int(row["verdict"]) == REHEARSED_MISSED:
            agents[-1].log(LogCode.BUDGET_MISSED, int(row["p50_ns"]), int(row["budget_ns"]))
        wanted = self.config.daemon.keep_warm
        if wanted == "on" or (wanted == "auto" and spin):
            marks = [agent.mark for agent in agents]
            agents[-1].keep_warm = KeepWarm(rehearsed.step, marks, self.config.daemon.keep_warm_ms,
                                            lambda: agents[-1].log(LogCode.EXERCISE_FAILED))  # fmt: skip
        else:
            rehearsed.close()

    def _opened(self, placing: Placing, agents: list, members: list[tuple[Role, int]]) -> None:
        """Finish placing a child: its memory is there."""
        names = {name for role, index, name in shared.agents(self.config) if (role, index) in members}
        used = [self.memory[one] for one in self.memory.names()
                if any(names & set(those) or "everybody" in those for those in users(self.config, one))]  # fmt: skip
        mark = shared.mark_of(*members[-1])
        placing.after(used, self.memory["control"]["held"][mark * HELD_ROWS : (mark + 1) * HELD_ROWS])
        placing.log(agents[-1])

    def _whose(self, role: Role, index: int, error: BaseException) -> str:
        """Return the name of the agent whose error ended a child: of the three in a fused process, the one it came out of."""
        members = self._members(role, index)
        guilty = role
        if len(members) > 1:
            guilty = blamed(error, self.config.strategy[members[0][1]].file)
        return next(name for one, number, name in shared.agents(self.config)
                    if one == guilty and (one, number) in members)  # fmt: skip

    def _report(self, name: str, text: str) -> None:
        """Keep a child's last words where the supervisor and a person find them."""
        with contextlib.suppress(OSError, HftdError):
            (log_dir(self.config) / f"{name}.failed").write_text(text.rstrip() + "\n")

    def _last_words(self, role: Role, index: int) -> tuple[str, str]:
        """Return the name of the agent that ended a child, and its last words; its own name and '' where it left none."""
        names = {(one, number): name for one, number, name in shared.agents(self.config)}
        for one in self._members(role, index):
            try:
                path = log_dir(self.config) / f"{names[one]}.failed"
                lines = path.read_text(errors="replace").strip().splitlines()
                path.unlink(missing_ok=True)
                if len(lines) > 1:                    # a traceback: its file goes, so that the next one is not taken for it
                    self._say("\n".join((f"{names[one]}:", *lines)))
            except (OSError, HftdError):              # a directory that is gone, a full disk: no reason to end the daemon
                continue
            return names[one], lines[-1] if lines else ""
        return names[role, index], ""

    def _reap(self) -> list[tuple[Role, int, str, int]]:
        """Return (role, index, name, exit code) of the children that ended since the last look."""
        ended = []
        for pid in list(self.children):
            try:
                done, status = os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                done, status = pid, 0
            if done:
                role, index, name = self.children.pop(pid)
                code = os.waitstatus_to_exitcode(status)
                self._exit[name] = code
                self._mark_ended(role, index, AgentState.STOPPED if code == 0 else AgentState.FAILED)
                self._free_places(pid)
                ended.append((role, index, name, code))
        return ended

    def _mark_ended(self, role: Role, index: int, state: AgentState) -> None:
        for one in self._members(role, index):
            mark = self.marks[shared.mark_of(*one)]
            mark["pid"], mark["ready"], mark["state"] = 0, 0, int(state)

    def _free_places(self, pid: int) -> None:
        """Let the feed go on without a dead consumer. Every other ring keeps its place: who comes back wants what it missed."""
        for consumer in self.memory["ring.md"]["control"][0]["consumers"]:
            if int(consumer["pid"]) == pid:
                consumer["state"] = ring.FREE

    # ------------------------------------------------------------ phases

    def _await_ready(self, stopped: Flag, server: Server) -> None:
        deadline = time.monotonic() + self.config.daemon.ready_timeout_s
        wanted = [(shared.mark_of(role, index), name) for role, index, name in shared.agents(self.config)]
        while True:
            if stopped:                               # before the children: a signal to the group ends those that are not up yet
                raise StartError("stopped before it was ready")
            for role, index, _, code in self._reap():
                name, words = self._last_words(role, index)
                raise StartError(f"{name} did not start: {words or f'exit code {code}'}", WRONG if code == WRONG else 1)
            missing = [name for mark, name in wanted if not int(self.marks[mark]["ready"])]
            if not missing:
                break
            if time.monotonic() > deadline:
                after = f"not ready after {self.config.daemon.ready_timeout_s:g} s"
                raise StartError(f"{after}: waiting for {waiting.in_words(self.config, self.memory, missing)}")
            for request, reply in server.requests():
                self._answer(request, reply, stopped)
            time.sleep(TICK_S)
        self.run_words["ready_utc_ns"] = time.time_ns()
        self.run_words["state"] = int(RunState.READY)
        self.notifier.send(ready=1, status=self._doing())
        self.on_ready(self.placement.why)

    def _doing(self) -> str:
        """Say in a line, for systemd, whether this daemon trades."""
        killed = kill.in_force(self.config, self.memory)
        return kill.in_words(killed) if killed else f"trading, layout {self.placement.layout}"

    def _watch(self, stopped: Flag, server: Server) -> int:
        next_watchdog = next_clock = 0.0
        pulled = int(self.run_words["kill"])
        while not stopped:
            now = time.monotonic()
            for role, index, name, code in self._reap():
                self._revive(role, index, name, code)
            if self.failures:
                break
            self._end_hung()
            if now >= next_watchdog:
                next_watchdog = now + (self.notifier.watchdog_s / 3 or 1.0)
                if not self._stale(self.notifier.watchdog_s or HUNG_S):
                    self.notifier.send(watchdog=1)
            if now >= next_clock:
                next_clock = now + 1.0
                self._refresh_clock()
                if pulled != int(self.run_words["kill"]):
                    pulled = int(self.run_words["kill"])
                    self.notifier.send(status=self._doing())
            for request, reply in server.requests():
                self._answer(request, reply, stopped)
            time.sleep(TICK_S)
        return self._take_down()

    def _refresh_clock(self) -> None:
        """Measure the clock anew. A step is told as a pause of ours: stamps of that second may be wrong."""
        before = int(self.clock["tsc_origin"])
        stepped = clocks.refresh(self.clock)
        if abs(stepped) > CLOCK_STEP_NS:
            control = self.memory["control"]
            at = control.address("meters"), control.address("pauses")
            pauses.note_wait(*at, before, clocks.now_ticks(), pauses.CLOCK, stepped)

    def _revive(self, role: Role, index: int, name: str, code: int) -> None:
        now = time.monotonic()
        recent = [at for at in self._started[name][1:] if now - at < RESTART_WINDOW_S]
        whose, words = self._last_words(role, index)
        if role == Role.GATEWAY:
            self.run_words["session_up"] = 0
        ended = f"{whose} ended with {code} {words}".strip()
        if not self.config.daemon.restart or len(recent) >= RESTARTS or code == EXIT_ORDERS_OPEN:
            self._fail(ended)
            return
        self._say(f"{ended}; started again")
        self._spawn(role, index, name)

    def _fail(self, text: str) -> None:
        self.failures.append(text)
        self._say(text)

    def _say(self, text: str) -> None:
        """Say something in the supervisor's log, or to the journal; whoever reads it, or not, ends nothing."""
        with contextlib.suppress(OSError):
            complain(text)

    def _opens(self, role: Role, index: int, name: str) -> bool:
        """Tell whether a child opens what it owns yet: its loop has not beaten since it was started."""
        return int(self.marks[shared.mark_of(role, index)]["heartbeat"]) == self._began.get(name)

    def _stale(self, limit_s: float) -> list[str]:
        """Return the names of agents whose heartbeat is older than `limit_s`; than `daemon.ready_timeout_s` where they open yet.

        A role that is started again may have much to open (a large store, books from a snapshot), and beats first when it has.
        """
        hz, now = int(self.clock["hz"]), clocks.now_ticks()
        opening = {one for role, index, name in self.children.values() if self._opens(role, index, name)
                   for one in self._members(role, index)}  # fmt: skip
        most = max(limit_s, self.config.daemon.ready_timeout_s)
        limits = {one: most if one[:2] in opening else limit_s for one in shared.agents(self.config)}
        return [
            name for (role, index, name), most in limits.items()
            if now - int(self.marks[shared.mark_of(role, index)]["heartbeat"]) > int(most * hz)
        ]  # fmt: skip

    def _end_hung(self) -> None:
        """Kill who gives no sign of life. Where all were stopped (a frozen group, a paused machine) each gets its time anew."""
        now, hz = clocks.now_ticks(), int(self.clock["hz"])
        if now - self._looked > HELD_UP_S * hz:
            self._patient = now + int(HUNG_S * hz)
        self._looked = now
        if now < self._patient:
            return
        for name in self._stale(HUNG_S):
            for pid, (role, index, other) in self.children.items():
                if other == name:
                    slow = f"not open after {max(HUNG_S, self.config.daemon.ready_timeout_s):g} s (daemon.ready_timeout_s): killed"
                    self._report(name, slow if self._opens(role, index, name) else f"no heartbeat for {HUNG_S:g} s: killed")
                    os.kill(pid, signal.SIGKILL)

    def _take_down(self) -> int:
        patience = self.config.daemon.stop_timeout_s + 3.0
        self.notifier.send(stopping=1, status="cancelling open orders", extend_timeout_usec=int(longest_stop_s(self.config) * 1e6))
        self._reap()
        self._clean_up()                              # before the others hear of a stop: they go when no gateway is left
        self.run_words["state"] = int(RunState.STOPPING)
        self._await_ended(patience)
        for roles in KILLED_IN_TURN:
            if self._kill_rest(roles):
                self._await_ended(patience if Role.GATEWAY in roles and self._clean_up() else ENDED_S)
        if open_now := left.in_words(self.memory):
            self._fail(f"ORDERS MAY LIVE AT THE VENUE, see to them there: {open_now}")
        self.run_words["state"] = int(RunState.STOPPED)
        return 1 if self.failures or any(self._exit.values()) else 0

    def _clean_up(self) -> bool:
        """Start a gateway where none is left and orders may be open, to cancel them; tell whether one was started.

        One that ended because the venue cancels nothing has done what can be done.
        """
        there = any(role == Role.GATEWAY for role, _, _ in self.children.values())
        refused = self._exit.get("gateway") == EXIT_ORDERS_OPEN
        if there or refused or self._cleaners >= CLEANERS or not left.open_rows(self.memory["orders"]):
            return False
        self._cleaners += 1
        self.run_words["session_up"] = 0
        self._say("no gateway is left, and orders may be open: one is started to cancel them")
        try:
            self._spawn(Role.GATEWAY, 0, "gateway")
        except OSError as error:
            self._fail(f"gateway: it cannot be started: {error.strerror}")
            return False
        return True

    def _await_ended(self, timeout_s: float) -> None:
        """Wait for the children to end, so long at most. A gateway that dies with orders open is followed by another."""
        deadline = time.monotonic() + timeout_s
        while self.children and time.monotonic() < deadline:
            for role, index, _, code in self._reap():
                if code:
                    self._say(" ".join((*self._last_words(role, index), f"(ended with {code} while stopping)")))
            self._clean_up()
            time.sleep(TICK_S)

    def _kill_rest(self, roles: Iterable[Role] = tuple(AGENTS)) -> bool:
        """Kill the children of these roles that are left; tell whether there were any."""
        chosen = [pid for pid, (role, _, _) in self.children.items() if role in roles]
        for pid in chosen:
            self._fail(f"{self.children[pid][2]} did not stop and was killed")
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for pid in chosen:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)
            role, index, _ = self.children.pop(pid)
            self._mark_ended(role, index, AgentState.FAILED)
        return bool(chosen)

    def _answer(self, request: dict, reply: Callable[[dict], None], stopped: Flag) -> None:
        """Do what a request asks for. What is wrong with it is its sender's trouble, never the daemon's."""
        try:
            self._obey(request, reply, stopped)
        except (HftdError, OSError, ValueError) as error:
            reply({"error": str(error)})

    def _obey(self, request: dict, reply: Callable[[dict], None], stopped: Flag) -> None:
        what = request.get("do")
        if what == "ping":
            reply({"pid": os.getpid(), "state": RunState(int(self.run_words["state"])).name})
        elif what == "stop":
            reply({"pid": os.getpid(), "stopping": True})
            stopped.number = signal.SIGTERM
        elif what == "kill":
            kill.pull(self.config, self.memory, str(request.get("by", "operator")), str(request.get("why", "")))
            reply({"killed": True})
        elif what == "clear":
            kill.clear(self.config, self.memory, str(request.get("by", "")))
            reply({"killed": False})
        else:
            reply({"error": f"unknown request {what!r}"})


def longest_stop_s(config: Config) -> float:
    """Return how long a stop may take: roles that hang are killed in turn, and another gateway cancels for the one that hung."""
    patience = config.daemon.stop_timeout_s + 3.0
    return 2 * patience + len(KILLED_IN_TURN) * ENDED_S + 5.0


def wait_gone(pid: int, timeout_s: float) -> bool:
    """Wait until a process is gone; False where it is still there after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while alive(pid):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def open_log(log: Path) -> int:
    """Open the file that a background process says everything into. Raises StartError."""
    try:
        return os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    except OSError as error:
        raise StartError(f"{log}: {error.strerror}; remove it, or choose another daemon.log_dir") from None


def daemonize(out: int) -> None:
    """Turn this (forked) process into a background one: own session, standard streams into an open file."""
    os.setsid()
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(out, 1)
    os.dup2(out, 2)
    os.close(null)
    os.close(out)
