"""The reporters of strict groups: who is registered for which feed, and whose silence stops the group's rounds.

A reporter registers for a feed with its first price for it. From then on no round of the group is submitted without its
price for that feed, until it comes back, leaves (SIGTERM), or is taken off by an operator. Whom an operator took off
stays off, whichever of its instances reports, until it is put back by hand or is started again after a silence. The
contract takes a round whole: it refuses one that leaves out a feed with enough contributors. So one feed's error is its
group's.

Who may register is the contract's to say: only reports of its signers, with their evidence, come here. The register is
kept in the store, and read again before each judgement: several aggregators over one store have one register.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence, Set
from contextlib import suppress

from msgspec import Struct
from msgspec.structs import replace

from aggregator.errors import FeedInErrorError, UnknownReporterError
from aggregator.metrics import Metrics
from aggregator.validation import Expected, Received, Validation
from core import codec
from core.clock import Clock, rfc3339
from core.documents import Documents
from core.errors import StoreUnavailableError
from core.logs import Logger
from core.reporting import FeedRule, Leg, Policy, Standing, Trouble, TroubleCode, judge
from core.types import Group, Pair

KEEP_EVERY_MS = 30_000
"""How often a production is kept that changes nothing else: a restart dates silence by it."""

INSTANCES = 8
"""So many instances of a reporter are known again: the latest."""


class Enrolled(Struct, frozen=True, kw_only=True):
    """A signer of one group. last: for each feed that it registered for, our clock at its last price. off: feeds that
    an operator took it off. left_ms: it is registered for none since then. missed: an attempt had no report of it since
    it was taken off, or it has left. seen: instances that have reported, the latest last."""

    group: str
    signer: str
    fetcher: str
    instance: str
    last: dict[Pair, int]
    off: tuple[Pair, ...] = ()
    left_ms: int | None = None
    missed: bool = False
    seen: tuple[str, ...] = ()

    def required(self, pair: Pair) -> bool:
        return self.left_ms is None and pair in self.last and pair not in self.off


class _KeptStanding(Struct, frozen=True):
    """A feed's standing as whoever made the last attempt found it."""

    feed: Pair
    standing: Standing


