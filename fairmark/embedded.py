"""Everything in one process tree: the embedded chain and the simulator as children, every service in this process.

    fairmark up
     ├─ chain      eth-tester behind JSON-RPC
     ├─ simulator  in test mode: every simulated exchange on a port of its own
     └─ this process: the in-process bus, the fetchers, the market data, the aggregator, the bff

The services are the ones that `fairmark.assemble` builds for separate processes; only the bus is shared in memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import os
import secrets
import time
from collections import defaultdict
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import httpx
import msgspec
from fastapi import FastAPI, Header
from filelock import FileLock, Timeout
from pydantic import SecretStr

from broker import Bus
from contracts.deploy import deploy
from contracts.report import LocalSigner
from core.errors import FairmarkError, StartError
from core.logs import configure_logging, get_logger
from core.ops import Ops, listen
from core.problems import Problem
from core.settings import Settings, SourcesSettings
from core.types import Mode
from fairmark import assemble
from fairmark.access import reporter_address
from fairmark.basics import make_clock, make_data_dir
from fairmark.children import child, watch
from fairmark.probe import PROBE_TIMEOUT_S, live_enough

FIRST_PRICE_TIMEOUT_S = 30.0
RESTART_PAUSE_S = 1.0

Progress = Callable[[str], None]
"""Called with a line each time something stands."""


class Running(msgspec.Struct, frozen=True, kw_only=True):
    """What `fairmark stop` and the other commands need of a running tree; kept in data_dir, readable by its owner."""

    pid: int
    token: str
    ports: dict[str, int]


@dataclass
class Tree:
    """A running tree, as its banner shows it."""

    settings: Settings
    why: str
    address: str = ""
    started: float = field(default_factory=time.monotonic)
    ports: dict[str, int] = field(default_factory=dict)
    prices: dict[str, dict[str, object]] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    market: dict[str, object] | None = None
    _listening: dict[str, asyncio.Event] = field(default_factory=lambda: defaultdict(asyncio.Event))

    def announce(self, name: str, port: int) -> None:
        self.ports[name] = port
        self._listening[name].set()

    async def port_of(self, name: str) -> int:
        """Wait until `name` listens; its port."""
        await self._listening[name].wait()
        return self.ports[name]


def with_fresh_keys(settings: Settings) -> Settings:
    """The same settings with a new key for everyone who signs, and a record beside the other data: an embedded
    deployment lives for one run only."""

    def key() -> SecretStr:
        return SecretStr("0x" + secrets.token_hex(32))

    token = SecretStr(secrets.token_urlsafe(24))
    fetchers = {
        name: fetcher.model_copy(update={"key": key(), "address": None}) for name, fetcher in settings.fetchers.items()
    }
    return settings.model_copy(
        update={
            "fetchers": fetchers,
            "aggregator": settings.aggregator.model_copy(update={"key": key(), "token": token}),
            "bff": settings.bff.model_copy(update={"token": token}),
            "chain": settings.chain.model_copy(
                update={"deployer_key": key(), "deployments_dir": settings.data_dir / "deployments"}
            ),
        }
    )


def check_ports(settings: Settings) -> None:
    """Raises `StartError` listing every configured port that is taken, before anything starts."""
    wanted = [
        ("bff", settings.bff.host, settings.bff.port, "bff.port"),
        ("aggregator", settings.aggregator.host, settings.aggregator.port, "aggregator.port"),
        ("chain", settings.chain.host, settings.chain.port, "chain.port"),
        *((name, own.host, own.port, f"fetchers.{name}.port") for name, own in settings.fetchers.items()),
    ]
    if settings.market.enabled:
        wanted.append(("market", settings.market.host, settings.market.port, "market.port"))
    if settings.mode != "live":
        wanted.append(("simulator", settings.simulator.host, settings.simulator.port, "simulator.port"))
        if settings.market.enabled and (first := settings.simulator.tcp_port):
            wanted += [("simulator", settings.simulator.host, first + n, "simulator.tcp_port") for n in range(3)]
    taken = []
    for name, host, port, setting in wanted:
        try:
            if port:
                listen(host, port, name).close()
        except StartError as error:
            variable = "FAIRMARK_" + setting.upper().replace(".", "__").replace("-", "_")
            taken.append(f"  - {error} ({setting}, or {variable}=…)")
    if taken:
        raise StartError("cannot listen; is Fairmark running already?\n" + "\n".join(taken))


@contextlib.contextmanager
def sole_tree(settings: Settings) -> Iterator[None]:
    """Keep the data directory to this tree. Raises `StartError` where another one runs on it."""
    make_data_dir(settings)
    lock = FileLock(settings.data_dir / "lock", blocking=False)
    try:
        lock.acquire()
    except Timeout:
        raise StartError(
            f"another Fairmark runs on {settings.data_dir}; stop it, or set data_dir (FAIRMARK_DATA_DIR=…)"
        ) from None
    try:
        yield
    finally:
        lock.release()


async def decide_mode(settings: Settings) -> tuple[Mode, str]:
    """`auto` becomes live where enough exchanges answer, else test; decided once. Returns the mode and why."""
    if settings.mode != "auto":
        return Mode(settings.mode), "named in the configuration"
    enough, why = await live_enough(settings)
    return (Mode.LIVE, why) if enough else (Mode.TEST, why)


async def up(settings: Settings, config: Path | None, progress: Progress, banner: Callable[[Tree], None]) -> None:
    """Run the whole tree until cancelled. Raises `StartError` and its kin when it cannot start."""
    if not settings.chain.embedded:
        raise StartError("`fairmark up` runs on the embedded chain; with chain.url set, start each service by itself")
    if signals := [name for name in settings.groups if settings.signal_of(name)]:
        raise StartError(
            f"groups.{signals[0]}: strategies report for it, each a process of its own, and `fairmark up` starts none: "
            "start each service by itself, over RabbitMQ and a node"
        )
    with sole_tree(settings):
        check_ports(settings)
        if settings.mode == "auto":
            progress(f"asking the real exchanges, for {PROBE_TIMEOUT_S:g} s at most")
        mode, why = await decide_mode(settings)
        await _run_tree(settings, mode, why, config, progress, banner)


async def _run_tree(
    settings: Settings,
    mode: Mode,
    why: str,
    config: Path | None,
    progress: Progress,
    banner: Callable[[Tree], None],
) -> None:
    settings = with_fresh_keys(settings).model_copy(update={"mode": mode.value, "sources": _shared(settings.sources)})
    configure_logging(settings.log.level, settings.log.format, mode.value)
    progress(f"mode {mode.value.upper()}: {why}")
    tree = Tree(settings, why)
    async with contextlib.AsyncExitStack() as stack:
        watches = await _start_children(settings, mode, config, stack, tree, progress)
        await _deploy(settings, mode, tree, progress)
        bus = await _shared_bus(settings, stack)
        token = secrets.token_urlsafe(24)
        async with asyncio.TaskGroup() as services:
            for watching in watches:
                services.create_task(watching, name="child")
            for name in settings.fetchers:
                services.create_task(_keep_fetcher(settings, name, bus, tree, token), name=name)
            services.create_task(assemble.run_aggregator(settings, bus=bus, announce=tree.announce), name="aggregator")
            if settings.market.enabled:
                services.create_task(_keep_market(settings, tree), name="market")
            bff_settings = await _with_addresses(settings, tree)
            services.create_task(assemble.run_bff(bff_settings, announce=tree.announce), name="bff")
            await tree.port_of("bff")
            market = "the market data, " if settings.market.enabled else ""
            progress(
                f"services: {len(settings.fetchers)} fetchers, {market}the aggregator, the bff; the first round runs"
            )
            await _first_prices(settings, tree)
            with _running_file(settings, Running(pid=os.getpid(), token=token, ports=tree.ports)):
                banner(tree)
                await asyncio.Event().wait()


def _shared(sources: SourcesSettings) -> SourcesSettings:
    """All fetchers of a tree ask from one address, so none of them may take an exchange's whole limit."""
    return sources.model_copy(update={"share": "fetchers"}) if sources.share == 1 else sources


