"""The memory maps in the pages are those of the code. With HFTD_WRITE_DOCS=1 the test writes them instead."""

import os
from pathlib import Path

import pytest

from hftd.core.layout import describe
from hftd.msg import records
from hftd.shm import control, errlog, histogram, pauses, pool, ring, segment

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
    },
}  # fmt: skip


def _wanted(layouts: dict) -> str:
    return "\n```\n" + "\n\n".join(describe(kind, name) for name, kind in layouts.items()) + "\n```\n"


@pytest.mark.parametrize(("page", "mark"), list(PAGES), ids=lambda value: str(value))
def test_the_memory_map_is_the_code(page, mark):
    """A field that moved, came or went shows here."""
    path, begin = ROOT / page, f"<!-- generated: {mark} -->\n"
    text, wanted = path.read_text(), _wanted(PAGES[(page, mark)])
    assert begin in text, f"{page} has no place for the memory map: {begin!r}"
    head, _, rest = text.partition(begin)
    _, _, tail = rest.partition("<!-- end -->\n")
    made = head + begin + wanted + "<!-- end -->\n" + tail
    if os.environ.get("HFTD_WRITE_DOCS") == "1":
        path.write_text(made)
    assert path.read_text() == made, f"{page} is out of date: run HFTD_WRITE_DOCS=1 pytest tests/tidy/test_memory_map.py"
