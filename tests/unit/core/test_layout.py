"""hftd/core/layout.py: what a declaration may not be, and the table it prints."""

import numpy as np
import pytest

from hftd.core.layout import describe, layout, offset_of, packed

inner_dtype = layout("inner", 16, [("a", "i8"), ("b", "u4"), ("pad0", "u4")])


@pytest.mark.parametrize(("size", "fields", "message"), [
    (16, [("a", "i8", 0), ("b", "i8", 4)], "overlaps its neighbour"),
    (24, [("a", "i8", 0), ("b", "i8", 16)], "8 unnamed bytes before field b"),
    (16, [("a", "u4", 0), ("b", "i8", 4), ("pad0", "u4", 12)], "not aligned to 8"),
    (16, [("a", "u2"), ("b", "u4")], "not aligned to 4"),
    (24, [("a", "i8"), ("b", "i8")], "take 16 bytes, 24 were declared"),
    (12, [("a", "i8"), ("b", "u4")], "would not stay aligned to 8"),
    (20, [("a", "u4"), ("in", inner_dtype)], "not aligned to 8"),
])  # fmt: skip
def test_a_wrong_layout_is_refused_and_says_why(size, fields, message):
    """Each kind of mistake has its own sentence, which names the layout."""
    with pytest.raises(ValueError, match=message) as caught:
        layout("broken", size, fields)
    assert "layout broken" in str(caught.value)


def test_fields_lie_where_they_were_declared():
    """Offsets, sizes and nesting come out as written, little-endian and without padding."""
    made = layout("outer", 64, [("n", "i8", 0), ("in", (inner_dtype, (3,)), 8), ("pad0", "i8", 56)])
    assert made.itemsize == 64
    assert [offset_of(made, name) for name in ("n", "in", "pad0")] == [0, 8, 56]
    rows = np.zeros(2, made)
    rows["in"]["b"][1, 2] = 7
    assert rows.view(np.uint32)[(64 + 8 + 2 * 16 + 8) // 4] == 7


def test_packed_is_the_wire_and_nothing_else():
    """No alignment, fields in order, and the declared size must be the real one."""
    made = packed("wire", 11, [("type", "u1"), ("ref", "i8"), ("qty", "u2")])
    assert [offset_of(made, name) for name in made.names] == [0, 1, 9]
    with pytest.raises(ValueError, match="take 11 bytes, 12 were declared"):
        packed("wire", 12, [("type", "u1"), ("ref", "i8"), ("qty", "u2")])


def test_describe_prints_every_field_with_offset_size_and_type():
    """The memory map shows what is there: nested records and arrays by kind."""
    made = layout("outer", 64, [("n", "i8"), ("in", (inner_dtype, (3,))), ("pad0", "i8")])
    lines = describe(made, "outer").splitlines()
    assert lines[0] == "outer (64 bytes)"
    assert [line.split() for line in lines[1:]] == [
        ["0", "8", "i8", "n"], ["8", "48", "record[3]", "in"], ["56", "8", "i8", "pad0"],
    ]  # fmt: skip
