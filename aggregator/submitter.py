"""The one who sends rounds, with one key and so one nonce: nothing of his stays stuck, and nothing is sent twice."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from aggregator.attempts import FailureReason
from aggregator.edges import Flight, Note, SubmittingChain
from aggregator.errors import AttemptFailedError
from contracts.errors import (
    FeeCapError,
    NodesDisagreeError,
    NonceUsedError,
    ReceiptTimeoutError,
    RoundRefusedError,
    RpcUnavailableError,
    TransactionFailedError,
    TransactionRevertedError,
    UnderpricedError,
)
from contracts.fees import Fees
from contracts.readings import Receipt
from contracts.report import Signer
from contracts.transactions import TRANSFER_GAS, Sent
from core.logs import Logger


def presumed_ours() -> None:
    """Where nobody can tell who else sends with the key."""


class Submitter:
    """Simulates, sends, replaces, and awaits receipts. Make one for each key: it owns the key's nonce.

    replace_after_s: a transaction that no block took for so long is sent again, at the same nonce, for more. The next
    round of a group takes the place of its last one's transaction where that is in no block yet. owned: called before
    each send, raises `KeyInUseError` where another process may own the nonce.
    """

    def __init__(
        self,
        chain: SubmittingChain,
        key: str | Signer,
        logger: Logger,
        *,
        replace_after_s: float,
        owned: Callable[[], None] = presumed_ours,
    ) -> None:
        self._chain = chain
        self._log = logger
        self._replace_after_s = replace_after_s
        self._owned = owned
        self._unmined: dict[str, Flight] = {}  # by group: at most one nonce of a group is not in a block
        self.sender = chain.sender(key)

    @property
    def address(self) -> str:
        """Checksummed."""
        return self.sender.address

    def adopt(self, flight: Flight) -> None:
        """Take up a transaction of an earlier life of this process, which is in no block: the next takes its place."""
        self._unmined[flight.group] = flight

    def airborne(self, flight: Flight) -> bool:
        """Whether a node may have a transaction of the flight that no block had when we last looked."""
        return self._unmined.get(flight.group) is flight

    def landed(self, flight: Flight) -> None:
        """The flight's nonce is used: nothing can take its place any more."""
        if self._unmined.get(flight.group) is flight:
            del self._unmined[flight.group]

    async def simulate(self, flight: Flight) -> None:
        """Raises `RoundRefusedError` naming the contract's error, or `RpcUnavailableError`."""
        try:
            await self._chain.simulate(flight.calldata, self.address)
        except RoundRefusedError as error:
            stuck = self._unmined.get(flight.group)
            # the pending block may hold our own last round, whose place this one takes: then it will not be there
            if stuck is None or error.name != "UnexpectedPreviousMoment" or stuck.moment not in error.arguments:
                raise

    async def send(self, flight: Flight, note: Note) -> None:
        """Sign and send, in the place of the group's last transaction where no block took that one.

        From the first `note` on, some node may have it, whatever is raised. Raises what `TransactionSender.place` does,
        `KeyInUseError`, or `RoundRefusedError` when the last one was mined just now.
        """
        stuck = self._unmined.get(flight.group)
        over = await self._beneath(stuck) if stuck is not None else None
        if stuck is not None and over is not None:
            self._log.warning("replacing", attempt=flight.attempt, stuck=over.transaction, nonce=over.nonce)
        try:
            await self._place(flight, over, note)
        except NonceUsedError:
            if stuck is None:
                raise
            self.landed(stuck)
            flight.sent.clear()
            await self._chain.simulate(flight.calldata, self.address)
            await self._place(flight, None, note)

    async def _place(self, flight: Flight, over: Sent | None, note: Note) -> None:
        before = self._unmined.get(flight.group)

        async def noted(sent: Sent) -> None:
            # no node took those of another nonce: it was used already; and the same bytes may go out twice
            kept = [one for one in flight.sent if one.nonce == sent.nonce and one.transaction != sent.transaction]
            flight.sent[:] = [sent, *kept]
            await note(flight)
            self._owned()  # after the store's answer, which may have been long in coming
            self._unmined[flight.group] = flight

        try:
            await self._chain.place(flight.calldata, self.sender, over=over, before=noted)
        except (TransactionFailedError, NodesDisagreeError):
            # no node took it: what stood before still stands
            if before is not None:
                self._unmined[flight.group] = before
            else:
                self._unmined.pop(flight.group, None)
            raise

    async def receipt(self, flight: Flight, note: Note, timeout_s: float) -> Receipt:
        """The receipt of a transaction that did what it should; until a block has one, it is pushed.

        Raises `TransactionRevertedError` when it was mined and reverted, `ReceiptTimeoutError` when no block has it yet
        (it stays watched), `NonceUsedError` when another was mined in its place, `AttemptFailedError` when another's
        round came before it.
        """
        deadline = time.monotonic() + timeout_s
        used = False
        while True:
            remaining = deadline - time.monotonic()
            try:
                receipt = await self._chain.wait_any(flight.hashes, max(0.0, min(remaining, self._replace_after_s)))
            except ReceiptTimeoutError as error:
                if used:
                    self.landed(flight)
                    raise NonceUsedError(f"another transaction has nonce {flight.nonce}: {error}") from error
                if remaining <= self._replace_after_s:
                    raise ReceiptTimeoutError(flight.hashes[0], timeout_s) from error
                used = not await self._push(flight, note)
                continue
            self.landed(flight)
            if not receipt.ok:
                raise TransactionRevertedError(
                    f"{receipt.transaction} was mined in block {receipt.block_number} and reverted: another relayer "
                    "was quicker, or the group changed after the simulation"
                )
            return receipt

    async def again(self, sent: Sent) -> None:
        """Send the same bytes once more. Raises as `TransactionSender.again` does, or `KeyInUseError`."""
        self._owned()
        await self.sender.again(sent)

    async def cancel(self, flight: Flight) -> bool:
        """Free the nonce of a flight that was given up, by a transfer of nothing to ourselves in its place.

        False when something newer has the place already. Raises `RpcUnavailableError` or `KeyInUseError`.
        """
        if not self.airborne(flight):
            return False
        self._owned()
        try:
            sent = await self.sender.place(self.address, b"", gas=TRANSFER_GAS, over=await self._beneath(flight))
        except TransactionFailedError as error:
            self._log.warning("not_cancelled", attempt=flight.attempt, because=str(error))
            return False
        flight.cancelling = sent
        self._log.warning("cancelled", attempt=flight.attempt, transaction=sent.transaction, nonce=sent.nonce)
        return True

    async def _beneath(self, flight: Flight) -> Sent:
        """What has the flight's nonce in a node's pool, to be bettered by who wants its place.

        Where no node has any of it, the nonce alone counts: else the fees of sends that came to nothing, one upon the
        other, would reach the cap, and no round of the group would ever go out again. Raises `RpcUnavailableError`.
        """
        for sent in (*([flight.cancelling] if flight.cancelling is not None else []), *flight.sent):
            if await self._chain.find_fees(sent.transaction) is not None:
                return sent
        newest = flight.sent[0]
        return replace(newest, fees=Fees(0, None if newest.fees.tip is None else 0))

    async def _push(self, flight: Flight, note: Note) -> bool:
        """Offer more for a transaction that no block takes. False when its nonce is used by now."""
        if (last := (await self._chain.group_state(flight.group)).last_moment) > flight.previous_moment:
            if await self.sender.used() > flight.nonce:
                return False  # by itself, more likely than not
            raise AttemptFailedError(
                FailureReason.OVERTAKEN,
                f"another's round of moment {last} came while {flight.hashes[0]} waited for a block; the next round "
                "takes its nonce",
            )
        try:
            await self._place(flight, await self._beneath(flight), note)
        except NonceUsedError:
            return False
        except (FeeCapError, UnderpricedError) as error:
            self._log.warning("stuck", attempt=flight.attempt, transaction=flight.hashes[0], because=str(error))
        except RpcUnavailableError as error:
            self._log.warning("not_pushed", attempt=flight.attempt, because=str(error))
        else:
            self._log.warning("pushed", attempt=flight.attempt, transaction=flight.hashes[0], nonce=flight.nonce)
        return True
