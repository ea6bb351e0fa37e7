"""Keeps the last reading of every group in memory, so that a client's read never waits for the chain."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from decimal import Decimal

from bff.confidences import Confidences
from bff.documents import Trouble
from bff.edges import ChainEdge, GroupReading
from bff.errors import ChainUnavailableError, StalePricesError
from bff.metrics import BffMetrics
from bff.prices import GroupView, view
from bff.transactions import RoundKey, Transactions
from bff.upstream import RoundConfidence
from core.clock import Clock
from core.errors import FairmarkError
from core.logs import Logger
from core.types import Group, Mode, Pair

_FIRST_WAIT_S = 0.005
_LONGEST_WAIT_S = 0.1
_HOLD_POLLS = 3
_READ_TRIES = 3


class RoundGate:
    """Whether a reading may replace the one that stands, judged by each one's (moment, round).

    Moments rise with rounds, and go on rising when a reorganisation takes rounds back and others are made: so a reading
    of a later moment may, at once, be its round lower or not. An earlier one comes from a node that lags behind
    (several may stand behind one URL), and then it passes by itself, or from a reorganisation that took rounds back,
    and then it stays. So it is held back until no other was seen for `hold_ms`; the standing reading is served
    meanwhile and ages.
    """

    def __init__(self, hold_ms: int) -> None:
        self._hold_ms = hold_ms
        self._earlier_since_ms: int | None = None

    def admits(self, standing: tuple[int, int], candidate: tuple[int, int], now_ms: int) -> bool:
        if candidate >= standing:
            self._earlier_since_ms = None
            return True
        if self._earlier_since_ms is None:
            self._earlier_since_ms = now_ms
        if now_ms - self._earlier_since_ms < self._hold_ms:
            return False
        self._earlier_since_ms = None
        return True


class _GroupReader:
    """One group's reading, its transactions, and the read under way."""

    def __init__(self, group: Group, hold_ms: int) -> None:
        self.group = group
        self.gate = RoundGate(hold_ms)
        self.transactions = Transactions()
        self.confidences = Confidences()
        self.written: dict[Pair, RoundKey] = {}  # the round that wrote each standing answer
        self.reading: GroupReading | None = None
        self.view: GroupView | None = None
        self.under_way: asyncio.Task[GroupReading] | None = None
        self.failure: str | None = None
        self.unread = False  # for so long that nobody knows what stands by now

    def note_written(self, reading: GroupReading) -> None:
        """An answer is told with the moment of the last round that attested it; its own round's moment is from when
        it was new, and not known where it was attested before it was first read."""
        for pair, answer in reading.answers.items():
            known = self.written.get(pair)
            same = known is not None and known[0] == answer.round and known[1] <= answer.observed_ms
            if known is None or not same or answer.round == reading.round:
                self.written[pair] = (answer.round, answer.observed_ms)


