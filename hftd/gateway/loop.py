"""The gateway's turn: orders out first, then the venue's messages in, then a look around every now and then.

    ring.order ──▶ send_orders ──▶ socket          (outgoing.py)
    socket ──▶ receive_messages ──▶ ring.report    (incoming.py)
    look_around: heartbeats, the kill switch, risk's heartbeat, cancels that wait

The kill word is read each turn and before each order. The socket is polled once a microsecond while it is quiet, since a poll
costs as much as everything else together. All state is in one `gateway_agent_dtype` record and the memory it points to.
"""

import functools

from hftd.core.atomics import load_acquire, tsc
from hftd.core.bind import bind
from hftd.core.duty import duty_cycle
from hftd.core.jit import hot, leaf
from hftd.core.layout import layout
from hftd.core.memory import record_at, span_dtype
from hftd.gateway.incoming import lose_orders, receive_messages, reconcile, undo_half, unplug_link
from hftd.gateway.memory import LINK_REPLAY, RISK_SILENT, gateway_counters_dtype, session_dtype
from hftd.gateway.order_table import rebuild, table_dtype
from hftd.gateway.outgoing import send_orders, sweep, time_batch, write_cancels
from hftd.gateway.reports import note
from hftd.gateway.venue import venue_event_dtype
from hftd.msg.enums import LogCode, Reason
from hftd.shm.control import mark_dtype, run_dtype
from hftd.shm.ring import DETACHED, consumer_dtype, producer_dtype, ready, ring_consumer_dtype
from hftd.venues.nasdaq.ouch_encode import encode_query
from hftd.venues.nasdaq.soup_link import flush, keep_alive, link_dtype, queue_empty, tx_add, tx_at, tx_room

gateway_agent_dtype = layout("gateway_agent", 1152, [
    ("orders", consumer_dtype),                   # ring.order
    ("reports", producer_dtype),                  # ring.report
    ("link", link_dtype),
    ("table", table_dtype),
    ("event", venue_event_dtype),                 # the message being applied
    ("images", span_dtype),                       # Enter Order images, IMAGES_PER_INSTRUMENT for each instrument
    ("instruments", span_dtype),                  # instrument_dtype, the market segment's
    ("errors", span_dtype),                       # our error log
    ("undo", span_dtype),                         # order_row_dtype images
    ("undo_position_at", "i8"),                   # address of the position_dtype image
    ("session_at", "i8"),                         # address of the session_dtype record
    ("counters_at", "i8"),
    ("histograms_at", "i8"),
    ("run_at", "i8"),                             # address of the run_dtype record
    ("risk_mark_at", "i8"),                       # address of risk's mark
    ("risk_reader_at", "i8"),                     # address of risk's place on ring.report
    ("batch_at", "i8"),                           # BATCH pairs: address of the Order, row
    ("capacity", "i8"),                           # OUCH capacity code of our orders
    ("firm", "i8"),                               # firm as four ASCII bytes; 0: none
    ("image_size", "i8"),                         # bytes in use of an image
    ("reason", "i8"),                             # DenyReason of the order just looked at
    ("stopping", "i8"),                           # 1: nothing new is sent any more
    ("kill_seen", "i8"),                          # the kill word as it was last acted upon
    ("barrier", "i8"),                            # next UserRefNum the venue told behind its whole replay; 0: not told yet
    ("answers", "i8"),                            # answers to account queries counted on this connection
    ("answers_needed", "i8"),                     # the barrier is that many answers away
    ("same_session", "i8"),                       # 1: the venue's session is the one our open orders were sent in, heard whole
    ("skip_reports", "i8"),                       # reports of this message that were published before a crash
    ("skip_next", "i8"),                          # the same, for the first message to come
    ("stalled_at", "i8"),                         # ticks: since when the report ring has no room; 0: it has
    ("patience_ticks", "i8"),                     # how long a full report ring is borne
    ("risk_dead_ticks", "i8"),                    # silence of risk after which it is dead
    ("check_at", "i8"),                           # ticks: next look around
    ("check_ticks", "i8"),                        # time between two
    ("losing", "i8"),                             # 1: open orders are still to be reported UNKNOWN
    ("tails", span_dtype),                        # tail_dtype: slow orders
    ("tail_ticks", "i8"),                         # slower than this is slow
    ("meter_at", "i8"),                           # address of our hiccup meter; 0: none
    ("pauses_at", "i8"),                          # and of its rows
    ("held_since", "i8"),                         # ticks: since when orders have waited for room; 0: they do not
    ("held_why", "i8"),                           # for what: HELD, SOCKET (shm/pauses.py)
    ("earlier", span_dtype),                      # earlier_dtype: what earlier instances traded in this session
    ("pad", ("i8", (5,))),
])  # fmt: skip

_RECONNECT = int(Reason.RECONNECT)
_KILL = int(LogCode.KILL)


