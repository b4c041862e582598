"""The hot half of a SoupBinTCP client: bytes of one nonblocking TCP socket in and out of two preallocated buffers.

    rx   [ parsed | whole packets … part of one |        free ]        base … head … tail … end
    tx   [ sent   | waiting for the socket      |        free ]

TCP joins and splits packets as it likes: `receive_bytes` adds whatever came, `next_packet` hands out one whole packet after
another, in place. What `send()` did not take stays in tx and goes first the next time, so that an order is never half sent and
forgotten. Nothing here blocks, allocates or raises; a lost connection is a negative result, and what to do about it is cold
(`session.py`). One `link_dtype` record, private to its process, is the whole state.

Heartbeats: one goes out when nothing was sent for a second; a peer that was silent for `dead_ticks` is held for dead.
"""

from hftd.core.atomics import tsc
from hftd.core.jit import hot, leaf
from hftd.core.layout import layout
from hftd.core.libc import EAGAIN, EINTR, MSG_DONTWAIT, MSG_NOSIGNAL, errno, recv, send
from hftd.core.memory import copy_bytes, load8, load16, store8, store16, swap16
from hftd.venues.nasdaq import soupbintcp

link_dtype = layout("soup_link", 256, [
    ("fd", "i8"),                                 # the socket; -1: none
    ("rx_base", "i8"),                            # address of the receive buffer
    ("rx_size", "i8"),
    ("rx_head", "i8"),                            # offset of the first byte not parsed yet
    ("rx_tail", "i8"),                            # offset after the last byte received
    ("tx_base", "i8"),                            # address of the send buffer
    ("tx_size", "i8"),
    ("tx_head", "i8"),                            # offset of the first byte the socket did not take yet
    ("tx_tail", "i8"),                            # offset after the last byte queued
    ("eof", "i8"),                                # 1: the peer closed; what is in rx is still good
    ("error", "i8"),                              # errno of the call that failed; 0: none
    ("sent_at", "i8"),                            # ticks: last send
    ("received_at", "i8"),                        # ticks: last bytes from the peer
    ("polled_at", "i8"),                          # ticks: last recv that found nothing; 0: poll at once
    ("poll_ticks", "i8"),                         # pause between two polls of a quiet socket
    ("heartbeat_ticks", "i8"),                    # silence of ours after which a heartbeat is due
    ("dead_ticks", "i8"),                         # silence of the peer's after which it is dead
    ("packet_at", "i8"),                          # of the packet handed out last: address of its payload
    ("packet_size", "i8"),                        # bytes of its payload
    ("bytes_in", "i8"),
    ("bytes_out", "i8"),
    ("partial_sends", "i8"),                      # sends the socket took only a part of, or nothing
    ("heartbeats_in", "i8"),
    ("heartbeats_out", "i8"),
    ("pad", ("i8", (8,))),
])  # fmt: skip

NONE, MALFORMED = 0, -1
"""What `next_packet` returns besides a packet type: no whole packet is there; a length of 0, so the stream is lost."""

RX_SIZE, TX_SIZE = 4 * 65536, 65536
_RECEIVE_MAX = 65536
_FLAGS = MSG_DONTWAIT | MSG_NOSIGNAL
_HEADER = soupbintcp.HEADER
_CLIENT_HEARTBEAT = soupbintcp.CLIENT_HEARTBEAT

assert RX_SIZE >= 2 * soupbintcp.PACKET_MAX


@leaf
def tx_room(link):
    """Return the bytes free at the end of the send buffer."""
    return link.tx_size - link.tx_tail


@leaf
def tx_at(link):
    """Return the address where the next packet is to be written; `tx_add` then counts it in."""
    return link.tx_base + link.tx_tail


@leaf
def tx_add(link, size):
    """Count a packet of `size` bytes, written at `tx_at`, as queued."""
    link.tx_tail += size


@leaf
def tx_waiting(link):
    """Return the bytes queued and not yet taken by the socket."""
    return link.tx_tail - link.tx_head


@hot
def flush(link, now):
    """Send what is queued, in one call. Returns 0 (all sent, or the rest waits for the socket) or -1: the connection is lost."""
    left = link.tx_tail - link.tx_head
    if left == 0:
        return 0
    taken = send(link.fd, link.tx_base + link.tx_head, left, _FLAGS)
    if taken < 0:
        code = errno()
        link.partial_sends += 1
        if code == EAGAIN or code == EINTR:
            return 0
        link.error = code
        return -1
    link.bytes_out += taken
    link.sent_at = now
    if taken == left:
        link.tx_head = 0
        link.tx_tail = 0
    else:
        link.partial_sends += 1
        link.tx_head += taken
        if link.tx_head >= link.tx_size // 2 and link.tx_tail - link.tx_head <= link.tx_head:
            copy_bytes(link.tx_base, link.tx_base + link.tx_head, link.tx_tail - link.tx_head)
            link.tx_tail -= link.tx_head
            link.tx_head = 0
    return 0


