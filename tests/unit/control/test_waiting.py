"""Why a start does not come to its end: whose configuration key is to be looked at, for what is missing."""

import pytest

from hftd.control import waiting
from hftd.gateway.memory import LINK_CLEANING, LINK_REPLAY
from hftd.shm import map as shared
from tests.support.risk_desk import small_config


@pytest.fixture
def daemon(tmp_path):
    config = small_config(tmp_path, daemon={})
    memory = shared.create(config, 1)
    memory.unlink()
    return config, memory


def test_nobody_there_names_addresses(daemon):
    """The commonest of all: the exchange is not started."""
    config, _ = daemon
    assert waiting.in_words(*daemon, ["feed", "risk", "gateway"]) == (
        f"feed (no packet came on feed.line_a {config.feed.line_a}, interface {config.feed.interface}), risk, "
        f"gateway (nobody takes a connection at gateway.address {config.gateway.address})"
    )


def test_a_refused_log_in_names_user_and_password(daemon):
    daemon[1]["orders"]["counters"][0]["login_rejects"] = 3
    said = waiting.in_words(*daemon, ["gateway"])
    assert said.endswith("refused the log-in 3 times: gateway.username and its password)")


@pytest.mark.parametrize(("state", "said"), [
    (LINK_REPLAY, "gateway (replaying at gateway.address {})"),
    (LINK_CLEANING, "gateway (cancelling orders of an earlier run: gateway.clean_timeout_s = 10)"),
])  # fmt: skip
def test_a_session_under_way_says_how_far(daemon, state, said):
    config, memory = daemon
    memory["orders"]["counters"][0]["connects"] = 1
    memory["orders"]["session"][0]["state"] = state
    assert waiting.in_words(config, memory, ["gateway"]) == said.format(config.gateway.address)


def test_a_feed_that_hears_something_waits_for_its_books(daemon):
    daemon[1]["market"]["counters"][0]["packets_a"] = 1
    assert waiting.in_words(*daemon, ["feed"]) == "feed (books are not whole yet)"
