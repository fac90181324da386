"""FHIR's dates and times as intervals. The time zone of a bare date is an argument."""

import re
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Any

from fhir_mapping.vector import Effective

# http://hl7.org/fhir/R4/datatypes.html#dateTime: a time of day comes with a zone, a date without.
_DATE = re.compile(r"(\d{4})(?:-(\d{2})(?:-(\d{2}))?)?")
_DAY, _MINUTE = "[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]", "[0-9][0-9]:[0-9][0-9]"
_SECOND, _ZONE = r"[0-9][0-9](?:\.[0-9]+)?", f"Z|[+-]{_MINUTE}"
_INSTANT = re.compile(f"{_DAY}T{_MINUTE}(?::{_SECOND})?(?:{_ZONE})")


def read_date(text: Any) -> tuple[date, date] | None:
    """First and last day of a FHIR date: `2024`, `2024-05` or `2024-05-01`."""
    match = _DATE.fullmatch(text.strip()) if isinstance(text, str) else None
    if match is None:
        return None
    year, month, day = match.groups()
    try:
        if day:
            whole = date(int(year), int(month), int(day))
            return whole, whole
        if month:
            first = date(int(year), int(month), 1)
            return first, _month_after(first) - timedelta(days=1)
        return date(int(year), 1, 1), date(int(year), 12, 31)
    except (ValueError, OverflowError):
        return None


def _month_after(first: date) -> date:
    return (first + timedelta(days=31)).replace(day=1)


def read_instant(text: Any) -> datetime | None:
    """The moment, in UTC, of a time of day with a zone; whatever is not one gives None."""
    if not isinstance(text, str):
        return None
    text = text.strip()
    if not _INSTANT.fullmatch(text):
        return None
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def in_utc(moment: datetime) -> datetime:
    """The same moment: two in UTC compare at once, others each by way of its zone."""
    try:
        return moment.astimezone(UTC)
    except OverflowError:  # within a day of the calendar's ends
        return moment


def at_instant(text: str, moment: datetime) -> Effective:
    """A time that `read_instant` has read."""
    return Effective(text=text.strip(), earliest=moment, latest=moment)


def read_datetime(text: Any, zone: tzinfo) -> Effective | None:
    """A FHIR dateTime or instant. A time of day without a zone is no moment, and gives None."""
    if not isinstance(text, str):
        return None
    text = text.strip()
    if moment := read_instant(text):
        return at_instant(text, moment)
    days = read_date(text)
    if days is None:
        return None
    try:
        start = datetime(days[0].year, days[0].month, days[0].day, tzinfo=zone).astimezone(UTC)
        end = datetime(
            days[1].year, days[1].month, days[1].day, 23, 59, 59, 999999, tzinfo=zone
        ).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return Effective(text=text, earliest=start, latest=end)


def read_period(period: Any, zone: tzinfo) -> Effective | None:
    """A Period with a start. One without has no earliest moment, and could be of any age."""
    if not isinstance(period, dict):
        return None
    start = read_datetime(period.get("start"), zone)
    if start is None:
        return None
    if "end" not in period:
        return start
    end = read_datetime(period["end"], zone)
    if end is None or end.latest < start.earliest:
        return None
    return Effective(text=f"{start.text}/{end.text}", earliest=start.earliest, latest=end.latest)


def read_effective(observation: dict[str, Any], zone: tzinfo) -> Effective | None:
    """effective[x] of an Observation, in every form that FHIR allows."""
    if "effectiveDateTime" in observation:
        return read_datetime(observation["effectiveDateTime"], zone)
    if "effectiveInstant" in observation:
        return read_datetime(observation["effectiveInstant"], zone)
    if "effectivePeriod" in observation:
        return read_period(observation["effectivePeriod"], zone)
    timing = observation.get("effectiveTiming")
    events = timing.get("event") if isinstance(timing, dict) else None
    if isinstance(events, list) and len(events) == 1:
        return read_datetime(events[0], zone)
    return None


def whole_years(born: date, on: date) -> int:
    """Age in completed years."""
    return on.year - born.year - ((on.month, on.day) < (born.month, born.day))
