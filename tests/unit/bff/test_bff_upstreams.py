"""Several aggregators as one: the first usable answer, whoever gives it."""

from __future__ import annotations

import asyncio
import time

import pytest

from bff.errors import AggregatorUnavailableError, RecordNotFoundError
from bff.upstream import RefreshOutcome
from bff.upstreams import AnyAggregator


class One:
    """An aggregator that answers after `delay_s`, or raises `fault`."""

    def __init__(
        self, name: str, fault: Exception | None = None, delay_s: float = 0.0, code: str | None = None
    ) -> None:
        self.name, self.fault, self.delay_s, self.code = name, fault, delay_s, code
        self.waits: list[int] = []
        self.cancelled = False

    async def refresh(self, group: str, *, arrived_ms: int, wait_ms: int, timeout_s: float) -> RefreshOutcome:
        self.waits.append(wait_ms)
        await self._said()
        return RefreshOutcome(id=self.name, state="failed" if self.code else "accepted", code=self.code, round=1)

    async def attempt(self, attempt_id: str) -> bytes:
        await self._said()
        return self.name.encode()

    async def attempts(self, group: str, limit: int) -> bytes:
        await self._said()
        return f"{self.name} {group} {limit}".encode()

    async def ping(self) -> str:
        await self._said()
        return self.name

    async def close(self) -> None: ...

    async def _said(self) -> None:
        try:
            await asyncio.sleep(self.delay_s)
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        if self.fault is not None:
            raise self.fault


GONE = AggregatorUnavailableError("cannot be reached")


def either(*each: One, hedge_s: float = 0.05) -> AnyAggregator:
    return AnyAggregator(each, hedge_s=hedge_s)  # type: ignore[arg-type]


async def refreshed(any_: AnyAggregator) -> str:
    return (await any_.refresh("majors", arrived_ms=5, wait_ms=900, timeout_s=1)).id


async def test_the_next_is_asked_where_one_is_gone_and_is_the_first_from_then_on() -> None:
    gone, well = One("a", GONE), One("b")
    any_ = either(gone, well)
    assert await refreshed(any_) == "b"
    assert await refreshed(any_) == "b"
    assert (len(gone.waits), len(well.waits)) == (1, 2)


async def test_one_that_is_frozen_is_not_waited_for_alone_and_is_let_go() -> None:
    frozen, well = One("a", delay_s=30), One("b")
    started = time.monotonic()
    assert await refreshed(either(frozen, well)) == "b"
    assert time.monotonic() - started < 5
    assert frozen.cancelled
    assert well.waits[0] < 900  # what is left of the time


async def test_an_attempt_that_failed_for_its_aggregators_sake_is_tried_elsewhere() -> None:
    for code in ("stopped", "broker_unavailable", "chain_unavailable", "submission_failed"):
        assert await refreshed(either(One("a", code=code), One("b"))) == "b"
    assert await refreshed(either(One("a", code="store_unavailable"), One("b", GONE))) == "a"
    assert await refreshed(either(One("a", code="no_quorum"), One("b"))) == "a"


async def test_a_slow_one_that_answers_first_is_taken_all_the_same() -> None:
    assert await refreshed(either(One("a", delay_s=0.15), One("b", delay_s=30))) == "a"


async def test_a_record_is_looked_for_wherever_it_may_be() -> None:
    any_ = either(One("a", RecordNotFoundError("unknown group")), One("b"))
    assert await any_.attempt("x") == b"b"
    assert await any_.attempts("majors", 3) == b"b majors 3"


async def test_where_none_answers_the_last_fault_is_told() -> None:
    with pytest.raises(RecordNotFoundError):
        await either(One("a", GONE), One("b", RecordNotFoundError("no"))).attempt("x")


async def test_health_names_those_that_do_not_answer() -> None:
    assert await either(One("a"), One("b")).ping() == "a; b"
    with pytest.raises(AggregatorUnavailableError, match=r"1 of 2 answer: cannot be reached"):
        await either(One("a"), One("b", GONE)).ping()
