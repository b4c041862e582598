"""The certificate of a kernel: its machine code allocates nothing, counts no references, calls no CPython, waits on no stale word.

What is judged is the code that runs: the ELF object Numba linked, whether it was compiled a moment ago or came from the sealed
cache. The object also holds the wrapper for Python and the C callback; only the native entry and what it reaches is looked at.

    object -> symbols, relocations -> every instruction from the entry on (x86.py) -> calls, references, loops

A finding is one of
    calls          a function that is not on the list: the C library's few below, and code that was compiled into the same object
    indirect       a call or jump through a pointer that is not one of those names
    references     a name of CPython's or of Numba's run time, called or not
    raises         an exception that can leave the loop, with the source line it was raised on
    endless        a loop without a way out: what is left of a spin on a plain load that the compiler hoisted
    recursion      a function that calls itself, directly or not: nothing bounds the stack
    order          an access to a shared word that is not the load or store it must be, or one that must be there and is not
    unreadable     bytes that are not an instruction this module knows

On x86 acquire and release are plain moves, so the code alone does not tell them: core/atomics.py has LLVM write the address of each
into the object, by ordering and field, and what lies there is looked at. `atomics` counts them, and full fences, which are
instructions of their own.

Jump tables count as ways inside their function. The digest is over the code bytes and the names they refer to, not over
addresses, so the same kernel has the same digest in every process. Turned down: reading LLVM's text (it is gone for a kernel
that came from the cache), counting forbidden names in the whole object (the wrapper is full of them).
"""

import contextlib
import hashlib
import pickletools
import re
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, replace

from numba import njit

from hftd.core.atomics import MARK
from hftd.core.elf import Object, Relocation, Symbol
from hftd.core.jit import INTERPRETED
from hftd.core.x86 import RBP, RSP, DecodeError, Instruction, Kind, decode

ALLOWED = frozenset({
    "recv", "recvmmsg", "send", "sendto", "sendmmsg", "poll", "nanosleep", "sched_yield", "clock_gettime", "__errno_location",
    "memcpy", "memmove", "memset", "memcmp",
})  # fmt: skip
"""C functions that hot code may call: system calls by name, and what LLVM calls for copies."""

FORBIDDEN = re.compile(r"^(NRT_|_?Py[A-Z_]|numba_|_numba|nrt_)")


@dataclass(frozen=True)
class Finding:
    """One thing that hot code must not do. `where` is a source line, or the place in the function."""

    kind: str
    what: str
    where: str

    def __str__(self) -> str:
        return f"{self.kind} {self.what} ({self.where})"


@dataclass(frozen=True)
class Certificate:
    """What was found in one compiled kernel."""

    name: str
    calls: tuple[str, ...]  # outside functions it may call, sorted
    forbidden: tuple[Finding, ...]
    code_bytes: int  # of the entry and of what it reaches in the object
    stack_bytes: int  # deepest chain of frames, return addresses included
    digest: str  # SHA-256 of the code and of the names it refers to
    functions: int  # how many were judged
    instructions: int
    sites: int  # places in that code which call a function, C's or one of its own
    atomics: tuple[tuple[str, int], ...] = ()  # `acquire tail`, `release head`, `fence full`, …: how often each stands in the code

    @property
    def ok(self) -> bool:
        """True where nothing forbidden was found."""
        return not self.forbidden

    def __str__(self) -> str:
        verdict = "ok" if self.ok else "; ".join(map(str, self.forbidden))
        calls = ", ".join(self.calls) or "nothing"
        return f"{self.name}: {self.code_bytes} bytes, stack {self.stack_bytes}, calls {calls}: {verdict}"


