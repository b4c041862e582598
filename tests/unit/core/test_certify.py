"""hftd/core/certify.py and x86.py: good kernels pass, every kind of bad one is refused and named, cached or fresh."""

import os
import re
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numba import njit, types
from numba.np.numpy_support import from_dtype

from hftd.control.warm import CONSUMES, PRODUCES
from hftd.core import certify as ce
from hftd.core import x86
from hftd.core.atomics import fence_full, fetch_add, load_acquire, store_release
from hftd.core.clock import utc_ns
from hftd.core.elf import Object
from hftd.core.jit import INTERPRETED, hot, leaf
from hftd.core.layout import layout
from hftd.core.libc import ExternalFunction, errno, recv
from hftd.core.memory import address_of, copy_bytes, load64, record_at, store64
from hftd.shm import ring

pytestmark = pytest.mark.skipif(INTERPRETED, reason="machine code")

word_dtype = layout("certify_word", 64, [("seq", "i8"), ("n", "i8"), ("pad", ("i8", (6,)))])
WORD = from_dtype(word_dtype)
I8 = types.int64
getpid = ExternalFunction("getpid", types.intc()) if not INTERPRETED else os.getpid
HERE = Path(__file__).name


# ---------------------------------------------------------------- canaries: each must be refused


def _list_append(w):
    found = [w.n]
    for i in range(w.seq):
        found.append(i)
    return len(found)


def _dict_lookup(w):
    made = {1: 2}
    made[w.n] = w.seq
    return len(made)


def _text(w):
    return len(str(w.n))


def _raise(w):
    if w.n < 0:
        raise ValueError("below zero")
    return w.n


def _new_array(w):
    return np.zeros(w.n).sum()


def _sliced(array, n):
    part = array[1:n].copy()
    return part[0]


def _counted(array, n):
    total = 0
    for i in range(n):
        view = array[i:]
        if view.shape[0] > 3:
            total += view[0]
        kept = view
        if i > 5:
            total += kept.shape[0]
    return _opaque(array) + total


@njit
def _opaque(array):
    if array.shape[0] == 0:
        return 0
    total = 0
    for i in range(array.shape[0]):
        for j in range(i):
            total += array[j] * array[i]
    return total


def _plain_spin(w):
    while w.seq == 0:
        pass
    return w.n


def _forbidden_call(w):
    return getpid() + w.n


def _object_print(w):
    print(w.n)  # noqa: T201


@njit
def _fibonacci(n):
    return n if n < 2 else _fibonacci(n - 1) + _fibonacci(n - 2)


def _recursive(w):
    return _fibonacci(w.n)


CANARIES = [
    (_list_append, (WORD,), {"calls", "references"}, "NRT_"),
    (_dict_lookup, (WORD,), {"calls", "references"}, "NRT_|numba_dict"),
    (_text, (WORD,), {"calls", "references"}, "NRT_"),
    (_raise, (WORD,), {"raises"}, "exception"),
    (_new_array, (WORD,), {"calls", "references"}, "NRT_"),
    (_sliced, (types.Array(I8, 1, "C"), I8), {"calls", "references"}, "NRT_"),
    (_plain_spin, (WORD,), {"endless"}, "plain load"),
    (_forbidden_call, (WORD,), {"calls"}, "getpid"),
    (_recursive, (WORD,), {"recursion"}, "calls itself"),
    (_object_print, (WORD,), {"calls", "references"}, "Py"),
]


def _compiled(function, signature):
    kernel = hot(function)
    kernel.compile(signature)
    return kernel


@pytest.mark.parametrize(("function", "signature", "kinds", "names"), CANARIES, ids=lambda value: getattr(value, "__name__", ""))
def test_a_bad_function_is_refused_and_its_offender_named(function, signature, kinds, names):
    """Lists, dictionaries, text, exceptions, arrays, slices, a hoisted spin, a stranger's function, Python itself."""
    certificate = ce.certify(_compiled(function, signature))
    assert not certificate.ok
    kept = [finding for finding in certificate.forbidden if finding.kind in kinds and re.search(names, finding.what)]
    assert kept, str(certificate)


