"""What the way in counts."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge


class SourceMetrics:
    """`fairmark_market_…`, by source."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._ticks = Counter("fairmark_market_ticks", "ticks that count", ["source", "mode"], registry=registry)
        self._dropped = Counter(
            "fairmark_market_dropped", "ticks that do not count, and why", ["source", "reason"], registry=registry
        )
        self.waiting = Gauge("fairmark_market_queue_ticks", "ticks in a source's queue", ["source"], registry=registry)
        self.minutes = Counter(
            "fairmark_market_minutes", "minutes written, spooled, lost", ["where"], registry=registry
        )
        self.left_out = Counter(
            "fairmark_market_redis_left_out",
            "ticks that came faster than Redis took them: it is given them later, while they are in the window",
            ["mode"],
            registry=registry,
        )
        self.taken: dict[str, int] = {}
        """Ticks that count, by source."""
        self.refused: dict[tuple[str, str], int] = {}
        """Ticks that do not, by source and reason."""

    def took(self, source: str, mode: str, count: int) -> None:
        self._ticks.labels(source, mode).inc(count)
        self.taken[source] = self.taken.get(source, 0) + count

    def dropped(self, source: str, reason: str, count: int) -> None:
        """reason: overflow, late, ahead, invalid, unknown_symbol."""
        if count:
            self._dropped.labels(source, reason).inc(count)
            self.refused[source, reason] = self.refused.get((source, reason), 0) + count

    def refusals(self, source: str) -> dict[str, int]:
        return {reason: count for (own, reason), count in self.refused.items() if own == source}
