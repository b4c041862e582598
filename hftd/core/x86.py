"""Just enough x86-64 to judge a kernel: where instructions end, where control goes, which general registers each may write.

Not a disassembler: no mnemonics, no operands of vector instructions. Lengths are exact for what LLVM emits in 64-bit mode (legacy,
REX, VEX and EVEX encodings) and are compared with objdump's in the tests. `writes` errs on the side of naming a register too many.
After the opcode maps of Intel's Software Developer's Manual, volume 2, appendix A. Turned down: capstone (a C extension for one
check), `objdump` (not there in production), LLVM's text assembly (not there for a kernel that came from the cache).
"""

from dataclasses import dataclass
from enum import Enum

RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI = range(8)
CALL_CLOBBERS = frozenset({RAX, RCX, RDX, RSI, RDI, 8, 9, 10, 11})
PREFIXES = frozenset({0x66, 0xF2, 0xF3, 0xF0, 0x2E, 0x36, 0x3E, 0x26, 0x64, 0x65, 0x67})


class Kind(Enum):
    """What an instruction does to the flow of control."""

    PLAIN = 0
    CALL = 1  # call rel32
    CALL_INDIRECT = 2  # call r/m64
    JUMP = 3
    JUMP_INDIRECT = 4
    BRANCH = 5  # conditional
    RETURN = 6
    TRAP = 7  # ud2, int3, hlt: never goes on


@dataclass(slots=True)
class Instruction:
    """One instruction. `target` is the offset a relative call or jump goes to; `memory` is (base, disp) of a plain operand."""

    at: int
    size: int
    kind: Kind
    opcode: int  # with the map in bits 8 and up: 0x089 mov, 0x1AF imul
    writes: frozenset
    target: int = -1
    register: int = -1  # the r/m register of a register form, else -1
    reg: int = -1  # the ModRM reg field (an extension of the opcode, or a register)
    memory: tuple | None = None
    immediate: int = 0
    wide: bool = False  # REX.W

    @property
    def end(self) -> int:
        """Offset of the next instruction."""
        return self.at + self.size


class DecodeError(ValueError):
    """Bytes that are not an instruction we know."""


def decode(code: bytes, at: int) -> Instruction:
    """Return the instruction at offset `at`. Raises DecodeError."""
    try:
        return _decode(code, at)
    except IndexError:
        raise DecodeError(f"instruction at {at:#x} runs over the end") from None


def _decode(code: bytes, at: int) -> Instruction:
    start, wide, rex, operand16, encoding, second = at, False, 0, False, 0, -1
    while code[at] in PREFIXES:
        operand16 |= code[at] == 0x66
        at += 1
    if code[at] & 0xF0 == 0x40:
        rex = code[at]
        wide = bool(rex & 8)
        at += 1
    page = 0
    byte = code[at]
    if byte == 0xC5:
        rex = (~code[at + 1] >> 5) & 4
        second = (~code[at + 1] >> 3) & 15
        page, encoding, at = 1, 2, at + 2
    elif byte == 0xC4:
        rex = (~code[at + 1] >> 5) & 7
        page = code[at + 1] & 31
        second = (~code[at + 2] >> 3) & 15
        wide = bool(code[at + 2] & 0x80)
        encoding, at = 2, at + 3
    elif byte == 0x62:
        rex = (~code[at + 1] >> 5) & 7
        page = code[at + 1] & 7
        encoding, at = 3, at + 4
    elif byte == 0x0F:
        at += 1
        page = 1
        if code[at] == 0x38:
            page, at = 2, at + 1
        elif code[at] == 0x3A:
            page, at = 3, at + 1
    opcode = code[at]
    at += 1
    made = Instruction(start, 0, Kind.PLAIN, page << 8 | opcode, frozenset(), wide=wide)
    if _has_modrm(page, opcode, encoding):
        at = _modrm(code, at, rex, made)
    size = _immediate(page, opcode, made.reg & 7, wide, operand16)
    if size:
        made.immediate = int.from_bytes(code[at : at + size], "little", signed=True)
        if at + size > len(code):
            raise IndexError
        at += size
    made.size = at - start
    _control(made, page, opcode, encoding)
    made.writes = frozenset(_writes(made, page, opcode, encoding, rex, second))
    return made


