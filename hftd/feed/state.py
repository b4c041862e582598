"""The feed's private record: everything its loop needs, in one handle.

Cold code (`feed/setup.py`, `feed/files.py`) fills it, only the feed's own loop changes it afterwards. Spans and addresses point to
shared memory (`feed/memory.py`) or to private blocks that the owner keeps alive. Times are ticks unless a name says otherwise.
"""

from hftd.core.layout import LINE, layout
from hftd.core.memory import span_dtype
from hftd.feed.book import engine_dtype
from hftd.shm.ring import producer_dtype

LOCATES = 65536
"""Rows of the table from the venue's index of the day to our instrument: any 16-bit number is a row."""

PACKET_ROOM = 2048
"""Bytes of a receive buffer: an Ethernet frame's payload and more. Longer datagrams are counted and dropped."""

STAMPS = 4096
"""First copies whose receipt is remembered, by sequence, to measure how far the other line is behind."""

MISSED = 4096
"""Numbers a line lacks that are remembered, so that a late packet is told from a repeated one."""

LOOKS = 32
"""Messages that can be looked at ahead of their turn."""

BATCH = 32
"""Datagrams taken in one receive call."""

SERVERS_MAX = 8

SINK_NONE, SINK_RING = 0, 1

listed_dtype = layout("listed", 8, [
    ("instrument", "i4"),                         # 0: never heard of; -1: not followed; else index + 1
    ("last", "u4"),                               # low 32 bits of the number of its last message in the packet at hand
])  # fmt: skip

kind_dtype = layout("kind", 4, [
    ("length", "u1"),                             # bytes of a message of this type; 0: no such type
    ("does", "u1"),                               # DOES_…
    ("stock_at", "u1"),                           # offset of the symbol; 0: it has none
    ("pad0", "u1"),
])  # fmt: skip

DOES_ADD, DOES_TAKE, DOES_EMIT = 1, 2, 4

look_dtype = layout("look", LINE, [               # what looking ahead knows of a message
    ("side_at", "i8"),                            # address of the side it adds to
    ("top_at", "i8"),                             # address of the best slots of that side
    ("word", "i8"),                               # the greatest word a slot of its price can be
    ("takes", "i8"),                              # -1: it takes from an order, 0: it does not
    ("slot", "u4"),                               # of its reference
    ("order", "u4"),                              # first row of its slot
    ("level", "u4"),                              # the level it takes from, or is likely to join
    ("pad", ("u4", (5,))),
])  # fmt: skip

standing_dtype = layout("standing", 32, [
    ("trading", "i8"),                            # TradingState by the venue's trading action
    ("halted", "i8"),                             # 1 during an operational halt of this market
    ("reason", "i8"),                             # four ASCII bytes of the trading action's reason, as on the wire
    ("stopped", "i8"),                            # 1: a trading action stopped it, after the last market-wide breaker
])  # fmt: skip

waiting_dtype = layout("waiting", 40, [
    ("sequence", "i8"),                           # of the packet's first message
    ("end", "i8"),                                # one after its last
    ("buffer", "i8"),                             # row of the queue's buffers
    ("length", "i8"),                             # bytes
    ("ts_recv", "i8"),                            # its receipt
])  # fmt: skip

ticket_dtype = layout("ticket", 8, [("buffer", "i8")])

stamp_dtype = layout("stamp", 16, [
    ("what", "i8"),                               # number of a packet's first message * 4 + the line that brought it first
    ("ts_recv", "i8"),                            # when
])  # fmt: skip

missed_dtype = layout("missed", 8, [("number", "i8")])

line_dtype = layout("line", 64, [
    ("fd", "i8"),                                 # socket; -1: none
    ("headers_at", "i8"),                         # BATCH struct mmsghdr to receive with
    ("next", "i8"),                               # number this line's next packet should begin with; 0: it has said nothing yet
    ("missed", span_dtype),                       # missed_dtype, MISSED of them: number n in row n & (MISSED - 1)
    ("claimed", "i8"),                            # end of the last packet that was doubted
    ("claims", "i8"),                             # packets in a row that agree with it
    ("stamped", "i8"),                            # 1: the kernel stamps what it receives, and that is the receipt
])  # fmt: skip

SNAPSHOT_NONE, SNAPSHOT_WANTED, SNAPSHOT_READY, SNAPSHOT_FAILED, SNAPSHOT_CLEARING, SNAPSHOT_APPLYING = range(6)
"""feed_agent.snapshot. The loop wants one; cold code fetches it and says READY or FAILED; the loop clears the books, applies it,
and is at NONE again."""

MEND_NONE, MEND_WANTED, MEND_FETCHING = range(3)
"""feed_agent.mending. A book is distrusted; a snapshot is on its way, and what comes meanwhile for such books is kept."""

MEND_BYTES = 4 << 20
"""Bytes of messages kept while books are mended."""

