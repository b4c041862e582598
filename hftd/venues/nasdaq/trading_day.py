"""Which trading day a moment belongs to: the date in New York, since Nasdaq's day begins and ends there.

System hours are 04:00 to 20:00 in New York, which is up to 01:00 of the next day UTC: midnight UTC falls into them, midnight in New
York does not. No message of ITCH, MoldUDP64 or OUCH carries a date (their stamps count from midnight), so it comes from our clock.
Days are numbered from 1970-01-01, like UTC days.
"""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from hftd.errors import HftdError

ZONE = "America/New_York"
_EPOCH = date(1970, 1, 1)


def trading_day(utc_ns: int) -> int:
    """Return the number of the trading day at `utc_ns`. Raises HftdError where this host knows no time zones."""
    try:
        zone = ZoneInfo(ZONE)
    except ZoneInfoNotFoundError:
        raise HftdError(f"this host knows no time zone {ZONE}, which tells the trading day; install the package tzdata") from None
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=utc_ns // 1000)
    return (moment.astimezone(zone).date() - _EPOCH).days


def day_text(day: int) -> str:
    """Return a day's number as people write it: 2025-03-07."""
    return (_EPOCH + timedelta(days=day)).isoformat()


def day_number(text: str) -> int:
    """Return the number of a day written as 2025-03-07. Raises ValueError."""
    return (date.fromisoformat(text) - _EPOCH).days
