"""The exchange over real sockets: strangers' clients log in, trade, lose packets, ask again, come back."""

import asyncio
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.sim_desk import cancel, enter, itch_tuple, modify, ouch_tuple, replace
from tests.support.sim_venue import Line, Soup, Venue, request


@pytest.fixture(scope="module")
def venue(tmp_path_factory):
    with Venue(tmp_path_factory.mktemp("venue"), "--rate", "2000", "--symbols", "2", "--dead-after", "2.5") as made:
        yield made


def answers(client: Soup, count: int) -> list[tuple]:
    return [ouch_tuple(client.message()) for _ in range(count)]


def top(venue: Venue) -> int:
    """A price that certainly trades against ALFA's offers."""
    return 2_500_000


def test_nasdaqs_own_client_logs_in_trades_and_cancels(venue):
    from nasdaq_protocols import soup

    async def talk() -> list[bytes]:
        told: asyncio.Queue[bytes] = asyncio.Queue()

        async def on_message(message):
            if isinstance(message, soup.SequencedData):
                await told.put(message.data)

        session = await soup.connect_async(("127.0.0.1", venue.ouch), "NASDAQ", "secret", on_msg_coro=on_message,
                                           client_heartbeat_interval=1, server_heartbeat_interval=3)  # fmt: skip

        async def take(count: int) -> list[bytes]:
            return [await asyncio.wait_for(told.get(), 5) for _ in range(count)]

        start = await take(1)
        session.send_unseq_data(enter(1, "B", 100, top(venue), tif="3"))
        filled = await take(2)
        while sum(ouch_tuple(raw)[2] for raw in filled[1:]) < 100:
            filled += await take(1)
        session.send_unseq_data(enter(2, "B", 300, 1_000_000))
        accepted = await take(1)
        session.send_unseq_data(cancel(2, 100))
        session.send_unseq_data(cancel(2))
        canceled = await take(2)
        await asyncio.sleep(1.2)  # heartbeats both ways, by that client's own timers
        session.send_unseq_data(b"Q")
        query = await take(1)
        session.logout()
        return [start, filled, accepted, canceled, query]

    start, filled, accepted, canceled, query = asyncio.run(talk())
    assert start[0][:1] == b"S" and start[0][9:] == b"S"
    assert ouch_tuple(filled[0])[:3] == ("A", 1, 100) and {ouch_tuple(raw)[0] for raw in filled[1:]} == {"E"}
    assert ouch_tuple(accepted[0])[:3] == ("A", 2, 300)
    assert [ouch_tuple(raw) for raw in canceled] == [("C", 2, 200, "U"), ("C", 2, 100, "U")]
    assert ouch_tuple(query[0]) == ("Q", 3)


def test_every_rejection_and_every_silence(venue):
    with Soup(venue.ouch, "REJECT") as client:
        assert client.answer[0] == "A" and answers(client, 1) == [("S", b"S")]
        bad = [
            enter(1, "B", 100, 1_000_000, symbol="NOPE"), enter(2, "B", 0, 1_000_000), enter(3, "B", 1_000_000, 1_000_000),
            enter(4, "Z", 100, 1_000_000), enter(5, "B", 100, 1_000_050), enter(6, "B", 100, 0), enter(7, "B", 100, 1_999_999_901),
            enter(8, "B", 100, 1_000_000, display="N"), enter(9, "B", 100, 1_000_000, cross="O"),
            enter(10, "B", 100, 1_000_000, tif="6"),
        ]  # fmt: skip
        for message in bad:
            client.send(message)
        reasons = [0x17, 0x13, 0x13, 0x09, 0x1D, 0x1D, 0x1D, 0x03, 0x14, 0x0F]
        assert answers(client, 10) == [("J", number + 1, reason) for number, reason in enumerate(reasons)]
        client.send(enter(10, "B", 100, 1_000_000))       # a used number: ignored in silence
        client.send(cancel(99))                           # an unknown order: likewise
        client.send(replace(98, 50, 100, 1_000_000))
        client.send(modify(97, "B", 10))
        client.send(b"O short")                           # malformed: counted, ignored
        client.send(b"?")
        client.send(b"", kind="?")
        client.send(b"hello", kind="+")
        client.send(enter(11, "B", 100, 1_000_000))
        assert answers(client, 1)[0][:3] == ("A", 11, 100)
        client.send(enter(12, "S", 100, 2_000_000_000))   # at the market: trades at once, and never rests
        told = answers(client, 2)
        assert told[0][:3] == ("A", 12, 100) and told[1][0] == "E"
        client.sock.sendall(b"\0\0")                      # not SoupBinTCP
        while client.message():
            pass


