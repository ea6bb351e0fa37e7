"""Who is registered, and what each said last. Kept before it is acknowledged, so that a restart forgets nobody."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from core import codec
from core.clock import Clock
from core.errors import CyclicFeedsError, InvalidSignalError, StoreUnavailableError
from core.reporting import Condition, FeedRule, Schedule, Seen, condition
from core.signals import SignalRange
from signals.errors import (
    AlreadyProducedError,
    DeregisteredError,
    MismatchedError,
    ReplayedError,
    UnknownFeedError,
    UnknownReporterError,
    WrongKeyError,
)
from signals.messages import Leave, Message, Production, Registration

if TYPE_CHECKING:
    from core.documents import Documents  # it imports SQLAlchemy, and reporters need none

MAX_REPORTERS = 64
"""Of one feed, those that left included."""
MAX_SKEW_MS = 30_000
"""A message is not older than this by our clock, nor further ahead."""
INSTANCES = 8
"""So many instances of a reporter are known again, beside the last."""


MAX_AHEAD_MS = 1_000
"""Clocks differ by less than this; of a short period, by less than a quarter of it."""


class SignalFeed(Struct, frozen=True, kw_only=True):
    """A signal made of reporters' productions, and its rules. max_age_ms: limit of its data's own age. addresses: who
    may register, by name; None: whoever may register at all, each name for its first key."""

    name: str
    range: SignalRange
    schedule: Schedule
    max_age_ms: int
    rule: FeedRule
    addresses: Mapping[str, str] | None = None


class Registered(Struct, frozen=True, kw_only=True):
    """A reporter of one feed. address: lower-case. said_ms: the time of its last message, by its own clock. value: of
    its last production. instance: the last that registered; earlier: those before it, the latest last. barred: those
    that had when it was taken off: none of them registers it again by itself."""

    feed: str
    name: str
    address: str
    instance: str
    depends: tuple[str, ...]
    said_ms: int
    seen: Seen
    value: Decimal | None = None
    earlier: tuple[str, ...] = ()
    barred: tuple[str, ...] = ()


class Registry:
    """The reporters of some feeds. name: of the trader, to which messages are addressed."""

    def __init__(self, name: str, feeds: Mapping[str, SignalFeed], documents: Documents, clock: Clock) -> None:
        self.name = name
        self.feeds = dict(feeds)
        self._documents = documents
        self._clock = clock
        self._reporters: dict[tuple[str, str], Registered] = {}
        self._changing = asyncio.Lock()
        self.loaded = False
        """Before it is, nothing is answered: nobody knows yet who is missing."""

    async def load(self) -> None:
        """Read who was registered before. Raises `StoreUnavailableError`."""
        for body in (await self._documents.all(self.name)).values():
            one = codec.decode(body, Registered)
            if one.feed in self.feeds:
                self._reporters[one.feed, one.name] = one
        self.loaded = True

    def forget(self) -> None:
        """Another process may change the register from now on: nothing is answered until `load`."""
        self._reporters.clear()
        self.loaded = False

    def of(self, feed: str) -> Iterator[Registered]:
        """The feed's reporters, those that left included, by name. Raises `StoreUnavailableError` before `load`."""
        if not self.loaded:
            raise StoreUnavailableError("the register of reporters was not read yet: /ready tells why")
        for key in sorted(self._reporters):
            if key[0] == feed:
                yield self._reporters[key]

    def get(self, feed: str, name: str) -> Registered:
        """Raises `UnknownFeedError` or `UnknownReporterError`."""
        self._feed(feed)
        if (found := self._reporters.get((feed, name))) is None:
            known = ", ".join(one.name for one in self.of(feed)) or "nobody"
            raise UnknownReporterError(f"{name} is not registered for {feed}; registered: {known}")
        return found

    def condition(self, one: Registered, now_ms: int) -> Condition:
        feed = self.feeds[one.feed]
        return condition(one.name, one.seen, feed.schedule, feed.max_age_ms, now_ms)

    async def take(self, message: Message, signer: str) -> Registered:
        """Apply a reporter's message. Raises `MessageRefusedError`s, `CyclicFeedsError` and `StoreUnavailableError`."""
        async with self._changing:
            now = self._clock.now_ms()
            if message.to != self.name:
                raise MismatchedError(f"the message is for {message.to}, this is {self.name}")
            feed = self._feed(message.feed)
            if abs(now - message.at_ms) > MAX_SKEW_MS:
                raise MismatchedError(f"the message is of {message.at_ms}, it is {now}: check both clocks")
            match message:
                case Registration():
                    changed = self._registered(feed, message, signer, now)
                case Production():
                    changed = self._produced(feed, message, signer, now)
                case Leave():
                    changed = replace(self._own(message, signer), said_ms=message.at_ms)
                    if message.instance == changed.instance:  # else another one has taken its place before it ended
                        changed = replace(changed, seen=_left(changed.seen, now), barred=(message.instance,))
            return await self._keep(changed)

    async def deregister(self, feed: str, name: str) -> Registered:
        """By hand: the reporter counts no more, whatever it sends, until it is started or registered again."""
        async with self._changing:
            one = self.get(feed, name)
            barred = (*one.earlier, one.instance)
            return await self._keep(replace(one, seen=_left(one.seen, self._clock.now_ms()), barred=barred))

    async def register(self, feed: str, name: str) -> Registered:
        """By hand: one that was taken off counts again."""
        async with self._changing:
            one = self.get(feed, name)
            if one.seen.deregistered_ms is None:
                return one
            return await self._keep(replace(one, seen=Seen(registered_ms=self._clock.now_ms()), value=None))

    def _registered(self, feed: SignalFeed, message: Registration, signer: str, now: int) -> Registered:
        if feed.addresses is not None and feed.addresses.get(message.name, "").lower() != signer:
            raise WrongKeyError(f"{signer} is not configured as {message.name}: see signals.{feed.name}.addresses")
        if message.period_ms != feed.schedule.period_ms:
            raise MismatchedError(f"{feed.name} has a period of {feed.schedule.period_ms} ms, not {message.period_ms}")
        if f"{self.name}/{feed.name}" in message.depends:
            raise CyclicFeedsError(f"{message.name} is itself made of {self.name}/{feed.name}: it cannot report for it")
        known = self._reporters.get((feed.name, message.name))
        if known is None:
            if sum(1 for _ in self.of(feed.name)) >= MAX_REPORTERS:
                raise MismatchedError(f"{feed.name} has {MAX_REPORTERS} reporters already")
            seen = Seen(registered_ms=now)
        else:
            self._own(message, signer)
            if known.seen.deregistered_ms is not None and message.instance in known.barred:
                raise DeregisteredError(f"{message.name} was taken off {feed.name}: an operator can register it again")
            # one that comes back without having left is in trouble until it produces: else a crash loop would hide it
            seen = known.seen if known.seen.deregistered_ms is None else Seen(registered_ms=now)
        return Registered(
            feed=feed.name,
            name=message.name,
            address=signer,
            instance=message.instance,
            depends=message.depends,
            said_ms=message.at_ms,
            seen=seen,
            value=None if known is None or seen is not known.seen else known.value,
            earlier=() if known is None else _earlier(known, message.instance),
        )

    def _produced(self, feed: SignalFeed, message: Production, signer: str, now: int) -> Registered:
        one = self._own(message, signer)
        if one.seen.deregistered_ms is not None:
            raise DeregisteredError(f"{message.name} was taken off {feed.name}: an operator can register it again")
        _check_times(feed, message, now)
        if one.seen.slot_ms is not None and message.slot_ms <= one.seen.slot_ms:
            raise AlreadyProducedError(f"{message.name} has produced for slot {one.seen.slot_ms} already")
        try:
            value = None if message.value is None else feed.range.checked(message.value)
        except InvalidSignalError as error:
            raise MismatchedError(f"{feed.name}: {error}") from None
        seen = replace(
            one.seen, slot_ms=message.slot_ms, received_ms=now, data_ms=message.data_ms, trouble=message.trouble
        )
        return replace(one, seen=seen, value=value, said_ms=message.at_ms)

    def _own(self, message: Message, signer: str) -> Registered:
        """The reporter that a message is of. Raises `MessageRefusedError`s unless it signed it, after its last one."""
        one = self.get(message.feed, message.name)
        if one.address != signer:
            raise WrongKeyError(f"{message.name} is registered with the key of {one.address}, not of {signer}")
        if message.at_ms <= one.said_ms:
            raise ReplayedError(f"{message.name} has sent a message of {one.said_ms} already")
        return one

    def _feed(self, name: str) -> SignalFeed:
        if (feed := self.feeds.get(name)) is None:
            raise UnknownFeedError(f"there is no feed {name}; known: {', '.join(sorted(self.feeds))}")
        return feed

    async def _keep(self, one: Registered) -> Registered:
        await self._documents.put(self.name, f"{one.feed}/{one.name}", codec.encode(one).decode())
        self._reporters[one.feed, one.name] = one
        return one


def _check_times(feed: SignalFeed, message: Production, now: int) -> None:
    """Raises `MismatchedError` unless the production is for this slot or the last, of data that is there already."""
    period, ahead = feed.schedule.period_ms, min(MAX_AHEAD_MS, feed.schedule.period_ms // 4)
    slot = message.slot_ms
    if slot % period or not feed.schedule.slot(now) - period <= slot <= now + ahead:
        raise MismatchedError(f"{slot} is not the slot: that is {feed.schedule.slot(now)}; check both clocks")
    if message.data_ms is not None and message.data_ms > now + MAX_AHEAD_MS:
        raise MismatchedError(f"the data is of {message.data_ms}, it is {now}: check both clocks")


def _earlier(known: Registered, instance: str) -> tuple[str, ...]:
    return tuple(one for one in (*known.earlier, known.instance) if one != instance)[-INSTANCES:]


def _left(seen: Seen, now_ms: int) -> Seen:
    return seen if seen.deregistered_ms is not None else replace(seen, deregistered_ms=now_ms)
