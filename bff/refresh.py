"""A refresh: the aggregator runs the attempt, the chain has the answer."""

from __future__ import annotations

import asyncio
import time

from bff import prices, refusals
from bff.catalogue import Listed
from bff.chain_reader import ChainReader
from bff.documents import Price, RefreshedPrice
from bff.errors import AggregatorUnavailableError, ChainUnavailableError
from bff.metrics import BffMetrics
from bff.prices import GroupView, Standing
from bff.upstream import Aggregator, RefreshOutcome
from core.clock import Clock
from core.logs import Logger
from core.problems import Problem


def attested(standing: Standing, outcome: RefreshOutcome) -> bool:
    """Whether the round found the standing answer unchanged."""
    return bool(outcome.moment) and standing.observed_ms >= outcome.moment


class Refresher:
    """Refreshes feeds, each within `timeout_ms` from the request's arrival."""

    def __init__(
        self,
        aggregator: Aggregator,
        reader: ChainReader,
        *,
        clock: Clock,
        timeout_ms: int,
        metrics: BffMetrics,
        logger: Logger,
    ) -> None:
        self._aggregator = aggregator
        self._reader = reader
        self._clock = clock
        self._timeout_ms = timeout_ms
        self._metrics = metrics
        self._log = logger

    async def refresh(self, listed: Listed) -> RefreshedPrice:
        """The price of a round whose moment is not older than this request by more than a second.

        Raises `Problem`: 503 with the attempt's code, `feed_not_updated`, `answer_held`, `chain_unavailable` or
        `aggregator_unavailable`; 504 `refresh_timeout`. Each carries the attempt's id, where there is one, and the last
        good answer.
        """
        try:
            answer = await self._refresh(listed)
        except Problem as problem:
            self._metrics.refreshes.labels(listed.group.name, problem.code).inc()
            self._log.warning(
                "refresh_failed",
                pair=listed.pair,
                code=problem.code,
                attempt=problem.extra.get("attempt"),
                detail=problem.detail,
            )
            raise
        self._metrics.refreshes.labels(listed.group.name, "refreshed").inc()
        return answer

    async def _refresh(self, listed: Listed) -> RefreshedPrice:
        deadline = time.monotonic() + self._timeout_ms / 1000
        # what is kept back of the time: to read the chain after the attempt, and to answer
        reserve_ms = min(500, self._timeout_ms // 5)
        wait_ms = self._timeout_ms - reserve_ms
        group = listed.group.name
        try:
            outcome = await self._aggregator.refresh(
                group,
                arrived_ms=self._clock.now_ms(),
                wait_ms=wait_ms,
                timeout_s=(self._timeout_ms - reserve_ms / 2) / 1000,
            )
        except AggregatorUnavailableError as error:
            raise refusals.aggregator_unavailable(str(error), self._last(listed)) from error
        if outcome.failed:
            raise refusals.attempt_failed(outcome, self._last(listed))
        if not outcome.accepted or outcome.round is None:
            raise refusals.still_running(outcome, self._timeout_ms, self._last(listed))
        view = await self._read_back(listed, outcome, outcome.round, deadline)
        standing = view.standing.get(listed.pair)
        # an answer that this round attested as unchanged keeps its own round's number, and has this one's moment
        moved = standing is not None and (standing.document.round >= outcome.round or attested(standing, outcome))
        if standing is None or not moved:
            raise refusals.feed_not_updated(listed.pair, outcome, self._last(listed))
        return prices.refreshed(standing.at(self._clock.now_ms()), outcome.id)

    async def _read_back(self, listed: Listed, outcome: RefreshOutcome, round_: int, deadline: float) -> GroupView:
        group = listed.group.name
        if outcome.transaction is not None and outcome.moment:
            self._reader.note_transaction(group, round_, outcome.moment, outcome.transaction)
        self._reader.note_confidence(group, outcome.moment, outcome.confidence)
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                return await self._reader.read_round(group, round_, outcome.moment)
        except TimeoutError:
            raise refusals.not_read_back(outcome, self._timeout_ms, self._last(listed)) from None
        except ChainUnavailableError as error:
            raise refusals.chain_unavailable(str(error), outcome, self._last(listed)) from error

    def _last(self, listed: Listed) -> Price | None:
        view = self._reader.view(listed.group.name)
        standing = view.standing.get(listed.pair) if view else None
        return standing.at(self._clock.now_ms(), superseded=True) if standing else None
