"""check, certify, memory: what hftd claims about speed, shown on this host and on this code."""

import json
import sys
from pathlib import Path
from typing import Any

from hftd.cli.arguments import number
from hftd.cli.daemon import config_argument
from hftd.cli.instances import DEFAULT_CONFIG, name_argument
from hftd.cli.show import attach

COLOURS = {"PASS": "green", "WARN": "yellow", "FAIL": "bold red", "INFO": "dim"}


def add(commands) -> None:
    """Add the commands of this file."""
    parser = commands.add_parser("check", help="what keeps this host from being fast, and the commands that mend it")
    config_argument(parser)
    parser.add_argument("--json", action="store_true", help="every row with its figures, as JSON")
    parser.add_argument("--seconds", type=number(float, low=0, high=60), default=1.0, metavar="N",
                        help="spin test of each core (default 1; 0: none)")  # fmt: skip
    parser.set_defaults(run=check)
    parser = commands.add_parser("certify", help="show that every compiled loop is fit for the hot path")
    config_argument(parser)
    parser.add_argument("--json", action="store_true")
    parser.set_defaults(run=certify)
    parser = commands.add_parser("memory", help="the memory map of a configuration, or of a running daemon, role by role")
    config_argument(parser)
    name_argument(parser)
    parser.add_argument("--layouts", action="store_true", help="also every record's fields with their offsets")
    parser.add_argument("--json", action="store_true")
    parser.set_defaults(run=memory, config=None)


# ---------------------------------------------------------------- check


def check(options) -> int:
    """Look at the host; 1 where anything must be mended."""
    from hftd.cli.main import say
    from hftd.control.check import Row, failed
    from hftd.control.check import check as look
    from hftd.control.config import build, load

    missing = options.config == DEFAULT_CONFIG and not Path(options.config).exists()
    config = build({}, "no configuration") if missing else load(options.config)
    rows: list[Row] = look(config, options.seconds, measure=options.seconds > 0, progress=_progress)
    _progress("")
    if options.json:
        say(json.dumps({"config": config.path, "ok": not failed(rows), "rows": [row.as_dict() for row in rows]}))
    else:
        render_check(rows, config.path)
    return int(failed(rows))


