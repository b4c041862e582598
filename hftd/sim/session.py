"""Order entry: bytes of SoupBinTCP in, OUCH actions, bytes out. Log-in is cold (`server.py`); from then on everything is here.

What a client sends is kept in its account's inbox until a packet is whole. What it is told lies on the account's stream already,
framed: sending is one `send` of the slice from `sent` to the tail, so a slow client costs nothing and a reconnect replays.

A connection ends by its peer's closing, an error, a logout, silence, or bytes that are not SoupBinTCP. Then, unless the options
say otherwise, every open order of the account is canceled (reason S) and the answers wait on the stream for the next log-in.
A packet of a type that a client may not send is ignored, an OUCH message that is unknown or too short likewise; both are counted.
"""

from hftd.core.jit import hot, leaf
from hftd.core.layout import offset_of
from hftd.core.libc import EAGAIN, EINTR, MSG_DONTWAIT, MSG_NOSIGNAL, errno, recv, send
from hftd.core.memory import address_of, copy_bytes, load8, load16, record_at, row, span, store8, store16, swap16, swap32
from hftd.sim.matching import (
    BUY_CODE,
    C_SUPERVISORY,
    C_USER,
    EXEMPT_CODE,
    SELL_CODE,
    SHORT_CODE,
    TAG_SIDE,
    appendage,
    cancel,
    cancel_all,
    element,
    enter,
    modify,
    replace,
)
from hftd.sim.memory import (
    INBOX,
    LOST_DEAD,
    LOST_END,
    LOST_ERROR,
    LOST_FAULT,
    LOST_LOGOUT,
    LOST_MALFORMED,
    LOST_PEER,
    account_dtype,
    exchange_dtype,
)
from hftd.sim.once import once
from hftd.sim.tape import respond
from hftd.venues.nasdaq import ouch50 as ouch

UNSEQUENCED, CLIENT_HEARTBEAT, LOGOUT, DEBUG = ord("U"), ord("R"), ord("O"), ord("+")
SERVER_HEARTBEAT = ord("H")
BLANK = 0x2020202020202020
_MASS_CANCEL = 19
_SCRATCH = offset_of(exchange_dtype, "scratch")
_FLAGS = MSG_DONTWAIT | MSG_NOSIGNAL


@hot
def lose(x, a, why):
    """Account `a`'s connection has ended: hand its descriptor to cold code and cancel what is open."""
    account = row(span(x.accounts), a, account_dtype)
    account.lost_fd = account.fd
    account.lost_why = why
    account.fd = -1
    account.fill = 0
    account.logged_out = 1 if why == LOST_LOGOUT else 0
    if why != LOST_LOGOUT and why != LOST_END:
        account.disconnects += 1
    x.closing = 1
    if x.cancel_on_disconnect != 0:
        account.swept += cancel_all(x, a, 0, 0, 0, C_SUPERVISORY)


@hot
def mass_cancel(x, a, at, size):
    """C: Mass Cancel: a firm's open orders, in one symbol or all, of one side or both; the response follows the Canceled ones."""
    account = row(span(x.accounts), a, account_dtype)
    message = record_at(at, ouch.in_mass_cancel_dtype)
    user_ref = swap32(message.user_ref_num)
    value = element(at + _MASS_CANCEL, appendage(at, size, _MASS_CANCEL), TAG_SIDE, 1)
    side = load8(value) if value != 0 else 0
    if side != 0 and side != BUY_CODE and side != SELL_CODE and side != SHORT_CODE and side != EXEMPT_CODE:
        account.malformed += 1
        return
    if user_ref <= account.user_ref:
        account.ignored += 1
        return
    account.user_ref = user_ref
    stock = message.symbol
    cancel_all(x, a, 0 if stock == BLANK else stock, message.firm, side, C_USER)
    answer = record_at(respond(x, a, ouch.OUT_MASS_CANCEL_RESPONSE, 27), ouch.out_mass_cancel_response_dtype)
    answer.user_ref_num = message.user_ref_num
    answer.firm = message.firm
    answer.symbol = stock
    answer.appendage_length = 0


@hot
def switch_entry(x, a, at, off):
    """D, E: disable (off = 1) or enable order entry: new orders are rejected, and replaces kill, while it is off."""
    account = row(span(x.accounts), a, account_dtype)
    message = record_at(at, ouch.in_disable_order_entry_dtype)
    user_ref = swap32(message.user_ref_num)
    if user_ref <= account.user_ref:
        account.ignored += 1
        return
    account.user_ref = user_ref
    account.disabled = off
    kind = ouch.OUT_DISABLE_ORDER_ENTRY_RESPONSE if off == 1 else ouch.OUT_ENABLE_ORDER_ENTRY_RESPONSE
    answer = record_at(respond(x, a, kind, 19), ouch.out_disable_order_entry_response_dtype)
    answer.user_ref_num = message.user_ref_num
    answer.firm = message.firm
    answer.appendage_length = 0


