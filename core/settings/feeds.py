"""What is published: feeds, the groups that share rounds, signals, and the order of the rules."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal

import msgspec
from pydantic import Field, model_validator

from core.reporting import Policy
from core.settings.kinds import Address, Name, Section
from core.signals import SignalRange
from core.types import QUOTE_RULES, REPORT_RULES, Aggregate, Feed, Pair

NEVER_MS = 2**53
"""A limit of age that nothing reaches."""


class SignalSettings(Section):
    """A feed of signals: numbers that may be zero or negative, from reporters whose silence is an error."""

    decimals: int = Field(default=8, ge=0, le=18)
    minimum: Decimal = Decimal(-1)
    maximum: Decimal = Decimal(1)
    period_s: Decimal = Field(default=Decimal(60), ge=Decimal("0.2"), le=86_400, description="aligned to UTC")
    policy: Policy = Field(default=Policy.STRICT, description="what one reporter's silence does: see docs/reporters.md")
    needed: int = Field(default=1, ge=1, le=64, description="reporters and feeds that must be well, at the least")
    max_age_s: Decimal | None = Field(
        default=None,
        gt=0,
        description="of the data's own time, a period and a half at the least; default: three periods",
    )
    feeds: tuple[Name, ...] = Field(default=(), description="other signals that count as one reporter each")
    addresses: dict[Name, Address] | None = Field(
        default=None, description="who may report, by name; default: whoever has the token, each name for its first key"
    )

    @model_validator(mode="after")
    def _check(self) -> SignalSettings:
        _ = self.declared
        if 2 * self.max_age_ms < 3 * self.period_ms:
            raise ValueError(
                "max_age_s is below a period and a half: data grows that old before its reporter is missed"
            )
        return self

    @property
    def period_ms(self) -> int:
        return int(self.period_s * 1000)

    @property
    def max_age_ms(self) -> int:
        return 3 * self.period_ms if self.max_age_s is None else int(self.max_age_s * 1000)

    @property
    def declared(self) -> SignalRange:
        return SignalRange(decimals=self.decimals, minimum=self.minimum, maximum=self.maximum)


class FeedSettings(Section):
    """One published pair. See `core.types.Feed` for the meaning of each rule."""

    pair: str
    signal: Name | None = Field(
        default=None, description="the signal that strategies report for it: see docs/reporters.md; default: prices"
    )
    decimals: int = Field(default=8, ge=0, le=18)
    heartbeat_s: int = Field(default=60, ge=1)
    deviation_bps: int = Field(default=50, ge=1, le=10_000)
    min_contributors: int | None = Field(default=None, ge=1, description="default: the group's threshold")
    min_sources: int = Field(default=2, ge=1)
    wanted_sources: int = Field(default=3, ge=1)
    min_price: Decimal = Field(default=Decimal("0.00000001"), gt=0)
    max_price: Decimal = Field(default=Decimal(100_000_000), gt=0)
    outlier_floor_bps: int = Field(default=50, ge=0)
    unchanged_bps: int = Field(
        default=0, ge=0, description="a price within this of the standing answer is attested, not written; 0: the same"
    )
    max_spread_bps: int = Field(default=150, ge=1)
    max_jump_bps: int = Field(default=500, ge=1, description="from the last answer, unless most sources agree")
    aggregate: Literal["median", "volume", "trust"] = Field(
        default="median",
        description="a fetcher's answer: `median`, or one weighted by `volume` or by `trust`",
    )
    trust: dict[Name, Annotated[Decimal, Field(gt=0, le=1_000)]] = Field(
        default={}, description="by source, what it weighs where the aggregate is `trust`; others weigh 1"
    )
    wanted_contributors: int | None = Field(
        default=None, ge=1, description="with fewer reporters an answer is degraded; default: all of the group's"
    )
    fresh_quote_age_s: float = Field(default=15, gt=0, description="fresh quotes are preferred to older ones")
    max_quote_age_s: float = Field(default=60, gt=0, description="by the source's time, and by the receipt")
    fresh_receipt_age_s: float = Field(default=10, gt=0)
    max_receipt_age_s: float = Field(default=60, gt=0, description="by the receipt alone")
    fresh_unchanged_s: float = Field(default=600, gt=0)
    max_unchanged_s: float = Field(
        default=3_600, gt=0, description="a price that has not changed for so long is frozen; more for pegged pairs"
    )
    policy: Policy = Field(
        default=Policy.QUORUM,
        description="strict: no round while a registered reporter has no price; the same for all feeds of a group",
    )
    description: str = ""

    @model_validator(mode="after")
    def _check(self) -> FeedSettings:
        Pair(self.pair)
        if self.wanted_sources < self.min_sources:
            raise ValueError("wanted_sources is below min_sources")
        for clock in ("quote_age", "receipt_age", "unchanged"):
            fresh, most = f"fresh_{clock}_s", f"max_{clock}_s"
            # a default gives way to a stricter limit: see `feed_of`
            if fresh in self.model_fields_set and getattr(self, fresh) > getattr(self, most):
                raise ValueError(f"{fresh} is above {most}")
        if self.trust and self.aggregate != "trust":
            raise ValueError("trust weighs nothing unless aggregate is 'trust'")
        if self.unchanged_bps >= self.deviation_bps:
            raise ValueError("unchanged_bps is not below deviation_bps: movement would be called none")
        if self.min_price >= self.max_price:
            raise ValueError("min_price is not below max_price")
        if self.max_price * 10**self.decimals >= 2**64:
            raise ValueError(
                f"max_price at {self.decimals} decimals does not fit the report's 64 bits; lower one of them"
            )
        return self


class GroupSettings(Section):
    """Feeds that share rounds. n >= 3f + 1 reporters are registered, threshold >= 2f + 1 must sign."""

    feeds: tuple[str, ...] = Field(min_length=1, max_length=256)
    reporters: tuple[Name, ...] | None = Field(
        default=None, description="fetchers that report, of a signal strategies; default: all"
    )
    f: int = Field(default=1, ge=0, le=40)
    threshold: int | None = Field(default=None, ge=1, description="default: 2f + 1")
    grid_ms: int = Field(default=10, ge=1, le=1_000)
    max_age_s: float = Field(default=60, gt=0, le=3_600)


class ValidationSettings(Section):
    """The order in which the rules stand. Every rule stands: a limit that shall never bind is set wide instead."""

    quotes: tuple[str, ...] = Field(default=QUOTE_RULES, description="a fetcher's, over the quotes of a feed")
    reports: tuple[str, ...] = Field(
        default=REPORT_RULES, description="the aggregator's, over an attempt's reports: the first that fails names it"
    )


def feed_of(settings: FeedSettings, threshold: int, reporters: int, signal: SignalSettings | None = None) -> Feed:
    """The domain's view of a feed. threshold, reporters: its group's, which are the defaults of its own numbers.

    signal: what it publishes. A signal has one source, its strategy; it is as old as its data, and may stand still.
    """
    feed = Feed(
        pair=Pair(settings.pair),
        decimals=settings.decimals,
        heartbeat_ms=settings.heartbeat_s * 1000,
        deviation_bps=settings.deviation_bps,
        min_contributors=settings.min_contributors or threshold,
        min_sources=settings.min_sources,
        wanted_sources=settings.wanted_sources,
        min_price=settings.min_price,
        max_price=settings.max_price,
        outlier_floor_bps=settings.outlier_floor_bps,
        unchanged_bps=settings.unchanged_bps,
        max_spread_bps=settings.max_spread_bps,
        max_jump_bps=settings.max_jump_bps,
        aggregate=Aggregate(settings.aggregate),
        trust=dict(settings.trust),
        wanted_contributors=settings.wanted_contributors or reporters,
        fresh_quote_age_ms=int(min(settings.fresh_quote_age_s, settings.max_quote_age_s) * 1000),
        max_quote_age_ms=int(settings.max_quote_age_s * 1000),
        fresh_receipt_age_ms=int(min(settings.fresh_receipt_age_s, settings.max_receipt_age_s) * 1000),
        max_receipt_age_ms=int(settings.max_receipt_age_s * 1000),
        fresh_unchanged_ms=int(min(settings.fresh_unchanged_s, settings.max_unchanged_s) * 1000),
        max_unchanged_ms=int(settings.max_unchanged_s * 1000),
        policy=settings.policy,
        description=settings.description,
    )
    if signal is None:
        return feed
    age_ms = signal.max_age_ms
    return msgspec.structs.replace(
        feed,
        signal=True,
        decimals=signal.decimals,
        min_price=signal.minimum,
        max_price=signal.maximum,
        min_sources=1,
        wanted_sources=1,
        fresh_quote_age_ms=age_ms,
        max_quote_age_ms=age_ms,
        fresh_receipt_age_ms=age_ms,
        max_receipt_age_ms=age_ms,
        fresh_unchanged_ms=NEVER_MS,
        max_unchanged_ms=NEVER_MS,
        policy=signal.policy,
    )
