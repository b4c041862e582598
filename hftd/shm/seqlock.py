"""Seqlock cells: the latest value of a record, one writer, any number of readers, nobody waits.

The writer makes `version` odd, writes, makes it even. A reader copies and accepts only if the version was even and did not
change. The record's first field must be `version` (i8).
"""

from hftd.core.atomics import fence_acquire, fence_release, load_acquire, load_relaxed, store_relaxed, store_release
from hftd.core.jit import leaf
from hftd.core.memory import address_of, copy_bytes


@leaf
def begin_write(cell):
    """Open the cell for writing; every field may be stored until `end_write`. Odd stays odd where a writer died inside."""
    store_relaxed(cell, "version", (cell.version + 1) | 1)
    fence_release()


@leaf
def end_write(cell):
    """Close the cell: readers see the new value."""
    store_release(cell, "version", cell.version + 1)


@leaf
def try_read(cell, target, size):
    """Copy `size` bytes of the cell to the record `target`; False where the writer was at it: try again or go on."""
    before = load_acquire(cell, "version")
    if before & 1:
        return False
    copy_bytes(address_of(target), address_of(cell), size)
    fence_acquire()
    return load_relaxed(cell, "version") == before