async def _start_children(
    settings: Settings,
    mode: Mode,
    config: Path | None,
    stack: contextlib.AsyncExitStack,
    tree: Tree,
    progress: Progress,
) -> list[Coroutine[None, None, None]]:
    """Start the chain and, in test mode, the simulator; what to await to learn that one of them ended."""
    chain = settings.chain
    arguments = ["-m", "contracts.devchain", "--host", chain.host, "--port", str(chain.port), "--die-with-parent"]
    arguments += ["--chain-id", str(chain.chain_id), "--clock-offset-ms", str(settings.clock_offset_ms)]
    arguments += ["--mode", mode.value, "--log-level", settings.log.level, "--log-format", settings.log.format]
    for owner in (chain.deployer_key, settings.aggregator.key):
        assert owner is not None  # noqa: S101 - with_fresh_keys gave both
        arguments += ["--fund", LocalSigner(owner.get_secret_value()).address]
    process = await stack.enter_async_context(child("chain", arguments, f"{chain.rpc_url}/ready"))
    watches = [watch("chain", process, "the embedded chain and the contract on it are lost.")]
    tree.announce("chain", chain.port)
    progress(f"chain: eth-tester, chain id {chain.chain_id}, at {chain.rpc_url}")
    if mode is Mode.TEST:
        arguments = ["-m", "fairmark", "simulator", "--die-with-parent"]
        if settings.market.enabled:
            arguments.append("--tcp")
        if config is not None:
            arguments += ["--config", str(config)]
        url = settings.simulator.control_url
        process = await stack.enter_async_context(
            child("simulator", arguments, f"{url}/ready", {"FAIRMARK_MODE": "test"})
        )
        watches.append(watch("simulator", process, "there is nobody left to ask for a price."))
        tree.announce("simulator", settings.simulator.port)
        progress(f"simulator: the exchanges of test mode, control at {url}")
    return watches


