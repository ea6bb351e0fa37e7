"""From settings to running services: the one place that knows every room.

Each `run_…` builds one service out of the rooms' parts, serves its HTTP endpoints, and runs until it is cancelled. The
embedded tree and the separate processes call the very same functions; they differ in configuration only.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from fastapi import FastAPI
from pydantic import SecretStr

from aggregator.service import AggregatorService
from aggregator.store import SqlAttemptStore
from bff.service import BffService
from broker import Bus
from broker.memory import MemoryBus
from broker.rabbitmq import RabbitBus
from contracts.client import OracleClient
from contracts.deployments import DeploymentRecord, read_record
from contracts.errors import RpcUnavailableError
from contracts.fees import GWEI, FeePolicy
from contracts.keys import is_keystore, read_key, refuse_development_key
from contracts.report import LocalSigner
from core.clock import SystemClock
from core.errors import ConfigurationError, StartError
from core.logs import get_logger
from core.ops import Ops, ops_app, serve
from core.settings import Settings, secret, secrets_of
from core.types import Mode
from fetchers.report_store import SqlReportStore
from fetchers.service import FetcherService
from simulator.service import Simulator
from sources import SourcePool, load_catalogue, simulator_base_urls

Announce = Callable[[str, int], None]
"""Called with a service's name and the port it listens on, once it does."""


def _quiet(_name: str, _port: int) -> None:
    return None


def instance_name() -> str:
    """A name for this process among the instances of its service."""
    return secrets.token_hex(4)


def make_clock(settings: Settings) -> SystemClock:
    return SystemClock(settings.clock_offset_ms)


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


def deployment_record(settings: Settings) -> DeploymentRecord:
    """The record of the contract that the services use. Raises `StartError` when nothing was deployed."""
    folder = settings.chain.deployments_dir
    record = read_record(folder, settings.chain.chain_id)
    if record is None:
        raise StartError(
            f"no deployment for chain {settings.chain.chain_id} in {folder}: run `fairmark deploy` first, "
            "or name the folder with chain.deployments_dir"
        )
    return record


def fee_policy(settings: Settings) -> FeePolicy:
    own = settings.chain.submission
    return FeePolicy(max_fee=int(own.max_fee_gwei * GWEI), bump_percent=own.bump_percent)


@contextlib.asynccontextmanager
async def chain_client(settings: Settings, mode: Mode, url: str | None = None) -> AsyncIterator[OracleClient]:
    """The contract's client over the configured nodes, or over `url` alone, while the context lasts.

    Raises `StartError` when nothing was deployed, `DeploymentMismatchError` or `RpcUnavailableError`.
    """
    client = await OracleClient.connect(
        url or settings.chain.rpc_urls,
        deployment_record(settings),
        mode,
        timeout_s=settings.chain.request_timeout_s,
        fees=fee_policy(settings),
    )
    try:
        yield client
    finally:
        await client.close()


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


def fetcher_key(settings: Settings, name: str) -> str:
    """The key a fetcher signs with. Raises `ConfigurationError` saying how to give it, or `KeyRefusedError`."""
    fetcher = settings.fetchers.get(name)
    if fetcher is None:
        raise ConfigurationError([f"fetchers.{name}: not configured; known: {', '.join(sorted(settings.fetchers))}"])
    key = secret(fetcher.key, fetcher.key_file, f"fetchers.{name}.key")
    return _opened(key, fetcher.key_password, fetcher.key_password_file, f"fetchers.{name}.key_password")


def aggregator_key(settings: Settings) -> str:
    """The key that pays for rounds. Raises `ConfigurationError` or `KeyRefusedError`."""
    own = settings.aggregator
    key = secret(own.key, own.key_file, "aggregator.key")
    return _opened(key, own.key_password, own.key_password_file, "aggregator.key_password")


def deployer_key(settings: Settings) -> str:
    """The key that deploys and governs. Raises `ConfigurationError` or `KeyRefusedError`."""
    own = settings.chain
    key = secret(own.deployer_key, own.deployer_key_file, "chain.deployer_key")
    return _opened(key, own.deployer_key_password, own.deployer_key_password_file, "chain.deployer_key_password")


def _opened(key: str, password: SecretStr | None, password_file: Path | None, what: str) -> str:
    return read_key(key, secret(password, password_file, what)) if is_keystore(key) else key


def reporter_address(settings: Settings, name: str) -> str:
    """A fetcher's on-chain identity: as configured, else from its key.

    Raises `DevelopmentKeyError` where everybody has that key and the chain is not for development.
    """
    configured = settings.fetchers[name].address
    address = configured or LocalSigner(fetcher_key(settings, name)).address
    refuse_development_key(address, settings.chain.chain_id)
    return address


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
    signer = LocalSigner(fetcher_key(settings, name))
    refuse_development_key(signer.address, settings.chain.chain_id)
    own = settings.fetchers[name]
    if own.address is not None and own.address.lower() != signer.address.lower():
        raise ConfigurationError(
            [f"fetchers.{name}.address: {own.address} is not the address of its key, {signer.address}"]
        )
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
        pool = SourcePool(catalogue, own.sources, base_urls=base_urls, clock=clock, registry=ops.registry)
        stack.push_async_callback(pool.close)
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
        )
        await service.run()


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
        store = SqlAttemptStore(store_url(settings, own.name))
        await store.open()
        service = AggregatorService(
            settings=own,
            name=own.name,
            instance=instance_name(),
            groups=settings.all_groups(),
            bus=joined,
            chain=chain,
            submit_key=key,
            token=token,
            store=store,
            clock=clock,
            mode=mode,
            ops=ops,
            logger=get_logger(own.name, mode),
            submission=settings.chain.submission,
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


async def run_simulator(settings: Settings, *, recordings: Path | None = None) -> None:
    """Test mode's exchanges."""
    clock = make_clock(settings)
    ops = Ops("simulator", Mode.TEST, clock)
    simulator = Simulator(
        settings.simulator, clock=clock, logger=get_logger("simulator", Mode.TEST), ops=ops, recordings=recordings
    )
    async with simulator.run():
        await asyncio.Event().wait()


def store_url(settings: Settings, service: str) -> str:
    """The store of one service, in the data directory where it is a file. Raises `StartError`."""
    make_data_dir(settings)
    return settings.store_url(service)


def make_data_dir(settings: Settings) -> None:
    """The data directory, for its owner only. Raises `StartError` where it cannot be made."""
    try:
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StartError(f"data_dir: {settings.data_dir} cannot be made: {error.strerror}") from error
