"""How many reserved pages a configuration takes: what the roles and their rehearsals really ask for, role by role."""

import dataclasses
import mmap
import re
from types import SimpleNamespace

import pytest

from hftd.control import largepages
from hftd.control.config import load, role_placement
from hftd.control.demo import free_ports
from hftd.control.rehearsal import Rehearsal
from hftd.control.supervisor import AGENTS
from hftd.core import clock as clocks
from hftd.core import memory, placement
from hftd.msg.enums import Role
from hftd.shm import map as shared
from tests.support.data import ROOT
from tests.support.risk_desk import small_config

APART, FUSED = SimpleNamespace(fused=False), SimpleNamespace(fused=True)


@pytest.fixture
def asked(monkeypatch):
    """Every block that asked for reserved pages, in 2 MiB pages; it gets ordinary memory."""
    found: list[int] = []

    def reserved(size):
        found.append(-(-size // placement.HUGE))
        return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)

    monkeypatch.setattr(placement, "reserved", reserved)
    memory.set_pages("reserved")
    yield found
    memory.set_pages("advise")
    memory.blocks.clear()


def test_the_number_is_what_the_roles_and_their_rehearsals_ask_for(asked, tmp_path):
    """Each role opened over memory of its own, and each rehearsal, as a start does."""
    (port,) = free_ports(1)
    config = small_config(
        tmp_path, feed={"line_a": f"127.0.0.1:{port}", "request": [], "orders_max": 1 << 17, "levels_max": 1 << 15},
        strategy=[{"file": "market_maker.py"}], gateway={"orders_max": 1 << 16}, placement={"huge_pages": "reserved"},
        recorder={"journal": False},
    )  # fmt: skip
    found = {}
    made = shared.create(config, 1)
    try:
        clocks.calibrate(made["control"]["clock"][0], 0.001)
        for role, index, name in shared.agents(config):
            asked.clear()
            if role != Role.RECORDER:
                Rehearsal(config, role, index, clock=made["control"]["clock"][0]).close()
            agent = AGENTS[role](config, made, index)
            try:
                agent.open()
            finally:
                agent.close()
            found[name] = sum(asked)
    finally:
        made.unlink()
    assert {name: count for name, count in found.items() if count} == largepages.wanted(config, APART)
    assert found["feed"] > 5 and found["strategy.market_maker"] > 2


def test_a_fused_process_takes_all_of_the_three(tmp_path):
    """By the wish of the gateway, which the process is called after; risk has no process of its own."""
    config = small_config(tmp_path, strategy=[{"file": "market_maker.py"}], placement={"huge_pages": "reserved"})
    apart, fused = largepages.wanted(config, APART), largepages.wanted(config, FUSED)
    assert set(fused) == {"feed", "gateway"} and fused["feed"] == apart["feed"]
    assert fused["gateway"] > apart["gateway"]


def test_only_roles_that_ask_are_counted(tmp_path):
    """Nothing by default; one role by its own key."""
    assert largepages.wanted(small_config(tmp_path), APART) == {}
    config = small_config(tmp_path, placement={"role": {"gateway": {"huge_pages": "reserved"}}})
    assert set(largepages.wanted(config, APART)) == {"gateway"}


def test_the_pages_of_the_production_example_are_enough():
    """What its comment and the service's page tell to reserve."""
    config = load(ROOT / "config/production.toml")
    config = dataclasses.replace(config, placement=dataclasses.replace(config.placement, strict=False))
    needed = sum(largepages.wanted(config, APART).values())
    assert role_placement(config, "feed").huge_pages == "reserved" and needed > 0
    for page in ("config/production.toml", "systemd/README.md"):
        told = {int(number) for number in re.findall(r"vm\.nr_hugepages=(\d+)", (ROOT / page).read_text())}
        assert told and min(told) >= needed, page
