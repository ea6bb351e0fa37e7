"""What a Retry-After header says."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

MAX_RETRY_AFTER_S = 900.0
"""A source that asks for a longer rest is asked again after this."""


def retry_after_s(header: str | None, now_ms: int) -> float:
    """Seconds that a Retry-After header (RFC 9110, 10.2.3: seconds or an HTTP date) asks to wait; 0: it says nothing.

    Never negative, and never longer than `MAX_RETRY_AFTER_S`.
    """
    text = (header or "").strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:9]), MAX_RETRY_AFTER_S)
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError):
        return 0.0
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    ahead = (moment - datetime.fromtimestamp(now_ms / 1000, tz=UTC)).total_seconds()
    return min(max(ahead, 0.0), MAX_RETRY_AFTER_S)
