"""The private handle of the risk agent: the addresses and ring ends that its turn works with. One record, private memory."""

from hftd.core.layout import layout
from hftd.core.memory import span_dtype
from hftd.msg.records import quote_dtype
from hftd.shm.control import STRATEGIES_MAX
from hftd.shm.pool import pool_dtype
from hftd.shm.ring import consumer_dtype, producer_dtype

risk_agent_dtype = layout("risk_agent", 1792, [
    ("orders", producer_dtype),                   # to the gateway
    ("denies", producer_dtype),                   # to the strategies
    ("reports", consumer_dtype),                  # from the gateway
    ("pool", pool_dtype),                         # open orders: risk_order_dtype rows
    ("buckets", span_dtype),                      # their hash by cl_ord_id
    ("limits", span_dtype),
    ("exposures", span_dtype),
    ("positions", span_dtype),
    ("instruments", span_dtype),
    ("quotes", span_dtype),
    ("strategies", span_dtype),
    ("fills", span_dtype),
    ("account_at", "i8"),
    ("window_at", "i8"),                          # slices of the message-rate window
    ("counters_at", "i8"),
    ("histograms_at", "i8"),
    ("run_at", "i8"),
    ("feed_seen", "i8"),                          # ticks when market data last arrived; cold code writes it
    ("gate", "i8"),                               # DenyReason for all new risk while a restart catches up; 0: none
    ("places", "i8"),                             # strategies served: places 0..places-1 of `intents`
    ("first", "i8"),                              # place that is served first in the next turn
    ("extra_qty", "i8"),                          # what the intent under check adds to the open shares of its side
    ("extra_cash", "i8"),                         # and to the open value
    ("orig", "i8"),                               # row of the order it replaces
    ("undo_at", "i8"),
    ("short", "i8"),                              # 1: the sale under check is to be marked short
    ("pad0", ("i8", (2,))),
    ("quote", quote_dtype),                       # copy of the quote cell under check
    ("pad1", ("i8", (16,))),
    ("intents", (consumer_dtype, (STRATEGIES_MAX,)), 768),
])  # fmt: skip
