"""What the simulator counts."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter


class SimulatorMetrics:
    """On the registry given, so that two simulators in one process never share a number."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = Counter(
            "fairmark_simulator_requests",
            "requests answered by a simulated venue: ok, replayed, unknown, or the fault that struck",
            ["venue", "outcome"],
            registry=registry,
        )
        self._children: dict[tuple[str, str], Counter] = {}
        self._messages = Counter(
            "fairmark_simulator_stream_messages",
            "markets shown on a simulated venue's streams: ok, or the fault that struck",
            ["venue", "outcome"],
            registry=registry,
        )

    def answered(self, venue: str, outcome: str) -> None:
        key = (venue, outcome)
        child = self._children.get(key)
        if child is None:
            child = self._children[key] = self._requests.labels(venue, outcome)
        child.inc()

    def shown(self, venue: str, outcome: str) -> None:
        self._messages.labels(venue, outcome).inc()