@hot
def look_around(agent, now):
    """Heartbeats, risk's life, waiting cancels. Returns things done, or a negative Reason."""
    session, counters = record_at(agent.session_at, session_dtype), record_at(agent.counters_at, gateway_counters_dtype)
    link = agent.link
    risk = record_at(agent.risk_mark_at, mark_dtype)
    reader = record_at(agent.risk_reader_at, ring_consumer_dtype)
    dead = 0
    if now - load_acquire(risk, "heartbeat") > agent.risk_dead_ticks or load_acquire(reader, "state") == DETACHED:
        dead = 1
    if dead != session.risk_dead:
        session.risk_dead = dead
        if dead != 0 and agent.table.open_count > 0:
            counters.risk_lost += 1
            note(agent, _KILL, RISK_SILENT, 0, now)
            sweep(agent, -1)
    done = 0
    if agent.losing != 0 and lose_orders(agent, now) == 0:
        agent.losing = 0
    if link.fd >= 0:
        if agent.table.wanted > 0:
            done += write_cancels(agent)
            if flush(link, now) < 0:
                unplug_link(agent)
                return -_RECONNECT
        if session.state >= LINK_REPLAY and keep_alive(link, now) < 0:
            unplug_link(agent)
            return -_RECONNECT
    counters.partial_sends = link.partial_sends
    counters.heartbeats_sent = link.heartbeats_out
    counters.heartbeats_received = link.heartbeats_in
    return done


@hot
def kill_changed(agent, kill, now):
    """The kill word changed: when it was set, cancel everything, once."""
    session, counters = record_at(agent.session_at, session_dtype), record_at(agent.counters_at, gateway_counters_dtype)
    agent.kill_seen = kill
    session.killed = 1 if kill != 0 else 0
    if kill != 0:
        counters.kills += 1
        note(agent, _KILL, 0, kill, now)
        sweep(agent, -1)
        agent.check_at = 0


@leaf
def gateway_turn(agent, now):
    """One turn. Returns how many things were done, or a negative Reason; then the socket is out of use."""
    done = 0
    if ready(agent.orders):
        done = send_orders(agent, now)
        if done < 0:
            unplug_link(agent)
            return -_RECONNECT
    link = agent.link
    kill = load_acquire(record_at(agent.run_at, run_dtype), "kill")
    if kill != agent.kill_seen:
        kill_changed(agent, kill, now)
    if link.fd >= 0:
        if link.tx_head != link.tx_tail and flush(link, now) < 0:
            unplug_link(agent)
            return -_RECONNECT
        if link.rx_head != link.rx_tail or now - link.polled_at >= link.poll_ticks:
            came = receive_messages(agent, now)
            if came < 0:
                return came
            done += came
    if now >= agent.check_at:
        agent.check_at = now + agent.check_ticks
        looked = look_around(agent, now)
        if looked < 0:
            return looked
        done += looked
    if done > 0:
        record_at(agent.counters_at, gateway_counters_dtype).turns += 1
    return done


@functools.cache
def kernel():
    """Return the compiled duty cycle of the gateway."""
    return bind(duty_cycle, "gateway", turn=gateway_turn)


# ---------------------------------------------------------------- what the cold side asks for

(REQUEST_FLUSH, REQUEST_QUERY, REQUEST_LOGOUT, REQUEST_LOSE, REQUEST_RECONCILE, REQUEST_SWEEP, REQUEST_REBUILD,
 REQUEST_STAMPING) = range(8)  # fmt: skip


@hot
def serve_request(agent, request, value, now):
    """Do one thing for the cold side, between two slices. One function, so that a child has but one more to load.

    FLUSH: send what waits. QUERY, LOGOUT: queue and send that message. LOSE: open orders are UNKNOWN. RECONCILE: see there.
    SWEEP: cancel what `value` says. STAMPING: count the stages of the last order `value` times, returns the ticks that took; for
    rehearsals only. REBUILD: take back half a message and make the indexes anew; returns open orders.
    """
    result = 0
    link = agent.link
    if request == REQUEST_FLUSH:
        result = flush(link, now)
    elif request == REQUEST_QUERY:
        if tx_room(link) >= 64:
            tx_add(link, encode_query(tx_at(link)))
            result = flush(link, now)
    elif request == REQUEST_LOGOUT:
        queue_empty(link, value)
        result = flush(link, now)
    elif request == REQUEST_LOSE:
        result = lose_orders(agent, now)
    elif request == REQUEST_RECONCILE:
        result = reconcile(agent, now)
    elif request == REQUEST_SWEEP:
        sweep(agent, value)
        agent.check_at = 0
    elif request == REQUEST_STAMPING:
        begun = tsc()
        for _ in range(value):
            time_batch(agent, 1, now, now + 1)
        result = tsc() - begun
    elif request == REQUEST_REBUILD:
        undo_half(agent)
        result = rebuild(agent.table)
    return result

