"""A refresh: the aggregator runs the attempt, the chain has the answer."""

from __future__ import annotations

import asyncio
import time
from typing import NamedTuple

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

JOINED_MS = 1_000
"""A round answers a request that came so long after its moment: the aggregator's own rule for joining an attempt."""


class _Asked(NamedTuple):
    """A refresh that the aggregator was asked for. arrived_ms: when the request came for which it was."""

    arrived_ms: int
    outcome: asyncio.Task[RefreshOutcome]


def attested(standing: Standing, outcome: RefreshOutcome) -> bool:
    """Whether the round found the standing answer unchanged."""
    return bool(outcome.moment) and standing.observed_ms >= outcome.moment


class Refresher:
    """Refreshes feeds, each within `timeout_ms` from the request's arrival.

    Of a group's requests that come while the aggregator is asked, all wait for the one call: hundreds of connections
    opened at once would be refused some, and the last of them would come too late to join the attempt.
    """

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
        self._asked: dict[str, _Asked] = {}

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
        try:
            outcome = await self._outcome(listed.group.name, self._clock.now_ms(), deadline)
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

    async def _outcome(self, group: str, arrived_ms: int, deadline: float) -> RefreshOutcome:
        """Of the call that is under way where that will do, else of one begun since. Raises
        `AggregatorUnavailableError`."""
        left_ms = self._timeout_ms
        while True:
            asked = self._asked.get(group)
            if asked is None or asked.outcome.done():
                asked = self._ask(group, arrived_ms, left_ms)
            ours = asked.arrived_ms >= arrived_ms
            try:
                async with asyncio.timeout(max(deadline - time.monotonic(), 0)):
                    outcome = await asyncio.shield(asked.outcome)
            except AggregatorUnavailableError:
                if ours:
                    raise
            except TimeoutError:
                raise AggregatorUnavailableError(f"no answer within {self._timeout_ms} ms") from None
            else:
                if ours or ((outcome.accepted or outcome.failed) and outcome.moment >= arrived_ms - JOINED_MS):
                    return outcome
            left_ms = max(round((deadline - time.monotonic()) * 1000), 0)

    def _ask(self, group: str, arrived_ms: int, left_ms: int) -> _Asked:
        # what is kept back of the time: to read the chain after the attempt, and to answer
        reserve_ms = min(500, left_ms // 5)
        call = self._aggregator.refresh(
            group,
            arrived_ms=arrived_ms,
            wait_ms=left_ms - reserve_ms,
            timeout_s=(left_ms - reserve_ms / 2) / 1000,
        )
        asked = self._asked[group] = _Asked(arrived_ms, asyncio.ensure_future(call))

        def ended(task: asyncio.Task[RefreshOutcome]) -> None:
            if self._asked.get(group) is asked:
                del self._asked[group]
            if not task.cancelled():
                task.exception()  # whoever waits has it; nobody may be left who does

        asked.outcome.add_done_callback(ended)
        return asked

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
