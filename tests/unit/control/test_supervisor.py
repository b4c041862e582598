"""Who owns an instance: the lock, and the memory of a daemon that runs, has died, or is another user's."""

import contextlib
import os
import signal
import time
from types import SimpleNamespace

import numpy as np
import pytest

from hftd.control.config import build, log_dir
from hftd.control.supervisor import RESTARTS, Flag, StartError, Supervisor, open_log, reclaim, take_lock, wait_gone
from hftd.core.libc import set_name
from hftd.msg.enums import AgentState, Role
from hftd.shm import segment
from hftd.shm.control import mark_dtype
from hftd.shm.segment import Part, SegmentError


@pytest.fixture
def instance():
    name = f"own{os.getpid()}"
    yield name
    for entry in segment.existing(name):
        segment.unlink(entry)


@contextlib.contextmanager
def another(instance: str, called: str = "hftd"):
    """A process that made a segment of the instance and lives; yields its pid."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(read_end)
            set_name(called)
            kept = segment.create(segment.full_name(instance, "control"), [Part("mark", mark_dtype, 1)], 1)
            os.write(write_end, b"made")
            signal.pause()
            del kept
        finally:
            os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end) as pipe:
        assert pipe.read(4) == "made"
    try:
        yield pid
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)


def test_memory_of_a_dead_daemon_is_reclaimed(instance):
    name = segment.full_name(instance, "control")
    with another(instance):
        pass
    assert segment.existing(instance) == [name]
    assert reclaim(instance) == [name]
    assert segment.existing(instance) == []


def test_memory_of_a_running_daemon_is_not(instance):
    with another(instance) as pid:
        with pytest.raises(StartError) as raised:
            reclaim(instance)
        assert str(raised.value) == (
            f"an instance called {instance!r} is running (pid {pid}); stop it, or choose another daemon.name"
        )
        assert segment.existing(instance)


def test_number_that_another_program_has_by_now_holds_nothing(instance):
    with another(instance, called="editor"):
        assert segment.holder(segment.full_name(instance, "control")) == 0
        assert reclaim(instance)


def test_file_that_is_no_segment_is_reclaimed(instance):
    with open(f"/dev/shm/hftd.{instance}.control", "wb") as file:
        file.write(b"x" * 10)
    assert segment.holder(segment.full_name(instance, "control")) == 0
    assert reclaim(instance)


def test_segment_that_may_not_be_read_is_not_taken_away(instance, monkeypatch):
    with another(instance):
        def refused(*_, **__):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr("builtins.open", refused)
        with pytest.raises(SegmentError, match="belongs to another user"):
            reclaim(instance)
        monkeypatch.undo()
        assert segment.existing(instance)


def test_second_instance_of_a_name_is_refused_in_whatever_directory_before_it_compiles(tmp_path, instance):
    """The memory has one name, and two locks guard nothing."""
    config = build({"daemon": {"name": instance, "run_dir": str(tmp_path)}}, "c.toml")
    with another(instance) as pid, pytest.raises(StartError) as raised:
        take_lock(config)
    assert str(raised.value).startswith(f"an instance called '{instance}' is running (pid {pid})")
    os.close(take_lock(config))


def test_memory_that_roles_of_a_dead_supervisor_use_is_not_taken_away(tmp_path, instance):
    """They cancel yet, and the last of them removes the memory by its name: a daemon started meanwhile would lose its own."""
    name = segment.full_name(instance, "control")
    with another(instance, called="hftd:gateway") as pid:
        header = segment.attach(name, [Part("mark", mark_dtype, 1)]).header
        header["owner_pid"] = 1 << 22                 # no process has that number
        with pytest.raises(StartError, match=rf"is ending, its supervisor is gone: pid {pid} of it cancel yet; wait for them"):
            reclaim(instance)
        assert segment.existing(instance) == [name]
        with pytest.raises(StartError, match="is ending"):
            take_lock(build({"daemon": {"name": instance, "run_dir": str(tmp_path)}}, "c.toml"))
    assert reclaim(instance) == [name]


def test_other_instances_are_not_touched(instance):
    other = f"{instance}x"
    try:
        with another(other):
            assert reclaim(instance) == []
            assert segment.existing(other)
    finally:
        for entry in segment.existing(other):
            segment.unlink(entry)


def test_lock_is_one_instance_s_as_long_as_a_process_holds_it(tmp_path, instance):
    config = build({"daemon": {"name": instance, "run_dir": str(tmp_path)}}, "c.toml")
    first = take_lock(config)
    os.pwrite(first, b"4711\n", 0)
    with pytest.raises(StartError, match=r"is running \(pid 4711\); stop it with `hftd stop`, or choose another name$"):
        take_lock(config)
    child = os.fork()
    if child == 0:
        signal.pause()
        os._exit(0)
    os.close(first)
    with pytest.raises(StartError):
        take_lock(config)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(take_lock(config))


def test_lock_is_waited_for_where_asked(tmp_path, instance):
    config = build({"daemon": {"name": instance, "run_dir": str(tmp_path)}}, "c.toml")
    first = take_lock(config)
    child = os.fork()
    if child == 0:
        time.sleep(0.2)
        os._exit(0)
    os.close(first)
    begun = time.monotonic()
    os.close(take_lock(config, wait_s=20))
    assert time.monotonic() - begun < 20
    os.waitpid(child, 0)


def test_waiting_for_a_process_ends_when_it_is_gone():
    child = os.fork()
    if child == 0:
        os._exit(0)
    assert wait_gone(child, 10)  # a zombie is gone
    os.waitpid(child, 0)
    assert not wait_gone(os.getpid(), 0.0)


def test_users_of_a_segment_are_those_who_have_it_mapped(instance):
    name = segment.full_name(instance, "control")
    with another(instance) as pid:
        assert segment.users(name) == [pid]
        assert segment.users(name + "x") == []
    assert segment.users(name) == []


@pytest.mark.parametrize(("module", "whose"), [
    ("hftd/risk/setup.py", "risk"), ("hftd/gateway/setup.py", "gateway"), ("hftd/strategy/setup.py", "strategy.maker"),
    ("elsewhere/maker.py", "strategy.maker"), ("hftd/control/placing.py", "gateway"),
])  # fmt: skip
def test_last_words_of_a_fused_process_are_of_the_agent_they_came_out_of(instance, tmp_path, module, whose):
    """Three agents in one process: the file is called after the one whose code failed, and is found again."""
    made = Supervisor.__new__(Supervisor)
    made.config = build({"daemon": {"name": instance, "run_dir": str(tmp_path)}, "strategy": [{"file": "elsewhere/maker.py"}]})
    made.placement = SimpleNamespace(fused=True)
    try:
        exec(compile("raise ValueError('so it ended')", str(tmp_path / module), "exec"))
    except ValueError as error:
        made._report(made._whose(Role.GATEWAY, 0, error), f"Traceback\n{error}")
    assert [path.name for path in log_dir(made.config).glob("*.failed")] == [f"{whose}.failed"]
    assert made._last_words(Role.GATEWAY, 0) == (whose, "so it ended")
    assert made._last_words(Role.GATEWAY, 0) == ("gateway", "")


def test_a_request_that_is_wrong_is_answered_and_ends_nothing(instance, tmp_path):
    """Nobody lifts a kill switch without a name; who tries is told so, and the daemon goes on."""
    made = Supervisor.__new__(Supervisor)
    made.config, made.memory = build({"daemon": {"name": instance, "state_dir": str(tmp_path)}}), {}
    answers: list[dict] = []
    for request in ({"do": "clear"}, {"do": "clear", "by": ""}, {"do": "dance"}, {}):
        made._answer(request, answers.append, Flag())
    assert all("error" in answer for answer in answers) and "named person" in answers[0]["error"]


class Watched(Supervisor):
    """A supervisor with one child of its own, which sleeps, and a clock of ten ticks a second that the test moves."""

    def __init__(self, tmp_path, monkeypatch):
        self.config = build({"daemon": {"name": "watched", "run_dir": str(tmp_path)}})
        self.placement = SimpleNamespace(fused=False)
        self.clock, self.marks, self.now = {"hz": 10}, np.zeros(32, mark_dtype), 1000
        self._looked = self._patient = 0
        self._exit, self.failures, self._began = {}, [], {}
        monkeypatch.setattr("hftd.control.supervisor.clocks.now_ticks", lambda: self.now)
        self.child = os.fork()
        if self.child == 0:
            signal.pause()
            os._exit(0)
        self.children = {self.child: (Role.FEED, 0, "feed")}

    def look(self, times: int, ticks: int = 5) -> bool:
        """Look some times, so many ticks apart, at roles that give no sign of life; tell whether the child lives."""
        for _ in range(times):
            self.now += ticks
            self._end_hung()
        return not wait_gone(self.child, 0.2)


@pytest.fixture
def watched(tmp_path, monkeypatch):
    made = Watched(tmp_path, monkeypatch)
    yield made
    made._kill_rest()


def test_a_role_that_hangs_is_killed(watched):
    assert watched.look(20)
    assert not watched.look(2)


def test_roles_that_were_stopped_together_with_the_supervisor_are_not_killed(watched):
    """A paused machine, a frozen group: when it goes on the supervisor may be the first to run. None of the roles hung."""
    watched.look(10)
    assert watched.look(1, ticks=1000)
    watched.marks["heartbeat"] = watched.now + 1
    assert watched.look(20)


def test_a_role_that_opens_yet_has_the_time_of_a_start(watched):
    """Started again, it may have a large store to make: it beats first when it is open. It hangs where a start would fail."""
    watched.marks["heartbeat"] = watched._began["feed"] = watched.now
    watched.look(59)
    assert watched.look(1), "29.5 of daemon.ready_timeout_s = 30 s"
    assert not watched.look(2)
    assert watched._last_words(Role.FEED, 0) == ("feed", "not open after 30 s (daemon.ready_timeout_s): killed")


def test_a_role_that_beat_once_has_no_longer(watched):
    watched.marks["heartbeat"] = watched._began["feed"] = watched.now
    watched.look(30)
    watched.marks["heartbeat"] = watched.now
    assert watched.look(20)
    assert not watched.look(2)


def test_a_role_that_had_to_be_killed_has_failed(watched):
    """What `hftd stop` tells of it comes from its mark."""
    watched._kill_rest()
    assert watched.marks[int(Role.FEED)]["state"] == AgentState.FAILED
    assert watched.failures == ["feed did not stop and was killed"]


def test_a_log_directory_that_is_gone_does_not_end_the_daemon_with_a_role(watched, tmp_path):
    """The role's last words are lost, no more."""
    watched.config = build({"daemon": {"name": "watched", "run_dir": str(tmp_path), "log_dir": str(tmp_path / "log")}})
    (tmp_path / "log").write_text("no directory")
    watched._report("feed", "so it ended")
    assert watched._last_words(Role.FEED, 0) == ("feed", "")


