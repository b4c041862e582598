"""warm, start, stop, kill, clean: the daemon's life."""

import argparse
import contextlib
import os
import shlex
import signal
import sys
import time
from pathlib import Path

from hftd.cli.arguments import days
from hftd.cli.instances import Ambiguous, NotRunning, configured, given, name_argument, running, starting, to_change, to_kill
from hftd.errors import HftdError, WrongUse, exit_code

GIVE_UP_S = 30.0
"""How long a start may take to give up: one that compiles ends at once, one whose roles come up takes them down."""


def config_argument(parser: argparse.ArgumentParser) -> None:
    """Add `-c FILE`."""
    parser.add_argument("-c", "--config", default=configured(), metavar="FILE",
                        help="configuration file (default: $HFTD_CONFIG or config/hftd.toml)")  # fmt: skip


def add(commands) -> None:
    """Add the commands of this file."""
    parser = commands.add_parser("warm", help="compile every kernel of a configuration into the cache")
    config_argument(parser)
    parser.set_defaults(run=warm)
    parser = commands.add_parser("start", help="start the daemon and wait until it is trading-ready")
    config_argument(parser)
    parser.add_argument("--foreground", action="store_true", help="stay in the foreground (systemd, containers)")
    parser.add_argument("--layout", choices=("auto", "dedicated", "shared", "fused"), help="instead of daemon.layout")
    parser.set_defaults(run=start)
    parser = commands.add_parser("stop", help="cancel open orders, log out, end the daemon")
    name_argument(parser, changes=True)
    parser.set_defaults(run=stop)
    parser = commands.add_parser("kill", help="kill switch: cancel everything, send nothing more, until cleared")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("-n", "--name", type=given, default=None, help="instance (default: the only one running)")
    which.add_argument("--all", action="store_true", help="every daemon that is running")
    parser.add_argument("--by", default="", help="who does it (kept in the latch); default, but not for --clear: the user")
    parser.add_argument("--why", default="", help="the reason (kept in the latch)")
    parser.add_argument("--clear", action="store_true", help="lift the switch; --by must be given")
    parser.set_defaults(run=kill)
    parser = commands.add_parser("clean", help="show and remove what a crash left behind")
    parser.add_argument("--dry-run", action="store_true", help="only show")
    parser.add_argument("--cache", nargs="?", type=days, const=7.0, metavar="DAYS",
                        help="remove compiled kernels that were not used for a week (or DAYS)")  # fmt: skip
    parser.set_defaults(run=clean)


def warm(options) -> int:
    """Compile every kernel, with progress."""
    from hftd.control.config import load
    from hftd.control.warm import warm as compile_all

    compile_all(load(options.config), exchange=True)
    return 0


def start(options) -> int:
    """Start the daemon in the background (or, with --foreground, here)."""
    import dataclasses

    from hftd.cli.main import complain
    from hftd.control.config import load, log_dir, password
    from hftd.control.host import check_host, place
    from hftd.control.supervisor import Supervisor, daemonize, open_log, take_lock
    from hftd.control.warm import warm as compile_all

    check_host()
    config = load(options.config)
    if options.layout:
        config = dataclasses.replace(config, daemon=dataclasses.replace(config.daemon, layout=options.layout))
    placement = place(config)
    lock = take_lock(config, wait_s=config.daemon.stop_timeout_s if options.foreground else 0.0)
    password(config)                                  # one that cannot be sent is told before anything is compiled
    compile_all(config)
    if options.foreground:

        def up(why: str) -> None:
            with contextlib.suppress(OSError, HftdError):     # it trades; that nobody hears so is no reason to end it
                _say_up(config, os.getpid(), f"layout {placement.layout}: {why}")

        return Supervisor(config, lock, on_ready=up).run()
    log = open_log(log_dir(config) / "supervisor.log")
    read_end, write_end = os.pipe()
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    for number, handler in before.items():            # from before the fork: who is told to end must end the child, too
        if handler == signal.SIG_DFL:
            signal.signal(number, signal.default_int_handler)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, *before})
    pid = os.fork()
    if pid == 0:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        os.close(read_end)
        code = 1
        try:
            daemonize(log)
            code = Supervisor(config, lock, on_ready=lambda why: _tell(write_end, f"ready {why}")).run()
        except HftdError as error:
            code = exit_code(error)
            _tell(write_end, f"error {error}")
            complain(str(error))
        except BaseException:
            import traceback

            traceback.print_exc()
            _tell(write_end, f"error the supervisor failed; see {log_dir(config) / 'supervisor.log'}")
        finally:
            sys.stdout.flush()
            os._exit(code)
    os.close(write_end)
    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)  # here, and no earlier, can a signal end the child
        with os.fdopen(read_end) as pipe:
            word, _, text = pipe.readline().strip().partition(" ")
    except KeyboardInterrupt:                         # a start that was given up must not trade: it is in a session of its own
        os.kill(pid, signal.SIGTERM)
        os.waitpid(pid, 0)
        raise
    if word == "ready":
        _say_up(config, pid, f"layout {placement.layout}: {text}")
        return 0
    complain(text or f"the supervisor ended; see {log_dir(config) / 'supervisor.log'}")
    return max(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), 1)


