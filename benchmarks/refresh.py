"""The whole system as separate processes over RabbitMQ and anvil, from POST to answer, one refresh after the other.

The simulated sources answer at once; then one of them hangs for ever, then two, so that some fetchers are left with too
few, then one fetcher is dead. What the aggregator records of each step stands beside what the client measured.
"""

from __future__ import annotations

import http.client
import json
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from benchmarks.figures import CannotMeasureError, Figures, figures, machine, ms, percentile, table
from tests.conftest import RABBITMQ_URL, anvil_binary
from tests.e2e.config import PAIRS, SOURCES, configuration
from tests.e2e.system import System

REFRESHES = 300
WARM_UP = 40
WITH_FAULT = 40
LOOKED_INTO = 100
MOST_REFUSED = 10
"""Refusals after which a series ends: something is wrong, and it is told what."""
PACKAGES = ("uvloop", "uvicorn", "fastapi", "pika", "web3", "aiohttp", "msgspec")

DEADLINE_MS = 800
P50_MS, P99_MS, MAX_MS = 40, 120, DEADLINE_MS + 100
"""Targets: one feed with nothing wrong, and the longest of any with something wrong."""

IN_DOLLARS = {
    "fetcher-a": ("coinbase", "kraken", "bitstamp", "gemini"),
    "fetcher-b": ("bitstamp", "gemini", "kraken", "cryptocom"),
    "fetcher-c": ("bitfinex", "kraken", "gemini", "coinbase"),
    "fetcher-d": ("bitstamp", "coinbase", "kraken", "bitfinex"),
}
"""Sources with a BTC/USD market of their own, so that one feed is three requests a fetcher and no conversion rates."""
GROUPS = {
    "one feed": configuration(pairs=("BTC/USD",), sources=IN_DOLLARS),
    "seven feeds": configuration(pairs=PAIRS, sources=SOURCES),
}
HANGING = {"a source hangs": ("kraken",), "two sources hang": ("kraken", "bitstamp")}
"""kraken is among the first three of every fetcher; without bitstamp too, nobody is left to take their places."""


class Refused(Exception):
    """A refresh that brought no new price. attempt: its id, where there is one."""

    def __init__(self, status: int, body: bytes) -> None:
        problem = json.loads(body)
        self.attempt: str | None = problem.get("attempt")
        super().__init__(f"{status} {problem.get('code')}: {problem.get('detail')}")


@dataclass
class Series:
    """What the client measured, in seconds, and the attempts that answered it; and those that gave no new price."""

    samples: list[float] = field(default_factory=list)
    attempts: list[str] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)


@dataclass(frozen=True)
class Outcome:
    """One group under one condition. steps: the p50 of each step in milliseconds, by the aggregator's records.
    refused: of each refresh that brought no new price, what was said and what the record says of it."""

    figures: Figures | None
    steps: dict[str, float]
    refused: list[str]


