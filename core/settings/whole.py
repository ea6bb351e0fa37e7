"""The whole configuration, and what does not fit together in it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationInfo, model_validator

from core.errors import ConfigurationError, CyclicFeedsError
from core.pipeline import order_problems
from core.reporting import order
from core.settings.feeds import FeedSettings, GroupSettings, SignalSettings, ValidationSettings, feed_of
from core.settings.kinds import Name, Section
from core.settings.market import MarketSettings
from core.settings.servers import BrokerSettings, ChainSettings, LogSettings, SimulatorSettings, StoreSettings
from core.settings.services import (
    AggregatorSettings,
    BffSettings,
    FetcherSettings,
    SourcesSettings,
    StrategySettings,
    StreamsSettings,
    TraderSettings,
)
from core.settings.signal_feeds import signal_feed_problems
from core.types import QUOTE_RULES, REPORT_RULES, Group, Mode


class Settings(Section):
    """The whole configuration."""

    mode: Literal["auto", "live", "test"] = Field(
        default="auto", description="where prices come from; auto (embedded chain only) decides once, at start"
    )
    data_dir: Path = Field(
        default=Path(".fairmark"), description="SQLite files, and what a running tree tells of itself"
    )
    clock_offset_ms: int = Field(default=0, description="shifts every service's clock: replays in test mode only")
    log: LogSettings = LogSettings()
    chain: ChainSettings = ChainSettings()
    broker: BrokerSettings = BrokerSettings()
    store: StoreSettings = StoreSettings()
    market: MarketSettings = MarketSettings()
    simulator: SimulatorSettings = SimulatorSettings()
    sources: SourcesSettings = SourcesSettings()
    streams: StreamsSettings = StreamsSettings()
    aggregator: AggregatorSettings = AggregatorSettings()
    bff: BffSettings = BffSettings()
    trader: TraderSettings = TraderSettings()
    signals: dict[Name, SignalSettings] = Field(default={})
    strategies: dict[Name, StrategySettings] = Field(default={})
    fetchers: dict[Name, FetcherSettings] = Field(default={})
    feeds: tuple[FeedSettings, ...] = ()
    groups: dict[Name, GroupSettings] = Field(default={})
    validation: ValidationSettings = ValidationSettings()

    @model_validator(mode="after")
    def _check(self, info: ValidationInfo) -> Settings:
        if problems := self._contradictions(frozenset(info.context or ())):
            raise ConfigurationError(problems)
        return self

    def _contradictions(self, unknown: frozenset[str]) -> list[str]:
        """What does not fit together. unknown: places that did not validate, so that nothing is concluded from them."""
        problems: list[str] = []
        if self.mode == "auto" and not self.chain.embedded and not unknown & {"mode", "chain", "chain.url"}:
            problems.append("mode: 'auto' is for the embedded chain only; with chain.url set, name 'live' or 'test'")
        if self.clock_offset_ms and self.mode != "test" and "mode" not in unknown:
            problems.append("clock_offset_ms: only in mode 'test'")
        if self.broker.kind == "rabbitmq" and not self.broker.urls:
            problems.append("broker.urls: name at least one")
        for name, port in (("chain", self.chain.port), ("simulator", self.simulator.port)):
            if port == 0:
                problems.append(f"{name}.port: 0 is for services that announce their port; name a fixed one here")
        problems += self._signal_problems()
        if not {place.partition(".")[0] for place in unknown} & {"signals", "feeds", "groups", "strategies"}:
            problems += signal_feed_problems(self)
        for name, stated, known in (
            ("quotes", self.validation.quotes, QUOTE_RULES),
            ("reports", self.validation.reports, REPORT_RULES),
        ):
            problems += order_problems(stated, known, f"validation.{name}")
        if not self.groups and "groups" not in unknown:
            problems.append("groups: name at least one, with its feeds")
        if "groups" not in unknown:
            served = self.aggregator.groups or ()
            problems += [f"aggregator.groups: {name} is no group" for name in served if name not in self.groups]
        return problems + self._feeds_and_groups(unknown)

    def _signal_problems(self) -> list[str]:
        """Where signals do not follow one another as they should."""
        problems = []
        for name, signal in self.signals.items():
            for other in signal.feeds:
                if other not in self.signals:
                    problems.append(f"signals.{name}.feeds: {other} is no signal")
                elif self.signals[other].period_s != signal.period_s:
                    problems.append(f"signals.{name}.feeds: {other} has another period")
        if not problems:
            try:
                order({name: signal.feeds for name, signal in self.signals.items()})
            except CyclicFeedsError as error:
                problems.append(f"signals: {error}")
        return problems

    def _feeds_and_groups(self, unknown: frozenset[str]) -> list[str]:
        """Where feeds, groups and fetchers do not name one another as they should."""
        known = {feed.pair for feed in self.feeds}
        problems = ["feeds: a pair appears twice"] if len(known) < len(self.feeds) else []
        seen: dict[str, str] = {}
        for name, group in self.groups.items():
            if "fetchers" not in unknown:
                problems += self._group_problems(name)
            if "feeds" not in unknown:
                problems += [f"groups.{name}.feeds: {p} has no [[feeds]] entry" for p in group.feeds if p not in known]
            if len({feed.policy for feed in self.feeds if feed.pair in group.feeds}) > 1:
                problems.append(
                    f"groups.{name}.feeds: some are strict, some are not; the contract takes a round whole, so give "
                    "the strict ones a group of their own"
                )
            for pair in group.feeds:
                if pair in seen:
                    problems.append(f"groups.{name}.feeds: {pair} is in group {seen[pair]} already")
                seen.setdefault(pair, name)
        if "groups" not in unknown:
            problems += [f"feeds: {pair} is in no group" for pair in sorted(known - set(seen))]
        return problems

    def _group_problems(self, name: str) -> list[str]:
        """What is wrong with a group's numbers of people."""
        group, where = self.groups[name], f"groups.{name}"
        reporters = self.reporters(name)
        known, kind = (self.strategies, "strategy") if self.signal_of(name) else (self.fetchers, "fetcher")
        problems = [f"{where}.reporters: {r} is no {kind}" for r in reporters if r not in known]
        threshold = group.threshold or 2 * group.f + 1
        if len(reporters) < 3 * group.f + 1:
            problems.append(f"{where}: f = {group.f} needs at least {3 * group.f + 1} reporters, not {len(reporters)}")
        if not 2 * group.f + 1 <= threshold <= len(reporters):
            problems.append(f"{where}.threshold: {threshold} is not between 2f + 1 and the {len(reporters)} reporters")
        for feed in self.feeds:
            least = feed.min_contributors or threshold
            wanted = feed.wanted_contributors
            if feed.pair in group.feeds and wanted is not None and not least <= wanted <= len(reporters):
                problems.append(f"feeds.{feed.pair}.wanted_contributors: {wanted} is not between {least} and n")
            if feed.pair in group.feeds and not 2 * group.f + 1 <= least <= len(reporters):
                problems.append(f"feeds.{feed.pair}.min_contributors: {least} is not between 2f + 1 and n")
            asked = {source for r in reporters if r in self.fetchers for source in self.fetchers[r].sources}
            if feed.pair in group.feeds:
                problems += [
                    f"feeds.{feed.pair}.trust.{source}: no fetcher of the group asks {source}"
                    for source in feed.trust
                    if source not in asked
                ]
        return problems

    def reporters(self, group: str) -> tuple[str, ...]:
        """The fetchers, or of a signal the strategies, that report for `group`; in a fixed order."""
        listed = self.groups[group].reporters
        known = self.strategies if self.signal_of(group) else self.fetchers
        return tuple(sorted(known)) if listed is None else listed

    def all_reporters(self) -> tuple[str, ...]:
        """Those that report for any group, by name."""
        return tuple(sorted({name for group in self.groups for name in self.reporters(group)}))

    def signal_of(self, group: str) -> str | None:
        """The signal that `group` puts on chain; None: it is one of prices."""
        pairs = self.groups[group].feeds
        return next((feed.signal for feed in self.feeds if feed.signal and feed.pair in pairs), None)

    def group_of(self, signal: str) -> str | None:
        """The group that puts `signal` on chain; None: it stays off chain."""
        return next((name for name in self.groups if self.signal_of(name) == signal), None)

    def group(self, name: str) -> Group:
        """The domain's view of a configured group. Raises `KeyError`."""
        settings = self.groups[name]
        threshold = settings.threshold or 2 * settings.f + 1
        by_pair = {feed.pair: feed for feed in self.feeds}
        return Group(
            name=name,
            feeds=tuple(
                feed_of(
                    by_pair[pair], threshold, len(self.reporters(name)), self.signals.get(by_pair[pair].signal or "")
                )
                for pair in settings.feeds
            ),
            f=settings.f,
            threshold=threshold,
            grid_ms=settings.grid_ms,
            max_age_ms=int(settings.max_age_s * 1000),
        )

    def all_groups(self) -> tuple[Group, ...]:
        return tuple(self.group(name) for name in self.groups)

    def named_mode(self) -> Mode:
        """The mode, where it is decided. Raises `ConfigurationError` while it is `auto`."""
        if self.mode == "auto":
            raise ConfigurationError(["mode: 'auto' is decided by `fairmark up` only; name 'live' or 'test'"])
        return Mode(self.mode)

    def store_url(self, name: str) -> str:
        """The async SQLAlchemy URL of the store; with SQLite, a file of its own for each service `name`."""
        if self.store.url == "sqlite":
            return f"sqlite+aiosqlite:///{self.data_dir / f'{name}.sqlite'}"
        return _async_url(self.store.url)

    def market_store_url(self) -> str:
        """As `store_url`, of the minutes."""
        own = self.market.database
        return self.store_url("market") if own in (None, "sqlite") else _async_url(str(own))


def _async_url(url: str) -> str:
    url = re.sub(r"^sqlite://", "sqlite+aiosqlite://", url)
    return re.sub(r"^postgres(ql)?://", "postgresql+asyncpg://", url)
