"""What a venue tells the gateway: one record, whatever the wire format.

A venue's decoder fills a `venue_event_dtype` record (private to the gateway) for each message; the gateway knows only these.
The venue knows an order by `user_ref`, the number the gateway gave it.
"""

from hftd.core.layout import layout

venue_event_dtype = layout("venue_event", 128, [
    ("kind", "i8"),                               # one of the constants below; 0: nothing the gateway knows
    ("ts_event", "i8"),                           # ns since the venue's midnight
    ("user_ref", "i8"),                           # the order
    ("orig_ref", "i8"),                           # REPLACED: the order it took the place of
    ("px", "i8"),                                 # venue scale
    ("qty", "i8"),                                # shares: see the kinds
    ("venue_id", "i8"),                           # the venue's order reference, or the match number; 0: none
    ("reason", "i8"),                             # the venue's code: reject reason, cancel reason, system event
    ("dead", "i8"),                               # ACCEPTED, REPLACED: 1 when nothing more will come for this order
    ("removed", "i8"),                            # EXECUTED: 1 when we took liquidity
    ("sell", "i8"),                               # ACCEPTED, REPLACED: 1 for a sale
    ("symbol", "i8"),                             # ACCEPTED, REPLACED: eight ASCII bytes as on the wire
    ("id_text", "i8"),                            # ACCEPTED, REPLACED: address of the client's order id on the wire
    ("pad", ("i8", (3,))),
])  # fmt: skip

ACCEPTED = 1  # px and qty as accepted, venue_id
REPLACED = 2  # qty is what is outstanding, px, venue_id
CANCELED = 3  # qty shares left the order without trading, reason
EXECUTED = 4  # qty shares at px, venue_id is the match number
BROKEN = 5  # venue_id is the match number of the voided execution, reason
REJECTED = 6  # of a new order or of a replacement; reason
CANCEL_PENDING = 7
CANCEL_REJECTED = 8
REPRICED = 9  # px and venue_id are new
MODIFIED = 10  # qty is what is outstanding
RESTATED = 11  # venue_id is a new reference, or 0
NEXT_REF = 12  # qty is the next user_ref the venue will take: every earlier message has been delivered
SYSTEM = 13  # reason is the event's code
MASS_CANCEL = 14  # a mass cancel was taken note of
DISABLED = 15  # order entry is off for this account
ENABLED = 16  # and on again

NOTHING, SHORT, UNKNOWN_TYPE = 0, -1, -2
"""What a decoder returns besides a kind: an empty message, one shorter than its type needs, one of an unknown type."""
