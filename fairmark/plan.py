"""What the configuration asks of a group on chain, and how what stands there differs. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from contracts.governance import configured
from contracts.readings import FeedOnChain, GroupState
from core.types import Feed, Group


class Kind(StrEnum):
    """What a change is about."""

    GROUP_ADDED = "group added"
    NUMBERS_CHANGED = "numbers changed"
    FEED_ADDED = "feed added"
    FEED_CHANGED = "feed changed"
    FEED_REMOVED = "feed removed"
    ORDER_CHANGED = "order changed"
    REPORTER_ADDED = "reporter added"
    REPORTER_REMOVED = "reporter removed"


@dataclass(frozen=True)
class Change:
    """name: of the group, the pair, or the reporter's address in lower case. detail: what it is to be."""

    kind: Kind
    group: str
    name: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.group}: {self.kind}: {self.name}" + (f" ({self.detail})" if self.detail else "")


def changes(standing: GroupState | None, group: Group, reporters: Mapping[str, str]) -> list[Change]:
    """What has to change on chain until `group` stands as configured. reporters: addresses by name."""
    if standing is None:
        who = ", ".join(sorted(reporters))
        return [Change(Kind.GROUP_ADDED, group.name, group.name, f"{len(group.feeds)} feeds, reporters {who}")]
    found = _numbers(standing, group) + _feeds(standing, group)
    names = {address.lower(): name for name, address in reporters.items()}
    there = {address.lower() for address in standing.signers}
    found += [
        Change(Kind.REPORTER_ADDED, group.name, address, names[address]) for address in sorted(set(names) - there)
    ]
    return found + [Change(Kind.REPORTER_REMOVED, group.name, address) for address in sorted(there - set(names))]


def _numbers(standing: GroupState, group: Group) -> list[Change]:
    pairs = (
        ("f", standing.f, group.f),
        ("threshold", standing.threshold, group.threshold),
        ("max_age_ms", standing.max_age_ms, group.max_age_ms),
    )
    detail = ", ".join(f"{name} {old} to {new}" for name, old, new in pairs if old != new)
    return [Change(Kind.NUMBERS_CHANGED, group.name, group.name, detail)] if detail else []


def _feeds(standing: GroupState, group: Group) -> list[Change]:
    there = {feed.pair: feed for feed in standing.feeds}
    wanted = {feed.pair: feed for feed in group.feeds}
    found = [
        Change(Kind.FEED_ADDED, group.name, pair, rules(feed)) for pair, feed in wanted.items() if pair not in there
    ]
    for pair, feed in wanted.items():
        if pair in there and (detail := _difference(there[pair], feed)):
            found.append(Change(Kind.FEED_CHANGED, group.name, pair, detail))
    found += [Change(Kind.FEED_REMOVED, group.name, pair) for pair in there if pair not in wanted]
    both = [pair for pair in there if pair in wanted]
    if both != [pair for pair in wanted if pair in there]:
        found.append(Change(Kind.ORDER_CHANGED, group.name, group.name, "of the feeds"))
    return found


def rules(feed: Feed | FeedOnChain) -> str:
    """A feed's rules in a line."""
    return ", ".join(f"{name} {value}" for name, value in _rules(feed).items())


def _rules(feed: Feed | FeedOnChain) -> dict[str, int]:
    there = feed if isinstance(feed, FeedOnChain) else configured(feed)
    return {
        "decimals": there.decimals,
        "heartbeat_s": there.heartbeat_s,
        "deviation_bps": there.deviation_bps,
        "min_contributors": there.min_contributors,
        "limit_bps": there.limit_bps,
        "max_spread_bps": there.max_spread_bps,
    }


def _difference(old: FeedOnChain, new: Feed) -> str:
    before, after = _rules(old), _rules(new)
    return ", ".join(f"{name} {before[name]} to {after[name]}" for name in after if before[name] != after[name])
