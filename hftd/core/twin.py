"""Records for the interpreter mode: the same `record.field` that compiled code writes, over the same memory.

NumPy's own scalar records hide fields behind attributes of the same name (`flags`, `base`) and cannot be aimed at an address,
so the interpreter twin of a record is this class. Used only with NUMBA_DISABLE_JIT=1: tests, debuggers, coverage.
"""

import ctypes

import numpy as np


class Record:
    """A view of one structured record at an address; fields by attribute or by subscript."""

    __slots__ = ("_address", "_array")

    def __init__(self, array: np.ndarray):
        object.__setattr__(self, "_array", array)
        object.__setattr__(self, "_address", array.ctypes.data)

    @classmethod
    def at(cls, address: int, dtype: np.dtype) -> "Record":
        """View the record of `dtype` that lies at `address`."""
        raw = (ctypes.c_char * dtype.itemsize).from_address(int(address))
        return cls(np.frombuffer(raw, dtype=dtype))

    def __getitem__(self, field):
        value = self._array[field]
        if value.dtype.names:
            return Record(value) if value.ndim == 1 else [Record(value[0, i : i + 1]) for i in range(value.shape[1])]
        return value[0] if value.ndim > 1 else value[0].item()

    def __setitem__(self, field, value):
        kind = self._array.dtype.fields[field][0]
        if kind.kind in "iu":
            value = int(value) & ((1 << 8 * kind.itemsize) - 1)
            if kind.kind == "i" and value >> (8 * kind.itemsize - 1):
                value -= 1 << 8 * kind.itemsize
        self._array[field] = value

    def __getattr__(self, field):
        if field == "dtype":
            return self._array.dtype
        if field not in (self._array.dtype.names or ()):
            raise AttributeError(f"record has no field {field}")
        return self[field]

    def copy(self) -> "Record":
        """A record of the same values over memory of its own."""
        return Record(self._array.copy())

    def __setattr__(self, field, value):
        self[field] = value


class RecordArray(np.ndarray):
    """An array whose single elements are `Record` views."""

    def __getitem__(self, index):
        if isinstance(index, int | np.integer) and self.ndim == 1 and self.dtype.names:
            at = int(index) + self.shape[0] if index < 0 else int(index)
            if not 0 <= at < self.shape[0]:
                raise IndexError(f"row {index} of {self.shape[0]}")
            return Record(np.asarray(self)[at : at + 1])
        return super().__getitem__(index)

    def __iter__(self):
        return (self[index] for index in range(self.shape[0]))
