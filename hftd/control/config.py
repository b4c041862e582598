"""The configuration: TOML in, checked dataclasses out, every error naming file, key, value and what would be right.

Each field below is a key; its metadata is its documentation, range and unit, from which `config/README.md` is made. Unknown keys
are refused, with the nearest known one named. Nothing here is compiled or shared; `setup.py` of each stage turns it into records.
"""

import dataclasses
import difflib
import ipaddress
import json
import math
import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomli

from hftd.errors import WRONG, HftdError

LAYOUTS = ("auto", "dedicated", "shared", "fused")
TYPES = {int: "an integer", float: "a number", str: "a text", bool: "true or false", list: "a list", dict: "a table"}
"""What a value's type is called in an error and in `config/README.md`."""


FILE_MAX = 1 << 20
"""Bytes of a configuration file; who names a device or a capture by mistake is told so, not served."""

SESSION = r"[!-~]{0,10}"
"""What a venue may call a session."""

PASSWORD_MAX = 10
"""Characters of a SoupBinTCP password."""


class ConfigError(HftdError, ValueError):
    """The configuration is wrong, and what would be right."""

    exit_code = WRONG


class NotThere(ConfigError):
    """What the configuration names is not there now, as an interface or a name server at boot: trying again may help."""

    exit_code = 1


def key(default: Any, doc: str, *, unit: str = "", min: float | None = None, max: float | None = None,
        choices: tuple = (), power_of_two: bool = False, pattern: str = "") -> Any:  # fmt: skip
    """Declare a key of the configuration: default, documentation and what values are right."""
    facts = {"doc": doc, "unit": unit, "min": min, "max": max, "choices": choices, "pow2": power_of_two, "pattern": pattern}
    if isinstance(default, list | dict):
        return field(default_factory=lambda: type(default)(default), metadata=facts)
    return field(default=default, metadata=facts)


INSTANCE = r"[a-z][a-z0-9_-]{0,23}"
"""What an instance may be called."""


@dataclass(frozen=True)
class Daemon:
    """[daemon]: the instance as a whole."""

    name: str = key("hftd", "instance name; shared memory, run directory and logs carry it", pattern=INSTANCE)
    layout: str = key("auto", "how roles share cores", choices=LAYOUTS)
    cores: list[int] = key([], "cores the daemon may use, in order feed, strategies, risk, gateway; empty: all it is allowed")
    run_dir: str = key("", "control socket and lock; empty: $RUNTIME_DIRECTORY, $XDG_RUNTIME_DIR/hftd or ~/.hftd")
    state_dir: str = key("", "what outlives a reboot (latches); empty: run_dir where set, $STATE_DIRECTORY or ~/.local/state/hftd")
    log_dir: str = key("", "JSON logs and journals; empty: $LOGS_DIRECTORY or log/ beside the control socket")
    stop_timeout_s: float = key(5.0, "how long a stop waits for open orders to end", unit="s", min=0.1, max=300)
    ready_timeout_s: float = key(30.0, "how long a start waits for every role to be ready", unit="s", min=1, max=600)
    restart: bool = key(True, "start a role again when it dies")
    allow_fused: bool = key(True, "whether `layout = \"fused\"` (no independent risk process) may be used at all")
    lock_memory: bool = key(False, "mlockall in every role")
    ready_budget: str = key("warn", "a role that missed its budget in rehearsal: say so, refuse to start, or do not judge",
                            choices=("warn", "refuse", "off"))  # fmt: skip
    keep_warm: str = key("auto", "exercise the path in quiet times with orders that cannot leave; auto: where roles spin",
                         choices=("auto", "on", "off"))  # fmt: skip
    keep_warm_ms: int = key(5, "quiet time before an exercise, and between two", unit="ms", min=1, max=10_000)
    pause_us: int = key(0, "a role that did not run for longer has paused; 0: 10 where roles spin, 200 where they park", unit="us",
                        min=0, max=1_000_000)  # fmt: skip
    tail_us: int = key(0, "orders slower than this are kept with their cause; 0: ten times the sum of the stages' budgets where "
                       "roles spin, 1000 where they park", unit="us", min=0, max=10_000_000)  # fmt: skip


