"""`hftd demo`: a whole session on this machine, and a verdict at the end.

    hftd sim (a process of its own: the exchange)  <- UDP multicast, TCP ->  feed, strategies, risk, gateway, recorder

The exchange keeps a ledger of its own; when the session is over it must agree, to the share and the cent, with what the gateway,
risk and the strategies each worked out from their own view. A difference makes the exit code non-zero.
"""

import functools
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from hftd.cli.main import say
from hftd.control.config import Config, build
from hftd.control.host import check_host, place
from hftd.control.status import counters, latencies, positions, symbols
from hftd.control.supervisor import Supervisor, daemonize, open_log, take_lock, wait_gone
from hftd.control.told import Told
from hftd.control.warm import compile_all, exchange_kernel, kernels
from hftd.core import clock as clocks
from hftd.core.budgets import STAGES
from hftd.core.libc import die_with_parent
from hftd.errors import HftdError
from hftd.feed.files import busiest_symbols
from hftd.shm import map as shared
from hftd.shm import segment
from hftd.sim.options import SYNTHETIC_SYMBOLS

EXAMPLES = ("market_maker.py", "imbalance_taker.py")
SYMBOLS_MAX = 32


class DemoError(HftdError):
    """The demonstration could not be run."""


def run(options) -> int:
    """Run the demonstration as `hftd demo` was asked to; return the exit code."""
    check_host()
    if options.json and not os.access(Path(options.json).resolve().parent, os.W_OK):
        raise DemoError(f"--json {options.json}: give a file in a directory that exists and that you may write")
    told = Told()
    begun = time.monotonic()
    chosen = busiest_symbols(options.data, SYMBOLS_MAX) if options.data else list(SYNTHETIC_SYMBOLS)
    work = Path(options.capture).resolve() if options.capture else Path(tempfile.mkdtemp(prefix="hftd-demo-"))
    work.mkdir(parents=True, exist_ok=True)
    session = Session(options, chosen, work, told)
    try:
        return session.run(begun)
    finally:
        told.ignore()
        session.end()
        if not options.capture:
            shutil.rmtree(work, ignore_errors=True)


