"""The rehearsal: every path of each role's own loop, nothing that leaves, a verdict, and the same tape as an exercise later on."""

import hashlib
import os
import socket
from pathlib import Path

import numpy as np
import pytest

from hftd.control.config import build
from hftd.control.rehearsal import ROUNDS_MAX, TIMES_MAX, Rehearsal, budget_of, judge
from hftd.core import clock as clocks
from hftd.core.budgets import STAGES
from hftd.core.jit import INTERPRETED
from hftd.core.keepwarm import KeepWarm
from hftd.core.memory import records
from hftd.msg.enums import Role
from hftd.shm import control
from hftd.shm.counters import values
from tests.support.gateway_desk import GatewayDesk

ROOT = Path(__file__).resolve().parents[3]
STRATEGIES = sorted((ROOT / "strategies").glob("*.py"))

pytestmark = pytest.mark.skipif(INTERPRETED, reason="what is rehearsed is machine code")


@pytest.fixture
def stage(tmp_path):
    """Return a maker of rehearsals, closed at the end; the venue they must not reach listens at gateway.address."""
    made = []
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)

    def make(role, file=STRATEGIES[0], fused=False, **sections):
        data = {"daemon": {"name": "stage", "run_dir": str(tmp_path)}, "strategy": [{"file": str(file)}],
                "gateway": {"address": f"127.0.0.1:{listener.getsockname()[1]}"}}  # fmt: skip
        for section, items in sections.items():
            data[section] = {**data.get(section, {}), **items}
        made.append(Rehearsal(build(data), role, 0, fused, clocks.new_clock()[0]))
        return made[-1]

    make.listener, make.directory = listener, tmp_path
    yield make
    for one in made:
        one.close()
    listener.close()


def counted(rehearsal, role):
    """Return an agent's counters that are not zero."""
    agent = rehearsal.agents[role]
    block = {Role.FEED: lambda: agent.build.counters, Role.GATEWAY: lambda: agent.counters}.get(
        role, lambda: agent.segment["counters"][0])()  # fmt: skip
    return {name: value for name, value in values(block).items() if value}


def test_feed_goes_through_every_message_that_moves_a_book(stage):
    """Both lines, duplicates, a malformed packet; no gap, and at the end of a round the book is the opening one."""
    rehearsal = stage(Role.FEED, feed={"line_b": "239.192.70.2:31001"})
    found = rehearsal.play(0.01)
    seen = counted(rehearsal, Role.FEED)
    assert set("SRHAXEUDP") <= {chr(kind) for kind in np.flatnonzero(np.asarray(rehearsal.memory["market"]["types"]["count"]))}
    assert seen.get("duplicates_a", 0) + seen.get("duplicates_b", 0) > 0 and seen["malformed"] > 0 and seen["trades"] > 0
    for name in ("gaps", "unknown_refs", "duplicate_refs", "overfills", "crossed", "foreign", "lost_messages", "receive_errors"):
        assert name not in seen, seen
    assert found["measured"] > 50 and 0 < found["p50_ns"] <= found["p99_ns"] <= found["max_ns"] < 10**9
    assert found["first_ns"] > 0 and found["budget_ns"] == STAGES["feed"].p50


@pytest.mark.parametrize("stamps", ["tsc", "kernel"])
def test_feed_with_kernel_stamps_rehearses_those(stage, stamps):
    """Socket pairs are stamped too."""
    rehearsal = stage(Role.FEED, feed={"stamps": stamps})
    assert rehearsal.play(0.01)["measured"] > 50
    assert counted(rehearsal, Role.FEED).get("unstamped", 0) == 0


@pytest.mark.parametrize("file", STRATEGIES, ids=lambda path: path.stem)
def test_strategy_sees_every_kind_of_answer(stage, file):
    """The user's own callbacks; each strategy that ships sends on the tape and hears of fills, denials and rejections."""
    rehearsal = stage(Role.STRATEGY, file)
    found = rehearsal.play(0.05)
    wanted = {"intents", "fills", "denied", "rejected"}
    for _ in range(ROUNDS_MAX * 30):                  # as many steps as a quick host plays in that time
        if wanted <= counted(rehearsal, Role.STRATEGY).keys():
            break
        rehearsal.step()
    seen = counted(rehearsal, Role.STRATEGY)
    assert wanted <= seen.keys()
    assert "bad_reports" not in seen and "overruns" not in seen
    assert found["measured"] > 50 and found["p50_ns"] > 0
    assert rehearsal.program is rehearsal.agents[Role.STRATEGY].program


