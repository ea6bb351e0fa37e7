"""Streams against the simulator over real sockets, with waits short enough for a test."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Collection, Mapping
from typing import Any

from prometheus_client import CollectorRegistry

from core.clock import SystemClock
from core.ops import Ops
from core.settings import SimulatorSettings
from core.types import Pair
from simulator import Simulator
from simulator.faults import parse_faults
from sources import load_catalogue
from sources.connection import StreamPolicy
from sources.streams import Streams, StreamState
from tests.support.fetchers import QUIET
from tests.support.wait import until

CATALOGUE = load_catalogue()
STREAMED = tuple(name for name, entry in CATALOGUE.items() if entry.stream)
QUICK = StreamPolicy(
    connect_timeout_s=1.0, subscribe_timeout_s=1.5, backoff_s=0.02, max_backoff_s=0.2, silence_s=1.5, garbage=6
)
"""A client that loses patience in a second and a half. It pings in half of that."""


@contextlib.asynccontextmanager
async def simulated(*venues: str, tick_ms: int = 50) -> AsyncIterator[Simulator]:
    """The simulator with these venues only, whose prices move every tick."""
    simulator = Simulator(
        SimulatorSettings(port=0, tick_ms=tick_ms),
        clock=SystemClock(),
        logger=QUIET,
        ops=Ops("simulator", "test"),
        venues=venues,
        catalogue=CATALOGUE,
    )
    async with simulator.run():
        yield simulator


@contextlib.asynccontextmanager
async def streaming(
    urls: Mapping[str, str], pairs: Mapping[str, Collection[Pair]], *, policy: StreamPolicy = QUICK, **options: Any
) -> AsyncIterator[Streams]:
    """`Streams` of these pairs by source, running."""
    options = {"registry": CollectorRegistry(), "rng": random.Random(1)} | options
    streams = Streams(CATALOGUE, clock=SystemClock(), urls=urls, policy=policy, logger=QUIET, **options)
    for source, each in pairs.items():
        streams.want(source, each)
    task = asyncio.create_task(streams.run())
    try:
        await until(lambda: len(streams.states()) == len(pairs))
        yield streams
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@contextlib.asynccontextmanager
async def fault(simulator: Simulator, venue: str, **what: object) -> AsyncIterator[None]:
    """`venue` has this fault while the block runs."""
    simulator.faults.set(venue, parse_faults(dict(what)))
    await simulator.apply_faults()
    try:
        yield
    finally:
        simulator.faults.set(venue, ())
        await simulator.apply_faults()


def state(streams: Streams, source: str) -> StreamState:
    """How this source's stream stands. It must be running."""
    return next(each for each in streams.states() if each.source == source)


def sample(registry: CollectorRegistry, name: str, **labels: str) -> float:
    """A metric's value; 0 where it has none so far."""
    return registry.get_sample_value(name, labels) or 0.0
