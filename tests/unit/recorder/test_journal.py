"""The journal: what is written is read back, what is damaged is not believed, what a crash left is sealed at its good end."""

import time
import zlib

import numpy as np
import pytest

from hftd.core.clock import clock_dtype
from hftd.core.jit import hot
from hftd.msg.records import instrument_dtype, order_dtype
from hftd.recorder import journal
from hftd.recorder.crashed import left_open, seal
from hftd.recorder.journal import HEADER, JournalError, Stream, Writer, read_journal, stream_code
from hftd.recorder.taps import ENTRY, crc32, crc_tables


@hot
def checksum(tables, at, size):
    """The compiled CRC-32."""
    return crc32(tables, at, size)


@pytest.fixture
def writer(tmp_path):
    made = Writer(tmp_path, "unit", 1_700_000_000_123_000_000, 1, np.zeros(1, clock_dtype)[0], {0x100: "ring.order"}, size=1 << 16)
    for number in range(10):
        record = np.zeros(1, order_dtype)
        record["cl_ord_id"], record["seq"] = 1000 + number, number + 1
        made.append(stream_code(Stream.ORDER), 0, record.tobytes())
    return made


@pytest.mark.parametrize("size", [4, 12, 76, 1028])
def test_the_compiled_checksum_is_zlibs(size):
    """Slicing-by-8 against zlib, random bytes."""
    rng = np.random.default_rng(size)
    tables = crc_tables()
    for _ in range(50):
        data = rng.integers(0, 256, size, dtype=np.uint8)
        assert checksum(tables.ctypes.data, data.ctypes.data, size) == zlib.crc32(data.tobytes())


def test_written_and_read(writer):
    """Every entry, in order, with its stream; the file is cut to its length when sealed."""
    assert [int(entry.record["cl_ord_id"]) for entry in read_journal(writer.path)] == list(range(1000, 1010))
    assert read_journal(writer.path).state == "OPEN"
    writer.seal()
    reader = read_journal(writer.path)
    entries = list(reader)
    assert (reader.state, reader.problem, reader.instance, reader.streams) == ("SEALED", "", "unit", {"256": "ring.order"})
    assert [(entry.number, entry.stream, entry.index) for entry in entries] == [(n, Stream.ORDER, 0) for n in range(10)]
    assert writer.path.stat().st_size == HEADER + 10 * ENTRY
    assert writer.path.stat().st_mode & 0o777 == 0o600


def test_a_symbol_carries_its_index(writer):
    """SYMBOL entries: which row of the instrument table."""
    record = np.zeros(1, instrument_dtype)
    record["symbol"] = int.from_bytes(b"AAPL    ", "little")
    writer.append(stream_code(Stream.SYMBOL), 7, record.tobytes())
    last = list(read_journal(writer.path))[-1]
    assert (last.stream, last.aux, int(last.record["symbol"])) == (Stream.SYMBOL, 7, int(record["symbol"][0]))


@pytest.mark.parametrize("at", [0, 4, 6, 8, 16, 79])
def test_one_flipped_bit_stops_the_reader_there(writer, at):
    """Any byte of entry 4: entries 0 to 3, and the problem said."""
    writer.seal()
    data = bytearray(writer.path.read_bytes())
    data[HEADER + 4 * ENTRY + at] ^= 1
    writer.path.write_bytes(data)
    reader = read_journal(writer.path)
    assert [entry.number for entry in reader] == [0, 1, 2, 3]
    assert "entry 4" in reader.problem


def test_an_entry_out_of_place_stops_the_reader(writer):
    """Whole and with the right checksum, but not the next number."""
    writer.seal()
    data = bytearray(writer.path.read_bytes())
    data[HEADER + 4 * ENTRY : HEADER + 5 * ENTRY] = data[HEADER + 6 * ENTRY : HEADER + 7 * ENTRY]
    writer.path.write_bytes(data)
    reader = read_journal(writer.path)
    assert len(list(reader)) == 4 and "number 6" in reader.problem


def test_a_file_cut_short_says_what_is_missing(writer):
    """Cut in the middle of an entry."""
    writer.seal()
    writer.path.write_bytes(writer.path.read_bytes()[: HEADER + 7 * ENTRY + 30])
    reader = read_journal(writer.path)
    assert len(list(reader)) == 7 and reader.problem == "3 of 10 entries are missing at the end"


def test_a_crash_is_sealed_behind_the_last_good_entry(writer, tmp_path):
    """OPEN at the next start: CRASHED, cut; a half-written entry does not count; other instances' files are left alone."""
    at = HEADER + 10 * ENTRY
    writer.map[at + 20 : at + 30] = b"x" * 10
    other = Writer(tmp_path, "unit2", 1_700_000_000_123_000_000, 1, np.zeros(1, clock_dtype)[0], {}, size=1 << 16)
    ((left,), _) = left_open(tmp_path, "unit")
    path = left.path
    assert (path, left.entries) == (writer.path, 10)
    seal(left)
    reader = read_journal(path)
    assert len(list(reader)) == 10 and reader.state == "CRASHED" and reader.problem == ""
    assert path.stat().st_size == HEADER + 10 * ENTRY
    assert left_open(tmp_path, "unit") == ([], [])
    assert read_journal(other.path).state == "OPEN"


def test_entries_stored_before_their_count_are_found(writer):
    """The drain stores the entry, then the count: a crash in between loses nothing that is whole."""
    writer.header["entries"] = 6
    assert left_open(writer.path.parent, "unit")[0][0].entries == 10


@pytest.mark.parametrize(("damage", "message"), [
    (lambda data: data[:100], "shorter than a header"),
    (lambda data: b"x" * len(data), "not a journal"),
    (lambda data: data[:8] + b"\x09" + data[9:], "another version"),
    (lambda data: data[:16] + b"\x00" * 8 + data[24:], "another version"),
])  # fmt: skip
def test_what_is_no_journal_is_refused(writer, damage, message):
    """Each with what is wrong."""
    writer.path.write_bytes(damage(writer.path.read_bytes()))
    with pytest.raises(JournalError, match=message):
        read_journal(writer.path)


def test_a_file_that_exists_is_never_overwritten(writer, tmp_path):
    """The same run and number again: refused."""
    with pytest.raises(JournalError, match="File exists"):
        Writer(tmp_path, "unit", 1_700_000_000_123_000_000, 1, np.zeros(1, clock_dtype)[0], {}, size=1 << 16)


def test_no_room_is_an_error_and_leaves_no_file(tmp_path):
    """More than the disk has."""
    with pytest.raises(JournalError, match="MiB are needed"):
        Writer(tmp_path, "unit", time.time_ns(), 1, np.zeros(1, clock_dtype)[0], {}, size=1 << 55)
    assert list(tmp_path.glob("*.journal")) == []


def test_every_record_of_the_daemon_fits_an_entry():
    """64 bytes each."""
    assert all(kind.itemsize == 64 for kind in journal.KINDS.values())
