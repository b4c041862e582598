"""Which daemon a command means.

    looking    status, book, orders, positions, latency, memory: the only one running, or the one called hftd; -n NAME chooses
    kill       the only one running, whatever else there is: an emergency waits for nothing. Of several it takes none by itself:
               -n NAME says which, --all means every one of them
    changing   stop, kill --clear, positions --save: the only one running where it is also the only one known here, else -n NAME
               must say which: who means one that has ended already must not hit the other. Known is what runs, what has a lock or a
               latch in the directories of those and in this user's own, and what $HFTD_CONFIG or config/hftd.toml is called

Turned down: taking the one called hftd, or the newest, as looking does; asking back, which a script cannot answer.
"""

import argparse
import contextlib
import os
import re
from pathlib import Path

from hftd.errors import WRONG, HftdError

DEFAULT_CONFIG = "config/hftd.toml"
TRACES = ("pid", "kill.json", "kill.last.json")
"""Files that show a directory to be an instance's: its lock, its latch."""


class NotRunning(HftdError):
    """No daemon of this name is running."""

    exit_code = 3


class Ambiguous(HftdError):
    """More than one instance may be meant, and the command changes something."""

    exit_code = WRONG


def name_argument(parser, changes: bool = False) -> None:
    """Add `-n NAME`; `changes`: to a command that must not take the wrong one."""
    usual = "the only one running, where no other is known" if changes else "the only one running, or hftd"
    parser.add_argument("-n", "--name", type=given, default=None, help=f"instance (default: {usual})")


def given(text: str) -> str:
    """Argparse's type of a name: an empty one is a script's unset variable, and means nobody."""
    if not text:
        raise argparse.ArgumentTypeError("must name an instance, was empty")
    return text


def configured() -> str:
    """Return the configuration file that commands use without -c."""
    return os.environ.get("HFTD_CONFIG") or DEFAULT_CONFIG


def running() -> dict[str, int]:
    """Return the instances whose daemon lives, with its pid; other users' are not among them, except for root."""
    from hftd.shm.segment import SegmentError, full_name, instances, owner

    found = {}
    for name in instances():
        with contextlib.suppress(SegmentError):
            pid = owner(full_name(name, "control"))
            if pid:
                found[name] = pid
    return found


def starting() -> dict[str, int]:
    """Return the instances whose start has no shared memory yet, since it compiles, with the pid of each; other users' for root.

    They are known by the lock that they hold open and have signed, wherever their run directory lies.
    """
    from hftd.control.config import INSTANCE
    from hftd.shm.segment import instances

    found, there = {}, instances()
    for entry in os.listdir("/proc"):
        with contextlib.suppress(OSError, ValueError):
            if not entry.isdigit() or os.getuid() not in (0, os.stat(f"/proc/{entry}").st_uid):
                continue
            for handle in os.scandir(f"/proc/{entry}/fd"):
                lock = Path(os.readlink(handle.path))
                if lock.name == "pid" and re.fullmatch(INSTANCE, lock.parent.name) and lock.parent.name not in there:
                    if os.path.samestat(lock.stat(), handle.stat()) and lock.read_text().strip() == entry:
                        found[lock.parent.name] = int(entry)
    return found


def nobody(name: str = "") -> NotRunning:
    """Return the error that no daemon (of this name) runs; where one is on its way up, it says so."""
    coming = {one: pid for one, pid in starting().items() if name in ("", one)}
    if coming:
        said = ", ".join(f"{one} (pid {pid})" for one, pid in coming.items())
        return NotRunning(f"no daemon{f' called {name!r}' if name else ''} is running yet: {said} is being started, and compiles "
                          "or makes its memory; `hftd stop` ends it")  # fmt: skip
    return NotRunning(f"no daemon {f'called {name!r} ' if name else ''}is running; start one with: hftd start")


def instance(options) -> str:
    """Return the instance that a looking command means. Raises NotRunning where none runs, HftdError where it is not clear."""
    from hftd.shm.segment import instances

    if options.name:
        return _named(options.name)
    there = instances()
    if not there:
        raise nobody()
    alive = list(running()) or there
    if len(alive) > 1 and "hftd" not in alive:
        raise HftdError(f"several daemons are running: {', '.join(alive)}; choose one with -n NAME")
    return "hftd" if "hftd" in alive else alive[0]


def to_change(options, what: str, coming: bool = False) -> str:
    """Return the instance that a changing command means. what: the command. Raises NotRunning, and Ambiguous.

    coming: one that is being started is meant, too.
    """
    if options.name:
        return options.name if coming and options.name in starting() else _named(options.name)
    alive = running() | (starting() if coming else {})
    if not alive:
        raise nobody()
    names = known(alive)
    if len(names) > 1:
        shown = ", ".join(f"{name} ({why})" for name, why in sorted(names.items()))
        raise Ambiguous(f"{what}: several instances are known here: {shown}; say which one with -n NAME")
    return next(iter(alive))


def to_kill(options) -> list[str]:
    """Return the instances that a kill means: the named one, all, or the only one running. Raises NotRunning, and Ambiguous."""
    if options.name:
        return [_named(options.name)]
    alive = list(running())
    if not alive:
        raise nobody()
    if len(alive) > 1 and not options.all:
        raise Ambiguous(f"kill: several daemons are running: {', '.join(alive)}; say which one with -n NAME, or all: --all")
    return alive


def known(alive: dict[str, int]) -> dict[str, str]:
    """Return every instance that somebody may mean here, and how it is known. alive: those that run."""
    from hftd.control.config import bases, build, load
    from hftd.shm.map import attach

    found = {name: f"running, pid {pid}" for name, pid in alive.items()}
    configs = [build({})]
    with contextlib.suppress(HftdError):
        chosen = load(configured())
        found.setdefault(chosen.daemon.name, f"in {chosen.path}")
        configs.append(chosen)
    for name in alive:
        with contextlib.suppress(HftdError):
            configs.append(attach(name)[0])
    for base in dict.fromkeys(base for config in configs for base in bases(config)):
        for name in traces(base):
            found.setdefault(name, f"in {base / name}")
    return found


def traces(base: Path) -> list[str]:
    """Return the instances that have left something in a directory."""
    with contextlib.suppress(OSError):
        return sorted(path.name for path in base.iterdir() if any((path / trace).is_file() for trace in TRACES))
    return []


def _named(name: str) -> str:
    from hftd.shm.segment import instances

    if name not in instances():
        raise nobody(name)
    return name
