"""When an event happened, in events of any source.

A time is ISO 8601 (``T`` or a blank, seconds and their fractions may be missing, without a zone UTC) or a count since 1970 in seconds,
milli-, micro- or nanoseconds, which its size tells.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

TIME_FIELDS = (
    "@timestamp", "timestamp", "Timestamp", "time", "Time", "event_time", "eventTime", "EventTime", "UtcTime", "TimeCreated",
    "TimeCreated.SystemTime", "System.TimeCreated.SystemTime", "Event.System.TimeCreated.SystemTime",
    "Event.System.TimeCreated.#attributes.SystemTime", "SystemTime", "TimeGenerated", "_time", "ts", "datetime", "date", "timeUnixNano",
)  # fmt: skip
"""Where the time of an event usually stands."""
_ISO = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})(?:[Tt ]([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?:[.,]([0-9]{1,9})[0-9]*)?)?"
    r"(?: ?(?:([Zz]|UTC|GMT)|([+-])([0-9]{2}):?([0-9]{2})?))?)?"
)
_NUMBER = re.compile(r"[0-9]{1,19}(?:\.[0-9]{0,19})?")
_UNITS = ((10**11, 10**9), (10**14, 10**6), (10**17, 10**3))
"""Below the first number a count is of units of so many nanoseconds. Seconds reach the year 5138, all others begin in 1973."""
_LIMIT = 2**62
"""ns: 146 years. Time spans can be added to what is smaller."""
_MAX_TEXT = 64


def read_time(value: Any) -> int | None:
    """Unix nanoseconds, None where the value is no time, or one before 1823 or after 2116."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    if isinstance(value, str):
        value = value.strip()
        if len(value) > _MAX_TEXT:
            return None
        if (written := _ISO.fullmatch(value)) is not None:
            return _bounded(_nanoseconds(written))
    return _bounded(_epoch(value))


def _nanoseconds(written: re.Match[str]) -> int | None:
    year, month, day, hour, minute, second, fraction, _, sign, hours, minutes = written.groups()
    leap = second == "60"
    try:
        moment = datetime(int(year), int(month), int(day), int(hour or 0), int(minute or 0), 59 if leap else int(second or 0), tzinfo=UTC)
    except ValueError:
        return None
    offset = (int(hours or 0) * 60 + int(minutes or 0)) * (-60 if sign == "-" else 60)
    whole = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // _SECOND + leap - offset
    return whole * 10**9 + int((fraction or "").ljust(9, "0"))


_SECOND = datetime(1970, 1, 1, 0, 0, 1) - datetime(1970, 1, 1)


def _epoch(value: str | float) -> int | None:
    """Exact also for fractions: a float is read as it is written."""
    if isinstance(value, str) and not _NUMBER.fullmatch(value):
        return None
    number = Decimal(value if isinstance(value, str) else repr(value))
    if not (number.is_finite() and 0 <= number < _LIMIT):
        return None
    unit = next((unit for below, unit in _UNITS if number < below), 1)
    return int(number * unit // 1)


def _bounded(time: int | None) -> int | None:
    return time if time is not None and -_LIMIT <= time < _LIMIT else None