@dataclass(frozen=True)
class RolePlacement:
    """[placement.role.ROLE]: what one role asks of the kernel, where that differs."""

    core: int = key(-1, "core of its own; -1: by daemon.cores", min=-1, max=4095)
    policy: str = key("other", "scheduling class", choices=("other", "fifo", "rr"))
    priority: int = key(20, "real-time priority, with fifo and rr", min=1, max=98)
    node: int = key(-1, "NUMA node that memory must come from; -1: rather the one of the role's core", min=-1, max=1023)
    huge_pages: str = key("advise", "large blocks and segments: advise 2 MiB pages, take reserved ones, or none",
                          choices=("none", "advise", "reserved"))  # fmt: skip


@dataclass(frozen=True)
class Placement:
    """[placement]: what roles ask of the kernel; `hftd status --all` shows what came of it. ROLE: a name as there, or strategy."""

    strict: bool = key(True, "refuse to start where something asked for here cannot be had; false: run without it, and say so")
    policy: str = key("other", "scheduling class of roles that spin; a parked role needs none", choices=("other", "fifo", "rr"))
    priority: int = key(20, "their real-time priority, with fifo and rr", min=1, max=98)
    node: int = key(-1, "NUMA node that memory must come from; -1: rather the one of the role's core", min=-1, max=1023)
    huge_pages: str = key("advise", "large blocks and segments: advise 2 MiB pages, take reserved ones (hugetlb), or none",
                          choices=("none", "advise", "reserved"))  # fmt: skip
    prefault: bool = key(True, "have every page of a role's shared memory mapped before it is ready")
    timer_slack_ns: int = key(1000, "how much later than asked a sleep may end; 0: the kernel's 50 us", unit="ns", min=0, max=10**9)
    cpu_dma_latency: bool = key(False, "hold /dev/cpu_dma_latency open at 0 us while running: no core falls into a deep sleep")
    role: dict[str, Any] = key({}, "one role's own: [placement.role.feed] core = 2, policy, priority, node, huge_pages")


@dataclass(frozen=True)
class Universe:
    """[universe]: which instruments."""

    symbols: list[str] = key([], "symbols to follow; empty: all that the venue announces, up to `max`")
    max: int = key(64, "rows of the instrument table", min=1, max=65535)


@dataclass(frozen=True)
class Feed:
    """[feed]: market data lines."""

    line_a: str = key("239.192.70.1:31001", "multicast group and port of line A, or a unicast address to bind")
    line_b: str = key("", "the same for line B; empty: no second line")
    interface: str = key("127.0.0.1", "address of the interface that joins the groups")
    request: list[str] = key(["127.0.0.1:31003"], "host:port of the retransmission servers, asked in turn")
    session: str = key("", "MoldUDP64 session to accept, 10 characters; empty: the first one heard", pattern=SESSION)
    glimpse: str = key("", "host:port of the snapshot server (GLIMPSE); empty: none")
    glimpse_user: str = key("", "user name for the snapshot server, 6 characters; empty: the gateway's", pattern=r"[ -~]{0,6}")
    orders_max: int = key(1 << 20, "live orders in all books together", min=1024, max=1 << 28, power_of_two=True)
    levels_max: int = key(1 << 17, "price levels in all books together", min=1024, max=1 << 26, power_of_two=True)
    prints_max: int = key(1 << 18, "prints remembered, so that one the venue breaks can be taken out again", min=1024, max=1 << 26,
                          power_of_two=True)  # fmt: skip
    queue_packets: int = key(8192, "packets kept while a gap is filled", min=64, max=1 << 20, power_of_two=True)
    receive_buffer: int = key(8 << 20, "socket receive buffer", unit="bytes", min=65536, max=1 << 30)
    gap_timeout_ms: int = key(200, "wait for a retransmission before asking again", unit="ms", min=1, max=60000)
    gap_retries: int = key(20, "requests for one gap before the books are declared stale", min=1, max=10000)
    reorder_packets: int = key(256, "packets that wait beyond a gap before it is believed, however young it is", min=1, max=1 << 20)
    on_taint: str = key("stale", "what a book does when a message contradicts it, or it is crossed while it trades: stale, until a "
                        "snapshot has mended it; note: it stays live and is counted", choices=("stale", "note"))
    stamps: str = key("tsc", "what counts as a packet's arrival: tsc, the return of the receive call; kernel, its receipt by the "
                             "kernel, so that waiting in the socket counts too", choices=("tsc", "kernel"))  # fmt: skip
    reorder_ms: int = key(2, "wait for a late packet of either line before a gap is believed", unit="ms", min=0, max=1000)


