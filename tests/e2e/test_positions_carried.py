"""Positions outlive a stop and a day, over the real processes: what is sold long and short is read off the wire."""

import contextlib
import json
import os
import signal
import socket
import struct
import threading

from hftd.shm import segment
from hftd.sim.options import SYNTHETIC_SYMBOLS
from tests.support.daemon import Exchange, hftd, running, until, write_config

FIRST, SECOND = list(SYNTHETIC_SYMBOLS)[:2]
SELLER = '''
"""Sells 500 of the first instrument and then 100 more, far above the market; buys the second until it has some."""

from hftd.strategy import BUY, IOC, SELL, is_open, layout, position, round_up, submit

state = layout("seller_state", 32, [("long", "i8"), ("short", "i8"), ("buy", "i8"), ("pad", "i8")])


def on_book(ctx, book):
    """Send each order once."""
    if book.bid_px == 0 or book.ask_px == 0:
        return
    if book.instrument == 0:
        px = round_up(book.ask_px + book.ask_px // 50, book.tick)
        if ctx.state.long <= 0:
            ctx.state.long = submit(ctx, 0, SELL, px, 500)
        elif ctx.state.short <= 0:
            ctx.state.short = submit(ctx, 0, SELL, px, 100)
    elif book.instrument == 1 and position(ctx, 1) == 0 and (ctx.state.buy <= 0 or not is_open(ctx, ctx.state.buy)):
        ctx.state.buy = submit(ctx, 1, BUY, book.ask_px, 10, IOC)
'''


class Wire:
    """Stands between gateway and exchange and keeps the new orders that go by: (side on the wire, shares, symbol)."""

    def __init__(self, port: int):
        self.port_of_exchange = port
        self.orders: list[tuple[str, int, str]] = []
        self.server = socket.create_server(("127.0.0.1", 0))
        self.port = self.server.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self.server.close()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self.server.accept()
            except OSError:
                return
            exchange = socket.create_connection(("127.0.0.1", self.port_of_exchange))
            threading.Thread(target=self._relay, args=(exchange, client, False), daemon=True).start()
            threading.Thread(target=self._relay, args=(client, exchange, True), daemon=True).start()

    def _relay(self, source: socket.socket, target: socket.socket, ours: bool) -> None:
        waiting = b""
        try:
            while data := source.recv(1 << 16):
                target.sendall(data)
                waiting = self._keep(waiting + data) if ours else b""
        except OSError:
            pass
        for end in (source, target):
            end.close()

    def _keep(self, data: bytes) -> bytes:
        """Take whole SoupBinTCP packets; note OUCH 5.0 Enter Order messages in them; return the rest."""
        while len(data) >= 2 and len(data) >= 2 + (size := int.from_bytes(data[:2], "big")):
            packet, data = data[2 : 2 + size], data[2 + size :]
            if packet[:2] == b"UO":
                side, qty, symbol = struct.unpack_from(">cI8s", packet, 6)
                self.orders.append((side.decode(), qty, symbol.decode().strip()))
        return data

    def sold(self) -> list[tuple[str, int]]:
        """New sales of the first symbol."""
        return [(side, qty) for side, qty, symbol in self.orders if symbol == FIRST and side != "B"]


def positions(*which: str) -> dict[str, dict]:
    return {row["symbol"]: row for row in json.loads(hftd("positions", *which, "--json").stdout)}


