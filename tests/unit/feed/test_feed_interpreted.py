"""The feed's hot code passes its tests as plain Python too."""

from pathlib import Path

import pytest

from tests.support.interpreted import interpreted, is_child, passes

HERE = Path(__file__).parent
SMALL = "not thousands and not outgrow and not random_bytes"
CHILD = interpreted(HERE / "test_market_events.py", str(HERE / "test_itch_messages.py"), "-k", SMALL)


@pytest.mark.beforehand(CHILD)
@pytest.mark.skipif(is_child(), reason="is the child itself")
def test_messages_and_events_without_the_compiler():
    passes(CHILD)
