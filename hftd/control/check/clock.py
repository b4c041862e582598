"""The time stamp counter, and how far the clock may be from the truth."""

import ctypes
import struct
from collections.abc import Callable
from dataclasses import dataclass

from hftd.control.check.files import Host
from hftd.control.check.rows import FAIL, INFO, WARN, Row, boot, graded


@dataclass(frozen=True)
class ClockState:
    """What adjtimex says. Times in us."""

    synchronised: bool
    max_error: int
    estimated_error: int


def adjtimex() -> ClockState | None:
    """Ask the kernel how good its clock is; None where it does not say."""
    place = ctypes.create_string_buffer(256)  # struct timex with modes = 0: read only
    try:
        state = ctypes.CDLL(None, use_errno=True).adjtimex(place)
    except (OSError, AttributeError):
        return None
    if state < 0:
        return None
    _, _, _, most, estimated, status = struct.unpack_from("<i4xqqqqi", place, 0)
    return ClockState(state != 5 and not status & 0x40, most, estimated)


def clock(host: Host, ask: Callable[[], ClockState | None] | None = None) -> list[Row]:
    """The time stamp counter, and how far the clock may be from the truth."""
    flags = host.flags()
    missing = sorted({"constant_tsc", "nonstop_tsc"} - flags)
    rows = [graded(not missing, "clock", "time stamp counter", f"lacks {', '.join(missing)}" if missing else "invariant",
                   "constant_tsc, nonstop_tsc", "another host: hftd stamps with the counter", bad=FAIL)]  # fmt: skip
    source = host.read("sys/devices/system/clocksource/clocksource0/current_clocksource")
    if source:
        ok = source == "tsc"
        trusted = "tsc" in host.read("sys/devices/system/clocksource/clocksource0/available_clocksource").split()
        remedy = "echo tsc > /sys/devices/system/clocksource/clocksource0/current_clocksource" if trusted else boot("tsc=reliable")
        rows.append(graded(ok, "clock", "clock source", source, "tsc", remedy))
    state = ask() if ask else (adjtimex() if host.live else None)
    daemon = next((name for name in ("chronyd", "ntpd", "systemd-timesyn", "ptp4l", "phc2sys") if name in _programs(host)), "")
    by = f" by {daemon}" if daemon else ""
    if state is None:
        rows.append(Row("clock", "synchronised", INFO, "not readable here", "within 100 us of UTC"))
    elif not state.synchronised:
        said = f"no; {daemon} runs" if daemon else "no; nothing disciplines the clock"
        remedy = f"systemctl restart {daemon}" if daemon else "apt-get install chrony && systemctl enable --now chrony"
        rows.append(Row("clock", "synchronised", WARN, said, "within 100 us of UTC", remedy))
    else:
        ok = state.estimated_error <= 100
        said = f"yes{by}: estimated error {state.estimated_error} us, at most {state.max_error} us"
        rows.append(graded(ok, "clock", "synchronised", said, "within 100 us of UTC",
                           "chronyc sources -v  (a server near by, or PTP with the card's clock)",
                           figures={"estimated_error_us": state.estimated_error, "max_error_us": state.max_error}))  # fmt: skip
    return rows


def _programs(host: Host) -> set[str]:
    return {host.read(f"proc/{entry}/comm") for entry in host.names("proc") if entry.isdigit()}
