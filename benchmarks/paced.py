"""Twenty attempts a second over one-feed groups, for a while: the whole system as processes over RabbitMQ and anvil.

Requests go out on a fixed beat, whether or not the last ones are answered, each for another group than the one before,
and their times count from the beat: a system that falls behind shows it. The fetchers answer from what they have:
quotes that venues streamed, where they stream, else requests. Beside it stands a GET that asks nobody, on the same beat
and after it: how long the machine takes for next to nothing.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import psutil

from benchmarks.figures import Figures, figures, machine, ms, percentile, table
from benchmarks.refresh import PACKAGES, anvil_or_fail, rabbitmq_or_fail
from tests.conftest import POSTGRES_URL, RABBITMQ_URL
from tests.e2e.system import System
from tests.support.databases import own_database_sync

RATE_S = 20
BURST = 500
"""Refreshes of one feed at once, each over a connection that stands already: one attempt is to answer all."""
SECONDS = 30
WARM_UP_S, IDLE_S = 5, 5
P99_MS = 250
"""Target."""
DOLLARS = ("BTC", "ETH", "SOL", "DOGE")
SOURCES = {
    "fetcher-a": ("coinbase", "kraken", "bitstamp", "gemini"),
    "fetcher-b": ("bitstamp", "gemini", "kraken", "bitfinex"),
    "fetcher-c": ("bitfinex", "kraken", "gemini", "coinbase"),
    "fetcher-d": ("bitstamp", "coinbase", "kraken", "bitfinex"),
}


@dataclass
class Seen:
    """From beat to answer, in seconds; the attempts that answered; what was refused, by its code."""

    samples: list[float] = field(default_factory=list)
    attempts: set[str] = field(default_factory=set)
    refused: Counter[str] = field(default_factory=Counter)


def configuration(groups: int) -> str:
    """`fairmark.toml` with so many groups of one feed."""
    quoted = {name: ", ".join(f'"{each}"' for each in listed) for name, listed in SOURCES.items()}
    fetchers = "".join(f"[fetchers.{name}]\nsources = [{listed}]\n" for name, listed in quoted.items())
    feeds = "".join(f'[[feeds]]\npair = "{name}/USD"\nheartbeat_s = 3600\n' for name in DOLLARS[:groups])
    whole = "".join(f'[groups.{name.lower()}]\nfeeds = ["{name}/USD"]\nmax_age_s = 60\n' for name in DOLLARS[:groups])
    return f'mode = "test"\n{whole}{fetchers}{feeds}'


def run(*, seconds: int | None = None, groups: int = len(DOLLARS)) -> tuple[str, dict[str, Any]]:
    """Measure; the report as Markdown, and the figures. Raises `CannotMeasureError` where a server is missing."""
    anvil = anvil_or_fail()
    rabbitmq_or_fail()
    line = machine(*PACKAGES)
    with tempfile.TemporaryDirectory(prefix="fairmark-bench-") as folder, _store() as store:
        system = System(
            Path(folder),
            anvil,
            RABBITMQ_URL,
            configuration(groups),
            FAIRMARK_AGGREGATOR__HEARTBEATS="false",
            FAIRMARK_AGGREGATOR__MIN_INTERVAL_MS="0",
            FAIRMARK_AGGREGATOR__DEADLINE_MS="800",
            **store,
        )
        try:
            system.start_chain()
            system.start_simulator()
            system.deploy()
            system.start_services()
            asyncio.run(_beat(system.bff, WARM_UP_S, groups))
            before, worked = _requests(system), _worked(system)
            seen = asyncio.run(_beat(system.bff, seconds or SECONDS, groups))
            requests = (_requests(system) - before) / max(len(seen.attempts), 1)
            cpu = {name: (each - worked[name]) / max(len(seen.attempts), 1) for name, each in _worked(system).items()}
            burst = asyncio.run(_burst(system.bff))
            idle = asyncio.run(_beat(system.bff, IDLE_S, 0))
            steps = _steps(system, seen)
        finally:
            system.close()
    each = figures(seen.samples) if seen.samples else None
    text = [
        line,
        f"{RATE_S} refreshes a second over {groups} groups of one feed; from beat to answer, in milliseconds. "
        f"Requests that four fetchers made to sources, for an attempt: {requests:.2f} (the rest was streamed).",
        "",
        table(
            ("", "asked", "refused", "attempts", "p50", "p90", "p99", "max", "p99 ÷ target"),
            [
                ("refreshes", *_row(seen, each)),
                (
                    f"{BURST} at once, of one feed",
                    *_row(burst, figures(burst.samples) if burst.samples else None)[:-1],
                    "",
                ),
                ("a GET that asks nobody", *_row(idle, figures(idle.samples))[:-1], ""),
            ],
        ),
        "",
        "Where an attempt spends its time: p50 and p99 in milliseconds, by the aggregator's records.",
        "",
        table(("", "p50", "p99"), [(step, ms(p50), ms(p99)) for step, (p50, p99) in steps.items()]),
        "",
        "What an attempt costs, in milliseconds of a processor, whatever else the machine does: "
        + ", ".join(f"{name} {ms(took * 1000)}" for name, took in cpu.items())
        + f"; together {ms(sum(cpu.values()) * 1000)}, so {RATE_S} a second take {sum(cpu.values()) * RATE_S:.2f} "
        "processors, and what RabbitMQ and PostgreSQL take.",
        *(f"\nRefused: {count} × {code}" for code, count in seen.refused.items()),
    ]
    result = {
        "machine": line,
        "requests": requests,
        "cpu": cpu,
        "figures": each,
        "refused": dict(seen.refused),
        "burst": {"attempts": len(burst.attempts), "answered": len(burst.samples), "refused": dict(burst.refused)},
        "steps": steps,
    }
    return "\n".join(text), result


@contextmanager
def _store() -> Iterator[dict[str, str]]:
    """A database of its own, where there is a PostgreSQL; else SQLite."""
    try:
        with own_database_sync(POSTGRES_URL) as url:
            yield {"FAIRMARK_STORE__URL": url}
    except OSError:
        yield {}


def _row(seen: Seen, each: Figures | None) -> tuple[object, ...]:
    refused = sum(seen.refused.values())
    counts = (len(seen.samples) + refused, refused, len(seen.attempts))
    if each is None:
        return (*counts, "", "", "", "", "no new price")
    return (*counts, ms(each.p50), ms(each.p90), ms(each.p99), ms(each.max), f"{each.p99 / P99_MS:.2f}")


async def _beat(url: str, seconds: float, groups: int) -> Seen:
    """groups: 0 for requests that ask nobody."""
    seen = Seen()
    connector = aiohttp.TCPConnector(limit=200)
    async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as session:
        started = time.perf_counter()
        asked = []
        for number in range(int(seconds * RATE_S)):
            due = started + number / RATE_S
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            slug = f"{DOLLARS[number % groups].lower()}-usd" if groups else ""
            what = ("POST", f"{url}/v1/prices/{slug}/refresh") if groups else ("GET", f"{url}/live")
            asked.append(asyncio.create_task(_ask(session, *what, due, seen)))
        await asyncio.gather(*asked)
    return seen


async def _burst(url: str) -> Seen:
    seen = Seen()
    connector = aiohttp.TCPConnector(limit=BURST)
    async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as session:
        for what in (("GET", f"{url}/live"), ("POST", f"{url}/v1/prices/{DOLLARS[0].lower()}-usd/refresh")):
            seen, due = Seen(), time.perf_counter()
            await asyncio.gather(*(_ask(session, *what, due, seen) for _ in range(BURST)))
    return seen


async def _ask(session: aiohttp.ClientSession, method: str, url: str, due: float, seen: Seen) -> None:
    async with session.request(method, url) as answer:
        body = await answer.json(content_type=None)
    if answer.status != 200:
        seen.refused[str(body.get("code"))] += 1
        return
    seen.samples.append(time.perf_counter() - due)
    seen.attempts.add(str(body.get("attempt")))


def _requests(system: System) -> float:
    """How many requests the fetchers have made to sources."""
    total = 0.0
    for name in SOURCES:
        lines = system.client.get(f"http://127.0.0.1:{system.ports[name]}/metrics").text.splitlines()
        total += sum(
            float(each.rpartition(" ")[2]) for each in lines if each.startswith("fairmark_sources_requests_total")
        )
    return total


def _worked(system: System) -> dict[str, float]:
    """Seconds of a processor that each process has had."""
    times = {name: psutil.Process(each.pid).cpu_times() for name, each in system.processes.items()}
    return {name: each.user + each.system for name, each in times.items()}


def _steps(system: System, seen: Seen) -> dict[str, tuple[float, float]]:
    steps: dict[str, list[float]] = {}
    for attempt in list(seen.attempts)[:100]:
        record = system.get(f"/v1/attempts/{attempt}").json()
        for step, took in record["timings_ms"].items():
            steps.setdefault(step, []).append(took)
        for each in record["reports"]:
            steps.setdefault("a fetcher's own time", []).append(each["elapsed_ms"])
    return {step: (round(percentile(took, 50), 2), round(percentile(took, 99), 2)) for step, took in steps.items()}
