"""Requests to callgrind from compiled code: count from here, count to here.

A request is a few rotations of a register that cancel out: the processor does nothing, valgrind sees it and acts. So the same
kernel runs with and without valgrind, and brackets the region whose instructions are counted, exactly. The words of a request
lie in memory that cold code made (`words`).

This is the one place of hftd with inline assembly, and LLVM's assembler must be made ready before (or the process would abort): it
is no part of the daemon.
"""

import llvmlite.binding
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from hftd.core.jit import INTERPRETED, hot

CALLGRIND = ord("C") << 24 | ord("T") << 16
ZERO, TOGGLE, DUMP_AS, START, STOP = (CALLGRIND + code for code in (1, 2, 3, 4, 5))
NOTHING = 0
"""A request that valgrind does not know, and ignores."""

ASSEMBLY = "rolq $$3, %rdi; rolq $$13, %rdi; rolq $$61, %rdi; rolq $$51, %rdi; xchgq %rbx, %rbx"

if not INTERPRETED:
    llvmlite.binding.initialize_native_asmparser()


def _request(typingctx, at):
    def codegen(context, builder, signature, args):
        word = ir.IntType(64)
        asm = ir.InlineAsm(ir.FunctionType(word, [word, word]), ASSEMBLY, "={rdx},{rax},0,~{memory},~{cc}", side_effect=True)
        return builder.call(asm, [args[0], ir.Constant(word, 0)])

    return types.int64(types.int64), codegen


request = (lambda at: 0) if INTERPRETED else intrinsic(_request)


@hot
def ask(at):
    """Make the request whose words lie at `at`."""
    return request(at)


def words(code: int, argument: int = 0) -> np.ndarray:
    """Return a request's six words. argument: for DUMP_AS, the address of the dump's name, a C string."""
    made = np.zeros(6, np.int64)
    made[0], made[1] = code, argument
    return made
