"""What the recorder's tests share."""

import os

import pytest

from tests.support.recorder_booth import Booth
from tests.support.risk_desk import Desk


@pytest.fixture
def booth(tmp_path):
    made = Booth(Desk(tmp_path))
    yield made
    made.agent.supervisor = os.getpid()
    made.agent.close()