async def _shared_bus(settings: Settings, stack: contextlib.AsyncExitStack) -> Bus | None:
    """The in-process bus, or None where each service connects to RabbitMQ by itself."""
    if settings.broker.kind != "memory":
        return None
    bus = assemble.make_memory_bus()
    await bus.start()
    stack.push_async_callback(bus.close)
    return bus


async def _deploy(settings: Settings, mode: Mode, tree: Tree, progress: Progress) -> None:
    key = settings.chain.deployer_key
    assert key is not None  # noqa: S101
    record = await deploy(
        settings.chain.rpc_urls,
        key.get_secret_value(),
        mode=mode,
        groups=settings.all_groups(),
        reporters={
            name: [reporter_address(settings, reporter) for reporter in settings.reporters(name)]
            for name in settings.groups
        },
        owner=settings.chain.admin,
        guardian=settings.chain.guardian,
        deployments_dir=settings.chain.deployments_dir,
    )
    tree.address = record.address
    progress(f"contract: FairmarkOracle at {record.address}")


async def _with_addresses(settings: Settings, tree: Tree) -> Settings:
    """The BFF's settings, with the ports that those behind it listen on."""
    at = f"http://{settings.aggregator.host}:{await tree.port_of(settings.aggregator.name)}"
    market = f"http://{settings.market.host}:{await tree.port_of('market')}" if settings.market.enabled else None
    bff = settings.bff.model_copy(update={"aggregator_url": at, "market_url": market})
    return settings.model_copy(update={"bff": bff})