def _progress(what: str) -> None:
    """Say what is being measured: in place on a terminal, else as a line; an empty text ends it."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{what}")
    elif what:
        sys.stderr.write(f"measuring {what}\n")
    sys.stderr.flush()


def render_check(rows: list, path: str) -> None:
    """Print the rows by area, and what to do about each that does not pass."""
    from rich.markup import escape

    from hftd.cli.tables import console

    area = ""
    for row in rows:
        if row.area != area:
            area = row.area
            console.print(f"[bold]{area}[/]")
        console.print(f"  [{COLOURS[row.state]}]{row.state}[/]  {escape(row.what)}: {escape(row.found)}", soft_wrap=True)
        if row.state in ("WARN", "FAIL"):
            if row.wanted:
                console.print(f"        wanted: {escape(row.wanted)}", soft_wrap=True)
            if row.remedy:
                console.print(f"        mend:   {escape(row.remedy)}", soft_wrap=True)
    counts = {state: sum(row.state == state for row in rows) for state in COLOURS}
    console.print(f"{path}: {counts['PASS']} pass, {counts['WARN']} warn, {counts['FAIL']} fail, {counts['INFO']} for information")


# ---------------------------------------------------------------- certify


def certify(options) -> int:
    """Judge the machine code of every kernel of a configuration; 1 where one is not fit."""
    from hftd.cli.main import complain, say
    from hftd.cli.tables import table
    from hftd.control.config import load
    from hftd.control.warm import compile_all, kernels
    from hftd.core.jit import INTERPRETED
    from hftd.errors import HftdError
    from hftd.strategy.params import StrategyError

    if INTERPRETED:
        raise HftdError("there is no machine code to certify with NUMBA_DISABLE_JIT=1; unset it")
    wanted = kernels(load(options.config))
    try:
        compile_all(wanted, "loading")
    except StrategyError as error:                    # what the compiler refuses is not fit: the verdict, and no wrong use of ours
        complain(str(error))
        return 1
    made = [(kernel.name, judged(kernel)) for kernel in wanted]
    bad = [(name, finding) for kernel, (name, certificate) in zip(wanted, made) for finding in said_of(kernel, certificate)]
    if options.json:
        say(json.dumps([as_dict(name, certificate) for name, certificate in made]))
        return int(bool(bad))
    table(
        "certificate",
        ("kernel", "verdict", "code", "stack", "instr.", "acquire", "release", "fences", "sha-256"),
        [
            (name, "ok" if one.ok else "NOT FIT", one.code_bytes, one.stack_bytes, one.instructions,
             *(sum(count for what, count in one.atomics if what.startswith(kind)) for kind in ("acquire", "release", "fence")),
             one.digest[:12])
            for name, one in made
        ],
        left=2,
    )
    for name, one in made:
        say(f"{name} calls {', '.join(one.calls) or 'nothing'}")
    for name, finding in bad:
        complain(f"{name}: {finding}")
    if not bad:
        say(f"\n{len(made)} kernels: no allocation, no CPython, no reference count, no stranger, no pointer, no endless loop,")
        say("no shared word that is read or written otherwise than it must be")
    return int(bool(bad))


def judged(kernel) -> Any:
    """Return the certificate of one of control/warm.py's kernels, as it is in the cache; a strategy may call the math library."""
    from hftd.core.certify import certify
    from hftd.strategy.check import certified

    made = kernel.make()
    judge = certified if hasattr(made, "program") or kernel.name.startswith("fused ") else certify
    return judge(getattr(made, "dispatcher", made), tuple(kernel.signature), needs=kernel.needs)


def said_of(kernel, certificate) -> list[str]:
    """Return a certificate's findings as lines; those of a loop with a strategy in it speak of the strategy's file."""
    from hftd.strategy.check import judged as of_strategy

    program = getattr(kernel.make(), "program", None)
    if program is None or certificate.ok:
        return [str(finding) for finding in certificate.forbidden]
    return of_strategy(program, certificate)


def as_dict(name: str, certificate) -> dict[str, Any]:
    """Return a certificate for JSON."""
    return {
        "kernel": name, "function": certificate.name, "ok": certificate.ok, "calls": list(certificate.calls),
        "findings": [{"kind": one.kind, "what": one.what, "where": one.where} for one in certificate.forbidden],
        "code_bytes": certificate.code_bytes, "stack_bytes": certificate.stack_bytes, "functions": certificate.functions,
        "instructions": certificate.instructions, "atomics": dict(certificate.atomics), "sha256": certificate.digest,
    }  # fmt: skip


# ---------------------------------------------------------------- memory


def memory(options) -> int:
    """Print the memory map: of `-c FILE`, or of the running daemon."""
    from hftd.cli.main import say
    from hftd.control import memorymap
    from hftd.control.config import load

    running = None
    if options.config:
        config = load(options.config)
    else:
        config, running = attach(options)
    found = memorymap.rooms(config)
    roles = memorymap.by_role(config, found)
    kinds = _running(config, running, roles) if running is not None else {}
    own = memorymap.private(config, running["control"]) if running is not None else {}
    if options.json:
        say(json.dumps({
            "name": config.daemon.name,
            "running": running is not None,
            "shared_bytes": sum(room.size for room in found),
            "roles": [{**row, "private": own[row["role"]]} if row["role"] in own else row for row in roles],
            "segments": [{**room.as_dict(options.layouts), **({"pages": kinds[room.name]} if kinds else {})} for room in found],
        }))  # fmt: skip
        return 0
    render_memory(config, found, roles, kinds)
    render_private(own)
    if options.layouts:
        for text in memorymap.layouts(found):
            say()
            say(text)
    return 0


