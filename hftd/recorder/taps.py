"""Draining the rings: every tapped record becomes a journal entry, in one compiled call, without holding anybody back.

    entry (80 bytes)   crc u4 | stream u2 | aux u2 | number i8 | the 64-byte record as it was

`crc` is the ordinary CRC-32 (zlib's) of the 76 bytes after it, so any tool can check a journal; `number` counts the entries of a
file. The recorder is an observer on every ring: if it falls behind it is lapped, sees so, counts what it lost and goes on.
Slicing-by-8: eight table look-ups for eight bytes, which keeps the checksum at some 30 ns an entry.
"""

import numpy as np

from hftd.core.jit import leaf
from hftd.core.layout import layout
from hftd.core.memory import load32, load64, store32, store64
from hftd.shm.ring import observe

entry_dtype = layout("entry", 80, [
    ("crc", "u4"),                                # CRC-32 of the 76 bytes that follow
    ("stream", "u2"),                             # which ring: Stream in the high byte, index in the low one
    ("aux", "u2"),                                # SYMBOL: the instrument's index
    ("number", "i8"),                             # of the entry in its file, from 0
    ("record", ("u1", (64,))),                    # as it lay in the ring, its seq included
])  # fmt: skip

ENTRY = 80
RECORD_AT = 16
LOW = 0xFFFFFFFF


@leaf
def crc32(tables, at, size):
    """Return the CRC-32 of `size` bytes at `at`: a multiple of 8, plus 4. tables: address of 8 tables of 256 u4 (`crc_tables`)."""
    crc = LOW ^ load32(at)
    for _ in range(4):
        crc = (crc >> 8) ^ load32(tables + 4 * (crc & 255))
    at += 4
    for i in range((size - 4) // 8):
        word = load64(at + 8 * i)
        low = (crc ^ word) & LOW
        high = (word >> 32) & LOW
        crc = (
            load32(tables + 7168 + 4 * (low & 255)) ^ load32(tables + 6144 + 4 * ((low >> 8) & 255))
            ^ load32(tables + 5120 + 4 * ((low >> 16) & 255)) ^ load32(tables + 4096 + 4 * (low >> 24))
            ^ load32(tables + 3072 + 4 * (high & 255)) ^ load32(tables + 2048 + 4 * ((high >> 8) & 255))
            ^ load32(tables + 1024 + 4 * ((high >> 16) & 255)) ^ load32(tables + 4 * (high >> 24))
        )  # fmt: skip
    return crc ^ LOW


@leaf
def seal_entry(tables, at, stream, aux, number):
    """Fill the prefix of the entry at `at`, whose record is there already."""
    store32(at + 4, stream | (aux << 16))
    store64(at + 8, number)
    store32(at, crc32(tables, at + 4, ENTRY - 4))


@leaf
def drain(consumer, tap, tables, target, room, number, most):
    """Copy up to `most` records of one ring to entries at `target`, as far as `room` (entries) goes. Returns how many.

    consumer: consumer_dtype record (observer); tap: tap_dtype record; number: of the first entry.
    """
    taken = 0
    stream = tap.stream
    while taken < most and taken < room:
        at = target + taken * ENTRY
        outcome = observe(consumer, at + RECORD_AT)
        if outcome == 0:
            break
        if outcome > 0:
            seal_entry(tables, at, stream, 0, number + taken)
            taken += 1
    return taken


def crc_tables() -> np.ndarray:
    """Return the eight tables of CRC-32 (polynomial 0xEDB88320, reflected), as one array of 2,048 u4."""
    tables = np.zeros((8, 256), np.uint32)
    for value in range(256):
        crc = value
        for _ in range(8):
            crc = (crc >> 1) ^ (0xEDB88320 if crc & 1 else 0)
        tables[0, value] = crc
    for level in range(1, 8):
        for value in range(256):
            before = int(tables[level - 1, value])
            tables[level, value] = (before >> 8) ^ int(tables[0, before & 255])
    return tables.reshape(-1)

