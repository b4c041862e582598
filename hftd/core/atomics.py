"""Words that two processes share: acquire, release, read-modify-write, fences, and the processor's own clock.

Any word another process writes is read with `load_acquire(record, "field")` and written with `store_release`; a plain load in
a spin loop is hoisted by the compiler and spins for ever. On x86 acquire and release are plain moves: what they buy is that
the compiler keeps its hands off. `store_relaxed` is a store that is not removed or merged, without order.

Since machine code does not tell such a move from any other, LLVM is asked to write down where each one is (`!pcsections`: a table
of addresses in the object, `hftd.acquire.tail` and the like, and not an instruction more). The certificate reads these tables, of
a cached object too, and holds the instructions there to what they claim to be.

All are LLVM intrinsics (inline assembly would abort the process unless an assembler was initialised), each with a twin in
plain Python for the interpreter mode, where there is but one thread and order is the program's.
"""

import threading
import time

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from hftd.core.jit import INTERPRETED


def _member(context, builder, record_type, record, field):
    kind = record_type.typeof(field)
    pointer = cgutils.get_record_member(builder, record, record_type.offset(field), context.get_data_type(kind))
    return kind, pointer, kind.bitwidth // 8


MARK = "hftd."
"""What the names of the tables begin with; then come the ordering and the field's name."""


ORDERS = {("load", "acquire"): "acquire", ("load", "monotonic"): "load", ("store", "release"): "release",
          ("store", "monotonic"): "store"}  # fmt: skip
"""What a table calls an access: acquire and release by name, the ones without order by what they do."""


def _marked(builder, instruction, ordering, field):
    """Have the instruction's address written down; return it."""
    node = builder.module.add_metadata([ir.MetaDataString(builder.module, f"{MARK}{ordering}.{field}")])
    instruction.set_metadata("pcsections", node)
    return instruction


def _load(ordering):
    def declare(typingctx, record, field):
        if not isinstance(field, types.StringLiteral):
            return None
        name = field.literal_value

        def codegen(context, builder, signature, args):
            _, pointer, width = _member(context, builder, record, args[0], name)
            return _marked(builder, builder.load_atomic(pointer, ordering, width), ORDERS["load", ordering], name)

        return record.typeof(name)(record, field), codegen

    return declare


def _store(ordering):
    def declare(typingctx, record, field, value):
        if not isinstance(field, types.StringLiteral):
            return None
        name = field.literal_value

        def codegen(context, builder, signature, args):
            _, pointer, width = _member(context, builder, record, args[0], name)
            _marked(builder, builder.store_atomic(args[2], pointer, ordering, width), ORDERS["store", ordering], name)
            return context.get_dummy_value()

        return types.void(record, field, record.typeof(name)), codegen

    return declare


def _fetch_add(typingctx, record, field, value):
    if not isinstance(field, types.StringLiteral):
        return None
    name = field.literal_value

    def codegen(context, builder, signature, args):
        _, pointer, _ = _member(context, builder, record, args[0], name)
        return _marked(builder, builder.atomic_rmw("add", pointer, args[2], "acq_rel"), "interlocked", name)

    return record.typeof(name)(record, field, record.typeof(name)), codegen


def _compare_and_swap(typingctx, record, field, expected, wanted):
    if not isinstance(field, types.StringLiteral):
        return None
    name = field.literal_value
    kind = record.typeof(name)

    def codegen(context, builder, signature, args):
        _, pointer, _ = _member(context, builder, record, args[0], name)
        outcome = _marked(builder, builder.cmpxchg(pointer, args[2], args[3], "acq_rel", "acquire"), "interlocked", name)
        return builder.zext(builder.extract_value(outcome, 1), context.get_value_type(types.boolean))

    return types.boolean(record, field, kind, kind), codegen


def _load_acquire_at(typingctx, address):
    def codegen(context, builder, signature, args):
        pointer = builder.inttoptr(args[0], ir.IntType(64).as_pointer())
        return _marked(builder, builder.load_atomic(pointer, "acquire", 8), "acquire", "at")

    return types.int64(types.int64), codegen


def _store_release_at(typingctx, address, value):
    def codegen(context, builder, signature, args):
        pointer = builder.inttoptr(args[0], ir.IntType(64).as_pointer())
        _marked(builder, builder.store_atomic(args[1], pointer, "release", 8), "release", "at")
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), codegen


def _fence(ordering):
    def declare(typingctx):
        def codegen(context, builder, signature, args):
            builder.fence(ordering)
            return context.get_dummy_value()

        return types.void(), codegen

    return declare


def _call(name, result, value_type):
    def declare(typingctx):
        def codegen(context, builder, signature, args):
            kind = ir.FunctionType(value_type, [])
            made = builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [])
            return context.get_dummy_value() if result is types.void else made

        return result(), codegen

    return declare


# ---------------------------------------------------------------- interpreter twins


def _get(record, field):
    return record[field]


def _set(record, field, value):
    record[field] = value


def _fetch_add_twin(record, field, value):
    before = record[field]
    record[field] = before + value
    return before


def _cas_twin(record, field, expected, wanted):
    if record[field] != expected:
        return False
    record[field] = wanted
    return True


def _load_at_twin(address):
    from hftd.core.memory import load64

    return load64(address)


def _store_at_twin(address, value):
    from hftd.core.memory import store64

    store64(address, value)


_lock = threading.Lock()


def cold_fence() -> None:
    """A full fence for cold code: taking an uncontended lock is an interlocked instruction, and the call keeps the order."""
    with _lock:
        pass


def _choose(compiled, twin, literal=False):
    if INTERPRETED:
        return twin
    return intrinsic(prefer_literal=True)(compiled) if literal else intrinsic(compiled)


load_acquire = _choose(_load("acquire"), _get, literal=True)
load_relaxed = _choose(_load("monotonic"), _get, literal=True)
store_release = _choose(_store("release"), _set, literal=True)
store_relaxed = _choose(_store("monotonic"), _set, literal=True)
fetch_add = _choose(_fetch_add, _fetch_add_twin, literal=True)
compare_and_swap = _choose(_compare_and_swap, _cas_twin, literal=True)
load_acquire_at = _choose(_load_acquire_at, _load_at_twin)
store_release_at = _choose(_store_release_at, _store_at_twin)
fence_acquire = _choose(_fence("acquire"), lambda: None)
fence_release = _choose(_fence("release"), lambda: None)
fence_full = _choose(_fence("seq_cst"), lambda: None)
pause = _choose(_call("llvm.x86.sse2.pause", types.void, ir.VoidType()), lambda: None)
tsc = _choose(_call("llvm.readcyclecounter", types.int64, ir.IntType(64)), time.perf_counter_ns)
