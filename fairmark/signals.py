"""From settings to the reporter network's processes: generators, strategies, the trader."""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import httpx

from contracts.keys import is_keystore, new_key, read_key
from contracts.report import LocalSigner
from core.errors import StartError
from core.logs import get_logger
from core.ops import Ops, ops_app, serve
from core.reporting import FeedRule, Schedule
from core.settings import Settings, SignalSettings, secret
from fairmark.basics import instance_name, make_clock, make_data_dir, store_url
from signals.client import TraderClient
from signals.errors import FeedsInErrorError
from signals.generator import Generator
from signals.producer import Producer
from signals.registry import SignalFeed
from signals.rpc import SignalClient, signal_url
from signals.service import TraderService
from signals.strategy import Rule, Strategy

DEFAULT_FEED = "decision"
TABLE = "fairmark_signal_reporters"


def signal_settings(settings: Settings) -> Mapping[str, SignalSettings]:
    """The configured signals; where there are none, one named `decision`."""
    return settings.signals or {DEFAULT_FEED: SignalSettings()}


def signal_feed(name: str, own: SignalSettings) -> SignalFeed:
    """The domain's view of a configured signal."""
    return SignalFeed(
        name=name,
        range=own.declared,
        schedule=Schedule(own.period_ms),
        max_age_ms=own.max_age_ms,
        rule=FeedRule(policy=own.policy, needed=own.needed, feeds=own.feeds),
        addresses=own.addresses,
    )


async def run_signal(settings: Settings, name: str, *, host: str, port: int, seed: int, own: SignalSettings) -> None:
    """A generator: one number, served by JSON-RPC. seed: what its numbers are drawn by."""
    clock = make_clock(settings)
    ops = Ops(name, settings.mode, clock)
    generator = Generator(
        name=name,
        seed=seed,
        schedule=Schedule(own.period_ms),
        declared=own.declared,
        clock=clock,
        ops=ops,
        logger=get_logger(name, settings.mode),
    )
    async with serve(generator.app, host, port, name):
        await generator.run()


async def run_strategy(
    settings: Settings,
    name: str,
    *,
    signals: Sequence[str],
    feed: str,
    trader_url: str | None,
    host: str,
    port: int,
    rule: Rule,
    policy: FeedRule,
    own: SignalSettings,
    chance: Callable[[], float] = random.random,
) -> None:
    """A strategy: pulls its signals, submits its decisions for `feed`."""
    clock, logger = make_clock(settings), get_logger(name, settings.mode)
    signer = LocalSigner(_strategy_key(settings, name))
    ops = Ops(name, settings.mode, clock)
    schedule = Schedule(own.period_ms)
    for address in signals:
        try:
            signal_url(address)
        except ValueError as error:
            raise StartError(f"--signals: {error}") from None

    # one pool each: a trader that hangs must not keep connections from the signals. None is kept open: a server that
    # closes an idle one just as a period begins would look dead
    def client() -> httpx.AsyncClient:
        fresh = httpx.Limits(max_keepalive_connections=0)
        # no timeout here: each call is bounded as a whole
        return httpx.AsyncClient(trust_env=False, timeout=None, follow_redirects=False, limits=fresh)  # noqa: S113

    async with client() as asking, client() as telling:
        strategy = Strategy(
            name=name,
            signals=signals,
            rule=rule,
            policy=policy,
            declared=own.declared,
            schedule=schedule,
            limit_ms=own.max_age_ms,
            client=SignalClient(asking),
            clock=clock,
        )
        producer = Producer(
            to=settings.trader.name,
            feed=feed,
            name=name,
            instance=instance_name(),
            schedule=schedule,
            make=strategy.make,
            client=TraderClient(
                trader_url or settings.trader.found_at,
                signer,
                trader_token(settings),
                telling,
                timeout_s=min(own.period_ms / 2_000, 5.0),
            ),
            clock=clock,
            chance=chance,
            logger=logger,
        )
        _watch(ops, producer)
        async with serve(ops_app(ops), host, port, name) as listening:
            logger.info("strategy_ready", address=signer.address, signals=list(signals), port=listening)
            ops.set_ready()
            await producer.run()


def _watch(ops: Ops, producer: Producer) -> None:
    """Let `/health` say what keeps a strategy from its decision, or its decision from the trader."""

    async def signals() -> str:
        made = producer.last
        if made is not None and made.trouble is not None:
            one = made.trouble
            raise FeedsInErrorError(f"{one.who}: {one.code} since {one.since_ms}: {one.detail}")
        return "nothing pulled yet" if made is None else f"decided {made.value}"

    async def trader() -> str:
        if producer.refused is not None:
            raise StartError(producer.refused)
        return "registered"

    ops.depend("signals", signals)
    ops.depend("trader", trader)


async def run_trader(settings: Settings, feeds: Mapping[str, SignalSettings], *, host: str, port: int) -> None:
    """The register of strategies, and the median of their decisions."""
    from core.documents import SqlDocuments  # noqa: PLC0415 - it imports SQLAlchemy, and strategies need none

    own, clock = settings.trader, make_clock(settings)
    ops = Ops(own.name, settings.mode, clock)
    service = TraderService(
        name=own.name,
        feeds={name: signal_feed(name, feed) for name, feed in feeds.items()},
        documents=SqlDocuments(store_url(settings, own.name), table=TABLE),
        clock=clock,
        ops=ops,
        logger=get_logger(own.name, settings.mode),
        token=trader_token(settings),
    )
    async with serve(service.app, host, port, own.name):
        await service.run()


def trader_token(settings: Settings) -> str:
    """As given, else from the file in the data directory that the first process to ask makes."""
    own = settings.trader
    if own.token is not None or own.token_file is not None:
        return secret(own.token, own.token_file, "trader.token")
    return _kept(settings, settings.data_dir / "trader.token")


def _strategy_key(settings: Settings, name: str) -> str:
    own = settings.strategies.get(name)
    if own is None or (own.key is None and own.key_file is None):
        return _kept(settings, settings.data_dir / "strategies" / f"{name}.key")
    key = secret(own.key, own.key_file, f"strategies.{name}.key")
    if not is_keystore(key):
        return key
    return read_key(key, secret(own.key_password, own.key_password_file, f"strategies.{name}.key_password"))


def _kept(settings: Settings, path: Path) -> str:
    """A secret of 32 bytes in a file for its owner only, made where it is missing. Raises `StartError`."""
    make_data_dir(settings)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # written beside and linked into place, so that of two that start at once neither reads half of it
        draft = path.with_name(f"{path.name}.{instance_name()}")
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(new_key())
        with contextlib.suppress(FileExistsError):
            path.hardlink_to(draft)
        draft.unlink()
        return path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise StartError(f"{path} cannot be kept: {error.strerror}") from error
