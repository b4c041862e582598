"""Which daemon a command means: one that changes something never takes the wrong one, and a kill never waits."""

import contextlib
import json
import os
import signal

import pytest

from hftd.cli import instances
from hftd.cli.main import main
from hftd.control.config import build
from hftd.control.supervisor import take_lock
from hftd.risk import kill
from hftd.shm import map as shared
from hftd.shm import segment
from tests.support.risk_desk import small_config

STARTED: set[str] = set()
"""Instances that a test is starting; what else is being started on this machine is nobody's business here."""


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A user of the test's own: no run or state directory, no configuration, and nobody else's daemons."""
    for variable in ("XDG_RUNTIME_DIR", "XDG_STATE_HOME", "RUNTIME_DIRECTORY", "STATE_DIRECTORY", "HFTD_CONFIG"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    monkeypatch.chdir(tmp_path)
    every = segment.existing
    monkeypatch.setattr(segment, "existing", lambda name=None: [one for one in every(name) if f".t{os.getpid()}-" in one])
    coming = instances.starting
    for module in ("hftd.cli.instances", "hftd.cli.daemon"):
        monkeypatch.setattr(f"{module}.starting", lambda: {name: pid for name, pid in coming().items() if name in STARTED})


@contextlib.contextmanager
def daemons(directory, count=1):
    """Shared memory of `count` daemons whose supervisor is this process; yields (config, memory) of each."""
    made = []
    try:
        for at in range(count):
            config = small_config(directory / str(at), daemon={})
            made.append((config, shared.create(config, 1)))
        yield made
    finally:
        for _, memory in made:
            memory.unlink()


def killed(pair):
    return bool(int(pair[1]["control"]["run"][0]["kill"]))


def test_a_kill_takes_the_only_one_running_and_says_which(tmp_path, capsys):
    """No name, no question; that another instance is known is no reason to wait."""
    with daemons(tmp_path) as (only,):
        other = tmp_path / "0" / "paper"
        other.mkdir(parents=True)
        (other / "pid").write_text("1\n")
        assert main(["kill", "--why", "now"]) == 0
        assert killed(only) and kill.read_latch(only[0])["why"] == "now"
        assert capsys.readouterr().out.startswith(f"hftd: {only[0].daemon.name}: killed: ")


def test_a_kill_of_one_of_several_must_be_named(tmp_path, capsys):
    """It takes none by itself; -n takes one, --all all of them."""
    with daemons(tmp_path, 3) as made:
        names = [config.daemon.name for config, _ in made]
        assert main(["kill"]) == 2
        said = capsys.readouterr().err
        assert all(name in said for name in names) and said.endswith("say which one with -n NAME, or all: --all\n")
        assert not any(killed(pair) for pair in made)
        assert main(["kill", "-n", names[1]]) == 0
        assert [killed(pair) for pair in made] == [False, True, False]
        assert main(["kill", "--all"]) == 0
        assert all(killed(pair) for pair in made)


def test_a_kill_of_all_goes_on_where_one_fails(tmp_path, monkeypatch, capsys):
    """The rest must stop all the same; exit code 1 says that one did not."""
    with daemons(tmp_path, 3) as made:
        bad, pull = made[0][0].daemon.name, kill.pull

        def stubborn(config, *rest):
            if config.daemon.name == bad:
                raise kill.KillError("the disk is full")
            return pull(config, *rest)

        monkeypatch.setattr(kill, "pull", stubborn)
        assert main(["kill", "--all"]) == 1
        assert [killed(pair) for pair in made] == [False, True, True]
        assert f"hftd: {bad}: the disk is full" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["stop"], ["kill", "--clear", "--by", "anna"]], ids=lambda words: words[-1])
def test_what_changes_something_wants_a_name_where_another_is_known(tmp_path, words, capsys):
    """A lock or a latch beside the running one's, in this user's own directories, or another name in the configuration."""
    with daemons(tmp_path) as (only,):
        name = only[0].daemon.name
        kill.pull(*only, "anna")
        beside = tmp_path / "0" / "paper"
        beside.mkdir(parents=True)
        (beside / "kill.json").write_text(json.dumps({"by": "x"}))
        assert main(words) == 2
        said = capsys.readouterr().err
        assert f"several instances are known here: paper (in {beside}), {name} (running, pid {os.getpid()})" in said
        (beside / "kill.json").unlink()
        own = tmp_path / "home" / ".hftd" / "third"
        own.mkdir(parents=True)
        (own / "pid").write_text("1\n")
        assert main(words) == 2 and f"third (in {own})" in capsys.readouterr().err
        (own / "pid").unlink()
        (tmp_path / "config").mkdir()
        (tmp_path / "config" / "hftd.toml").write_text('[daemon]\nname = "fourth"\n')
        assert main(words) == 2 and "fourth (in config/hftd.toml)" in capsys.readouterr().err
        assert killed(only)


def test_a_lift_takes_the_only_one_known(tmp_path, capsys):
    """And says which."""
    with daemons(tmp_path) as (only,):
        kill.pull(*only, "anna")
        assert main(["kill", "--clear", "--by", "bert"]) == 0
        assert not killed(only)
        assert capsys.readouterr().out == f"hftd: {only[0].daemon.name}: the kill switch is off\n"
        assert main(["kill", "--clear", "--by", "bert", "--all"]) == 2


def test_memory_of_a_dead_daemon_is_not_one_that_runs(tmp_path, capsys):
    """It does not make a kill ambiguous, and is none that could be stopped."""
    with daemons(tmp_path) as (only,):
        read_end, write_end = os.pipe()
        config = small_config(tmp_path / "dead", daemon={})
        pid = os.fork()
        if pid == 0:
            kept = shared.create(config, 1)
            os.write(write_end, b"made")
            signal.pause()
            os._exit(len(kept.names()))
        try:
            assert os.read(read_end, 4) == b"made"
            assert set(instances.running()) == {only[0].daemon.name, config.daemon.name}
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            assert list(instances.running()) == [only[0].daemon.name]
            assert main(["kill"]) == 0 and killed(only)
        finally:
            for entry in segment.existing(config.daemon.name):
                segment.unlink(entry)


def test_nothing_runs(capsys):
    """Exit code 3."""
    for words in (["kill"], ["stop"], ["status"], ["kill", "--all"], ["kill", "--clear", "--by", "anna"], ["stop", "-n", "none"]):
        assert main(words) == 3
    assert "no daemon called 'none' is running" in capsys.readouterr().err


@contextlib.contextmanager
def compiling(directory):
    """A process that holds a daemon's lock, as one does that compiles; yields (name, pid). It ends when it is told to."""
    name = f"t{os.getpid()}-new"
    config = build({"daemon": {"name": name, "run_dir": str(directory)}})
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        lock = take_lock(config)
        os.write(write_end, b"1")
        signal.pause()
        os._exit(lock)
    assert os.read(read_end, 1) == b"1"
    STARTED.add(name)
    try:
        yield name, pid
    finally:
        STARTED.discard(name)
        os.close(read_end)
        os.close(write_end)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)


