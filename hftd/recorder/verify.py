"""Whether journals are as they were written: each entry and header, and that no file of a run was changed, exchanged or taken out.

    file 1 ──digest──▶ `before` of file 2 ──digest──▶ `before` of file 3 …      each digest is over the file's own `before`, too

A checksum finds damage to an entry; a digest finds an entry that was exchanged with its checksum; the chain finds a whole file.
Who can write all files of a run can make them anew from the one he changed: keep the last digest elsewhere (`hftd journal` has it).
"""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hftd.recorder.journal import JournalError, Reader, Stream, read_journal
from hftd.recorder.manifest import digest_of, manifest_path


@dataclass
class Verdict:
    """What was found in one file. `problems` is empty where it is as it was written; `digest` in hex, '' while it is open."""

    path: Path
    instance: str = ""
    epoch: int = 0
    number: int = 0
    state: str = ""
    entries: int = 0
    streams: dict[str, int] = field(default_factory=dict)
    digest: str = ""
    before: str = ""
    version: str = ""
    """Of hftd, that wrote it."""
    run: str = ""
    """SHA-256 of the run's manifest, '' where it has none."""
    problems: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {**vars(self), "path": str(self.path)}


def files_of(places: Iterable[str]) -> list[Path]:
    """Return journal files: those named, and those in directories that are named. Raises JournalError where there is none."""
    found: list[Path] = []
    for place in places:
        path = Path(place)
        inside = sorted(path.glob("*.journal")) if path.is_dir() else [path]
        if not inside:
            raise JournalError(f"{place}: no journal is in it; give a *.journal file, or a directory with some (daemon.log_dir)")
        found += inside
    return list(dict.fromkeys(found))


def verify(paths: Iterable[Path]) -> list[Verdict]:
    """Judge journal files: each by itself, then those of a run by one another. Ordered by run and number."""
    verdicts = [_judged(path) for path in paths]
    runs: dict[tuple[str, int], list[Verdict]] = defaultdict(list)
    for verdict in verdicts:
        if verdict.epoch:
            runs[verdict.instance, verdict.epoch].append(verdict)
    for files in runs.values():
        files.sort(key=lambda one: one.number)
        _judge_run(files)
        _judge_manifest(files)
    return sorted(verdicts, key=lambda one: (one.instance, one.epoch, one.number, one.path))


def _judged(path: Path) -> Verdict:
    try:
        reader = read_journal(path)
    except JournalError as error:
        return Verdict(path, problems=[str(error)])
    header = reader.header
    made = Verdict(path, reader.instance, int(header["epoch"]), int(header["number"]), reader.state)
    made.entries = reader.whole()
    made.streams = _streams(reader, made.entries)
    if reader.problem:
        made.problems.append(reader.problem)
    made.version, made.run = reader.version, reader.run
    if reader.state != "OPEN":
        made.digest, made.before = bytes(header["digest"]).hex(), bytes(header["before"]).hex()
        if not reader.problem and reader.digest().hex() != made.digest:
            made.problems.append("digest is wrong: an entry was exchanged, its checksum with it")
    return made


def _streams(reader: Reader, entries: int) -> dict[str, int]:
    counts = Counter((reader.rows(entries)["stream"] >> 8).tolist())
    return {Stream(code).name: count for code, count in sorted(counts.items())}


def _judge_manifest(files: list[Verdict]) -> None:
    """Look whether the run's manifest is the one that its journals were begun with."""
    for one in files:
        run = (one.path.parent, one.instance, one.epoch)
        found = digest_of(*run)
        if one.run and found != one.run:
            what = "was changed since" if found else "is not there"
            one.problems.append(f"{manifest_path(*run).name}, what the run was made of, {what}")


def _judge_run(files: list[Verdict]) -> None:
    """Look at the files of one run, in order of their numbers: none is missing, none is another than the next one says."""
    nothing = bytes(32).hex()
    for earlier, one in zip([None, *files], files):
        last = earlier.number if earlier else 0
        if one.number == last:
            one.problems.append(f"has number {last} of its run, as {earlier.path if earlier else ''} has")
        elif one.number > last + 1:
            which = f"{last + 1}" if one.number == last + 2 else f"{last + 1} to {one.number - 1}"
            one.problems.append(f"file {which} of its run is missing before it")
        elif earlier and one.before and earlier.digest and one.before != earlier.digest:
            why = "was not sealed when this one was" if one.before == nothing else "was changed or exchanged since"
            one.problems.append(f"the file before it, {earlier.path.name}, {why}")
