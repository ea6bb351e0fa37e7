"""What the bus counts. One set per registry, and so one bus per registry."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)


class BrokerMetrics:
    """The bus's Prometheus metrics. Without a registry they go to one of their own that nobody scrapes."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        registry = registry or CollectorRegistry()
        self.published = Counter(
            "fairmark_broker_published", "Messages the broker confirmed", ["topic"], registry=registry
        )
        self.publish_failed = Counter(
            "fairmark_broker_publish_failed",
            "Messages not confirmed, by error code",
            ["topic", "code"],
            registry=registry,
        )
        self.publish_seconds = Histogram(
            "fairmark_broker_publish_seconds",
            "From publish to the broker's confirm",
            ["topic"],
            buckets=_BUCKETS,
            registry=registry,
        )
        self.delivered = Counter(
            "fairmark_broker_delivered",
            "Deliveries handed to a handler, redeliveries too",
            ["topic"],
            registry=registry,
        )
        self.dead_lettered = Counter(
            "fairmark_broker_dead_lettered",
            "Messages this process put with the dead letters: malformed, rejected, delivery_limit, expired, maxlen",
            ["reason"],
            registry=registry,
        )
        self.reconnects = Counter(
            "fairmark_broker_reconnects", "Connections made again after a loss", registry=registry
        )
        self.connected = Gauge("fairmark_broker_connected", "1 while the broker is connected", registry=registry)
        self.queue_depth = Gauge(
            "fairmark_broker_queue_depth", "Messages waiting (in-process bus only)", ["queue"], registry=registry
        )
