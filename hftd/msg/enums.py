"""The codes that stand in records. Plain ints in hot code: pass the value, never the member, as an argument.

Each enum's value 0 is what zeroed memory means: nothing yet, or OK.
"""

from enum import IntEnum


class Side(IntEnum):
    """Of an order or a level."""

    BUY = 0
    SELL = 1


class Tif(IntEnum):
    """Time in force."""

    DAY = 0
    IOC = 1


class EventKind(IntEnum):
    """What a MarketEvent says."""

    NONE = 0
    LEVEL = 1  # a price level has a new total: qty and orders are the level's after the change (0: level gone)
    TRADE = 2  # an execution of a displayed order: px, qty of the print, ref of the resting order, side of the resting order
    HIDDEN_TRADE = 3  # a print that touches no displayed order, or a cross (orders: its type, 0: none): px, qty, ref match number
    STATUS = 4  # the instrument's trading state changed: qty is a TradingState, ref packs the details (see records.py)
    CLEAR = 5  # the book of this instrument is void; a snapshot follows as LEVEL events
    SYSTEM = 6  # a system event of the session: qty is the venue's event code; 'W': a market-wide breaker, level in ref
    BOOK_STATE = 7  # this instrument's book is now LIVE, RECOVERING or STALE: qty is the BookState
    BROKEN = 8  # an earlier print was voided: ref its match number, px and qty it (0: not known), orders the last price that stands
    IMBALANCE = 9  # auction: px near price, qty paired, ref imbalance shares (signed), orders direction, type << 8, variation << 16
    DIRECTORY = 10  # the instrument was announced by the venue: qty is its locate, ref the round lot
    IMBALANCE_PRICES = 11  # comes before IMBALANCE: px far price, qty the auction's current reference price
    COLLAR = 12  # prices a reopening auction may have: px reference, qty lowest, ref highest, orders extensions so far
    IPO = 13  # release of an IPO to quotation: px its price, qty ns since midnight, ref the venue's qualifier
    RETAIL = 14  # retail price improvement: qty 1 buy interest, 2 sell interest, 3 both, 0 none
    LISTING_LIMITS = 15  # comes before LISTING: px lowest, qty highest allowable price, ref 1: it may open
    LISTING = 16  # direct listing: px near execution price, qty ns since midnight, ref lower and orders upper collar
    PARTICIPANT = 17  # a market maker's position: ref its four letters, qty 1 active, orders state, mode << 8, primary << 16
    BREAKER_LEVELS = 18  # market-wide circuit breaker: px, qty, ref are its three levels, 1e-8; instrument 0, concerns all


class BookState(IntEnum):
    """Whether a book may be traded on."""

    LIVE = 0
    RECOVERING = 1
    STALE = 2
    EMPTY = 3  # not announced by the venue yet


class TradingState(IntEnum):
    """Of an instrument; the venue's own codes are mapped in its folder."""

    UNKNOWN = 0
    TRADING = 1
    HALTED = 2
    PAUSED = 3
    QUOTE_ONLY = 4


class IntentKind(IntEnum):
    """What a strategy asks for, and what risk passes on."""

    NONE = 0
    NEW = 1
    REPLACE = 2
    CANCEL = 3
    CANCEL_ALL = 4  # every open order of the strategy


class OrdStatus(IntEnum):
    """Of an order. UNKNOWN: a time-out or a lost connection is never an answer; exposure counts it at its worst."""

    NONE = 0
    PENDING_NEW = 1
    LIVE = 2
    PARTIALLY_FILLED = 3
    PENDING_REPLACE = 4
    PENDING_CANCEL = 5
    FILLED = 6
    CANCELED = 7
    REJECTED = 8
    UNKNOWN = 9


TERMINAL_FROM, TERMINAL_TO = int(OrdStatus.FILLED), int(OrdStatus.REJECTED)
"""An order is finished when TERMINAL_FROM <= status <= TERMINAL_TO."""


class ExecType(IntEnum):
    """What an ExecutionReport says happened."""

    NONE = 0
    NEW = 1  # accepted by the venue: venue_id is its order reference
    FILL = 2  # last_px, last_qty, venue_id is the match number
    CANCELED = 3  # last_qty shares left the order without trading; leaves_qty is what remains open
    REPLACED = 4  # cl_ord_id is the new order, orig_id the one it took the place of
    REJECTED = 5  # by the venue: reason is its code
    DENIED = 6  # by risk, or by hftd itself: reason is a DenyReason; the order never left
    CANCEL_REJECTED = 7
    CANCEL_PENDING = 8
    REPLACE_REJECTED = 9  # orig_id is untouched and still open
    BROKEN = 10  # venue_id is the match number of the voided fill
    RESTATED = 11  # display or priority changed; venue_id is the order's new reference where it has one
    UNKNOWN = 12  # the session was lost while the order was in flight
    MODIFIED = 13  # the venue changed the open quantity: leaves_qty


