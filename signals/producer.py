"""A reporter's life: it registers, produces once in each period, and tries again for ever, whatever is down.

It leaves when it is stopped. When it crashes it says nothing, and that is how the others learn of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from decimal import Decimal

from msgspec import Struct

from core.clock import Clock
from core.logs import Logger
from core.reporting import Schedule, Trouble
from signals.client import TraderClient
from signals.errors import (
    AlreadyProducedError,
    DeregisteredError,
    MessageRefusedError,
    SignalError,
    TraderUnavailableError,
    UnknownReporterError,
)
from signals.messages import Leave, Production, Registration

LEAVE_S = 2.0
LONGEST_WAIT_S = 5.0
SETTLE_MS = 250
"""After a slot begins, how long others have to make their numbers; of a short period, a twentieth of it."""


class Made(Struct, frozen=True, kw_only=True):
    """What there is to report for a slot: a value and its oldest datum's time, or a trouble. depends: see
    `signals.messages.Registration`."""

    depends: tuple[str, ...]
    value: Decimal | None = None
    data_ms: int | None = None
    trouble: Trouble | None = None


def settle_ms(schedule: Schedule) -> int:
    """How long after a slot's start its signals' numbers are there."""
    return min(SETTLE_MS, schedule.period_ms // 20)


Make = Callable[[int], Awaitable[Made]]
"""Makes what there is to report for a slot, within a third of a period. Raises nothing."""


class Producer:
    """One reporter of one feed. to: the trader's name; instance: of this process. chance: a random number in [0, 1)."""

    def __init__(
        self,
        *,
        to: str,
        feed: str,
        name: str,
        instance: str,
        schedule: Schedule,
        make: Make,
        client: TraderClient,
        clock: Clock,
        chance: Callable[[], float],
        logger: Logger,
    ) -> None:
        self._to = to
        self._feed = feed
        self._name = name
        self._instance = instance
        self._schedule = schedule
        self._make = make
        self._client = client
        self._clock = clock
        self._chance = chance
        self._log = logger
        self._said_ms = 0
        self._registered: tuple[str, ...] | None = None  # with which dependencies
        self._known = False  # it has been registered
        self.last: Made | None = None
        self.refused: str | None = "not registered yet"

    async def run(self) -> None:
        """Until cancelled; then leave. Raises `CyclicFeedsError`: what it is made of depends on its own feed."""
        try:
            done_ms = -1
            while True:
                slot = self._schedule.slot(self._clock.now_ms())
                if slot <= done_ms:
                    await self._sleep_until(self._schedule.next(done_ms) + settle_ms(self._schedule))
                    continue
                done_ms = slot
                self.last = made = await self._make(slot)
                await self._deliver(slot, made)
        finally:
            await self._leave()

    async def _deliver(self, slot: int, made: Made) -> None:
        """Register where need be and send, again and again while the slot lasts."""
        failures = 0
        while self._clock.now_ms() < self._schedule.next(slot):
            try:
                if self._registered != made.depends:
                    await self._client.send(self._registration(made.depends))
                    self._registered, self._known = made.depends, True
                    self._log.info("registered", feed=self._feed, trader=self._client.url)
                await self._client.send(self._production(slot, made))
            except UnknownReporterError as error:
                self._registered, self.refused = None, str(error)  # the trader has lost its register
            except DeregisteredError as error:
                again, self._registered = self._registered is not None, None
                if again:
                    continue  # another instance of it may have left: then it is registered again
                self._refuse(error)
                return
            except AlreadyProducedError:
                self.refused = None  # it had arrived; its acknowledgement had not
                return
            except TraderUnavailableError as error:
                self._refuse(error)
            except MessageRefusedError as error:
                self._refuse(error)
                return  # the same again would not help; the next slot's may
            else:
                self.refused = None
                return
            failures += 1
            await asyncio.sleep(self._wait_s(failures))

    def _refuse(self, error: SignalError) -> None:
        if self.refused != str(error):
            self._log.warning("not_taken", feed=self._feed, code=error.code, error=str(error))
        self.refused = str(error)

    async def _leave(self) -> None:
        """Deregister, where the trader can be told so in time."""
        if not self._known:
            return
        try:
            async with asyncio.timeout(LEAVE_S):
                await self._client.send(
                    Leave(
                        to=self._to,
                        feed=self._feed,
                        name=self._name,
                        at_ms=self._next_ms(),
                        instance=self._instance,
                    )
                )
            self._log.info("left", feed=self._feed)
        except (SignalError, TimeoutError) as error:
            self._log.warning("not_deregistered", feed=self._feed, error=str(error) or "no answer in time")

    def _registration(self, depends: tuple[str, ...]) -> Registration:
        return Registration(
            to=self._to,
            feed=self._feed,
            name=self._name,
            at_ms=self._next_ms(),
            period_ms=self._schedule.period_ms,
            instance=self._instance,
            depends=depends,
        )

    def _production(self, slot: int, made: Made) -> Production:
        return Production(
            to=self._to,
            feed=self._feed,
            name=self._name,
            at_ms=self._next_ms(),
            slot_ms=slot,
            value=made.value,
            data_ms=made.data_ms,
            trouble=made.trouble,
        )

    def _next_ms(self) -> int:
        """The time of the next message: now, and later than the last one's."""
        self._said_ms = max(self._said_ms + 1, self._clock.now_ms())
        return self._said_ms

    def _wait_s(self, failures: int) -> float:
        """A tenth of a period, doubled with each failure, at most a period or five seconds; up to a half is chance."""
        period_s = self._schedule.period_ms / 1000
        full: float = min(period_s / 10 * 2 ** min(failures - 1, 10), period_s, LONGEST_WAIT_S)
        return full * (1 - self._chance() / 2)

    async def _sleep_until(self, at_ms: int) -> None:
        await asyncio.sleep(max(0, at_ms - self._clock.now_ms()) / 1000)
