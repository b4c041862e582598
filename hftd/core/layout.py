"""Record layouts, declared once with size, offsets and units, and checked at import.

Everything that two processes share, or that hot code touches, is a NumPy structured dtype made here. A layout states its
size and each field's offset, so that the reader sees the memory as it lies, and a field that moved is an error at import
and not a wrong price in production. Hidden padding is refused: spare bytes are fields called `pad…`.
"""

from collections.abc import Sequence

import numpy as np

LINE = 64
"""Bytes in a cache line."""

PAIR = 128
"""Bytes two writers keep apart: the prefetcher pulls lines in pairs."""


def layout(name: str, size: int, fields: Sequence[tuple]) -> np.dtype:
    """Return the aligned dtype of `fields`, each `(name, type, offset)` or `(name, type)` to follow on.

    `type` is a NumPy type string, another layout, or `(layout, (n,))`. Raises ValueError where a field overlaps its
    neighbour, is not aligned to its own width, leaves a hole, or where the whole is not `size` bytes, or rows would misalign.
    """
    names, formats, offsets = [], [], []
    end, widest = 0, 1
    for field in fields:
        kind = np.dtype(field[1])
        offset = field[2] if len(field) > 2 else end
        align = max(kind.base.alignment, 1)
        if kind.base.names:
            align = 8
        if offset < end:
            raise ValueError(f"layout {name}: field {field[0]} at {offset} overlaps its neighbour, which ends at {end}")
        if offset > end:
            raise ValueError(f"layout {name}: {offset - end} unnamed bytes before field {field[0]}; name them pad…")
        if offset % align:
            raise ValueError(f"layout {name}: field {field[0]} at {offset} is not aligned to {align} bytes")
        names.append(field[0])
        formats.append(field[1])
        offsets.append(offset)
        end, widest = offset + kind.itemsize, max(widest, align)
    if end != size:
        raise ValueError(f"layout {name}: the fields take {end} bytes, {size} were declared")
    if size % widest:
        raise ValueError(f"layout {name}: rows of {size} bytes in an array would not stay aligned to {widest}")
    return np.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": size}, align=False)


def packed(name: str, size: int, fields: Sequence[tuple]) -> np.dtype:
    """Return the dtype of a message as it lies on the wire: no alignment, `(name, type)` in wire order.

    Numbers are stored as they came, so big-endian ones must be swapped as they are loaded (`hftd.core.memory.swap…`).
    Raises ValueError where the fields do not take exactly `size` bytes.
    """
    kind = np.dtype([(field[0], field[1]) for field in fields])
    if kind.itemsize != size:
        raise ValueError(f"layout {name}: the fields take {kind.itemsize} bytes, {size} were declared")
    return kind


def offset_of(kind: np.dtype, field: str) -> int:
    """Return the byte offset of `field` in the layout `kind`."""
    assert kind.fields is not None
    return kind.fields[field][1]


def describe(kind: np.dtype, name: str = "") -> str:
    """Return the table `offset size type field` of a layout, as the memory map prints it."""
    rows = [f"{name} ({kind.itemsize} bytes)" if name else f"{kind.itemsize} bytes"]
    for field in kind.names or ():
        assert kind.fields is not None
        inner, offset = kind.fields[field][:2]
        rows.append(f"  {offset:6d} {inner.itemsize:6d}  {_short(inner):<12} {field}")
    return "\n".join(rows)


def _short(kind: np.dtype) -> str:
    if kind.subdtype is not None:
        base, shape = kind.subdtype
        return f"{_short(base)}[{'x'.join(map(str, shape))}]"
    return "record" if kind.names else kind.str.lstrip("<|")
