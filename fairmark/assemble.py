"""From settings to running services: the one place that knows every room.

Each `run_…` builds one service out of the rooms' parts, serves its HTTP endpoints, and runs until it is cancelled. The
embedded tree and the separate processes call the very same functions; they differ in configuration only.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

from fastapi import FastAPI

from aggregator.leadership import Leadership
from aggregator.ownership import Ownership
from aggregator.service import AggregatorService
from aggregator.store import SqlAttemptStore
from bff.service import BffService
from broker import Bus
from broker.memory import MemoryBus
from broker.rabbitmq import RabbitBus
from contracts.client import OracleClient
from contracts.errors import RpcUnavailableError
from contracts.report import LocalSigner
from core.documents import SqlDocuments
from core.errors import ConfigurationError
from core.logs import get_logger
from core.ops import Ops, ops_app, serve
from core.settings import Settings, secret, secrets_of
from core.types import Mode
from fairmark.access import aggregator_key, chain_client, fetcher_key, reporter_signer, strategy_key
from fairmark.basics import instance_name, make_clock, make_data_dir, store_url
from fairmark.source_states import show_sources
from fetchers.report_store import SqlReportStore
from fetchers.rules import PIPELINE as QUOTES
from fetchers.service import FetcherService
from market.service import MarketService
from market.store import SqlMinuteStore
from signals.decisions import Decisions
from simulator.lines import LineServer
from simulator.service import Simulator
from sources import (
    ChangeTracker,
    QuarantinePolicy,
    RetryPolicy,
    SourcePool,
    Streams,
    load_catalogue,
    simulator_base_urls,
    simulator_stream_urls,
)

LONGEST_SAMPLE_S = 5.0
"""A strategy on chain looks once a period, and so often at the least, whether its decision calls for a round."""
Announce = Callable[[str, int], None]
"""Called with a service's name and the port it listens on, once it does."""


def _quiet(_name: str, _port: int) -> None:
    return None


def make_bus(settings: Settings, ops: Ops) -> Bus:
    """The bus of one process. Raises `ConfigurationError`: an in-process bus cannot join separate processes."""
    if settings.broker.kind == "memory":
        raise ConfigurationError(
            ["broker.kind: 'memory' joins nothing but `fairmark up`; a service of its own needs 'rabbitmq'"]
        )
    return RabbitBus(
        settings.broker.urls,
        settings.broker.namespace,
        publish_timeout_s=settings.broker.publish_timeout_s,
        logger=get_logger("broker", ops.mode),
        registry=ops.registry,
    )


def make_memory_bus() -> MemoryBus:
    return MemoryBus()


@contextlib.asynccontextmanager
async def _bus(settings: Settings, ops: Ops, shared: Bus | None) -> AsyncIterator[Bus]:
    if shared is not None:
        yield shared
        return
    bus = make_bus(settings, ops)
    await bus.start()
    try:
        yield bus
    finally:
        await bus.close()


async def run_fetcher(
    settings: Settings,
    name: str,
    *,
    bus: Bus | None = None,
    announce: Announce = _quiet,
    ops: Ops | None = None,
    extend: Callable[[FastAPI], None] | None = None,
) -> None:
    """One fetcher: its sources, its signer, its report store, its place on the bus.

    ops: its health, where the caller wants to see it. extend: adds routes to its operators' endpoints.
    """
    mode = settings.named_mode()
    key = fetcher_key(settings, name)
    own = settings.fetchers[name]
    signer = reporter_signer(settings, name, key, own.address)
    clock = make_clock(settings)
    ops = ops or Ops(name, mode, clock)
    catalogue = load_catalogue()
    if unknown := [source for source in own.sources if source not in catalogue]:
        raise ConfigurationError(
            [f"fetchers.{name}.sources: {s} is not in sources/catalogue" for s in unknown], "configuration"
        )
    app = ops_app(ops)
    if extend is not None:
        extend(app)
    async with contextlib.AsyncExitStack() as stack:
        port = await stack.enter_async_context(serve(app, own.host, own.port, name))
        announce(name, port)
        chain = await stack.enter_async_context(chain_client(settings, mode, own.chain_url))
        joined = await stack.enter_async_context(_bus(settings, ops, bus))
        base_urls = await simulator_base_urls(settings.simulator.control_url) if mode is Mode.TEST else None
        pool = SourcePool(
            catalogue,
            own.sources,
            base_urls=base_urls,
            clock=clock,
            registry=ops.registry,
            policy=retry_policy(settings),
            timeouts=settings.sources.timeouts,
            shares=limit_shares(settings, own.sources),
            quarantine=quarantine_policy(settings),
        )
        stack.push_async_callback(pool.close)
        changes = ChangeTracker()
        streams = None
        if settings.streams.enabled:
            streams = Streams(
                catalogue,
                urls=await simulator_stream_urls(settings.simulator.control_url) if mode is Mode.TEST else None,
                clock=clock,
                registry=ops.registry,
                fresh_ms=round(settings.streams.fresh_s * 1000),
                changes=changes,
                logger=get_logger(name, mode),
            )
        show_sources(app, name, mode.value, pool.status, tuple if streams is None else streams.states)
        store = SqlReportStore(store_url(settings, name))
        stack.push_async_callback(store.close)
        await store.start()
        groups = [group for group in settings.all_groups() if name in settings.reporters(group.name)]
        service = FetcherService(
            name=name,
            instance=instance_name(),
            groups=groups,
            sources=own.sources,
            catalogue=catalogue,
            pool=pool,
            bus=joined,
            chain=chain,
            signer=signer,
            store=store,
            clock=clock,
            mode=mode,
            ops=ops,
            logger=get_logger(name, mode),
            sample_s=own.sample_s,
            clock_offsets=pool.clock_offsets,
            hedge_after=pool.hedge_s,
            status=pool.status,
            streams=streams,
            changes=changes,
            glance_s=settings.streams.sample_s,
            rules=QUOTES.ordered(settings.validation.quotes),
            drain_s=own.drain_s,
        )
        await service.run()


