"""The file of positions: what is held before the day's first trade; `hftd positions --save` writes the next day's.

    # close of 2025-03-07                 written by --save: all trades of that day are in; a file made by hand needs no such line
    symbol,quantity,price                 the columns
    AAPL,500,187.25                       shares, negative for a short position; average price in currency units
    MSFT,-300,402.1175

The price is the profit basis: profit and loss of the day, and so `risk.loss_max`, count from it. Every mistake is an error that
names file, line, value, and what would be right; nothing of a wrong file is used.
"""

import csv
import re
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal
from pathlib import Path

from hftd.control.config import Config, nearest
from hftd.core.files import replace_file
from hftd.core.fixed import PRICE_SCALE
from hftd.errors import WRONG, HftdError
from hftd.risk.memory import PX_MAX, cash_cap
from hftd.venues.nasdaq.trading_day import day_number, day_text

COLUMNS = ("symbol", "quantity", "price")
QTY_MAX = 1 << 40
READABLE = 0o644
_DECIMALS = Decimal("1e-8")


class PositionsError(HftdError, ValueError):
    """The file of positions is wrong, and what would be right."""

    exit_code = WRONG


@dataclass(frozen=True)
class Opening:
    """A file of positions that was read. shares and cash: symbol -> shares, and shares * average price in the venue's scale."""

    path: Path
    close: int | None                             # day whose trades are all in it; None: the file does not say
    shares: dict[str, int]
    cash: dict[str, int]


def path_of(config: Config) -> Path:
    """Return the file that `risk.positions` names: relative to the configuration file."""
    return Path(config.path).resolve().parent / config.risk.positions


def load(config: Config) -> Opening:
    """Read and check the file that the configuration names. Raises PositionsError."""
    path = path_of(config)
    where = f"{config.path}: risk.positions: {path}"
    try:
        text = path.read_text("utf-8-sig")
    except FileNotFoundError:
        raise PositionsError(
            f"{where}: no such file; `hftd positions --save {path}` writes it, or you: {','.join(COLUMNS)} in the first line"
        ) from None
    except UnicodeDecodeError:
        raise PositionsError(f"{where}: is not UTF-8 text; it must be CSV with the columns {','.join(COLUMNS)}") from None
    except OSError as error:
        raise PositionsError(f"{where}: {error.strerror}") from None
    return parse(text, path, config.universe.symbols, config.instruments)


def parse(text: str, path: Path, known: list[str], rows_max: int) -> Opening:
    """Check a file's text. known: symbols that may stand in it, empty: any; rows_max: how many. Raises PositionsError."""
    close, header = None, False
    lines: dict[str, int] = {}
    shares: dict[str, int] = {}
    cash: dict[str, int] = {}
    for number, fields in _rows(text, path):
        where = f"{path}:{number}"
        if fields[0].startswith("#"):
            close = _close(fields[0], where, close)
        elif not header:
            if tuple(field.lower() for field in fields) != COLUMNS:
                raise PositionsError(f"{where}: the first line must be {','.join(COLUMNS)}, was {','.join(fields)!r}")
            header = True
        else:
            symbol, qty, amount = _position(fields, where, known, cash_cap(rows_max))
            if symbol in lines:
                raise PositionsError(f"{where}: symbol: {symbol} stands in line {lines[symbol]} already; one line for each symbol")
            lines[symbol] = number
            if qty:
                shares[symbol], cash[symbol] = qty, amount
    if not header:
        raise PositionsError(f"{path}:1: the first line must be {','.join(COLUMNS)}; a file without positions has that line alone")
    if len(shares) > rows_max:
        raise PositionsError(f"{path}: holds {len(shares)} symbols; universe.max is {rows_max}: raise it, or take symbols out")
    return Opening(path, close, shares, cash)


def _rows(text: str, path: Path):
    """Yield (line number, fields) of the lines that are not empty; empty fields at the end, a spreadsheet's, are left out."""
    reader = csv.reader(text.splitlines(), strict=True)
    while True:
        try:
            fields = [field.strip() for field in next(reader)]
        except StopIteration:
            return
        except csv.Error as error:
            raise PositionsError(f"{path}:{reader.line_num}: not CSV: {error}") from None
        while fields and not fields[-1]:
            fields.pop()
        if fields:
            yield reader.line_num, fields