@hot
def act(x, a, at, size):
    """Handle one OUCH message of `size` bytes at `at`."""
    account = row(span(x.accounts), a, account_dtype)
    account.received += 1
    kind = load8(at) if size > 0 else 0
    if kind == ouch.IN_ENTER_ORDER and size >= 47:
        enter(x, a, at, size)
    elif kind == ouch.IN_REPLACE_ORDER and size >= 40:
        replace(x, a, at, size)
    elif kind == ouch.IN_CANCEL_ORDER and size >= 9:
        cancel(x, a, at)
    elif kind == ouch.IN_MODIFY_ORDER and size >= 10:
        modify(x, a, at)
    elif kind == ouch.IN_ACCOUNT_QUERY:
        answer = record_at(respond(x, a, ouch.OUT_ACCOUNT_QUERY_RESPONSE, 13), ouch.out_account_query_response_dtype)
        answer.next_user_ref_num = swap32(account.user_ref + 1)
    elif kind == ouch.IN_MASS_CANCEL and size >= 19:
        mass_cancel(x, a, at, size)
    elif kind == ouch.IN_DISABLE_ORDER_ENTRY and size >= 11:
        switch_entry(x, a, at, 1)
    elif kind == ouch.IN_ENABLE_ORDER_ENTRY and size >= 11:
        switch_entry(x, a, at, 0)
    else:
        account.malformed += 1


@leaf
def drop_due(x, a, account):
    """Count down to the asked-for disconnect; True when it is now."""
    if account.until_drop == 0:
        return False
    account.until_drop -= 1
    return account.until_drop == 0


@once
def handle(x, a):
    """Handle every whole packet in account `a`'s inbox. Returns how many."""
    account = row(span(x.accounts), a, account_dtype)
    position = 0
    packets = 0
    while account.fd >= 0 and account.fill - position >= 3:
        at = account.inbox + position
        length = swap16(load16(at))
        if length == 0:
            account.malformed += 1
            lose(x, a, LOST_MALFORMED)
            return packets + 1
        if account.fill - position < length + 2:
            break
        kind = load8(at + 2)
        position += length + 2
        packets += 1
        if kind == UNSEQUENCED:
            act(x, a, at + 3, length - 1)
            if drop_due(x, a, account):
                lose(x, a, LOST_FAULT)
        elif kind == LOGOUT:
            lose(x, a, LOST_LOGOUT)
        elif kind != CLIENT_HEARTBEAT and kind != DEBUG:
            account.malformed += 1
    if account.fd >= 0 and position > 0:
        rest = account.fill - position
        i = 0
        while i < rest:  # forward, in pieces that do not overlap
            size = min(position, rest - i)
            copy_bytes(account.inbox + i, account.inbox + position + i, size)
            i += size
        account.fill = rest
    return packets


@hot
def listen(x, a, now):
    """Receive what account `a` has sent, and handle it. Returns how many packets."""
    account = row(span(x.accounts), a, account_dtype)
    if account.fd < 0:
        return 0
    size = recv(account.fd, account.inbox + account.fill, INBOX - account.fill, MSG_DONTWAIT)
    if size > 0:
        account.fill += size
        account.bytes_in += size
        account.heard = now
        return handle(x, a)
    if size == 0:
        lose(x, a, LOST_PEER)
        return 1
    error = errno()
    if error != EAGAIN and error != EINTR:
        lose(x, a, LOST_ERROR)
        return 1
    if now - account.heard > x.dead_ticks:
        lose(x, a, LOST_DEAD)
        return 1
    return 0


@hot
def tell(x, a, now):
    """Send what account `a` has not been told, or a heartbeat when a second has passed in silence."""
    account = row(span(x.accounts), a, account_dtype)
    if account.fd < 0:
        return 0
    waiting = account.stream.tail - account.sent
    if waiting > 0:
        size = send(account.fd, account.stream.base + account.sent, waiting, _FLAGS)
        if size > 0:
            account.sent += size
            account.said = now
            return 1
        error = errno()
        if error != EAGAIN and error != EINTR:
            lose(x, a, LOST_ERROR)
        return 0
    if now - account.said > x.beat_ticks:
        account.said = now
        beat = address_of(x) + _SCRATCH
        store16(beat, swap16(1))
        store8(beat + 2, SERVER_HEARTBEAT)
        size = send(account.fd, beat, 3, _FLAGS)
        if size != 3 and (size > 0 or errno() != EAGAIN):
            lose(x, a, LOST_ERROR)
    return 0


@leaf
def say_system_event(x, a, code):
    """S: start ('S') or end ('E') of the day, to account `a`."""
    record_at(respond(x, a, ouch.OUT_SYSTEM_EVENT, 10), ouch.out_system_event_dtype).event_code = code


@hot
def greet(x, a, code):
    """Say a system event, from cold code."""
    say_system_event(x, a, code)
