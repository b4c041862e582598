"""A few slots of a book's side at once, without a loop: compared and moved through vector registers.

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


def _move_slots(typingctx, target, source):
    def codegen(context, builder, signature, args):
        values = builder.load(_vector(builder, args[1], _word, LANES), align=8)
        builder.store(values, _vector(builder, args[0], _word, LANES), align=8)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), codegen


def _count_above(typingctx, address, word):
    def codegen(context, builder, signature, args):
        values = builder.load(_vector(builder, args[0], _word, LANES), align=8)
        above = builder.icmp_signed(">", values, _splat(builder, args[1], LANES))
        return builder.zext(builder.ctpop(builder.bitcast(above, ir.IntType(LANES))), _word)

    return types.int64(types.int64, types.int64), codegen


def _move_slots_twin(target, source):
    ctypes.memmove(int(target), int(source), 8 * LANES)


def _count_above_twin(address, word):
    return sum(value > word for value in struct.unpack(f"={LANES}q", ctypes.string_at(int(address), 8 * LANES)))


move_slots = _move_slots_twin if INTERPRETED else intrinsic(_move_slots)
"""move_slots(target, source): copy LANES int64, all read before any is written: the ranges may overlap."""
count_above = _count_above_twin if INTERPRETED else intrinsic(_count_above)
"""count_above(address, word): how many of LANES int64 at an address are greater than `word`."""
