"""What `hftd sim` can be asked for: one dataclass, its command line, and the checks that need no socket."""

import argparse
from dataclasses import dataclass, field
from pathlib import Path

from hftd.control.config import ConfigError, host_port
from hftd.errors import HftdError

SYMBOLS = (("ALFA", 187.42), ("BRVO", 42.17), ("CHRL", 311.05), ("DLTA", 25.63), ("ECHO", 96.80), ("FOXT", 64.31),
           ("GOLF", 143.77), ("HTEL", 18.94), ("INDA", 502.10), ("JULT", 77.45), ("KILO", 33.08), ("LIMA", 221.66),
           ("MIKE", 58.29), ("NVBR", 129.90), ("OSCR", 15.51), ("PAPA", 402.73))  # fmt: skip
"""Invented symbols and the prices their walks begin at."""

SYMBOLS_DEFAULT = 8
SYNTHETIC_SYMBOLS = tuple(name for name, _ in SYMBOLS[:SYMBOLS_DEFAULT])
"""The symbols of a synthetic session that was not asked for more or fewer."""


WEEK = 604_800
RANGES: dict[str, tuple[float, float]] = {
    "speed": (1e-6, 1e9), "seconds": (0, WEEK), "max_gap": (0, WEEK), "wait_login": (0, WEEK), "linger": (0, WEEK),
    "end_seconds": (0, WEEK), "dead_after": (0.001, WEEK), "delay_ms": (0, 1e6), "request_loss": (0, 100), "reject": (0, 100),
    "rate": (0, 10**9), "messages": (0, 10**15), "drop_after": (0, 10**15), "tick": (1, 10**6),
}  # fmt: skip
"""What the numbers may be, both ends included."""


class SimError(HftdError):
    """The simulated exchange cannot run as asked, and what would be right."""


