"""What holds for every test: whoever ends the run, what a test started is ended too, and no state stays in anybody's home."""

import signal
import tempfile

import pytest

from tests.support.beforehand import Children
from tests.support.interpreted import is_child

CHILDREN = pytest.StashKey[Children]()


def _end(number, frame):
    raise KeyboardInterrupt(f"signal {number}")


def pytest_configure(config):
    """Let SIGTERM and SIGHUP unwind the run as Ctrl-C does, so that fixtures end daemons and remove memory."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)


def pytest_collection_finish(session):
    """Begin with the children that tests of this run will want to have had."""
    wanted = dict.fromkeys(mark.args[0] for item in session.items for mark in item.iter_markers("beforehand"))
    if wanted and not session.config.option.collectonly and not is_child():
        session.config.stash[CHILDREN] = Children(list(wanted))


def pytest_unconfigure(config):
    """End them."""
    children = config.stash.get(CHILDREN, None)
    if children is not None:
        children.end()


@pytest.fixture(scope="session", autouse=True)
def _state_home():
    """Give daemons and agents that name no state directory a temporary one, for all of the run and what it starts."""
    with tempfile.TemporaryDirectory(prefix="hftd-tests-") as home, pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", home)
        yield
