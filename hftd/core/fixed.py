"""Integer prices: every price inside the daemon is an int64 in the instrument's scale (1e-4 of the currency for Nasdaq).

Floats enter only where a strategy wants statistics, and leave through `round_down`/`round_up` to a tick.
"""

from decimal import ROUND_HALF_EVEN, Decimal

from hftd.core.jit import leaf

PRICE_SCALE = 10_000
"""Nasdaq: four implied decimals."""


@leaf
def round_down(px, tick):
    """Largest multiple of `tick` (> 0) not above `px`; right for negative prices too."""
    rest = px % tick
    return px - rest


@leaf
def round_up(px, tick):
    """Smallest multiple of `tick` (> 0) not below `px`."""
    rest = px % tick
    return px if rest == 0 else px + tick - rest


@leaf
def bps_of(px, bps):
    """`bps` basis points of `px`, rounded toward zero for px >= 0."""
    return px * bps // 10_000


def to_fixed(text: str | int | float | Decimal, scale: int = PRICE_SCALE) -> int:
    """Return a human price as the scaled integer. Raises ValueError where it is no number, too big, or has too many decimals."""
    try:
        value = Decimal(str(text)) * scale
    except ArithmeticError:
        raise ValueError(f"price {text!r} is not a number") from None
    if not value.is_finite() or abs(value) >= 1 << 63:
        raise ValueError(f"price {text!r} is not a number below 2**63 in units of 1/{scale}")
    whole = value.to_integral_value(ROUND_HALF_EVEN)
    if whole != value:
        raise ValueError(f"price {text} has more decimals than 1/{scale} allows")
    return int(whole)


def to_text(px: int, scale: int = PRICE_SCALE) -> str:
    """Return a scaled integer price as people write it: 1234500 -> '123.45'; at least two decimals."""
    sign, px = ("-", -px) if px < 0 else ("", px)
    whole, part = divmod(int(px), scale)
    digits = f"{part:0{len(str(scale)) - 1}d}".rstrip("0").ljust(2, "0")
    return f"{sign}{whole}.{digits}"
