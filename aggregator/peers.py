"""Attempts that another aggregator over the same store runs: waited for, and closed where their aggregator is gone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from aggregator.attempts import AttemptRecord, FailureReason
from aggregator.edges import SubmittingChain
from aggregator.recorder import Recorder
from contracts.errors import ContractError
from core.clock import Clock
from core.logs import Logger

POLL_S = 0.25
"""Between looks at another's attempt, where no word of it comes."""
Held = Callable[[str], Awaitable[bool]]
"""Whether a process lives that sends with this address's key."""


async def presumed_alive(_address: str) -> bool:
    """Where nobody can tell: then only time does."""
    return True


class Elsewhere(Protocol):
    """What an engine needs to know of the others."""

    async def ended(self, record: AttemptRecord) -> AttemptRecord:
        """Another's attempt, when it has ended. Raises `StoreUnavailableError`."""
        ...


class Peers:
    """longest_ms: what an attempt takes at most from its claim on, by the clock of whoever runs it and ours together.
    word: waits for word of a change to an attempt, at most so many seconds."""

    def __init__(
        self,
        chain: SubmittingChain,
        recorder: Recorder,
        *,
        held: Held,
        word: Callable[[str, float], Awaitable[None]],
        longest_ms: int,
        clock: Clock,
        logger: Logger,
    ) -> None:
        self._chain = chain
        self._recorder = recorder
        self._held = held
        self._word = word
        self._longest_ms = longest_ms
        self._clock = clock
        self._log = logger

    async def ended(self, record: AttemptRecord) -> AttemptRecord:
        waited = False
        while True:
            # listen before looking: word that comes between the two is not missed
            word = asyncio.ensure_future(self._word(record.id, POLL_S))
            try:
                record = await self._recorder.standing(record.id) or record
                if record.state.final:
                    return record
                if waited and await self._close(record):
                    continue  # whoever closed it, the store has its record
                await word
                waited = True
            finally:
                word.cancel()

    async def _close(self, record: AttemptRecord) -> bool:
        """End an attempt that nobody runs any more. False while somebody does, or its transaction may yet be mined."""
        # from its claim on: before it, it may have waited long for the end of another
        began_ms = max(record.started_ms, record.moment)
        overdue = self._clock.now_ms() - began_ms > self._longest_ms
        if not overdue and await self._held(record.relayer or ""):
            return False
        ended = await self._closed(record, overdue)
        if ended is None:
            return False
        if await self._recorder.retire(ended):
            self._log.warning("closed_for_another", attempt=ended.id, code=ended.code, state=ended.state)
        return True

    async def _closed(self, record: AttemptRecord, overdue: bool) -> AttemptRecord | None:
        """The record of an attempt that nobody runs any more; None while a block may still take its transaction."""
        now = self._clock.now_ms()
        if not record.transactions:
            return record.failed(FailureReason.RETIRED, "its aggregator is gone: nothing was sent", now)
        known = False
        try:
            for transaction in record.transactions:
                if (receipt := await self._chain.find_receipt(transaction)) is not None and receipt.ok:
                    given_up = record.failed(FailureReason.NOT_CONFIRMED, "its aggregator is gone", now)
                    return given_up.mined_late(receipt, now)
                known = known or await self._chain.find_fees(transaction) is not None
        except ContractError as error:
            self._log.warning("not_looked_up", attempt=record.id, code=error.code, error=str(error))
            known = True
        if known and not overdue:
            return None
        return record.failed(FailureReason.NOT_CONFIRMED, "its aggregator is gone: in no block yet", now)
