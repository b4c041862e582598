"""The kill switch: at once, latched, lifted only by a name."""

import json

import pytest

from hftd.msg.enums import DenyReason, LogCode
from hftd.recorder import logs
from hftd.risk import kill
from tests.support.risk_desk import CANCEL_ALL, Desk


@pytest.fixture
def desk(tmp_path):
    return Desk(tmp_path)


def fill_disk(monkeypatch) -> None:
    """From now on no latch can be written."""
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(kill, "replace_file", full)


def test_pulled_it_denies_and_cancels_everything(desk):
    """The word is set, orders are denied, every strategy's orders are cancelled, once."""
    kill.pull(desk.config, desk.memory, "anna", "looks wrong")
    assert desk.reason() == DenyReason.KILLED
    desk.agent.cold(1_000_000_000)
    desk.agent.cold(2_000_000_000)
    desk.step(3)
    assert sorted((int(order["kind"]), int(order["strategy"])) for order in desk.orders()) == [(CANCEL_ALL, 0), (CANCEL_ALL, 1)]
    assert int(desk.run["kill_by"]).to_bytes(8, "little").rstrip(b"\0") == b"anna"


def test_it_survives_a_restart(desk, tmp_path):
    """A new daemon of the same run directory starts killed."""
    kill.pull(desk.config, desk.memory, "anna", "looks wrong")
    desk.run["kill"] = 0
    assert kill.load_latch(desk.config, desk.memory)
    assert desk.reason() == DenyReason.KILLED
    facts = kill.read_latch(desk.config)
    assert (facts["by"], facts["why"]) == ("anna", "looks wrong")


def test_it_can_be_pulled_without_a_daemon(desk):
    """The latch alone: the next start is killed."""
    kill.pull(desk.config, None, "anna")
    assert int(desk.run["kill"]) == 0
    assert kill.load_latch(desk.config, desk.memory) and int(desk.run["kill"]) > 0


def test_the_first_pull_stays(desk):
    """Who and when of the first; a second changes nothing."""
    first = kill.pull(desk.config, desk.memory, "anna")
    word = int(desk.run["kill"])
    assert kill.pull(desk.config, desk.memory, "bert") == first
    assert int(desk.run["kill"]) == word


def test_only_a_name_lifts_it(desk):
    """Without one it stays; with one the word and the latch go, and the latch is kept as the last one."""
    kill.pull(desk.config, desk.memory, "anna")
    with pytest.raises(kill.KillError, match="--by NAME"):
        kill.clear(desk.config, desk.memory, "  ")
    assert desk.reason() == DenyReason.KILLED
    assert kill.clear(desk.config, desk.memory, "bert")["by"] == "anna"
    assert desk.reason() == DenyReason.OK
    assert not kill.load_latch(desk.config, desk.memory)
    last = json.loads((kill.latch_path(desk.config).with_name("kill.last.json")).read_text())
    assert (last["by"], last["cleared_by"]) == ("anna", "bert")
    assert kill.clear(desk.config, desk.memory, "bert") is None


@pytest.mark.parametrize("at", ["replace_file", "sync_directory"])
def test_a_pull_while_it_is_lifted_stays(desk, monkeypatch, at):
    """Lifting writes files, which takes milliseconds: another process that pulls in between is not told "killed" for nothing."""
    kill.pull(desk.config, desk.memory, "anna")
    write = getattr(kill, at)

    def write_late(*arguments):
        monkeypatch.setattr(kill, at, write)
        kill.pull(desk.config, desk.memory, "cleo")
        write(*arguments)

    monkeypatch.setattr(kill, at, write_late)
    kill.clear(desk.config, desk.memory, "bert")
    assert desk.reason() == DenyReason.KILLED
    desk.run["kill"] = 0
    assert kill.load_latch(desk.config, desk.memory) and kill.read_latch(desk.config)["by"] == "cleo"


