"""What the host is, and how roles share its cores: every layout, chosen or asked for, on machines of all sizes."""

import dataclasses
import os
import platform
import sys

import pytest

from hftd.control import host, placing
from hftd.control.config import ConfigError, build
from hftd.control.host import HostError, check_host, place
from hftd.core import placement


@pytest.fixture
def machine(monkeypatch):
    """Return a function that makes this process believe in `cores` cores, of which some are isolated."""

    def make(cores: int, isolated: tuple[int, ...] = ()):
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(cores)))
        monkeypatch.setattr(host, "isolated_cores", lambda: set(isolated))

    return make


def config(strategies: int = 1, **daemon):
    return build({"daemon": daemon, "strategy": [{"file": f"s{i}.py"} for i in range(strategies)]}, "c.toml")


def said(configuration) -> str:
    with pytest.raises(ConfigError) as raised:
        place(configuration)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_auto_shares_where_cores_are_few(machine):
    machine(2)
    chosen = place(config())
    assert (chosen.layout, chosen.spin, chosen.cores, chosen.fused) == ("shared", False, {}, False)
    assert chosen.why == "auto: 4 hot roles and only 2 cores; roles park when idle"


def test_auto_leaves_a_core_to_everything_else(machine):
    machine(4)
    assert place(config()).layout == "shared"
    machine(5)
    chosen = place(config())
    assert chosen.layout == "dedicated"
    assert chosen.cores == {"feed": 0, "strategy.s0": 1, "risk": 2, "gateway": 3}
    assert chosen.spin


def test_auto_takes_isolated_cores_when_they_suffice(machine):
    machine(8, isolated=(4, 5, 6, 7))
    assert place(config()).cores == {"feed": 4, "strategy.s0": 5, "risk": 6, "gateway": 7}


def test_isolated_cores_outside_our_affinity_do_not_count(machine):
    machine(4, isolated=(4, 5, 6, 7))
    assert place(config()).layout == "shared"


def test_auto_never_chooses_fused(machine):
    for cores in range(1, 12):
        machine(cores)
        assert place(config()).layout in ("shared", "dedicated")


def test_more_spinning_roles_than_cores_are_refused(machine):
    machine(4)
    assert said(config(2, layout="dedicated")) == (
        "c.toml: daemon.layout: dedicated spins 5 roles, one core each, and there are 4 cores; use shared or fused"
    )
    machine(5)
    chosen = place(config(2, layout="dedicated"))
    assert sorted(chosen.cores.values()) == [0, 1, 2, 3, 4]
    assert len(set(chosen.cores.values())) == len(chosen.cores)


def test_cores_asked_for_are_taken_in_order(machine):
    machine(8)
    assert place(config(layout="dedicated", cores=[7, 3, 5, 1])).cores == {"feed": 7, "strategy.s0": 3, "risk": 5, "gateway": 1}


def test_core_that_is_not_ours_is_refused(machine):
    machine(2)
    assert said(config(cores=[0, 2])) == "c.toml: daemon.cores: core 2 is not one of [0, 1], which this process may use"


def test_core_given_twice_is_refused():
    with pytest.raises(ConfigError, match=r"daemon\.cores: 1 stands twice$"):
        config(layout="dedicated", cores=[1, 1, 0, 2])


def test_fused_spins_two_processes_and_says_what_it_gives_up(machine):
    machine(2)
    chosen = place(config(layout="fused"))
    assert chosen.fused and chosen.spin
    assert chosen.cores == {"feed": 0, "strategy.s0": 1, "risk": 1, "gateway": 1}
    assert chosen.why.endswith("risk shares a process with strategy and gateway and is NOT independent")


def test_fused_needs_two_cores_and_one_strategy(machine):
    machine(1)
    assert said(config(layout="fused")) == "c.toml: daemon.layout: fused spins two processes, and there is 1 core; use shared"
    machine(4)
    assert said(config(2, layout="fused")) == (
        "c.toml: daemon.layout: fused takes exactly one strategy, were 2; use shared or dedicated"
    )


def test_fused_is_refused_on_a_command_line_too(machine):
    machine(4)
    refusing = config(allow_fused=False)
    assert place(refusing).layout == "shared"
    forced = dataclasses.replace(refusing, daemon=dataclasses.replace(refusing.daemon, layout="fused"))
    assert said(forced) == "c.toml: daemon.layout: fused is refused by daemon.allow_fused = false: risk would not be independent"


def test_disabled_strategies_take_no_core(machine):
    machine(8)
    some = build({"daemon": {"layout": "dedicated"}, "strategy": [{"file": "a.py"}, {"file": "b.py", "enabled": False}]})
    assert set(place(some).cores) == {"feed", "strategy.a", "risk", "gateway"}


