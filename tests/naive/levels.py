"""The obvious level book: one dict a side. What `hftd/strategy/levels.py` must agree with."""


class Levels:
    """Totals by price; `apply` sets one, as a LEVEL event says."""

    def __init__(self):
        self.sides: tuple[dict[int, tuple[int, int]], dict[int, tuple[int, int]]] = ({}, {})

    def apply(self, side: int, px: int, qty: int, orders: int) -> int:
        """Set a level; 0 shares removes it. Returns the shares it had."""
        before = self.sides[side].get(px, (0, 0))[0]
        if qty > 0:
            self.sides[side][px] = (qty, orders)
        else:
            self.sides[side].pop(px, None)
        return before

    def clear(self) -> None:
        """Empty both sides."""
        for side in self.sides:
            side.clear()

    def levels(self, side: int) -> list[tuple[int, int, int]]:
        """Return (px, qty, orders) of a side, best first."""
        return [(px, *self.sides[side][px]) for px in sorted(self.sides[side], reverse=side == 0)]
