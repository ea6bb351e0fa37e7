"""Several aggregators over one store as one: whichever answers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from bff.errors import AggregatorUnavailableError, RecordNotFoundError
from bff.upstream import Aggregator, RefreshOutcome, RoundConfidence
from core import codec

HEDGE_S = 2.0
"""An aggregator that has not answered by then is not waited for alone: it may be frozen, or its machine gone. Another
that is asked the same joins the same attempt."""

OWN_FAULTS = frozenset(
    {"stopped", "retired", "store_unavailable", "broker_unavailable", "chain_unavailable", "submission_failed"}
)
"""An attempt that failed for one of these failed for the aggregator's sake (its servers, its key, its end): another may
do better."""

Answer = TypeVar("Answer")


class AnyAggregator:
    """`Aggregator` over several: asks the one that answered last, and the next where that one fails, does not serve the
    group, or takes long; the first usable answer counts, and what the last one raised where there is none."""

    def __init__(self, each: Sequence[Aggregator], *, hedge_s: float = HEDGE_S) -> None:
        self._each = list(each)
        self._hedge_s = hedge_s

    async def refresh(self, group: str, *, arrived_ms: int, wait_ms: int, timeout_s: float) -> RefreshOutcome:
        deadline = time.monotonic() + timeout_s

        def asked(one: Aggregator) -> Awaitable[RefreshOutcome]:
            left_s = max(deadline - time.monotonic(), 0.05)
            left_ms = max(int(wait_ms - (timeout_s - left_s) * 1000), 0)
            return one.refresh(group, arrived_ms=arrived_ms, wait_ms=left_ms, timeout_s=left_s)

        return await self._first(asked)

    async def attempt(self, attempt_id: str) -> bytes:
        return await self._first(lambda one: one.attempt(attempt_id))

    async def attempts(self, group: str, limit: int) -> bytes:
        return await self._first(lambda one: one.attempts(group, limit))

    async def round(self, group: str, number: int) -> bytes:
        return await self._first(lambda one: one.round(group, number))

    async def evidence(self, group: str, number: int, feed: str) -> bytes:
        return await self._first(lambda one: one.evidence(group, number, feed))

    async def update(self, group: str) -> bytes:
        return await self._first(lambda one: one.update(group))

    async def confidence(self, group: str, number: int) -> RoundConfidence:
        return await self._first(lambda one: one.confidence(group, number))

    async def equivocations(self, limit: int) -> bytes:
        return await self._first(lambda one: one.equivocations(limit))

    async def standings(self) -> bytes:
        """What all that answer say together: each knows the feeds of its own groups. Of two that know one feed, the
        one that says more is taken: they share their register, and one may not have looked since."""
        said = await asyncio.gather(*(one.standings() for one in self._each), return_exceptions=True)
        answers = [one for one in said if isinstance(one, bytes)]
        if not answers:
            raise AggregatorUnavailableError(f"no aggregator answers: {said[0]!r}")
        found: dict[str, dict[str, Any]] = {}
        for one in answers:
            for standing in codec.decode_digits(one):
                known = found.setdefault(standing["feed"], standing)
                if len(standing["troubles"]) > len(known["troubles"]):
                    found[standing["feed"]] = standing
        return codec.encode(list(found.values()))

    async def ping(self) -> str:
        """All of them. Raises `AggregatorUnavailableError` naming those that do not answer."""
        said = await asyncio.gather(*(one.ping() for one in self._each), return_exceptions=True)
        faults = [one for one in said if isinstance(one, BaseException)]
        if faults:
            listed = "; ".join(str(one) for one in faults)
            raise AggregatorUnavailableError(f"{len(self._each) - len(faults)} of {len(self._each)} answer: {listed}")
        return "; ".join(str(one) for one in said)

    async def close(self) -> None:
        await asyncio.gather(*(one.close() for one in self._each))

    async def _first(self, ask: Callable[[Aggregator], Awaitable[Answer]]) -> Answer:
        waiting = list(self._each)
        asked: dict[asyncio.Task[Answer], Aggregator] = {}
        spare: Answer | None = None
        fault: Exception = AggregatorUnavailableError("no aggregator is configured")
        try:
            while waiting or asked:
                if waiting:
                    one = waiting.pop(0)
                    asked[asyncio.ensure_future(ask(one))] = one
                limit = self._hedge_s if waiting else None
                done, _ = await asyncio.wait(asked, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    one = asked.pop(task)
                    try:
                        answer = task.result()
                    except (AggregatorUnavailableError, RecordNotFoundError) as error:
                        fault = error
                        continue
                    if not _own_fault(answer):
                        self._each = [one, *(each for each in self._each if each is not one)]  # the first from now on
                        return answer
                    spare = answer
            if spare is not None:
                return spare
            raise fault
        finally:
            for task in asked:
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)


def _own_fault(answer: object) -> bool:
    return isinstance(answer, RefreshOutcome) and answer.failed and answer.code in OWN_FAULTS
