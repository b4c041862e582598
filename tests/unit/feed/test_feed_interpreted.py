"""The feed's hot code passes its tests as plain Python too."""

from pathlib import Path

import pytest

from tests.support.interpreted import is_child, run_interpreted


@pytest.mark.skipif(is_child(), reason="is the child itself")
def test_messages_and_events_without_the_compiler():
    here = Path(__file__).parent
    small = "not thousands and not outgrow and not random_bytes"
    run_interpreted(here / "test_market_events.py", str(here / "test_itch_messages.py"), "-k", small)