def limit_shares(settings: Settings, sources: Sequence[str]) -> dict[str, int]:
    """By source, how many processes or fetchers share what it allows this address."""
    share = settings.sources.share
    if share != "fetchers":
        return dict.fromkeys(sources, share)
    naming = Counter(source for each in settings.fetchers.values() for source in set(each.sources))
    return {source: naming[source] for source in sources}


async def run_strategy_on_chain(
    settings: Settings, name: str, group: str, decisions: Decisions, *, ops: Ops, host: str, port: int
) -> None:
    """A strategy as the reporter of the signal that `group` puts on chain: jobs in, reports signed with its key out.

    ops: its health. Raises `ConfigurationError` where it is none of the group's reporters.
    """
    if name not in settings.reporters(group):
        known = ", ".join(settings.reporters(group)) or "none; list it as [strategies.NAME]"
        raise ConfigurationError([f"groups.{group}.reporters: {name} is none of them: {known}"], "configuration")
    mode, clock, logger = settings.named_mode(), make_clock(settings), get_logger(name, settings.mode)
    own = settings.strategies[name]
    signer = reporter_signer(settings, name, strategy_key(settings, name), own.address)
    async with contextlib.AsyncExitStack() as stack:
        listening = await stack.enter_async_context(serve(ops_app(ops), host, port, name))
        logger.info("strategy_on_chain", address=signer.address, group=group, port=listening)
        chain = await stack.enter_async_context(chain_client(settings, mode, own.chain_url))
        joined = await stack.enter_async_context(_bus(settings, ops, None))
        store = SqlReportStore(store_url(settings, name))
        stack.push_async_callback(store.close)
        service = FetcherService(
            name=name,
            instance=instance_name(),
            groups=[settings.group(group)],
            sources=[name],
            catalogue={name: decisions},
            pool=decisions,
            bus=joined,
            chain=chain,
            signer=signer,
            store=store,
            clock=clock,
            mode=mode,
            ops=ops,
            logger=logger,
            sample_s=min(decisions.schedule.period_ms / 1000, LONGEST_SAMPLE_S),
        )
        stack.push_async_callback(decisions.close)
        deciding = asyncio.create_task(decisions.run(), name=f"{name}:decisions")
        stack.callback(deciding.cancel)
        await service.run()


def retry_policy(settings: Settings) -> RetryPolicy:
    own = settings.sources
    return RetryPolicy(try_timeout_s=own.timeout_s, max_tries=own.max_tries, retry_share=own.retry_share)


def quarantine_policy(settings: Settings) -> QuarantinePolicy:
    own = settings.sources
    return QuarantinePolicy(
        failures=own.quarantine_after,
        pause_s=min(own.probe_pause_s, own.longest_probe_pause_s),
        longest_pause_s=own.longest_probe_pause_s,
    )