class DenyReason(IntEnum):
    """Why an intent was not sent. The text of each is its documentation (`hftd orders`, the logs, the README)."""

    OK = 0
    KILLED = 1
    NOT_READY = 2
    STOPPING = 3
    UNKNOWN_INSTRUMENT = 4
    ORDER_QTY = 5
    ORDER_NOTIONAL = 6
    PRICE_COLLAR = 7
    NO_REFERENCE_PRICE = 8
    POSITION = 9
    MESSAGE_RATE = 10
    RING_FULL = 11
    ORDER_TABLE_FULL = 12
    UNKNOWN_ORDER = 13
    NOT_OPEN = 14
    BAD_FIELD = 15
    BOOK_NOT_LIVE = 16
    NOT_TRADING = 17
    SESSION_DOWN = 18
    CHECKSUM = 19
    FEED_STALE = 20
    OPEN_ORDERS = 21
    GROSS_NOTIONAL = 22
    LOSS_LIMIT = 23
    DUPLICATE_ID = 24
    STRATEGY_DISABLED = 25
    PRICE_TICK = 26
    SELF_CROSS = 27
    SHORT_RESTRICTED = 28
    LULD_COLLAR = 29
    MARKET_BREAKER = 30
    ROUND_LOT = 31
    SHORT_UNMARKED = 32


DENY_TEXT = {
    DenyReason.OK: "passed every check",
    DenyReason.KILLED: "the kill switch is set; `hftd kill --clear --by NAME` lifts it",
    DenyReason.NOT_READY: "the daemon is not trading yet",
    DenyReason.STOPPING: "the daemon is stopping: only cancels pass",
    DenyReason.UNKNOWN_INSTRUMENT: "the instrument index is outside the configured universe, was not announced by the venue, or is "
    "another symbol in market data than in risk (an error in the log names both)",
    DenyReason.ORDER_QTY: "the order's quantity is above risk.order_qty_max, or not above 0",
    DenyReason.ORDER_NOTIONAL: "px * qty is above risk.order_notional_max",
    DenyReason.PRICE_COLLAR: "the price is further from the book than risk.collar_bps allows",
    DenyReason.NO_REFERENCE_PRICE: "there is no book or trade to hold the price against",
    DenyReason.POSITION: "the position would pass risk.position_max if every open order on that side were filled",
    DenyReason.MESSAGE_RATE: "more messages in the last second than risk.message_rate_max",
    DenyReason.RING_FULL: "the ring to the next process is full",
    DenyReason.ORDER_TABLE_FULL: "every slot of the order table is taken; raise gateway.orders_max",
    DenyReason.UNKNOWN_ORDER: "no such order",
    DenyReason.NOT_OPEN: "the order is finished, or its cancel is under way",
    DenyReason.BAD_FIELD: "side, time in force, kind or price is not a legal value",
    DenyReason.BOOK_NOT_LIVE: "the instrument's book is recovering or stale",
    DenyReason.NOT_TRADING: "the instrument is halted, paused or quotation only",
    DenyReason.SESSION_DOWN: "the venue session is not logged in",
    DenyReason.CHECKSUM: "the order did not carry risk's running count and checksum: the gateway stopped",
    DenyReason.FEED_STALE: "market data is older than risk.feed_stale_ms",
    DenyReason.OPEN_ORDERS: "more open orders than risk.open_orders_max",
    DenyReason.GROSS_NOTIONAL: "the account's gross notional would pass risk.gross_notional_max",
    DenyReason.LOSS_LIMIT: "the account's loss has reached risk.loss_max",
    DenyReason.DUPLICATE_ID: "the order id was used before",
    DenyReason.STRATEGY_DISABLED: "this strategy was disabled by an operator or by its own limits",
    DenyReason.PRICE_TICK: "the price is not a multiple of the instrument's tick",
    DenyReason.SELF_CROSS: "the order would trade with our own resting order",
    DenyReason.SHORT_RESTRICTED: "a short sale is restricted in this instrument",
    DenyReason.LULD_COLLAR: "the price is outside the collar of the auction that ends the pause (LULD)",
    DenyReason.MARKET_BREAKER: "a market-wide circuit breaker is in force, and the venue has not resumed this instrument",
    DenyReason.ROUND_LOT: "the instrument trades in round lots only, and the quantity is none",
    DenyReason.SHORT_UNMARKED: "the order that is replaced is marked a long sale, the new one could sell short: cancel, send anew",
}


