"""What `hftd feed` says of a source at the end."""

import pytest

from hftd.cli.feed import show

FACTS = {
    "counts": {"A": 3}, "lines": {}, "gaps": {"gaps": 0}, "errors": {}, "histograms_ns": {}, "books": [], "market": {},
    "messages": 3, "instruments": 1, "live_orders": 3, "executed_shares": 0, "state": "LIVE", "seconds": 0.5,
    "recorded_seconds": 0.000001, "rates": {"messages_per_s": 6, "recorded_messages_per_s": 3_000_000.0},
}  # fmt: skip


@pytest.mark.parametrize(("kind", "last"), [
    ("synthetic", "made from a seed, and played in 0.500 s (6 messages a second)"),
    ("live", "0.500 s: 6 messages a second"),
    ("ITCH file", "0.000 s recorded (3,000,000.0 messages a second), played in 0.500 s (6 a second)"),
])  # fmt: skip
def test_only_what_was_recorded_has_a_recorded_time(kind, last, capsys):
    """A synthetic day was made just now: nothing of it was recorded."""
    show({**FACTS, "kind": kind})
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == last
    assert ("recorded" in last) is (kind == "ITCH file")