class Client:
    """A connection kept alive, as close to the wire as Python gets: what is measured is the other side."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=15)

    def refresh(self, slug: str) -> str:
        """The id of the attempt that answered. Raises `Refused` when it is no new price."""
        status, body = self._send("POST", f"/v1/prices/{slug}/refresh")
        if status != 200:
            raise Refused(status, body)
        return str(json.loads(body)["attempt"])

    def attempt(self, attempt: str) -> Any:
        return json.loads(self._send("GET", f"/v1/attempts/{attempt}")[1])

    def live(self) -> None:
        self._send("GET", "/live")

    def close(self) -> None:
        self._connection.close()

    def _send(self, method: str, path: str) -> tuple[int, bytes]:
        self._connection.request(method, path)
        response = self._connection.getresponse()
        return response.status, response.read()


def run(*, refreshes: int | None = None) -> tuple[str, dict[str, Any]]:
    """Measure; the report as Markdown, and the figures. Raises `CannotMeasureError` where a server is missing."""
    anvil = anvil_or_fail()
    rabbitmq_or_fail()
    line = machine(*PACKAGES)
    count = refreshes or REFRESHES
    results = {name: _measure(config, anvil, count) for name, config in GROUPS.items()}
    text = [
        line,
        "One client, one refresh after the other; POST to answer, in milliseconds.",
        "",
        _shown(results),
        "",
        "Where a refresh with nothing wrong spends its time: p50 in milliseconds, by the aggregator's records.",
        "",
        _steps_shown(results),
        *(
            f"\nNo new price ({group}, {condition}): {what}"
            for group, outcomes in results.items()
            for condition, outcome in outcomes.items()
            for what in outcome.refused
        ),
    ]
    return "\n".join(text), {"machine": line, "groups": results}


def _measure(config: str, anvil: str, refreshes: int) -> dict[str, Outcome]:
    with _running(config, anvil) as (system, client):
        for _ in range(min(WARM_UP, refreshes)):
            client.refresh("BTC-USD")
        faulty = min(WITH_FAULT, refreshes)
        outcomes = {"nothing wrong": _looked_into(client, _refreshed(client, refreshes))}
        outcomes["nothing wrong"].steps["a GET that asks nobody"] = _timed_p50(client.live)
        for name, sources in HANGING.items():
            with _faults(system, sources):
                outcomes[name] = _looked_into(client, _refreshed(client, faulty))
        system.kill("fetcher-d")
        outcomes["a fetcher is dead"] = _looked_into(client, _refreshed(client, faulty))
        return outcomes


@contextmanager
def _running(config: str, anvil: str) -> Iterator[tuple[System, Client]]:
    with tempfile.TemporaryDirectory(prefix="fairmark-bench-") as folder:
        system = System(
            Path(folder),
            anvil,
            RABBITMQ_URL,
            config,
            FAIRMARK_AGGREGATOR__HEARTBEATS="false",
            FAIRMARK_AGGREGATOR__MIN_INTERVAL_MS="0",
            FAIRMARK_AGGREGATOR__DEADLINE_MS=str(DEADLINE_MS),
        )
        client = Client(system.bff)
        try:
            system.start_chain()
            system.start_simulator()
            system.deploy()
            system.start_services()
            yield system, client
        finally:
            client.close()
            system.close()


@contextmanager
def _faults(system: System, sources: Sequence[str]) -> Iterator[None]:
    hanging = {source: {"kind": "hang"} for source in sources}
    system.client.put(f"{system.simulator}/faults", json=hanging).raise_for_status()
    try:
        yield
    finally:
        system.client.delete(f"{system.simulator}/faults").raise_for_status()


def _refreshed(client: Client, count: int) -> Series:
    series = Series()
    for _ in range(count):
        started = time.perf_counter()
        try:
            attempt = client.refresh("BTC-USD")
        except Refused as refused:
            series.refused.append(refused)
            if len(series.refused) == MOST_REFUSED:
                break
        else:
            series.samples.append(time.perf_counter() - started)
            series.attempts.append(attempt)
    assert len(set(series.attempts)) == len(series.attempts), (
        "a refresh joined the one before it: that is not what is measured"
    )
    return series


def _looked_into(client: Client, series: Series) -> Outcome:
    """With the steps of its last attempts: the aggregator's, the slowest reporter that counted, and what is left."""
    steps: dict[str, list[float]] = {}
    for attempt, sample in list(zip(series.attempts, series.samples, strict=True))[-LOOKED_INTO:]:
        record = client.attempt(attempt)
        for step, took in record["timings_ms"].items():
            steps.setdefault(step, []).append(took)
        counted = [each for each in record["reports"] if each["verdict"] == "included"]
        steps.setdefault("a fetcher's own time", []).extend(each["elapsed_ms"] for each in counted)
        steps.setdefault("outside the attempt", []).append(sample * 1000 - record["timings_ms"]["total"])
    return Outcome(
        figures(series.samples) if series.samples else None,
        {step: round(percentile(took, 50), 2) for step, took in steps.items()},
        [_explained(client, refused) for refused in series.refused],
    )


def _explained(client: Client, refused: Refused) -> str:
    if refused.attempt is None:
        return str(refused)
    record = client.attempt(refused.attempt)
    said = [f"{each['fetcher']} {each['code']} ({each['detail']})" for each in record["refusals"]]
    said += [f"{each['fetcher']} {each['verdict']} after {each['elapsed_ms']} ms" for each in record["reports"]]
    return f"{refused}; {'; '.join(said) or 'nobody reported'}; {record['timings_ms']}"


def _timed_p50(call: Callable[[], None], count: int = 100) -> float:
    samples = []
    for _ in range(count):
        started = time.perf_counter()
        call()
        samples.append(time.perf_counter() - started)
    return figures(samples).p50


def _shown(results: dict[str, dict[str, Outcome]]) -> str:
    rows = []
    for group, outcomes in results.items():
        for condition, outcome in outcomes.items():
            each = outcome.figures
            if each is None:
                rows.append((f"{group}, {condition}", 0, len(outcome.refused), *("",) * 4, "no new price"))
                continue
            rows.append(
                (
                    f"{group}, {condition}",
                    each.count,
                    len(outcome.refused),
                    ms(each.p50),
                    ms(each.p90),
                    ms(each.p99),
                    ms(each.max),
                    _judged(group, condition, each),
                )
            )
    return table(("", "refreshes", "refused", "p50", "p90", "p99", "max", "measured ÷ target"), rows)


def _judged(group: str, condition: str, each: Figures) -> str:
    if condition != "nothing wrong":
        return f"max {each.max / MAX_MS:.2f}"
    if group != "one feed":
        return "no target"
    return f"p50 {each.p50 / P50_MS:.2f}, p99 {each.p99 / P99_MS:.2f}"


def _steps_shown(results: dict[str, dict[str, Outcome]]) -> str:
    calm = {group: outcomes["nothing wrong"].steps for group, outcomes in results.items()}
    steps = list(dict.fromkeys(step for each in calm.values() for step in each))
    return table(
        ("", *calm), [(step, *(ms(each[step]) if step in each else "" for each in calm.values())) for step in steps]
    )


def anvil_or_fail() -> str:
    """The node's program. Raises `CannotMeasureError`."""
    found = anvil_binary()
    if found is None:
        raise CannotMeasureError("no anvil on PATH nor in contracts/node_modules: run `npm ci` in contracts/")
    return found


def rabbitmq_or_fail() -> None:
    """Raises `CannotMeasureError` where none listens."""
    parts = urlsplit(RABBITMQ_URL)
    try:
        socket.create_connection((parts.hostname or "", parts.port or 5672), timeout=2).close()
    except OSError as error:
        raise CannotMeasureError(
            f"no RabbitMQ at {parts.hostname}:{parts.port} ({error}); start one, or name one in TEST_RABBITMQ_URL"
        ) from error