async def run_aggregator(settings: Settings, *, bus: Bus | None = None, announce: Announce = _quiet) -> None:
    """One aggregator: rounds, their record, their HTTP interface."""
    mode = settings.named_mode()
    own = settings.aggregator
    _, token = secrets_of(settings, ["aggregator.key", "aggregator.token"])
    key = aggregator_key(settings)
    clock = make_clock(settings)
    ops = Ops(own.name, mode, clock)
    async with contextlib.AsyncExitStack() as stack:
        chain = await stack.enter_async_context(chain_client(settings, mode))
        joined = await stack.enter_async_context(_bus(settings, ops, bus))
        url, logger = store_url(settings, own.name), get_logger(own.name, mode)
        store = SqlAttemptStore(url)
        await store.open()
        relayer = LocalSigner(key).address
        groups = [one for one in settings.all_groups() if own.groups is None or one.name in own.groups]
        service = AggregatorService(
            settings=own,
            name=own.name,
            instance=instance_name(),
            groups=groups,
            bus=joined,
            chain=chain,
            submit_key=key,
            token=token,
            store=store,
            clock=clock,
            mode=mode,
            ops=ops,
            logger=logger,
            submission=settings.chain.submission,
            order=settings.validation.reports,
            ownership=Ownership(url, chain_id=settings.chain.chain_id, address=relayer, logger=logger),
            leadership=lambda metrics: Leadership(
                url,
                deployment=chain.deployment.id,
                groups=[one.name for one in groups],
                clock=clock,
                metrics=metrics,
                logger=logger,
            ),
            register=SqlDocuments(url, table="fairmark_reporters"),
        )
        _watch_nodes(ops, chain)
        port = await stack.enter_async_context(serve(service.app, own.host, own.port, own.name))
        announce(own.name, port)
        await service.run()


def _watch_nodes(ops: Ops, chain: OracleClient) -> None:
    """Let `/health` name each of several nodes that fails, while another answers."""

    async def check() -> str:
        health = chain.rpc.health()
        if ill := {url: state for url, state in health.items() if state != "up"}:
            raise RpcUnavailableError("; ".join(f"{url}: {state}" for url, state in ill.items()))
        return f"{len(health)} of {len(health)} up"

    if len(chain.rpc.health()) > 1:
        ops.depend("nodes", check, required=False)


async def run_bff(settings: Settings, *, announce: Announce = _quiet) -> None:
    """What clients see."""
    mode = settings.named_mode()
    own = settings.bff
    token = secret(own.token, own.token_file, "bff.token")
    clock = make_clock(settings)
    ops = Ops("bff", mode, clock)
    async with contextlib.AsyncExitStack() as stack:
        chain = await stack.enter_async_context(chain_client(settings, mode))
        service = BffService(
            settings=own,
            groups=settings.all_groups(),
            chain=chain,
            mode=mode,
            clock=clock,
            ops=ops,
            logger=get_logger("bff", mode),
            token=token,
        )
        _watch_nodes(ops, chain)
        port = await stack.enter_async_context(serve(service.app, own.host, own.port, "bff"))
        announce("bff", port)
        await service.run()


async def run_market(settings: Settings, *, announce: Announce = _quiet, ops: Ops | None = None) -> None:
    """Market data: the window of the last minutes, minutes in the database, their API.

    ops: its health, where the caller wants to see it. Its mode can be switched while it runs; it begins in the
    configured one.
    """
    mode = settings.named_mode()
    own = settings.market
    token = secret(own.token, own.token_file, "market.token") if own.token or own.token_file else ""
    clock = make_clock(settings)
    ops = ops or Ops("market", mode, clock)
    make_data_dir(settings)
    service = MarketService(
        settings=own,
        mode=mode,
        store=SqlMinuteStore(settings.market_store_url(), partition=own.partition),
        spool=settings.data_dir / "market-spool.jsonl",
        catalogue=load_catalogue(),
        simulator=settings.simulator.control_url,
        clock=clock,
        ops=ops,
        token=token,
    )
    async with serve(service.app, own.host, own.port, "market") as port:
        announce("market", port)
        await service.run()


async def run_simulator(settings: Settings, *, recordings: Path | None = None, tcp: bool = False) -> None:
    """Test mode's exchanges. tcp: also those that send lines of JSON over TCP."""
    clock = make_clock(settings)
    ops = Ops("simulator", Mode.TEST, clock)
    simulator = Simulator(
        settings.simulator, clock=clock, logger=get_logger("simulator", Mode.TEST), ops=ops, recordings=recordings
    )
    async with contextlib.AsyncExitStack() as stack:
        if tcp:
            lines = LineServer(
                simulator.board,
                settings.market.symbols,
                host=settings.simulator.host,
                first_port=settings.simulator.tcp_port,
                rate=settings.simulator.tcp_rate,
                seed=settings.simulator.seed,
                clock=clock,
                logger=get_logger("simulator", Mode.TEST),
            )
            await stack.enter_async_context(lines.run())
        await stack.enter_async_context(simulator.run())
        await asyncio.Event().wait()
