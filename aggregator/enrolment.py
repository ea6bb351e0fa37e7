"""The reporters of strict groups: who is registered for which feed, and whose silence stops the group's rounds.

A reporter registers for a feed with its first price for it. From then on no round of the group is submitted without its
price for that feed, until it comes back, leaves (SIGTERM), or is taken off by an operator. Whom an operator took off
stays off, whichever of its instances reports, until it is put back by hand or is started again. The contract takes a
round whole: it refuses one that leaves out a feed with enough contributors. So one feed's error is its group's.

Who may register is the contract's to say: only reports of its signers, with their evidence, come here. The register is
kept in the store, and read again before each judgement: several aggregators over one store have one register, and no
change of one is lost to another's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from msgspec import Struct
from msgspec.structs import replace

from aggregator.attempts import RefusalRecord
from aggregator.errors import FeedInErrorError, UnknownReporterError
from aggregator.metrics import Metrics
from aggregator.validation import Expected, Received, Validation
from broker.messages import Report
from core import codec
from core.clock import Clock, rfc3339
from core.documents import Documents
from core.errors import StoreUnavailableError
from core.logs import Logger
from core.reporting import FeedRule, Leg, Policy, Standing, Trouble, TroubleCode, judge
from core.types import Group, Pair

KEEP_EVERY_MS = 30_000
"""How often a production is kept that changes nothing else: a restart dates silence by it."""

MAX_DETAIL = 300
"""Characters of a trouble's own words: a refusal is not signed, and may say much."""
INSTANCES = 8
"""So many instances of a reporter are known again: the latest."""

CHANGES = 8
"""So often a change is tried again where others change the same entry."""


Key = tuple[str, str]
"""A reporter's group and signer."""


