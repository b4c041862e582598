"""Typed counters in shared memory: one block per agent, one writer, a sentence for each counter.

`counters("feed", [("packets", "datagrams received")])` returns a dtype of int64 fields, padded to a pair of lines, and keeps the
sentences for `hftd status` and the generated documentation.
"""

import numpy as np

from hftd.core.layout import layout

DOC: dict[str, dict[str, str]] = {}
"""Block name -> counter -> what it counts."""


def counters(name: str, fields: list[tuple[str, str]]) -> np.dtype:
    """Declare an agent's block of counters. Names are unique within the block."""
    DOC[name] = dict(fields)
    size = -(-8 * len(fields) // 128) * 128
    spare = size // 8 - len(fields)
    padding = [("pad", ("i8", (spare,)))] if spare else []
    return layout(f"{name}_counters", size, [(field, "i8") for field, _ in fields] + padding)


def values(block: np.ndarray) -> dict[str, int]:
    """Return the counters of one block as a dict, padding left out."""
    return {field: int(block[field]) for field in block.dtype.names or () if not field.startswith("pad")}
