"""What the feed stage keeps in shared memory."""

from hftd.msg.records import instrument_dtype, position_dtype, quote_dtype
from hftd.shm.counters import counters
from hftd.shm.segment import Part

feed_counters_dtype = counters("feed", [("turns", "turns that found work")])


def market_parts(config) -> list[Part]:
    """Return the parts of the segment `market`."""
    n = config.instruments
    return [Part("instruments", instrument_dtype, n), Part("quotes", quote_dtype, n), Part("counters", feed_counters_dtype, 1)]


def book_parts(config) -> list[Part]:
    """Return the parts of the segment `books`."""
    return [Part("positions", position_dtype, 1)]
