"""The obvious book: dictionaries and lists, one ITCH message at a time. What the engine must equal after every message."""

import struct

PX_MAX = 2_000_000_000


class NaiveBooks:
    """Books by locate: side -> px -> list of references in queue order; orders by reference."""

    def __init__(self) -> None:
        self.orders: dict[int, list] = {}  # ref -> [locate, side, px, qty]
        self.books: dict[int, dict[str, dict[int, list[int]]]] = {}
        self.errors: dict[str, int] = dict.fromkeys(("unknown_refs", "duplicate_refs", "overfills", "bad_fields"), 0)
        self.volume = 0
        self.prints: list[list[int]] = []  # [match, locate, px, qty, hidden], oldest first; a broken one has no shares

    def apply(self, message: bytes) -> None:
        """Apply one sound message (its length is its type's)."""
        kind, locate = chr(message[0]), struct.unpack(">H", message[1:3])[0]
        if kind in "AF":
            ref, side, qty = struct.unpack(">QcI", message[11:24])
            self.add(locate, ref, side.decode("latin1"), qty, struct.unpack(">I", message[32:36])[0])
        elif kind in "ECX":
            ref, qty = struct.unpack(">QI", message[11:23])
            if not self.known(locate, ref):
                return
            if qty == 0:
                self.errors["bad_fields"] += 1
                return
            _, _, px, left = self.orders[ref]
            if kind == "E" or (kind == "C" and message[31:32] == b"Y"):
                self.volume += qty
                px = px if kind == "E" else struct.unpack(">I", message[32:36])[0]
                self.prints.append([struct.unpack(">Q", message[23:31])[0], locate, px, qty, 0])
            if qty > left:
                self.errors["overfills"] += 1
            if qty >= left:
                self.remove(ref)
            else:
                self.orders[ref][3] -= qty
        elif kind == "D":
            ref = struct.unpack(">Q", message[11:19])[0]
            if self.known(locate, ref):
                self.remove(ref)
        elif kind == "B":
            match = struct.unpack(">Q", message[11:19])[0]
            for printed in self.prints:
                if printed[:2] == [match, locate] and printed[3]:
                    self.volume -= 0 if printed[4] else printed[3]
                    printed[3] = 0
        elif kind == "U":
            ref, new, qty, px = struct.unpack(">QQII", message[11:35])
            if self.known(locate, ref):
                side = self.orders[ref][1]
                self.remove(ref)
                self.add(locate, new, side, qty, px)

    def last(self, locate: int) -> tuple[int, int, int]:
        """Return px and qty of the newest print of `locate` that stands, and the shares of all that do."""
        stand = [printed for printed in self.prints if printed[1] == locate and printed[3]]
        return (*stand[-1][2:4], sum(printed[3] for printed in stand)) if stand else (0, 0, 0)

    def known(self, locate: int, ref: int) -> bool:
        """Tell whether a book of `locate` has the order; count it where not."""
        if ref not in self.orders or self.orders[ref][0] != locate:
            self.errors["unknown_refs"] += 1
            return False
        return True

    def add(self, locate: int, ref: int, side: str, qty: int, px: int) -> None:
        """Enter an order at the back of its level, or count why not."""
        if qty == 0 or px == 0 or px > PX_MAX or side not in "BS":
            self.errors["bad_fields"] += 1
        elif ref in self.orders:
            self.errors["duplicate_refs"] += 1
        else:
            self.orders[ref] = [locate, side, px, qty]
            self.books.setdefault(locate, {"B": {}, "S": {}})[side].setdefault(px, []).append(ref)

    def remove(self, ref: int) -> None:
        """Take an order out, and its level where it was the last."""
        locate, side, px, _ = self.orders.pop(ref)
        queue = self.books[locate][side][px]
        queue.remove(ref)
        if not queue:
            del self.books[locate][side][px]

    def sides(self, locate: int) -> tuple[list, list]:
        """Return (bids, asks), best first: [px, [[ref, qty], …oldest first]]."""
        book = self.books.get(locate, {"B": {}, "S": {}})
        return tuple(
            [[px, [[ref, self.orders[ref][3]] for ref in book[side][px]]] for px in sorted(book[side], reverse=side == "B")]
            for side in "BS"
        )  # type: ignore[return-value]
