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
from core.errors import StoreUnavailableError
from core.logs import Logger

POLL_S = 0.25
"""Between looks at another's attempt, where no word of it comes."""
SWEEP_S = 15.0
"""Between looks at what aggregators that are gone have left behind."""
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
        self._abandoned: frozenset[str] = frozenset()  # attempts, at the last look

    async def run(self) -> None:
        """End every `SWEEP_S` what aggregators that are gone have left behind, in whatever group, for ever.

        Who asks for a group's next attempt ends its open one: this is for groups that nobody asks for, and for attempts
        that only waited.
        """
        while True:
            await asyncio.sleep(SWEEP_S)
            try:
                await self.sweep()
            except StoreUnavailableError as error:
                self._log.warning("not_swept", error=str(error))

    async def sweep(self) -> None:
        """End what nobody has run at two looks: a lock that went with its connection is taken again between them.

        Raises `StoreUnavailableError`.
        """
        now = self._clock.now_ms()
        old = [one for one in await self._recorder.unended() if now - _began_ms(one) > self._longest_ms]
        alive = {relayer: await self._held(relayer) for relayer in {one.relayer or "" for one in old}}
        before = self._abandoned
        self._abandoned = frozenset(one.id for one in old if not alive[one.relayer or ""])
        for one in old:
            if one.id in before & self._abandoned:
                await self._close(one)

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
        overdue = self._clock.now_ms() - _began_ms(record) > self._longest_ms
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


def _began_ms(record: AttemptRecord) -> int:
    """From its claim on: before it, an attempt may have waited long for the end of another."""
    return max(record.started_ms, record.moment)
