"""Orders as anybody would write them down from the wire alone: dictionaries, one event after the other, no speed, no tricks.

Fed with every message the client put on the wire and every message the venue sent, it says what each order's state is and what was
to be reported about it. It shares no code with the gateway.
"""

import struct
from dataclasses import dataclass, field


@dataclass
class Order:
    """What is known of one order."""

    ref: int
    text: str
    qty: int
    px: int
    original: "Order | None" = None
    accepted: bool = False
    ended: str = ""  # FILLED, CANCELED, REJECTED; REPLACED counts as CANCELED
    replaced: bool = False
    cum: int = 0
    leaves: int = 0
    cancel_sent: bool = False
    replacements: list["Order"] = field(default_factory=list)
    told: list[tuple] = field(default_factory=list)  # (what, qty, leaves)


class Orders:
    """All orders of a session."""

    def __init__(self):
        self.by_ref: dict[int, Order] = {}
        self.fills: dict[tuple[int, int], tuple[int, int, bool]] = {}
        self.bought = self.sold = self.cash = 0
        self.side: dict[int, int] = {}

    # ------------------------------------------------------------ what we sent

    def sent(self, message: bytes) -> None:
        """Note a message of ours."""
        kind = message[:1]
        if kind == b"O":
            ref, side, qty, _, px = struct.unpack(">I c I 8s Q", message[1:26])
            self.by_ref[ref] = Order(ref, message[31:45].decode().strip(), qty, px, leaves=qty)
            self.side[ref] = 1 if side == b"B" else -1
        elif kind == b"U":
            orig, ref, qty, px = struct.unpack(">IIIQ", message[1:21])
            old = self.by_ref[orig]
            new = Order(ref, message[24:38].decode().strip(), qty, px, original=old, leaves=qty)
            old.replacements.append(new)
            self.by_ref[ref] = new
            self.side[ref] = self.side[orig]
        elif kind == b"X":
            (ref,) = struct.unpack(">I", message[1:5])
            self.by_ref[ref].cancel_sent = True

    # ------------------------------------------------------------ what the venue said

    def heard(self, message: bytes) -> None:
        """Note a message of the venue's."""
        kind = message[:1]
        if kind in (b"Q", b"S"):
            return
        (ref,) = struct.unpack(">I", message[9:13])
        order = self.by_ref[ref]
        if kind == b"A":
            order.accepted = True
            order.leaves = order.qty
            order.told.append(("NEW", order.qty, order.leaves))
        elif kind == b"U":
            (ref, _, qty) = struct.unpack(">I c I", message[13:22])
            old, order = order, self.by_ref[ref]
            order.accepted, order.cum, order.leaves, order.qty = True, old.cum, qty, old.cum + qty
            old.ended, old.replaced, old.leaves = "CANCELED", True, 0
            order.told.append(("REPLACED", order.qty, qty))
        elif kind == b"E":
            qty, px = struct.unpack(">IQ", message[13:25])
            (match,) = struct.unpack(">Q", message[26:34])
            if (ref, match) in self.fills:
                return
            self.fills[ref, match] = (qty, px, True)
            self._book(ref, qty, px, 1)
            order.cum += qty
            order.leaves = max(order.leaves - qty, 0)
            if not order.leaves and not order.ended:
                order.ended = "FILLED"
            order.told.append(("FILL", qty, order.leaves))
        elif kind in (b"C", b"D"):
            (qty,) = struct.unpack(">I", message[13:17])
            order.leaves -= qty
            if order.leaves == 0:
                order.ended = "CANCELED"
            else:
                order.qty = order.cum + order.leaves
            order.told.append(("CANCELED", qty, order.leaves))
        elif kind == b"J":
            order.ended, order.leaves = "REJECTED", 0
            order.told.append(("REPLACE_REJECTED" if order.original else "REJECTED", order.qty, 0))
        elif kind == b"B":
            (match,) = struct.unpack(">Q", message[13:21])
            qty, px, good = self.fills[ref, match]
            if good:
                self.fills[ref, match] = (qty, px, False)
                self._book(ref, qty, px, -1)
                order.told.append(("BROKEN", qty, order.leaves))

    def _book(self, ref: int, qty: int, px: int, sign: int) -> None:
        if self.side[ref] > 0:
            self.bought += sign * qty
        else:
            self.sold += sign * qty
        self.cash += sign * qty * px

    # ------------------------------------------------------------ what follows

    def lost(self, order: Order) -> bool:
        """Tell whether a replacement can never come about: its original ended otherwise, or can never come about itself."""
        old = order.original
        if old is None or order.accepted or order.ended:
            return False
        return bool(old.ended and not old.replaced) or self.lost(old)

    def status(self, order: Order) -> str:
        """Return the state of an order as everybody should see it."""
        if order.ended:
            return order.ended
        if self.lost(order):
            return "REJECTED"
        if order.cancel_sent:
            return "PENDING_CANCEL"
        if any(not item.accepted and not item.ended for item in order.replacements):
            return "PENDING_REPLACE"
        if not order.accepted:
            return "PENDING_NEW"
        return "PARTIALLY_FILLED" if order.cum else "LIVE"

    def story(self, order: Order) -> list[tuple]:
        """Return what was to be reported about an order."""
        return order.told + ([("REPLACE_REJECTED", order.qty, 0)] if self.lost(order) else [])
