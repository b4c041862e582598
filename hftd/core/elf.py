"""A relocatable ELF object for x86-64, as LLVM makes it: sections, symbols, relocations. Enough to judge it, and what it needs.

After the System V ABI, AMD64 supplement. Turned down: pyelftools (a package for a hundred lines).
"""

import struct
from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True)
class Symbol:
    """A name in an object; section 0: defined elsewhere."""

    name: str
    section: int
    value: int
    size: int


@dataclass(frozen=True)
class Relocation:
    """Eight or four bytes at `at` that the linker fills with an address: symbol + addend."""

    at: int
    kind: int
    symbol: Symbol
    addend: int


class Object:
    """A relocatable ELF file for x86-64, as far as a certificate needs it."""

    def __init__(self, image: bytes):
        if image[:4] != b"\x7fELF" or image[4] != 2 or struct.unpack_from("<H", image, 18)[0] != 62:
            raise ValueError("not an ELF object for x86-64")
        self.image = image
        start, = struct.unpack_from("<Q", image, 40)  # fmt: skip
        size, count = struct.unpack_from("<HH", image, 58)
        self.sections = [struct.unpack_from("<IIQQQQIIQQ", image, start + i * size) for i in range(count)]
        self.symbols: list[Symbol] = []
        for _, kind, _, _, at, length, link, _, _, _ in self.sections:
            if kind == 2:
                names = self.content(link)
                for place in range(at, at + length, 24):
                    text, _, _, section, value, extent = struct.unpack_from("<IBBHQQ", image, place)
                    self.symbols.append(Symbol(names[text : names.index(b"\0", text)].decode(), section, value, extent))
        self.defined = {symbol.name: symbol for symbol in self.symbols if symbol.section and symbol.name}

    @cached_property
    def relocations(self) -> dict[int, list[Relocation]]:
        """Section -> its relocations, by place."""
        found: dict[int, list[Relocation]] = {}
        for _, kind, _, _, at, length, _, target, _, _ in self.sections:
            if kind == 4:
                rows = found.setdefault(target, [])
                for place in range(at, at + length, 24):
                    offset, info, addend = struct.unpack_from("<QQq", self.image, place)
                    rows.append(Relocation(offset, info & 0xFFFFFFFF, self.symbols[info >> 32], addend))
                rows.sort(key=lambda row: row.at)
        return found

    def wanted(self) -> set[str]:
        """Return the names it uses and does not define: the linker must know them."""
        return {symbol.name for symbol in self.symbols if symbol.name and not symbol.section}

    def content(self, section: int) -> bytes:
        """The bytes of a section."""
        _, kind, _, _, at, length, *_ = self.sections[section]
        return b"" if kind == 8 else self.image[at : at + length]

    def section_name(self, section: int) -> str:
        """A section's name."""
        names = self.content(struct.unpack_from("<H", self.image, 62)[0])
        start = self.sections[section][0]
        return names[start : names.index(b"\0", start)].decode()

    def is_code(self, section: int) -> bool:
        """Whether a section is executable."""
        return 0 < section < len(self.sections) and bool(self.sections[section][2] & 4)

    def name_at(self, section: int, offset: int) -> str:
        """The name of what lies at an offset of a section, as far as one is known."""
        for symbol in self.symbols:
            if symbol.section == section and symbol.name and symbol.value <= offset < symbol.value + max(symbol.size, 1):
                return symbol.name
        return ""