def _close(text: str, where: str, before: int | None) -> int | None:
    """Return the day that a comment says the file is the close of; `before` where it says none."""
    found = re.match(r"#\s*close of\s+(\S+)", text)
    if not found:
        return before
    if before is not None:
        raise PositionsError(f"{where}: a second line '# close of'; a file is the close of one day")
    try:
        return day_number(found[1])
    except ValueError:
        raise PositionsError(f"{where}: '# close of' must be followed by a day like 2025-03-07, was {found[1]!r}") from None


def _position(fields: list[str], where: str, known: list[str], cap: int) -> tuple[str, int, int]:
    """Return symbol, shares, and shares * price in the venue's scale."""
    if len(fields) != len(COLUMNS):
        raise PositionsError(f"{where}: must be {','.join(COLUMNS)}, three fields, was {','.join(fields)!r}")
    symbol, quantity, price = fields
    if not re.fullmatch(r"[!-~]{1,8}", symbol):
        raise PositionsError(f"{where}: symbol: must be 1 to 8 characters without spaces, was {symbol!r}")
    if known and symbol not in known:
        raise PositionsError(f"{where}: symbol: {symbol} is not in universe.symbols; {nearest(symbol, known)}")
    if not re.fullmatch(r"[+-]?[0-9]{1,18}", quantity) or abs(int(quantity)) > QTY_MAX:
        raise PositionsError(f"{where}: quantity: must be a whole number of shares, negative for a short position (500, -300), "
                             f"{QTY_MAX} at most, was {quantity!r}")  # fmt: skip
    if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,12})?", price) or not 0 < Decimal(price) * PRICE_SCALE < PX_MAX:
        raise PositionsError(f"{where}: price: must be the average price of a share, above 0 and below {PX_MAX // PRICE_SCALE} "
                             f"(187.25), was {price!r}")  # fmt: skip
    amount = int((int(quantity) * Decimal(price) * PRICE_SCALE).to_integral_value(ROUND_HALF_EVEN))
    if abs(amount) > cap:
        raise PositionsError(f"{where}: quantity * price: must be at most {cap // PRICE_SCALE}, was {quantity} * {price}")
    return symbol, int(quantity), amount


def write(path: Path, day: int, rows: dict[str, tuple[int, int]]) -> None:
    """Write a file of positions, whole or not at all. day: whose trades are in; rows: symbol -> shares, and their cash.

    A file with other contents is kept beside it as FILE.old. Raises PositionsError where the day has not begun (0), where the file
    cannot be written, or where it is something else already.
    """
    if not day:
        raise PositionsError(f"{path}: not written: the daemon has not begun its trading day; save when `hftd status` tells one")
    lines = [f"# close of {day_text(day)}", ",".join(COLUMNS)]
    for symbol, (qty, cash) in sorted(rows.items()):
        if qty:
            lines.append(f"{symbol},{qty},{price_text(qty, cash)}")
    text, old = "\n".join(lines) + "\n", path.with_name(f"{path.name}.old")
    try:
        before = path.read_bytes() if path.exists() else None
        keeps = before is not None and before != text.encode()
        for file in (path, old) if keeps else (path,):
            if file.exists() and not _ours(file):
                raise PositionsError(f"{file}: exists, and is no file of positions; choose another name, or remove it")
        if before is not None and keeps:
            replace_file(old, before, READABLE, like=path)
        replace_file(path, text.encode(), READABLE, like=path)
    except OSError as error:
        raise PositionsError(f"{path}: {error.strerror}") from None


def _ours(path: Path) -> bool:
    """Tell whether a file begins like a file of positions, and may be written over."""
    lines = path.read_text("utf-8-sig", errors="replace").splitlines()
    return ",".join(COLUMNS) in (line.strip().lower() for line in lines if not line.startswith("#"))


def price_text(qty: int, cash: int) -> str:
    """Return the average price of `qty` shares (not 0) that stand for `cash` in the venue's scale: two to eight decimals."""
    price = (Decimal(cash) / Decimal(qty) / PRICE_SCALE).quantize(_DECIMALS, ROUND_HALF_EVEN)
    whole, _, part = f"{max(price, _DECIMALS):f}".partition(".")
    return f"{whole}.{part.rstrip('0').ljust(2, '0')}"
