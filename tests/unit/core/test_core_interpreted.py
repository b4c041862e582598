"""The tests of this folder hold in plain Python, too."""

from pathlib import Path

import pytest

from tests.support.interpreted import interpreted, is_child, passes

CHILD = interpreted(Path(__file__).parent)


@pytest.mark.beforehand(CHILD)
@pytest.mark.skipif(is_child(), reason="this is the interpreted run")
def test_the_folder_passes_interpreted():
    """One child runs every other test here with the compiler off."""
    passes(CHILD)