def _running(config, running, roles: list[dict[str, Any]]) -> dict[str, str]:
    """Add what the kernel knows of each process to `roles`; return the pages of each segment, as its writer has them."""
    from hftd.control import memorymap
    from hftd.shm import map as shared

    marks = running["control"]["marks"]
    pids = {name: int(marks[shared.mark_of(role, index)]["pid"]) for role, index, name in shared.agents(config)}
    pids["supervisor"] = int(running["control"].header["owner_pid"][0])
    seen = {pid: memorymap.mapped(pid, config.daemon.name) for pid in set(pids.values()) if pid}
    for row in roles:
        row["pid"] = pids[row["role"]]
        row["memory"] = memorymap.totals(row["pid"]) if row["pid"] else None
        row["nodes"] = memorymap.nodes(row["pid"]) if row["pid"] else {}
    made = {one["name"]: one for one in memorymap.held(running["control"], 0)}
    kinds = {}
    for name in running.names():
        holders = [pids[row["role"]] for row in roles if name in row["writes"]] or [pids["supervisor"]]
        kinds[name] = memorymap.pages(seen.get(holders[0], {}).get(name)) + f", node {made[name]['node']}"
    return kinds


def render_memory(config, found: list, roles: list[dict[str, Any]], kinds: dict[str, str]) -> None:
    """Print roles, segments and parts."""
    from hftd.cli.tables import console, table

    if kinds:
        keys = ("rss", "pss", "uss", "huge", "locked", "swap")
        apart = len({node for row in roles for node in row["nodes"]}) > 1
        rows = []
        for row in roles:
            facts = row["memory"]
            shown = ["not readable"] + [""] * (len(keys) - 1) if facts is None else [_kib(facts[key]) for key in keys]
            where = [", ".join(f"{node}: {_kib(size)}" for node, size in sorted(row["nodes"].items())) or "-"] if apart else []
            rows.append((row["role"], str(row["pid"] or "-"), ", ".join(row["writes"]), *shown, *where))
        columns = ("role", "pid", "writes", *keys, *(["by node"] if apart else []))
        table(f"{config.daemon.name}: processes", columns, rows, left=3)
    else:
        table(f"{config.daemon.name}: roles", ("role", "writes", "reads", "writes bytes", "reads bytes"), [
            (row["role"], ", ".join(row["writes"]) or "-", ", ".join(row["reads"]) or "-",
             _kib(row["write_bytes"]), _kib(row["read_bytes"]))
            for row in roles
        ], left=3)  # fmt: skip
    for room in found:
        facts = f"{_kib(room.size)}, " + (f"pages {kinds[room.name]}, " if kinds else "")
        readers = ", ".join(room.readers) or "the command line"
        console.print(f"[bold]{room.name}[/] {facts}written by {', '.join(room.writers)}, read by {readers}", soft_wrap=True)
        rows = [(place.name, place.offset, place.bytes, place.count, place.dtype.itemsize) for place in room.places]
        table("", ("  part", "offset", "bytes", "records", "of bytes"), [(f"  {row[0]}", *row[1:]) for row in rows])
    total = sum(room.size for room in found)
    table("", ("in all", "shared memory"), [(f"{len(found)} segments", _kib(total))])


def render_private(own: dict[str, list[dict[str, Any]]]) -> None:
    """Print each role's named blocks: their size, the pages they got and the node these lie on."""
    from hftd.cli.tables import table

    rows = [(role, one["name"], _kib(one["bytes"]), one["count"], one["pages"], _kib(one["large"]), one["node"])
            for role, blocks in own.items() for one in blocks]  # fmt: skip
    if rows:
        table("private memory", ("role", "block", "bytes", "records", "pages got", "on 2 MiB pages", "node"), rows, left=2)


def _kib(count: int) -> str:
    return f"{count / 1024:,.0f} KiB" if count < 10 << 20 else f"{count / (1 << 20):,.1f} MiB"