@dataclass(frozen=True)
class Strategy:
    """[[strategy]]: one instance of a strategy file."""

    name: str = key("", "name of the instance; empty: the file's", pattern=r"[a-z0-9_]{0,24}")
    file: str = key("", "strategy file, relative to the configuration file or to strategies/")
    params: dict[str, Any] = key({}, "values for the file's params")
    symbols: list[str] = key([], "symbols it trades; empty: the whole universe")
    orders_max: int = key(4096, "orders it may have open or pending at once", min=16, max=1 << 20, power_of_two=True)
    enabled: bool = key(True, "whether to start it")


@dataclass(frozen=True)
class Risk:
    """[risk]: limits, for the account and for every instrument alike unless [risk.instrument.SYMBOL] says otherwise."""

    order_qty_max: int = key(1000, "largest order", unit="shares", min=1, max=999_999)
    order_notional_max: float = key(500_000.0, "largest px * qty of an order", unit="currency", min=0.01)
    position_max: int = key(5000, "largest |position|, open orders counted as filled", unit="shares", min=0, max=1 << 40)
    gross_notional_max: float = key(5_000_000.0, "largest sum of |position| * price and open orders", unit="currency", min=1)
    loss_max: float = key(50_000.0, "stop when the day's loss reaches this", unit="currency", min=1)
    open_orders_max: int = key(1000, "open orders, account", min=1, max=1 << 24)
    collar_bps: int = key(500, "how far from the book a price may be", unit="bps", min=1, max=10000)
    message_rate_max: int = key(10_000, "new orders and replaces in one second, account", min=1, max=10_000_000)
    feed_stale_ms: int = key(5000, "market data older than this denies new orders", unit="ms", min=10, max=3_600_000)
    self_cross: bool = key(True, "deny orders that would trade with our own resting orders")
    on_breaker: str = key("resume", "what a market-wide circuit breaker does: resume: no new risk in an instrument until the venue "
                          "resumes it; kill: the kill switch as well, until a person lifts it", choices=("resume", "kill"))
    positions: str = key("", "CSV file of what is held before the day's first trade, relative to this file; empty: nothing "
                         "(`hftd positions --save` writes it)")  # fmt: skip
    instrument: dict[str, Any] = key({}, "limits of one instrument: [risk.instrument.AAPL] order_qty_max = 100")


@dataclass(frozen=True)
class Gateway:
    """[gateway]: the venue's order entry session."""

    address: str = key("127.0.0.1:31002", "host:port of the venue's SoupBinTCP server")
    username: str = key("HFTD01", "SoupBinTCP user name, 6 characters at most")
    password_env: str = key("HFTD_PASSWORD", "environment variable that holds the password")
    password_file: str = key("", "file that holds it instead, mode 0600; a plain name: a systemd credential, or beside this file")
    session: str = key("", "SoupBinTCP session to ask for, 10 characters; empty: the current one", pattern=SESSION)
    firm: str = key("", "firm on every order; empty: the account's default", pattern=r"[A-Z]{0,4}")
    orders_max: int = key(1 << 16, "rows of the order table", min=64, max=1 << 24, power_of_two=True)
    login_timeout_s: float = key(5.0, "how long to wait for the log-in's answer", unit="s", min=0.1, max=60)
    clean_timeout_s: float = key(10.0, "how long the venue may take to cancel what an earlier run left open; then the start fails, "
                                 "and names the orders", unit="s", min=0.1, max=300)  # fmt: skip
    dead_after_s: float = key(5.0, "silence after which the venue is held for dead", unit="s", min=1.5, max=60)
    risk_dead_ms: int = key(1000, "silence of risk after which the gateway cancels everything", unit="ms", min=10, max=60000)


@dataclass(frozen=True)
class Recorder:
    """[recorder]: logs and journals."""

    level: str = key("info", "least severe log line written", choices=("debug", "info", "warning", "error"))
    journal: bool = key(True, "keep every order, report and denial in a journal file")
    metrics: str = key("", "host:port to serve Prometheus metrics on; empty: none")


