"""A few slots of a book's side at once, without a loop: compared, moved, put in and taken out through vector registers.

How deep in a book a message goes is a coin toss to the branch predictor; these functions do the same work wherever it is. LLVM
makes of them what the CPU has: one or two AVX-512 instructions, or a handful of AVX2 or SSE.
"""

import ctypes
import struct

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from hftd.core.jit import INTERPRETED
from hftd.feed.memory import LANES

_word, _narrow = ir.IntType(64), ir.IntType(32)


def _vector(builder, address, element, lanes):
    return builder.inttoptr(address, ir.VectorType(element, lanes).as_pointer())


def _splat(builder, value, lanes):
    one = builder.insert_element(ir.Constant(ir.VectorType(value.type, lanes), ir.Undefined), value, ir.Constant(_narrow, 0))
    zeros = ir.Constant(ir.VectorType(_narrow, lanes), [0] * lanes)
    return builder.shuffle_vector(one, ir.Constant(one.type, ir.Undefined), zeros)


def _count_above(typingctx, address, word):
    def codegen(context, builder, signature, args):
        values = builder.load(_vector(builder, args[0], _word, LANES), align=8)
        above = builder.icmp_signed(">", values, _splat(builder, args[1], LANES))
        return builder.zext(builder.ctpop(builder.bitcast(above, ir.IntType(LANES))), _word)

    return types.int64(types.int64, types.int64), codegen


def _below(builder, lane):
    """Which lanes are below `lane`."""
    return builder.icmp_signed("<", _numbers(), _splat(builder, lane, LANES))


def _numbers():
    return ir.Constant(ir.VectorType(_word, LANES), list(range(LANES)))


def _turned(builder, old, by):
    """The lanes of `old`, each what its neighbour `by` lanes up was; where there is none, any."""
    lanes = [(lane + by) % LANES for lane in range(LANES)]
    return builder.shuffle_vector(old, old, ir.Constant(ir.VectorType(_narrow, LANES), lanes))


def _put_slot(typingctx, address, lane, word):
    def codegen(context, builder, signature, args):
        at = _vector(builder, args[0], _word, LANES)
        old = builder.load(at, align=8)
        here = builder.icmp_signed("==", _numbers(), _splat(builder, args[1], LANES))
        others = builder.select(_below(builder, args[1]), _turned(builder, old, 1), old)
        builder.store(builder.select(here, _splat(builder, args[2], LANES), others), at, align=8)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), codegen


def _take_slot(typingctx, address, lane, word):
    def codegen(context, builder, signature, args):
        at = _vector(builder, args[0], _word, LANES)
        old = builder.load(at, align=8)
        up = builder.insert_element(_turned(builder, old, -1), args[2], ir.Constant(_narrow, 0))
        above = builder.icmp_signed(">", _numbers(), _splat(builder, args[1], LANES))
        builder.store(builder.select(above, old, up), at, align=8)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), codegen


def _open_slot(typingctx, address, lane):
    def codegen(context, builder, signature, args):
        old = builder.load(_vector(builder, args[0], _word, LANES), align=8)
        moved = builder.select(_below(builder, args[1]), _turned(builder, old, 1), old)
        builder.store(moved, _vector(builder, builder.add(args[0], ir.Constant(_word, 8)), _word, LANES), align=8)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), codegen


def _close_slot(typingctx, address, lane):
    def codegen(context, builder, signature, args):
        at = _vector(builder, args[0], _word, LANES)
        old = builder.load(at, align=8)
        builder.store(builder.select(_below(builder, args[1]), old, _turned(builder, old, 1)), at, align=8)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), codegen


def _words(address):
    return list(struct.unpack(f"={LANES}q", ctypes.string_at(int(address), 8 * LANES)))


def _put_words(address, words):
    ctypes.memmove(int(address), struct.pack(f"={LANES}q", *(int(word) for word in words)), 8 * LANES)


def _put_slot_twin(address, lane, word):
    old = _words(address)
    _put_words(address, [*old[1 : lane + 1], word, *old[lane + 1 :]])


def _take_slot_twin(address, lane, word):
    old = _words(address)
    _put_words(address, [word, *old[:lane], *old[lane + 1 :]])


def _open_slot_twin(address, lane):
    old = _words(address)
    _put_words(address + 8, [*old[1:lane], *old[lane - 1 :]] if lane else old)


def _close_slot_twin(address, lane):
    old = _words(address)
    _put_words(address, [*old[:lane], *old[lane + 1 :], old[-1]])


def _count_above_twin(address, word):
    return sum(value > word for value in _words(address))


count_above = _count_above_twin if INTERPRETED else intrinsic(_count_above)
"""count_above(address, word): how many of LANES int64 at an address are greater than `word`."""
put_slot = _put_slot_twin if INTERPRETED else intrinsic(_put_slot)
"""put_slot(address, lane, word): put `word` into a lane of LANES int64; what stood there and below goes down, the lowest goes."""
take_slot = _take_slot_twin if INTERPRETED else intrinsic(_take_slot)
"""take_slot(address, lane, word): take a lane's int64 out of LANES; those below go up by one, and `word` comes in lowest."""
open_slot = _open_slot_twin if INTERPRETED else intrinsic(_open_slot)
"""open_slot(address, lane): move those of LANES int64 that stand in a lane or above up by one, to write into that lane.
lane: 0 to LANES; what comes to stand one beyond the lanes is any where it is LANES."""
close_slot = _close_slot_twin if INTERPRETED else intrinsic(_close_slot)
"""close_slot(address, lane): move those of LANES int64 that stand above a lane down by one, over it; what stands highest is any."""