def test_wrong_password_session_or_a_second_login_are_refused(venue, tmp_path):
    with Soup(venue.ouch, "SECOND") as first, Soup(venue.ouch, "SECOND") as second:
        assert first.answer[0] == "A" and second.answer == "JS"
    with Soup(venue.ouch, "OTHER", session="YESTERDAY") as other:
        assert other.answer == "JS"
    with Venue(tmp_path, "--user", "ALICE:wonder") as strict:
        with Soup(strict.ouch, "ALICE", password="WONDER") as client:
            assert client.answer[0] == "A"
        for user, password in (("ALICE", "wrong"), ("BOB", "wonder"), ("", "")):
            with Soup(strict.ouch, user, password=password) as client:
                assert client.answer == "JA"


def test_what_follows_the_login_in_one_segment_is_handled_at_once(venue):
    """It waited until the client sent something more, and a client that waits for its answer never does."""
    body = f"{'EAGER':<6}{'':<10}{'':<10}{1:>20}".encode()
    with socket.create_connection(("127.0.0.1", venue.ouch)) as sock:
        sock.settimeout(8)
        sock.sendall(struct.pack(">HB", len(body) + 1, ord("L")) + body + b"\0\2UQ")
        got = b""
        while b"\0\x0eSQ" not in got:
            came = sock.recv(4096)
            assert came, "dropped as silent"
            got += came


def test_lost_connection_cancels_and_a_resume_tells_all_of_it(venue):
    line = Line(venue, venue.port_a)
    try:
        with Soup(venue.ouch, "RESUME") as client:
            client.message()
            client.send(enter(1, "B", 100, 1_000_000))
            client.send(enter(2, "B", 200, 1_000_100))
            told = answers(client, 2)
            refs = {row[3] for row in told}
            after = client.next
        line.read(lambda: refs <= {itch_tuple(raw)[1] for raw in line.messages.values() if raw[:1] == b"D"})
        with Soup(venue.ouch, "RESUME", sequence=after) as client:
            assert client.next == after
            assert sorted(answers(client, 2)) == [("C", 1, 100, "S"), ("C", 2, 200, "S")]
            client.send(b"Q")
            assert answers(client, 1) == [("Q", 3)]
        with Soup(venue.ouch, "RESUME", sequence=1) as client:
            assert client.next == 1
            assert [row[0] for row in answers(client, 6)] == list("SAACCQ")
        with Soup(venue.ouch, "RESUME", sequence=0) as client:
            assert client.next == 6
        with Soup(venue.ouch, "RESUME", sequence=500) as client:
            assert client.next == 7
    finally:
        line.close()


def test_silent_client_is_dropped_and_a_beating_one_is_not(venue):
    with Soup(venue.ouch, "SILENT") as silent, Soup(venue.ouch, "BEATER") as beater:
        began = time.monotonic()
        beats = 0
        while time.monotonic() - began < 3.3:
            beater.send(b"", kind="R")
            beats += beater.packet()[:1] == b"H"
        assert beats >= 2
        while silent.packet():
            pass
        assert time.monotonic() - began < 6
        beater.send(b"Q")
        assert answers(beater, 1)[0][0] in "QS"


def test_lines_carry_the_same_and_requests_give_it_again(venue):
    a, b = Line(venue, venue.port_a), Line(venue, venue.port_b)
    try:
        a.read(lambda: len(a.messages) >= 3000)
        b.read(lambda: b.highest >= a.highest)
        common = sorted(a.messages.keys() & b.messages.keys())
        assert len(common) > 2900 and all(a.messages[number] == b.messages[number] for number in common)
        assert common == list(range(common[0], common[-1] + 1))
        again = Line.__new__(Line)
        again.messages, again.highest, again.late, again.duplicates, again.heartbeats, again.ended = {}, 1, 0, 0, 0, 0
        wanted = common[0]
        while wanted < common[0] + 500:
            again.take(request(venue, wanted, 500))
            assert wanted in again.messages
            wanted = max(again.messages) + 1
        assert all(again.messages[number] == a.messages[number] for number in range(common[0], common[0] + 500))
        assert len(request(venue, common[0], 1)) == 22 + len(a.messages[common[0]])
        first = request(venue, 1, 1)
        assert first[22:23] == b"S" and first[-1:] == b"O"
        for sequence, count in ((0, 1), (1 << 60, 1), (1, 0)):
            assert request(venue, sequence, count) == b""
        assert request(venue, 1, 1, session=b"HFTD000002") == request(venue, 1, 1, extra=b"x") == b""
    finally:
        a.close()
        b.close()