class Enrolled(Struct, frozen=True, kw_only=True):
    """A signer of one group. last: for each feed that it registered for, our clock at its last price. off: feeds that
    an operator took it off. left_ms: it is registered for none since then. seen: instances that have reported, the
    latest last. barred: those that had when it was taken off: what they report does not put it back."""

    group: str
    signer: str
    fetcher: str
    instance: str
    last: dict[Pair, int]
    off: tuple[Pair, ...] = ()
    left_ms: int | None = None
    seen: tuple[str, ...] = ()
    barred: tuple[str, ...] = ()

    @property
    def key(self) -> Key:
        return self.group, self.signer

    def required(self, pair: Pair) -> bool:
        return self.left_ms is None and pair in self.last and pair not in self.off

    def reported(self, report: Report, priced: Mapping[Pair, int]) -> Enrolled:
        """After a report with these prices, and when they came. An instance that it has not heard of when it was taken
        off is one that was started since: what that has prices for is put back."""
        changed = replace(self, last={**self.last, **priced}, fetcher=report.fetcher)
        if report.instance != self.instance:  # it was started again, or has several: that one stopped is over
            others = (each for each in self.seen if each != report.instance)
            seen = (*others, report.instance)[-INSTANCES:]
            changed = replace(changed, instance=report.instance, left_ms=None, seen=seen)
        if report.instance not in self.barred:
            changed = replace(changed, off=tuple(each for each in self.off if each not in priced))
        return changed

    def left(self, instance: str, now_ms: int) -> Enrolled:
        """After the word of one of its instances that it stops."""
        return self if instance != self.instance or self.left_ms is not None else replace(self, left_ms=now_ms)

    def taken_off(self, pair: Pair | None, now_ms: int) -> Enrolled:
        """After an operator's word, for one feed or for all."""
        off = tuple(sorted({*self.off, *(self.last if pair is None else (pair,))}))
        left_ms = now_ms if pair is None and self.left_ms is None else self.left_ms
        return replace(self, off=off, left_ms=left_ms, barred=self.seen)

    def put_back(self, pair: Pair | None) -> Enrolled:
        """After an operator's word, for one feed or for all."""
        return replace(self, off=() if pair is None else tuple(each for each in self.off if each != pair), left_ms=None)


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
        self._kept: dict[Key, Enrolled] = {}
        self._texts: dict[Key, str] = {}  # as the store had them
        self._kept_ms: dict[Key, int] = {}
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

    async def judge(self, validation: Validation, expected: Expected, refusals: Sequence[RefusalRecord] = ()) -> str:
        """Register who reported, and say whose silence keeps the round from being submitted; empty: nobody's.

        refusals: why some have no report. They are not signed, and so excuse nobody: they only say what is wrong.
        A feed with too few contributors and nobody missing is left alone by the contract, and stops no round.
        Raises `StoreUnavailableError`: without the register nobody knows who is missing.
        """
        async with self._changing:
            await self._read()
            now, group = self._clock.now_ms(), expected.group
            for one in validation.included:
                await self._produced(one, expected, now)
            own: dict[Pair, Standing] = {}
            for index, feed in enumerate(group.feeds):
                needed = expected.known.feeds[index].min_contributors
                own[feed.pair] = self._judged(feed.pair, validation, refusals, expected, index, needed, now)
            for pair, standing in _with_the_groups(own).items():
                await self._note(pair, standing)
        return "; ".join(f"{pair}: {described(standing)}" for pair, standing in own.items() if _missed(standing))

    async def leave(self, signer: str, instance: str) -> None:
        """A reporter's instance has said that it stops. Another instance's next report registers it again."""
        async with self._changing:
            await self._read()
            for one in self.reporters():
                if one.signer == signer and one.left(instance, 0) is not one:
                    await self._change(one, lambda one: one.left(instance, self._clock.now_ms()))
                    self._log.info("reporter_left", group=one.group, reporter=one.fetcher)

    async def deregister(self, name: str, pair: Pair | None) -> list[Enrolled]:
        """By hand, for one feed or for all. Raises `UnknownReporterError` or `StoreUnavailableError`."""
        async with self._changing:
            now = self._clock.now_ms()
            named = await self._named(name, pair)
            changed = [await self._change(one, lambda one: one.taken_off(pair, now)) for one in named]
            await self._forget(changed, name, pair)
            return changed

    async def register(self, name: str, pair: Pair | None) -> list[Enrolled]:
        """By hand: what was taken off counts again, and its next price is awaited from now on."""
        async with self._changing:
            named = await self._named(name, pair)
            return [await self._change(one, lambda one: one.put_back(pair)) for one in named]

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
        fresh = Enrolled(
            group=group.name,
            signer=signer,
            fetcher=report.fetcher,
            instance=report.instance,
            last=priced,
            seen=(report.instance,),
        )
        key, known = fresh.key, self._kept.get(fresh.key)
        if known is not None:
            changed = known.reported(report, priced)
            telling = replace(changed, last=known.last) != known or set(changed.last) != set(known.last)
            if not telling and now - self._kept_ms.get(key, 0) < KEEP_EVERY_MS:
                self._kept[key] = changed
                return
        await self._change(known or fresh, lambda one: one.reported(report, priced))
        if known is None:
            self._log.info("reporter_registered", group=group.name, reporter=report.fetcher, feeds=len(priced))

    def _judged(
        self,
        pair: Pair,
        validation: Validation,
        refusals: Sequence[RefusalRecord],
        expected: Expected,
        index: int,
        needed: int,
        now: int,
    ) -> Standing:
        priced = {one.signer: one for one in validation.included if expected.observed(one, index)}
        legs = [Leg(one.report.fetcher, True) for one in priced.values()]
        for enrolled in self.reporters():
            # a key that the contract has no more may not report, and so nobody waits for it
            counts = enrolled.group == expected.group.name and enrolled.signer in expected.known.signers
            if counts and enrolled.required(pair) and enrolled.signer not in priced:
                trouble = _missing(enrolled, self._last_price_ms(enrolled, pair), validation, refusals)
                legs.append(Leg(enrolled.fetcher, False, trouble))
        return judge(pair, FeedRule(policy=Policy.STRICT, needed=needed), legs, now)

    def _last_price_ms(self, enrolled: Enrolled, pair: Pair) -> int:
        """When the reporter's last price came. Another aggregator may have seen a later one than the register has, and
        has said so where it dated a trouble by that."""
        standing = self._standings.get(pair)
        troubles = () if standing is None else standing.troubles
        told = [one.since_ms for one in troubles if one.who == enrolled.fetcher and not one.via]
        return max([enrolled.last[pair], *told])

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
            missed = _missed(standing)
            if not missed or any(one.who not in gone or only not in (None, pair, *one.via) for one in missed):
                continue
            self._log.info("reporter_deregistered", feed=pair, reporter=name)
            await self._note(pair, Standing(ok=True, error=False, counted=standing.counted, awaited=(), troubles=()))

    async def _read(self) -> None:
        """Take up what other aggregators, and operators at them, have changed."""
        for body in (await self._documents.all(self._scope)).values():
            there = codec.decode(body, Enrolled)
            if there.group not in self.groups:
                continue
            here = self._kept.get(there.key)
            last = _latest(here.last if here is not None else {}, there.last)
            self._kept[there.key], self._texts[there.key] = replace(there, last=last), body
        pairs = {feed.pair for group in self.groups.values() for feed in group.feeds}
        for body in (await self._documents.all(f"{self._scope}/standings")).values():
            kept = codec.decode(body, _KeptStanding)
            if kept.feed in pairs:
                self._standings[kept.feed] = kept.standing

    async def _change(self, entry: Enrolled, change: Callable[[Enrolled], Enrolled]) -> Enrolled:
        """Keep what `change` makes of an entry: made anew of what the store has then where another aggregator was
        quicker, so that neither's change is lost. Raises `StoreUnavailableError`."""
        key = entry.key
        for _ in range(CHANGES):
            changed = change(self._kept.get(key, entry))
            text = codec.encode(changed).decode()
            if await self._documents.replace(self._scope, "/".join(key), text, self._texts.get(key)):
                self._kept[key], self._texts[key], self._kept_ms[key] = changed, text, self._clock.now_ms()
                return changed
            await self._read()
        raise StoreUnavailableError(f"the register's entry of {key[1]} is changed by others too often")


