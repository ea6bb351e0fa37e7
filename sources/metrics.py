"""What operators see of the sources."""

from __future__ import annotations

import math

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from sources.quarantine import State
from sources.vitals import Vitals

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
        self.retries = Counter(
            "fairmark_sources_retries",
            "Retries of failed requests: sent, or over_budget (see sources.retry_share)",
            ("source", "outcome"),
            registry=registry,
        )
        self.held = Counter(
            "fairmark_sources_held",
            "Requests not sent, because the source's rate limit had no room for them in time",
            ("source",),
            registry=registry,
        )
        self.quarantines = Counter(
            "fairmark_sources_quarantines",
            "Times the source was quarantined, for failing too often",
            ("source",),
            registry=registry,
        )
        self.probes = Counter(
            "fairmark_sources_probes",
            "Requests that find out whether a source in quarantine is back: ok, not_sent or the failure code",
            ("source", "outcome"),
            registry=registry,
        )
        self.quarantined = Gauge(
            "fairmark_sources_quarantined",
            "1 while the source is not asked because it failed too often",
            ("source",),
            registry=registry,
        )
        self.health = Gauge(
            "fairmark_sources_health",
            "1 while all requests to the source go well, towards 0 with each failure",
            ("source",),
            registry=registry,
        )
        self.hedge = Gauge(
            "fairmark_sources_hedge_seconds",
            "Silence of the source after which another is asked beside it; NaN: not known yet",
            ("source",),
            registry=registry,
        )
        self.limit_left = Gauge(
            "fairmark_sources_limit_left",
            "Weight that may be sent to the source at once, by its rate limit",
            ("source",),
            registry=registry,
        )
        self.limit_waiting = Gauge(
            "fairmark_sources_limit_waiting",
            "Requests that wait for room in the source's rate limit",
            ("source",),
            registry=registry,
        )


def watch_vitals(metrics: SourceMetrics, source: str, vitals: Vitals) -> None:
    """Let the gauges tell a source's vitals whenever they are read."""
    metrics.health.labels(source).set_function(lambda: vitals.health)
    metrics.quarantined.labels(source).set_function(lambda: vitals.quarantine.state is not State.OK)
    metrics.hedge.labels(source).set_function(lambda: vitals.latency.hedge_s or math.nan)
