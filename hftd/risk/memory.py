"""What the risk stage keeps in shared memory."""

from hftd.msg.records import position_dtype
from hftd.shm.counters import counters
from hftd.shm.segment import Part

risk_counters_dtype = counters("risk", [("turns", "turns that found work")])


def parts(config) -> list[Part]:
    """Return the parts of the stage's segment."""
    return [Part("positions", position_dtype, config.instruments), Part("counters", risk_counters_dtype, 1)]
