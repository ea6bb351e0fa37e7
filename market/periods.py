"""Periods, intervals and moments as clients write them."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from market.errors import InvalidQuestionError
from market.minutes import MINUTE_MS

PERIODS = ("1s", "3s", "5s", "10s", "30s", "1m", "3m", "5m")
"""Those that everybody asks for; any other duration up to the retention is answered too."""
DEFAULT_PERIOD = "1m"
INTERVALS = ("1m", "3m", "5m", "15m", "30m", "1h", "4h", "1d")
_DURATION = re.compile(r"([0-9]{1,9})(ms|s|m|h|d)")
_UNITS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_LATEST_MS = 4_102_444_800_000  # 2100


def duration_ms(text: str) -> int | None:
    """`90s` as 90,000; None where it is no duration, or none at all."""
    found = _DURATION.fullmatch(text)
    return (int(found[1]) * _UNITS[found[2]] or None) if found else None


def period_ms(text: str, most_ms: int) -> int:
    """A period to look back. Raises `InvalidQuestionError` naming those that are valid."""
    found = duration_ms(text)
    if found is None or found > most_ms:
        raise InvalidQuestionError(
            f"{text[:20]!r} is no period: use {', '.join(PERIODS)}, or any other duration like 90s, 15m or 2h up to "
            f"{written(most_ms)}",
            code="invalid_period",
            status=422,
            known=PERIODS,
        )
    return found


def interval_ms(text: str) -> int:
    """A candle's length, in whole minutes. Raises `InvalidQuestionError`."""
    found = duration_ms(text)
    if found is None or found % MINUTE_MS or found > _UNITS["d"]:
        raise InvalidQuestionError(
            f"{text[:20]!r} is no interval: use {', '.join(INTERVALS)}, or any other number of minutes up to a day",
            code="invalid_interval",
            status=422,
            known=INTERVALS,
        )
    return found


def moment_ms(text: str, what: str) -> int:
    """A moment: milliseconds since the Unix epoch, or RFC 3339. Raises `InvalidQuestionError`."""
    found = None
    if text.isascii() and text.isdigit() and len(text) <= 13:
        found = int(text)
    elif not text.isdigit():
        try:
            moment = datetime.fromisoformat(text)
            found = int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
        except (ValueError, OverflowError):
            pass
    if found is None or not 0 <= found < _LATEST_MS:
        raise InvalidQuestionError(
            f"{what}={text[:40]!r} is no moment: use milliseconds since 1970, or RFC 3339 like 2026-11-21T16:00:00Z",
            code="invalid_moment",
            status=422,
        )
    return found


def written(ms: int) -> str:
    """90,000 as `90s`."""
    for unit in ("d", "h", "m", "s"):
        if ms % _UNITS[unit] == 0:
            return f"{ms // _UNITS[unit]}{unit}"
    return f"{ms}ms"