def takes_all_paths(rehearsal):
    """Orders of every kind went out of the gateway and came back in every way; risk and gateway agree on all of it."""
    risk, gateway = counted(rehearsal, Role.RISK), counted(rehearsal, Role.GATEWAY)
    for name in ("orders", "replaces", "cancels", "cancel_alls", "denied_order_qty", "fills"):
        assert risk[name] > 0, name
    for name in ("enters_sent", "replaces_sent", "cancels_sent", "accepted", "replaced", "rejected", "canceled", "fills", "sends"):
        assert gateway[name] > 0, name
    assert risk["denied"] == risk["denied_order_qty"], "the tape's orders are good ones"
    for name in ("contradictions", "unknown_refs", "unknown_types", "short_messages", "checksum_refused", "denied"):
        assert name not in gateway, gateway
    sent = {"enter": gateway["enters_sent"], "replace": gateway["replaces_sent"], "cancel": gateway["cancels_sent"]}
    assert sum(sent[name] - rehearsal.venue.seen[name] for name in sent) in (0, 1), "at most the newest is still on its way"
    ours, theirs = (np.asarray(rehearsal.memory[name]["positions"]).view(np.ndarray)[0] for name in ("risk", "orders"))
    for name in ("bought_qty", "sold_qty", "bought_cash", "sold_cash", "fills"):
        assert ours[name] == theirs[name]


@pytest.mark.parametrize("role", [Role.RISK, Role.GATEWAY])
def test_orders_take_every_path_up_to_the_sink(stage, role):
    """Risk's process and the gateway's rehearse the same tape; each times its own part."""
    rehearsal = stage(role)
    found = rehearsal.play(0.01)
    takes_all_paths(rehearsal)
    assert found["measured"] > 20 and found["p50_ns"] > 0 and found["orders"] > 20 and found["stamping_ns"] > 0
    assert found["budget_ns"] == STAGES["risk" if role == Role.RISK else "gateway"].p50


def test_fused_loop_rehearses_as_one(stage):
    """Strategy, risk and gateway in one loop; the kernel is the one the host will run."""
    from hftd.control.fused import fused_kernel

    rehearsal = stage(Role.GATEWAY, fused=True)
    found = rehearsal.play(0.01)
    takes_all_paths(rehearsal)
    assert found["measured"] > 20
    assert found["budget_ns"] == STAGES["risk"].p50 + STAGES["gateway"].p50 == budget_of(Role.GATEWAY, True)
    assert rehearsal.kernel is fused_kernel(rehearsal.program)
    assert counted(rehearsal, Role.STRATEGY)["books"] > 0


def test_no_byte_reaches_the_venue(stage):
    """The venue's address listens: nobody connects. All that was sent went into one end of a pair that is read here."""
    rehearsal = stage(Role.GATEWAY)
    rehearsal.play(0.01)
    for _ in range(200):
        rehearsal.step()
    with pytest.raises(BlockingIOError):
        stage.listener.accept()
    gateway = rehearsal.agents[Role.GATEWAY]
    assert gateway.socket is None and gateway.attempt is None
    with socket.socket(fileno=os.dup(int(gateway.handle["link"]["fd"]))) as where:
        assert where.family == socket.AF_UNIX and where.getsockname() == where.getpeername() == ""
    assert 0 < int(gateway.handle["link"]["bytes_out"]) == rehearsal.sunk + len(_rest(rehearsal.far))


def _rest(end):
    try:
        return end.recv(1 << 16)
    except BlockingIOError:
        return b""


def test_tape_goes_on_for_ever(stage):
    """Long after: no order is left open, no table fills, nothing is refused that was not before."""
    for role, fused in ((Role.GATEWAY, False), (Role.GATEWAY, True)):
        rehearsal = stage(role, fused=fused)
        for _ in range(8000):
            rehearsal.step()
        takes_all_paths(rehearsal)
        assert int(rehearsal.agents[Role.GATEWAY].handle["table"]["peak"]) < 64
        assert rehearsal.times.maxlen == TIMES_MAX, "what is exercised all day keeps no growing list"
    feed = stage(Role.FEED)
    for _ in range(8000):
        feed.step()
    assert counted(feed, Role.FEED)["orders_live"] <= 12


