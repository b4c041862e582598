"""journal: whether journals are as they were written."""

import json
import time
from typing import Any


def add(commands) -> None:
    """Add the command of this file."""
    parser = commands.add_parser("journal", help="check that journals are as they were written, to the bit and the file")
    parser.add_argument("place", nargs="+", metavar="FILE|DIRECTORY", help="journal files, or directories of them (daemon.log_dir)")
    parser.add_argument("--json", action="store_true", help="every file with its digest and its entries by kind, as JSON")
    parser.set_defaults(run=journal)


def journal(options) -> int:
    """Judge the journals; 1 where one is not as it was written."""
    from hftd.cli.main import complain, say
    from hftd.cli.tables import table
    from hftd.recorder.verify import files_of, verify

    found = verify(files_of(options.place))
    bad = [(one, problem) for one in found for problem in one.problems]
    if options.json:
        say(json.dumps({"ok": not bad, "files": [one.as_dict() for one in found]}))
        return int(bool(bad))
    table("journals", ("file", "of", "state", "entries", "problems"), [
        (one.path.name, _run(one), one.state or "-", one.entries, len(one.problems)) for one in found
    ], left=3)  # fmt: skip
    for one, problem in bad:
        complain(problem if str(one.path) in problem else f"{one.path}: {problem}")
    if not bad:
        say(f"{len(found)} files, {sum(one.entries for one in found):,} entries: as they were written; the last digest is "
            f"{next((one.digest for one in reversed(found) if one.digest), 'not there yet: the file is open')}")  # fmt: skip
    return int(bool(bad))


def _run(one: Any) -> str:
    if not one.epoch:
        return "-"
    return f"{one.instance} {time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime(one.epoch // 1_000_000_000))} UTC, file {one.number}"
