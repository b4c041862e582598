"""Why a start does not come to its end: what each role that is not ready waits for, in words. Read from shared memory alone."""

from hftd.control.config import Config
from hftd.gateway.memory import LINK_CLEANING, LINK_DOWN, LINK_TEXT
from hftd.shm import map as shared


def in_words(config: Config, memory: shared.Memory, missing: list[str]) -> str:
    """Return the roles that are not ready, each with what is known of why."""
    told = {"feed": _feed, "gateway": _gateway}
    said = []
    for name in missing:
        why = told[name](config, memory) if name in told else ""
        said.append(f"{name} ({why})" if why else name)
    return ", ".join(said)


def _gateway(config: Config, memory: shared.Memory) -> str:
    session, counters = memory["orders"]["session"][0], memory["orders"]["counters"][0]
    where, state = f"gateway.address {config.gateway.address}", int(session["state"])
    if int(counters["login_rejects"]):
        return f"the venue at {where} refused the log-in {int(counters['login_rejects'])} times: gateway.username and its password"
    if not int(counters["connects"]):
        return f"nobody takes a connection at {where}"
    if state == LINK_CLEANING:
        return f"{LINK_TEXT[state]}: gateway.clean_timeout_s = {config.gateway.clean_timeout_s:g}"
    return f"{'no session was opened' if state == LINK_DOWN else LINK_TEXT[state]} at {where}"


def _feed(config: Config, memory: shared.Memory) -> str:
    counters = memory["market"]["counters"][0]
    lines = {"feed.line_a": config.feed.line_a} | ({"feed.line_b": config.feed.line_b} if config.feed.line_b else {})
    if not int(counters["packets_a"]) + int(counters["packets_b"]):
        where = " or ".join(f"{key} {address}" for key, address in lines.items())
        return f"no packet came on {where}, interface {config.feed.interface}"
    return "books are not whole yet"
