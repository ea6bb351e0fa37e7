"""Keeps minutes: to the database as they end, to the spool while it is down, and from there when it is back."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Sequence

from msgspec import structs

from core.clock import Clock
from core.logs import Logger
from core.types import Mode
from market.errors import SpoolError, StoreUnavailableError
from market.ingest.metrics import SourceMetrics
from market.minutes import MINUTE_MS, MinuteBook, MinuteRow, together
from market.spool import Spool
from market.store import MinuteStore

DAY_MS = 86_400_000
READ_MS = DAY_MS // 4
REPLAY_ROWS = 5_000


class MinuteKeeper:
    """The way of minutes out of the books. `run` until cancelled, then `flush`.

    books: by mode. retention_days: older minutes are dropped; 0: none are. symbols: those that are read back after a
    restart, window_ms: from how far back. retry_s: how often a database that is down is tried again.
    """

    def __init__(
        self,
        store: MinuteStore,
        spool: Spool,
        books: Collection[MinuteBook],
        *,
        clock: Clock,
        logger: Logger,
        metrics: SourceMetrics,
        symbols: Sequence[str],
        window_ms: int,
        retention_days: int = 0,
        poll_s: float = 0.5,
        retry_s: float = 1.0,
    ) -> None:
        self._store = store
        self._spool = spool
        self._books = tuple(books)
        self._clock = clock
        self._log = logger
        self._metrics = metrics
        self._symbols = tuple(symbols)
        self._window_ms = window_ms
        self._retention_days = retention_days
        self._poll_s = poll_s
        self._retry_s = retry_s
        self._opened = False
        self._joined: set[tuple[str, str, str, int]] = set()  # minutes here that hold what the database has of them
        self._attempting = asyncio.Lock()
        self._try_at = 0.0
        self._pruned_at = 0
        self.up = False
        self.last_fault = "not reached yet"
        self.spool_fault = ""

    async def start(self) -> None:
        """Take up what an earlier run left. A database that is down is no reason not to start."""
        try:
            self._spool.load()
        except SpoolError as error:
            self.spool_fault = str(error)
            self._log.error("spool_unread", error=str(error))
        recent = self._clock.now_ms() - self._window_ms
        rows = [row for row in self._spool.first(len(self._spool)) if row.minute_ms + MINUTE_MS > recent]
        self._joined = {row.key for row in rows if not row.alone}
        for book in self._books:
            book.restore(rows)
        await self._attempt([])

    async def run(self) -> None:
        while True:
            await self.step()
            await asyncio.sleep(self._poll_s)

    async def step(self) -> None:
        """Write what is due, replay what waits, drop what is too old."""
        now_ms = self._clock.now_ms()
        rows = [row for book in self._books for row in book.due(now_ms)]
        if rows or len(self._spool) or not self._opened:
            await self._attempt(rows)
        for book in self._books:
            book.trim(now_ms)
        if self._retention_days and self.up and now_ms - self._pruned_at > DAY_MS // 24:
            await self._prune(now_ms)

    async def flush(self) -> None:
        """Write all that was not written, the current minute too: at a change of mode, and at the end."""
        self._try_at = 0.0
        await self._attempt([row for book in self._books for row in book.flush()])

    async def rows(self, mode: Mode, symbol: str, exchange: str | None, from_ms: int, to_ms: int) -> list[MinuteRow]:
        """Minutes as they stand: written, waiting, and under way. Raises `StoreUnavailableError`."""
        found: dict[tuple[str, str, str, int], MinuteRow] = {}
        for start_ms in range(from_ms, to_ms, READ_MS):  # in pieces: whoever else asks is not kept waiting
            end_ms = min(start_ms + READ_MS, to_ms)
            found |= {row.key: row for row in await self._store.read(mode, symbol, exchange, start_ms, end_ms)}
        waiting = (
            row
            for row in self._spool.first(len(self._spool))
            if row.mode is mode
            and row.symbol == symbol
            and exchange in (None, row.exchange)
            and from_ms <= row.minute_ms < to_ms
        )
        _lay_over(found, waiting)
        for book in self._books:
            if book.mode is mode:
                _lay_over(found, book.rows(symbol, exchange, from_ms, to_ms))
        return sorted(found.values(), key=lambda row: (row.minute_ms, row.exchange))

    async def check(self) -> str:
        """For `/health`. Raises `StoreUnavailableError` or `SpoolError`."""
        waiting = f"{len(self._spool)} minutes wait in the spool"
        if self._spool.dropped:
            waiting += f", {self._spool.dropped} were lost to its bound"
        if not self.up:
            raise StoreUnavailableError(f"{self.last_fault}; {waiting}")
        if self.spool_fault:
            raise SpoolError(self.spool_fault)
        return f"{await self._store.ping()}; {waiting}"

    async def _attempt(self, rows: list[MinuteRow]) -> None:
        """Write these rows, and all that waits; what cannot be written waits, also where this is cancelled."""
        try:
            async with self._attempting:
                if asyncio.get_running_loop().time() < self._try_at:
                    self._put(rows)
                    return
                if not self._opened:
                    await self._open()
                if rows:
                    await self._store.write(rows)
                    self._metrics.minutes.labels("written").inc(len(rows))
                    self._log.info("minutes_written", rows=len(rows))
                rows = []
                await self._replay()
        except StoreUnavailableError as error:
            if self.up or self.last_fault != str(error):
                self._log.warning("database_down", error=str(error), waiting=len(self._spool) + len(rows))
            self.up, self.last_fault = False, str(error)
            self._try_at = asyncio.get_running_loop().time() + self._retry_s
            self._put(rows)
            return
        except BaseException:  # their book takes them for written; a row that is written twice counts once
            self._put(rows)
            raise
        if not self.up:
            self._log.info("database_up")
        self.up = True

    async def _open(self) -> None:
        """The first sight of the database: what earlier runs wrote of minutes that this one knows is added to them."""
        await self._store.open()
        now_ms = self._clock.now_ms()
        recent_ms = now_ms - self._window_ms
        waiting = {row.key: row for row in self._spool.first(len(self._spool))}
        oldest_ms = min((row.minute_ms for row in waiting.values() if row.alone), default=recent_ms - MINUTE_MS)
        found = [
            (book, row)
            for book in self._books
            for symbol in self._symbols
            for row in await self._store.read(book.mode, symbol, None, min(oldest_ms, recent_ms - MINUTE_MS), now_ms)
        ]
        self._opened = True
        joined = []
        for book, row in found:
            spooled = waiting.get(row.key)
            if row.key in self._joined or (spooled is not None and not spooled.alone):
                continue  # it was made by a run that knew this row
            if spooled is not None:
                joined.append(together(row, spooled))
            if row.minute_ms + MINUTE_MS > recent_ms:
                book.restore([row])
        known = {row.key for row in joined}
        rest = [structs.replace(row, alone=False) for row in waiting.values() if row.alone and row.key not in known]
        self._spool_rows([*joined, *rest])

    async def _replay(self) -> None:
        while rows := self._spool.first(REPLAY_ROWS):
            await self._store.write(rows)
            self._metrics.minutes.labels("replayed").inc(len(rows))
            try:
                self._spool.done(rows)
            except SpoolError as error:
                self._spool_failed(error)
            self._log.info("minutes_replayed", rows=len(rows), waiting=len(self._spool))

    def _spool_rows(self, rows: Sequence[MinuteRow]) -> None:
        try:
            self._spool.put(rows)
            self.spool_fault = ""
        except SpoolError as error:
            self._spool_failed(error)

    def _put(self, rows: Sequence[MinuteRow]) -> None:
        before = self._spool.dropped
        if not self._opened:
            rows = [structs.replace(row, alone=row.key not in self._joined) for row in rows]
        self._spool_rows(rows)
        self._metrics.minutes.labels("spooled").inc(len(rows))
        if lost := self._spool.dropped - before:
            self._metrics.minutes.labels("lost").inc(lost)
            self._log.error("minutes_lost", rows=lost, because="the spool is full")

    def _spool_failed(self, error: SpoolError) -> None:
        self.spool_fault = str(error)
        self._log.error("spool_failed", error=str(error))

    async def _prune(self, now_ms: int) -> None:
        try:
            await self._store.prune(now_ms - self._retention_days * DAY_MS)
            self._pruned_at = now_ms
        except StoreUnavailableError as error:
            self._log.warning("minutes_not_pruned", error=str(error))


def _lay_over(found: dict[tuple[str, str, str, int], MinuteRow], rows: Iterable[MinuteRow]) -> None:
    for row in rows:
        known = found.get(row.key)
        if known is None or row.count >= known.count:
            found[row.key] = row
