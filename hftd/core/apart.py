"""Where the feed's files look for `apart`; it lives in `core/apart.py`."""

from hftd.core.apart import apart

__all__ = ["apart"]
