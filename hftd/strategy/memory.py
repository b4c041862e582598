"""What the strategy stage keeps in shared memory."""

from hftd.msg.records import position_dtype
from hftd.shm.counters import counters
from hftd.shm.segment import Part

strategy_counters_dtype = counters("strategy", [("turns", "turns that found work")])


def parts(config, index: int) -> list[Part]:
    """Return the parts of the segment of strategy `index`."""
    return [Part("positions", position_dtype, config.instruments), Part("counters", strategy_counters_dtype, 1)]