def test_a_latch_that_cannot_be_lifted_stays_pulled(desk, monkeypatch):
    """A full disk: the error is told, and nothing is sent."""
    kill.pull(desk.config, desk.memory, "anna")
    fill_disk(monkeypatch)
    with pytest.raises(kill.KillError, match=r"^not lifted: .*No space"):
        kill.clear(desk.config, desk.memory, "bert")
    assert desk.reason() == DenyReason.KILLED


def test_a_full_disk_does_not_keep_it_from_being_pulled(desk, monkeypatch):
    """What is missing is the latch, and that is said."""
    fill_disk(monkeypatch)
    with pytest.raises(kill.KillError, match=r"^killed, but a restart would lift it: .*kill\.json cannot be written: No space"):
        kill.pull(desk.config, desk.memory, "anna")
    assert desk.reason() == DenyReason.KILLED


def test_a_role_that_pulls_it_outlives_a_full_disk(desk, monkeypatch):
    """The role goes on, and the log says that a restart would lift the switch."""
    said = []
    fill_disk(monkeypatch)
    kill.pull_within(desk.config, desk.memory, lambda *record: said.append(record), "breaker", "level 1")
    assert desk.reason() == DenyReason.KILLED and said == [(LogCode.NOT_LATCHED,)]
    assert LogCode.NOT_LATCHED in logs.SENTENCES


@pytest.mark.parametrize("content", ["", "{", "[]", '{"by": "x"}', '{"utc_ns": 0, "by": ""}', "\x00\x01"])
def test_an_unreadable_latch_counts_as_pulled(desk, content):
    """Doubt is for stopping."""
    kill.latch_path(desk.config).write_text(content)
    assert kill.load_latch(desk.config, desk.memory)
    assert desk.reason() == DenyReason.KILLED


def test_the_latch_is_the_owners_alone(desk):
    """0600."""
    kill.pull(desk.config, desk.memory, "anna")
    assert kill.latch_path(desk.config).stat().st_mode & 0o777 == 0o600


def test_what_is_in_force_says_by_whom_when_and_what_lifts_it(desk):
    """From the latch, in full; from the word alone where there is no latch; nothing where it is off."""
    assert kill.in_force(desk.config, desk.memory) is None
    kill.pull(desk.config, desk.memory, "anna-maria", "looks wrong")
    found = kill.in_force(desk.config, desk.memory)
    assert (found["by"], found["why"], found["latched"]) == ("anna-maria", "looks wrong", True)
    assert found["lift"] == f"hftd kill --clear -n {desk.config.daemon.name} --by NAME"
    said = kill.in_words(found)
    assert said == f"KILLED by anna-maria at {found['utc']}: looks wrong; lift it with: {found['lift']}"
    kill.latch_path(desk.config).unlink()
    found = kill.in_force(desk.config, desk.memory)
    assert (found["by"], found["latched"]) == ("anna-mar", False) and found["utc"].startswith("20")
    assert "no latch on disk" in kill.in_words(found)


def test_a_latch_that_cannot_be_read_does_not_hide_the_switch(desk, monkeypatch):
    """Whoever looks may not be the daemon's user."""
    kill.pull(desk.config, desk.memory, "anna")

    def refused(config):
        raise kill.KillError("not yours")

    monkeypatch.setattr(kill, "read_latch", refused)
    assert kill.in_force(desk.config, desk.memory)["by"] == "anna"


def test_a_name_from_a_terminal_of_another_alphabet_pulls_it(desk):
    """Bytes of the command line that are not UTF-8 come as lone surrogates: the switch is pulled, and can be told everywhere."""
    kill.pull(desk.config, desk.memory, "J\udcfcrgen", "gro\udcdf")
    facts = kill.in_force(desk.config, desk.memory)
    assert (facts["by"], facts["why"]) == ("J?rgen", "gro?")
    assert kill.name_of(int(desk.run["kill_by"])) == "J?rgen"
    assert kill.in_words(facts).encode()