@dataclass(frozen=True)
class Rings:
    """[rings]: slots of 64 bytes each; powers of two."""

    md: int = key(1 << 16, "market events", min=1024, max=1 << 24, power_of_two=True)
    intent: int = key(1 << 12, "intents of one strategy", min=64, max=1 << 20, power_of_two=True)
    order: int = key(1 << 12, "orders", min=64, max=1 << 20, power_of_two=True)
    report: int = key(1 << 14, "reports and denials", min=64, max=1 << 22, power_of_two=True)
    log: int = key(1 << 12, "log records of one agent", min=64, max=1 << 20, power_of_two=True)


@dataclass(frozen=True)
class Config:
    """A whole configuration; `path` is the file it came from."""

    path: str
    daemon: Daemon
    placement: Placement
    universe: Universe
    feed: Feed
    strategy: tuple[Strategy, ...]
    risk: Risk
    gateway: Gateway
    recorder: Recorder
    rings: Rings

    @property
    def instruments(self) -> int:
        """Rows of the instrument table."""
        return max(self.universe.max, len(self.universe.symbols))


RISK_PER_INSTRUMENT = ("order_qty_max", "order_notional_max", "position_max", "collar_bps", "feed_stale_ms")
"""Limits that [risk.instrument.SYMBOL] may set; the others are the account's."""

SECTIONS: dict[str, type] = {
    "daemon": Daemon, "placement": Placement, "universe": Universe, "feed": Feed, "strategy": Strategy, "risk": Risk,
    "gateway": Gateway, "recorder": Recorder, "rings": Rings,
}  # fmt: skip


def load(path: str | os.PathLike) -> Config:
    """Read and check a configuration file. Raises ConfigError."""
    file = Path(path)
    if not os.fspath(path):
        raise ConfigError("no configuration file is named: give one with -c FILE, or in $HFTD_CONFIG")
    try:
        with file.open("rb") as source:
            facts, text = os.fstat(source.fileno()), source.read(FILE_MAX + 1)
        if len(text) > FILE_MAX:
            raise ConfigError(f"{file}: is no configuration: it has more than {FILE_MAX:,} bytes")
        data = tomli.loads(text.decode("utf-8-sig").replace("\r\n", "\n"))
    except FileNotFoundError:
        raise ConfigError(f"{file}: no such file; copy config/hftd.toml and edit it") from None
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror}; give a file that you may read") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{file}: is not UTF-8 text") from None
    except ConfigError:
        raise
    except (ValueError, RecursionError) as error:     # TOMLDecodeError is one; so is a number of thousands of digits
        raise ConfigError(f"{file}: not TOML: {error}") from None
    if "password" in _table(data, "gateway") and stat.S_IMODE(facts.st_mode) & 0o077:
        raise ConfigError(f"{file}: gateway.password: secrets do not belong in a readable file; use gateway.password_env")
    return build(data, str(file))


def _table(data: dict, section: str) -> dict:
    found = data.get(section)
    return found if isinstance(found, dict) else {}


def build(data: dict, name: str = "configuration") -> Config:
    """Check a configuration given as nested dicts, and return it. Raises ConfigError."""
    for section in data:
        if section not in SECTIONS:
            raise ConfigError(f"{name}: [{section}]: unknown section; {nearest(section, SECTIONS)}")
    made: dict[str, Any] = {}
    for section, kind in SECTIONS.items():
        if section == "strategy":
            rows = data.get("strategy", [])
            if not isinstance(rows, list):
                raise ConfigError(f"{name}: [strategy]: must be written [[strategy]], one for each strategy")
            made[section] = tuple(_section(kind, row, f"{name}: strategy[{i}]") for i, row in enumerate(rows))
        else:
            made[section] = _section(kind, data.get(section, {}), f"{name}: {section}")
    config = Config(path=name, **made)
    _cross_checks(config, name)
    return config


def _section(kind: type, data: Any, where: str) -> Any:
    if not isinstance(data, dict):
        raise ConfigError(f"{where}: must be a table of keys, was {data!r}")
    known = {item.name: item for item in dataclasses.fields(kind)}
    values = {}
    for name, value in data.items():
        if name not in known:
            raise ConfigError(f"{where}.{name}: unknown key; {nearest(name, known)}")
        values[name] = _value(known[name], value, f"{where}.{name}")
    return kind(**values)