class Session:
    """One demonstration: the exchange, the daemon, and what is read from both."""

    def __init__(self, options, chosen: list[str], work: Path, told: Told):
        self.options, self.chosen, self.work, self.told = options, chosen, work, told
        self.ports = free_ports(4)
        self.group = f"239.192.{random.SystemRandom().randrange(1, 255)}.{random.SystemRandom().randrange(1, 255)}"
        self.ledger = work / "ledger.json"
        self.config = self._config()
        self.exchange: subprocess.Popen | None = None
        self.daemon = 0
        self.memory_by_role: dict[str, float] = {}

    def _config(self) -> Config:
        udp, tcp, request, glimpse = self.ports
        examples = self.options.strategy or list(EXAMPLES)
        layout = self.options.layout
        return build({
            "daemon": {"name": f"demo-{os.getpid()}", "layout": layout, "run_dir": str(self.work), "log_dir": f"{self.work}/log"},
            "universe": {"symbols": self.chosen, "max": max(len(self.chosen), 1)},
            "feed": {"line_a": f"{self.group}:{udp}", "line_b": f"{self.group}:{udp + 1}", "request": [f"127.0.0.1:{request}"],
                     "glimpse": f"127.0.0.1:{glimpse}"},
            "gateway": {"address": f"127.0.0.1:{tcp}"},
            "strategy": [{"file": file, "symbols": self._share(number, len(examples))} for number, file in enumerate(examples)],
            "risk": {"feed_stale_ms": 60_000, "message_rate_max": 100_000},
        }, "demo")  # fmt: skip

    def _share(self, number: int, strategies: int) -> list[str]:
        """Return the symbols of one strategy: each its own where there are enough, since risk denies trading with ourselves."""
        return self.chosen[number::strategies] if len(self.chosen) >= strategies else self.chosen

    # ------------------------------------------------------------ running

    def run(self, begun: float) -> int:
        """Start everything, follow it to the end of the session, stop everything, and print what happened."""
        placement = place(self.config)
        compile_all([exchange_kernel(), *kernels(self.config, placement)])
        self.told.check()
        self._start_exchange()
        self._await_exchange()
        say(f"layout {placement.layout}: {placement.why}")
        self._start_daemon()
        _, memory = shared.attach(self.config.daemon.name)
        say(f"trading {time.monotonic() - begun:.1f} s after the call; {self._what()}")
        self._follow(memory)
        stopped = self._stop_daemon()
        facts = self._facts(memory, stopped)
        render(facts, self.config)
        if self.options.json:
            Path(self.options.json).write_text(json.dumps(facts, indent=1) + "\n")
        return 0 if facts["ledger_agrees"] and stopped == 0 else 1

    def _what(self) -> str:
        if self.options.data:
            return f"replaying {Path(self.options.data).name} over {self.options.seconds:g} s"
        return f"synthetic session of {self.options.seconds:g} s, seed {self.options.seed}"

    def _start_exchange(self) -> None:
        udp, tcp, request, glimpse = self.ports
        command = [
            sys.executable, "-m", "hftd", "sim", "--line-a", f"{self.group}:{udp}", "--line-b", f"{self.group}:{udp + 1}",
            "--ouch-port", str(tcp), "--request-port", str(request), "--glimpse-port", str(glimpse), "--seconds",
            str(self.options.seconds), "--seed", str(self.options.seed), "--ledger", str(self.ledger), "--wait-login", "120",
        ]  # fmt: skip
        if self.options.data:
            command += ["--data", str(Path(self.options.data).resolve())]
        self.output = (self.work / "exchange.log").open("w+")
        ended_with_us = functools.partial(die_with_parent, signal.SIGTERM, os.getpid())
        self.exchange = subprocess.Popen(command, stdout=self.output, stderr=self.output, stdin=subprocess.DEVNULL,
                                         preexec_fn=ended_with_us)  # fmt: skip

    def _exchange_said(self) -> str:
        return (self.work / "exchange.log").read_text()

    def _await_exchange(self) -> None:
        assert self.exchange is not None
        deadline = time.monotonic() + 180
        while "ready" not in self._exchange_said():
            if self.exchange.poll() is not None:
                lines = self._exchange_said().strip().splitlines()
                raise DemoError(f"the exchange did not start: {lines[-1] if lines else 'no reason given'}")
            if time.monotonic() > deadline:
                raise DemoError("the exchange did not come up within 180 s")
            self.told.check()
            time.sleep(0.02)

    def _start_daemon(self) -> None:
        read_end, write_end = os.pipe()
        lock, parent = take_lock(self.config), os.getpid()
        self.daemon = os.fork()
        if self.daemon == 0:
            code = 1
            try:
                die_with_parent(signal.SIGTERM, parent)  # whatever ends the demonstration, and be it SIGKILL
                os.close(read_end)
                daemonize(open_log(self.work / "supervisor.log"))
                code = Supervisor(self.config, lock, on_ready=lambda why: os.write(write_end, b"ready\n")).run()
            except HftdError as error:
                os.write(write_end, f"{error}\n".encode())
            finally:
                os._exit(code)
        os.close(write_end)
        os.close(lock)
        with os.fdopen(read_end) as pipe:
            line = pipe.readline().strip()
        if line != "ready":
            raise DemoError(line or f"the daemon failed; see {self.work}/supervisor.log")

    def _follow(self, memory: shared.Memory) -> None:
        """Show progress until the exchange's flow has ended."""
        assert self.exchange is not None
        begun = time.monotonic()
        terminal = sys.stderr.isatty()
        deadline = begun + self.options.seconds * 3 + 60
        next_sample = 0.0
        while "flow ended" not in self._exchange_said() and self.exchange.poll() is None:
            now = time.monotonic()
            if now > deadline:
                raise DemoError(f"the session did not end within {deadline - begun:.0f} s; see --capture DIR")
            if now >= next_sample:
                next_sample = now + 1.0
                self._sample_memory(memory)
                if terminal:
                    found = counters(self.config, memory)
                    gateway = memory["orders"]["positions"]
                    sys.stderr.write(
                        f"\r{now - begun:5.1f} s  {found['feed'].get('messages', 0):>10,} messages  "
                        f"{int(gateway['orders'].sum()):>7,} orders  {int(gateway['fills'].sum()):>7,} fills "
                    )
                    sys.stderr.flush()
            if wait_gone(self.daemon, 0):
                raise DemoError(f"the daemon ended before the session did: {self._last_words()}")
            self.told.check()
            time.sleep(0.05)
        self._sample_memory(memory)
        if terminal:
            sys.stderr.write("\r\x1b[K")

    def _last_words(self) -> str:
        for file in sorted((self.work / "log").glob("*.failed")):
            return f"{file.stem}: {file.read_text().strip().splitlines()[-1]}"
        lines = (self.work / "supervisor.log").read_text().strip().splitlines()
        return lines[-1] if lines else "no reason given"

    def _sample_memory(self, memory: shared.Memory) -> None:
        pids = {"demo": os.getpid(), "supervisor": self.daemon, "exchange": self.exchange.pid if self.exchange else 0}
        for role, index, name in shared.agents(self.config):
            pids[name] = int(memory["control"]["marks"][shared.mark_of(role, index)]["pid"])
        for name, pid in pids.items():
            with suppress(psutil.Error, OSError):
                if pid:
                    used = psutil.Process(pid).memory_full_info().pss / (1 << 20)
                    self.memory_by_role[name] = max(self.memory_by_role.get(name, 0.0), round(used, 1))

    def _stop_daemon(self) -> int:
        os.kill(self.daemon, 15)
        deadline = time.monotonic() + self.config.daemon.stop_timeout_s + 10
        while time.monotonic() < deadline:
            done, status = os.waitpid(self.daemon, os.WNOHANG)
            if done:
                self.daemon = 0
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.02)
        raise DemoError("the daemon did not stop")

    def end(self) -> None:
        """End whatever still runs."""
        if self.daemon:
            with suppress(ProcessLookupError):
                os.kill(self.daemon, 15)
            if not wait_gone(self.daemon, self.config.daemon.stop_timeout_s + 5):
                os.kill(self.daemon, 9)
            self._clear()
        if self.exchange and self.exchange.poll() is None:
            self.exchange.terminate()
            with suppress(subprocess.TimeoutExpired):
                self.exchange.wait(10)
            if self.exchange.poll() is None:
                self.exchange.kill()
                self.exchange.wait()
        if hasattr(self, "output"):
            self.output.close()

    def _clear(self) -> None:
        """See the daemon's shared memory gone, and who uses it: of a supervisor that was killed they may be there still."""
        name, deadline = self.config.daemon.name, time.monotonic() + self.config.daemon.stop_timeout_s + 5
        while segment.existing(name) and time.monotonic() < deadline:
            time.sleep(0.02)
        for entry in segment.existing(name):
            for pid in segment.users(entry):
                if pid != os.getpid():
                    with suppress(ProcessLookupError, PermissionError):
                        os.kill(pid, signal.SIGKILL)
            segment.unlink(entry)

    # ------------------------------------------------------------ the verdict

    def _facts(self, memory: shared.Memory, stopped: int) -> dict[str, Any]:
        assert self.exchange is not None
        with suppress(subprocess.TimeoutExpired):
            self.exchange.wait(30)
        try:
            ledger = json.loads(self.ledger.read_text())
        except (OSError, ValueError):
            raise DemoError(f"the exchange left no ledger: {self._exchange_said().strip()[-200:]}") from None
        found = counters(self.config, memory)
        ours = {who: books(memory, segments) for who, segments in {
            "gateway": ["orders"], "risk": ["risk"],
            "strategies": [f"strategy.{i}" for i, row in enumerate(self.config.strategy) if row.enabled],
        }.items()}  # fmt: skip
        venue = {
            row["symbol"]: {key: int(row[key]) for key in COMPARED}
            for row in ledger["positions"]
            if any(row[key] for key in COMPARED)
        }
        differences = [
            f"{who} {symbol} {key}: exchange {venue.get(symbol, {}).get(key, 0):,}, {who} {book.get(symbol, {}).get(key, 0):,}"
            for who, book in ours.items() for symbol in sorted({*venue, *book}) for key in COMPARED
            if venue.get(symbol, {}).get(key, 0) != book.get(symbol, {}).get(key, 0)
        ]  # fmt: skip
        open_orders = int(ledger["open_orders"])
        if open_orders:
            differences.append(f"exchange: {open_orders} orders are still open")
        clock = clocks.snapshot(memory["control"]["clock"][0])
        return {
            "data": str(self.options.data or f"synthetic, seed {self.options.seed}"),
            "layout": place(self.config).layout,
            "messages": found["feed"]["messages"],
            "book_updates": found["feed"]["book_updates"],
            "orders": sum(row["orders"] for row in venue.values()),
            "fills": sum(row["fills"] for row in venue.values()),
            "positions": positions(memory),
            "latency_ns": latencies(memory, clock),
            "counters": found,
            "memory_mib": {**self.memory_by_role, "shared segments": round(memory.bytes / (1 << 20), 1)},
            "memory_total_mib": round(sum(self.memory_by_role.values()), 1),
            "differences": differences,
            "ledger_agrees": not differences,
            "clean_stop": stopped == 0,
        }


