"""Which pairs are published, and how a client names them. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from bff.errors import InvalidPairError, UnknownPairError
from core.types import Feed, Group, Pair


class Listed(Struct, frozen=True):
    """A published feed, its group, and its index there: the position of its price in a signed report."""

    feed: Feed
    group: Group
    index: int

    @property
    def pair(self) -> Pair:
        return self.feed.pair

    @property
    def stale_after_ms(self) -> int:
        """Older than this an answer is stale: a heartbeat missed, and the age at which the contract refuses a moment
        passed on top of it, so that no round under way could still have saved it. The contract's own rule."""
        return self.feed.heartbeat_ms + self.group.max_age_ms


class Catalogue:
    """Every published feed, by the slug a URL names it with."""

    def __init__(self, groups: Sequence[Group]) -> None:
        self.groups: dict[str, Group] = {group.name: group for group in groups}
        self.listed = tuple(Listed(feed, group, index) for group in groups for index, feed in enumerate(group.feeds))
        self._by_slug = {listed.pair.slug: listed for listed in self.listed}

    @property
    def pairs(self) -> tuple[Pair, ...]:
        return tuple(listed.pair for listed in self.listed)

    def find(self, slug: str) -> Listed:
        """The feed at `BTC-USD`, in any case. Raises `InvalidPairError` or `UnknownPairError`."""
        found = self._by_slug.get(slug) or self._by_slug.get(slug.upper())
        if found is not None:
            return found
        try:
            pair = Pair.from_slug(slug.replace("/", "?"))  # "BTC/USD" is a pair's name and not its slug
        except ValueError:
            raise InvalidPairError(f"{slug[:40]!r} is not a pair: write it like 'BTC-USD'") from None
        raise UnknownPairError(pair, self.pairs)