class ChainReader:
    """Polls the chain for every group and serves what it last read.

    Clients that wait for a round (`read_round`) share one read under way, however many they are.
    """

    def __init__(
        self,
        chain: ChainEdge,
        groups: Sequence[Group],
        *,
        mode: Mode,
        clock: Clock,
        poll_ms: int,
        metrics: BffMetrics,
        logger: Logger,
        read_timeout_s: float = 5.0,
        told: Callable[[str, int], Awaitable[RoundConfidence]] | None = None,
    ) -> None:
        """told: what the aggregator says of the answers of a group's round."""
        self._told = told
        self._chain = chain
        self._mode = mode
        self._clock = clock
        self._poll_s = poll_ms / 1000
        self._metrics = metrics
        self._log = logger
        self._read_timeout_s = read_timeout_s
        # without a reading for longer than this, prices are stale whatever their age, and our health is bad
        self._quiet_ms = 2 * _HOLD_POLLS * poll_ms + int(read_timeout_s * 1000)
        self._groups = {group.name: _GroupReader(group, _HOLD_POLLS * poll_ms) for group in groups}
        self.first_readings = asyncio.Event()
        self._troubles: Mapping[Pair, tuple[Trouble, ...]] = {}

    def view(self, group: str) -> GroupView | None:
        """What was last read of `group`; None before the first reading. `group` is a configured one."""
        return self._groups[group].view

    async def run(self) -> None:
        """Poll until cancelled. A group whose reads hang or fail does not hold up another."""
        try:
            async with asyncio.TaskGroup() as tasks:
                for reader in self._groups.values():
                    tasks.create_task(self._poll(reader), name=f"bff:poll:{reader.group.name}")
        finally:
            await self.close()

    async def close(self) -> None:
        """End the reads under way."""
        tasks = [reader.under_way for reader in self._groups.values() if reader.under_way is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def read(self, group: str) -> GroupView:
        """Read the chain, or join the read under way, and return what stands then.

        Raises `ChainUnavailableError`.
        """
        reader = self._groups[group]
        if reader.under_way is None or reader.under_way.done():
            reader.under_way = asyncio.create_task(self._read(reader), name=f"bff:read:{group}")
            # a joiner may be cancelled before it hears of a failure; `failure` and the metric have it all the same
            reader.under_way.add_done_callback(lambda task: task.cancelled() or task.exception())
        await asyncio.shield(reader.under_way)
        assert reader.view is not None  # noqa: S101 - the first reading is always admitted
        return reader.view

    async def read_round(self, group: str, least: int, moment: int) -> GroupView:
        """What stands of `group` once it is at round `least` and at `moment`, or later; at once where it is already.

        The round alone would not do: after a reorganisation one of the same number, or a higher one, may stand here
        that is on the chain no more. A node may show a round a little after the receipt was seen elsewhere, so this
        reads until it does: the caller bounds it. Raises `ChainUnavailableError` after three failures in a row.
        """
        wait_s, failures = _FIRST_WAIT_S, 0
        while (standing := self._groups[group].view) is None or standing.round < least or standing.moment < moment:
            try:
                standing = await self.read(group)
                failures = 0
            except ChainUnavailableError:
                failures += 1
                if failures >= _READ_TRIES:
                    raise
            else:
                if standing.round >= least and standing.moment >= moment:
                    break
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, _LONGEST_WAIT_S)
        return standing

    def note_transaction(self, group: str, round_: int, moment: int, transaction: str) -> None:
        """Learn of a round's transaction from whoever sent it, and so save the search for its event."""
        reader = self._groups[group]
        if reader.transactions.note((round_, moment), transaction):
            self._prepare(reader)

    def note_confidence(self, group: str, moment: int, told: Mapping[str, Decimal]) -> None:
        """Learn of a round's from whoever made it, and so save the question."""
        if told:
            reader = self._groups[group]
            reader.confidences.note(moment, told)
            self._prepare(reader)

    def note_troubles(self, troubles: Mapping[Pair, tuple[Trouble, ...]]) -> None:
        """Learn which strict feeds are in error, and why: their prices say so from now on."""
        if troubles != self._troubles:
            self._troubles = dict(troubles)
            for reader in self._groups.values():
                self._prepare(reader)

    async def health(self) -> str:
        """Raises `ChainUnavailableError` while a group's last read failed, or none was taken for several polls."""
        now_ms = self._clock.now_ms()
        details = []
        for name, reader in self._groups.items():
            if reader.failure is not None:
                raise ChainUnavailableError(f"{name}: {reader.failure}")
            if reader.view is None:
                raise ChainUnavailableError(f"{name}: not read yet")
            age_ms = now_ms - reader.view.received_ms
            if age_ms > self._quiet_ms:
                raise ChainUnavailableError(f"{name}: the last reading is {age_ms} ms old")
            details.append(f"{name}: round {reader.view.round}, read {age_ms} ms ago")
        return "; ".join(details)

    async def freshness(self) -> str:
        """For `/health`. Raises `StalePricesError` naming the prices that are stale or were never set."""
        now_ms = self._clock.now_ms()
        old: list[str] = []
        for reader in self._groups.values():
            standing = {} if reader.view is None else reader.view.standing
            for feed in reader.group.feeds:
                price = standing.get(feed.pair)
                if price is None or price.at(now_ms).stale:
                    old.append(feed.pair)
        if old:
            raise StalePricesError(f"stale or never set: {', '.join(old)}")
        return "every price is fresh"

    async def _poll(self, reader: _GroupReader) -> None:
        while True:
            try:
                await self.read(reader.group.name)
                await self._find_transaction(reader)
                await self._find_confidence(reader)
                self._observe_ages(reader)
            except ChainUnavailableError:
                pass  # told once, by `_failed`; the last reading is served, and ages
            except Exception:  # noqa: BLE001 - a fault of ours in one round must not end the polling
                self._log.exception("poll_failed", group=reader.group.name)
            await asyncio.sleep(self._poll_s)

    async def _read(self, reader: _GroupReader) -> GroupReading:
        name = reader.group.name
        try:
            async with asyncio.timeout(self._read_timeout_s):
                reading = await self._chain.read_group(name)
        except TimeoutError:
            raise self._failed(reader, f"no answer within {self._read_timeout_s:g} s") from None
        except FairmarkError as error:
            raise self._failed(reader, f"{error.code}: {error}") from error
        except Exception as error:
            raise self._failed(reader, f"{type(error).__name__}: {error}") from error
        if reader.failure is not None:
            self._log.info("chain_read_again", group=name, round=reading.round)
            reader.failure, reader.unread = None, False
        self._take(reader, reading)
        return reading

    def _failed(self, reader: _GroupReader, why: str) -> ChainUnavailableError:
        if reader.failure is None:
            self._log.warning("chain_not_read", group=reader.group.name, why=why)
        reader.failure = why
        silent_ms = 0 if reader.view is None else self._clock.now_ms() - reader.view.received_ms
        if silent_ms > self._quiet_ms and not reader.unread:
            reader.unread = True
            self._prepare(reader)
        self._metrics.chain_reads.labels(reader.group.name, "failed").inc()
        return ChainUnavailableError(f"the chain could not be read: {why}")

    def _take(self, reader: _GroupReader, reading: GroupReading) -> None:
        name, now_ms = reader.group.name, self._clock.now_ms()
        standing = (0, 0) if reader.view is None else (reader.view.moment, reader.view.round)
        if not reader.gate.admits(standing, (reading.moment, reading.round), now_ms):
            self._metrics.chain_reads.labels(name, "held").inc()
            return
        if reading.round < standing[1]:
            self._log.warning("rounds_taken_back", group=name, standing=standing[1], round=reading.round)
            reader.written.clear()
        reader.reading = reading
        reader.note_written(reading)
        self._prepare(reader, now_ms)
        self._metrics.chain_reads.labels(name, "taken").inc()
        self._metrics.round.labels(name).set(reading.round)
        if all(other.view is not None for other in self._groups.values()):
            self.first_readings.set()

    def _prepare(self, reader: _GroupReader, received_ms: int | None = None) -> None:
        """Write the documents of what stands; again when a transaction became known (`received_ms` None)."""
        reading = reader.reading
        if reading is None:
            return
        if received_ms is None:
            received_ms = reader.view.received_ms if reader.view else self._clock.now_ms()
        reader.view = view(
            reader.group,
            reading,
            mode=self._mode,
            received_ms=received_ms,
            transactions=reader.transactions.known,
            written=reader.written,
            confidences=reader.confidences,
            troubles=self._troubles,
            unread=reader.unread,
        )

    async def _find_transaction(self, reader: _GroupReader) -> None:
        """Look up the standing round's transaction, if it is new. Older rounds' are known from when they were new, or
        not at all: their blocks are not in a reading."""
        reading = reader.reading
        if reading is None:
            return
        key = (reading.round, reading.moment)
        reader.transactions.keep([key, *reader.written.values()])
        if not reader.transactions.wants(key):
            return
        with contextlib.suppress(FairmarkError, TimeoutError):
            async with asyncio.timeout(self._read_timeout_s):
                found = await self._chain.round_transaction(reader.group.name, reading.round, reading.accepted_block)
            if found is not None and reader.transactions.note(key, found):
                self._prepare(reader)

    async def _find_confidence(self, reader: _GroupReader) -> None:
        """Ask what stands behind the standing round, if it is new. Without an answer the chain's word stands alone."""
        reading = reader.reading
        if reading is None or self._told is None or not reader.confidences.wants(reading.moment):
            return
        with contextlib.suppress(FairmarkError, TimeoutError):
            async with asyncio.timeout(self._read_timeout_s):
                found = await self._told(reader.group.name, reading.round)
            if found.moment == reading.moment:
                self.note_confidence(reader.group.name, found.moment, found.feeds)

    def _observe_ages(self, reader: _GroupReader) -> None:
        if reader.view is not None:
            now_ms = self._clock.now_ms()
            for pair, standing in reader.view.standing.items():
                self._metrics.price_age.labels(pair).set(max(0, now_ms - standing.observed_ms) / 1000)
