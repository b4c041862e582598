"""The memory maps in the pages are those of the code. With HFTD_WRITE_DOCS=1 the test writes them instead."""

import dataclasses
import os
from pathlib import Path

import pytest

from hftd.control.config import load
from hftd.control.demo import free_ports
from hftd.control.memorymap import role_map
from hftd.control.supervisor import AGENTS
from hftd.core import clock as clocks
from hftd.core import memory
from hftd.core.layout import describe
from hftd.msg import records
from hftd.shm import control, errlog, histogram, pauses, placed, pool, ring, segment
from hftd.shm import map as shared

ROOT = Path(__file__).resolve().parents[2]

PAGES = {
    ("hftd/msg/README.md", "records"): {
        **records.RECORDS, "quote": records.quote_dtype, "instrument": records.instrument_dtype, "position": records.position_dtype,
    },
    ("hftd/shm/README.md", "layouts"): {
        "segment header": segment.segment_dtype, "ring control": ring.ring_dtype, "ring consumer": ring.ring_consumer_dtype,
        "producer handle": ring.producer_dtype, "consumer handle": ring.consumer_dtype, "pool": pool.pool_dtype,
        "error": errlog.error_dtype, "histogram": histogram.histogram_dtype, "run": control.run_dtype, "mark": control.mark_dtype,
        "rehearsal": control.rehearsal_dtype, "meter": pauses.meter_dtype, "pause": pauses.pause_dtype,
        "placed": placed.placed_dtype, "ask": placed.ask_dtype, "held": placed.held_dtype,
    },
}  # fmt: skip


def _wanted(layouts: dict) -> str:
    return "\n```\n" + "\n\n".join(describe(kind, name) for name, kind in layouts.items()) + "\n```\n"


def _hold(page: str, mark: str, wanted: str) -> None:
    path, begin = ROOT / page, f"<!-- generated: {mark} -->\n"
    text = path.read_text()
    assert begin in text, f"{page} has no place for the memory map: {begin!r}"
    head, _, rest = text.partition(begin)
    _, _, tail = rest.partition("<!-- end -->\n")
    made = head + begin + wanted + "<!-- end -->\n" + tail
    if os.environ.get("HFTD_WRITE_DOCS") == "1":
        path.write_text(made)
    assert path.read_text() == made, f"{page} is out of date: run HFTD_WRITE_DOCS=1 pytest tests/tidy/test_memory_map.py"


@pytest.mark.parametrize(("page", "mark"), list(PAGES), ids=lambda value: str(value))
def test_the_memory_map_is_the_code(page, mark):
    """A field that moved, came or went shows here."""
    _hold(page, mark, _wanted(PAGES[(page, mark)]))


def _opened(config) -> dict[str, list[memory.Block]]:
    """Open every agent of a configuration in this process, one after another, and return the private blocks that each took."""
    found = {}
    made = shared.create(config, 1)
    try:
        clocks.calibrate(made["control"]["clock"][0])
        for role, index, name in shared.agents(config):
            memory.blocks.clear()
            agent = AGENTS[role](config, made, index)
            try:
                agent.open()
                found[name] = list(memory.blocks)
            finally:
                agent.close()
    finally:
        memory.blocks.clear()
        made.unlink()
    return found


def test_the_map_of_roles_is_what_they_take(tmp_path):
    """hftd/README.md tells, role by role, every segment and every private block of the example's daemon."""
    (port,) = free_ports(1)
    config = load(ROOT / "config/hftd.toml")
    mine = dataclasses.replace(
        config,
        daemon=dataclasses.replace(config.daemon, name=f"map{os.getpid()}", run_dir=str(tmp_path), log_dir=str(tmp_path / "log")),
        feed=dataclasses.replace(config.feed, line_a=f"127.0.0.1:{port}", line_b=""),
        recorder=dataclasses.replace(config.recorder, journal=False),
    )
    taken = _opened(mine)
    assert all(taken.values()), taken
    _hold("hftd/README.md", "roles", "\n```\n" + role_map(config, taken) + "\n```\n\n")
