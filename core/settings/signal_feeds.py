"""What a configuration must say of a signal that goes on chain, where its strategies sign for it. Pure.

A `[[feeds]]` entry with a `signal` publishes the median of that signal's strategies as a price is published. Range,
scale, age and policy are the signal's; on chain a number is above zero and has 64 bits, whatever it may be elsewhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from core.settings.feeds import FeedSettings, SignalSettings
    from core.settings.whole import Settings

OWN = frozenset(
    {
        "pair",
        "signal",
        "heartbeat_s",
        "deviation_bps",
        "min_contributors",
        "wanted_contributors",
        "unchanged_bps",
        "outlier_floor_bps",
        "description",
    }
)
"""What a signal's feed may set by itself; all else is the signal's, or means nothing where there is one source."""
OFF_CHAIN = {
    "feeds": "on chain the median is over strategies alone",
    "needed": "on chain its group's threshold says how many",
    "addresses": "on chain its group's reporters say who",
}
"""Of a signal, what only a trader knows."""


def signal_feed_problems(settings: Settings) -> list[str]:
    """Every problem with its place."""
    problems: list[str] = []
    for feed in settings.feeds:
        if feed.signal is None:
            continue
        if (signal := settings.signals.get(feed.signal)) is None:
            problems.append(f"feeds.{feed.pair}.signal: {feed.signal} is no signal")
        else:
            problems += _cannot_be(feed, feed.signal, signal)
    seen: dict[str, str] = {}
    for name, group in settings.groups.items():
        if (of := settings.signal_of(name)) is None:
            continue
        if len(group.feeds) > 1:
            problems.append(
                f"groups.{name}.feeds: a strategy decides one thing; give the signal {of} a group of its own"
            )
        if settings.group_of(of) != name:
            problems.append(
                f"groups.{name}.feeds: the signal {of} is on chain in group {settings.group_of(of)} already"
            )
        for reporter in settings.reporters(name):
            if reporter in settings.fetchers:
                problems.append(f"strategies.{reporter}: a fetcher has that name; both would take each other's jobs")
            if seen.setdefault(reporter, name) != name:
                problems.append(f"groups.{name}.reporters: {reporter} reports for group {seen[reporter]} already")
    on_chain = {feed.signal for feed in settings.feeds}
    for name, signal in settings.signals.items():
        problems += [
            f"signals.{name}.feeds: {other} is on chain, where a trader does not see it"
            for other in signal.feeds
            if other in on_chain and name not in on_chain
        ]
    return problems


def _cannot_be(feed: FeedSettings, name: str, signal: SignalSettings) -> list[str]:
    """Why a signal cannot be what a feed publishes."""
    where = f"feeds.{feed.pair}.signal"
    problems = []
    if signal.minimum <= 0:
        problems.append(
            f"{where}: signals.{name}.minimum is {signal.minimum}, and what is on chain is above zero: raise it, or "
            "leave the signal off chain"
        )
    if signal.maximum * 10**signal.decimals >= 2**64:
        problems.append(
            f"{where}: signals.{name}.maximum at {signal.decimals} decimals does not fit the report's 64 bits; lower "
            "one of them"
        )
    problems += [f"feeds.{feed.pair}.{field}: signals.{name} says it" for field in sorted(feed.model_fields_set - OWN)]
    return problems + [
        f"signals.{name}.{field}: {why}" for field, why in OFF_CHAIN.items() if field in signal.model_fields_set
    ]