def test_a_finding_names_the_source_line():
    """The call by debug information, the exception by what it carries."""
    first = _list_append.__code__.co_firstlineno
    places = {finding.where for finding in ce.certify(_compiled(_list_append, (WORD,))).forbidden}
    assert any(re.search(rf"{HERE}:({first + 1}|{first + 3})\b", place) for place in places), places
    first = _raise.__code__.co_firstlineno
    places = {finding.where for finding in ce.certify(_compiled(_raise, (WORD,))).forbidden if finding.kind == "raises"}
    assert any(f"{HERE}:{first + 2}" in place for place in places), places


# ---------------------------------------------------------------- good ones


def _acquire_spin(w, limit):
    turns = 0
    while load_acquire(w, "seq") == 0 and turns < limit:
        turns += 1
    return turns


def _system_calls(w, fd):
    got = recv(fd, address_of(w), 64, 0)
    if got < 0:
        return -errno()
    copy_bytes(address_of(w), address_of(w) + 128, w.n)
    return got


def _switch(kind, x):
    if kind == 0:
        return x * 3
    if kind == 1:
        return x ^ 5
    if kind == 2:
        return x - 77
    if kind == 3:
        return x << 3
    if kind == 4:
        return x * x
    if kind == 5:
        return x // 10
    if kind == 6:
        return ~x
    return 0


@hot
def _callee(at, n):
    total = 0
    for i in range(n):
        total ^= load64(at + 8 * i) * 31
        store64(at + 8 * i, total)
        if total & 1023 == 5:
            return total
    return total


def _caller(at, n):
    return _callee(at, n) + _callee(at + 8, n - 1)


@pytest.mark.parametrize(("function", "signature", "calls"), [
    (_acquire_spin, (WORD, I8), set()),
    (_system_calls, (WORD, I8), {"recv", "__errno_location", "memcpy"}),
    (_switch, (I8, I8), set()),
    (_caller, (I8, I8), set()),
])  # fmt: skip
def test_a_good_function_is_certified(function, signature, calls):
    """Atomics, system calls from the list, jump tables, and other compiled functions, which are judged with it."""
    certificate = ce.certify(_compiled(function, signature))
    assert certificate.ok, str(certificate)
    assert set(certificate.calls) == calls
    assert certificate.code_bytes > 20 and certificate.stack_bytes >= 8 and certificate.instructions > 5


def test_what_is_bad_in_a_called_kernel_is_found():
    """The caller is judged with everything it reaches."""

    @njit
    def inner(w):
        return _list_append_twin(w)

    def outer(w):
        return inner(w) + 1

    assert any("NRT_" in finding.what for finding in ce.certify(_compiled(outer, (WORD,)), lines=False).forbidden)


_list_append_twin = njit(_list_append)


def test_leaves_and_cells_by_address_are_fine():
    """The idiom of hot code: records by address, leaves, no array in sight."""

    @leaf
    def read(at, index):
        return record_at(at + index * 64, word_dtype).n

    def loop(at, n):
        total = 0
        for i in range(n):
            total += read(at, i)
        return total

    assert ce.certify(_compiled(loop, (I8, I8))).ok


SCRIPT = """
import sys
from numba import types
from numba.np.numpy_support import from_dtype
from hftd.core.agent import push_log
from hftd.core.certify import certify
from hftd.shm.ring import producer_dtype
push_log.compile((from_dtype(producer_dtype), types.int64))
made = certify(push_log)
print(made.ok, made.digest, made.code_bytes, sum(push_log.stats.cache_hits.values()))
"""


def test_a_cached_kernel_has_the_certificate_of_the_fresh_one(tmp_path):
    """Two processes, the second loads: same digest, same size, still judged by its machine code."""
    env = {**os.environ, "HFTD_CACHE_DIR": str(tmp_path / "cache")}
    seen = []
    for _ in range(2):
        child = subprocess.run([sys.executable, "-c", SCRIPT], env=env, capture_output=True, text=True, timeout=60, check=True)
        seen.append(child.stdout.split())
    assert seen[0][:3] == seen[1][:3] and seen[0][0] == "True"
    assert [row[3] for row in seen] == ["0", "1"]


