"""Numbers on the command line: what is out of range is said at once, with what would be right, and ends with exit code 2."""

import argparse
import math
from collections.abc import Callable
from typing import Any


def number(kind: type, low: float | None = None, above: float | None = None, high: float | None = None, hint: str = "") -> Callable:
    """Return an argparse type: an int or a float, at least `low`, above `above`, at most `high`. hint: what else might be meant."""

    def read(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not math.isfinite(value):
            raise argparse.ArgumentTypeError(f"must be {'a whole number' if kind is int else 'a number'}, was {text!r}")
        wrong = (low is not None and value < low) or (above is not None and value <= above) or (high is not None and value > high)
        if wrong:
            raise argparse.ArgumentTypeError(f"must be {_range(low, above, high)}, was {text}{f'; {hint}' if hint else ''}")
        return value

    return read


def _range(low: float | None, above: float | None, high: float | None) -> str:
    if above is not None:
        return f"above {above:g}" + (f", at most {high:g}" if high is not None else "")
    if high is None:
        return f"at least {low:g}"
    return f"{low:g} to {high:g}" if low is not None else f"at most {high:g}"


count = number(int, low=1)
"""How many of something."""

seconds = number(float, above=0)
"""How long something lasts."""

interval = number(float, low=0.05, high=86_400)
"""How long between two looks."""

days = number(float, low=0)
"""How old something is."""