@hot
def receive_bytes(link):
    """Add what the socket has to the receive buffer. Returns the bytes that came, 0 for none, -1: the connection is lost.

    A peer that closed sets `link.eof` and returns 0: the packets that came before are still to be parsed.
    """
    if link.rx_head == link.rx_tail:
        link.rx_head = 0
        link.rx_tail = 0
    elif link.rx_head >= link.rx_size // 2:
        copy_bytes(link.rx_base, link.rx_base + link.rx_head, link.rx_tail - link.rx_head)
        link.rx_tail -= link.rx_head
        link.rx_head = 0
    space = min(link.rx_size - link.rx_tail, _RECEIVE_MAX)
    if space <= 0:
        return 0
    came = recv(link.fd, link.rx_base + link.rx_tail, space, _FLAGS)
    if came > 0:
        link.rx_tail += came
        link.bytes_in += came
        link.received_at = tsc()
        link.polled_at = 0
        return came
    if came == 0:
        link.eof = 1
        return 0
    code = errno()
    if code == EAGAIN or code == EINTR:
        link.polled_at = tsc()
        return 0
    link.error = code
    return -1


@leaf
def next_packet(link):
    """Step over one whole packet and return its type, with `packet_at` and `packet_size` set; NONE or MALFORMED otherwise."""
    have = link.rx_tail - link.rx_head
    if have < _HEADER:
        return NONE
    at = link.rx_base + link.rx_head
    length = swap16(load16(at))
    if length == 0:
        return MALFORMED
    if have < length + 2:
        return NONE
    link.packet_at = at + _HEADER
    link.packet_size = length - 1
    link.rx_head += length + 2
    return load8(at + 2)


@leaf
def unread_packet(link):
    """Put the packet that `next_packet` returned last back: it will be returned again."""
    link.rx_head -= link.packet_size + _HEADER


@leaf
def queue_empty(link, kind):
    """Queue a packet without payload (heartbeat, logout). False where there is no room."""
    if tx_room(link) < _HEADER:
        return False
    at = tx_at(link)
    store16(at, 0x0100)
    store8(at + 2, kind)
    tx_add(link, _HEADER)
    return True


@hot
def keep_alive(link, now):
    """Send a heartbeat where one is due. Returns 0, or -1: the peer is dead or the connection lost. now: ticks."""
    if now - link.received_at > link.dead_ticks:
        link.error = 0
        return -1
    if now - link.sent_at > link.heartbeat_ticks and link.tx_head == link.tx_tail and queue_empty(link, _CLIENT_HEARTBEAT):
        link.heartbeats_out += 1
        return flush(link, now)
    return 0


# ---------------------------------------------------------------- cold


def open_link(link, rx_at: int, tx_at_address: int, ticks_per_second: int, dead_after_s: float) -> None:
    """Fill a link record: no socket yet. rx_at, tx_at_address: RX_SIZE and TX_SIZE bytes of memory."""
    for name in link_dtype.names:
        if name != "pad":
            link[name] = 0
    link["fd"] = -1
    link["rx_base"], link["rx_size"] = rx_at, RX_SIZE
    link["tx_base"], link["tx_size"] = tx_at_address, TX_SIZE
    link["heartbeat_ticks"] = ticks_per_second * soupbintcp.HEARTBEAT_NS // 1_000_000_000
    link["dead_ticks"] = int(ticks_per_second * dead_after_s)
    link["poll_ticks"] = ticks_per_second // 1_000_000


def plug(link, fd: int, now: int) -> None:
    """Put a connected socket in; buffers start empty. now: ticks."""
    link["fd"] = fd
    for name in ("rx_head", "rx_tail", "tx_head", "tx_tail", "eof", "error", "polled_at"):
        link[name] = 0
    link["sent_at"] = link["received_at"] = now


def unplug(link) -> None:
    """Take the socket out. What was queued and not sent is gone with the connection."""
    link["fd"] = -1
    link["tx_head"] = link["tx_tail"] = link["rx_head"] = link["rx_tail"] = 0