def test_snapshot_and_the_messages_after_it_make_the_same_book(venue):
    def apply(book: dict, raw: bytes) -> None:
        kind, *rest = itch_tuple(raw)
        if kind == "A":
            book[rest[0]] = rest[1:]
        elif kind in "ECX":
            side, shares, px = book[rest[0]]
            book[rest[0]] = [side, shares - rest[1], px]
            if shares == rest[1]:
                del book[rest[0]]
        elif kind == "D":
            del book[rest[0]]
        elif kind == "U":
            book[rest[1]] = [book.pop(rest[0])[0], rest[2], rest[3]]

    line = Line(venue, venue.port_a)
    try:
        line.read(lambda: line.messages)
        spun: list[bytes] = []
        with Soup(venue.glimpse, "HFTD01") as client:
            assert client.answer[0] == "A"
            while message := client.message():
                spun.append(message)
        assert spun[-1][:1] == b"G" and len(spun[-1]) == 21
        after = int(spun[-1][1:])
        kinds = [chr(raw[0]) for raw in spun]
        assert kinds.count("R") == 2 and kinds.count("H") == 4 and kinds[0] == "S"
        line.read(lambda: line.highest > after + 2000)
        snapshot: dict = {}
        for raw in spun[:-1]:
            apply(snapshot, raw)
        whole: dict = {}
        reader = Line.__new__(Line)
        reader.messages, reader.highest, reader.late, reader.duplicates, reader.heartbeats, reader.ended = {}, 1, 0, 0, 0, 0
        number = 1
        while number < after:
            reader.take(request(venue, number, 60_000))
            number = max(reader.messages) + 1
        for k in range(1, after):
            apply(whole, reader.messages[k])
        assert {ref: list(row) for ref, row in snapshot.items()} == {ref: list(row) for ref, row in whole.items()}
        for k in range(after, after + 2000):
            apply(snapshot, line.messages[k])
    finally:
        line.close()


def test_faults_are_what_was_asked_and_nothing_is_lost_for_good(tmp_path):
    faults = ("--loss", "5,0", "--duplicate", "0,5", "--reorder", "0,5", "--delay", "0,5", "--delay-ms", "3")
    day = ("--rate", "8000", "--seconds", "2", "--wait-login", "20", "--linger", "0", "--end-seconds", "0.5")
    with Venue(tmp_path, *day, *faults) as venue:
        a, b = Line(venue, venue.port_a), Line(venue, venue.port_b)
        try:
            with Soup(venue.ouch):
                a.read(lambda: a.ended)
                b.read(lambda: b.ended)
            missing = [number for number in range(1, a.ended) if number not in a.messages]
            assert 0 < len(missing) < 0.2 * a.ended
            assert b.duplicates > 0 and b.late > 0
            assert sorted(b.messages) == list(range(1, b.ended)) and a.ended == b.ended
            assert all(b.messages[number] == raw for number, raw in a.messages.items())
            one = request(venue, missing[0], 1)
            assert one[22:] == b.messages[missing[0]]
        finally:
            a.close()
            b.close()
        ledger = venue.wait()
        assert ledger["lines"][0]["lost"] > 0 == ledger["lines"][1]["lost"]
        assert ledger["lines"][1]["reordered"] > 0 and ledger["lines"][1]["delayed"] > 0