def _say_up(config, pid: int, how: str) -> None:
    """Say that a daemon is up, whether it trades, how much the stores of each role hold, and on what pages they lie."""
    from hftd.cli.main import complain, say
    from hftd.control import glance
    from hftd.control.memorymap import at_start
    from hftd.risk import kill as switch
    from hftd.shm import map as shared

    running, memory = shared.attach(config.daemon.name)
    killed = switch.in_force(running, memory)
    say(f"hftd: {config.daemon.name} is {'up, and KILLED: it sends nothing' if killed else 'trading'} (pid {pid}), {how}")
    for line in at_start(config, memory["control"]):
        say(f"hftd: memory: {line}")
    _say_positions(config)
    missing = glance.not_announced(running, memory)
    if missing:
        complain(f"{config.path}: the venue has announced no such symbol: {glance.some(missing)}")
    if killed:
        complain(f"{config.daemon.name}: {switch.in_words(killed)}")


def _say_positions(config) -> None:
    """Say what the day begins with, and what the last one left that it does not begin with."""
    from hftd.cli.main import complain, say
    from hftd.control.status import carried, sharing
    from hftd.risk import ledger
    from hftd.shm import map as shared

    facts = carried(*shared.attach(config.daemon.name))
    if facts["held"] or facts["file"]:
        say(f"hftd: trading day {facts['day']}: {facts['held']} positions held, {facts['opening']} of them the opening's"
            f"{' from ' + facts['file'] if facts['file'] else ''}")  # fmt: skip
    if told := ledger.not_carried(config):
        complain(told)
    if others := sharing(config):
        complain(f"risk.positions: {', '.join(others)} has the same file: what is held counts twice; give each a file of its own")


def _tell(pipe: int, text: str) -> None:
    try:
        os.write(pipe, f"{' '.join(text.split())}\n".encode())
        os.close(pipe)
    except OSError:
        pass


def _socket(name: str) -> Path:
    from hftd.control.config import run_dir
    from hftd.shm import map as shared

    config, _ = shared.attach(name)
    return run_dir(config) / "control.sock"


def stop(options) -> int:
    """Stop the daemon and wait until it is gone; one that is being started gives up."""
    from hftd.cli.main import complain, say
    from hftd.control.channel import ask
    from hftd.control.config import log_dir
    from hftd.control.supervisor import longest_stop_s, wait_gone
    from hftd.core.agent import alive
    from hftd.shm import map as shared

    name = _to_stop(options)
    coming = starting()
    if name in coming:
        return _give_up(name, coming[name])
    if _is_dead(name):
        return _stop_dead(name)
    config, memory = shared.attach(name)
    begun, starts = time.monotonic(), _starts(memory)
    pid = ask(_socket(name), do="stop")["pid"]
    say(f"hftd: {name} is stopping (pid {pid})")
    patience = longest_stop_s(config)
    if not wait_gone(pid, patience) and alive(pid):
        complain(f"pid {pid} is still there after {patience:g} s; end it with: kill -9 {pid}; hftd clean")
        return 1
    wrong = _not_in_order(name, config, memory)
    if _starts(memory) > starts:
        wrong.insert(0, "its gateway died or had to be killed, and another one was started to cancel what was open")
    if wrong:
        complain(f"{name} stopped, but {'; '.join(wrong)}; see {log_dir(config)}")
        return 1
    say(f"hftd: {name} stopped in {time.monotonic() - begun:.1f} s; no order is open")
    return 0


