"""A strategy's parameters: declared in its file, set in the configuration, read by its callbacks as fields of `ctx.params`."""

from dataclasses import dataclass

import numpy as np

from hftd.core.layout import layout
from hftd.errors import WRONG, HftdError

WHOLE = 1 << 63
"""A whole number is an int64."""


class StrategyError(HftdError):
    """A strategy file cannot be used, and what would be right. The text begins with file:line."""

    exit_code = WRONG


@dataclass(frozen=True)
class Param:
    """One parameter. The default's type is the parameter's: int, float, bool (0 or 1), or str for a symbol (see `find`)."""

    name: str
    default: int | float | str
    min: float | None = None
    max: float | None = None
    unit: str = ""
    doc: str = ""

    @property
    def kind(self) -> str:
        """The NumPy type of its field."""
        return "f8" if isinstance(self.default, float) else "i8"

    def check(self, value, where: str):
        """Return `value` as the field takes it. Raises StrategyError, which begins with `where`, where it is not right."""
        if isinstance(self.default, str):
            if not isinstance(value, str) or not (value == "" or (value.isascii() and " " not in value and len(value) <= 8)):
                raise StrategyError(f"{where}: {self.name} must be a symbol of at most 8 characters, was {value!r}")
            return symbol_word(value)
        if type(value) is int and not -WHOLE <= value < WHOLE:
            raise StrategyError(f"{where}: {self.name} must be within 64 bits, was {value}")
        if isinstance(self.default, float) and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        wanted = "true or false" if isinstance(self.default, bool) else "a number" if self.kind == "f8" else "a whole number"
        if type(value) is not type(self.default):
            raise StrategyError(f"{where}: {self.name} must be {wanted}, was {value!r}")
        if (self.min is not None and value < self.min) or (self.max is not None and value > self.max) or value != value:
            bounds = f"at least {self.min}" if self.max is None else f"at most {self.max}"
            bounds = wanted if self.min is None and self.max is None else bounds
            bounds = f"{self.min} to {self.max}" if self.min is not None and self.max is not None else bounds
            raise StrategyError(f"{where}: {self.name} must be {bounds}{f' {self.unit}' if self.unit else ''}, was {value}")
        return int(value) if self.kind == "i8" else value


def symbol_word(symbol: str) -> int:
    """Return a symbol as the instrument table keeps it: eight space-padded ASCII bytes in one int64; 0 for no symbol."""
    return int.from_bytes(symbol.encode("ascii").ljust(8), "little", signed=True) if symbol else 0


def params_layout(params: list[Param]) -> np.dtype:
    """Return the layout of a file's params: eight bytes each, in order."""
    if not params:
        return layout("params", 8, [("pad0", "i8")])
    return layout("params", 8 * len(params), [(param.name, param.kind) for param in params])