class Enrolment:
    """groups: the strict ones. documents: opened and closed by who composes."""

    def __init__(
        self,
        groups: Sequence[Group],
        deployment: str,
        documents: Documents,
        clock: Clock,
        metrics: Metrics,
        logger: Logger,
    ) -> None:
        self.groups = {group.name: group for group in groups}
        self._scope = deployment
        self._documents = documents
        self._clock = clock
        self._metrics = metrics
        self._log = logger
        self._kept: dict[tuple[str, str], Enrolled] = {}
        self._kept_ms: dict[tuple[str, str], int] = {}
        self._standings: dict[Pair, Standing] = {}
        self._changing = asyncio.Lock()

    async def open(self) -> None:
        """Raises `StoreUnavailableError`."""
        await self._documents.open()
        await self._read()

    async def close(self) -> None:
        await self._documents.close()

    async def refresh(self) -> None:
        """Take up what other aggregators have found since; what is known here stands where the store is down."""
        with suppress(StoreUnavailableError):
            await self._read()

    def reporters(self) -> list[Enrolled]:
        return [self._kept[key] for key in sorted(self._kept)]

    def standing(self, pair: Pair) -> Standing | None:
        """As the last attempt found it; None before the first."""
        return self._standings.get(pair)

    async def judge(self, validation: Validation, expected: Expected) -> str:
        """Register who reported, and say whose silence keeps the round from being submitted; empty: nobody's.

        A feed with too few contributors and nobody missing is left alone by the contract, and stops no round.
        Raises `StoreUnavailableError`: without the register nobody knows who is missing.
        """
        async with self._changing:
            await self._read()
            now, group = self._clock.now_ms(), expected.group
            await self._miss({each.received.signer for each in validation.judged}, group)
            for one in validation.included:
                await self._produced(one, expected, now)
            said = []
            for index, feed in enumerate(group.feeds):
                needed = expected.known.feeds[index].min_contributors
                standing = self._judged(feed.pair, validation, expected, index, needed, now)
                await self._note(feed.pair, standing)
                if any(trouble.code is not TroubleCode.NO_QUORUM for trouble in standing.troubles):
                    said.append(f"{feed.pair}: {described(standing)}")
        return "; ".join(said)

    async def leave(self, signer: str, instance: str) -> None:
        """A reporter's instance has said that it stops. Another instance's next report registers it again."""
        async with self._changing:
            await self._read()
            for one in self.reporters():
                if (one.signer, one.instance) == (signer, instance) and one.left_ms is None:
                    await self._keep(replace(one, left_ms=self._clock.now_ms(), missed=bool(one.off)))
                    self._log.info("reporter_left", group=one.group, reporter=one.fetcher)

    async def deregister(self, name: str, pair: Pair | None) -> list[Enrolled]:
        """By hand, for one feed or for all. Raises `UnknownReporterError` or `StoreUnavailableError`."""
        async with self._changing:
            changed = []
            for one in await self._named(name, pair):
                off = tuple(sorted({*one.off, *(one.last if pair is None else (pair,))}))
                left_ms = self._clock.now_ms() if pair is None and one.left_ms is None else one.left_ms
                changed.append(await self._keep(replace(one, off=off, left_ms=left_ms, missed=False)))
            await self._forget(changed, name, pair)
            return changed

    async def register(self, name: str, pair: Pair | None) -> list[Enrolled]:
        """By hand: what was taken off counts again, and its next price is awaited from now on."""
        async with self._changing:
            changed = []
            for one in await self._named(name, pair):
                off = () if pair is None else tuple(each for each in one.off if each != pair)
                changed.append(await self._keep(replace(one, off=off, left_ms=None, missed=False)))
            return changed

    async def check(self) -> str:
        """For `/health`. Raises `FeedInErrorError`."""
        await self.refresh()
        for pair, standing in self._standings.items():
            if not standing.ok:
                raise FeedInErrorError(f"{pair}: {described(standing)}")
        return f"{len(self._kept)} reporters registered"

    async def _named(self, name: str, pair: Pair | None) -> list[Enrolled]:
        await self._read()
        found = [
            one
            for one in self.reporters()
            if name.lower() in (one.fetcher.lower(), one.signer) and (pair is None or pair in one.last)
        ]
        if not found:
            known = ", ".join(sorted({one.fetcher for one in self._kept.values()})) or "nobody"
            raise UnknownReporterError(f"{name} is not registered for {pair or 'any strict feed'}; registered: {known}")
        return found

    async def _produced(self, received: Received, expected: Expected, now: int) -> None:
        """Note a member's prices; register it where it is new, or a new instance of one that had stopped."""
        group, signer = expected.group, received.signer or ""
        report = received.report
        priced = {feed.pair: now for index, feed in enumerate(group.feeds) if expected.observed(received, index)}
        known = self._kept.get((group.name, signer))
        if known is None:
            fresh = Enrolled(
                group=group.name,
                signer=signer,
                fetcher=report.fetcher,
                instance=report.instance,
                last=priced,
                seen=(report.instance,),
            )
            await self._keep(fresh)
            self._log.info("reporter_registered", group=group.name, reporter=report.fetcher, feeds=len(priced))
            return
        changed = replace(known, last={**known.last, **priced}, fetcher=report.fetcher)
        if report.instance != known.instance:  # it was started again, or has several: that one stopped is over
            changed = replace(changed, instance=report.instance, left_ms=None)
            seen = known.seen or (known.instance,)
            if known.missed and report.instance not in seen:  # it was silent, and is back: so is what it prices
                changed = replace(changed, off=tuple(each for each in known.off if each not in priced), missed=False)
            others = (each for each in seen if each != report.instance)
            changed = replace(changed, seen=(*others, report.instance)[-INSTANCES:])
        telling = replace(changed, last=known.last) != known or set(changed.last) != set(known.last)
        if telling or now - self._kept_ms.get((group.name, signer), 0) >= KEEP_EVERY_MS:
            await self._keep(changed)
        else:
            self._kept[group.name, signer] = changed

    async def _miss(self, reported: Set[str | None], group: Group) -> None:
        """Note of whom was taken off that he is silent: whoever comes after that has come back."""
        for one in self.reporters():
            if one.group == group.name and one.off and not one.missed and one.signer not in reported:
                await self._keep(replace(one, missed=True))

    def _judged(
        self, pair: Pair, validation: Validation, expected: Expected, index: int, needed: int, now: int
    ) -> Standing:
        priced = {one.signer: one for one in validation.included if expected.observed(one, index)}
        legs = [Leg(one.report.fetcher, True) for one in priced.values()]
        for enrolled in self.reporters():
            # a key that the contract has no more may not report, and so nobody waits for it
            counts = enrolled.group == expected.group.name and enrolled.signer in expected.known.signers
            if counts and enrolled.required(pair) and enrolled.signer not in priced:
                legs.append(Leg(enrolled.fetcher, False, _missing(enrolled, pair, validation)))
        return judge(pair, FeedRule(policy=Policy.STRICT, needed=needed), legs, now)

    async def _note(self, pair: Pair, standing: Standing) -> None:
        before = self._standings.get(pair)
        self._standings[pair] = standing
        self._metrics.feed_in_error.labels(pair).set(not standing.ok)
        if before is not None and before.troubles == standing.troubles:
            return
        kept = codec.encode(_KeptStanding(pair, standing)).decode()
        await self._documents.put(f"{self._scope}/standings", pair, kept)
        if not standing.ok:
            self._log.error("feed_error", feed=pair, detail=described(standing))
        elif before is not None and not before.ok:
            self._log.info("feed_recovered", feed=pair)

    async def _forget(self, changed: Sequence[Enrolled], name: str, only: Pair | None) -> None:
        """Clear errors, of one feed or of all, of which nothing is left: the next attempt says what stands."""
        gone = {one.fetcher for one in changed}
        for pair, standing in list(self._standings.items()):
            left = tuple(one for one in standing.troubles if one.code is TroubleCode.NO_QUORUM or one.who not in gone)
            if only not in (None, pair) or standing.ok or any(one.code is not TroubleCode.NO_QUORUM for one in left):
                continue
            self._log.info("reporter_deregistered", feed=pair, reporter=name)
            await self._note(pair, Standing(ok=True, error=False, counted=standing.counted, awaited=(), troubles=()))

    async def _read(self) -> None:
        """Take up what other aggregators, and operators at them, have changed."""
        for body in (await self._documents.all(self._scope)).values():
            there = codec.decode(body, Enrolled)
            if there.group not in self.groups:
                continue
            here = self._kept.get((there.group, there.signer))
            last = _latest(here.last if here is not None else {}, there.last)
            self._kept[there.group, there.signer] = replace(there, last=last)
        pairs = {feed.pair for group in self.groups.values() for feed in group.feeds}
        for body in (await self._documents.all(f"{self._scope}/standings")).values():
            kept = codec.decode(body, _KeptStanding)
            if kept.feed in pairs:
                self._standings[kept.feed] = kept.standing

    async def _keep(self, one: Enrolled) -> Enrolled:
        key = (one.group, one.signer)
        await self._documents.put(self._scope, f"{one.group}/{one.signer}", codec.encode(one).decode())
        self._kept[key] = one
        self._kept_ms[key] = self._clock.now_ms()
        return one


def described(standing: Standing) -> str:
    """A feed's troubles for people: who, why, since when."""
    return ", ".join(
        f"{one.who} {one.code} since {rfc3339(one.since_ms)}" + (f" ({one.detail})" if one.detail else "")
        for one in standing.troubles
    )


def _missing(enrolled: Enrolled, pair: Pair, validation: Validation) -> Trouble:
    """Why a registered reporter's price is not there."""
    since = enrolled.last[pair]
    for judged in validation.judged:
        if judged.received.signer == enrolled.signer:
            code = (
                f"its report was rejected: {judged.code}" if judged.code is not None else "it reports, without a price"
            )
            return Trouble(who=enrolled.fetcher, code=TroubleCode.NO_PRICE, since_ms=since, detail=code)
    return Trouble(who=enrolled.fetcher, code=TroubleCode.STOPPED, since_ms=since)


def _latest(one: Mapping[Pair, int], other: Mapping[Pair, int]) -> dict[Pair, int]:
    return {pair: max(one.get(pair, 0), other.get(pair, 0)) for pair in {**one, **other}}