def test_other_code_has_another_digest():
    """The digest ties a run to its code."""
    digests = {ce.certify(_compiled(function, (I8, I8))).digest for function in (_switch, _caller)}
    assert len(digests) == 2
    assert ce.certify(_compiled(_switch, (I8, I8))).digest in digests


def test_there_must_be_something_to_judge():
    """No signature, a plain function, no ELF: errors, not a clean bill."""
    with pytest.raises(ValueError, match="0 compiled signatures"):
        ce.certify(hot(lambda x: x))
    with pytest.raises(ValueError, match="compiler is off"):
        ce.certify(lambda x: x)
    with pytest.raises(ValueError, match="not an ELF"):
        ce.judge(b"\x7fELG" + bytes(100), "f", "f")


# ---------------------------------------------------------------- shared words


def _publish(w):
    seen = load_acquire(w, "seq")
    w.n = seen + 1
    store_release(w, "seq", seen + 1)
    fence_full()
    return fetch_add(w, "n", 2)


def _publish_plainly(w):
    seen = w.seq
    w.n = seen + 1
    w.seq = seen + 1
    return w.n


def test_shared_accesses_are_told_by_ordering_and_field():
    """Plain moves in the code; the object says where each is, what it claims to be, and it is that."""
    certificate = ce.certify(_compiled(_publish, (WORD,)), needs=("acquire seq", "release seq", "interlocked n", "fence full"))
    assert certificate.ok, str(certificate)
    assert dict(certificate.atomics) == {"acquire seq": 1, "release seq": 1, "interlocked n": 1, "fence full": 1}


def test_a_shared_word_that_is_read_and_written_plainly_is_refused():
    """What a loop needs and its code does not hold is named, with the loop's line."""
    certificate = ce.certify(_compiled(_publish_plainly, (WORD,)), needs=("acquire seq", "release seq"))
    assert [(finding.kind, finding.what.split(":")[0]) for finding in certificate.forbidden] == [
        ("order", "lacks acquire seq"), ("order", "lacks release seq")]  # fmt: skip
    line = _publish_plainly.__code__.co_firstlineno
    assert all(finding.where.endswith(f"{HERE}:{line}") for finding in certificate.forbidden)


def test_an_instruction_that_is_no_such_access_is_refused():
    """The store that must be a release, turned into a load of the same operands: the object's own word is not enough."""
    kernel = _compiled(_publish, (WORD,))
    result = kernel.overloads[kernel.signatures[0]]
    image = bytearray(ce._image(kernel, result))
    made = Object(bytes(image))
    judge = ce._Judge(made, ce.ALLOWED)
    at = next(place for _, place, ordering, field in judge.marked if (ordering, field) == ("release", "seq"))
    section = made.defined[result.fndesc.llvm_func_name].section
    offset = made.sections[section][4] + at
    code = image[offset : offset + 4]
    index = next(i for i, byte in enumerate(code) if byte in (0x89, 0xC7))
    image[offset + index] = 0x8B
    entry = result.fndesc.llvm_func_name
    assert ce.judge(made.image, entry, "sound").ok
    assert "release seq is no such access" in str(ce.judge(bytes(image), entry, "turned"))


def test_the_ring_is_what_its_users_need():
    """Both ends of a ring, each in a loop of its own, hold the accesses that control/warm.py asks of every loop."""
    def write(producer, source):
        return ring.push(producer, source)

    def read(consumer):
        if ring.ready(consumer):
            ring.done(consumer)
            return 1
        return 0

    producing = ce.certify(_compiled(write, (from_dtype(ring.producer_dtype), I8)), needs=PRODUCES)
    consuming = ce.certify(_compiled(read, (from_dtype(ring.consumer_dtype),)), needs=CONSUMES)
    assert producing.ok and consuming.ok, (str(producing), str(consuming))


# ---------------------------------------------------------------- the decoder


