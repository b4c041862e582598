"""Typed views of raw memory, and byte swaps: how hot code reaches records.

An array argument carries a reference count, and the count can cost more than the work. So hot code holds memory as a `Span`
(address and count, two integers) and reaches one element with `row(span, index, dtype)`, a record with plain loads and
stores. Memory is made in cold code (`shm/segment.py`, or `block` here) and outlives every loop that uses its address.

A field that is a `span_dtype` record keeps a Span inside a handle; `span(handle.orders)` lifts it into registers.
"""

import ctypes
import mmap
from collections import namedtuple
from collections.abc import Sequence

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from hftd.core import placement
from hftd.core.jit import CHECKED, INTERPRETED, leaf
from hftd.core.layout import PAIR, layout
from hftd.core.placement import PAGES
from hftd.core.twin import Record, RecordArray

Span = namedtuple("Span", "base count")
"""Address of the first row and number of rows: a value, passed in registers."""

span_dtype = layout("span", 16, [
    ("base", "i8"),                               # address in this process
    ("count", "i8"),                              # rows
])  # fmt: skip


# ---------------------------------------------------------------- interpreter twins


def _record_at_twin(address, dtype):
    return Record.at(address, dtype)


def _row_at_twin(base, index, dtype):
    return Record.at(base + index * dtype.itemsize, dtype)


def _swap_twin(width):
    def swap(value):
        return int.from_bytes((int(value) & ((1 << 8 * width) - 1)).to_bytes(width, "little"), "big", signed=width == 8)

    return swap


def _load_twin(width):
    def load(address):
        return int.from_bytes(ctypes.string_at(int(address), width), "little", signed=width == 8)

    return load


def _store_twin(width):
    def store(address, value):
        ctypes.memmove(int(address), (int(value) & ((1 << 8 * width) - 1)).to_bytes(width, "little"), width)

    return store


def _copy_twin(target, source, size):
    ctypes.memmove(int(target), int(source), int(size))


def _address_twin(record):
    return record._address


# ---------------------------------------------------------------- intrinsics


def _record_at(typingctx, address, dtype):
    """record_at(address, dtype): the record that lies at `address`."""
    record = dtype.dtype

    def codegen(context, builder, signature, args):
        return builder.inttoptr(args[0], context.get_value_type(record))

    return record(types.int64, dtype), codegen


def _row_at(typingctx, base, index, dtype):
    """row_at(base, index, dtype): record number `index` of those that lie from `base` on."""
    record = dtype.dtype

    def codegen(context, builder, signature, args):
        at = builder.add(args[0], builder.mul(args[1], ir.Constant(ir.IntType(64), record.size)))
        return builder.inttoptr(at, context.get_value_type(record))

    return record(types.int64, types.int64, dtype), codegen


def _address_of(typingctx, record):
    """address_of(record): where a record lies."""

    def codegen(context, builder, signature, args):
        return builder.ptrtoint(args[0], ir.IntType(64))

    return types.int64(record), codegen


def _swap(width):
    def declare(typingctx, value):
        def codegen(context, builder, signature, args):
            narrow = ir.IntType(8 * width)
            given = builder.trunc(args[0], narrow) if width < 8 else args[0]
            swapped = builder.bswap(given)
            return builder.zext(swapped, ir.IntType(64)) if width < 8 else swapped

        return types.int64(types.int64), codegen

    return declare


def _load(width):
    def declare(typingctx, address):
        def codegen(context, builder, signature, args):
            narrow = ir.IntType(8 * width)
            value = builder.load(builder.inttoptr(args[0], narrow.as_pointer()), align=1)
            return builder.zext(value, ir.IntType(64)) if width < 8 else value

        return types.int64(types.int64), codegen

    return declare


def _store(width):
    def declare(typingctx, address, value):
        def codegen(context, builder, signature, args):
            narrow = ir.IntType(8 * width)
            given = builder.trunc(args[1], narrow) if width < 8 else args[1]
            builder.store(given, builder.inttoptr(args[0], narrow.as_pointer()), align=1)
            return context.get_dummy_value()

        return types.void(types.int64, types.int64), codegen

    return declare


def _copy(typingctx, target, source, size):
    """copy_bytes(target, source, size): memcpy; the ranges must not overlap."""

    def codegen(context, builder, signature, args):
        byte = ir.IntType(8).as_pointer()
        cgutils.raw_memcpy(builder, builder.inttoptr(args[0], byte), builder.inttoptr(args[1], byte), args[2], 1)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), codegen


def _prefetch(write, locality):
    def declare(typingctx, address):
        def codegen(context, builder, signature, args):
            byte, word = ir.IntType(8).as_pointer(), ir.IntType(32)
            kind = ir.FunctionType(ir.VoidType(), [byte, word, word, word])
            function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
            builder.call(function, [builder.inttoptr(args[0], byte), word(write), word(locality), word(1)])
            return context.get_dummy_value()

        return types.void(types.int64), codegen

    return declare


def _choose(compiled, twin, name, doc):
    chosen = twin if INTERPRETED else intrinsic(compiled)
    if INTERPRETED:
        chosen.__name__, chosen.__doc__ = name, doc
    return chosen