COMPARED = ("orders", "fills", "bought_qty", "sold_qty", "bought_cash", "sold_cash")
"""What four independent records must agree on, for every instrument."""


def books(memory: shared.Memory, segments: list[str]) -> dict[str, dict[str, int]]:
    """Return symbol -> what was compared, summed over the segments' position rows, rows of zeros left out."""
    total: dict[str, dict[str, int]] = {}
    for number, symbol in enumerate(symbols(memory)):
        row = {key: sum(int(memory[name]["positions"][key][number]) for name in segments) for key in COMPARED}
        if any(row.values()):
            total[symbol] = row
    return total


def free_ports(count: int) -> list[int]:
    """Return ports that are free now for TCP and, with their successor, for UDP."""
    found: list[int] = []
    while len(found) < count:
        with socket.socket() as tcp, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp, \
                socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as after:  # fmt: skip
            tcp.bind(("127.0.0.1", 0))
            port = tcp.getsockname()[1]
            with suppress(OSError, OverflowError):
                udp.bind(("127.0.0.1", port))
                after.bind(("127.0.0.1", port + 1))
                if not {port, port + 1, port - 1} & set(found):
                    found.append(port)
    return found


def render(facts: dict[str, Any], config: Config) -> None:
    """Print the summary."""
    from hftd.cli.show import render_positions
    from hftd.cli.tables import console, ns, table

    console.print(
        f"\n[bold]{facts['messages']:,}[/] messages  [bold]{facts['book_updates']:,}[/] book updates  "
        f"[bold]{facts['orders']:,}[/] orders  [bold]{facts['fills']:,}[/] fills"
    )
    if facts["positions"]:
        render_positions(facts["positions"])
    rows = []
    for stage, row in facts["latency_ns"].items():
        budget = STAGES[stage].p50
        verdict = f"< {ns(budget)} {'[green]met[/]' if row['p50'] < budget else '[yellow]over[/]'}" if budget else ""
        rows.append((stage, row["count"], ns(row["p50"]), ns(row["p99"]), ns(row["p99.9"]), ns(row["max"]), verdict))
    table("tick to trade, by stage", ("stage", "count", "p50", "p99", "p99.9", "max", "budget (p50)"), rows)
    if facts["layout"] == "shared":
        console.print(
            "roles share cores and park when idle, so the figures above hold wake-ups; `hftd bench` measures the code itself\n"
        )
    table("memory", ("process", "MiB"), [
        *((name, f"{used:,.1f}") for name, used in facts["memory_mib"].items()),
        ("whole demo", f"{facts['memory_total_mib']:,.1f}"),
    ])  # fmt: skip
    if facts["ledger_agrees"]:
        console.print("[bold green]the exchange's ledger, the gateway, risk and the strategies agree to the share and the cent[/]")
    else:
        console.print("[bold red]the records differ:[/]")
        for line in facts["differences"][:20]:
            console.print(f"  {line}")