class RunState(IntEnum):
    """Of the whole daemon: one word in the control segment, written by the supervisor."""

    STARTING = 0
    READY = 1  # trading
    STOPPING = 2  # cancel everything, wait until all is terminal, log out
    STOPPED = 3


class Role(IntEnum):
    """An agent's role; also its index among the marks, before the strategies' own."""

    SUPERVISOR = 0
    FEED = 1
    RISK = 2
    GATEWAY = 3
    RECORDER = 4
    STRATEGY = 5  # strategy k has mark STRATEGY + k


class AgentState(IntEnum):
    """Of one agent, in its mark."""

    NONE = 0
    STARTING = 1
    RUNNING = 2
    DEGRADED = 3
    STOPPING = 4
    STOPPED = 5
    FAILED = 6


class Reason(IntEnum):
    """Why a duty cycle came back to Python. 0 is the ordinary end of a slice."""

    SLICE = 0
    STOP = 1
    RECONNECT = 2
    GAP = 3
    SESSION_END = 4
    BROKEN_INVARIANT = 5
    SNAPSHOT = 6
    LOGIN = 7
    RELOAD = 8
    OVERRUN = 9


class LogCode(IntEnum):
    """What a LogRecord says; hot code stores the code and integers, the recorder writes the words (recorder/logs.py)."""

    NONE = 0
    FEED_GAP = 1
    FEED_RECOVERED = 2
    FEED_SESSION = 3
    FEED_END = 4
    FEED_BAD_PACKET = 5
    FEED_BAD_MESSAGE = 6
    BOOK_TAINTED = 7
    ORDER_DENIED = 8
    ORDER_REJECTED = 9
    SESSION_UP = 10
    SESSION_LOST = 11
    RING_FULL = 12
    CONSUMER_DETACHED = 13
    KILL = 14
    GATEWAY_REFUSED = 15
    VENUE_BAD_MESSAGE = 16
    STRATEGY_ERROR = 17
    CAPACITY = 18
    LOSS_LIMIT = 19
    RISK_GAP = 20
    MARKET_BREAKER = 21
    BUDGET_MISSED = 22
    PLACED = 23
    NOT_PLACED = 24
    EXERCISE_FAILED = 25
    RISK_SYMBOL = 26
    EARLIER_CORRECTED = 27
    EARLIER_DISPUTED = 28
    EARLIER_APART = 29
    NOT_LATCHED = 30


class Cause(IntEnum):
    """Why an order was slow, as far as it can be known (recorder/causes.py)."""

    UNKNOWN = 0
    SWITCHED = 1
    WAITED = 2
    FAULT = 3
    COLD = 4
    WORK = 5
    PARKED = 6
    HOST = 7
    RING_FULL = 8
    SOCKET_FULL = 9
    SYSTEM_CALL = 10
    BATCH = 11
    JOURNAL = 12
    CLOCK_STEP = 13
    OVERWRITTEN = 14


CAUSE_TEXT = {
    Cause.UNKNOWN: "no role paused: it waited in the stage that is named, behind other work or for the caches",
    Cause.SWITCHED: "the role lost its core: an involuntary context switch; isolate the core, or move what else runs there",
    Cause.WAITED: "the role gave its core away: a system call of its own waited",
    Cause.FAULT: "a page fault; daemon.lock_memory = true keeps pages where they are",
    Cause.COLD: "the role was between two slices, in its own Python",
    Cause.WORK: "the role was busy with other records that came before: a burst",
    Cause.PARKED: "the role slept, and was woken later than it had asked for; roles that spin do not sleep",
    Cause.HOST: "no switch, no fault: that turn of the role was long (a strategy's own code, say), or the host took the core "
                "(steal, interrupt)",
    Cause.RING_FULL: "the report ring was full: one of its readers is too slow",
    Cause.SOCKET_FULL: "the socket took no more bytes: the venue, or the way to it, is too slow",
    Cause.SYSTEM_CALL: "send() itself took that long",
    Cause.BATCH: "it was sent together with orders before it",
    Cause.JOURNAL: "nothing else was found, but the recorder waited for the disk at that time",
    Cause.CLOCK_STEP: "the system's clocks moved against each other at that time: the stamps may be wrong",
    Cause.OVERWRITTEN: "not known: the role has paused so often since that its pauses of then were overwritten before a look; "
                       "a longer daemon.pause_us keeps fewer",
}
