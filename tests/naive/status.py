"""What a venue says beside the books, as one would note it on paper: dictionaries, one ITCH message at a time."""

import struct

PX_MAX, QTY_MAX = 2_000_000_000, 1 << 40
STATES = {"T": 1, "H": 2, "P": 3, "Q": 4}


class NaiveStatus:
    """By locate: what holds; `session`: what concerns all. symbols: symbol -> locate. prints: NaiveBooks' list of them."""

    def __init__(self, symbols: dict[str, int], prints: list[list[int]]) -> None:
        self.symbols, self.prints = symbols, prints
        self.of: dict[int, dict[str, int]] = {locate: {} for locate in symbols.values()}
        self.venue: dict[int, tuple[int, int]] = dict.fromkeys(symbols.values(), (0, 0))  # state by H, operational halt
        self.session: dict[str, int] = {}
        self.bad = 0

    def apply(self, message: bytes) -> None:
        """Apply one sound message that is about no order."""
        kind, locate, body = chr(message[0]), struct.unpack(">H", message[1:3])[0], message[11:]
        if kind in "SVW":
            self._all(kind, body)
            return
        if kind == "K" and locate == 0:
            locate = self.symbols.get(body[:8].decode().rstrip(), 0)
        if locate not in self.of or kind in "RLB":
            return
        row, fields = self.of[locate], {}
        if kind in "HhY":
            self._action(kind, locate, body, row)
        elif kind == "J":
            middle, high, low, count = struct.unpack(">IIII", body[8:24])
            if max(middle, high) > PX_MAX or low > high:
                self.bad += 1
            else:
                fields = {"collar_px": middle, "collar_low": low, "collar_high": high, "collar_extension": count}
        elif kind == "K":
            when, qualifier, px = struct.unpack(">IBI", body[8:17])
            if px > PX_MAX or when >= 86_400:
                self.bad += 1
            else:
                fields = {"ipo_px": px, "ipo_ns": when * 10**9, "ipo_qualifier": qualifier}
        elif kind == "N":
            fields = {"retail": {"B": 1, "S": 2, "A": 3}.get(chr(body[8]), 0)}
        elif kind == "O":
            opens, least, most, near, when, low, high = struct.unpack(">BIIIQII", body[8:37])
            if max(least, most, near, low, high) > PX_MAX or when >= 1 << 63:
                self.bad += 1
            else:
                fields = {"listing_open": int(opens == ord("Y")), "listing_min": least, "listing_max": most, "listing_px": near,
                          "listing_ns": when, "listing_low": low, "listing_high": high}  # fmt: skip
        elif kind == "I":
            paired, left, side, _, far, near, reference, auction, variation = struct.unpack(">QQB8sIIIBB", body)
            if max(paired, left) > QTY_MAX or max(far, near, reference) > PX_MAX:
                self.bad += 1
            else:
                fields = {"paired_qty": paired, "imbalance_qty": -left if side == ord("S") else left, "direction": side,
                          "near_px": near, "far_px": far, "reference_px": reference, "auction": auction,
                          "variation": variation}  # fmt: skip
        elif kind in "PQ":
            fields = self._print(kind, locate, body)
        row.update(fields)

    def _all(self, kind: str, body: bytes) -> None:
        if kind == "S":
            self.session["phase"] = body[0]
            if body == b"O":
                self.session["breaker"] = 0
        elif kind == "V":
            levels = struct.unpack(">QQQ", body)
            if max(levels) >= 1 << 63:
                self.bad += 1
            else:
                self.session.update(level_1=levels[0], level_2=levels[1], level_3=levels[2])
        elif body in (b"1", b"2", b"3"):
            self._breaker(int(body))
        else:
            self.bad += 1

    def _breaker(self, level: int) -> None:
        self.session["breaker"] = max(self.session.get("breaker", 0), level)
        for row in self.of.values():
            row["breaker"] = max(row.get("breaker", 0), level)

    def _action(self, kind: str, locate: int, body: bytes, row: dict[str, int]) -> None:
        state, halted = self.venue[locate]
        if kind == "H":
            state = STATES.get(chr(body[8]), 2)
            row["reason"] = int.from_bytes(body[10:14], "little")
            if state != 1 and body[10:14] in (b"MWC1", b"MWC2", b"MWC3") and self.session.get("breaker", 0) < int(body[13:14]):
                self._breaker(int(body[13:14]))       # its own message went by unheard
            if state == 1:
                row.update(breaker=0, collar_px=0, collar_low=0, collar_high=0, collar_extension=0)
        elif kind == "h" and body[8:9] == b"Q":
            halted = int(body[9:10] != b"T")
        elif kind == "Y":
            row["short"] = int(body[8:9] != b"0")
        self.venue[locate] = state, halted
        row["halted"], row["trading"] = halted, 2 if halted else state

    def _print(self, kind: str, locate: int, body: bytes) -> dict[str, int]:
        if kind == "P":
            qty, px, match = struct.unpack(">I", body[9:13])[0], *struct.unpack(">IQ", body[21:33])
        else:
            qty, px, match = struct.unpack(">Q", body[:8])[0], *struct.unpack(">IQ", body[16:28])
        if qty > QTY_MAX or px > PX_MAX:
            self.bad += 1
            return {}
        if qty:
            self.prints.append([match, locate, px, qty, 1])
        return {"cross_px": px, "cross_qty": qty, "cross_type": body[28]} if kind == "Q" else {}
