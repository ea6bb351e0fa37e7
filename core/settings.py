"""One TOML file, validated whole at start: every problem is listed at once with its place.

Environment variables override the file: `FAIRMARK_` and the path with `__` between its parts, as in
`FAIRMARK_BFF__PORT=9000` or `FAIRMARK_FETCHERS__A__KEY_FILE=/run/secrets/a`. Secrets come from the environment or from
files (`…_file`), never from the TOML file itself.
"""

from __future__ import annotations

import copy
import os
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import msgspec
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    model_validator,
)

from core.errors import ConfigurationError, CyclicFeedsError
from core.pipeline import order_problems
from core.reporting import Policy, order
from core.signal_feeds import signal_feed_problems
from core.signals import SignalRange
from core.types import QUOTE_RULES, REPORT_RULES, Aggregate, Feed, Group, Mode, Pair

PREFIX = "FAIRMARK_"
NOT_SETTINGS = {"FAIRMARK_CONFIG", "FAIRMARK_REQUIRE_SERVICES"}
"""Variables that name the file itself, or steer the tests."""
SECRETS = frozenset({"key", "key_password", "token", "deployer_key", "deployer_key_password"})
"""Settings whose values never stand in the file."""
_NAME = r"^[a-z][a-z0-9-]{0,30}$"
_ADDRESS = r"^0x[0-9a-fA-F]{40}$"
_URL = r"^[a-z][a-z0-9+]*://\S+$"
_PATTERNS = {
    _NAME: "not a name: lower-case letters, digits and dashes, 31 at most, a letter first",
    _ADDRESS: "not an address: 0x and 40 hex digits",
    _URL: "not a URL, such as http://host:port",
}
"""What a mismatch means, in words."""
_KEY = re.compile(r"(0x)?[0-9a-fA-F]{64}")
NEVER_MS = 2**53
"""A limit of age that nothing reaches."""
_CURVE_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
"""secp256k1's (SEC 2, 2.4.1): a private key lies below it."""


def _is_key(text: str) -> bool:
    return bool(_KEY.fullmatch(text.strip())) and 0 < int(text.strip(), 16) < _CURVE_ORDER


def _checked_key(value: SecretStr) -> SecretStr:
    if not _is_key(value.get_secret_value()):
        raise ValueError("not a private key: write its 32 bytes as hex")
    return value


def _checked_node(value: str) -> str:
    if value != "embedded" and not re.match(_URL, value):
        raise ValueError("neither `embedded` nor a URL, such as http://host:8545")
    return value


def _checked_store(value: str) -> str:
    scheme, separator, _ = value.partition("://")
    if value != "sqlite" and not (separator and scheme in {"sqlite", "postgres", "postgresql"}):
        raise ValueError("neither `sqlite` nor a URL, such as postgresql://user@host/database")
    try:
        _ = urlsplit(value).port
    except ValueError:
        raise ValueError("its port is none; special characters of a password are percent-encoded") from None
    return value


def _checked_address(value: str) -> str:
    host, _, port = value.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65_536:
        raise ValueError("not an address, such as 127.0.0.1:40101")
    return value


def _checked_share(value: object) -> object:
    text = str(value)
    if text != "fetchers" and not (text.isascii() and text.isdigit() and 1 <= int(text) <= 100):
        raise ValueError('neither a number from 1 to 100 nor "fetchers"')
    return value


def _checked_regex(value: str) -> str:
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from None
    return value


