"""A recorder beside a risk desk, without its process: turns and the cold part by hand."""

import json
import time

from hftd.recorder.journal import read_journal
from hftd.recorder.setup import RecorderAgent
from tests.support.risk_desk import Desk


class Booth:
    """A recorder beside a desk. `turn(n)` runs n turns and the cold part."""

    def __init__(self, desk: Desk):
        self.desk = desk
        self.start()

    def start(self) -> None:
        self.agent = RecorderAgent(self.desk.config, self.desk.memory)
        self.agent.prepare(spin=False)
        self.agent.waiting["park_ns"] = 1
        self.kernel = self.agent.kernel()

    def turn(self, count: int = 1) -> None:
        for _ in range(count):
            reason = self.kernel(self.agent.handle, self.agent.mark, self.agent.waiting, 1)
            if reason:
                self.agent.on_reason(reason)
        self.agent.cold(time.monotonic_ns())

    def lines(self) -> list[dict]:
        return [json.loads(line) for line in (self.agent.directory / "hftd.jsonl").read_text().splitlines()]

    def events(self) -> list[str]:
        return [line["event"] for line in self.lines()]

    def journals(self) -> list:
        return [read_journal(path) for path in sorted(self.agent.directory.glob("*.journal"))]

    def count(self, name: str) -> int:
        return int(self.agent.counters[name])
