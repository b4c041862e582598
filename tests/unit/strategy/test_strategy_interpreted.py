"""The same tests with the compiler off: a strategy can be stepped through, and behaves as when compiled."""

from pathlib import Path

import pytest

from tests.support.interpreted import is_child, run_interpreted


@pytest.mark.skipif(is_child(), reason="is the child")
def test_everything_here_holds_interpreted():
    """In one child process."""
    run_interpreted(Path(__file__).parent)
