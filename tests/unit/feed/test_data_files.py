"""Recorded files: plain and gzip, whole and broken, larger than a chunk; and the CSV files made of them."""

import gzip
import json
import random

import pytest

from hftd.feed.books import books
from hftd.feed.files import DataError, ItchFile, busiest_symbols, survey
from hftd.feed.replay import Replay
from tests.support import itch_messages as itch


def small(count: int = 400) -> list[bytes]:
    rng = random.Random(1)
    messages = [itch.directory(3, "AAPL"), itch.directory(4, "MSFT")]
    for ref in range(1, count):
        locate = rng.choice((3, 3, 4))
        messages.append(itch.add(locate, ref, rng.choice("BS"), 100, 1_000_000 + 100 * rng.randrange(9), ts=ref,
                                 symbol="AAPL" if locate == 3 else "MSFT"))  # fmt: skip
    return messages


@pytest.fixture
def path(tmp_path):
    made = tmp_path / "day.itch"
    made.write_bytes(itch.framed(*small()))
    return made


def test_plain_and_gzip_are_the_same(path, tmp_path):
    zipped = tmp_path / "day.itch.gz"
    zipped.write_bytes(gzip.compress(path.read_bytes()))
    plain, packed = books(path, bbo_out=tmp_path / "a.csv"), books(zipped, bbo_out=tmp_path / "b.csv")

    assert plain | {"file": ""} == packed | {"file": ""}
    assert (tmp_path / "a.csv").read_text() == (tmp_path / "b.csv").read_text()
    assert plain["messages"] == 401 and plain["live_orders"] == 399 and json.dumps(plain)


def test_small_chunks_make_the_same_books(path, tmp_path, monkeypatch):
    books(path, bbo_out=tmp_path / "a.csv", symbol="MSFT", levels=3, out=tmp_path / "a2.csv")
    monkeypatch.setattr("hftd.feed.books.BIG_ORDERS", 4096)
    monkeypatch.setattr("hftd.feed.books.BIG_LEVELS", 1024)
    monkeypatch.setattr("hftd.feed.books.BIG_INSTRUMENTS", 16)
    monkeypatch.setattr("hftd.feed.books.ROWS", 64)
    monkeypatch.setattr("hftd.feed.books.ItchFile", lambda name: ItchFile(name, chunk_bytes=997))
    books(path, bbo_out=tmp_path / "b.csv", symbol="MSFT", levels=3, out=tmp_path / "b2.csv")

    assert (tmp_path / "a.csv").read_text() == (tmp_path / "b.csv").read_text()
    assert (tmp_path / "a2.csv").read_text() == (tmp_path / "b2.csv").read_text()


def test_a_length_of_zero_ends_the_session(path):
    data = path.read_bytes()
    path.write_bytes(data + bytes(2) + b"what follows is not read")

    assert books(path)["messages"] == survey(path)["messages"] == 401
    assert Replay(path).messages == 401


def test_messages_of_unknown_types_are_skipped_by_their_length(path):
    path.write_bytes(itch.framed(b"~new type of another year") + path.read_bytes())
    facts = books(path)

    assert facts["messages"] == 402 and facts["errors"]["unknown_types"] == 1 and facts["live_orders"] == 399


@pytest.mark.parametrize(("name", "spoil", "says"), [
    ("missing", None, r"missing: no such file; give the path"),
    ("empty", lambda data: b"", r"is empty; fetch the file again"),
    ("cut", lambda data: data[:-5], r"cut short: the last message, at byte [\d,]+, is incomplete"),
    ("cutgz", lambda data: gzip.compress(data)[:-500], r"cut short: the gzip stream has no end"),
    ("badgz", lambda data: gzip.compress(data)[:100] + b"\xff" * 400 + gzip.compress(data)[500:], r"damaged gzip file|no end"),
    ("text", lambda data: b"seq,ts_ns,locate\n1,2,3\n" * 400, r"is not ITCH 5\.0|cut short"),
    ("noise", lambda data: random.Random(2).randbytes(100_000), r"is not ITCH 5\.0"),
    ("zeros", lambda data: bytes(10), r"holds no message"),
])  # fmt: skip
def test_what_is_wrong_with_a_file_is_said_in_one_line(name, spoil, says, path, tmp_path):
    wrong = tmp_path / name
    if spoil:
        wrong.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(DataError, match=says) as caught:
        books(wrong, bbo_out=tmp_path / "bbo.csv")

    assert "\n" not in str(caught.value) and name in str(caught.value)
    assert not list(tmp_path.glob("bbo*"))


def test_a_directory_is_not_a_file(tmp_path):
    with pytest.raises(DataError, match="Is a directory"):
        ItchFile(tmp_path)


def test_what_is_wrong_with_the_question_is_said_in_one_line(path, tmp_path):
    with pytest.raises(DataError, match="IBM is not in it; it has AAPL, MSFT"):
        books(path, symbol="IBM", levels=1, out=tmp_path / "x.csv")
    with pytest.raises(DataError, match="give a file in a directory that exists"):
        books(path, bbo_out=tmp_path / "no" / "x.csv")
    with pytest.raises(DataError, match="go together"):
        books(path, symbol="AAPL")
    with pytest.raises(DataError, match="levels must be"):
        books(path, symbol="AAPL", levels=0, out=tmp_path / "x.csv")
    assert not list(tmp_path.glob("x*"))


def test_progress_ends_at_the_files_size(path):
    seen = []
    books(path, progress=lambda done, total: seen.append((done, total)))

    assert seen[-1] == (path.stat().st_size, path.stat().st_size)


def test_busiest_symbols(path, tmp_path):
    assert busiest_symbols(path, 1) == ["AAPL"] and busiest_symbols(path, 9) == ["AAPL", "MSFT"]
    nameless = tmp_path / "nameless"
    nameless.write_bytes(itch.framed(itch.system("O")))
    with pytest.raises(DataError, match="names no instrument"):
        busiest_symbols(nameless, 3)


def test_replay_repeats_itself(path):
    replay = Replay(path)
    first = (replay.frames(), replay.decode(), replay.books())
    replay.clear()

    assert (replay.frames(), replay.decode(), replay.books()) == first and first[2][0] == 401
    assert replay.build.counters["orders_live"] == 399
