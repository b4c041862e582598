"""The trading day is New York's and ends at 20:00 there, whatever the date is in UTC or where this host stands."""

import zoneinfo
from datetime import UTC, datetime

import pytest

from hftd.errors import HftdError
from hftd.venues.nasdaq import trading_day as days


def at(text: str) -> int:
    """UTC ns of a moment."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1_000_000_000


@pytest.mark.parametrize(("moment", "day"), [
    ("2025-01-15T09:00:00", "2025-01-15"),        # 04:00 in New York: system hours begin
    ("2025-01-15T23:59:59", "2025-01-15"),
    ("2025-01-16T00:00:00", "2025-01-15"),        # midnight UTC is 19:00 in winter: the session runs
    ("2025-01-16T00:59:59", "2025-01-15"),
    ("2025-01-16T01:00:00", "2025-01-16"),        # 20:00: system hours are over, the next day begins
    ("2025-01-16T04:30:00", "2025-01-16"),        # before and after New York's midnight: one day
    ("2025-01-16T05:30:00", "2025-01-16"),
    ("2025-07-15T23:59:59", "2025-07-15"),
    ("2025-07-16T00:00:00", "2025-07-16"),        # 20:00 in summer is midnight UTC
    ("2025-03-09T06:59:59", "2025-03-09"),        # before the hour that is left out
    ("2025-03-09T07:00:00", "2025-03-09"),
    ("2025-03-09T23:59:59", "2025-03-09"),
    ("2025-03-10T00:00:00", "2025-03-10"),
    ("2025-11-02T00:00:00", "2025-11-02"),        # the day of the hour that comes twice is an hour longer
    ("2025-11-03T00:59:59", "2025-11-02"),
    ("2025-11-03T01:00:00", "2025-11-03"),
])  # fmt: skip
def test_a_moment_belongs_to_new_yorks_day(moment, day, monkeypatch):
    """Also where the host's own zone says otherwise."""
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    assert days.day_text(days.trading_day(at(moment))) == day
    assert days.day_number(day) == days.trading_day(at(moment))


def test_a_host_without_time_zones_is_told_what_to_install(monkeypatch):
    """No guess at the day."""

    def missing(_):
        raise zoneinfo.ZoneInfoNotFoundError

    monkeypatch.setattr(days, "ZoneInfo", missing)
    with pytest.raises(HftdError, match="install the package tzdata"):
        days.trading_day(0)
