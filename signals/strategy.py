"""A strategy: pulls its signals at each slot, and makes a decision of them, or says which of them keeps it from one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from enum import StrEnum

from msgspec.structs import replace

from core.clock import Clock
from core.errors import InvalidSignalError
from core.median import lower_median
from core.reporting import FeedRule, Leg, Schedule, Trouble, TroubleCode, judge
from core.signals import SignalRange, SignalReading
from signals.errors import SignalInTroubleError, SignalUnavailableError
from signals.messages import MAX_DEPENDS, MAX_DETAIL
from signals.producer import Made
from signals.rpc import SignalClient

LONGEST_PULL_S = 5.0


class Rule(StrEnum):
    """How a decision is made of the signals' values."""

    MEAN = "mean"
    MEDIAN = "median"
    SUM = "sum"
    SIGN = "sign"


DECIDE: Mapping[Rule, Callable[[Sequence[Decimal]], Decimal]] = {
    Rule.MEAN: lambda values: sum(values, Decimal(0)) / len(values),
    Rule.MEDIAN: lower_median,
    Rule.SUM: lambda values: sum(values, Decimal(0)),
    Rule.SIGN: lambda values: Decimal((total > 0) - (total < 0)) if (total := sum(values, Decimal(0))) else Decimal(0),
}
"""Each takes at least one value."""


class Strategy:
    """Makes decisions. signals: their addresses. declared: what a decision may be. limit_ms: of a signal's own age.

    Its policy over its signals is a feed's: `strict` needs all of them, `quorum` as many as `needed` says.
    """

    def __init__(
        self,
        *,
        name: str,
        signals: Sequence[str],
        rule: Rule,
        policy: FeedRule,
        declared: SignalRange,
        schedule: Schedule,
        limit_ms: int,
        client: SignalClient,
        clock: Clock,
    ) -> None:
        self._name = name
        self._signals = tuple(signals)
        self._rule = rule
        self._policy = policy
        self._range = declared
        self._timeout_s = min(schedule.period_ms / 3_000, LONGEST_PULL_S)
        self._limit_ms = limit_ms
        self._client = client
        self._clock = clock
        self._heard: dict[str, SignalReading] = {}
        self._well_ms = dict.fromkeys(self._signals, clock.now_ms())
        self._invalid_ms: int | None = None  # since when its decisions are out of the range

    async def make(self, _slot: int) -> Made:
        """Pull every signal at once and decide."""
        legs = await asyncio.gather(*(self._pull(address) for address in self._signals))
        standing = judge(self._name, self._policy, legs, self._clock.now_ms())
        depends = self._depends()
        if not standing.ok:
            return Made(depends=depends, trouble=standing.troubles[0])
        used = [self._heard[address] for address in standing.counted]
        try:
            value = self._range.checked(DECIDE[self._rule]([reading.value for reading in used]))
        except InvalidSignalError as error:
            since = self._invalid_ms = self._clock.now_ms() if self._invalid_ms is None else self._invalid_ms
            trouble = Trouble(who=self._name, code=TroubleCode.INVALID, since_ms=since, detail=str(error))
            return Made(depends=depends, trouble=trouble)
        self._invalid_ms = None
        return Made(depends=depends, value=value, data_ms=min(reading.time_ms for reading in used))

    async def _pull(self, address: str) -> Leg:
        try:
            reading = await self._client.read(address, self._timeout_s)
        except SignalInTroubleError as error:
            # it cannot have begun after it was told, whatever the other's clock says
            since = min(max(error.trouble.since_ms, 0), self._clock.now_ms())
            return Leg(address, False, replace(error.trouble, since_ms=since))
        except SignalUnavailableError as error:
            return self._ill(address, TroubleCode.UNREACHABLE, self._well_ms[address], str(error))
        self._heard[address] = reading
        now = self._clock.now_ms()
        if now - reading.time_ms > self._limit_ms:
            said = f"its data is {now - reading.time_ms} ms old, more than {self._limit_ms}"
            return self._ill(address, TroubleCode.OUTDATED, reading.time_ms, said)
        self._well_ms[address] = now
        return Leg(address, True)

    def _ill(self, address: str, code: TroubleCode, since_ms: int, detail: str) -> Leg:
        known = self._heard.get(address)
        who = address if known is None else f"{known.name} ({address})"
        return Leg(address, False, Trouble(who=who, code=code, since_ms=since_ms, detail=detail[:MAX_DETAIL]))

    def _depends(self) -> tuple[str, ...]:
        """Every name known to be behind the signals, in a fixed order."""
        found = {name for reading in self._heard.values() for name in (reading.name, *reading.depends)}
        return tuple(sorted(found)[:MAX_DEPENDS])
