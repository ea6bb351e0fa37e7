"""What a fetcher counts. One set per registry, and so one fetcher per registry."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from fetchers.fetch import Observation

_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.4, 0.65, 0.8, 1, 2, 5)


class FetcherMetrics:
    """The fetcher's Prometheus metrics."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.jobs = Counter(
            "fairmark_fetchers_jobs",
            "Jobs by outcome: report, expired, unpublished, or the code of the refusal",
            ["outcome"],
            registry=registry,
        )
        self.job_seconds = Histogram(
            "fairmark_fetchers_job_seconds",
            "From a job's receipt to its answer's publication",
            buckets=_BUCKETS,
            registry=registry,
        )
        self.quotes = Counter(
            "fairmark_fetchers_quotes",
            "Prices asked for, by source and outcome: ok, or the failure's code",
            ["source", "outcome"],
            registry=registry,
        )
        self.hints = Counter("fairmark_fetchers_hints", "Deviation hints published", ["pair"], registry=registry)
        self.clock_offset = Gauge(
            "fairmark_fetchers_clock_offset_ms",
            "How far true time is ahead of this host's clock, by the median of its sources",
            registry=registry,
        )
        self.unchanged = Counter(
            "fairmark_fetchers_unchanged", "Feeds called unchanged in a signed report", ["pair"], registry=registry
        )
        self.samples = Counter(
            "fairmark_fetchers_samples", "Samples between rounds, by outcome", ["outcome"], registry=registry
        )

    def count(self, observation: Observation) -> None:
        """Once for each price asked for: quotes that count as ok, the others by their failure's code."""
        for quote in observation.quotes:
            self.quotes.labels(quote.source, "ok").inc()
        for failure in observation.failures:
            self.quotes.labels(failure.source, failure.code.value).inc()