def test_a_role_is_started_again_five_times_a_minute_whenever_it_was_first(watched, monkeypatch):
    """The first start is none of the five; a minute that it lies back makes no sixth."""
    started = []
    for first in (0.0, 1000.0):
        watched._started, watched.failures = {"feed": [first]}, []
        monkeypatch.setattr(watched, "_spawn", lambda *_: watched._started["feed"].append(time.monotonic()))
        monkeypatch.setattr("hftd.control.supervisor.time.monotonic", lambda: 1010.0)
        for _ in range(8):
            watched._revive(Role.FEED, 0, "feed", -9)
        started.append(len(watched._started["feed"]) - 1)
    assert started == [RESTARTS, RESTARTS]


def test_lock_tells_who_holds_it_while_it_compiles_yet(tmp_path, instance):
    """Not the last daemon's number, and not none."""
    config = build({"daemon": {"name": instance, "run_dir": str(tmp_path)}}, "c.toml")
    (tmp_path / instance).mkdir(mode=0o700)
    (tmp_path / instance / "pid").write_text("123456789\n")
    first = take_lock(config)
    with pytest.raises(StartError, match=rf"is running \(pid {os.getpid()}\)"):
        take_lock(config)
    os.close(first)


def test_files_that_are_in_the_way_are_named(tmp_path, instance):
    config = build({"daemon": {"name": instance, "run_dir": str(tmp_path)}}, "c.toml")
    lock = tmp_path / instance / "pid"
    lock.mkdir(mode=0o700, parents=True)
    with pytest.raises(StartError, match=f"^{lock}: Is a directory; remove it, or choose another daemon.run_dir$"):
        take_lock(config)
    with pytest.raises(StartError, match=f"^{tmp_path}: Is a directory; remove it, or choose another daemon.log_dir$"):
        open_log(tmp_path)


def test_why_a_role_ended_is_told(watched, tmp_path, monkeypatch, capsys):
    """Each time, with the traceback, whose file is taken away; and why the daemon ends at last."""
    watched.config = build({"daemon": {"name": "watched", "run_dir": str(tmp_path)}})
    watched._started = {"feed": [0.0]}
    monkeypatch.setattr(watched, "_spawn", lambda *_: watched._started["feed"].append(time.monotonic()))
    watched._report("feed", "Traceback\n  in a line\nValueError: so it ended")
    watched._revive(Role.FEED, 0, "feed", 70)
    assert capsys.readouterr().err == (
        "hftd: feed:\nTraceback\n  in a line\nValueError: so it ended\n"
        "hftd: feed ended with 70 ValueError: so it ended; started again\n"
    )
    for _ in range(RESTARTS):
        watched._revive(Role.FEED, 0, "feed", -9)
    assert watched.failures == ["feed ended with -9"]
    assert capsys.readouterr().err.endswith("started again\nhftd: feed ended with -9\n")