def test_positions_outlive_a_stop_and_a_day(tmp_path):
    exchange = Exchange(tmp_path, "--seconds", "240", "--seed", "11")
    wire = Wire(exchange.tcp)
    file, saved = tmp_path / "opening.csv", tmp_path / "saved.csv"
    file.write_text(f"symbol,quantity,price\n{FIRST},500,100.125\n")
    (tmp_path / "seller.py").write_text(SELLER)
    sections = {
        "gateway": {"address": f"127.0.0.1:{wire.port}"}, "risk": {"positions": "opening.csv"},
        "strategy": [str(tmp_path / "seller.py")],
    }  # fmt: skip
    try:
        exchange.await_ready()

        with running(tmp_path, exchange, [FIRST, SECOND], **sections) as (name, config):
            until(lambda: len(wire.sold()) >= 2 and positions("-n", name)[SECOND]["fills"], 30, "two sales and a purchase")
            assert wire.sold() == [("S", 500), ("T", 100)], "500 are held, 100 more are not"
            day = json.loads(hftd("status", "-n", name, "--json").stdout)["positions"]
            assert (day["file"], day["opening"], day["held"], day["not_announced"]) == ("opening.csv", 1, 2, [])
            first = positions("-n", name)
            assert (first[FIRST]["position"], first[FIRST]["opening"], first[FIRST]["opening_px"]) == (500, 500, 100.125)
            assert hftd("stop", "-n", name).returncode == 0
        stopped = positions("-c", str(config))
        assert {symbol: row["position"] for symbol, row in stopped.items()} == {FIRST: 500, SECOND: first[SECOND]["position"]}
        assert hftd("positions", "-c", str(config), "--save", str(saved)).returncode == 0

        wire.orders.clear()
        with running(tmp_path, exchange, [FIRST, SECOND], **sections) as (name, config):
            again = positions("-n", name)
            assert again[SECOND]["position"] >= first[SECOND]["position"] > 0, "what an earlier run bought is shown"
            until(lambda: len(wire.sold()) >= 2, 30, "two sales after the restart")
            assert wire.sold() == [("S", 500), ("T", 100)], "and counts"
            until(lambda: positions("-n", name)[SECOND]["position"] > first[SECOND]["position"], 30, "another purchase")
            early = hftd("positions", "-n", name, "--save", str(saved))
            assert early.returncode == 0 and "close of" in early.stdout, early.stderr
            assert hftd("stop", "-n", name).returncode == 0

        # the next day: the ledger and the saved file as they would lie there from the day before
        assert hftd("positions", "-c", str(config), "--save", str(saved)).returncode == 0
        ledger = tmp_path / name / "risk.json"
        text = json.loads(ledger.read_text())
        for path in (ledger, saved):
            path.write_text(path.read_text().replace(text["day"], "2020-01-02"))
        closed = positions("-c", str(config))
        wire.orders.clear()
        refused = hftd("start", "-c", str(write_config(tmp_path, exchange, [FIRST, SECOND], **sections)))
        assert refused.returncode == 2 and "is what that day began with, but 2020-01-02 ended otherwise" in refused.stderr
        sections["risk"] = {"positions": "saved.csv"}
        with running(tmp_path, exchange, [FIRST, SECOND], **sections) as (name, config):
            until(lambda: len(wire.sold()) >= 2, 30, "two sales on the next day")
            assert wire.sold() == [("S", 500), ("T", 100)]
            opened = positions("-n", name)
            assert opened[SECOND]["opening"] == closed[SECOND]["position"] and opened[FIRST]["opening_px"] == 100.125
    finally:
        wire.close()
        if exchange.process.poll() is None:
            exchange.process.kill()
            exchange.process.wait()


def test_fills_that_the_ledger_missed_are_carried_after_a_kill(tmp_path):
    """SIGKILL of everything, and a ledger from before the fills, as a power failure leaves it: the venue's replay has them."""
    exchange = Exchange(tmp_path, "--seconds", "200", "--seed", "11")
    (tmp_path / "seller.py").write_text(SELLER)
    sections = {"strategy": [str(tmp_path / "seller.py")]}
    try:
        exchange.await_ready()
        with running(tmp_path, exchange, [FIRST, SECOND], **sections) as (name, _):
            ledger = tmp_path / name / "risk.json"
            before = ledger.read_text()
            until(lambda: positions("-n", name)[SECOND]["fills"], 30, "a purchase")
            bought = positions("-n", name)[SECOND]["position"]
            users = {pid for entry in segment.existing(name) for pid in segment.users(entry)} - {os.getpid()}
            assert len(users) > 3
            for pid in users:
                with contextlib.suppress(ProcessLookupError):  # a child goes with its supervisor
                    os.kill(pid, signal.SIGKILL)
        ledger.write_text(json.dumps({**json.loads(before), "instruments": {}}))
        with running(tmp_path, exchange, [FIRST, SECOND], **sections) as (name, _config):
            assert positions("-n", name)[SECOND]["position"] >= bought > 0
            told = hftd("status", "-n", name).stdout
            assert "WARNING" in told and "corrected by the venue's replay" in told
            assert "took the place of the ledger's figures" in (tmp_path / "log" / "hftd.jsonl").read_text()
            assert hftd("stop", "-n", name).returncode == 0
        assert exchange.end()
    finally:
        if exchange.process.poll() is None:
            exchange.process.kill()
            exchange.process.wait()