@dataclass
class Options:
    """Everything the exchange can be told. Percentages of faults are (line A, line B)."""

    data: str = ""                                # ITCH file to replay (BinaryFILE, plain or .gz); empty: synthetic flow
    session: str = "HFTD000001"                   # MoldUDP64 and SoupBinTCP session, 10 characters
    line_a: str = "239.192.70.1:31001"            # multicast group (or unicast address) and port of line A
    line_b: str = ""                              # the same for line B; empty: none
    interface: str = "127.0.0.1"                  # address of the interface that sends
    host: str = "127.0.0.1"                       # address the servers listen on
    ouch_port: int = 31002                        # SoupBinTCP/OUCH, TCP
    request_port: int = 31003                     # retransmissions, UDP
    glimpse_port: int = 31004                     # snapshots, TCP; 0: none
    users: dict[str, str] = field(default_factory=dict)  # name -> password; empty: anybody with any password
    speed: float = 1.0                            # recorded (or venue) time runs so many times as fast
    seconds: float = 0.0                          # the whole session lasts that long; 0: as `speed` says (synthetic: until stopped)
    fast: bool = False                            # as fast as possible
    rate: int = 0                                 # messages a second: fast replay, at most; synthetic, on average (0: 5000)
    max_gap: float = 0.0                          # replay: recorded silences are cut to so many seconds; 0: kept
    messages: int = 0                             # synthetic: end after so many events of the flow; 0: no limit
    symbols: int = SYMBOLS_DEFAULT                # synthetic: how many symbols
    seed: int = 1                                 # of the synthetic flow and of the faults
    wait_login: float = 0.0                       # hold the flow until somebody has logged in, at most so many seconds
    linger: float = 10.0                          # after the flow: serve orders until all have logged out, at most so many seconds
    end_seconds: float = 1.0                      # how long end-of-session packets are repeated
    cancel_on_disconnect: bool = True             # cancel an account's open orders when its connection ends
    dead_after: float = 15.0                      # drop a client that was silent for so many seconds
    tick: int = 100                               # accounts' prices from a dollar up are multiples of it, 1e-4
    spin: bool = False                            # never sleep
    ledger: str = ""                              # file for the ledger, JSON, written at the end
    loss: tuple[float, float] = (0.0, 0.0)        # % of packets not sent
    duplicate: tuple[float, float] = (0.0, 0.0)   # % sent twice
    reorder: tuple[float, float] = (0.0, 0.0)     # % sent one to four packets late
    delay: tuple[float, float] = (0.0, 0.0)       # % sent `delay_ms` late
    delay_ms: float = 5.0
    request_loss: float = 0.0                     # % of retransmissions that are not answered
    reject: float = 0.0                           # % of entered orders that are rejected
    drop_after: int = 0                           # drop an account's first connection after so many OUCH messages; 0: never


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `hftd sim` to a parser."""
    usual = Options()
    group = parser.add_argument_group("what happens")
    group.add_argument("--data", default="", metavar="FILE", help="ITCH 5.0 file to replay, plain or .gz (default: synthetic flow)")
    group.add_argument("--seconds", type=float, default=0.0, help="let the whole session last that long")
    group.add_argument("--speed", type=float, default=1.0, help="times as fast as recorded (default 1)")
    group.add_argument("--fast", action="store_true", help="as fast as possible")
    group.add_argument("--rate", type=int, default=0, help="messages a second: at most with --fast, on average when synthetic")
    group.add_argument("--max-gap", type=float, default=0.0, metavar="S", help="cut recorded silences to S seconds")
    group.add_argument("--messages", type=int, default=0, help="synthetic: end after so many events")
    group.add_argument("--symbols", type=int, default=usual.symbols, help=f"synthetic: how many symbols, up to {len(SYMBOLS)}")
    group.add_argument("--seed", type=int, default=1, help="of the synthetic flow and of the faults")
    group.add_argument("--wait-login", type=float, default=0.0, metavar="S", help="hold the flow until a log-in, at most S seconds")
    group.add_argument("--linger", type=float, default=usual.linger, metavar="S",
                       help=f"serve orders after the flow, at most S seconds (default {usual.linger:g})")  # fmt: skip
    group.add_argument("--end-seconds", type=float, default=usual.end_seconds, metavar="S", help="repeat end of session for S")
    group.add_argument("--ledger", default="", metavar="FILE", help="write the ledger there, JSON")
    group.add_argument("--no-cancel-on-disconnect", action="store_true", help="leave orders open when a connection ends")
    group.add_argument("--spin", action="store_true", help="never sleep: a core of its own")
    group = parser.add_argument_group("where")
    group.add_argument("--session", default=usual.session, help="session name, 10 characters")
    group.add_argument("--line-a", default=usual.line_a, metavar="GROUP:PORT", help=f"market data (default {usual.line_a})")
    group.add_argument("--line-b", default="", metavar="GROUP:PORT", help="the same data a second time")
    group.add_argument("--interface", default=usual.interface, help="address of the sending interface")
    group.add_argument("--host", default=usual.host, help="address the servers listen on")
    group.add_argument("--ouch-port", type=int, default=usual.ouch_port, help=f"order entry (default {usual.ouch_port})")
    group.add_argument("--request-port", type=int, default=usual.request_port, help=f"retransmissions ({usual.request_port})")
    group.add_argument("--glimpse-port", type=int, default=usual.glimpse_port, help=f"snapshots, 0: none ({usual.glimpse_port})")
    group.add_argument("--user", action="append", default=[], metavar="NAME:PASSWORD", help="allow only these (repeatable)")
    group.add_argument("--dead-after", type=float, default=usual.dead_after, metavar="S", help="drop a client silent for S")
    group = parser.add_argument_group("faults (percent; A,B for the lines apart)")
    for name in ("loss", "duplicate", "reorder", "delay"):
        group.add_argument(f"--{name}", default="0", metavar="PCT[,PCT]", help=f"{name} of packets")
    group.add_argument("--delay-ms", type=float, default=usual.delay_ms, help="how late a delayed packet is")
    group.add_argument("--request-loss", type=float, default=0.0, metavar="PCT", help="retransmissions not answered")
    group.add_argument("--reject", type=float, default=0.0, metavar="PCT", help="orders rejected")
    group.add_argument("--drop-after", type=int, default=0, metavar="N", help="drop an account's first connection after N messages")


def options_from(args: argparse.Namespace) -> Options:
    """Return the options a parsed command line asks for. Raises SimError."""
    users = {}
    for text in args.user:
        name, colon, password = text.partition(":")
        if not colon or not 1 <= len(name) <= 6 or len(password) > 10:
            raise SimError(f"--user {text}: must be NAME:PASSWORD, at most 6 and 10 characters")
        users[name.upper()] = password
    both = {name: _pair(name, getattr(args, name)) for name in ("loss", "duplicate", "reorder", "delay")}
    return check(Options(
        data=args.data, session=args.session, line_a=args.line_a, line_b=args.line_b, interface=args.interface, host=args.host,
        ouch_port=args.ouch_port, request_port=args.request_port, glimpse_port=args.glimpse_port, users=users, speed=args.speed,
        seconds=args.seconds, fast=args.fast, rate=args.rate, max_gap=args.max_gap, messages=args.messages, symbols=args.symbols,
        seed=args.seed, wait_login=args.wait_login, linger=args.linger, end_seconds=args.end_seconds,
        cancel_on_disconnect=not args.no_cancel_on_disconnect, dead_after=args.dead_after, spin=args.spin, ledger=args.ledger,
        delay_ms=args.delay_ms, request_loss=args.request_loss, reject=args.reject, drop_after=args.drop_after, **both,
    ))  # fmt: skip


def check(options: Options) -> Options:
    """Return `options` if they make sense. Raises SimError."""
    for name in ("line_a", "line_b"):
        text = getattr(options, name)
        if text or name == "line_a":
            try:
                host_port(text, "--" + name.replace("_", "-"))
            except ConfigError as error:
                raise SimError(str(error)) from None
    for name in ("ouch_port", "request_port", "glimpse_port"):
        port = getattr(options, name)
        if not (0 if name == "glimpse_port" else 1) <= port < 65536:
            raise SimError(f"--{name.replace('_', '-')}: must be a port, 1 to 65535, was {port}")
    if len(options.session) > 10 or not options.session.isalnum():
        raise SimError(f"--session: must be 1 to 10 letters and digits, was {options.session!r}")
    if not 1 <= options.symbols <= len(SYMBOLS):
        raise SimError(f"--symbols: must be 1 to {len(SYMBOLS)}, was {options.symbols}")
    for name, (low, high) in RANGES.items():
        if not low <= getattr(options, name) <= high:     # nan, too, is in no range
            raise SimError(f"--{name.replace('_', '-')}: must be {low:,} to {high:,}, was {getattr(options, name)}")
    for name in ("loss", "duplicate", "reorder", "delay"):
        if not all(0 <= part <= 100 for part in getattr(options, name)):
            raise SimError(f"--{name}: must be 0 to 100 percent")
    if options.data and not Path(options.data).is_file():
        raise SimError(f"--data {options.data}: no such file")
    return options


def _pair(name: str, text: str) -> tuple[float, float]:
    parts = text.split(",")
    try:
        values = [float(part) for part in parts]
    except ValueError:
        values = []
    if len(values) not in (1, 2):
        raise SimError(f"--{name}: must be a percentage, or two for the lines A and B, was {text!r}")
    return values[0], values[-1]