def _modrm(code: bytes, at: int, rex: int, made: Instruction) -> int:
    byte = code[at]
    at += 1
    mod, rm = byte >> 6, byte & 7
    made.reg = (byte >> 3 & 7) | (rex & 4) << 1
    if mod == 3:
        made.register = rm | (rex & 1) << 3
        return at
    base, plain = rm | (rex & 1) << 3, True
    if rm == 4:
        sib = code[at]
        at += 1
        base = (sib & 7) | (rex & 1) << 3
        plain = (sib >> 3 & 7 | (rex & 2) << 2) == 4
        if mod == 0 and sib & 7 == 5:
            base = -1
    elif mod == 0 and rm == 5:
        base = -2  # rip
    width = 1 if mod == 1 else 4 if mod == 2 or base < 0 else 0
    disp = int.from_bytes(code[at : at + width], "little", signed=True)
    made.memory = (base if plain else -3, disp)
    return at + width


_NO_MODRM = {
    0: {*range(0x50, 0x60), 0x68, 0x6A, *range(0x70, 0x80), *range(0x90, 0xB0), *range(0xB0, 0xC0), 0xC2, 0xC3, 0xC8, 0xC9, 0xCC,
        0xCD, *range(0xE0, 0xF6), *range(0xF8, 0xFE)},
    1: {0x05, 0x08, 0x09, 0x0B, 0x30, 0x31, 0x32, 0x33, 0x34, 0x77, *range(0x80, 0x90), 0xA0, 0xA1, 0xA2, 0xA8, 0xA9,
        *range(0xC8, 0xD0)},
}  # fmt: skip


def _has_modrm(page: int, opcode: int, encoding: int) -> bool:
    if encoding:
        return not (page == 1 and opcode == 0x77)
    if page == 0 and opcode < 0x40:
        if opcode & 7 >= 6:
            raise DecodeError(f"opcode {opcode:#x} does not exist in 64-bit mode")
        return opcode & 7 < 4
    return opcode not in _NO_MODRM.get(page, ())


def _immediate(page: int, opcode: int, reg: int, wide: bool, operand16: bool) -> int:
    full = 2 if operand16 else 4
    if page == 1:
        if 0x80 <= opcode < 0x90:
            return 4
        return int(opcode in (0x70, 0x71, 0x72, 0x73, 0xA4, 0xAC, 0xBA, 0xC2, 0xC4, 0xC5, 0xC6))
    if page == 3:
        return 1
    if page:
        return 0
    if opcode < 0x40:
        return {4: 1, 5: full}.get(opcode & 7, 0)
    if 0xB8 <= opcode < 0xC0:
        return 8 if wide else full
    if opcode in (0x68, 0x69, 0x81, 0xA9, 0xC7) or (opcode == 0xF7 and reg < 2):
        return full
    if opcode in (0xE8, 0xE9):
        return 4
    if opcode in (0xA0, 0xA1, 0xA2, 0xA3):
        return 8
    if opcode == 0xC2:
        return 2
    one = opcode in (0x6A, 0x6B, 0x80, 0x83, 0xA8, 0xC0, 0xC1, 0xC6, 0xCD, 0xEB) or 0x70 <= opcode < 0x80
    return int(one or 0xB0 <= opcode < 0xB8 or 0xE0 <= opcode < 0xE8 or (opcode == 0xF6 and reg < 2))


def _control(made: Instruction, page: int, opcode: int, encoding: int) -> None:
    if encoding:
        return
    relative = None
    if page == 0:
        if opcode == 0xE8:
            relative = Kind.CALL
        elif opcode in (0xE9, 0xEB):
            relative = Kind.JUMP
        elif 0x70 <= opcode < 0x80 or 0xE0 <= opcode < 0xE4:
            relative = Kind.BRANCH
        elif opcode in (0xC2, 0xC3):
            made.kind = Kind.RETURN
        elif opcode in (0xCC, 0xF4):
            made.kind = Kind.TRAP
        elif opcode == 0xFF:
            made.kind = {2: Kind.CALL_INDIRECT, 4: Kind.JUMP_INDIRECT}.get(made.reg & 7, Kind.PLAIN)
    elif page == 1:
        if 0x80 <= opcode < 0x90:
            relative = Kind.BRANCH
        elif opcode == 0x0B:
            made.kind = Kind.TRAP
    if relative is not None:
        made.kind, made.target = relative, made.end + made.immediate


