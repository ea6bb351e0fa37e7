"""The trader's metrics."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge


class TraderMetrics:
    """Every counter and gauge of a trader, on one registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.in_error = Gauge(
            "fairmark_signal_feed_in_error", "1 while the feed is in error, else 0", ("feed",), registry=registry
        )
        self.published = Counter(
            "fairmark_signal_answers_total", "Answers that the feed has published", ("feed",), registry=registry
        )
        self.reporters = Gauge(
            "fairmark_signal_reporters", "Reporters of the feed by their state", ("feed", "state"), registry=registry
        )
        self.silence = Gauge(
            "fairmark_signal_reporter_silence_seconds",
            "Since the reporter was heard last, by this service's clock",
            ("feed", "reporter"),
            registry=registry,
        )
        self.messages = Counter(
            "fairmark_signal_messages_total",
            "Reporters' messages; outcome is `taken` or the code of the refusal",
            ("kind", "outcome"),
            registry=registry,
        )
