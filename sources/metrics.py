"""What operators see of the sources."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram

_LATENCY_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.5, 3.0)


class SourceMetrics:
    """Requests and their latency, by source. One instance a registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.requests = Counter(
            "fairmark_sources_requests",
            "HTTP requests to sources; outcome is ok, or the failure code",
            ("source", "outcome"),
            registry=registry,
        )
        self.latency = Histogram(
            "fairmark_sources_latency_seconds",
            "Seconds from request to complete body, or to failure",
            ("source",),
            registry=registry,
            buckets=_LATENCY_BUCKETS,
        )