def test_directory_is_given_back(stage):
    """Nothing stays where the rehearsal was, not even while it is kept to keep warm by: a child may end at any moment."""
    for role, fused in ((Role.FEED, False), (Role.STRATEGY, False), (Role.RISK, False), (Role.GATEWAY, True)):
        rehearsal = stage(role, fused=fused)
        assert not list(stage.directory.rglob("rehearsal-*"))
        rehearsal.play(0.01)
        assert not list(stage.directory.rglob("rehearsal-*"))


@pytest.mark.parametrize(("wanted", "p50", "measured", "verdict"), [
    ("warn", 100, 50, control.REHEARSED_MET), ("warn", 201, 50, control.REHEARSED_MISSED),
    ("refuse", 201, 50, control.REHEARSED_MISSED), ("off", 201, 50, control.REHEARSED_UNJUDGED),
    ("warn", 0, 0, control.REHEARSED_UNJUDGED),
])  # fmt: skip
def test_verdict(wanted, p50, measured, verdict):
    """The median against the budget, where one is judged and something was measured."""
    row = records(control.rehearsal_dtype, 1)[0]
    assert judge(row, {"p50_ns": p50, "budget_ns": 200, "measured": measured, "faults": 3}, wanted, 77) == verdict
    assert (int(row["verdict"]), int(row["took_ns"]), int(row["p50_ns"]), int(row["faults"])) == (verdict, 77, p50, 3)


# ---------------------------------------------------------------- keeping warm


def test_step_is_taken_only_when_it_was_quiet_long_enough():
    """Work puts it off; then one step each `quiet_ms`."""
    marks, taken = records(control.mark_dtype, 2), []
    warm = KeepWarm(lambda: taken.append(1), [marks[0], marks[1]], quiet_ms=5)
    ms = 1_000_000
    assert [warm.turn(at * ms) for at in (0, 4, 5, 9, 10)] == [False, False, True, False, True]
    marks[1]["busy"] += 1
    assert [warm.turn(at * ms) for at in (11, 15, 16)] == [False, False, True]
    assert len(taken) == warm.steps == 3


def test_a_step_that_fails_ends_the_exercise_and_nothing_else():
    """A strategy's own assert may fail on what the tape made of its positions: that must not end the one that trades."""
    marks, told = records(control.mark_dtype, 1), []

    def step():
        raise AssertionError("position")

    warm = KeepWarm(step, [marks[0]], 5, lambda: told.append(1))
    ms = 1_000_000
    assert [warm.turn(at * ms) for at in (0, 6, 12)] == [False, False, False]
    marks[0]["busy"] += 1
    assert [warm.turn(at * ms) for at in (13, 60)] == [False, False]
    assert told == [1] and warm.steps == 0


def test_exercise_leaves_no_trace_in_what_is_real(stage, tmp_path):
    """A real gateway with its session up beside its rehearsal: after a thousand steps the real memory is as it was, every byte."""
    desk = GatewayDesk(tmp_path / "desk")
    order = desk.live(ts_recv=clocks.now_ticks())
    rehearsal = stage(Role.GATEWAY)
    handle = desk.agent.made.view(np.uint8).copy()
    names = [name for name in desk.memory.names() if name != "control"]
    before = {name: hashlib.sha256(desk.memory[name].memory).hexdigest() for name in names}
    received = list(desk.line.packets)
    warm = KeepWarm(rehearsal.step, [desk.agent.mark], quiet_ms=1)
    for at in range(1000):
        warm.turn(at * 2_000_000)
    assert warm.steps >= 998
    assert {name: hashlib.sha256(desk.memory[name].memory).hexdigest() for name in names} == before
    assert np.array_equal(desk.agent.made.view(np.uint8), handle)
    desk.line.step()
    assert desk.line.packets == received
    assert desk.status(order) == "LIVE" and desk.counters["enters_sent"] == 1
    desk.close()