def certify(dispatcher, signature=None, allowed: Iterable[str] = ALLOWED, lines: bool = True,
            needs: Iterable[str] = ()) -> Certificate:  # fmt: skip
    """Judge one compiled kernel. signature: as in `dispatcher.signatures`, compiled (or loaded) if need be; None: the only one.

    needs: accesses that must be among `atomics` (`release tail`): a ring that is published, a cursor that is given free.
    With `lines`, a finding is traced to its source line, at the price of a second compilation where there is one to trace.
    Raises ValueError where there is nothing to judge.
    """
    if INTERPRETED or not hasattr(dispatcher, "overloads"):
        raise ValueError("there is no machine code to certify: the compiler is off")
    if signature is None:
        if len(dispatcher.signatures) != 1:
            raise ValueError(f"{dispatcher.__qualname__} has {len(dispatcher.signatures)} compiled signatures; name one")
        signature = dispatcher.signatures[0]
    dispatcher.compile(signature)
    result = dispatcher.overloads[tuple(getattr(signature, "args", signature))]
    name = f"{dispatcher.py_func.__module__}.{dispatcher.py_func.__qualname__}"
    made = judge(_image(dispatcher, result), result.fndesc.llvm_func_name, name, frozenset(allowed))
    made = _with_needs(made, needs, dispatcher.py_func.__code__)
    if made.forbidden and lines:
        made = _with_lines(made, dispatcher, signature)
    return made


def _image(dispatcher, result) -> bytes:
    """The object code of a compiled kernel; Numba lets go of it once a cached one is linked, so then it comes from the file."""
    with contextlib.suppress(RuntimeError, ValueError):
        return result.library._get_compiled_object()
    image = getattr(dispatcher._cache, "image", lambda *_: None)(result.signature.args, result.library.codegen)
    if image is None:
        raise ValueError(f"{dispatcher.py_func.__qualname__}: the object code is gone; clear the cache and compile anew")
    return image


def judge(image: bytes, entry: str, name: str, allowed: frozenset = ALLOWED) -> Certificate:
    """Judge the function `entry` of an ELF object, and what it reaches there."""
    return _Judge(Object(image), allowed).run(entry, name)


def _with_needs(made: Certificate, needs: Iterable[str], code) -> Certificate:
    """The certificate, with a finding for each access that is not there."""
    where = f"{code.co_filename}:{code.co_firstlineno}"
    found = dict(made.atomics)
    lacking = [need for need in needs if not found.get(need)]
    said = tuple(Finding("order", f"lacks {need}: others would see it late, or never", where) for need in lacking)
    return replace(made, forbidden=(*made.forbidden, *said))


# ---------------------------------------------------------------- judging

LOADS = frozenset({
    0x03, 0x0B, 0x13, 0x1B, 0x23, 0x2B, 0x33, 0x38, 0x39, 0x3A, 0x3B, 0x63, 0x80, 0x81, 0x83, 0x84, 0x85, 0x8A, 0x8B, 0xF6, 0xF7,
    0xFF, 0x1AF, 0x1B6, 0x1B7, 0x1BE, 0x1BF,
})  # fmt: skip
"""Opcodes that read a word in one access: moves, and what the compiler may fold a load into."""

STORES = frozenset({
    0x00, 0x01, 0x08, 0x09, 0x20, 0x21, 0x28, 0x29, 0x30, 0x31, 0x80, 0x81, 0x83, 0x86, 0x87, 0x88, 0x89, 0xC6, 0xC7, 0xFE, 0xFF,
})  # fmt: skip
"""Opcodes that write a word in one access."""


def _sound(ordering: str, made: Instruction, code: bytes) -> bool:
    """Whether an instruction is what an access of this ordering must be."""
    if made.memory is None:
        return False
    if ordering == "interlocked":
        return 0xF0 in code[made.at : made.at + 3] or made.opcode in (0x86, 0x87)
    return made.opcode in (LOADS if ordering in ("acquire", "load") else STORES)


def _is_fence(made: Instruction, code: bytes) -> bool:
    """Whether an instruction is a full fence: mfence, or an interlocked no-op on the stack."""
    if made.opcode == 0x1AE:
        return code[made.at : made.end] == b"\x0f\xae\xf0"
    return code[made.at] == 0xF0 and made.memory is not None and made.memory[0] == RSP