def _writes(made: Instruction, page: int, opcode: int, encoding: int, rex: int, second: int) -> set:
    reg, rm = {made.reg}, {made.register} - {-1}
    low = {(opcode & 7) | (rex & 1) << 3}
    if made.kind in (Kind.CALL, Kind.CALL_INDIRECT):
        return set(CALL_CLOBBERS)
    if encoding:
        if (page, opcode) in ((1, 0x2C), (1, 0x2D), (1, 0x50), (1, 0x78), (1, 0x79), (1, 0x93), (1, 0xC5), (1, 0xD7), (2, 0xF2),
                              (2, 0xF5), (2, 0xF7), (3, 0xF0)):  # fmt: skip
            return reg
        if (page, opcode) in ((2, 0xF3), (2, 0xF6)):
            return {second} | reg
        if page == 3 and 0x60 <= opcode <= 0x63:
            return {RCX}
        return rm if (page, opcode) == (1, 0x7E) or (page == 3 and 0x14 <= opcode <= 0x17) else set()
    if page == 0:
        return _writes_one_byte(made, opcode, reg, rm, low)
    if page == 1:
        return _writes_two_bytes(made, opcode, reg, rm, low)
    if page == 2:
        return reg if opcode in (0xF0, 0xF1, 0xF6) else set()
    return {RCX} if 0x60 <= opcode <= 0x63 else rm if 0x14 <= opcode <= 0x17 else set()


def _writes_one_byte(made: Instruction, opcode: int, reg: set, rm: set, low: set) -> set:
    extension = made.reg & 7
    if opcode < 0x40:
        if opcode & 0x38 == 0x38:
            return set()
        return {0: rm, 1: rm, 2: reg, 3: reg}.get(opcode & 7, {RAX})
    if opcode < 0x58:
        return {RSP}
    if opcode < 0x60:
        return low | {RSP}
    if opcode in (0x63, 0x69, 0x6B, 0x8A, 0x8B, 0x8D):
        return reg
    if opcode in (0x80, 0x81, 0x83):
        return set() if extension == 7 else rm
    if opcode in (0x86, 0x87):
        return reg | rm
    if opcode in (0x88, 0x89, 0x8F, 0xC0, 0xC1, 0xC6, 0xC7, 0xD0, 0xD1, 0xD2, 0xD3):
        return rm
    if 0x90 <= opcode < 0x98:
        return low | {RAX}
    if opcode in (0x98, 0x99):
        return {RAX, RDX}
    if 0xA0 <= opcode < 0xA4:
        return {RAX}
    if 0xA4 <= opcode < 0xB0 and opcode not in (0xA8, 0xA9):
        return {RAX, RCX, RSI, RDI}
    if 0xB0 <= opcode < 0xC0:
        return low
    if opcode == 0xC9:
        return {RSP, RBP}
    if 0xE0 <= opcode < 0xE3:
        return {RCX}
    if opcode in (0xF6, 0xF7):
        return set() if extension < 2 else rm if extension < 4 else {RAX, RDX}
    if opcode in (0xFE, 0xFF):
        return rm if extension < 2 else set()
    return set()


_TO_REG = frozenset({0x02, 0x03, 0x2C, 0x2D, 0x50, 0xAF, 0xB6, 0xB7, 0xB8, 0xBC, 0xBD, 0xBE, 0xBF, 0xC5, 0xD7})
_TO_RM = frozenset({0x00, 0x01, 0x20, 0x21, 0x7E, 0xA4, 0xA5, 0xAB, 0xAC, 0xAD, 0xB3, 0xBA, 0xBB})


def _writes_two_bytes(made: Instruction, opcode: int, reg: set, rm: set, low: set) -> set:
    if opcode == 0x05:
        return {RAX, RCX, 11}
    if opcode in (0x31, 0x32, 0x33, 0xA2):
        return {RAX, RBX, RCX, RDX}
    if 0x40 <= opcode < 0x50 or opcode in _TO_REG:
        return reg
    if 0x90 <= opcode < 0xA0 or opcode in _TO_RM:
        return rm
    if opcode in (0xB0, 0xB1):
        return rm | {RAX}
    if opcode in (0xC0, 0xC1):
        return rm | reg
    if opcode == 0xC7:
        return rm | {RAX, RDX}
    if 0xC8 <= opcode < 0xD0:
        return low
    return set()
