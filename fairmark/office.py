"""How a command changes the chain: it says what it will do, asks, sends with the governor's key, prints transactions.

Where the contract is governed by a multisig or a wallet, the same commands print what that one has to send.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import typer

from contracts import governor as chain
from contracts.beside import Beside, create
from contracts.client import OracleClient
from contracts.errors import NonceUsedError
from contracts.governance import Call, Rotation, conclude_rotation
from contracts.governor import Governor
from contracts.keys import DEVELOPMENT_CHAINS
from contracts.readings import GroupState
from core.errors import StartError
from core.settings import Settings
from fairmark import access


def agree(lines: Sequence[str], chain_id: int, yes: bool) -> None:
    """Say what is to be done, and ask, unless `yes` or on a development chain. Raises `typer.Exit` at a no."""
    for line in lines:
        typer.echo(f"- {line}")
    if yes or chain_id in DEVELOPMENT_CHAINS:
        return
    if not sys.stdin.isatty():
        raise StartError("nobody to ask: give --yes to do this")
    if not typer.confirm(f"Do this on chain {chain_id}?"):
        raise typer.Exit(1)


def say(what: str, transaction: str) -> None:
    """Print a transaction that was sent."""
    typer.echo(f"{what}: {transaction}")


@dataclass(frozen=True)
class Manner:
    """yes: do not ask. calldata: print what is to be sent, for somebody else's wallet, and send nothing."""

    yes: bool = False
    calldata: bool = False


class Office:
    """One command's dealings with the contract."""

    def __init__(self, settings: Settings, client: OracleClient, manner: Manner) -> None:
        self.settings = settings
        self.client = client
        self._manner = manner
        self._sender = None if manner.calldata else client.sender(access.deployer_key(settings))
        self._governor = None if self._sender is None else Governor(client, self._sender, announce=say)

    @property
    def address(self) -> str | None:
        """Whose key it is; None where somebody else's wallet sends."""
        return None if self._governor is None else self._governor.address

    async def state(self, group: str) -> GroupState:
        """Raises `StartError` where the contract does not know the group."""
        found = await chain.group_state(self.client, group)
        if found is None:
            raise StartError(f"group {group} is not on chain: run `fairmark deploy`")
        return found

    async def check(self, call: Call) -> None:
        """Whether the contract would take the call: from this key, or, where another sends it, from the owner.

        Raises `ChangeRefusedError`.
        """
        if self._governor is not None:
            await self._governor.check(call)
        else:
            await self.client.run(call.data, await self.client.owner(), call.to)

    async def carry_out(self, calls: Sequence[Call], lines: Sequence[str] = ()) -> bool:
        """Say, ask, and do; whether it is done now. lines: what there is to say beside the calls.

        Raises `ChangeRefusedError` or `TransactionFailedError`, or `typer.Exit` at a no.
        """
        record = self.client.record
        if self._governor is None:
            for line in lines:
                typer.echo(f"- {line}")
            for call in calls:
                to = call.to or record.address
                typer.echo(f"{call.what}, by {call.needs}\n  to   {to}\n  data 0x{call.data.hex()}")
            return False
        await self._governor.check(calls[0])  # before anybody is asked
        agree([*lines, *(f"{call.what} (for {call.needs})" for call in calls)], record.chain_id, self._manner.yes)
        for call in calls:
            receipt = await self._governor.do(call)
            typer.echo(f"done in block {receipt.block_number}")
        return True

    async def create(self, what: Beside) -> None:
        """Say, ask, and deploy it with this key; its address is printed and recorded.

        Raises `TransactionFailedError`, or `typer.Exit` at a no.
        """
        assert self._sender is not None  # noqa: S101 - creations have no calldata for others to send
        agree([f"deploy {what.name}"], self.client.record.chain_id, self._manner.yes)
        folder = self.settings.chain.deployments_dir
        record, address = await create(self.client, self._sender, what, deployments_dir=folder, announce=say)
        typer.echo(f"{address} is {what.name}; recorded in {folder / f'{record.chain_id}.json'}")

    async def cancel(self) -> None:
        """Put nothing in the place of the first of the key's transactions that no block takes. Raises as `Governor`."""
        assert self._governor is not None  # noqa: S101 - a wallet cancels what it sent itself
        waiting = await self._governor.waiting()
        if not waiting:
            typer.echo(f"nothing to do: blocks have every transaction of {self.address}")
            return
        behind = f"; {len(waiting) - 1} wait behind it" if len(waiting) > 1 else ""
        line = f"put nothing in the place of {self.address}'s transaction with nonce {waiting.start}{behind}"
        agree([line], self.client.record.chain_id, self._manner.yes)
        try:
            receipt = await self._governor.cancel(waiting.start)
        except NonceUsedError:
            typer.echo("too late: it was mined meanwhile")
        else:
            typer.echo(f"done in block {receipt.block_number}")

    async def follow(self, rotation: Rotation) -> None:
        """Say how far a rotation is, and conclude it when it is due."""
        now = int(time.time())
        now = max(now, (await self.state(rotation.group)).block_timestamp)
        for line in progress(rotation, now):
            typer.echo(line)
        if now >= rotation.overlap_until:
            await self.carry_out([conclude_rotation(self.client.abi, rotation.group)])


def progress(rotation: Rotation, now: int) -> list[str]:
    """How far a rotation is, in words. now: s."""
    signers = ", ".join(rotation.signers)
    group, end = f"group {rotation.group}", rotation.overlap_until
    lines = [f"{group}: a rotation to version {rotation.version} is under way; the new signers: {signers}"]
    if now < rotation.counts_from:
        return [
            *lines,
            f"{group}: the new set counts from {clock(rotation.counts_from)} on, in {span(rotation.counts_from - now)}",
            f"{group}: the old one until the new one's first round after {clock(end)}",
        ]
    lines.append(f"{group}: the new set counts since {clock(rotation.counts_from)}: its reporters sign by now")
    if now < end:
        lines.append(f"{group}: the old set counts beside it until {clock(end)}, for another {span(end - now)}")
    else:
        lines.append(f"{group}: the overlap is over since {clock(end)}: the new set's next round ends it, or this does")
    return lines


def clock(seconds: int) -> str:
    """A time on chain, RFC 3339."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def span(seconds: int) -> str:
    """How long, in words."""
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def govern(settings: Settings, manner: Manner, work: Callable[[Office], Awaitable[None]]) -> None:
    """Run `work` over the contract that the settings name. Raises as `access.chain_client` and `Office` do."""

    async def run() -> None:
        async with access.chain_client(settings, settings.named_mode()) as client:
            await work(Office(settings, client, manner))

    asyncio.run(run())
