"""Watches what was sent until it is settled: late blocks, reorgs, and what a former life of this process left behind.

A transaction that a reorg dropped is sent again, the same bytes, unless a newer round stands in its place: then its
attempt is retired. No round is ever signed here, so none can be sent twice: what goes out again goes out in the bytes
that were kept, at the nonce that they have.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from aggregator.attempts import AttemptRecord, FailureReason
from aggregator.edges import Flight, SubmittingChain
from aggregator.errors import KeyInUseError
from aggregator.metrics import Metrics
from aggregator.recorder import Recorder
from aggregator.states import State
from aggregator.submitter import Submitter
from contracts.errors import ContractError, NonceUsedError, RoundRefusedError, TransactionFailedError
from contracts.readings import Receipt
from contracts.transactions import Sent, read_raw
from core.clock import Clock
from core.logs import Logger

MAX_WATCHED = 1_000
CANCEL_AFTER_MS = 60_000
"""After its moment, when a round that was given up still waits in a pool and no later one took its place."""
_INTERRUPTED = frozenset({FailureReason.NOT_CONFIRMED, FailureReason.STOPPED})
"""Failures of which nobody said that the round is no good: it is sent once more after a restart."""


@dataclass(eq=False)
class _Watched:
    record: AttemptRecord
    flight: Flight
    in_block: bool = False
    cancelled: bool = False


class Tracker:
    """confirmations: blocks, its own among them, that settle a round; or `safe` or `finalized`."""

    def __init__(
        self,
        chain: SubmittingChain,
        submitter: Submitter,
        recorder: Recorder,
        *,
        confirmations: int | str,
        poll_s: float,
        clock: Clock,
        metrics: Metrics,
        logger: Logger,
        cancel_after_ms: int = CANCEL_AFTER_MS,
    ) -> None:
        self._chain = chain
        self._submitter = submitter
        self._recorder = recorder
        self._confirmations = confirmations
        self._poll_s = poll_s
        self._cancel_after_ms = cancel_after_ms
        self._clock = clock
        self._metrics = metrics
        self._log = logger
        self._watched: OrderedDict[str, _Watched] = OrderedDict()
        self._work = asyncio.Event()

    def __len__(self) -> int:
        """How many attempts are not settled."""
        return len(self._watched)

    def watch(self, record: AttemptRecord, flight: Flight) -> None:
        """Watch an ended attempt from now on."""
        self._watched[record.id] = _Watched(record, flight, record.state is State.ACCEPTED)
        while len(self._watched) > MAX_WATCHED:
            lost, _ = self._watched.popitem(last=False)
            self._log.warning("unwatched", attempt=lost, because=f"{MAX_WATCHED} attempts wait to be settled")
        self._metrics.unsettled.set(len(self._watched))
        self._work.set()

    async def recover(self) -> None:
        """Find out what became of the attempts that a former life of this process left open, of whatever group.

        What neither a block nor a pool has is sent once more, in the very bytes that were kept of it, if the contract
        would still take it. What still waits in a node's pool is replaced by the group's next round. Raises
        `StoreUnavailableError` or `ContractError`.
        """
        own = self._submitter.address
        unended = [record for record in await self._recorder.unended() if record.relayer == own]
        former = (*unended, *await self._recorder.unsettled(own))
        for record in sorted(former, key=lambda one: one.started_ms):
            if record.id not in self._watched:
                await self._take_up(record)
        await self.look()

    async def _take_up(self, record: AttemptRecord) -> None:
        if not record.state.final:
            sent = bool(record.transactions)
            reason = FailureReason.NOT_CONFIRMED if sent else FailureReason.STOPPED
            record = record.failed(reason, "the service ended in the middle of it", self._clock.now_ms())
            self._log.warning("recovered", attempt=record.id, transactions=list(record.transactions))
            self._recorder.keep(record)
        doubtful = record.state is State.FAILED and record.code != FailureReason.REORGED
        if record.settled or not record.transactions or not (doubtful or record.state is State.ACCEPTED):
            return
        flight = Flight(record.id, record.group, record.previous_moment or 0, record.moment, b"")
        for transaction in record.transactions:
            if (fees := await self._chain.find_fees(transaction)) is not None:
                flight.sent.append(Sent(transaction, record.nonce or 0, fees))
        lost = await self._restore(record, flight)
        if lost and record.code in _INTERRUPTED and not await self._sent_again(record, flight):
            return
        if not flight.sent:  # no node has ever seen it, or it was dropped long ago
            if record.state is State.ACCEPTED:
                await self._perhaps_reorged(record)
            elif record.nonce is not None and await self._submitter.sender.used() > record.nonce:
                self._recorder.keep(msgspec.structs.replace(record, settled=True))
            return
        self.watch(record, flight)
        if await self._submitter.sender.used() <= flight.nonce:
            self._submitter.adopt(flight)

    async def _restore(self, record: AttemptRecord, flight: Flight) -> bool:
        """Give a flight its bytes back, where they were kept. Whether no node knows any transaction of it."""
        raw = await self._recorder.raw(record.id)
        if raw is None:
            return False
        try:
            kept, flight.calldata = read_raw(raw)
        except TransactionFailedError as error:
            self._log.warning("not_restored", attempt=record.id, because=str(error))
            return False
        lost = not flight.sent
        for index, sent in enumerate(flight.sent):
            if sent.transaction == kept.transaction:
                flight.sent[index] = kept
        if lost and (record.state is State.ACCEPTED or record.code in _INTERRUPTED):
            flight.sent.append(kept)
        return lost

    async def _sent_again(self, record: AttemptRecord, flight: Flight) -> bool:
        """Send what no node has, unless its nonce is used or the contract has moved on. Whether it is on its way."""
        sent = flight.sent[0]
        if await self._submitter.sender.used() > sent.nonce:
            return False
        try:
            await self._chain.simulate(flight.calldata, self._submitter.address)
            await self._submitter.again(sent)
        except (RoundRefusedError, TransactionFailedError) as error:
            self._log.warning("not_sent_again", attempt=record.id, because=str(error))
            return False
        self._submitter.sender.forget_nonce()
        self._log.warning("sent_again", attempt=record.id, transaction=sent.transaction, nonce=sent.nonce)
        return True

    async def _perhaps_reorged(self, record: AttemptRecord) -> None:
        """Of an accepted round that no node knows the transaction of: gone, where the contract stands before it."""
        if (await self._chain.group_state(record.group)).last_moment < record.moment:
            watched = _Watched(record, Flight(record.id, record.group, record.previous_moment or 0, record.moment, b""))
            self._gone(watched, "it happened while this service was down")

    async def run(self) -> None:
        """Look every `poll_s` while there is something to watch, for ever."""
        while True:
            await self._work.wait()
            await asyncio.sleep(self._poll_s)
            try:
                await self.look()
            except (ContractError, KeyInUseError) as error:
                self._log.warning("not_watched", unsettled=len(self._watched), code=error.code, error=str(error))

    async def look(self) -> None:
        """Look at everything once, the oldest first. Raises `ContractError` or `KeyInUseError`."""
        if self._watched:
            settled = await self._chain.settled_block(self._confirmations)
            for watched in list(self._watched.values()):
                await self._look_at(watched, settled)
        self._metrics.unsettled.set(len(self._watched))
        if not self._watched:
            self._work.clear()

    async def _look_at(self, watched: _Watched, settled: int) -> None:
        flight = watched.flight
        if (receipt := await self._receipt(flight)) is not None:
            self._submitter.landed(flight)
            self._mined(watched, receipt, settled)
            return
        watched.in_block = False
        for transaction in flight.hashes:
            if await self._chain.find_fees(transaction) is not None:
                await self._wait(watched)
                return
        if await self._submitter.sender.used() > flight.nonce:
            if await self._receipt(flight) is not None:
                return  # one node knew less than the next: the following look sees what it is
            self._submitter.landed(flight)
            self._gone(watched, "another transaction has its nonce")
        elif watched.record.state is State.ACCEPTED:
            await self._put_back(watched)
        elif await self._submitter.sender.expected() <= flight.nonce:
            await self._wait(watched)  # it was dropped, and what came after it waits for its nonce
        # else it was given up, and its nonce has the group's next round already

    async def _receipt(self, flight: Flight) -> Receipt | None:
        for transaction in flight.hashes:
            if (receipt := await self._chain.find_receipt(transaction)) is not None:
                return receipt
        return None

    async def _wait(self, watched: _Watched) -> None:
        """It is in no block. Given up and grown old, it only holds up what comes after it: groups share the key."""
        old = self._clock.now_ms() - watched.flight.moment > self._cancel_after_ms
        if watched.record.state is State.FAILED and old and not watched.cancelled:
            watched.cancelled = await self._submitter.cancel(watched.flight)

    def _mined(self, watched: _Watched, receipt: Receipt, settled: int) -> None:
        watched.in_block = True
        record = watched.record
        if not receipt.ok:
            self._gone(watched, f"{receipt.transaction} reverted in block {receipt.block_number}")
            return
        if record.state is State.FAILED:
            self._log.info("mined_late", attempt=record.id, transaction=receipt.transaction)
            self._amend(watched, lambda one: one.mined_late(receipt, self._clock.now_ms()))
        elif (record.transaction, record.block_hash) != (receipt.transaction, receipt.block_hash):
            self._reorg(watched, "moved", f"now in block {receipt.block_number}")
            self._amend(watched, lambda one: one.in_block(receipt))
        if receipt.block_number <= settled:
            self._amend(watched, lambda one: msgspec.structs.replace(one, settled=True))
            self._forget(watched)

    async def _put_back(self, watched: _Watched) -> None:
        """A reorg took its block, and no node has it any more; its nonce is free."""
        flight = watched.flight
        self._submitter.sender.forget_nonce()
        if (await self._chain.group_state(flight.group)).last_moment >= flight.moment:
            self._retire(watched, "a newer round stands")
            return
        if not flight.sent[0].raw:
            self._retire(watched, "it was sent before the last restart, and its bytes were not kept")
            return
        if not self._follows_one_on_its_way(watched):
            try:
                await self._chain.simulate(flight.calldata, self._submitter.address)
            except RoundRefusedError as error:
                self._retire(watched, f"the contract would refuse it now: {error}")
                return
        try:
            await self._submitter.again(flight.sent[0])
        except NonceUsedError as error:
            self._retire(watched, str(error))
        except TransactionFailedError as error:
            # most likely a newer one of ours has its nonce and waits for a block: then the nonce will tell
            self._log.warning("not_put_back", attempt=watched.record.id, because=str(error))
        else:
            self._submitter.adopt(flight)
            self._reorg(watched, "put_back", "sent again")

    def _follows_one_on_its_way(self, watched: _Watched) -> bool:
        """Whether the round it was signed upon is itself without a block: only in that one's wake is it valid."""
        return any(
            other.flight.group == watched.flight.group
            and other.flight.moment == watched.flight.previous_moment
            and not other.in_block
            for other in self._watched.values()
        )

    def _retire(self, watched: _Watched, why: str) -> None:
        self._submitter.landed(watched.flight)
        self._gone(watched, why)

    def _gone(self, watched: _Watched, why: str) -> None:
        if watched.record.state is State.ACCEPTED:
            self._reorg(watched, "retired", why)
            self._amend(watched, lambda one: one.reorged(f"a reorg took its round: {why}", self._clock.now_ms()))
        else:
            self._amend(watched, lambda one: msgspec.structs.replace(one, settled=True))
        self._forget(watched)

    def _reorg(self, watched: _Watched, outcome: str, why: str) -> None:
        record = watched.record
        self._metrics.reorgs.labels(record.group, outcome).inc()
        self._log.warning("reorg", attempt=record.id, round=record.round, outcome=outcome, detail=why)

    def _amend(self, watched: _Watched, change: Callable[[AttemptRecord], AttemptRecord]) -> None:
        # a late report may have come into the record since
        watched.record = change(self._recorder.at_hand(watched.record.id) or watched.record)
        self._recorder.keep(watched.record)

    def _forget(self, watched: _Watched) -> None:
        self._watched.pop(watched.record.id, None)