def test_instruction_lengths_agree_with_objdump(tmp_path):
    """Every instruction of a few kernels with their wrappers, by the binutils' own decoder."""
    if not any(os.access(Path(folder) / "objdump", os.X_OK) for folder in os.environ["PATH"].split(os.pathsep)):
        pytest.skip("objdump (binutils) is not installed")
    compared = 0
    for function, signature in [(_text, (WORD,)), (_system_calls, (WORD, I8)), (_floats, (I8, I8)), (_dict_lookup, (WORD,))]:
        kernel = _compiled(function, signature)
        image = ce._image(kernel, kernel.overloads[kernel.signatures[0]])
        compared += _compare(image, tmp_path)
    assert compared > 800


def _floats(at, n):
    total, biggest = 0.0, 0.0
    for i in range(n):
        value = load64(at + 8 * i)
        total += value * 0.5
        biggest = max(biggest, float(value) / (1.0 + total))
        store64(at + 8 * i, int(total) ^ (value >> 3))
    return total + biggest


def _compare(image: bytes, tmp_path: Path) -> int:
    made = ce.Object(image)
    file = tmp_path / "kernel.o"
    file.write_bytes(image)
    listing = subprocess.run(["objdump", "-d", "-w", str(file)], capture_output=True, text=True, timeout=60, check=True).stdout
    names = made.content(struct.unpack_from("<H", image, 62)[0])
    sections = {names[row[0] : names.index(b"\0", row[0])].decode(): index for index, row in enumerate(made.sections)}
    code, count = b"", 0
    for line in listing.splitlines():
        if line.startswith("Disassembly of section"):
            code = made.content(sections[line.split()[-1].rstrip(":")])
        found = re.match(r"\s+([0-9a-f]+):\t((?:[0-9a-f]{2} )+)", line)
        if found and "(bad)" not in line:
            assert x86.decode(code, int(found.group(1), 16)).size == len(found.group(2).split()), line
            count += 1
    return count


@pytest.mark.parametrize(("code", "kind", "size", "writes"), [
    ("48b80000000000000000", "PLAIN", 10, {0}),  # movabs $0, %rax
    ("ffd0", "CALL_INDIRECT", 2, set(x86.CALL_CLOBBERS)),  # call *%rax
    ("41ff5610", "CALL_INDIRECT", 4, set(x86.CALL_CLOBBERS)),  # call *16(%r14)
    ("ffe1", "JUMP_INDIRECT", 2, set()),  # jmp *%rcx
    ("ebfe", "JUMP", 2, set()),  # jmp .
    ("0f84fcffffff", "BRANCH", 6, set()),  # je
    ("4c8b742408", "PLAIN", 5, {14}),  # mov 8(%rsp), %r14
    ("4889442410", "PLAIN", 5, set()),  # mov %rax, 16(%rsp)
    ("f0480fc101", "PLAIN", 5, {0}),  # lock xadd %rax, (%rcx)
    ("0f31", "PLAIN", 2, {0, 1, 2, 3}),  # rdtsc
    ("c4e2f3f7c1", "PLAIN", 5, {0}),  # shlx
    ("62f1fe486f0424", "PLAIN", 7, set()),  # vmovdqu64 (%rsp), %zmm0
    ("c5f877", "PLAIN", 3, set()),  # vzeroupper
    ("0fa2", "PLAIN", 2, {0, 1, 2, 3}),  # cpuid
    ("c3", "RETURN", 1, set()),
    ("0f0b", "TRAP", 2, set()),
])  # fmt: skip
def test_instructions_are_read_as_they_are(code, kind, size, writes):
    """Kind, length and the registers each may write."""
    made = x86.decode(bytes.fromhex(code), 0)
    assert (made.kind.name, made.size, set(made.writes)) == (kind, size, writes)


def test_cut_off_code_is_not_an_instruction():
    """Never a silent guess."""
    for code in ("", "48", "48b8000000", "0f84fc", "06"):
        with pytest.raises(x86.DecodeError):
            x86.decode(bytes.fromhex(code), 0)


def test_a_certificate_reads_as_a_line():
    """For `hftd warm` and the manifest."""
    made = ce.certify(_compiled(_switch, (I8, I8)))
    assert str(made).endswith(": ok") and "calls nothing" in str(made)
    assert utc_ns is not None