def _to_stop(options) -> str:
    """Return the instance that a stop means: of those that run or are being started; where there is none, the only dead one."""
    from hftd.shm.segment import instances

    if not options.name and not running() and not starting():
        dead = [name for name in instances() if _is_dead(name)]
        if len(dead) == 1:
            return dead[0]
        if dead:
            raise Ambiguous(f"stop: no daemon is running, and several have died: {', '.join(dead)}; say which one with -n NAME")
    return to_change(options, "stop", coming=True)


def _starts(memory) -> int:
    """Return how often the gateway of a daemon was started."""
    from hftd.msg.enums import Role
    from hftd.shm import map as shared

    return int(memory["control"]["marks"][shared.mark_of(Role.GATEWAY)]["starts"])


def _give_up(name: str, pid: int) -> int:
    """Have a start that compiles yet, or makes its memory, give up; wait until it has."""
    from hftd.cli.main import complain, say
    from hftd.control.supervisor import wait_gone
    from hftd.shm.segment import existing

    try:
        os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        pass
    except PermissionError:
        raise HftdError(f"{name}: pid {pid} belongs to another user; run as the user that started it") from None
    say(f"hftd: {name} is being started (pid {pid}); told to give up")
    if not wait_gone(pid, GIVE_UP_S):
        complain(f"pid {pid} is still there after {GIVE_UP_S:g} s; end it with: kill -9 {pid}; hftd clean")
        return 1
    if left := existing(name):
        complain(f"{name} gave up, but {len(left)} segments are left: see hftd status, hftd clean")
        return 1
    say(f"hftd: {name} gave up before it was up")
    return 0


def _is_dead(name: str) -> bool:
    """Tell whether an instance's memory is there, and its supervisor is not."""
    from hftd.shm.segment import SegmentError, full_name, instances, owner

    with contextlib.suppress(SegmentError):           # another user's: it is for him to say
        return name in instances() and not owner(full_name(name, "control"))
    return False


def _stop_dead(name: str) -> int:
    """Of a daemon whose supervisor is gone: wait for roles that still cancel, and say what may live at the venue."""
    from hftd.cli.main import complain, say
    from hftd.control.supervisor import longest_stop_s, wait_gone
    from hftd.gateway.left import in_words
    from hftd.shm import map as shared
    from hftd.shm.segment import full_name, held_by

    config, memory = shared.attach(name, stale_ok=True)
    still = held_by(full_name(name, "control"))
    if still:
        say(f"hftd: the supervisor of {name} is gone; its roles (pid {', '.join(map(str, still))}) cancel, and end by themselves")
        deadline = time.monotonic() + longest_stop_s(config)
        late = [pid for pid in still if not wait_gone(pid, max(deadline - time.monotonic(), 0.0))]
        if late:
            complain(f"{name}: still there: end them with: kill -9 {' '.join(map(str, late))}; hftd clean")
    orders = in_words(memory)
    if orders:
        complain(f"{name} is dead, and ORDERS MAY LIVE AT THE VENUE: {orders}; see to them there, or: hftd start -c "
                 f"{shlex.quote(config.path)}, which cancels them before it trades")  # fmt: skip
        return 1
    if still:
        return 1 if late else 0
    raise NotRunning(f"{name} is not running: it died, with no order open as far as its memory tells; `hftd clean` removes that")