Port = Annotated[int, Field(ge=0, le=65_535)]
Name = Annotated[str, Field(pattern=_NAME)]
Address = Annotated[str, Field(pattern=_ADDRESS)]
Url = Annotated[str, Field(pattern=_URL)]
Key = Annotated[SecretStr, AfterValidator(_checked_key)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class SubmissionSettings(_Section):
    """How rounds are paid for, replaced and watched. Fees in gwei a gas, times in seconds."""

    max_fee_gwei: Decimal = Field(default=Decimal(500), gt=0, description="no transaction offers more")
    bump_percent: int = Field(default=25, ge=10, le=1_000, description="what a replacement adds to its fees")
    replace_after_s: float = Field(default=15, gt=0, le=3_600, description="in no block for so long: sent for more")
    confirmations: Annotated[int, Field(ge=1, le=1_000)] | Literal["safe", "finalized"] = Field(
        default=5, description="blocks that settle a round, its own among them, or the chain's own word"
    )
    watch_s: float = Field(default=1, gt=0, le=60, description="between looks at what is not settled")
    low_balance: Decimal = Field(default=Decimal("0.05"), ge=0, description="in the chain's coin; below it, a warning")
    balance_s: float = Field(default=30, gt=0, le=3_600, description="between looks at the balance")


class ChainSettings(_Section):
    """The EVM nodes. `embedded` starts an eth-tester chain in a process of its own, for this run only."""

    url: Annotated[str, AfterValidator(_checked_node)] = Field(
        default="embedded", description="`embedded`, or a node's URL"
    )
    urls: tuple[Url, ...] = Field(default=(), description="more nodes of the same chain, for when that one fails")
    host: str = "127.0.0.1"
    port: Port = 8545
    chain_id: int = Field(default=31337, ge=1)
    deployments_dir: Path = Path("deployments")
    request_timeout_s: float = Field(default=5.0, gt=0, le=60)
    max_lag_s: float = Field(
        default=30.0,
        gt=0,
        le=3_600,
        description="a node whose last block is so much older than another's is not used; a few blocks' time",
    )
    admin: Address | None = Field(default=None, description="owner of the contract after deployment; default: deployer")
    guardian: Address | None = Field(default=None, description="may pause, and nothing else; default: the owner")
    deployer_key: Key | None = None
    deployer_key_file: Path | None = Field(default=None, description="holds the key in hex, or an encrypted keystore")
    deployer_key_password: SecretStr | None = None
    deployer_key_password_file: Path | None = None
    submission: SubmissionSettings = SubmissionSettings()

    @property
    def embedded(self) -> bool:
        return self.url == "embedded"

    @property
    def rpc_url(self) -> str:
        return f"http://{self.host}:{self.port}" if self.url == "embedded" else self.url

    @property
    def rpc_urls(self) -> tuple[str, ...]:
        """Every node, the preferred one first."""
        return (self.rpc_url, *self.urls)


class BrokerSettings(_Section):
    """The message bus: `memory` inside one process, or RabbitMQ at one of `urls`, tried in turn."""

    kind: Literal["memory", "rabbitmq"] = "memory"
    urls: tuple[Url, ...] = ("amqp://guest:guest@127.0.0.1:5672/",)
    namespace: Name = "fairmark"
    publish_timeout_s: float = Field(default=2.0, gt=0, le=30)


class StoreSettings(_Section):
    """Where attempts and signed reports are kept: an SQLAlchemy URL, SQLite by default."""

    url: Annotated[str, AfterValidator(_checked_store)] = Field(
        default="sqlite", description="`sqlite` (a file in data_dir) or `postgresql://user@host/database`"
    )


class SimulatorSettings(_Section):
    """Test mode's exchanges. Each simulated venue listens on a port of its own; the control port tells which."""

    host: str = "127.0.0.1"
    port: Port = 8010
    url: Url | None = Field(default=None, description="where fetchers find the control port; default: host and port")
    base_port: int = Field(default=0, ge=0, le=65_000, description="the first venue listens here; 0: any free ports")
    seed: int = 1
    volatility_bps: int = Field(default=2, ge=0, le=1000, description="one price step, each tick of tick_ms")
    tick_ms: int = Field(default=500, ge=10)
    tcp_port: int = Field(default=40_101, ge=0, le=65_000, description="`--tcp`: the first of three; 0: any free ones")
    tcp_rate: int = Field(default=20, ge=1, le=1_000_000, description="`--tcp`: lines a second on each port")

    @property
    def control_url(self) -> str:
        return self.url or f"http://{self.host}:{self.port}"


class SourcesSettings(_Section):
    """How fetchers ask their sources over HTTP. What an exchange allows stands in the catalogue (`[limit]`)."""

    timeout_s: float = Field(default=1.5, gt=0, le=30, description="one request, to its last byte")
    timeouts: dict[Name, Annotated[float, Field(gt=0, le=30)]] = Field(
        default={}, description="the same, for single sources: timeouts = { coingecko = 3.0 }"
    )
    share: Annotated[int | Literal["fetchers"], BeforeValidator(_checked_share)] = Field(
        default=1,
        description="how many processes ask each source from this address: each takes so small a part of its limit; "
        '"fetchers": as many as the configured fetchers that name it',
    )
    max_tries: int = Field(default=3, ge=1, le=10, description="requests of one fetch: failed ones are sent again")
    retry_share: float = Field(
        default=0.2, ge=0, le=1, description="of a source's requests, how many may be retries, beyond ten saved ones"
    )
    quarantine_after: int = Field(
        default=5, ge=1, le=1_000, description="failures in a row after which a source is asked no more, only probed"
    )
    probe_pause_s: float = Field(default=2.0, gt=0, le=20, description="before its first probe; then doubled each time")
    longest_probe_pause_s: float = Field(default=15.0, gt=0, le=20, description="more, and it is not back within 30 s")


class StreamsSettings(_Section):
    """Prices that exchanges send by themselves, over WebSocket. Where a stream shows none, the source is asked."""

    enabled: bool = True
    fresh_s: float = Field(
        default=5.0, gt=0, le=60, description="an older streamed price is not used; the source is asked instead"
    )
    sample_s: float = Field(
        default=1.0, gt=0, le=60, description="between rounds, seconds between looks at the streams for hints"
    )


class AggregatorSettings(_Section):
    """Rounds. Times in milliseconds."""

    host: str = "127.0.0.1"
    port: Port = 8001
    name: Name = "aggregator"
    deadline_ms: int = Field(default=800, ge=300, le=30_000)
    grace_ms: int = Field(default=50, ge=0, le=5_000, description="after a quorum, how long to wait for the rest")
    confirm_timeout_ms: int = Field(default=5_000, ge=100, le=60_000)
    min_interval_ms: int = Field(
        default=250,
        ge=0,
        le=60_000,
        description="a request's attempt starts so long after the group's last; 0: at once",
    )
    heartbeats: bool = Field(
        default=True, description="start attempts on heartbeat and on deviation hints, where this instance leads"
    )
    groups: tuple[Name, ...] | None = Field(default=None, description="those that this instance serves; default: all")
    key: Key | None = None
    key_file: Path | None = Field(default=None, description="holds the key in hex, or an encrypted keystore")
    key_password: SecretStr | None = None
    key_password_file: Path | None = None
    token: SecretStr | None = None
    token_file: Path | None = None


class TraderSettings(_Section):
    """The register of reporters of signals, and the feeds made of what they produce."""

    host: str = "127.0.0.1"
    port: Port = 8020
    name: Name = Field(default="trader", description="reporters address their messages to it")
    url: Url | None = Field(default=None, description="where others find it; default: host and port")
    token: SecretStr | None = None
    token_file: Path | None = Field(default=None, description="default: a file in data_dir, made at the first start")

    @property
    def found_at(self) -> str:
        return self.url or f"http://{self.host}:{self.port}"


class SignalSettings(_Section):
    """A feed of signals: numbers that may be zero or negative, from reporters whose silence is an error."""

    decimals: int = Field(default=8, ge=0, le=18)
    minimum: Decimal = Decimal(-1)
    maximum: Decimal = Decimal(1)
    period_s: Decimal = Field(default=Decimal(60), ge=Decimal("0.2"), le=86_400, description="aligned to UTC")
    policy: Policy = Field(default=Policy.STRICT, description="what one reporter's silence does: see docs/reporters.md")
    needed: int = Field(default=1, ge=1, le=64, description="reporters and feeds that must be well, at the least")
    max_age_s: Decimal | None = Field(default=None, gt=0, description="of the data's own time; default: three periods")
    feeds: tuple[Name, ...] = Field(default=(), description="other signals that count as one reporter each")
    addresses: dict[Name, Address] | None = Field(
        default=None, description="who may report, by name; default: whoever has the token, each name for its first key"
    )

    @model_validator(mode="after")
    def _check(self) -> SignalSettings:
        _ = self.declared
        return self

    @property
    def period_ms(self) -> int:
        return int(self.period_s * 1000)

    @property
    def max_age_ms(self) -> int:
        return 3 * self.period_ms if self.max_age_s is None else int(self.max_age_s * 1000)

    @property
    def declared(self) -> SignalRange:
        return SignalRange(decimals=self.decimals, minimum=self.minimum, maximum=self.maximum)


class StrategySettings(_Section):
    """One strategy's key; default: a file in data_dir, made at the first start. Those that report on chain are listed,
    as fetchers are: `[strategies.NAME]`, be it empty."""

    address: Address | None = Field(default=None, description="the reporter's address, for the deployer")
    chain_url: Url | None = Field(default=None, description="this strategy's own node; default: chain.url")
    key: Key | None = None
    key_file: Path | None = Field(default=None, description="holds the key in hex, or an encrypted keystore")
    key_password: SecretStr | None = None
    key_password_file: Path | None = None


class BffSettings(_Section):
    """What clients see."""

    host: str = "127.0.0.1"
    port: Port = 8000
    aggregator_url: Url = "http://127.0.0.1:8001"
    aggregator_urls: tuple[Url, ...] = Field(
        default=(), description="more aggregators, for when that one fails or does not serve a group"
    )
    market_url: Url | None = Field(default="http://127.0.0.1:8002", description="where `/prices/…` is answered")
    trader_url: Url = Field(default="http://127.0.0.1:8020", description="where signals are asked for")
    token: SecretStr | None = None
    token_file: Path | None = None
    refresh_timeout_ms: int = Field(default=10_000, ge=100, le=60_000)
    poll_ms: int = Field(default=1_000, ge=50, le=60_000, description="how often the chain is read for all prices")
    cors_origin_regex: Annotated[str, AfterValidator(_checked_regex)] = (
        r"https?://(localhost|127\.0\.0\.1|\[::1\])(:\d+)?"
    )


class LinesSettings(_Section):
    """A TCP source of newline-delimited JSON: `{"symbol", "price", "timestamp"}`, milliseconds."""

    address: Annotated[str, AfterValidator(_checked_address)] = Field(description="`host:port`")
    mode: Literal["live", "test", "both"] = Field(
        default="both", description="the market's mode in which it is read; its ticks count as of that mode"
    )


class MarketSettings(_Section):
    """Market data: ticks in, minutes out. Each source has a queue and workers of its own."""

    enabled: bool = Field(default=True, description="`fairmark up` starts it too")
    host: str = "127.0.0.1"
    port: Port = 8002
    pairs: tuple[str, ...] = Field(
        default=("BTC/USDT", "DOGE/USDT", "TON/USDT", "SOL/USDT", "ETH/USDT"),
        min_length=1,
        description="in URLs and TCP lines written without the slash: `BTCUSDT`",
    )
    exchanges: tuple[Name, ...] = Field(
        default=("binance", "okx", "bybit", "kraken", "gate"),
        description="whose streams are read: the real ones, or in test mode the simulator's",
    )
    tcp: dict[Name, LinesSettings] = Field(
        default={
            f"exchange{number}": LinesSettings(address=f"127.0.0.1:{40100 + number}", mode="test")
            for number in (1, 2, 3)
        },
        description="TCP sources by name; the default ones are `fairmark simulator --tcp`, and so for test mode only",
    )
    workers: int = Field(default=5, ge=1, le=64, description="of each source")
    queue_ticks: int = Field(
        default=20_000, ge=1, description="that may wait in a source's queue; beyond it the oldest of a pair is dropped"
    )
    window_s: int = Field(default=300, ge=60, le=3_600, description="how long every tick is kept")
    window_ticks: int = Field(
        default=5_000_000,
        ge=1_000,
        description="kept in memory, 16 bytes each; beyond it the oldest seconds keep totals",
    )
    longest_period_s: int = Field(default=86_400, ge=60, description="statistics look back so far, over minutes")
    grace_ms: int = Field(default=2_000, ge=0, le=60_000, description="a minute is written so long after it ended")
    redis_url: Url | None = Field(default=None, description="Redis keeps the window too; none: memory only")
    redis_prefix: Name = "fairmark"
    database: Annotated[str, AfterValidator(_checked_store)] | None = Field(
        default=None, description="where minutes are kept; default: as `store.url`"
    )
    partition: Literal["none", "day", "month"] = Field(
        default="month", description="PostgreSQL keeps the minutes of each in a partition of its own"
    )
    retention_days: int = Field(default=0, ge=0, description="older minutes are dropped; 0: none are")
    spool_rows: int = Field(
        default=100_000,
        ge=1,
        description="minutes that wait in data_dir while the database is down; then the oldest go",
    )
    token: SecretStr | None = Field(default=None, description="for `POST /mode/…`; none: the mode cannot be switched")
    token_file: Path | None = None

    @model_validator(mode="after")
    def _check(self) -> MarketSettings:
        for pair in self.pairs:
            Pair(pair)
        if both := set(self.tcp) & set(self.exchanges):
            raise ValueError(f"{', '.join(sorted(both))}: a name of a TCP source and of an exchange")
        return self

    @property
    def symbols(self) -> dict[str, Pair]:
        """The pairs by their symbols."""
        return {pair.replace("/", ""): Pair(pair) for pair in self.pairs}


class FetcherSettings(_Section):
    """One fetcher: its sources in order of priority, and the key it signs with."""

    sources: tuple[Name, ...] = Field(min_length=1)
    host: str = "127.0.0.1"
    port: Port = 0
    address: Address | None = Field(default=None, description="the reporter's address, for the deployer")
    chain_url: Url | None = Field(default=None, description="this fetcher's own node; default: chain.url")
    key: Key | None = None
    key_file: Path | None = Field(default=None, description="holds the key in hex, or an encrypted keystore")
    key_password: SecretStr | None = None
    key_password_file: Path | None = None
    sample_s: float = Field(default=5.0, ge=0, description="between rounds, seconds between samples for hints; 0: none")
    drain_s: float = Field(
        default=30.0,
        ge=0,
        le=60,
        description="when it stops, seconds that jobs in hand may take to end, each within its own budget; "
        "whoever would kill the process should wait a little longer",
    )


class FeedSettings(_Section):
    """One published pair. See `core.types.Feed` for the meaning of each rule."""

    pair: str
    signal: Name | None = Field(
        default=None, description="the signal that strategies report for it: see docs/reporters.md; default: prices"
    )
    decimals: int = Field(default=8, ge=0, le=18)
    heartbeat_s: int = Field(default=60, ge=1)
    deviation_bps: int = Field(default=50, ge=1, le=10_000)
    min_contributors: int | None = Field(default=None, ge=1, description="default: the group's threshold")
    min_sources: int = Field(default=2, ge=1)
    wanted_sources: int = Field(default=3, ge=1)
    min_price: Decimal = Field(default=Decimal("0.00000001"), gt=0)
    max_price: Decimal = Field(default=Decimal(100_000_000), gt=0)
    outlier_floor_bps: int = Field(default=50, ge=0)
    unchanged_bps: int = Field(
        default=0, ge=0, description="a price within this of the standing answer is attested, not written; 0: the same"
    )
    max_spread_bps: int = Field(default=150, ge=1)
    max_jump_bps: int = Field(default=500, ge=1, description="from the last answer, unless most sources agree")
    aggregate: Literal["median", "volume", "trust"] = Field(
        default="median",
        description="a fetcher's answer: `median`, or one weighted by `volume` (no streams then) or by `trust`",
    )
    trust: dict[Name, Annotated[Decimal, Field(gt=0, le=1_000)]] = Field(
        default={}, description="by source, what it weighs where the aggregate is `trust`; others weigh 1"
    )
    wanted_contributors: int | None = Field(
        default=None, ge=1, description="with fewer reporters an answer is degraded; default: all of the group's"
    )
    fresh_quote_age_s: float = Field(default=15, gt=0, description="fresh quotes are preferred to older ones")
    max_quote_age_s: float = Field(default=60, gt=0, description="by the source's time, and by the receipt")
    fresh_receipt_age_s: float = Field(default=10, gt=0)
    max_receipt_age_s: float = Field(default=60, gt=0, description="by the receipt alone")
    fresh_unchanged_s: float = Field(default=600, gt=0)
    max_unchanged_s: float = Field(
        default=3_600, gt=0, description="a price that has not changed for so long is frozen; more for pegged pairs"
    )
    policy: Policy = Field(
        default=Policy.QUORUM,
        description="strict: no round while a registered reporter has no price; the same for all feeds of a group",
    )
    description: str = ""

    @model_validator(mode="after")
    def _check(self) -> FeedSettings:
        Pair(self.pair)
        if self.wanted_sources < self.min_sources:
            raise ValueError("wanted_sources is below min_sources")
        for clock in ("quote_age", "receipt_age", "unchanged"):
            fresh, most = f"fresh_{clock}_s", f"max_{clock}_s"
            # a default gives way to a stricter limit: see `feed_of`
            if fresh in self.model_fields_set and getattr(self, fresh) > getattr(self, most):
                raise ValueError(f"{fresh} is above {most}")
        if self.trust and self.aggregate != "trust":
            raise ValueError("trust weighs nothing unless aggregate is 'trust'")
        if self.unchanged_bps >= self.deviation_bps:
            raise ValueError("unchanged_bps is not below deviation_bps: movement would be called none")
        if self.min_price >= self.max_price:
            raise ValueError("min_price is not below max_price")
        if self.max_price * 10**self.decimals >= 2**64:
            raise ValueError(
                f"max_price at {self.decimals} decimals does not fit the report's 64 bits; lower one of them"
            )
        return self


class GroupSettings(_Section):
    """Feeds that share rounds. n >= 3f + 1 reporters are registered, threshold >= 2f + 1 must sign."""

    feeds: tuple[str, ...] = Field(min_length=1, max_length=256)
    reporters: tuple[Name, ...] | None = Field(
        default=None, description="fetchers that report, of a signal strategies; default: all"
    )
    f: int = Field(default=1, ge=0, le=40)
    threshold: int | None = Field(default=None, ge=1, description="default: 2f + 1")
    grid_ms: int = Field(default=10, ge=1, le=1_000)
    max_age_s: float = Field(default=60, gt=0, le=3_600)


class ValidationSettings(_Section):
    """The order in which the rules stand. Every rule stands: a limit that shall never bind is set wide instead."""

    quotes: tuple[str, ...] = Field(default=QUOTE_RULES, description="a fetcher's, over the quotes of a feed")
    reports: tuple[str, ...] = Field(
        default=REPORT_RULES, description="the aggregator's, over an attempt's reports: the first that fails names it"
    )


class LogSettings(_Section):
    """Logs go to standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "json", "console"] = Field(default="auto", description="auto: console on a terminal")


class Settings(_Section):
    """The whole configuration."""

    mode: Literal["auto", "live", "test"] = Field(
        default="auto", description="where prices come from; auto (embedded chain only) decides once, at start"
    )
    data_dir: Path = Field(
        default=Path(".fairmark"), description="SQLite files, and what a running tree tells of itself"
    )
    clock_offset_ms: int = Field(default=0, description="shifts every service's clock: replays in test mode only")
    log: LogSettings = LogSettings()
    chain: ChainSettings = ChainSettings()
    broker: BrokerSettings = BrokerSettings()
    store: StoreSettings = StoreSettings()
    market: MarketSettings = MarketSettings()
    simulator: SimulatorSettings = SimulatorSettings()
    sources: SourcesSettings = SourcesSettings()
    streams: StreamsSettings = StreamsSettings()
    aggregator: AggregatorSettings = AggregatorSettings()
    bff: BffSettings = BffSettings()
    trader: TraderSettings = TraderSettings()
    signals: dict[Name, SignalSettings] = {}
    strategies: dict[Name, StrategySettings] = {}
    fetchers: dict[Name, FetcherSettings] = {}
    feeds: tuple[FeedSettings, ...] = ()
    groups: dict[Name, GroupSettings] = {}
    validation: ValidationSettings = ValidationSettings()

    @model_validator(mode="after")
    def _check(self, info: ValidationInfo) -> Settings:
        if problems := self._contradictions(frozenset(info.context or ())):
            raise ConfigurationError(problems)
        return self

    def _contradictions(self, unknown: frozenset[str]) -> list[str]:
        """What does not fit together. unknown: places that did not validate, so that nothing is concluded from them."""
        problems: list[str] = []
        if self.mode == "auto" and not self.chain.embedded and not unknown & {"mode", "chain", "chain.url"}:
            problems.append("mode: 'auto' is for the embedded chain only; with chain.url set, name 'live' or 'test'")
        if self.clock_offset_ms and self.mode != "test" and "mode" not in unknown:
            problems.append("clock_offset_ms: only in mode 'test'")
        if self.broker.kind == "rabbitmq" and not self.broker.urls:
            problems.append("broker.urls: name at least one")
        for name, port in (("chain", self.chain.port), ("simulator", self.simulator.port)):
            if port == 0:
                problems.append(f"{name}.port: 0 is for services that announce their port; name a fixed one here")
        problems += self._signal_problems()
        if not {place.partition(".")[0] for place in unknown} & {"signals", "feeds", "groups", "strategies"}:
            problems += signal_feed_problems(self)
        for name, stated, known in (
            ("quotes", self.validation.quotes, QUOTE_RULES),
            ("reports", self.validation.reports, REPORT_RULES),
        ):
            problems += order_problems(stated, known, f"validation.{name}")
        if not self.groups and "groups" not in unknown:
            problems.append("groups: name at least one, with its feeds")
        if "groups" not in unknown:
            served = self.aggregator.groups or ()
            problems += [f"aggregator.groups: {name} is no group" for name in served if name not in self.groups]
        return problems + self._feeds_and_groups(unknown)

    def _signal_problems(self) -> list[str]:
        """Where signals do not follow one another as they should."""
        problems = []
        for name, signal in self.signals.items():
            for other in signal.feeds:
                if other not in self.signals:
                    problems.append(f"signals.{name}.feeds: {other} is no signal")
                elif self.signals[other].period_s != signal.period_s:
                    problems.append(f"signals.{name}.feeds: {other} has another period")
        if not problems:
            try:
                order({name: signal.feeds for name, signal in self.signals.items()})
            except CyclicFeedsError as error:
                problems.append(f"signals: {error}")
        return problems

    def _feeds_and_groups(self, unknown: frozenset[str]) -> list[str]:
        """Where feeds, groups and fetchers do not name one another as they should."""
        known = {feed.pair for feed in self.feeds}
        problems = ["feeds: a pair appears twice"] if len(known) < len(self.feeds) else []
        seen: dict[str, str] = {}
        for name, group in self.groups.items():
            if "fetchers" not in unknown:
                problems += self._group_problems(name)
            if "feeds" not in unknown:
                problems += [f"groups.{name}.feeds: {p} has no [[feeds]] entry" for p in group.feeds if p not in known]
            if len({feed.policy for feed in self.feeds if feed.pair in group.feeds}) > 1:
                problems.append(
                    f"groups.{name}.feeds: some are strict, some are not; the contract takes a round whole, so give "
                    "the strict ones a group of their own"
                )
            for pair in group.feeds:
                if pair in seen:
                    problems.append(f"groups.{name}.feeds: {pair} is in group {seen[pair]} already")
                seen.setdefault(pair, name)
        if "groups" not in unknown:
            problems += [f"feeds: {pair} is in no group" for pair in sorted(known - set(seen))]
        return problems

    def _group_problems(self, name: str) -> list[str]:
        """What is wrong with a group's numbers of people."""
        group, where = self.groups[name], f"groups.{name}"
        reporters = self.reporters(name)
        known, kind = (self.strategies, "strategy") if self.signal_of(name) else (self.fetchers, "fetcher")
        problems = [f"{where}.reporters: {r} is no {kind}" for r in reporters if r not in known]
        threshold = group.threshold or 2 * group.f + 1
        if len(reporters) < 3 * group.f + 1:
            problems.append(f"{where}: f = {group.f} needs at least {3 * group.f + 1} reporters, not {len(reporters)}")
        if not 2 * group.f + 1 <= threshold <= len(reporters):
            problems.append(f"{where}.threshold: {threshold} is not between 2f + 1 and the {len(reporters)} reporters")
        for feed in self.feeds:
            least = feed.min_contributors or threshold
            wanted = feed.wanted_contributors
            if feed.pair in group.feeds and wanted is not None and not least <= wanted <= len(reporters):
                problems.append(f"feeds.{feed.pair}.wanted_contributors: {wanted} is not between {least} and n")
            if feed.pair in group.feeds and not 2 * group.f + 1 <= least <= len(reporters):
                problems.append(f"feeds.{feed.pair}.min_contributors: {least} is not between 2f + 1 and n")
        return problems

    def reporters(self, group: str) -> tuple[str, ...]:
        """The fetchers, or of a signal the strategies, that report for `group`; in a fixed order."""
        listed = self.groups[group].reporters
        known = self.strategies if self.signal_of(group) else self.fetchers
        return tuple(sorted(known)) if listed is None else listed

    def all_reporters(self) -> tuple[str, ...]:
        """Those that report for any group, by name."""
        return tuple(sorted({name for group in self.groups for name in self.reporters(group)}))

    def signal_of(self, group: str) -> str | None:
        """The signal that `group` puts on chain; None: it is one of prices."""
        pairs = self.groups[group].feeds
        return next((feed.signal for feed in self.feeds if feed.signal and feed.pair in pairs), None)

    def group_of(self, signal: str) -> str | None:
        """The group that puts `signal` on chain; None: it stays off chain."""
        return next((name for name in self.groups if self.signal_of(name) == signal), None)

    def group(self, name: str) -> Group:
        """The domain's view of a configured group. Raises `KeyError`."""
        settings = self.groups[name]
        threshold = settings.threshold or 2 * settings.f + 1
        by_pair = {feed.pair: feed for feed in self.feeds}
        return Group(
            name=name,
            feeds=tuple(
                feed_of(
                    by_pair[pair], threshold, len(self.reporters(name)), self.signals.get(by_pair[pair].signal or "")
                )
                for pair in settings.feeds
            ),
            f=settings.f,
            threshold=threshold,
            grid_ms=settings.grid_ms,
            max_age_ms=int(settings.max_age_s * 1000),
        )

    def all_groups(self) -> tuple[Group, ...]:
        return tuple(self.group(name) for name in self.groups)

    def named_mode(self) -> Mode:
        """The mode, where it is decided. Raises `ConfigurationError` while it is `auto`."""
        if self.mode == "auto":
            raise ConfigurationError(["mode: 'auto' is decided by `fairmark up` only; name 'live' or 'test'"])
        return Mode(self.mode)

    def store_url(self, name: str) -> str:
        """The async SQLAlchemy URL of the store; with SQLite, a file of its own for each service `name`."""
        if self.store.url == "sqlite":
            return f"sqlite+aiosqlite:///{self.data_dir / f'{name}.sqlite'}"
        return _async_url(self.store.url)

    def market_store_url(self) -> str:
        """As `store_url`, of the minutes."""
        own = self.market.database
        return self.store_url("market") if own in (None, "sqlite") else _async_url(str(own))


def feed_of(settings: FeedSettings, threshold: int, reporters: int, signal: SignalSettings | None = None) -> Feed:
    """The domain's view of a feed. threshold, reporters: its group's, which are the defaults of its own numbers.

    signal: what it publishes. A signal has one source, its strategy; it is as old as its data, and may stand still.
    """
    feed = Feed(
        pair=Pair(settings.pair),
        decimals=settings.decimals,
        heartbeat_ms=settings.heartbeat_s * 1000,
        deviation_bps=settings.deviation_bps,
        min_contributors=settings.min_contributors or threshold,
        min_sources=settings.min_sources,
        wanted_sources=settings.wanted_sources,
        min_price=settings.min_price,
        max_price=settings.max_price,
        outlier_floor_bps=settings.outlier_floor_bps,
        unchanged_bps=settings.unchanged_bps,
        max_spread_bps=settings.max_spread_bps,
        max_jump_bps=settings.max_jump_bps,
        aggregate=Aggregate(settings.aggregate),
        trust=dict(settings.trust),
        wanted_contributors=settings.wanted_contributors or reporters,
        fresh_quote_age_ms=int(min(settings.fresh_quote_age_s, settings.max_quote_age_s) * 1000),
        max_quote_age_ms=int(settings.max_quote_age_s * 1000),
        fresh_receipt_age_ms=int(min(settings.fresh_receipt_age_s, settings.max_receipt_age_s) * 1000),
        max_receipt_age_ms=int(settings.max_receipt_age_s * 1000),
        fresh_unchanged_ms=int(min(settings.fresh_unchanged_s, settings.max_unchanged_s) * 1000),
        max_unchanged_ms=int(settings.max_unchanged_s * 1000),
        policy=settings.policy,
        description=settings.description,
    )
    if signal is None:
        return feed
    age_ms = signal.max_age_ms
    return msgspec.structs.replace(
        feed,
        signal=True,
        decimals=signal.decimals,
        min_price=signal.minimum,
        max_price=signal.maximum,
        min_sources=1,
        wanted_sources=1,
        fresh_quote_age_ms=age_ms,
        max_quote_age_ms=age_ms,
        fresh_receipt_age_ms=age_ms,
        max_receipt_age_ms=age_ms,
        fresh_unchanged_ms=NEVER_MS,
        max_unchanged_ms=NEVER_MS,
        policy=signal.policy,
    )


def _async_url(url: str) -> str:
    url = re.sub(r"^sqlite://", "sqlite+aiosqlite://", url)
    return re.sub(r"^postgres(ql)?://", "postgresql+asyncpg://", url)


def load(path: Path | None, environ: Mapping[str, str] | None = None) -> Settings:
    """Read `path` (or nothing but defaults), lay the environment over it, and validate the whole.

    Raises `ConfigurationError` with every problem found.
    """
    where = str(path) if path else "environment"
    tree: dict[str, Any] = {}
    if path is not None:
        try:
            tree = tomllib.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ConfigurationError(["no such file; name another with --config"], where) from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigurationError([f"not TOML: {error}"], where) from error
        except OSError as error:
            raise ConfigurationError([f"cannot be read: {error.strerror}"], where) from error
    problems = _take_secrets(tree)
    variables, misplaced = _overlay(tree, os.environ if environ is None else environ)
    settings = None
    try:
        settings = Settings.model_validate(tree)
    except ValidationError as error:
        details: list[Any] = list(error.errors(include_url=False))
        found = [*dict.fromkeys(_problem(tree, detail) for detail in details), *_contradictions_beside(tree, details)]
        problems += [_named(problem, variables) for problem in found]
    except ConfigurationError as error:
        problems += [_named(problem, variables) for problem in error.problems]
    problems += misplaced
    if settings is None or problems:
        given = all(problem.startswith(PREFIX) for problem in problems)
        raise ConfigurationError(problems, "environment" if given else where)
    return settings


def secret(value: SecretStr | None, file: Path | None, what: str) -> str:
    """A secret from the environment or from its file. Raises `ConfigurationError` saying how to give it.

    what: its place, such as `aggregator.key`; a file's `key` is checked to be a private key, or a keystore.
    """
    if value is not None and value.get_secret_value():
        return value.get_secret_value()
    if file is None:
        raise ConfigurationError([f"{what}: missing; set {_variable(what)}, or {what}_file to a file that holds it"])
    try:
        text = file.read_text(encoding="utf-8").strip()
    except UnicodeDecodeError:
        text = ""
    except OSError as error:
        raise ConfigurationError([f"{what}_file: {file} cannot be read: {error.strerror}"]) from error
    if not text:
        raise ConfigurationError([f"{what}_file: {file} holds no text"])
    if what.endswith("key") and not (_is_key(text) or text.startswith("{")):
        raise ConfigurationError([f"{what}_file: {file} holds no private key: its 32 bytes as hex, or a keystore"])
    return text


def secrets_of(settings: Settings, places: Iterable[str]) -> tuple[str, ...]:
    """The secrets at `places` (as `fetchers.fetcher-a.key`), in their order.

    Raises `ConfigurationError` that lists all that are missing, not just the first.
    """
    found, problems = [], []
    for place in places:
        *parents, leaf = place.split(".")
        section: Any = settings
        for part in parents:
            section = section[part] if isinstance(section, Mapping) else getattr(section, part)
        try:
            found.append(secret(getattr(section, leaf), getattr(section, f"{leaf}_file"), place))
        except ConfigurationError as error:
            problems += error.problems
    if problems:
        raise ConfigurationError(problems)
    return tuple(found)


def _variable(place: str) -> str:
    return PREFIX + place.upper().replace(".", "__").replace("-", "_")


def _take_secrets(tree: dict[str, Any], path: str = "") -> list[str]:
    """Take the secrets out of a file's tree: a problem for each, and none of them validated or shown."""
    problems = []
    for name, value in list(tree.items()):
        if isinstance(value, dict):
            problems += _take_secrets(value, f"{path}{name}.")
        elif name in SECRETS:
            del tree[name]
            problems.append(f"{path}{name}: a secret does not belong in the file; use the environment or {name}_file")
    return problems


_LISTS = frozenset(
    {"urls", "aggregator_urls", "sources", "groups", "feeds", "reporters", "quotes", "reports", "pairs", "exchanges"}
)
"""Settings of several values: in the environment, separated by commas."""


def _overlay(tree: dict[str, Any], environ: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """Lay the environment over `tree`. Returns the variable that gave each place, and what fits nowhere."""
    variables: dict[str, str] = {}
    problems = []
    for variable, value in environ.items():
        if not variable.startswith(PREFIX) or variable in NOT_SETTINGS:
            continue
        *parents, leaf = variable[len(PREFIX) :].lower().split("__")
        node: Any = tree
        path = []
        for part in parents:
            # names of groups and fetchers may hold dashes, which an environment variable cannot
            key = next((name for name in node if name.replace("-", "_") == part), part)
            path.append(key)
            node = node.setdefault(key, {})
            if not isinstance(node, dict):
                problems.append(f"{variable}: {'.'.join(path)} is no table")
                break
        else:
            node[leaf] = [item.strip() for item in value.split(",")] if parents and leaf in _LISTS else value
            variables[".".join([*path, leaf])] = variable
    return variables, problems


def _named(problem: str, variables: Mapping[str, str]) -> str:
    """The problem under the name by which its setting was given: the variable's, where that was one."""
    place, _, message = problem.partition(": ")
    variable = variables.get(place) or variables.get(re.sub(r"\.\d+$", "", place))
    return f"{variable}: {message}" if variable else problem


def _parts(tree: Any, detail: Any) -> list[Any]:
    """Where in `tree` a problem is, without what pydantic adds of its own: a union's branch, a key's mark."""
    parts: list[Any] = []
    for part in detail["loc"]:
        here = tree if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ()
        if part not in here:
            return [*parts, part] if detail["type"] == "missing" else parts
        tree = tree[part]
        parts.append(part)
    return parts


def _problem(tree: Any, detail: Any) -> str:
    parts = _parts(tree, detail)
    place = ".".join(str(part) for part in parts) or "the whole"
    message = detail["msg"].removeprefix("Value error, ")
    if detail["type"] == "extra_forbidden":
        return f"{place}: no such setting; check its spelling"
    if detail["type"] == "missing":
        return f"{place}: missing"
    if detail["type"] == "model_type":
        return f"{place}: is a table of settings, not one value"
    if detail["type"] == "string_pattern_mismatch":
        message = _PATTERNS.get(detail["ctx"]["pattern"], message)
    name = next((part for part in reversed(parts) if isinstance(part, str)), "")
    tells = any(word in name for word in ("key", "token", "url", "secret", "password"))  # perhaps a secret
    if not tells and isinstance(detail.get("input"), str | int | float | bool):
        message += f" (got {detail['input']!r})"
    return f"{place}: {message}"


def _contradictions_beside(tree: dict[str, Any], details: Sequence[Any]) -> list[str]:
    """What does not fit together in the parts of `tree` that are sound.

    A faulty fetcher still counts as one, and a faulty feed still has its pair; anything else that is faulty is taken
    out, and nothing is concluded from its absence.
    """
    tree = copy.deepcopy(tree)
    unknown: set[str] = set()
    for place in dict.fromkeys(tuple(_parts(tree, detail)) for detail in details):
        _take_out(tree, place, unknown)
    tree["feeds"] = [feed for feed in tree.get("feeds", ()) if feed is not None]
    try:
        Settings.model_validate(tree, context=unknown)
    except ConfigurationError as error:
        return error.problems
    except ValidationError:
        pass  # beyond repair: what is wrong with it is said already
    return []


def _take_out(tree: dict[str, Any], place: tuple[Any, ...], unknown: set[str]) -> None:
    """Take a faulty place out of `tree`, or put something neutral there."""
    top = place[0] if place else ""
    entries = tree.get(top)
    if top == "feeds" and isinstance(entries, list) and len(place) > 1:
        entries[place[1]] = feed = _only_pair(entries[place[1]])
        unknown |= {"feeds"} if feed is None else set()
    elif len(place) == 1 or not isinstance(entries, dict):
        tree.pop(top, None)
        unknown.add(top)
    elif top == "fetchers" and re.match(_NAME, place[1]):
        entries[place[1]] = {"sources": ["none"]}
    elif top == "strategies" and re.match(_NAME, place[1]):
        entries[place[1]] = {}
    elif top in {"fetchers", "groups"}:
        entries.pop(place[1], None)
        unknown.add(top)
    else:
        entries.pop(place[1], None)
        unknown.add(f"{top}.{place[1]}")


def _only_pair(feed: Any) -> dict[str, Any] | None:
    try:
        signal = feed.get("signal")
        return {"pair": Pair(feed["pair"]), "signal": signal if isinstance(signal, str) else None}
    except (TypeError, KeyError, ValueError, AttributeError):
        return None