def _value(item: dataclasses.Field, value: Any, where: str) -> Any:
    facts, default = item.metadata, item.default
    wanted: Any = type(item.default_factory() if default is dataclasses.MISSING else default)  # type: ignore[operator]
    unit = f" {facts['unit']}" if facts["unit"] else ""
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value) if abs(value) < 1 << 1000 else math.inf if value > 0 else -math.inf
    if not isinstance(value, wanted) or (wanted is int and isinstance(value, bool)):
        raise ConfigError(f"{where}: must be {TYPES[wanted]}, was {value!r}")
    if wanted is float and not math.isfinite(value):
        raise ConfigError(f"{where}: must be a finite number, was {value}")
    if wanted is str and not value.isprintable():
        raise ConfigError(f"{where}: must hold no control character, was {value!r}")
    if wanted is list:
        _items(item, value, where)
    low, high = facts["min"], facts["max"]
    if (low is not None and value < low) or (high is not None and value > high):
        bounds = f"at least {low}" if high is None else f"{low} to {high}"
        raise ConfigError(f"{where}: must be {bounds}{unit}, was {value}")
    if facts["choices"] and value not in facts["choices"]:
        raise ConfigError(f"{where}: must be one of {', '.join(facts['choices'])}, was {value!r}")
    if facts["pow2"] and value & (value - 1):
        raise ConfigError(f"{where}: must be a power of two, was {value}; try {1 << value.bit_length()}")
    if facts["pattern"] and not re.fullmatch(facts["pattern"], value):
        raise ConfigError(f"{where}: must match {facts['pattern']}, was {value!r}")
    return value


def _items(item: dataclasses.Field, value: list, where: str) -> None:
    wanted = {"list[int]": int, "list[str]": str}[str(item.type).removeprefix("typing.")]
    for one in value:
        if not isinstance(one, wanted) or isinstance(one, bool):
            raise ConfigError(f"{where}: must hold {TYPES[wanted].partition(' ')[2]}s only, held {one!r}")
        if isinstance(one, str) and not one.isprintable():
            raise ConfigError(f"{where}: must hold no control character, held {one!r}")
    if len(set(value)) != len(value):
        twice = next(one for at, one in enumerate(value) if one in value[:at])
        raise ConfigError(f"{where}: {twice!r} stands twice")


def nearest(name: str, known: Any) -> str:
    """Return a hint for a name that is not known: the one it looks like, else all there are."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}"


def host_port(text: str, where: str = "address") -> tuple[str, int]:
    """Split `host:port`. Raises ConfigError."""
    host, _, port = text.rpartition(":")
    if not host or not (port.isascii() and port.isdigit()) or not 0 < int(port) < 65536:
        raise ConfigError(f"{where}: must be host:port, was {text!r}")
    return host, int(port)


def _cross_checks(config: Config, name: str) -> None:
    _check_addresses(config, name)
    if config.daemon.layout == "fused" and not config.daemon.allow_fused:
        raise ConfigError(f"{name}: daemon.layout: fused is refused by daemon.allow_fused = false: risk would not be independent")
    if len(config.strategy) > 16:
        raise ConfigError(f"{name}: strategy: at most 16 instances, were {len(config.strategy)}")
    _check_symbols(config.universe.symbols, config, f"{name}: universe.symbols")
    for i, row in enumerate(config.strategy):
        if not row.file:
            raise ConfigError(f"{name}: strategy[{i}].file: must name a strategy file; `hftd strategy list` shows them")
        _check_symbols(row.symbols, config, f"{name}: strategy[{i}].symbols")
    names = [strategy_name(row) for row in config.strategy]
    for i, one in enumerate(names):
        if one in names[:i]:
            raise ConfigError(f"{name}: strategy[{i}].name: two instances are called {one!r}; give each a name of its own")
    fields = {item.name: item for item in dataclasses.fields(Risk)}
    for symbol, row in config.risk.instrument.items():
        where = f"{name}: risk.instrument.{symbol}"
        if not isinstance(row, dict):
            raise ConfigError(f"{where}: must be a table of limits, was {row!r}")
        _check_symbols([symbol], config, f"{name}: risk.instrument")
        for limit, value in row.items():
            if limit not in RISK_PER_INSTRUMENT:
                reason = "holds for the whole account" if limit in fields else "unknown limit"
                raise ConfigError(f"{where}.{limit}: {reason}; {nearest(limit, RISK_PER_INSTRUMENT)}")
            row[limit] = _value(fields[limit], value, f"{where}.{limit}")
    _check_roles(config, name)
    if not re.fullmatch(r"[ -~]{1,6}", config.gateway.username):
        raise ConfigError(f"{name}: gateway.username: must be 1 to 6 characters, was {config.gateway.username!r}")


def _check_roles(config: Config, name: str) -> None:
    known = ["feed", "risk", "gateway", "recorder", "strategy", *(f"strategy.{strategy_name(row)}" for row in config.strategy)]
    fields = {item.name: item for item in dataclasses.fields(RolePlacement)}
    for role, row in config.placement.role.items():
        where = f"{name}: placement.role.{role}"
        if role not in known:
            raise ConfigError(f"{where}: no such role; {nearest(role, known)}")
        if not isinstance(row, dict):
            raise ConfigError(f"{where}: must be a table of keys, was {row!r}")
        for what, value in row.items():
            if what not in fields:
                raise ConfigError(f"{where}.{what}: unknown key; {nearest(what, fields)}")
            row[what] = _value(fields[what], value, f"{where}.{what}")


def role_placement(config: Config, role: str) -> RolePlacement:
    """Return what one role asks of the kernel: its own keys, else those of all strategies, else [placement]'s."""
    whole = config.placement
    values: dict[str, Any] = {item.name: getattr(whole, item.name, item.default) for item in dataclasses.fields(RolePlacement)}
    values |= config.placement.role.get("strategy", {}) if role.startswith("strategy.") else {}
    return RolePlacement(**values | config.placement.role.get(role, {}))


