"""Keeps every attempt, off the way of an answer: the newest in memory, all of them in the store, none lost on the way.

Ended attempts wait here until the store has them: one writer saves them in turn and tries again while the store fails.
Their number is bounded because a store that fails lets no new attempt be claimed.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from aggregator.attempts import AttemptRecord, ReportRecord
from aggregator.equivocations import Equivocation, found_in
from aggregator.metrics import Metrics
from aggregator.store import AttemptStore
from core.errors import StoreUnavailableError
from core.logs import Logger

MAX_UNSAVED = 1_000
RECENT = 256
FIRST_RETRY_S, LONGEST_RETRY_S = 0.2, 2.0


class Recorder:
    """The one who writes attempts down. `run` it for as long as the service runs, then `flush`."""

    def __init__(self, store: AttemptStore, deployment: str, metrics: Metrics, logger: Logger) -> None:
        self._store = store
        self._deployment = deployment
        self._metrics = metrics
        self._log = logger
        self._recent: OrderedDict[str, AttemptRecord] = OrderedDict()
        self._newest: dict[str, AttemptRecord] = {}
        self._unsaved: OrderedDict[str, AttemptRecord] = OrderedDict()
        self._work = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()
        self._progress = asyncio.Event()
        self._failure: str | None = None

    async def announce(self, record: AttemptRecord) -> None:
        """Write down an attempt that waits, before a client is told of it. Raises `StoreUnavailableError`."""
        with self._counted():
            await self._store.announce(record)

    async def claim(self, record: AttemptRecord, arrived_ms: int | None = None) -> AttemptRecord | None:
        """None when the attempt's moment is ours; else whose it is. Raises `StoreUnavailableError`."""
        if len(self._unsaved) >= MAX_UNSAVED:
            raise StoreUnavailableError(f"{len(self._unsaved)} ended attempts wait to be saved: {self._failure}")
        with self._counted():
            return await self._store.claim(record, arrived_ms)

    async def note(self, record: AttemptRecord, raw: str) -> bool:
        """Write down at once what must survive a crash: a transaction that is about to be sent, and its bytes.

        False when another aggregator has ended the attempt: nothing may be sent. Raises `StoreUnavailableError`.
        """
        with self._counted():
            return await self._store.note(record, raw)

    @contextmanager
    def _counted(self) -> Iterator[None]:
        try:
            yield
        except StoreUnavailableError:
            self._metrics.store_failures.inc()
            raise

    def keep(self, record: AttemptRecord) -> None:
        """Take an ended attempt's record. It can be read at once, and is saved soon."""
        self.learn(record)
        self._recent[record.id] = record
        self._recent.move_to_end(record.id)
        while len(self._recent) > RECENT:
            self._recent.popitem(last=False)
        self._unsaved[record.id] = record
        while len(self._unsaved) > MAX_UNSAVED:  # only failed ones can come this far: none is claimed meanwhile
            lost, _ = self._unsaved.popitem(last=False)
            self._log.error("attempt_lost", attempt=lost, because="the store has failed for too long")
        self._metrics.unsaved.set(len(self._unsaved))
        self._empty.clear()
        self._work.set()

    def learn(self, record: AttemptRecord) -> None:
        """Take note of an ended attempt of another aggregator, which keeps its record."""
        newest = self._newest.get(record.group)
        if newest is None or record.started_ms >= newest.started_ms:
            self._newest[record.group] = record

    def at_hand(self, attempt: str) -> AttemptRecord | None:
        """The record of an attempt that ended lately."""
        return self._recent.get(attempt)

    def newest(self, group: str) -> AttemptRecord | None:
        """The record of the group's last attempt to end that this process knows of."""
        return self._newest.get(group)

    def late(self, attempt: str, report: ReportRecord) -> None:
        """Append a report that came after its attempt ended, if the record is still at hand."""
        record = self._recent.get(attempt)
        if record is not None and (longer := record.with_late(report)) is not record:
            self.keep(longer)

    async def saved(self, attempt: str, timeout_s: float) -> None:
        """Wait until the store has an ended attempt's record, at most `timeout_s`. `run` must be running."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while attempt in self._unsaved:
                    self._progress.clear()
                    await self._progress.wait()

    async def get(self, attempt: str) -> AttemptRecord | None:
        """Raises `StoreUnavailableError` when it is not at hand and the store fails."""
        return self._recent.get(attempt) or await self._store.get(self._deployment, attempt)

    async def standing(self, attempt: str) -> AttemptRecord | None:
        """The record as the store has it: of an attempt that another aggregator may run. Raises
        `StoreUnavailableError`."""
        return await self._store.get(self._deployment, attempt)

    async def retire(self, record: AttemptRecord) -> bool:
        """End another aggregator's open attempt; False when it has ended already, or has sent something since it was
        read. Raises `StoreUnavailableError`."""
        with self._counted():
            return await self._store.retire(record)

    async def raw(self, attempt: str) -> str | None:
        """The bytes of the newest transaction of an attempt that is not settled. Raises `StoreUnavailableError`."""
        return await self._store.raw(attempt)

    async def by_round(self, group: str, round_: int) -> AttemptRecord | None:
        """Raises `StoreUnavailableError` when it is not at hand and the store fails."""
        for record in reversed(self._recent.values()):
            if record.group == group and record.round == round_:
                return record
        return await self._store.by_round(self._deployment, group, round_)

    async def equivocations(self, limit: int) -> list[Equivocation]:
        """Every one that is proven, saved or not, the latest moments first. Raises `StoreUnavailableError`."""
        saved = await self._store.equivocations(self._deployment, limit)
        fresh = [proof for record in self._unsaved.values() for proof in found_in(record)]
        found = {(one.group, one.moment, one.signer): one for one in (*fresh, *saved)}
        return sorted(found.values(), key=lambda one: -one.moment)[:limit]

    async def latest(self, group: str, limit: int) -> list[AttemptRecord]:
        """The newest attempts of a group first, saved or not. Raises `StoreUnavailableError`."""
        found = {record.id: record for record in await self._store.latest(self._deployment, group, limit)}
        found |= {record.id: record for record in self._recent.values() if record.group == group}
        return sorted(found.values(), key=lambda record: record.started_ms, reverse=True)[:limit]

    async def unended(self) -> list[AttemptRecord]:
        """Attempts that have not ended, whoever runs them, the oldest first. Raises `StoreUnavailableError`."""
        found = await self._store.unended(self._deployment)
        return [record for record in found if record.id not in self._unsaved]

    async def unsettled(self, relayer: str) -> list[AttemptRecord]:
        """A relayer's ended attempts of which a transaction may yet be mined, or dropped by a reorg. Raises
        `StoreUnavailableError`."""
        found = {record.id: record for record in await self._store.unsettled(self._deployment, relayer)}
        found |= {record.id: record for record in self._unsaved.values() if record.relayer == relayer}
        return [record for record in found.values() if record.state.final]

    async def check(self) -> str:
        """For `/health`. Raises `StoreUnavailableError`."""
        detail = await self._store.ping()
        if self._failure is not None and self._unsaved:
            raise StoreUnavailableError(f"{len(self._unsaved)} records wait to be saved: {self._failure}")
        return detail

    async def run(self) -> None:
        """Save what is kept, for ever."""
        retry_s = FIRST_RETRY_S
        while True:
            await self._work.wait()
            try:
                await self._save_one()
                retry_s = FIRST_RETRY_S
            except StoreUnavailableError as error:
                self._failure = str(error)
                self._metrics.store_failures.inc()
                self._log.warning("attempt_not_saved", unsaved=len(self._unsaved), retry_s=retry_s, error=str(error))
                await asyncio.sleep(retry_s)
                retry_s = min(retry_s * 2, LONGEST_RETRY_S)

    async def _save_one(self) -> None:
        attempt, record = next(iter(self._unsaved.items()))
        self._unsaved.move_to_end(attempt)  # if it cannot be saved, the others must not wait behind it
        await self._store.save(record)
        self._failure = None
        if self._unsaved.get(attempt) is record:  # else a late report came meanwhile: save once more
            del self._unsaved[attempt]
        self._progress.set()
        self._metrics.unsaved.set(len(self._unsaved))
        if not self._unsaved:
            self._work.clear()
            self._empty.set()

    async def flush(self, timeout_s: float) -> None:
        """Wait until everything is saved, at most `timeout_s`. `run` must be running."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._empty.wait()
        except TimeoutError:
            self._log.error("attempts_lost", attempts=list(self._unsaved), because=self._failure or "no time left")
