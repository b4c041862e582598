"""The file of positions: what is right is read to the share, what is wrong names file, line, value and what would be right."""

import os
from pathlib import Path

import pytest

from hftd.control.config import build
from hftd.risk import opening
from hftd.risk.opening import PositionsError, parse, write
from hftd.venues.nasdaq.trading_day import day_number

KNOWN = ["AAPL", "MSFT", "BRK.A"]
HEAD = "symbol,quantity,price\n"


def read(text: str, known=KNOWN, rows_max: int = 4) -> opening.Opening:
    return parse(text, Path("p.csv"), known, rows_max)


def test_positions_are_read():
    """Long, short, flat; comments, blank lines, blanks, a spreadsheet's quotes and empty fields, a part of a cent in the price."""
    found = read(
        '# mine\n\nSymbol, Quantity ,Price,,\n# close of 2025-03-07,,\nAAPL,+500,187.25,\n"MSFT", -300 ,402.1175001\nBRK.A,0,1\n'
    )
    assert found.close == day_number("2025-03-07")
    assert found.shares == {"AAPL": 500, "MSFT": -300}
    assert found.cash == {"AAPL": 500 * 1872500, "MSFT": -300 * 4021175}
    assert read(HEAD).shares == {} and read(HEAD).close is None


@pytest.mark.parametrize(("text", "message"), [
    ("", r"p\.csv:1: the first line must be symbol,quantity,price"),
    ("AAPL,500,1\n", r"p\.csv:1: the first line must be symbol,quantity,price, was 'AAPL,500,1'"),
    (f"{HEAD}AAPL,500\n", r"p\.csv:2: must be symbol,quantity,price, three fields, was 'AAPL,500'"),
    (f"{HEAD}AAPL,500,1,2\n", r"p\.csv:2: must be symbol,quantity,price, three fields"),
    (f"{HEAD}AAPL,5,1\nAPPL,500,1\n", r"p\.csv:3: symbol: APPL is not in universe\.symbols; did you mean AAPL\?"),
    (f"{HEAD}TOOLONGNAME,500,1\n", r"p\.csv:2: symbol: must be 1 to 8 characters"),
    (f"{HEAD}AAPL,5,1\n\nMSFT,1,1\nAAPL,6,1\n", r"p\.csv:5: symbol: AAPL stands in line 2 already"),
    (f"{HEAD}AAPL,0,1\nAAPL,0,1\n", r"p\.csv:3: symbol: AAPL stands in line 2 already"),
    (f"{HEAD}AAPL,many,1\n", r"p\.csv:2: quantity: must be a whole number of shares.*, was 'many'"),
    (f"{HEAD}AAPL,500.5,1\n", r"p\.csv:2: quantity: must be a whole number of shares.*, was '500\.5'"),
    (f"{HEAD}AAPL,٥,1\n", r"p\.csv:2: quantity"),
    (f"{HEAD}AAPL,{(1 << 40) + 1},1\n", r"p\.csv:2: quantity: .* 1099511627776 at most"),
    (f"{HEAD}AAPL,,1\n", r"p\.csv:2: quantity: .* was ''"),
    (f"{HEAD}AAPL,5,nan\n", r"p\.csv:2: price: must be the average price of a share, above 0 .*, was 'nan'"),
    (f"{HEAD}AAPL,5,-1\n", r"p\.csv:2: price: .*, was '-1'"),
    (f"{HEAD}AAPL,5,0\n", r"p\.csv:2: price: .*, was '0'"),
    (f"{HEAD}AAPL,5,1e3\n", r"p\.csv:2: price: .*, was '1e3'"),
    (f"{HEAD}AAPL,5,109951163\n", r"p\.csv:2: price: .* below 109951162"),
    (f"{HEAD}AAPL,{1 << 40},900000\n", r"p\.csv:2: quantity \* price: must be at most"),
    (f'{HEAD}"AAPL,5,1\n', r"p\.csv:2: not CSV"),
    (f"# close of yesterday\n{HEAD}", r"p\.csv:1: '# close of' must be followed by a day like 2025-03-07, was 'yesterday'"),
    (f"# close of 2025-03-07\n# close of 2025-03-07\n{HEAD}", r"p\.csv:2: a second line"),
])  # fmt: skip
def test_what_is_wrong_is_named(text, message):
    with pytest.raises(PositionsError, match=message):
        read(text)