def _check_addresses(config: Config, name: str) -> None:
    feed, needed = config.feed, ("feed.line_a", "gateway.address")
    for where, text in (("feed.line_a", feed.line_a), ("feed.line_b", feed.line_b), ("feed.glimpse", feed.glimpse),
                        *(("feed.request", server) for server in feed.request), ("gateway.address", config.gateway.address),
                        ("recorder.metrics", config.recorder.metrics)):  # fmt: skip
        if text or where in needed:
            host, _ = host_port(text, f"{name}: {where}")
            if where in ("feed.line_a", "feed.line_b"):
                ipv4(host, f"{name}: {where}")
    if feed.line_b and feed.line_b == feed.line_a:
        raise ConfigError(f"{name}: feed.line_b: is line_a again ({feed.line_a}); leave it empty where there is no second line")
    ipv4(feed.interface, f"{name}: feed.interface")


def ipv4(text: str, where: str) -> None:
    """Raise ConfigError where a text is no IPv4 address."""
    try:
        ipaddress.IPv4Address(text)
    except ValueError:
        raise ConfigError(f"{where}: must be an IPv4 address, was {text!r}; `ip -4 address` shows the interfaces'") from None


def _check_symbols(symbols: list[str], config: Config, where: str) -> None:
    known = config.universe.symbols
    for symbol in symbols:
        if not re.fullmatch(r"[!-~]{1,8}", symbol):
            raise ConfigError(f"{where}: {symbol!r} must be 1 to 8 characters without spaces")
        if known and symbol not in known:
            raise ConfigError(f"{where}: {symbol} is not in universe.symbols; {nearest(symbol, known)}")


def to_json(config: Config) -> str:
    """Return a configuration as JSON, for `from_json`."""
    return json.dumps(dataclasses.asdict(config))


def from_json(text: str) -> Config:
    """Return the configuration that `to_json` wrote. Raises ConfigError."""
    data = json.loads(text)
    path = data.pop("path")
    return build({**data, "strategy": list(data["strategy"])}, path)


