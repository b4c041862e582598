"""Other people's ITCH packages over the same bytes, for `hftd bench feed`: what PyPI has, where it is installed. Cold.

Each rival is a function of framed messages that does its whole work once; its package is named, and is no dependency of hftd.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass

from hftd.venues.nasdaq.itch50 import unframed

PYTHON_MESSAGES = 200_000
"""A rival that is written in Python is given so many messages at most."""


@dataclass(frozen=True)
class Rival:
    """A package's way to do it. does: what it makes of the messages; whole: takes all of them, else the first PYTHON_MESSAGES."""

    name: str
    package: str
    does: str
    run: Callable[[bytes], object]
    whole: bool = True


def _itchcpp_books(raw: bytes) -> object:
    from itchcpp.book import BookManager

    manager = BookManager()
    manager.process_stream(raw)
    return manager


def _itchcpp_parse(raw: bytes) -> int:
    from itchcpp.parser import MessageParser

    return sum(1 for _ in MessageParser().parse_stream(raw))


def _itch_book(raw: bytes) -> object:
    import itch_book

    made = itch_book.Session(tables=["bbo"], depth=0, symbols=[])
    made.reserve(len(raw) // 20)
    made.feed(raw)
    return made


def _meatpy_parse(raw: bytes) -> int:
    from meatpy.itch50.itch50_market_message import ITCH50MarketMessage

    return sum(1 for message in unframed(raw) if ITCH50MarketMessage.from_bytes(message))


def _struct(raw: bytes) -> int:
    """Framing, and the fields of adds: what a loop of one's own costs in Python."""
    add, total = struct.Struct(">QcI8sI").unpack_from, 0
    for message in unframed(raw):
        if message[0] in (65, 70):
            total += add(message, 11)[2]
    return total


RIVALS = (
    Rival("itchcpp BookManager", "itchcpp", "parse+book", _itchcpp_books),
    Rival("itch-book Session, bbo", "itch_book", "parse+book", _itch_book),
    Rival("itchcpp parse_stream", "itchcpp", "parse", _itchcpp_parse),
    Rival("meatpy from_bytes", "meatpy", "parse", _meatpy_parse, whole=False),
    Rival("struct loop", "struct", "parse", _struct, whole=False),
)


def first(raw: bytes, count: int) -> bytes:
    """Return the first `count` framed messages."""
    at = 0
    while at < len(raw) and count:
        at += 2 + (raw[at] << 8 | raw[at + 1])
        count -= 1
    return raw[:at]
