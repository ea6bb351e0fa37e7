"""Contracts on their way onto a chain, written down before they are sent: a deployment that was broken off finds them
again, and pays for none of them twice.

They stand in `<deployments_dir>/<chainId>.sending.json` until the record of the deployment has them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak
from msgspec import Struct

from contracts.deployments import replace_file
from contracts.errors import (
    DeploymentMismatchError,
    NonceUsedError,
    RpcUnavailableError,
    TransactionFailedError,
    UnderpricedError,
)
from contracts.pushing import REPLACE_AFTER_S, see_mined
from contracts.readings import Receipt
from contracts.rpc import Rpc
from contracts.transactions import Announce, Sent, TransactionSender, find_receipt, read_raw
from core import codec


class Creation(Struct, frozen=True, kw_only=True):
    """what: in words. code: hash of what was sent, constructor's arguments included. sender: its key's address.

    raw: the newest transaction's bytes. earlier: of those whose place it took, at the same nonce: one may be mined yet.
    """

    what: str
    code: str
    sender: str
    raw: str
    earlier: tuple[str, ...] = ()


class Journal:
    """The creations in flight on one chain."""

    def __init__(self, deployments_dir: Path, chain_id: int) -> None:
        self.path = deployments_dir / f"{chain_id}.sending.json"
        self._held: dict[str, Creation] = {}
        try:
            self._held = {one.code: one for one in codec.decode(self.path.read_bytes(), list[Creation])}
        except FileNotFoundError:
            pass
        except (msgspec.MsgspecError, OSError) as error:
            raise DeploymentMismatchError(
                f"{self.path} cannot be read ({error}): what it names may be on its way; move it away to start anew"
            ) from error

    def find(self, code: str, sender: str) -> Creation | None:
        found = self._held.get(code)
        return found if found is not None and found.sender == sender else None

    def note(self, creation: Creation) -> None:
        self._held[creation.code] = creation
        self._write()

    def forget(self, code: str) -> None:
        if self._held.pop(code, None) is not None:
            self._write()

    def clear(self) -> None:
        """All that was sent is recorded elsewhere now."""
        self._held.clear()
        self.path.unlink(missing_ok=True)

    def _write(self) -> None:
        replace_file(self.path, msgspec.json.format(codec.encode(list(self._held.values())), indent=2) + b"\n")


@dataclass
class Creator:
    """Creates contracts with one key, each once.

    timeout_s: for each to be mined. replace_after_s: one that no block took for so long is sent again at its nonce, for
    more, up to the cap; the contract's address stays the same.
    """

    rpc: Rpc
    sender: TransactionSender
    journal: Journal
    timeout_s: float
    announce: Announce
    replace_after_s: float = REPLACE_AFTER_S
    _order: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def create(self, what: str, data: bytes, gas: int) -> tuple[Receipt, str]:
        """The receipt, and the contract's address. data: bytecode and the constructor's arguments.

        Raises as `TransactionSender.place` and `see_mined` do.
        """
        code = "0x" + keccak(data).hex()
        sent: list[Sent] = []

        async def place() -> None:
            over = sent[0] if sent else None
            try:
                placed = await self.sender.place(
                    None, data, gas=gas, over=over, before=lambda signed: self._note(what, code, [signed, *sent])
                )
            except TransactionFailedError:
                if sent:
                    await self._note(what, code, sent)  # no node took it: what stood before still stands
                raise
            sent.insert(0, placed)
            self.announce(what if over is None else f"{what}, again for more", placed.transaction)

        async with self._order:  # so that nonces are in the order of the calls
            sent += await self._resumed(code)
            if sent:
                self.announce(what, sent[0].transaction)
            else:
                await place()
        receipt = await see_mined(
            self.rpc, self.sender, sent, place, timeout_s=self.timeout_s, replace_after_s=self.replace_after_s
        )
        found = await self.rpc.call("eth_getTransactionReceipt", receipt.transaction)
        if not isinstance(found, dict) or not found.get("contractAddress"):
            raise RpcUnavailableError(f"{self.rpc.url} lost the receipt of {receipt.transaction}: run this again")
        return receipt, to_checksum_address(found["contractAddress"])

    async def _note(self, what: str, code: str, sent: Sequence[Sent]) -> None:
        raw, *earlier = [one.raw for one in sent]
        self.journal.note(Creation(what=what, code=code, sender=self.sender.address, raw=raw, earlier=tuple(earlier)))

    async def _resumed(self, code: str) -> list[Sent]:
        """What an earlier run sent and may still count on, newest first; given to the nodes again where no block has
        any of it."""
        known = self.journal.find(code, self.sender.address)
        if known is None:
            return []
        sent = [read_raw(raw)[0] for raw in (known.raw, *known.earlier)]
        receipt = await self._found(sent)
        if receipt is None:
            try:
                await self.sender.again(sent[0])
            except NonceUsedError:
                receipt = await self._found(sent)  # mined just now; else another transaction of the key has the nonce
            except UnderpricedError:
                return sent  # for as little it is not taken now: it is offered for more
            else:
                self.sender.forget_nonce()
                return sent
        if receipt is not None and receipt.ok:
            return sent
        self.journal.forget(code)
        return []

    async def _found(self, sent: Sequence[Sent]) -> Receipt | None:
        for one in sent:
            if (receipt := await find_receipt(self.rpc, one.transaction)) is not None:
                return receipt
        return None