feed_agent_dtype = layout("feed_agent", 1280, [
    ("md", producer_dtype),
    ("engine", engine_dtype),
    ("listed", span_dtype),                       # listed_dtype by locate, private
    ("kinds", span_dtype),                        # kind_dtype by type byte, private
    ("types", span_dtype),                        # type_count_dtype by type byte, segment `market`
    ("instruments", span_dtype),                  # instrument_dtype, segment `market`
    ("quotes", span_dtype),                       # quote_dtype, segment `market`
    ("standings", span_dtype),                    # standing_dtype by instrument, private
    ("looks", span_dtype),                        # look_dtype, LOOKS of them, private
    ("statuses", span_dtype),                     # status_dtype, segment `market`
    ("session_state_at", "i8"),                   # address of the session_dtype record, segment `market`
    ("errors", span_dtype),                       # error_dtype, our error log
    ("counters_at", "i8"),                        # address of the feed_counters_dtype record
    ("histograms_at", "i8"),                      # address of the first histogram
    ("sink", "i8"),                               # SINK_…: where market events go
    ("chosen", "i8"),                             # 1: only the instruments that cold code listed; 0: all, until the table is full
    ("used", "i8"),                               # rows of the instrument table in use
    ("state", "i8"),                              # BookState of a book without a trouble of its own
    # the message at hand
    ("ts_recv", "i8"),                            # receipt of its packet
    ("ts_event", "i8"),                           # ns since the venue's midnight
    ("wire_seq", "i8"),                           # its number
    ("flags", "i8"),                              # FLAG_SNAPSHOT while recovering
    ("touched", "i8"),                            # instrument + 1 whose best price or size it may have changed; 0: none
    # the session
    ("session_a", "i8"),                          # its ten bytes, as moldudp64.packet_dtype has them
    ("session_b", "i8"),
    ("session_known", "i8"),                      # 0: take the first that is heard
    ("session_fixed", "i8"),                      # 1: by configuration; no other is ever taken
    ("next_a", "i8"),                             # the session that asks to be taken instead
    ("next_b", "i8"),
    ("expected", "i8"),                           # number of the next message to apply
    ("highest", "i8"),                            # one after the last message known to exist
    ("ended", "i8"),                              # 1: end of session heard
    ("last_heard", "i8"),                         # when a packet of this session last came
    ("silence", "i8"),                            # of our session after which another one is taken
    ("reason", "i8"),                             # Reason to go back to Python with; 0: none
    # sockets
    ("lines", (line_dtype, (3,))),                # LINE_A, LINE_B, LINE_R
    ("stamps", span_dtype),                       # stamp_dtype, STAMPS of them
    ("buffers_at", "i8"),                         # BATCH buffers of PACKET_ROOM
    # packets that wait for a gap to be filled: `order` is a circular array sorted by sequence
    ("order", span_dtype),                        # waiting_dtype, a power of two
    ("queue_at", "i8"),                           # buffers of PACKET_ROOM, as many as rows
    ("first", "i8"),                              # free-running position of the first waiting packet
    ("beyond", "i8"),                             # free-running position after the last
    ("free_buffers", span_dtype),                 # ticket_dtype: stack of free buffers
    ("free_count", "i8"),
    # recovery
    ("behind", "i8"),                             # 1: messages are missing
    ("behind_since", "i8"),
    ("recovering", "i8"),                         # 1: the reorder window is over, servers are asked
    ("asked", "i8"),                              # next number to ask for
    ("progress", "i8"),                           # when a missing message last came, or was last asked for
    ("tries", "i8"),                              # time-outs since progress
    ("tries_max", "i8"),
    ("server", "i8"),                             # whose turn it is
    ("servers", "i8"),
    ("servers_at", "i8"),                         # struct sockaddr_in each, 16 bytes
    ("request_at", "i8"),                         # a moldudp64.packet_dtype to send
    ("reorder", "i8"),                            # ticks a late packet is waited for
    ("timeout", "i8"),                            # ticks an answer is waited for
    ("stalled_since", "i8"),                      # recovery waits for room in the ring since; 0: it does not
    ("reached", "i8"),                            # `expected` when progress was last noted
    ("reorder_packets", "i8"),                    # packets that wait beyond a gap before it is believed, however young it is
    # snapshots
    ("snapshot", "i8"),                           # SNAPSHOT_…
    ("snapshot_from", "i8"),                      # missing messages from which on a snapshot is asked for at once; 0: no server
    ("snapshot_after", "i8"),                     # ticks: not to be asked for again before
    ("snapshot_at", "i8"),                        # address of its next message, framed as in a packet
    ("snapshot_end", "i8"),                       # address after its last
    ("snapshot_seq", "i8"),                       # number given to its next message: they end just before snapshot_next
    ("snapshot_next", "i8"),                      # number of the first message it does not contain
    ("snapshot_floor", "i8"),                     # `highest` when it was asked for: it will contain what is before
    ("snapshot_cleared", "i8"),                   # instruments cleared
    ("by_snapshot", "i8"),                        # 1: the gap at hand was closed by one
    # books that are not trusted
    ("on_taint", "i8"),                           # 1: a tainted book becomes STALE; 0: it is noted
    ("mending", "i8"),                            # MEND_…
    ("mend_log", span_dtype),                     # private bytes: number (i8), framed message, one after the other
    ("mend_tail", "i8"),                          # bytes in use; -1: they were not enough
    ("mend_from", "i8"),                          # number of the first message that is kept
    ("mend_since", "i8"),                         # ticks: when the snapshot was asked for
    ("prints", span_dtype),                       # print_dtype (feed/prints.py), private, a power of two
    # when a packet arrived
    ("arrivals_at", "i8"),                        # BATCH i8: ticks at which each datagram at hand arrived
    ("per_ns", "i8"),                             # ticks per ns, times 2**32
    ("time_at", "i8"),                            # a struct timespec of our own
    ("turned", "i8"),                             # ticks: this turn began
    ("emitted", "i8"),                            # ticks from ts_recv to the last event
    ("crowded", "i8"),                            # live orders from which on it looks ahead
    ("many", "i8"),                               # instruments from which on not at orders only
    ("pad", ("i8", (1,))),
])  # fmt: skip