@pytest.mark.parametrize(("text", "cores"), [("\n", set()), ("1\n", {1}), ("1-3\n", {1, 2, 3}), ("0,2-3,7\n", {0, 2, 3, 7})])
def test_isolated_cores_are_read_from_the_kernel(monkeypatch, tmp_path, text, cores):
    (tmp_path / "isolated").write_text(text)
    monkeypatch.setattr(host, "ISOLATED", tmp_path / "isolated")
    assert host.isolated_cores() == cores


def test_kernel_without_isolation_has_no_isolated_cores(monkeypatch, tmp_path):
    monkeypatch.setattr(host, "ISOLATED", tmp_path / "absent")
    assert host.isolated_cores() == set()


def test_a_role_takes_the_core_it_is_given_by_name(machine):
    """The others share out the rest in order; daemon.cores says which those are."""
    machine(8)
    chosen = place(build({
        "daemon": {"cores": [2, 3, 4, 5]}, "strategy": [{"file": "s0.py"}],
        "placement": {"role": {"risk": {"core": 7}, "strategy.s0": {"core": 2}, "recorder": {"core": 0}}},
    }, "c.toml"))  # fmt: skip
    assert chosen.layout == "dedicated"
    assert chosen.cores == {"feed": 3, "strategy.s0": 2, "risk": 7, "gateway": 4, "recorder": 0}
    assert chosen.rest == {0, 1, 5, 6} and chosen.spare


def test_two_roles_that_spin_never_share_a_core(machine):
    """Named, both of them; a core that is not ours is refused too."""
    machine(8)
    placing_of = {"role": {"risk": {"core": 7}, "feed": {"core": 7}}}
    same = build({"strategy": [{"file": "s.py"}], "daemon": {"layout": "dedicated"}, "placement": placing_of}, "c.toml")
    assert said(same).startswith("c.toml: placement.role: two roles that spin share a core")
    far = build({"strategy": [{"file": "s.py"}], "placement": {"role": {"feed": {"core": 99}}}}, "c.toml")
    assert said(far).startswith("c.toml: placement.role.feed.core: 99 is not one of [0, 1")


def test_a_parked_role_may_have_a_core_too(machine):
    """Layout shared pins those who ask, and nobody else."""
    machine(4)
    chosen = place(build({"daemon": {"layout": "shared"}, "placement": {"role": {"recorder": {"core": 3}}}}, "c.toml"))
    assert chosen.cores == {"recorder": 3} and not chosen.spin


@pytest.mark.parametrize(("cores", "lost", "layout", "words"), [
    (8, 50, "dedicated", "would take a spinning loop off its core for 50 ms each second: sysctl kernel.sched_rt_runtime_us=-1"),
    (4, 0, "dedicated", "no core would be left for supervisor, recorder and kernel"),
    (2, 0, "fused", "no core would be left"),
    (8, 0, "dedicated", ""),
    (8, 50, "shared", ""),
])  # fmt: skip
def test_fifo_on_a_loop_that_spins_is_refused_where_it_would_do_harm(machine, monkeypatch, cores, lost, layout, words):
    """By throttling, or with no core left for anybody else; said with the remedy, before anything is compiled."""
    machine(cores)
    monkeypatch.setattr(placement, "lost_to_throttling", lambda: lost)
    monkeypatch.setattr(placing, "lost_to_throttling", lambda: lost)
    asked = build({"daemon": {"layout": layout}, "strategy": [{"file": "s.py"}], "placement": {"policy": "fifo"}}, "c.toml")
    if words:
        told = said(asked)
        assert told.startswith("c.toml: placement.policy: refused to feed, strategy.s, risk, gateway: ") and words in told
    else:
        assert place(asked).layout == layout
    lenient = dataclasses.replace(asked, placement=dataclasses.replace(asked.placement, strict=False))
    assert place(lenient).layout == layout


def test_other_hosts_are_refused_with_what_would_do(monkeypatch):
    check_host()
    for target, name, value, expected in [
        (sys, "platform", "darwin", "hftd runs on Linux; this is darwin: use a Linux host or virtual machine"),
        (platform, "machine", lambda: "aarch64", "hftd needs an x86-64 processor; this is aarch64"),
        (host, "tsc_is_invariant", lambda: False,
         "this processor's time stamp counter is not invariant (constant_tsc, nonstop_tsc): stamps would lie"),
        (os, "access", lambda *_: False, "/dev/shm is missing or not writable: mount a tmpfs there"),
    ]:  # fmt: skip
        with monkeypatch.context() as patch:
            patch.setattr(target, name, value)
            with pytest.raises(HostError) as raised:
                check_host()
            assert str(raised.value) == expected
