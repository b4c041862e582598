"""The same tests with the compiler off: a strategy can be stepped through, and behaves as when compiled."""

from pathlib import Path

import pytest

from tests.support.interpreted import interpreted, is_child, passes

CHILD = interpreted(Path(__file__).parent)


@pytest.mark.beforehand(CHILD)
@pytest.mark.skipif(is_child(), reason="is the child")
def test_everything_here_holds_interpreted():
    """In one child process."""
    passes(CHILD)
