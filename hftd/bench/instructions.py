"""`hftd bench instructions`: how many instructions each component takes, exactly, beside the table that is kept in the tree.

A time differs from run to run and from host to host; a count does not, so it can be held to 3 per cent anywhere. Callgrind counts
(`counted.py` is what runs under it) with the compiler's target pinned to TARGET, since code for another processor is other code;
compiler and Python are noted in the table, and a table of others is not compared with. Beside each count stand the kernels' places
that call: a loop that gains a call or an allocation shows it there.

    hftd bench instructions            count, compare with instructions.toml; exit code 1 where one grew by more than 3 per cent, 3
                                       where the table is another compiler's, so that nothing was compared
    hftd bench instructions --write    count, and write the table: on purpose, with the reason in the commit
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import llvmlite
import numba
import tomli

from hftd.bench.registry import BenchError

TABLE = Path(__file__).with_name("instructions.toml")
TARGET = {"NUMBA_CPU_NAME": "x86-64-v3", "NUMBA_CPU_FEATURES": ""}
GROWTH = 0.03

HEAD = """\
# Instructions of each component, per operation, and the places in its kernel that call a function.
# Counted by callgrind; written by `hftd bench instructions --write`. A test fails where one grows by more than 3 per cent.
"""


@dataclass(frozen=True)
class Count:
    """What one run counted. instructions: per operation; calls: places that call, per kernel; made_with: compiler and target."""

    instructions: dict[str, float]
    calls: dict[str, int]
    made_with: dict[str, str]


def toolchain() -> dict[str, str]:
    """Return what machine code depends on beside the sources."""
    return {
        "target": TARGET["NUMBA_CPU_NAME"],
        "python": ".".join(map(str, sys.version_info[:2])),
        "numba": numba.__version__,
        "llvmlite": llvmlite.__version__,
    }


def valgrind() -> str:
    """Return the path of valgrind. Raises BenchError where it is missing."""
    found = shutil.which("valgrind")
    if not found:
        raise BenchError("instructions are counted by valgrind, which is missing; on Debian: apt-get install valgrind")
    return found


def count(progress: Callable[[str], None] = lambda text: None) -> Count:
    """Compile, run and count. Raises BenchError where a component's result is wrong or valgrind cannot run."""
    checker = valgrind()
    command = [sys.executable, "-m", "hftd.bench.counted"]
    with tempfile.TemporaryDirectory(prefix="hftd-bench-") as directory:
        environment = {**os.environ, **TARGET, "PYTHONPATH": str(Path(__file__).resolve().parents[2]), "TMPDIR": directory}
        progress(f"compiling for {TARGET['NUMBA_CPU_NAME']}, and running once without valgrind")
        said = json.loads(_run(command, environment))
        progress("counting")
        _run([checker, "--tool=callgrind", "--instr-atstart=no", "--collect-atstart=no",
              f"--callgrind-out-file={directory}/out", *command], environment)  # fmt: skip
        totals = dict(_dump(path) for path in Path(directory).glob("out.*"))
    if not totals:
        raise BenchError("valgrind counted nothing: its requests were not seen")
    times, empty = said["times"], totals["empty"] / said["times"]["empty"]
    made = {}
    for name, total in sorted(totals.items()):
        bracket = empty if times[name] == times["empty"] else 0.0  # a stage is bracketed at each turn, a leaf once around its loop
        made[name] = round(total / times[name] - bracket, 1)
    del made["empty"]
    return Count(made, said["calls"], toolchain())


def _run(command: list[str], environment: dict[str, str]) -> str:
    child = subprocess.run(command, env=environment, capture_output=True, text=True)
    if child.returncode:
        said = child.stderr.strip() or child.stdout.strip()
        raise BenchError(f"{' '.join(command)} ended with {child.returncode}: {said[-2000:]}")
    return child.stdout.strip().splitlines()[-1]


def _dump(path: Path) -> tuple[str, int]:
    """The name and the instructions of one of callgrind's files."""
    text = path.read_text()
    name = re.search(r"^desc: Trigger: Client Request: (.*)$", text, re.M)
    total = re.search(r"^totals: (\d+)$", text, re.M)
    if not name or not total:
        raise BenchError(f"{path.name} of callgrind holds no total: {text[:300]!r}")
    return name[1], int(total[1])


def load(path: Path = TABLE) -> Count:
    """Return the table that is kept. Raises BenchError where it cannot be read."""
    try:
        data = tomli.loads(path.read_text())
        return Count(data["instructions"], data["calls"], data["made_with"])
    except (OSError, KeyError, tomli.TOMLDecodeError) as error:
        raise BenchError(f"{path}: {error}; write it anew: hftd bench instructions --write") from None


def save(made: Count, path: Path = TABLE) -> None:
    """Write the table."""
    lines = [HEAD]
    for title, rows in (("made_with", made.made_with), ("instructions", made.instructions), ("calls", made.calls)):
        lines += [f"[{title}]", *(f"{json.dumps(key)} = {json.dumps(value)}" for key, value in rows.items()), ""]
    path.write_text("\n".join(lines))


def regressions(kept: Count, made: Count) -> list[str]:
    """Return a sentence for each component that grew by more than GROWTH, gained a call, or is in one of the two only."""
    found = []
    for name in sorted({*kept.instructions, *made.instructions}):
        was, now = kept.instructions.get(name), made.instructions.get(name)
        if was is None or now is None:
            found.append(f"{name}: {'is not in the table' if was is None else 'was not counted'}")
        elif now > was * (1 + GROWTH):
            found.append(f"{name}: {was:g} instructions became {now:g}, {now / was - 1:+.1%}")
    for name in sorted({*kept.calls, *made.calls}):
        was, now = kept.calls.get(name), made.calls.get(name)
        if was is None or now is None:
            found.append(f"{name}: {'its calls are not in the table' if was is None else 'was not certified'}")
        elif now > was:
            found.append(f"{name}: {was} places that call became {now}")
    return found


def other_toolchain(kept: Count) -> str:
    """Return why the table cannot be compared with here; "" where it can."""
    here = toolchain()
    other = [key for key in here if kept.made_with.get(key) != here[key]]
    return ", ".join(f"{key} {kept.made_with.get(key, '?')} there, {here[key]} here" for key in other)
