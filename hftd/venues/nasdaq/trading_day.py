"""Which trading day a moment belongs to: New York's date, the next one's from 20:00 there, when Nasdaq's day has ended.

System hours are 04:00 to 20:00 in New York, up to 01:00 of the next day UTC: midnight UTC falls into them. The day does not change
at New York's midnight either: a daemon started in the evening for the next morning, and anew in the night, goes on with one day.
Nothing trades between 20:00 and 04:00. No message of ITCH, MoldUDP64 or OUCH carries a date (their stamps count from midnight): it
comes from our clock. Days are numbered from 1970-01-01, like UTC days.
"""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from hftd.errors import HftdError

ZONE = "America/New_York"
AFTER_END = timedelta(hours=4)
"""From the end of system hours, 20:00, to midnight, on New York's clocks."""
_EPOCH = date(1970, 1, 1)


def trading_day(utc_ns: int) -> int:
    """Return the number of the trading day at `utc_ns`. Raises HftdError where this host knows no time zones."""
    try:
        zone = ZoneInfo(ZONE)
    except ZoneInfoNotFoundError:
        raise HftdError(f"this host knows no time zone {ZONE}, which tells the trading day; install the package tzdata") from None
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=utc_ns // 1000)
    return ((moment.astimezone(zone) + AFTER_END).date() - _EPOCH).days


def day_text(day: int) -> str:
    """Return a day's number as people write it: 2025-03-07."""
    return (_EPOCH + timedelta(days=day)).isoformat()


def day_number(text: str) -> int:
    """Return the number of a day written as 2025-03-07. Raises ValueError."""
    return (date.fromisoformat(text) - _EPOCH).days
