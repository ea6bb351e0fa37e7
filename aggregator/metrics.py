"""The aggregator's metrics."""

from __future__ import annotations

import math

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """Every counter, gauge and histogram of the room, on one registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.attempts = Counter(
            "fairmark_aggregator_attempts_total",
            "Attempts that ended; outcome is `accepted` or the reason it failed",
            ("group", "cause", "outcome"),
            registry=registry,
        )
        self.step_seconds = Histogram(
            "fairmark_aggregator_step_seconds",
            "Time an attempt spent in a step; `total` is the whole",
            ("group", "step"),
            buckets=SECONDS,
            registry=registry,
        )
        self.reports = Counter(
            "fairmark_aggregator_reports_total",
            "Reports by what became of them; code is empty unless rejected or left out",
            ("group", "verdict", "code"),
            registry=registry,
        )
        self.equivocations = Counter(
            "fairmark_aggregator_equivocations_total",
            "Reporters caught with two different signed reports for one moment: revoke the key, then ask whose it is",
            ("group", "reporter"),
            registry=registry,
        )
        self.refusals = Counter(
            "fairmark_aggregator_refusals_total",
            "Fetchers' refusals to sign",
            ("group",),
            registry=registry,
        )
        self.strays = Counter(
            "fairmark_aggregator_strays_total",
            "Messages that no open attempt takes: unknown, foreign, duplicate",
            ("what",),
            registry=registry,
        )
        self.requests = Counter(
            "fairmark_aggregator_requests_total",
            "Refresh requests by how they were served: started, joined, queued or refused",
            ("group", "how"),
            registry=registry,
        )
        self.waiting = Gauge(
            "fairmark_aggregator_requests_waiting",
            "Requests that wait for an attempt to end",
            ("group",),
            registry=registry,
        )
        self.hints = Counter(
            "fairmark_aggregator_hints_total",
            "Deviation hints by what became of them",
            ("group", "outcome"),
            registry=registry,
        )
        self.feed_in_error = Gauge(
            "fairmark_aggregator_feed_in_error",
            "1 while a strict feed misses a registered reporter's price, else 0",
            ("feed",),
            registry=registry,
        )
        self.answer_age = Gauge(
            "fairmark_aggregator_answer_age_seconds",
            "Age of a feed's standing answer by this service's clock; NaN before the first",
            ("feed",),
            registry=registry,
        )
        self.stale_after = Gauge(
            "fairmark_aggregator_stale_after_seconds",
            "Age beyond which the feed's answer is stale: its heartbeat, and the age at which a moment is refused",
            ("feed",),
            registry=registry,
        )
        self.confidence = Gauge(
            "fairmark_aggregator_answer_confidence",
            "The part of the wanted reporters and sources behind a feed's last answer, 0 to 1; below 1 it is degraded",
            ("feed",),
            registry=registry,
        )
        self.last_round = Gauge(
            "fairmark_aggregator_last_round",
            "Number of the group's last round that this service knows",
            ("group",),
            registry=registry,
        )
        self.leads = Gauge(
            "fairmark_aggregator_leads",
            "1 where this service starts the group's attempts by itself, else 0",
            ("group",),
            registry=registry,
        )
        self.unsaved = Gauge(
            "fairmark_aggregator_unsaved_records",
            "Ended attempts that the store does not have yet",
            registry=registry,
        )
        self.store_failures = Counter(
            "fairmark_aggregator_store_failures_total",
            "Calls of the store that failed",
            registry=registry,
        )
        self.unsettled = Gauge(
            "fairmark_aggregator_unsettled_rounds",
            "Rounds sent whose block does not have its confirmations yet",
            registry=registry,
        )
        self.reorgs = Counter(
            "fairmark_aggregator_reorged_rounds_total",
            "Accepted rounds that a reorg touched: moved to another block, put back, or retired",
            ("group", "outcome"),
            registry=registry,
        )
        self.balance = Gauge(
            "fairmark_aggregator_submitter_balance",
            "What the submitter has to pay for rounds, in the chain's coin; NaN before it was read",
            registry=registry,
        )
        self.balance.set(math.nan)
        self.low_balance = Gauge(
            "fairmark_aggregator_submitter_low_balance",
            "Below so much the submitter is to be sent more (submission.low_balance), in the chain's coin",
            registry=registry,
        )