class _Function:
    """One function's instructions and the edges between them."""

    def __init__(self, image: Object, symbol: Symbol):
        self.symbol, self.image = symbol, image
        self.code = image.content(symbol.section)
        end = symbol.value + symbol.size
        self.relocations = [row for row in image.relocations.get(symbol.section, ()) if symbol.value <= row.at < end]
        self.instructions: dict[int, Instruction] = {}
        at = symbol.value
        while at < end:
            made = decode(self.code, at)
            self.instructions[at] = made
            at = made.end
        self.table = sorted(self._table_targets())
        self.reached: set[int] = set()
        self.before: dict[int, list[int]] = {at: [] for at in self.instructions}
        waiting = [symbol.value]
        while waiting:
            at = waiting.pop()
            if at in self.reached or at not in self.instructions:
                continue
            self.reached.add(at)
            for follower in self.after(self.instructions[at]):
                if follower in self.instructions:
                    self.before[follower].append(at)
                    waiting.append(follower)

    def relocation(self, instruction: Instruction) -> Relocation | None:
        """The relocation inside an instruction."""
        for row in self.relocations:
            if instruction.at <= row.at < instruction.end:
                return row
        return None

    def stays(self, made: Instruction) -> bool:
        """Whether a relative jump stays in this function."""
        return self.relocation(made) is None and self.inside(made.target)

    def inside(self, offset: int) -> bool:
        """Whether an offset belongs to this function."""
        return self.symbol.value <= offset < self.symbol.value + self.symbol.size

    def after(self, instruction: Instruction) -> list[int]:
        """Where control may go within this function."""
        kind = instruction.kind
        if kind in (Kind.RETURN, Kind.TRAP):
            return []
        if kind is Kind.JUMP:
            return [instruction.target] if self.stays(instruction) else []
        if kind is Kind.BRANCH:
            return [instruction.end, *([instruction.target] if self.stays(instruction) else [])]
        if kind is Kind.JUMP_INDIRECT:
            return self.table
        return [instruction.end]

    def _table_targets(self) -> set[int]:
        """Places in this function that data points to: the entries of its jump tables."""
        found = set()
        for section, rows in self.image.relocations.items():
            if self.image.is_code(section) or self.image.section_name(section).startswith((".eh_frame", MARK)):
                continue
            run = -1
            for index, row in enumerate(rows):
                if row.symbol.section != self.symbol.section:
                    continue
                target = row.symbol.value + row.addend
                if row.kind == 2:  # relative to the table's start, which is where the run of entries starts
                    if index == 0 or rows[index - 1].at + 4 != row.at or rows[index - 1].kind != 2:
                        run = row.at
                    target -= row.at - run
                if self.inside(target) and target in self.instructions and target != self.symbol.value:
                    found.add(target)
        return found

    def endless(self) -> list[int]:
        """First instructions of loops that nothing leaves."""
        after = {at: [to for to in self.after(self.instructions[at]) if to in self.reached] for at in self.reached}
        leaves = {
            at for at in self.reached
            if self.instructions[at].kind in (Kind.RETURN, Kind.TRAP)
            or (self.instructions[at].kind in (Kind.JUMP, Kind.JUMP_INDIRECT) and not after[at])
            or (self.instructions[at].kind is Kind.BRANCH and not self.stays(self.instructions[at]))
        }  # fmt: skip
        ends, waiting = set(leaves), list(leaves)
        while waiting:
            for source in self.before[waiting.pop()]:
                if source in self.reached and source not in ends:
                    ends.add(source)
                    waiting.append(source)
        stuck = sorted(self.reached - ends)
        return [at for at in stuck if any(source in stuck and source >= at for source in self.before[at])][:1]

    def frame(self) -> int:
        """Bytes of stack from the return address down."""
        total = 8
        for at in sorted(self.instructions):
            made = self.instructions[at]
            if made.opcode < 0x60 and 0x50 <= made.opcode < 0x58:
                total += 8
            elif made.opcode in (0x81, 0x83) and made.register == RSP and made.reg & 7 == 5:
                return total + made.immediate
            elif made.kind is not Kind.PLAIN:
                break
        return total


