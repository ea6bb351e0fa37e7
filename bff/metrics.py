"""The BFF's Prometheus metrics."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_REQUEST_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class BffMetrics:
    """One service's metrics, on its own registry. Labels are closed sets: routes as declared, never paths as asked."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.requests = Counter("fairmark_bff_requests", "requests answered", ("route", "status"), registry=registry)
        self.request_seconds = Histogram(
            "fairmark_bff_request_seconds",
            "from a request's arrival to the last byte of its answer",
            ("route",),
            buckets=_REQUEST_BUCKETS,
            registry=registry,
        )
        self.refreshes = Counter(
            "fairmark_bff_refreshes", "refreshes by their end", ("group", "outcome"), registry=registry
        )
        self.chain_reads = Counter(
            "fairmark_bff_chain_reads",
            "readings of a group: taken, failed, or held back because of a lower round",
            ("group", "outcome"),
            registry=registry,
        )
        self.round = Gauge("fairmark_bff_round", "round of the reading being served", ("group",), registry=registry)
        self.price_age = Gauge(
            "fairmark_bff_price_age_seconds", "age of the answer, at the last poll", ("pair",), registry=registry
        )
