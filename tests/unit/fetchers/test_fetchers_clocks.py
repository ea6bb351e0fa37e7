"""Whose word on the time counts, and how a wrong clock shows."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from core.logs import get_logger
from core.types import Mode
from fetchers.clocks import ClockWatch, clock_error_ms
from fetchers.errors import ClockOffError
from fetchers.metrics import FetcherMetrics


@pytest.mark.parametrize(
    ("offsets", "moment", "block", "error"),
    [
        ([3_000, 2_900, 10], None, None, 2_900),
        ([3_000, 20, 10], None, None, 20),  # one wrong source of three moves nothing
        ([-3_000, -2_900, -9_999, 5], None, None, -2_950),
        ([1, 2, 3], 9_000, 9_000, 2),  # the sources decide, whatever the others say
        ([3_000, 3_000], None, None, None),
        ([3_000, 3_000], 2_500, 2_100, 2_100),
        ([], 2_500, 2_100, 2_100),
        ([], 2_500, 2_000, None),  # both must be beyond the tolerance
        ([], 1_000, 9_000, None),
        ([], -9_000, -9_000, None),  # a late job on a quiet chain looks like this
        ([], 9_000, None, None),
    ],
)
def test_the_rule(offsets: list[float], moment: int | None, block: int | None, error: float | None) -> None:
    told = {f"source-{index}": float(offset) for index, offset in enumerate(offsets)}
    assert clock_error_ms(told, moment, block) == error


async def test_a_wrong_clock_shows_in_log_metric_and_health_once_and_when_it_is_over() -> None:
    told: dict[str, float] = {}
    registry = CollectorRegistry()
    with capture_logs() as lines:
        watch = ClockWatch(lambda: told, FetcherMetrics(registry), get_logger("fetcher-a", Mode.TEST))
        assert watch.wrong() is None
        assert await watch.health() == "not known: 0 sources told the time lately, 3 are needed"
        told |= {"a": 2_500.0, "b": 2_700.0, "c": 3.0}
        detail = "this clock is 2.5 s behind by the median of 3 sources, 2 at most; set it"
        assert [watch.wrong(), watch.wrong()] == [detail, detail]
        assert registry.get_sample_value("fairmark_fetchers_clock_offset_ms") == 2_500
        with pytest.raises(ClockOffError, match=r"2\.5 s behind"):
            await watch.health()
        told.clear()
        assert watch.wrong() is None  # nobody tells: no reason to say that all is well
        told |= {"a": 12.0, "b": 14.0, "c": -3.0}
        assert watch.wrong() is None
        assert await watch.health() == "+12 ms to the median of 3 sources"
    assert [(line["event"], line["log_level"]) for line in lines] == [("clock_off", "error"), ("clock_right", "info")]
