"""The one who sends rounds: a thin layer over the client, with one key and so one nonce."""

from __future__ import annotations

from aggregator.edges import SubmittingChain
from contracts.errors import TransactionFailedError
from contracts.readings import Receipt
from contracts.report import Signer


class Submitter:
    """Simulates, sends, and awaits receipts. Make one for each key: it owns the key's nonce."""

    def __init__(self, chain: SubmittingChain, key: str | Signer) -> None:
        self._chain = chain
        self._sender = chain.sender(key)

    @property
    def address(self) -> str:
        """Checksummed."""
        return self._sender.address

    async def simulate(self, calldata: bytes) -> None:
        """Raises `RoundRefusedError` naming the contract's error, or `RpcUnavailableError`."""
        await self._chain.simulate(calldata, self.address)

    async def send(self, calldata: bytes) -> str:
        """The transaction's hash. Raises `TransactionFailedError` or `RpcUnavailableError`."""
        return await self._chain.submit(calldata, self._sender)

    async def receipt(self, transaction: str, timeout_s: float) -> Receipt:
        """The receipt of a transaction that did what it should.

        Raises `TransactionFailedError` when it was mined and reverted, `ReceiptTimeoutError` when no block has it yet.
        """
        receipt = await self._chain.wait_receipt(transaction, timeout_s)
        if not receipt.ok:
            raise TransactionFailedError(
                f"{transaction} was mined in block {receipt.block_number} and reverted: another relayer was quicker, "
                "or the group changed after the simulation"
            )
        return receipt