async def _keep_market(settings: Settings, tree: Tree) -> None:
    """Run the market data, again after a crash. Its end never ends the oracle."""
    logger = get_logger("market", settings.mode)
    ever_ready = False
    while True:
        ops = Ops("market", settings.mode, make_clock(settings))
        try:
            await assemble.run_market(settings, announce=tree.announce, ops=ops)
        except Exception as error:
            if isinstance(error, FairmarkError) and not (ever_ready := ever_ready or ops.was_ready):
                raise  # it never worked: the start has failed, and trying again would hide why
            logger.exception("market_crashed", restart_in_s=RESTART_PAUSE_S)
        await asyncio.sleep(RESTART_PAUSE_S)


async def _keep_fetcher(settings: Settings, name: str, bus: Bus | None, tree: Tree, token: str) -> None:
    """Run one fetcher, again after a crash, until it is told to stop. Its end never ends the others."""
    logger = get_logger(name, settings.mode)
    stop = asyncio.Event()
    ever_ready = False
    while not stop.is_set():
        ops = Ops(name, settings.mode, make_clock(settings))
        work = asyncio.create_task(
            assemble.run_fetcher(
                settings, name, bus=bus, announce=tree.announce, ops=ops, extend=lambda app: _add_stop(app, token, stop)
            ),
            name=f"{name}:run",
        )
        told = asyncio.create_task(stop.wait(), name=f"{name}:stop")
        try:
            await asyncio.wait({work, told}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (work, told):
                task.cancel()
            (outcome, _) = await asyncio.gather(work, told, return_exceptions=True)
        if stop.is_set():
            logger.warning("fetcher_stopped", because="told to stop")
        elif isinstance(outcome, FairmarkError) and not (ever_ready := ever_ready or ops.was_ready):
            raise outcome  # it never worked: the start has failed, and trying again would hide why
        else:
            logger.error("fetcher_crashed", error=repr(outcome), restart_in_s=RESTART_PAUSE_S)
            await asyncio.sleep(RESTART_PAUSE_S)


def _add_stop(app: FastAPI, token: str, stop: asyncio.Event) -> None:
    @app.post("/stop", status_code=202)
    async def stop_fetcher(authorization: Annotated[str, Header()] = "") -> dict[str, str]:
        if not hmac.compare_digest(authorization.encode(), f"Bearer {token}".encode()):
            raise Problem(401, "unauthorized", "A bearer token is needed", "use `fairmark stop NAME`")
        stop.set()
        return {"status": "stopping"}


async def _first_prices(settings: Settings, tree: Tree) -> None:
    """Wait until every feed has a price, or the bound is over: the banner then names those without."""
    url = f"http://{settings.bff.host}:{tree.ports['bff']}/v1/prices"
    wanted = [feed.pair for feed in settings.feeds]
    async with httpx.AsyncClient(timeout=2.0, trust_env=False) as client:
        deadline = time.monotonic() + FIRST_PRICE_TIMEOUT_S
        while time.monotonic() < deadline and len(tree.prices) < len(wanted):
            with contextlib.suppress(httpx.HTTPError):
                response = await client.get(url)
                if response.is_success:
                    tree.prices = {price["pair"]: price for price in response.json()["prices"]}
            await asyncio.sleep(0.1)
        tree.missing = [pair for pair in wanted if pair not in tree.prices]
        if settings.market.enabled:
            symbol = next(iter(settings.market.symbols))
            with contextlib.suppress(httpx.HTTPError):
                response = await client.get(url.replace("/v1/prices", f"/prices/latest/{symbol}"))
                tree.market = response.json() if response.is_success else None


@contextlib.contextmanager
def _running_file(settings: Settings, running: Running) -> Iterator[None]:
    path = running_path(settings)
    path.touch(mode=0o600)
    path.write_bytes(msgspec.json.encode(running))
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def running_path(settings: Settings) -> Path:
    return settings.data_dir / "running.json"


def read_running(settings: Settings) -> Running:
    """What runs in this data_dir. Raises `StartError` when nothing does."""
    try:
        return msgspec.json.decode(running_path(settings).read_bytes(), type=Running)
    except (OSError, msgspec.MsgspecError):
        raise StartError(f"nothing runs here: no {running_path(settings)}; start it with `make run`") from None
