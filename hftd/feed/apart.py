"""`apart()`, for the feed's modules: see `hftd/core/apart.py`."""

from hftd.core.apart import apart

__all__ = ["apart"]
