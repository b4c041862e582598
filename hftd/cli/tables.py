"""Tables for people, with rich; numbers are grouped, durations carry their unit."""

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD, Box
from rich.console import Console, OverflowMethod
from rich.table import Table

console = Console(highlight=False, soft_wrap=False)
if not console.is_terminal:
    console.width = 120


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence], left: int = 1, box: Box | None = SIMPLE_HEAD) -> None:
    """Print a table; the first `left` columns are text, the others numbers."""
    made = Table(title=title or None, box=box, title_justify="left", title_style="bold", pad_edge=False)
    for number, column in enumerate(columns):
        text = 0 < number < left
        overflow: OverflowMethod = "fold" if text else "ellipsis"
        made.add_column(column, justify="left" if number < left else "right", no_wrap=not text, overflow=overflow)
    for row in rows:
        made.add_row(*(cell if isinstance(cell, str) else f"{cell:,}" for cell in row))
    console.print(made)


def compact(columns: Sequence[str], rows: Sequence[Sequence], left: int = 1) -> None:
    """Print a table that takes no line but its rows and their heading."""
    table("", columns, rows, left, box=None)


def ns(value: float) -> str:
    """Return a duration in the unit that suits it."""
    if value < 1_000:
        return f"{value:.0f} ns"
    if value < 1_000_000:
        return f"{value / 1e3:.2f} us"
    if value < 1_000_000_000:
        return f"{value / 1e6:.2f} ms"
    return f"{value / 1e9:.2f} s"


def money(value: float) -> str:
    """Return an amount with grouping and two decimals."""
    return f"{value:,.2f}"