class _Judge:
    def __init__(self, image: Object, allowed: frozenset):
        self.image, self.allowed = image, allowed
        self.findings: list[Finding] = []
        self.calls: set[str] = set()
        self.sites = 0
        self.functions: dict[str, _Function] = {}
        self.edges: dict[str, set[str]] = {}
        self.depths: dict[str, int] = {}
        self.atomics: dict[str, int] = {}
        self.marked = self._marked()

    def _marked(self) -> list[tuple[int, int, str, str]]:
        """Every access that the object has written down: section and offset of its instruction, ordering, field."""
        found = []
        for section, rows in self.image.relocations.items():
            name = self.image.section_name(section)
            if name.startswith(MARK):
                _, ordering, field = name.split(".", 2)
                found += [(row.symbol.section, row.symbol.value + row.addend, ordering, field) for row in rows]
        return found

    def _orders(self, function: _Function, symbol: str) -> None:
        """Hold a function's shared accesses to what they claim to be, and count them and its fences."""
        for section, at, ordering, field in self.marked:
            if section != function.symbol.section or not function.inside(at):
                continue
            made = function.instructions.get(at)
            if made is None or not _sound(ordering, made, function.code):
                self._note("order", f"{ordering} {field} is no such access", symbol, at)
            elif at in function.reached:
                self._count(f"{ordering} {field}")
        for at in function.reached:
            if _is_fence(function.instructions[at], function.code):
                self._count("fence full")

    def _count(self, what: str) -> None:
        self.atomics[what] = self.atomics.get(what, 0) + 1

    def run(self, entry: str, name: str) -> Certificate:
        if entry not in self.image.defined:
            raise ValueError(f"{name}: the object does not hold {entry}")
        waiting, digest = [entry], hashlib.sha256()
        while waiting:
            symbol = waiting.pop(0)
            if symbol in self.functions or symbol in self.edges:
                continue
            self.edges[symbol] = set()
            try:
                function = _Function(self.image, self.image.defined[symbol])
            except DecodeError as error:
                self._note("unreadable", str(error), symbol, 0)
                continue
            self.functions[symbol] = function
            for at in sorted(function.reached):
                self._look(function, function.instructions[at], symbol)
            self._orders(function, symbol)
            for at in function.endless():
                self._note("endless", "loop without a way out (a plain load in its condition?)", symbol, at)
            waiting.extend(sorted(self.edges[symbol]))
            code = function.code[function.symbol.value : function.symbol.value + function.symbol.size]
            digest.update(code)
            for row in function.relocations:
                digest.update(f"{row.at - function.symbol.value}:{_stable(self._target(row)[0])};".encode())
        stack_bytes = self._depth(entry)
        return Certificate(
            name=name,
            calls=tuple(sorted(self.calls)),
            forbidden=tuple(dict.fromkeys(self.findings)),
            code_bytes=sum(function.symbol.size for function in self.functions.values()),
            stack_bytes=stack_bytes,
            digest=digest.hexdigest(),
            functions=len(self.functions),
            instructions=sum(len(function.reached) for function in self.functions.values()),
            sites=self.sites,
            atomics=tuple(sorted(self.atomics.items())),
        )

    def _depth(self, symbol: str, above: tuple[str, ...] = ()) -> int:
        """Bytes of the deepest chain of frames from a function down; of what calls itself, of one round."""
        if symbol not in self.functions:
            return 0
        if symbol in above:
            self._note("recursion", "a function calls itself: nothing bounds the stack", symbol, 0)
            return 0
        if symbol not in self.depths:
            below = max((self._depth(to, (*above, symbol)) for to in sorted(self.edges[symbol])), default=0)
            self.depths[symbol] = self.functions[symbol].frame() + below
        return self.depths[symbol]

    def _note(self, kind: str, what: str, symbol: str, at: int, where: str = "") -> None:
        start = self.image.defined[symbol].value if symbol in self.image.defined else 0
        self.findings.append(Finding(kind, what, where or f"{_readable(symbol)}+{max(at - start, 0):#x}"))

    def _target(self, row: Relocation) -> tuple[str, Symbol | None]:
        """The name a relocation refers to, and its symbol where it is defined here."""
        if row.symbol.name:
            return row.symbol.name, row.symbol if row.symbol.section else None
        offset = row.symbol.value + row.addend + (4 if row.kind in (2, 4) else 0)
        name = self.image.name_at(row.symbol.section, offset)
        return name or f"section {row.symbol.section}", self.image.defined.get(name)

    def _look(self, function: _Function, made: Instruction, symbol: str) -> None:
        row = function.relocation(made)
        if row is not None and made.kind is Kind.PLAIN:
            self._refer(*self._target(row), symbol, made.at)
        if made.kind is Kind.CALL or (made.kind in (Kind.JUMP, Kind.BRANCH) and not function.stays(made)):
            if row is not None:
                self._call(*self._target(row), symbol, made.at)
            else:
                name = self.image.name_at(function.symbol.section, made.target)
                self._call(name or f"code at {made.target:#x}", self.image.defined.get(name), symbol, made.at)
        elif made.kind in (Kind.CALL_INDIRECT, Kind.JUMP_INDIRECT):
            self._indirect(function, made, symbol, row)

    def _refer(self, name: str, defined: Symbol | None, symbol: str, at: int) -> None:
        if defined is None and FORBIDDEN.match(name):
            self._note("references", name, symbol, at)
        elif name.startswith(".const.pickle"):
            self._note("raises", "an exception", symbol, at, _raised(self.image, name))

    def _call(self, name: str, defined: Symbol | None, symbol: str, at: int) -> None:
        self.sites += 1
        if defined is not None and self.image.is_code(defined.section):
            self.edges[symbol].add(name)
        elif name in self.allowed:
            self.calls.add(name)
        else:
            self._note("calls", name, symbol, at)

    def _indirect(self, function: _Function, made: Instruction, symbol: str, row: Relocation | None) -> None:
        if made.kind is Kind.JUMP_INDIRECT and function.table and made.register < 0:
            return
        names: dict | None
        if row is not None and made.register < 0:
            names = {self._target(row)[0]: self._target(row)[1]}
        elif made.register >= 0:
            names = self._values(function, made.at, made.register)
        else:
            names = self._slot(function, made.memory)
        if names is None and made.kind is Kind.JUMP_INDIRECT and function.table:
            return
        if not names:
            self._note("indirect", "a call through a pointer", symbol, made.at)
            return
        for name, defined in names.items():
            self._call(name, defined, symbol, made.at)

    def _values(self, function: _Function, at: int, register: int, seen: set | None = None) -> dict | None:
        """The names a register may hold at an instruction; None where it may hold anything else."""
        seen = set() if seen is None else seen
        found: dict = {}
        waiting = [(source, register) for source in function.before[at]]
        if at == function.symbol.value:
            return None
        while waiting:
            place, wanted = waiting.pop()
            if (place, wanted) in seen:
                continue
            seen.add((place, wanted))
            made = function.instructions[place]
            if wanted not in made.writes:
                if place == function.symbol.value:
                    return None  # an argument
                waiting.extend((source, wanted) for source in function.before[place])
                continue
            row = function.relocation(made)
            if row is not None and (0xB8 <= made.opcode < 0xC0 or made.opcode in (0x8D, 0x8B)):
                name, defined = self._target(row)
                found[name] = defined
            elif made.opcode == 0x8B and made.register >= 0:
                waiting.extend((source, made.register) for source in function.before[place])
            elif made.opcode == 0x89 and made.register == wanted:
                waiting.extend((source, made.reg) for source in function.before[place])
            elif made.opcode == 0x8B and made.memory is not None:
                spilled = self._slot(function, made.memory, seen)
                if spilled is None:
                    return None
                found.update(spilled)
            else:
                return None
        return found

    def _slot(self, function: _Function, memory: tuple | None, seen: set | None = None) -> dict | None:
        """The names that lie in a stack slot: those of every register that is stored to it."""
        if memory is None or memory[0] not in (RSP, RBP):
            return None
        seen = set() if seen is None else seen
        found: dict = {}
        for at in function.reached:
            made = function.instructions[at]
            if made.memory == memory and made.opcode in (0x88, 0x89, 0xC7):
                inner = self._values(function, at, made.reg, seen) if made.opcode == 0x89 else None
                if inner is None:
                    return None
                found.update(inner)
        return found or None


