"""Commands on feeds: their rules on chain, what the breaker holds back, what is halted."""

from __future__ import annotations

from decimal import Decimal

import typer

from contracts import governor as chain
from contracts.client import OracleClient
from contracts.governance import Candidate, describe_feed, halt_feed, resolve_candidate, resume_feed
from contracts.readings import FeedOnChain, GroupReading, GroupState
from contracts.report import bytes32
from core.errors import StartError
from core.median import from_scaled
from core.settings import Settings
from core.types import Group, Pair
from fairmark import governing, reporters
from fairmark.office import Manner, Office, govern
from fairmark.plan import Kind, changes, rules

_FEED_KINDS = {Kind.FEED_ADDED, Kind.FEED_CHANGED, Kind.FEED_REMOVED}


def listed(settings: Settings) -> None:
    """Every feed on chain with its rules, how it differs from the configuration, and what the breaker holds back."""

    async def work(office: Office) -> None:
        for group in settings.all_groups():
            state = await chain.group_state(office.client, group.name)
            reading = None if state is None else await office.client.read_group(group.name)
            different = {change.name: change for change in changes(state, group, {}) if change.kind in _FEED_KINDS}
            halted = frozenset[Pair]() if state is None else await chain.halted_feeds(office.client, state)
            there = {} if state is None else {feed.pair: feed for feed in state.feeds}
            for pair in dict.fromkeys([*there, *(feed.pair for feed in group.feeds)]):
                feed = there.get(pair)
                shown = rules(feed) if feed is not None else "not on chain"
                note = f" [{different[pair].kind} in the configuration]" if pair in different else ""
                typer.echo(f"{group.name} {pair}: {shown}{note}")
                if feed is not None and reading is not None:
                    for line in await remarks(office.client, reading, feed, feed.pair in halted):
                        typer.echo(f"  {line}")

    govern(settings, Manner(calldata=True), work)


async def remarks(client: OracleClient, reading: GroupReading, feed: FeedOnChain, halted: bool) -> list[str]:
    """What the breaker holds back of a feed, and whether it is halted by itself."""
    answer = reading.answers.get(feed.pair)
    lines = []
    if halted:
        lines.append(f"HALTED; `fairmark feeds resume {feed.pair}` ends it")
    waiting = await chain.candidate(client, feed.pair)
    if waiting is not None:
        standing = "no answer stands" if answer is None else f"{answer.price:f} stands"
        lines.append(f"candidate {_told(waiting, feed)} waits; {standing}")
    return lines


def _told(candidate: Candidate, feed: FeedOnChain) -> str:
    return (
        f"{from_scaled(candidate.value, feed.decimals):f} of round {candidate.round} "
        f"({candidate.contributors} contributors, spread {candidate.spread_bps} bps)"
    )


def add(settings: Settings, pair: str, manner: Manner) -> None:
    """Put a configured feed on chain, with its AggregatorV3 adapter."""
    group = _configured(settings, pair)
    added = False

    async def work(office: Office) -> None:
        nonlocal added
        added = bool(await reporters.change(office, group, lambda c: c.kind is Kind.FEED_ADDED and c.name == pair))

    govern(settings, manner, work)
    if added:
        governing.apply(settings, [group], {group.name: reporters.reporters_of(settings, group.name)})


def set_rules(settings: Settings, pair: str, manner: Manner) -> None:
    """Bring a feed's rules on chain to what is configured."""
    group = _configured(settings, pair)

    async def work(office: Office) -> None:
        await reporters.change(office, group, lambda c: c.kind is Kind.FEED_CHANGED and c.name == pair)

    govern(settings, manner, work)


def resolve(settings: Settings, pair: str, price: str | None, manner: Manner, *, confirm: bool) -> None:
    """Confirm the candidate that waits for a feed, or discard it. price: the one that is meant; default: any."""

    async def work(office: Office) -> None:
        _, feed = await _on_chain(office, pair)
        waiting = await chain.candidate(office.client, feed.pair)
        if waiting is None:
            typer.echo(f"{pair}: nothing to do, no candidate waits")
            return
        if price is not None and _decimal(price) != from_scaled(waiting.value, feed.decimals):
            raise StartError(f"{pair}: another candidate waits: {_told(waiting, feed)}")
        reading = await office.client.read_group((await _on_chain(office, pair))[0].group)
        answer = reading.answers.get(feed.pair)
        standing = "no answer stands" if answer is None else f"{answer.price:f} stands"
        becomes = "it becomes the answer" if confirm else "it is forgotten"
        call = resolve_candidate(office.client.abi, waiting, confirm=confirm)
        await office.carry_out([call], [f"{pair}: {standing}, candidate {_told(waiting, feed)}: {becomes}"])

    govern(settings, manner, work)


def describe(settings: Settings, pair: str, description: str, manner: Manner) -> None:
    """Say on chain what people call a feed; the adapters' `description()` returns it. Empty takes it back."""

    async def work(office: Office) -> None:
        _, feed = await _on_chain(office, pair)
        (now,) = await office.client.read("feedDescription", bytes32(feed.pair))
        if now == description:
            typer.echo(f"{pair}: nothing to do, it is described so")
            return
        effect = f"it is described as {description!r}" if description else "it has no description of its own"
        await office.carry_out([describe_feed(office.client.abi, feed.pair, description)], [f"{pair}: {effect}"])

    govern(settings, manner, work)


def halt(settings: Settings, pair: str, manner: Manner, *, halted: bool) -> None:
    """Halt one feed's answers, or end that."""

    async def work(office: Office) -> None:
        state, feed = await _on_chain(office, pair)
        if (feed.pair in await chain.halted_feeds(office.client, state)) == halted:
            typer.echo(f"{pair}: nothing to do, it is {'halted already' if halted else 'not halted'}")
            return
        abi = office.client.abi
        call = halt_feed(abi, feed.pair) if halted else resume_feed(abi, feed.pair)
        effect = "its readers revert; rounds go on writing it" if halted else "its readers are answered again"
        await office.carry_out([call], [f"{pair}: {effect}"])

    govern(settings, manner, work)


def _decimal(price: str) -> Decimal:
    try:
        return Decimal(price)
    except ArithmeticError:
        raise StartError(f"--price: {price} is not a decimal number") from None


async def _on_chain(office: Office, pair: str) -> tuple[GroupState, FeedOnChain]:
    for name in office.settings.groups:
        state = await chain.group_state(office.client, name)
        feed = None if state is None else next((one for one in state.feeds if one.pair == pair), None)
        if state is not None and feed is not None:
            return state, feed
    raise StartError(f"{pair} is in none of the configured groups on chain")


def _configured(settings: Settings, pair: str) -> Group:
    for group in settings.all_groups():
        if any(feed.pair == Pair(pair) for feed in group.feeds):
            return group
    raise StartError(f"{pair} is not configured: add it to [[feeds]] and to a group first")