record_at = _choose(_record_at, _record_at_twin, "record_at", "The record of layout `dtype` at `address`.")
row_at = _choose(_row_at, _row_at_twin, "row_at", "Record `index` of layout `dtype` among those that lie from an address on.")
address_of = _choose(_address_of, _address_twin, "address_of", "The address of a record.")
copy_bytes = _choose(_copy, _copy_twin, "copy_bytes", "Copy `size` bytes; the ranges must not overlap.")
swap16 = _choose(_swap(2), _swap_twin(2), "swap16", "Reverse 2 bytes; the result is 0..2**16-1.")
swap32 = _choose(_swap(4), _swap_twin(4), "swap32", "Reverse 4 bytes; the result is 0..2**32-1.")
swap64 = _choose(_swap(8), _swap_twin(8), "swap64", "Reverse 8 bytes; the result is an int64.")
load8 = _choose(_load(1), _load_twin(1), "load8", "One byte at an address, as int64.")
load16 = _choose(_load(2), _load_twin(2), "load16", "Two bytes at an address in the machine's order, zero-extended.")
load32 = _choose(_load(4), _load_twin(4), "load32", "Four bytes at an address in the machine's order, zero-extended.")
load64 = _choose(_load(8), _load_twin(8), "load64", "Eight bytes at an address in the machine's order, as int64.")
store8 = _choose(_store(1), _store_twin(1), "store8", "Write one byte.")
store16 = _choose(_store(2), _store_twin(2), "store16", "Write two bytes in the machine's order.")
store32 = _choose(_store(4), _store_twin(4), "store32", "Write four bytes in the machine's order.")
store64 = _choose(_store(8), _store_twin(8), "store64", "Write eight bytes in the machine's order.")
prefetch_write = _choose(_prefetch(1, 3), lambda address: None, "prefetch_write", "Ask for the line at an address, for writing.")
prefetch_far = _choose(_prefetch(0, 2), lambda address: None, "prefetch_far", "Ask for a line as far as the second-level cache.")


# ---------------------------------------------------------------- what hot code uses


@leaf
def span(held):
    """Lift a `span_dtype` record into a Span value. Do it once, above the loop."""
    return Span(held.base, held.count)


if CHECKED:

    @leaf
    def row(table, index, dtype):
        """Return row `index` of `table` (a Span) as a record of `dtype`. Raises IndexError outside 0..count-1."""
        if index < 0 or index >= table.count:
            raise IndexError("row outside its span")
        return row_at(table.base, index, dtype)

else:

    @leaf
    def row(table, index, dtype):
        """Return row `index` of `table` (a Span) as a record of `dtype`. The caller has checked 0 <= index < count."""
        return row_at(table.base, index, dtype)


# ---------------------------------------------------------------- cold: making memory

Block = namedtuple("Block", "name address bytes count large pages huge")
"""Private memory, as the memory map tells it. large: bytes on 2 MiB pages; pages: index into placement.PAGES, what was obtained;
huge: large pages were asked for."""

blocks: list[Block] = []
"""The named blocks of this process; a role begins with none (`shm/placed.py` shows them)."""

_pages = ["advise"]


def set_pages(kind: str) -> None:
    """Choose the pages of the blocks that ask for large ones. kind: of placement.PAGES."""
    _pages[0] = kind


def records(dtype: np.dtype, count: int, name: str = "") -> np.ndarray:
    """Return `count` zeroed records of private memory, touched, each line-aligned where the dtype's size allows it.

    With a `name` the memory map shows them.
    """
    raw = np.zeros(count * dtype.itemsize + 2 * PAIR, dtype=np.uint8)
    start = -raw.ctypes.data % PAIR
    made = raw[start : start + count * dtype.itemsize].view(dtype)
    if raw.nbytes >= mmap.PAGESIZE:
        prefault(raw)
    if name:
        blocks.append(Block(name, raw.ctypes.data + start, count * dtype.itemsize, count, 0, 0, False))
    return made.view(RecordArray) if INTERPRETED else made


def block(size: int, huge: bool = False, name: str = "", count: int = 0, parts: Sequence[tuple[str, int, int]] = ()) -> mmap.mmap:
    """Return `size` bytes of private, zeroed, prefaulted memory outside Python's heap.

    huge: whole 2 MiB pages, of the kind `set_pages` chose, as far as the host has them. The memory map shows the block where it has
    a `name`, with `count` records in it; or its `parts`, each (name, bytes, count), one after another.
    """
    unit = placement.HUGE if huge else mmap.PAGESIZE  # a whole number of large pages is also laid on their boundary
    size = max(-(-size // unit), 1) * unit
    kind = _pages[0] if huge else "none"
    made = placement.reserved(size) if kind == "reserved" else None
    large = size if made is not None else 0
    if made is None:
        made = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        kind = "advise" if kind != "none" else kind
        if kind == "advise":
            placement.advise_large(address(made), size)
    prefault(made)
    if kind == "advise":
        large = placement.collapse(address(made), size)
    obtained, at = PAGES.index(kind) if large else 0, address(made)
    if name:
        blocks.append(Block(name, at, size, count, large, obtained, huge))
    for part, extent, rows in parts:
        whole = large == size
        blocks.append(Block(part, at, extent, rows, extent if whole else 0, obtained if whole else 0, huge))
        at += extent
    return made


def prefault(memory) -> None:
    """Write one byte to every page of a writable buffer, so that no hot loop meets a page fault."""
    view = np.frombuffer(memory, dtype=np.uint8)
    view[:: mmap.PAGESIZE] |= 0


def address(memory) -> int:
    """Return the address of a buffer's first byte."""
    return np.frombuffer(memory, dtype=np.uint8).ctypes.data


def set_span(held, base: int, count: int) -> None:
    """Fill a `span_dtype` field of a handle from cold code."""
    held["base"], held["count"] = base, count


def set_array(held, array: np.ndarray) -> None:
    """Fill a `span_dtype` field from a NumPy array. The caller keeps the array alive."""
    set_span(held, array.ctypes.data, array.shape[0])