@pytest.mark.parametrize("named", [False, True])
def test_one_that_compiles_yet_is_found_by_its_lock_and_stopped(tmp_path, capsys, named):
    """Its run directory is in no place that is known here. Those that look, and a kill, say that it is on its way up."""
    with compiling(tmp_path / "somewhere") as (name, pid):
        words = ["-n", name] if named else []
        for command in (["status"], ["kill"], ["orders", "--json"]):
            assert main([*command, *words]) == 3
            assert f"{name} (pid {pid}) is being started" in capsys.readouterr().err
        assert main(["stop", *words]) == 0
        assert capsys.readouterr().out.endswith(f"hftd: {name} gave up before it was up\n")
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGTERM
        assert main(["stop", *words]) == 3


def test_a_stop_that_may_mean_one_that_runs_or_one_that_starts_wants_a_name(tmp_path, capsys):
    with daemons(tmp_path), compiling(tmp_path / "somewhere") as (name, _):
        assert main(["stop"]) == 2
        assert name in capsys.readouterr().err


def test_a_kill_of_all_tells_of_one_that_will_trade_when_it_is_up(tmp_path, capsys):
    with daemons(tmp_path) as (only,), compiling(tmp_path / "somewhere") as (name, pid):
        assert main(["kill", "--all"]) == 1
        assert killed(only)
        assert f"{name} is being started (pid {pid}), and was not killed: hftd stop -n {name}" in capsys.readouterr().err


@pytest.mark.parametrize("words", [
    ["status"], ["status", "--all"], ["status", "--json"], ["orders"], ["positions", "--json"], ["book", "AAA"], ["latency"],
    ["latency", "--json"], ["memory"], ["memory", "--json"],
])  # fmt: skip
def test_a_daemon_whose_clock_does_not_run_yet_is_being_started(tmp_path, capsys, words):
    """Its memory is there, and not one figure in it means anything."""
    with daemons(tmp_path) as ((config, _),):
        assert main(words) == 1
        assert capsys.readouterr() == ("", f"hftd: instance {config.daemon.name!r} is being started; try again in a moment\n")