def test_more_symbols_than_the_universe_holds_are_refused():
    """Where the universe is whatever the venue announces, its size is all that can be checked."""
    text = HEAD + "".join(f"S{at},1,1\n" for at in range(5))
    with pytest.raises(PositionsError, match=r"holds 5 symbols; universe\.max is 4"):
        read(text, known=[])
    assert len(read(text, known=[], rows_max=5).shares) == 5


def test_the_file_lies_beside_the_configuration(tmp_path):
    """Missing, a directory, or no text: the key and the file are named."""
    config = build({"risk": {"positions": "p.csv"}}, str(tmp_path / "hftd.toml"))
    with pytest.raises(PositionsError, match=rf"risk\.positions: {tmp_path}/p\.csv: no such file; `hftd positions --save"):
        opening.load(config)
    (tmp_path / "p.csv").mkdir()
    with pytest.raises(PositionsError, match="Is a directory"):
        opening.load(config)
    (tmp_path / "p.csv").rmdir()
    (tmp_path / "p.csv").write_bytes(b"symbol,quantity,price\nA\xff,1,1\n")
    with pytest.raises(PositionsError, match="is not UTF-8 text"):
        opening.load(config)
    (tmp_path / "p.csv").write_bytes(b"\xef\xbb\xbfsymbol,quantity,price\r\nA,1,1\r\n")
    assert opening.load(config).shares == {"A": 1}


def test_what_is_written_is_read_again(tmp_path):
    """Averages that do not come out even stay within a cent of their sum; flat symbols are left out."""
    path = tmp_path / "p.csv"
    rows = {"MSFT": (-3, -10_0001), "AAPL": (700, 700 * 1872500 + 33), "BRK.A": (0, 0)}
    write(path, day_number("2025-03-07"), rows)
    assert path.read_text() == "# close of 2025-03-07\nsymbol,quantity,price\nAAPL,700,187.25000471\nMSFT,-3,3.33336667\n"
    found = opening.load(build({"risk": {"positions": "p.csv"}}, str(tmp_path / "hftd.toml")))
    assert found.shares == {"AAPL": 700, "MSFT": -3} and found.close == day_number("2025-03-07")
    assert found.cash == {symbol: rows[symbol][1] for symbol in found.cash}
    write(path, day_number("2025-03-08"), {})
    assert path.read_text() == "# close of 2025-03-08\nsymbol,quantity,price\n"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["p.csv", "p.csv.old"]


def test_what_is_written_over_is_kept(tmp_path):
    """As FILE.old, and only where it says something else: to save twice does not lose it."""
    path, old = tmp_path / "p.csv", tmp_path / "p.csv.old"
    write(path, day_number("2025-03-07"), {"AAPL": (500, 500 * 1872500)})
    assert not old.exists()
    good = path.read_text()
    for _ in range(2):
        write(path, day_number("2025-03-08"), {})
        assert old.read_text() == good
    old.write_text("my notes\n")
    with pytest.raises(PositionsError, match=r"p\.csv\.old: exists, and is no file of positions"):
        write(path, day_number("2025-03-09"), {})
    assert old.read_text() == "my notes\n" and "2025-03-08" in path.read_text()


def test_the_daemons_user_may_read_what_another_saved(tmp_path):
    """A new file has the mode the umask leaves; one that is written over keeps its own."""
    path = tmp_path / "p.csv"
    (tmp_path / "p.csv.new").touch(0o600)         # what a crash left
    mask = os.umask(0o027)
    try:
        write(path, 1, {})
        assert path.stat().st_mode & 0o777 == 0o640
        path.chmod(0o664)
        write(path, 2, {})
        assert [entry.stat().st_mode & 0o777 for entry in (path, tmp_path / "p.csv.old")] == [0o664, 0o664]
        if os.geteuid() == 0:
            os.chown(path, 1234, 1234)
            write(path, 3, {})
            assert (path.stat().st_uid, path.stat().st_gid) == (1234, 1234)
    finally:
        os.umask(mask)


def test_no_day_no_file(tmp_path):
    """Day 0 is that of a daemon that is just starting."""
    with pytest.raises(PositionsError, match="has not begun its trading day"):
        write(tmp_path / "p.csv", 0, {})
    assert not list(tmp_path.iterdir())


def test_no_other_file_is_written_over(tmp_path):
    """`--save hftd.toml` is a slip of the hand."""
    path = tmp_path / "hftd.toml"
    path.write_text("[daemon]\n")
    with pytest.raises(PositionsError, match="is no file of positions"):
        write(path, 1, {})
    assert path.read_text() == "[daemon]\n"
    with pytest.raises(PositionsError, match="No such file or directory"):
        write(tmp_path / "none/p.csv", 1, {})
