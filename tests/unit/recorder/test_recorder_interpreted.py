"""The tests of this folder hold in plain Python, too."""

from pathlib import Path

import pytest

from tests.support.interpreted import is_child, run_interpreted


@pytest.mark.skipif(is_child(), reason="this is the interpreted run")
def test_the_folder_passes_interpreted():
    """One child runs every other test here with the compiler off."""
    run_interpreted(Path(__file__).parent)
