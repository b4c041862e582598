"""`hftd kill`: at once, whatever the supervisor does."""

import pytest

from hftd.cli import daemon
from hftd.control import channel
from hftd.risk import kill
from hftd.shm import map as shared
from hftd.shm.segment import SegmentError
from tests.support.risk_desk import Desk


@pytest.fixture
def desk(tmp_path, monkeypatch):
    made = Desk(tmp_path)
    monkeypatch.setattr(shared, "attach", lambda name, read_only=True: (made.config, made.memory))
    return made


def test_it_waits_for_no_supervisor(desk, monkeypatch):
    """One that hangs would take its time-out, during which orders go out."""
    monkeypatch.setattr(channel, "ask", lambda *_, **__: pytest.fail("asked"))
    daemon._switch("any", False, "anna", "looks wrong")
    assert int(desk.run["kill"]) and kill.read_latch(desk.config)["by"] == "anna"


def test_root_who_may_not_write_the_memory_asks(desk, monkeypatch):
    def attach(name, read_only=True):
        if not read_only:
            raise SegmentError("belongs to uid 7")
        return desk.config, desk.memory

    asked = []
    monkeypatch.setattr(shared, "attach", attach)
    monkeypatch.setattr(channel, "ask", lambda path, **request: asked.append(request) or {})
    daemon._switch("any", False, "root", "")
    assert asked == [{"do": "kill", "by": "root", "why": ""}]


def test_lifting_it_asks(desk, monkeypatch):
    asked = []
    monkeypatch.setattr(channel, "ask", lambda path, **request: asked.append(request["do"]) or {})
    daemon._switch("any", True, "anna", "")
    assert asked == ["clear"]
