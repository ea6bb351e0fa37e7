"""The smallest real Fairmark in one process: simulator, sources over HTTP, fetchers, aggregator, anvil."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
from prometheus_client import generate_latest

from aggregator.attempts import AttemptRecord
from aggregator.service import AggregatorService
from broker.memory import MemoryBus
from contracts import LocalSigner, OracleClient
from contracts.deploy import deploy
from core import codec
from core.clock import SystemClock
from core.ops import Ops, serve
from core.settings import AggregatorSettings, SimulatorSettings
from core.types import Group, Mode, Quote, SourceFailure
from fetchers import FetcherService
from simulator import Simulator
from simulator.faults import parse_faults
from sources import ChangeTracker, SourcePool, Streams, load_catalogue
from sources.connection import StreamPolicy
from tests.support.aggregator import MemoryStore
from tests.support.fetchers import QUIET, MemoryReportStore
from tests.support.nodes import node
from tests.support.wait import until

CATALOGUE = load_catalogue()
DEPLOYER, RELAYER = "d1" * 32, "d2" * 32
SIGNERS = [LocalSigner(f"{number:064x}") for number in range(1, 5)]
DEADLINE_MS, GRACE_MS = 6_000, 5_000
"""A source's three tries of 1.5 s fit in, on any machine: it fails as what it is, and not as late."""
FETCHERS = tuple(f"fetcher-{number}" for number in range(4))


@dataclass
class Seen:
    """A round's record, and the fetchers that took part in it."""

    record: AttemptRecord
    every: Sequence[Ops]

    def outcomes(self, source: str) -> dict[str, Quote | SourceFailure]:
        """By fetcher, what its report says of `source`, as far as it was asked."""
        return {
            report.fetcher: each
            for report in self.record.reports
            for each in (*report.quotes, *report.failures)
            if each.source == source
        }

    def counted(self, fetcher: str, metric: str, source: str) -> set[str]:
        """The outcomes that `metric` counts for `source` by now: a request that was outrun ends after its round."""
        (ops,) = [each for each in self.every if each.service == fetcher]
        text = generate_latest(ops.registry).decode()
        found = re.findall(rf'^{metric}_total{{outcome="(\w+)",source="{source}"}} (\S+)$', text, re.M)
        return {outcome for outcome, count in found if float(count) > 0}


@dataclass
class Rounds:
    """A chain, an aggregator and a simulator; each round has fetchers of its own, which remember nothing."""

    group: Group
    simulator: Simulator
    client: OracleClient
    bus: MemoryBus
    http: httpx.AsyncClient

    @contextlib.asynccontextmanager
    async def fetchers(
        self, sources: Sequence[str], urls: Mapping[str, str] | None = None, streaming: StreamPolicy | None = None
    ) -> AsyncIterator[list[Ops]]:
        """All four, running. urls: where single sources are found instead of at the simulator's venues. streaming: they
        read streams too, so patiently."""
        every = [Ops(name, Mode.TEST) for name in FETCHERS]
        async with contextlib.AsyncExitStack() as stack:
            tasks = []
            for ops, signer in zip(every, SIGNERS, strict=True):
                pool = SourcePool(
                    CATALOGUE,
                    sources,
                    base_urls={**self.simulator.venue_urls, **(urls or {})},
                    clock=SystemClock(),
                    registry=ops.registry,
                    logger=QUIET,
                )
                stack.push_async_callback(pool.close)
                changes = ChangeTracker()
                streams = None
                if streaming is not None:
                    streams = Streams(
                        CATALOGUE,
                        clock=SystemClock(),
                        registry=ops.registry,
                        urls=self.simulator.stream_urls(),
                        policy=streaming,
                        changes=changes,
                        logger=QUIET,
                    )
                service = FetcherService(
                    name=ops.service,
                    instance="one",
                    groups=[self.group],
                    sources=sources,
                    catalogue=CATALOGUE,
                    pool=pool,
                    bus=self.bus,
                    chain=self.client,
                    signer=signer,
                    store=MemoryReportStore(),
                    clock=SystemClock(),
                    mode=Mode.TEST,
                    ops=ops,
                    logger=QUIET,
                    sample_s=0,
                    hedge_after=pool.hedge_s,
                    status=pool.status,
                    streams=streams,
                    changes=changes,
                )
                tasks.append(asyncio.create_task(service.run()))
            try:
                await until(lambda: all(ops.ready for ops in every))
                yield every
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks)

    async def round(self, every: Sequence[Ops]) -> Seen:
        """One attempt, to its end."""
        answer = await self.http.post(f"/v1/groups/{self.group.name}/refresh")
        assert answer.status_code == 200, answer.text
        attempt = answer.json()["id"]
        kept = await self.http.get(f"/v1/attempts/{attempt}")
        return Seen(codec.decode(kept.content, AttemptRecord), every)

    @contextlib.asynccontextmanager
    async def fault(self, *venues: str, **what: object) -> AsyncIterator[None]:
        """`venues` have this fault while the block runs."""
        for venue in venues:
            self.simulator.faults.set(venue, parse_faults(dict(what)))
        await self.simulator.apply_faults()
        try:
            yield
        finally:
            for venue in venues:
                self.simulator.faults.set(venue, ())
            await self.simulator.apply_faults()

    def found(self, ops: Ops, metric: str, **labels: str) -> float:
        """One of a fetcher's metrics now; 0 where it has no such value."""
        return ops.registry.get_sample_value(metric, labels) or 0.0


@contextlib.asynccontextmanager
async def rounds(folder: Path, group: Group, *, tick_ms: int = 100) -> AsyncIterator[Rounds]:
    """Everything but the fetchers, running."""
    async with contextlib.AsyncExitStack() as stack:
        addresses = [LocalSigner(key).address for key in (DEPLOYER, RELAYER)]
        url = await stack.enter_async_context(node("anvil", addresses))
        bus = MemoryBus()
        await bus.start()
        stack.push_async_callback(bus.close)
        record = await deploy(
            url,
            DEPLOYER,
            mode=Mode.TEST,
            groups=[group],
            reporters={group.name: [signer.address for signer in SIGNERS]},
            deployments_dir=folder / "deployments",
        )
        client = await OracleClient.connect(url, record, Mode.TEST)
        stack.push_async_callback(client.close)
        simulator = Simulator(
            SimulatorSettings(port=0, tick_ms=tick_ms),
            clock=SystemClock(),
            logger=QUIET,
            ops=Ops("simulator", Mode.TEST),
        )
        await stack.enter_async_context(simulator.run())
        ops = Ops("aggregator", Mode.TEST)
        service = AggregatorService(
            settings=AggregatorSettings(
                heartbeats=False, min_interval_ms=0, deadline_ms=DEADLINE_MS, grace_ms=GRACE_MS
            ),
            name="aggregator",
            instance="1",
            groups=[group],
            bus=bus,
            chain=client,
            submit_key=RELAYER,
            store=MemoryStore(),  # a disk that is slow in a moment would fail a round that is about something else
            token="word",
            clock=SystemClock(),
            mode=Mode.TEST,
            ops=ops,
            logger=QUIET,
        )
        task = asyncio.create_task(service.run())
        try:
            await until(lambda: ops.ready)
            async with serve(service.app, "127.0.0.1", 0, "aggregator") as port:
                headers = {"authorization": "Bearer word"}
                base = f"http://127.0.0.1:{port}"
                async with httpx.AsyncClient(base_url=base, headers=headers, timeout=30, trust_env=False) as http:
                    yield Rounds(group, simulator, client, bus, http)
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