def test_flow_waits_for_a_login_and_the_ledger_adds_up(tmp_path):
    day = ("--seconds", "2", "--symbols", "2", "--wait-login", "30", "--linger", "20", "--end-seconds", "0.2")
    with Venue(tmp_path, *day) as venue:
        line = Line(venue, venue.port_a)
        try:
            with pytest.raises(TimeoutError):
                line.sock.settimeout(0.6)
                line.read(lambda: line.messages)
            line.sock.settimeout(5)
            with Soup(venue.ouch, "ONE") as one, Soup(venue.ouch, "TWO") as two:
                line.read(lambda: line.highest > 500)
                for client in (one, two):
                    client.message()
                    for number in range(1, 21):
                        client.send(enter(2 * number, "BS"[number % 2], 100, top(venue) if number % 2 == 0 else 1_500_000, tif="3"))
                        client.send(enter(2 * number + 1, "B", 10, 1_800_000 + 100 * number))
                line.read(lambda: any(raw[:1] == b"S" and raw[-1:] == b"C" for raw in line.messages.values()))
                one.send(enter(500, "S", 50, 1_802_000))    # trades with what both left resting, its own included
                two.send(cancel(41))
                one.send(b"", kind="O")
                two.send(b"", kind="O")
                told = {}
                for name, client in (("ONE", one), ("TWO", two)):
                    told[name] = []
                    while message := client.message():
                        told[name].append(ouch_tuple(message))
            line.read(lambda: line.ended)
        finally:
            line.close()
        facts = venue.wait()
    assert "flow ended" in venue.log.read_text()
    assert facts["open_orders"] == 0
    rows = {account["name"]: {row["symbol"]: row for row in account["positions"]} for account in facts["accounts"]}
    every = [row for account in facts["accounts"] for row in account["positions"]] + facts["market"]
    assert sum(row["bought_qty"] for row in every) == sum(row["sold_qty"] for row in every) > 0
    assert sum(row["bought_cash"] for row in every) == sum(row["sold_cash"] for row in every) > 0
    for name, log in told.items():
        orders = [row for row in facts["order_log"] if row["account"] == name]
        assert sum(row["filled"] for row in orders) == rows[name]["ALFA"]["bought_qty"] + rows[name]["ALFA"]["sold_qty"]
        assert all(row["qty"] == row["filled"] + row["canceled"] for row in orders if row["state"] != "open")
        assert sum(row[2] for row in log if row[0] == "E") <= sum(row["filled"] for row in orders)
    assert facts["orders"] == len(facts["order_log"]) == sum(row["orders"] for row in facts["positions"])
    for fill in facts["executions"]:
        assert fill["qty"] > 0 and line.messages[fill["seq"]][:1] == b"E"
        assert int.from_bytes(line.messages[fill["seq"]][23:31], "big") == fill["match"]


def test_idle_exchange_leaves_the_core_alone(tmp_path):
    with Venue(tmp_path, "--wait-login", "60") as venue:
        def used() -> float:
            fields = Path(f"/proc/{venue.process.pid}/stat").read_text().rpartition(")")[2].split()
            return (int(fields[11]) + int(fields[12])) / 100

        before = used()
        time.sleep(1.5)  # what it used in that time is the measurement
        assert used() - before < 0.5
        assert venue.end()["messages"] == 0


@pytest.mark.parametrize("option", ["--ouch-port", "--request-port", "--glimpse-port"])
def test_port_in_use_is_one_line_that_names_it(option):
    kind = socket.SOCK_DGRAM if option == "--request-port" else socket.SOCK_STREAM
    with socket.socket(socket.AF_INET, kind) as taken:
        taken.bind(("127.0.0.1", 0))
        if kind == socket.SOCK_STREAM:
            taken.listen(1)
        port = taken.getsockname()[1]
        others = [text for other in ("--ouch-port", "--request-port", "--glimpse-port") if other != option
                  for text in (other, str(free_port()))]  # fmt: skip
        done = subprocess.run([sys.executable, "-m", "hftd.sim", option, str(port), *others, "--seconds", "1"], capture_output=True,
                              text=True, timeout=60, check=False)  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1 and option in done.stderr and str(port) in done.stderr and "in use" in done.stderr


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.mark.parametrize(("arguments", "word"), [
    (("--data", "/nowhere/x.itch"), "no such file"), (("--symbols", "99"), "--symbols"), (("--loss", "a"), "--loss"),
    (("--line-a", "nonsense"), "--line-a"), (("--session", "TOO-LONG-A-NAME"), "--session"), (("--user", "nocolon"), "--user"),
    (("--speed", "0"), "--speed"), (("--ledger", "/nowhere/at/all.json"), "--ledger"),
])  # fmt: skip
def test_wrong_option_is_one_line_that_says_what_is_right(arguments, word):
    ports = [text for option in ("--ouch-port", "--request-port", "--glimpse-port") for text in (option, str(free_port()))]
    command = [sys.executable, "-m", "hftd.sim", *ports, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and word in done.stderr, done.stderr


def test_session_that_was_stopped_publishes_nothing_after_its_end_and_admits_nobody(tmp_path):
    with Venue(tmp_path, "--rate", "5000", "--linger", "0", "--seconds", "1", "--end-seconds", "2") as venue:
        line = Line(venue, venue.port_a)
        try:
            line.read(lambda: line.ended)
            with Soup(venue.ouch, "LATE") as late:
                assert late.answer == "JS"
            again = request(venue, line.ended - 1, 5)
            assert again[22:] == line.messages[line.ended - 1]      # the last chance to ask again
        finally:
            line.close()
        facts = venue.end()
        assert facts["messages"] == line.ended - 1
