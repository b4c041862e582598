"""The strategy host, and what a strategy file imports: `from hftd.strategy import BUY, SELL, Param, layout, submit, …`."""

from hftd.core.layout import layout
from hftd.strategy.api import *  # noqa: F403
from hftd.strategy.api import __all__ as _functions
from hftd.strategy.params import Param

__all__ = ["Param", "layout", *_functions]
