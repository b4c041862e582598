"""What a run of the tests leaves behind: nothing in the home of who runs them."""

import os
from pathlib import Path

from hftd.control import config as configuration


def test_state_that_no_test_places_goes_to_a_folder_that_is_removed():
    """Agents make their state directory; a configuration that names none has it where `tests/conftest.py` says."""
    state = configuration.state_dir(configuration.build({}))
    assert state.is_relative_to(os.environ["XDG_STATE_HOME"]) and not state.is_relative_to(Path.home() / ".local")