def described(standing: Standing) -> str:
    """A feed's troubles for people: who, why, since when."""
    return ", ".join(
        f"{one.who} {one.code} since {rfc3339(one.since_ms)}"
        + (f" by {', '.join(one.via)}" if one.via else "")
        + (f" ({one.detail})" if one.detail else "")
        for one in standing.troubles
    )


def _missed(standing: Standing) -> list[Trouble]:
    """Who is missing. Too few contributors are no reason of their own: the contract leaves such a feed alone."""
    return [one for one in standing.troubles if one.code is not TroubleCode.NO_QUORUM]


def _with_the_groups(own: Mapping[Pair, Standing]) -> dict[Pair, Standing]:
    """The standings of a group's feeds: one of whom nobody is missing depends on those that stop the group's rounds."""
    stopping = {pair: missed for pair, standing in own.items() if (missed := _missed(standing))}
    others = tuple(one.through(pair) for pair, missed in stopping.items() for one in missed)
    return {
        pair: standing
        if pair in stopping or not others
        else replace(standing, ok=False, error=True, troubles=(*standing.troubles, *others))
        for pair, standing in own.items()
    }


def _missing(enrolled: Enrolled, since: int, validation: Validation, refusals: Sequence[RefusalRecord]) -> Trouble:
    """Why a registered reporter's price is not there. since: its last one."""
    for judged in validation.judged:
        if judged.received.signer == enrolled.signer:
            code = (
                f"its report was rejected: {judged.code}" if judged.code is not None else "it reports, without a price"
            )
            return Trouble(who=enrolled.fetcher, code=TroubleCode.NO_PRICE, since_ms=since, detail=code)
    for one in refusals:
        if one.reporter.lower() == enrolled.signer:
            failed = (
                f"; {one.failures[0].source} {one.failures[0].code}: {one.failures[0].detail}" if one.failures else ""
            )
            said = f"it refuses, {one.code}: {one.detail}{failed}"
            return Trouble(who=enrolled.fetcher, code=TroubleCode.NO_PRICE, since_ms=since, detail=said[:MAX_DETAIL])
    return Trouble(who=enrolled.fetcher, code=TroubleCode.STOPPED, since_ms=since)


def _latest(one: Mapping[Pair, int], other: Mapping[Pair, int]) -> dict[Pair, int]:
    return {pair: max(one.get(pair, 0), other.get(pair, 0)) for pair in {**one, **other}}
