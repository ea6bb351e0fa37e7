"""Commands on what stands beside the oracle: adapters of other shapes, and the directory of where feeds are read."""

from __future__ import annotations

import typer
from eth_utils.address import is_address, to_checksum_address

from contracts import beside
from contracts.beside import DIRECTORY, Beside
from contracts.report import bytes32
from core.errors import StartError
from core.settings import Settings
from core.types import Pair
from fairmark.office import Manner, Office, clock, govern


def listed(settings: Settings) -> None:
    """Every contract of the deployment's record."""

    async def work(office: Office) -> None:
        record = office.client.record
        for pair, address in record.adapters.items():
            typer.echo(f"{address} AggregatorV3 {pair}")
        for name, address in record.beside.items():
            typer.echo(f"{address} {name}")

    govern(settings, Manner(calldata=True), work)


def gated(settings: Settings, pair: str, sequencer: str, grace_s: int, manner: Manner) -> None:
    """Deploy an AggregatorV3 adapter that asks a rollup's uptime feed first."""
    uptime = _address(sequencer)

    async def work(office: Office) -> None:
        await _known(office, pair)
        if not await beside.answers_as_uptime_feed(office.client, uptime):
            raise StartError(f"{uptime} does not answer as a sequencer's uptime feed does: 0 (up) or 1 (down)")
        await _put(office, beside.gated_adapter(office.client.record.address, Pair(pair), uptime, grace_s))

    govern(settings, manner, work)


def quoting(
    settings: Settings, pair: str, base: tuple[str, int], quote: tuple[str, int], max_age_s: int, manner: Manner
) -> None:
    """Deploy an ERC-7726 adapter. base, quote: address and decimals."""
    assets = [(_address(address), decimals) for address, decimals in (base, quote)]

    async def work(office: Office) -> None:
        await _known(office, pair)
        oracle = office.client.record.address
        await _put(office, beside.quote_adapter(oracle, Pair(pair), assets[0], assets[1], max_age_s))

    govern(settings, manner, work)


def directory_deployed(settings: Settings, owner: str | None, manner: Manner) -> None:
    """Deploy the directory; `moved` enters feeds. owner: default: the deployer."""

    async def work(office: Office) -> None:
        await _put(office, beside.directory(_address(owner) if owner else str(office.address)))

    govern(settings, manner, work)


def directory_listed(settings: Settings) -> None:
    """Where the directory says that each configured feed is read."""

    async def work(office: Office) -> None:
        at = _directory(office)
        typer.echo(f"directory {at}")
        for pair in dict.fromkeys(feed.pair for group in settings.all_groups() for feed in group.feeds):
            found = await beside.place(office.client, at, pair)
            ours = " (this deployment)" if found.oracle == office.client.record.address else ""
            line = f"{pair}: {found.oracle}{ours}" if found.oracle else f"{pair}: not there"
            typer.echo(line + (f"; moves to {found.next} at {clock(found.from_s)}" if found.next else ""))

    govern(settings, Manner(calldata=True), work)


def moved(settings: Settings, pair: str, oracle: str | None, manner: Manner) -> None:
    """Announce in the directory where a feed is read. oracle: default: this deployment's."""

    async def work(office: Office) -> None:
        at, to = _directory(office), _address(oracle) if oracle else office.client.record.address
        found = await beside.place(office.client, at, Pair(pair))
        if to in {found.oracle, found.next} and found.next in {None, to}:
            typer.echo(f"{pair}: nothing to do, the directory says so" + (" already" if found.next else ""))
            return
        when = "at once, it is new there" if found.oracle is None else "two days after this is mined"
        await office.carry_out([beside.move(at, Pair(pair), to)], [f"{pair}: read at {to} {when}"])

    govern(settings, manner, work)


async def _put(office: Office, what: Beside) -> None:
    standing = await beside.stands(office.client, what)
    if standing is not None:
        typer.echo(f"nothing to do: {standing} is {what.name}")
        return
    await office.create(what)


async def _known(office: Office, pair: str) -> None:
    """Raises `CallRevertedError` (`UnknownFeed`): a creation that reverts would cost its gas."""
    await office.client.read("feedInfo", bytes32(Pair(pair)))


def _directory(office: Office) -> str:
    found = office.client.record.beside.get(DIRECTORY)
    if found is None:
        raise StartError("no directory stands here: `fairmark directory deploy` makes one")
    return found


def _address(text: str) -> str:
    if not is_address(text):
        raise StartError(f"{text} is not an address")
    return to_checksum_address(text)