def password(config: Config) -> str:
    """Return the gateway's password from its file or environment variable, '' where neither is given. Raises ConfigError."""
    if not config.gateway.password_file:
        text = os.environ.get(config.gateway.password_env, "")
        return _sent(text, f"{config.path}: gateway.password_env: what {config.gateway.password_env} holds")
    file, forbidden = _secret(config)
    try:
        mode = stat.S_IMODE(file.stat().st_mode)
        text = file.read_text().strip()
    except OSError as error:
        raise ConfigError(f"{config.path}: gateway.password_file: {file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{config.path}: gateway.password_file: {file}: is not text") from None
    if mode & forbidden:
        raise ConfigError(f"{config.path}: gateway.password_file: others may read {file}; run: chmod 600 {file}")
    if not text:
        raise ConfigError(f"{config.path}: gateway.password_file: {file} is empty; it must hold the password")
    return _sent(text, f"{config.path}: gateway.password_file: what {file} holds")


def _sent(text: str, what: str) -> str:
    """Return a password that can be sent; the error does not show it. Raises ConfigError."""
    if not re.fullmatch(rf"[ -~]{{0,{PASSWORD_MAX}}}", text):
        raise ConfigError(f"{what} must be {PASSWORD_MAX} plain ASCII characters at most, on one line; it has {len(text)}")
    return text


def _secret(config: Config) -> tuple[Path, int]:
    """Return where the password lies and the mode bits it must not have.

    A plain name is looked for among systemd's credentials (LoadCredential=), then beside the configuration file. systemd may hand a
    credential over by an ACL, which shows as group bits, in a directory that nobody else can enter.
    """
    file = Path(config.gateway.password_file)
    given = os.environ.get("CREDENTIALS_DIRECTORY", "")
    if given and (file.parent == Path(given) or (len(file.parts) == 1 and (Path(given) / file).exists())):
        return Path(given) / file.name, 0o007
    return Path(config.path).parent / file, 0o077


def run_dir(config: Config) -> Path:
    """Return the directory of the control socket and the lock, made 0700 where it is missing. Raises ConfigError."""
    return _own(config, "run_dir", _run_base(config) / config.daemon.name)


def state_dir(config: Config) -> Path:
    """Return the directory of what must outlive a reboot (the kill switch's latch), made 0700 where it is missing."""
    return _own(config, "state_dir", _state_base(config) / config.daemon.name)


def log_dir(config: Config) -> Path:
    """Return the directory of logs and journals, made 0700 where it is missing. Raises ConfigError."""
    chosen = config.daemon.log_dir or _first("LOGS_DIRECTORY")
    return _own(config, "log_dir", Path(chosen) if chosen else run_dir(config) / "log")


def bases(config: Config) -> tuple[Path, Path]:
    """Return the directories in which run and state directories of instances lie, each called as its instance."""
    return _run_base(config), _state_base(config)


def resolved(config: Config) -> Config:
    """Return the configuration with its directories written out.

    The daemon's environment chose them; a tool that reads this configuration from shared memory has another one.
    """
    chosen = {"run_dir": _run_base(config), "state_dir": _state_base(config), "log_dir": log_dir(config)}
    places: dict[str, Any] = {name: str(path.absolute()) for name, path in chosen.items()}
    return dataclasses.replace(config, daemon=dataclasses.replace(config.daemon, **places))


def _first(variable: str) -> str:
    return os.environ.get(variable, "").split(":")[0]


def _run_base(config: Config) -> Path:
    chosen = config.daemon.run_dir or _first("RUNTIME_DIRECTORY")
    if chosen:
        return Path(chosen)
    base = os.environ.get("XDG_RUNTIME_DIR")
    return Path(base) / "hftd" if base and os.access(base, os.W_OK) else Path.home() / ".hftd"


def _state_base(config: Config) -> Path:
    chosen = config.daemon.state_dir or config.daemon.run_dir or _first("STATE_DIRECTORY")
    return Path(chosen) if chosen else Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "hftd"


def _own(config: Config, which: str, path: Path) -> Path:
    where = f"{config.path}: daemon.{which}: {path}"
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        facts = path.stat()
    except OSError as error:
        raise ConfigError(f"{where}: {error.strerror}") from None
    if os.getuid() not in (0, facts.st_uid):
        raise ConfigError(f"{where}: belongs to uid {facts.st_uid}; choose a directory of your own")
    if stat.S_IMODE(facts.st_mode) & 0o022:
        raise ConfigError(f"{where}: others may write to it; run: chmod 700 {path}")
    return path


def strategy_name(row: Strategy) -> str:
    """Return the name of a strategy instance."""
    return row.name or Path(row.file).stem