def _stable(name: str) -> str:
    """A name without the addresses Numba puts into some."""
    return re.sub(r"\d{6,}", "#", name)


def _readable(symbol: str) -> str:
    """The Python names in a symbol that Numba mangled."""
    names, rest = [], symbol.removeprefix("_ZN")
    while (length := re.match(r"\d+", rest)) and rest != symbol:
        start = length.end()
        names.append(rest[start : start + int(length.group())])
        rest = rest[start + int(length.group()) :]
    return ".".join(names) or symbol


def _raised(image: Object, name: str) -> str:
    """Where the exception described by a pickle in the object was raised, `file:line`; else its words, if it has any."""
    symbol = image.defined.get(name.replace(".const.picklebuf.", ".const.pickledata."))
    if symbol is None:
        return name
    content = image.content(symbol.section)[symbol.value : symbol.value + symbol.size]
    file, line, words = "", 0, ""
    try:
        for operation, argument, _ in pickletools.genops(content):
            if isinstance(argument, str) and argument.endswith(".py"):
                file = argument
            elif file and not line and isinstance(argument, int) and "INT" in operation.name:
                line = argument
            elif isinstance(argument, str) and " " in argument:
                words = words or argument.split("\n")[0]
    except ValueError:
        return name
    return f"{file}:{line}" if file else words or name


