"""What operators see of the streams."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge


class StreamMetrics:
    """Connections and messages, by source. One instance a registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.connected = Gauge(
            "fairmark_streams_connected",
            "Connections that are open, subscribed, and not silent for too long",
            ("source",),
            registry=registry,
        )
        self.messages = Counter(
            "fairmark_streams_messages",
            "Messages received; heard is data, other, or what else it was",
            ("source", "heard"),
            registry=registry,
        )
        self.bad = Counter(
            "fairmark_streams_bad_messages", "Messages skipped, by failure code", ("source", "code"), registry=registry
        )
        self.reconnects = Counter(
            "fairmark_streams_reconnects",
            "Connections lost, or not made, by reason",
            ("source", "reason"),
            registry=registry,
        )
        self.gaps = Counter(
            "fairmark_streams_gaps",
            "How often numbered messages of a pair were lost on the way",
            ("source",),
            registry=registry,
        )
        self.missed = Counter(
            "fairmark_streams_missed", "Numbered messages that were lost on the way", ("source",), registry=registry
        )
        self._age = Gauge(
            "fairmark_streams_age_seconds",
            "Since the last message of any kind; -1 before the first",
            ("source",),
            registry=registry,
        )
        self.reads = Counter(
            "fairmark_streams_reads",
            "Prices wanted of a source that is streamed; outcome is used, absent, or why the stream's was not used",
            ("source", "outcome"),
            registry=registry,
        )

    def watch_age(self, source: str, age_s: Callable[[], float]) -> None:
        """Let `fairmark_streams_age_seconds` ask `age_s` whenever it is read."""
        self._age.labels(source).set_function(age_s)
