"""A daemon and an exchange for a test: own name, own ports, own directory, and nothing left behind."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from hftd.control.demo import free_ports
from hftd.core.agent import alive
from hftd.shm import segment
from tests.support.data import ROOT


def hftd(*arguments: str, timeout: float = 120, **options) -> subprocess.CompletedProcess:
    """Run one command of the command line to its end."""
    command = [sys.executable, "-m", "hftd", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, cwd=ROOT, check=False, **options)


def until(condition, timeout: float = 20, what: str = "") -> None:
    """Wait for a condition; fail with what was waited for."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout:g} s for {what or condition}"
        time.sleep(0.02)


class Exchange:
    """`hftd sim` as a process of its own."""

    def __init__(self, directory: Path, *arguments: str):
        self.udp, self.tcp, self.request, self.glimpse = free_ports(4)
        self.group = f"239.192.{os.getpid() % 250 + 1}.{self.udp % 250 + 1}"
        self.ledger = directory / "ledger.json"
        self.log = directory / "exchange.log"
        self._output = self.log.open("w")
        self.process = subprocess.Popen(
            [
                sys.executable, "-m", "hftd", "sim",
                "--line-a", f"{self.group}:{self.udp}", "--line-b", f"{self.group}:{self.udp + 1}",
                "--ouch-port", str(self.tcp), "--request-port", str(self.request), "--glimpse-port", str(self.glimpse),
                "--ledger", str(self.ledger), *arguments,
            ],
            stdout=self._output, stderr=self._output, stdin=subprocess.DEVNULL, cwd=ROOT,
        )  # fmt: skip

    def await_ready(self) -> None:
        """Wait until its sockets are open."""
        until(lambda: "ready" in self.log.read_text() or self.process.poll() is not None, 90, "the exchange")
        assert self.process.poll() is None, self.log.read_text()

    def end(self) -> dict:
        """Stop it and return its ledger."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.process.wait(20)
        self._output.close()
        return json.loads(self.ledger.read_text())


def write_config(directory: Path, exchange: Exchange, symbols: list[str], **sections: dict) -> Path:
    """Write a configuration for an exchange; `sections` add to or replace its tables."""
    name = f"t{os.getpid()}-{exchange.tcp}"
    tables: dict[str, dict] = {
        "daemon": {"name": name, "run_dir": str(directory), "log_dir": f"{directory}/log", "layout": "shared"},
        "universe": {"symbols": symbols},
        "feed": {
            "line_a": f"{exchange.group}:{exchange.udp}",
            "line_b": f"{exchange.group}:{exchange.udp + 1}",
            "request": [f"127.0.0.1:{exchange.request}"],
            "glimpse": f"127.0.0.1:{exchange.glimpse}",
        },
        "gateway": {"address": f"127.0.0.1:{exchange.tcp}"},
    }
    for section, values in sections.items():
        if section != "strategy":
            tables.setdefault(section, {}).update(values)
    lines = []
    for section, values in tables.items():
        lines.append(f"[{section}]")
        lines.extend(f"{key} = {json.dumps(value)}" for key, value in values.items())
    for file in sections.get("strategy", ["market_maker.py"]):
        lines += ["[[strategy]]", f"file = {json.dumps(str(file))}"]
    path = directory / "hftd.toml"
    path.write_text("\n".join(lines) + "\n")
    return path


def name_of(config: Path) -> str:
    """Return the instance name in a configuration that `write_config` wrote."""
    return next(line.split('"')[1] for line in config.read_text().splitlines() if line.startswith("name"))


def pids_of(name: str) -> list[int]:
    """Return the pids that a running daemon's control segment names, and its supervisor."""
    listed = json.loads(hftd("status", "-n", name, "--json").stdout)
    return [row["pid"] for row in listed["agents"] if row["pid"]]


def nothing_left(name: str, pids: list[int] = ()) -> bool:
    """Tell whether no shared memory and none of these processes remains."""
    return not segment.existing(name) and not any(alive(pid) for pid in pids)


@contextlib.contextmanager
def exchange_of(directory: Path, *arguments: str):
    """An exchange that is ready; whatever the test did to it, it is gone afterwards."""
    made = Exchange(directory, *arguments)
    try:
        made.await_ready()
        yield made
    finally:
        if made.process.poll() is None:
            made.process.kill()
            made.process.wait()


@contextlib.contextmanager
def running(directory: Path, exchange: Exchange, symbols: list[str], **sections: dict):
    """A started daemon; yields (name, config path). Whatever the test did to it, it is gone afterwards."""
    config = write_config(directory, exchange, symbols, **sections)
    name = name_of(config)
    try:
        started = hftd("start", "-c", str(config))
        assert started.returncode == 0, started.stderr
        yield name, config
    finally:
        put_away(name)


def put_away(name: str) -> None:
    """Leave nothing of a daemon."""
    if segment.existing(name):
        hftd("stop", "-n", name)
    for entry in segment.existing(name):
        for pid in segment.users(entry):
            if pid != os.getpid():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        segment.unlink(entry)
