"""hftd/core/atomics.py: values of the shared-word operations, and that the compiler left them alone."""

import re

import pytest

from hftd.core import atomics as a
from hftd.core.jit import INTERPRETED, hot
from hftd.core.layout import layout
from hftd.core.memory import address_of, records

word_dtype = layout("word", 32, [("i", "i8"), ("u", "u8"), ("h", "u4"), ("b", "u1"), ("c", "u1"), ("s", "i2"), ("k", "i8")])


@hot
def _move(w):
    a.store_release(w, "k", a.load_acquire(w, "i") + 1)
    a.store_relaxed(w, "h", a.load_relaxed(w, "h") + 1)
    a.store_release(w, "b", a.load_acquire(w, "b"))
    a.store_release(w, "s", -5)
    a.fence_acquire()
    a.fence_release()
    a.fence_full()
    a.pause()
    a.store_release_at(address_of(w), a.load_acquire_at(address_of(w)) - 2)
    return a.fetch_add(w, "i", 40)


@hot
def _swap(w, expected, wanted):
    return a.compare_and_swap(w, "i", expected, wanted)


@hot
def _claimed_twice(w, value):
    """What a ring's claim and commit do: the first store must survive although the second overwrites it."""
    a.store_relaxed(w, "i", -1)
    a.fence_release()
    w.k = value
    a.store_release(w, "i", value)


@hot
def _spin(w, limit):
    turns = 0
    while a.load_acquire(w, "i") == 0 and turns < limit:
        turns += 1
    return turns


@hot
def _stamps():
    first = a.tsc()
    return a.tsc() - first


@pytest.fixture
def word():
    """One zeroed record."""
    return records(word_dtype, 1)[0]


def test_loads_and_stores_reach_their_field_and_no_other(word):
    """All widths, signed and unsigned, by field name and by address."""
    word["i"], word["h"], word["b"], word["c"] = 10, 2**32 - 1, 200, 77
    assert _move(word) == 8
    assert [int(word[field]) for field in "ikhbcs"] == [48, 11, 0, 200, 77, -5]


def test_compare_and_swap_changes_only_what_it_expected(word):
    """True and changed, or False and untouched."""
    word["i"] = 3
    assert not _swap(word, 4, 9)
    assert int(word["i"]) == 3
    assert _swap(word, 3, 9)
    assert int(word["i"]) == 9


def test_the_counter_goes_forward():
    """Two readings in one thread never go back."""
    assert all(_stamps() >= 0 for _ in range(100))


def test_a_spin_reads_every_time(word):
    """The loop ends by its bound; compiled, the load stands inside it."""
    assert _spin(word, 1000) == 1000


@pytest.mark.skipif(INTERPRETED, reason="machine code")
def test_no_store_of_a_claim_is_removed():
    """Both stores of the sequence word are in the machine code, the marker before the payload."""
    fresh = hot(_claimed_twice.py_func)
    fresh._cache.disable()
    fresh.compile(_claimed_twice_signature())
    text = next(iter(fresh.inspect_asm().values()))
    name = fresh.overloads[fresh.signatures[0]].fndesc.llvm_func_name
    body = text.split(f"{name}:", 1)[1].split(".cfi_endproc", 1)[0]
    cell = re.search(r"movq\s+\$-1, \((%r\w+)\)", body).group(1)
    assert re.findall(rf"movq\s+\S+, (\d*)\({cell}\)", body) == ["", "24", ""], body


def _claimed_twice_signature():
    from numba import types
    from numba.np.numpy_support import from_dtype

    return (from_dtype(word_dtype), types.int64)
