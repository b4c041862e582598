"""What the gateway stage keeps in shared memory."""

from hftd.msg.records import position_dtype
from hftd.shm.counters import counters
from hftd.shm.segment import Part

gateway_counters_dtype = counters("gateway", [("turns", "turns that found work")])


def parts(config) -> list[Part]:
    """Return the parts of the stage's segment."""
    return [Part("positions", position_dtype, config.instruments), Part("counters", gateway_counters_dtype, 1)]