def _not_in_order(name: str, config, memory) -> list[str]:
    """Return what is wrong with a daemon that has stopped. Its memory is the last word: the names are gone, the mapping is not."""
    from hftd.gateway.left import in_words, open_rows
    from hftd.msg.enums import AgentState, Role
    from hftd.shm import map as shared
    from hftd.shm.segment import existing

    marks = memory["control"]["marks"]
    failed = [who for role, index, who in shared.agents(config)
              if int(marks[shared.mark_of(role, index)]["state"]) != AgentState.STOPPED]  # fmt: skip
    wrong = [f"{', '.join(failed)} failed or had to be killed"] if failed else []
    still = len(open_rows(memory["orders"]))
    if still:
        wrong.append(f"{still} orders stayed open: see to them at the venue: {in_words(memory)}")
    elif int(marks[shared.mark_of(Role.GATEWAY)]["state"]) != AgentState.STOPPED:
        wrong.append("whether an order is open only the venue knows")
    if left := existing(name):
        wrong.append(f"{len(left)} segments are left: hftd clean")
    return wrong


def kill(options) -> int:
    """Pull the kill switch, or lift it; 1 where that could not be done to one of those that are meant."""
    from hftd.cli.main import complain, say

    if options.clear and not options.by.strip():
        raise WrongUse("the kill switch is lifted by a named person: hftd kill --clear --by NAME")
    if options.clear and options.all:
        raise Ambiguous("kill --clear: one at a time: say which one with -n NAME")
    names = [to_change(options, "kill --clear")] if options.clear else to_kill(options)
    by, failed = options.by or os.environ.get("USER", "operator"), 0
    for name in names:
        try:
            _switch(name, options.clear, by, options.why)
        except HftdError as error:                    # the others are killed all the same
            complain(f"{name}: {error}")
            failed = 1
            continue
        done = "the kill switch is off" if options.clear else "killed: everything is being cancelled, nothing more is sent"
        say(f"hftd: {name}: {done}")
    for name, pid in (starting() if options.all else {}).items():
        complain(f"{name} is being started (pid {pid}), and was not killed: hftd stop -n {name}")
        failed = 1
    return failed


def _switch(name: str, clear: bool, by: str, why: str) -> None:
    """Pull one instance's switch straight in shared memory: no wait for a supervisor that may hang. Lift it through the supervisor.

    Where the one cannot be had it is the other that does it.
    """
    from hftd.control.channel import ChannelError, ask
    from hftd.risk import kill as switch
    from hftd.shm import map as shared
    from hftd.shm.segment import SegmentError

    if not clear:
        with contextlib.suppress(SegmentError):       # root, say, whom the supervisor hears: the memory is another user's
            switch.pull(*shared.attach(name, read_only=False), by, why)
            return
    try:
        ask(_socket(name), do="clear" if clear else "kill", by=by, why=why)
    except ChannelError:
        if not clear:
            raise
        switch.clear(*shared.attach(name, read_only=False), by)


def clean(options) -> int:
    """Show and remove shared memory whose owner is gone; what a dead daemon's rings still hold goes into its journal first."""
    from hftd.cli.main import complain, say
    from hftd.core.agent import alive
    from hftd.recorder.salvage import told
    from hftd.shm import segment

    if options.cache is not None:
        from hftd.core.cache import sweep

        count, size = sweep(options.cache * 86_400, remove=not options.dry_run)
        say(f"{count} compiled kernels {'would be ' if options.dry_run else ''}removed, {size / (1 << 20):.1f} MiB")
        return 0
    removed = 0
    for name in segment.instances() if not options.dry_run else []:
        if text := told(name):
            complain(text)
    for name in segment.existing():
        users = [pid for pid in segment.users(name) if alive(pid)]
        if users:
            say(f"{name}: in use by pid {', '.join(map(str, users))}")
            continue
        if not options.dry_run:
            segment.unlink(name)
        removed += 1
        say(f"{name}: {'would be removed' if options.dry_run else 'removed'}; nobody uses it")
    if not removed:
        say("nothing to clean")
    return 0
