"""From settings to the reporter network's processes: generators, strategies, the trader."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence

import httpx

from contracts.report import LocalSigner
from core.errors import StartError
from core.logs import get_logger
from core.ops import Ops, ops_app, serve
from core.reporting import FeedRule, Schedule
from core.settings import Settings, SignalSettings, secret
from fairmark.access import strategy_key
from fairmark.basics import instance_name, kept_secret, make_clock, store_url
from signals.client import TraderClient
from signals.decisions import Decisions
from signals.errors import FeedsInErrorError
from signals.generator import Generator
from signals.messages import NAME
from signals.producer import Made, Producer
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
    """A strategy: pulls its signals, and submits its decisions for `feed` to the trader; where the feed is on chain, it
    signs them for the contract instead."""
    clock, logger = make_clock(settings), get_logger(name, settings.mode)
    group = settings.group_of(feed)
    if group is not None and trader_url is not None:
        raise StartError(f"--trader: {feed} is on chain in group {group}: its strategies answer the aggregator's jobs")
    check_strategy(name, signals, policy)
    ops = Ops(name, settings.mode, clock)
    schedule = Schedule(own.period_ms)

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
        if group is not None:
            from fairmark.assemble import run_strategy_on_chain  # noqa: PLC0415 - it loads every room

            pair = settings.group(group).feeds[0].pair
            decisions = Decisions(name, pair, schedule, strategy.make, clock)
            ops.depend("signals", lambda: _decided(decisions.last))
            await run_strategy_on_chain(settings, name, group, decisions, ops=ops, host=host, port=port)
            return
        signer = LocalSigner(strategy_key(settings, name))
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


def check_strategy(name: str, signals: Sequence[str], policy: FeedRule) -> None:
    """Raises `StartError` for what no trader would take, or could never make a decision."""
    if re.fullmatch(NAME, name) is None:
        raise StartError(f"--name: {name!r} is no reporter's name: a small letter, then at most 30 of a-z, 0-9 and -")
    if not signals:
        raise StartError("--signals: name one at the least, as host:port")
    urls: set[str] = set()
    for address in signals:
        try:
            url = signal_url(address)
        except ValueError as error:
            raise StartError(f"--signals: {error}") from None
        if url in urls:
            raise StartError(f"--signals: {address} is named twice: it would count twice")
        urls.add(url)
    if policy.needed > len(signals):
        raise StartError(f"--needed: {policy.needed} of {len(signals)} signals can never be well")


def _watch(ops: Ops, producer: Producer) -> None:
    """Let `/health` say what keeps a strategy from its decision, or its decision from the trader."""

    async def trader() -> str:
        if producer.refused is not None:
            raise StartError(producer.refused)
        return "registered"

    ops.depend("signals", lambda: _decided(producer.last))
    ops.depend("trader", trader)


async def _decided(made: Made | None) -> str:
    """For `/health`: what keeps a strategy from its decision. Raises `FeedsInErrorError`."""
    if made is not None and made.trouble is not None:
        one = made.trouble
        raise FeedsInErrorError(f"{one.who}: {one.code} since {one.since_ms}: {one.detail}")
    return "nothing pulled yet" if made is None else f"decided {made.value}"


async def run_trader(settings: Settings, feeds: Mapping[str, SignalSettings], *, host: str, port: int) -> None:
    """The register of strategies, and the median of their decisions. feeds: by name; those that are on chain are left
    to the aggregator. Raises `StartError` where that leaves none."""
    from core.documents import SqlDocuments  # noqa: PLC0415 - it imports SQLAlchemy, and strategies need none
    from core.locks import ProcessLock  # noqa: PLC0415 - so does it

    own, clock = settings.trader, make_clock(settings)
    feeds = {name: feed for name, feed in feeds.items() if settings.group_of(name) is None}
    if not feeds:
        raise StartError("every configured signal is on chain: the aggregator and the contract are its trader")
    ops = Ops(own.name, settings.mode, clock)
    url = store_url(settings, own.name)
    service = TraderService(
        name=own.name,
        feeds={name: signal_feed(name, feed) for name, feed in feeds.items()},
        documents=SqlDocuments(url, table=TABLE),
        lock=ProcessLock(url, f"trader-{own.name}", purpose="trader"),
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
    return kept_secret(settings, settings.data_dir / "trader.token")