# ---------------------------------------------------------------- source lines


def _with_lines(made: Certificate, dispatcher, signature) -> Certificate:
    """The same findings, with the source lines that LLVM's debug information gives for the names."""
    lines = _debug_lines(dispatcher, signature)
    found = []
    for finding in made.forbidden:
        places = sorted(lines.get(finding.what, ()))
        found.append(replace(finding, where=", ".join(places)) if places and finding.kind in ("calls", "references") else finding)
    return replace(made, forbidden=tuple(dict.fromkeys(found)))


def _debug_lines(dispatcher, signature) -> dict[str, set[str]]:
    """Called name -> source lines, from a second compilation with debug information."""
    options = {key: value for key, value in dispatcher.targetoptions.items() if key in ("error_model", "forceinline", "fastmath")}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        twin = njit(dispatcher.py_func, debug=True, **options)
        twin.compile(signature)
        text = next(iter(twin.inspect_llvm().values()))
    nodes = dict(re.findall(r"^(!\d+) = (?:distinct )?(!\w+\(.*\))$", text, re.M))

    def file_of(node: str) -> str:
        for _ in range(20):
            facts = nodes.get(node, "")
            file = re.search(r"file: (!\d+)", facts)
            if file:
                named = re.search(r'filename: "([^"]*)"', nodes.get(file.group(1), ""))
                return named.group(1) if named else "?"
            scope = re.search(r"scope: (!\d+)", facts)
            if not scope:
                break
            node = scope.group(1)
        return "?"

    found: dict[str, set[str]] = {}
    for name, node in re.findall(r'(?:call|invoke)[^\n]*?@"?([\w.$]+)"?\([^\n]*?!dbg (!\d+)', text):
        place = re.search(r"line: (\d+).*scope: (!\d+)", nodes.get(node, ""))
        if place:
            found.setdefault(name, set()).add(f"{file_of(place.group(2))}:{place.group(1)}")
    return found
