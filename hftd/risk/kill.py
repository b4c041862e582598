"""The kill switch: one word in shared memory, latched to disk, so that a restart stays killed until a named person lifts it.

`pull` sets the word first and writes the latch after: nothing may delay the stop. The gateway reads the word before each send,
so it works with strategy and risk dead or hung. The latch is `state_dir/kill.json`: who, why, when; whoever finds one that cannot
be read takes it for a pulled switch. `clear` wants a name, and keeps the lifted latch as `kill.last.json`.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hftd.control.config import Config, state_dir
from hftd.core.files import replace_file, sync_directory
from hftd.errors import HftdError
from hftd.msg.enums import LogCode


class KillError(HftdError):
    """The kill switch cannot be lifted, or not latched, and why."""


def latch_path(config: Config) -> Path:
    """Return the file that keeps the switch pulled over restarts."""
    return state_dir(config) / "kill.json"


def pull(config: Config, memory, by: str, why: str = "") -> dict[str, Any]:
    """Pull the switch: the word at once, then the latch. Pulled already: the first one's facts stay. Returns those in force.

    Raises KillError where the latch cannot be written; the switch is pulled all the same.
    """
    now = time.time_ns()
    by, why = (text.encode(errors="replace").decode() for text in (by, why))  # a terminal need not speak UTF-8
    if memory is not None:
        run = memory["control"]["run"][0]
        if not int(run["kill"]):
            run["kill_by"] = _word(by)
            run["kill"] = now
    known = read_latch(config)
    if known is not None:
        return known
    facts = {"by": by, "why": why, "utc_ns": now, "utc": utc(now)}
    try:
        replace_file(latch_path(config), _text(facts))
    except OSError as error:
        raise KillError(f"killed, but a restart would lift it: {latch_path(config)} cannot be written: {error.strerror}") from None
    return facts


def pull_within(config: Config, memory, log: Callable[..., None], by: str, why: str) -> None:
    """As `pull`, by a role, which goes on where the latch cannot be written, and says so. log: Agent.log."""
    try:
        pull(config, memory, by, why)
    except KillError:
        log(LogCode.NOT_LATCHED)


def clear(config: Config, memory, by: str) -> dict[str, Any] | None:
    """Lift the switch in the name of `by`; return the facts of the one lifted, None where none was pulled.

    Raises KillError without a name. The day's loss latch is lifted too; it falls again at once while the loss is still there.
    """
    if not by.strip():
        raise KillError("the kill switch is lifted by a named person: hftd kill --clear --by NAME")
    run = memory["control"]["run"][0] if memory is not None else None
    word = (int(run["kill"]), int(run["kill_by"])) if run is not None else (0, 0)
    if run is not None:                               # before the files, which take milliseconds: who pulls from here on, stops
        run["kill"], run["kill_by"] = 0, 0
        if "risk" in memory:
            memory["risk"]["account"][0]["loss_latched"] = 0
    known = read_latch(config)
    try:
        if known is not None:
            cleared = {**known, "cleared_by": by, "cleared_utc_ns": time.time_ns()}
            replace_file(state_dir(config) / "kill.last.json", _text(cleared))
            latch_path(config).unlink(missing_ok=True)
            sync_directory(state_dir(config))
    except OSError as error:
        if run is not None and not int(run["kill"]):
            run["kill"], run["kill_by"] = word
        raise KillError(f"not lifted: {latch_path(config)}: {error.strerror}") from None
    if run is not None and int(run["kill"]):          # pulled meanwhile: its latch may be the one that went
        pull(config, memory, name_of(int(run["kill_by"])), "pulled while the switch was lifted")
    return known


def read_latch(config: Config) -> dict[str, Any] | None:
    """Return the facts of a latched switch, None where there is none. A latch that cannot be read counts as pulled."""
    path = latch_path(config)
    try:
        facts = json.loads(path.read_text())
        if isinstance(facts, dict) and int(facts["utc_ns"]) > 0:
            return facts
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return {"by": "unknown", "why": f"{path} cannot be read", "utc_ns": 1, "utc": ""}


def in_force(config: Config, memory) -> dict[str, Any] | None:
    """Return who pulled the switch of a running daemon, why and when, and what lifts it; None where it is off.

    Keys: by, why, utc_ns, utc (ISO 8601), latched (whether it is on disk, and outlives a restart), lift (the command).
    """
    run = memory["control"]["run"][0]
    pulled, by = int(run["kill"]), int(run["kill_by"])
    if not pulled:
        return None
    try:
        known = read_latch(config)
    except HftdError:                                 # its directory is not ours to read: the word in memory is enough
        known = None
    lift = f"hftd kill --clear -n {config.daemon.name} --by NAME"
    if known is not None:
        return {"by": str(known.get("by", "")), "why": str(known.get("why", "")), "utc_ns": int(known["utc_ns"]),
                "utc": str(known.get("utc", "")), "latched": True, "lift": lift}  # fmt: skip
    return {"by": name_of(by), "why": "", "utc_ns": pulled, "utc": utc(pulled), "latched": False, "lift": lift}


def in_words(facts: dict[str, Any]) -> str:
    """Say what `in_force` found: by whom, when, why, and which command lifts it."""
    why = f": {facts['why']}" if facts["why"] else ""
    kept = "" if facts["latched"] else " (no latch on disk)"
    return f"KILLED by {facts['by'] or 'unknown'} at {facts['utc'] or 'an unknown time'}{kept}{why}; lift it with: {facts['lift']}"


def _word(by: str) -> int:
    """Return the first eight bytes of a name as the word that `kill_by` is."""
    return int.from_bytes(by.encode(errors="replace")[:8].ljust(8, b"\0"), "little", signed=True)


def name_of(word: int) -> str:
    """Return the text in a `kill_by` word: the first eight bytes of who pulled the switch."""
    return word.to_bytes(8, "little", signed=True).rstrip(b"\0 ").decode("utf-8", "replace")


def utc(utc_ns: int) -> str:
    """Return a time as ISO 8601, in whole seconds."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(utc_ns / 1e9))


def load_latch(config: Config, memory) -> bool:
    """Put a latched switch into a new daemon's memory; True where one was latched. Called before any role starts."""
    known = read_latch(config)
    if known is None:
        return False
    run = memory["control"]["run"][0]
    run["kill_by"] = _word(str(known["by"]))
    run["kill"] = int(known["utc_ns"])
    return True


def _text(facts: dict[str, Any]) -> bytes:
    return (json.dumps(facts) + "\n").encode()
