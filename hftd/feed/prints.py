"""The prints of the day, as far back as the table goes: so that one that the venue breaks can be taken out again.

    prints[match & (rows - 1)]   match, px, qty, instrument, its print before        a newer one takes an older one's place

The venue numbers its matches through the day, so the table holds about the last `feed.prints_max` of them; a print that is broken
later than that is counted (`broken_unknown`) and stays in the volume. The last price goes back to the newest print of the
instrument that stands, and to none (0) where that is not known: a price that the venue took back says nothing.

Writing costs one line an execution, in order; nothing is looked up until a trade is broken.
"""

from hftd.core.apart import apart
from hftd.core.jit import hot, leaf
from hftd.core.layout import layout
from hftd.core.memory import record_at, row, span
from hftd.feed.memory import feed_counters_dtype
from hftd.msg.records import quote_dtype
from hftd.shm.seqlock import begin_write, end_write

print_dtype = layout("print", 32, [
    ("match", "i8"),                              # the venue's number
    ("qty", "i8"),                                # shares; 0: row never used, or the print is broken
    ("before", "i8"),                             # match number of the instrument's print before; 0: none
    ("px", "u4"),
    ("instrument", "u2"),
    ("hidden", "u2"),                             # 1: it touched no displayed order, or is a cross
])  # fmt: skip

BACK = 64
"""Broken prints in a row that are gone back over."""


@leaf
def remember_print(agent, quote, instrument, match, px, qty, hidden):
    """Note a print; the instrument's quote cell is open for writing. hidden: 1, it touched no displayed order."""
    prints = span(agent.prints)
    slot = row(prints, match & (prints.count - 1), print_dtype)
    slot.match = match
    slot.qty = qty
    slot.before = quote.last_match
    slot.px = px
    slot.instrument = instrument
    slot.hidden = hidden
    quote.last_match = match


@hot
def take_back(agent, instrument, match):
    """Take a broken print out of volume and last price. Returns its (px, qty) and the last price that stands; qty 0: not known."""
    apart()
    counters = record_at(agent.counters_at, feed_counters_dtype)
    quote = row(span(agent.quotes), instrument, quote_dtype)
    prints = span(agent.prints)
    slot = row(prints, match & (prints.count - 1), print_dtype)
    if slot.match != match or slot.instrument != instrument or slot.qty == 0:
        counters.broken_unknown += 1
        return 0, 0, quote.last_px
    px, qty = slot.px + 0, slot.qty
    slot.qty = 0
    counters.volume -= qty
    counters.broken_volume += qty
    if slot.hidden != 0:
        counters.hidden_volume -= qty
    last, last_px, last_qty = quote.last_match, quote.last_px, quote.last_qty
    if last == match:
        for _ in range(BACK):
            last = slot.before
            slot = row(prints, last & (prints.count - 1), print_dtype)
            if last == 0 or slot.match != last or slot.instrument != instrument:
                last, last_px, last_qty = 0, 0, 0
                break
            last_px, last_qty = slot.px + 0, slot.qty
            if last_qty != 0:
                break
        if last_qty == 0:
            last, last_px = 0, 0
    begin_write(quote)
    quote.volume -= qty
    quote.last_match = last
    quote.last_px = last_px
    quote.last_qty = last_qty
    end_write(quote)
    return px, qty, last_px
