"""The services: where each listens, whom it asks, how long it waits, and what it signs with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

from core.settings.kinds import Address, Key, Name, Port, Section, Url, checked_regex, checked_share


class SourcesSettings(Section):
    """How fetchers ask their sources over HTTP. What an exchange allows stands in the catalogue (`[limit]`)."""

    timeout_s: float = Field(default=1.5, gt=0, le=30, description="one request, to its last byte")
    timeouts: dict[Name, Annotated[float, Field(gt=0, le=30)]] = Field(
        default={}, description="the same, for single sources: timeouts = { coingecko = 3.0 }"
    )
    share: Annotated[int | Literal["fetchers"], BeforeValidator(checked_share)] = Field(
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


class StreamsSettings(Section):
    """Prices that exchanges send by themselves, over WebSocket. Where a stream shows none, the source is asked."""

    enabled: bool = True
    fresh_s: float = Field(
        default=5.0, gt=0, le=60, description="an older streamed price is not used; the source is asked instead"
    )
    sample_s: float = Field(
        default=1.0, gt=0, le=60, description="between rounds, seconds between looks at the streams for hints"
    )


class FetcherSettings(Section):
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


class AggregatorSettings(Section):
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


class BffSettings(Section):
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
    cors_origin_regex: Annotated[str, AfterValidator(checked_regex)] = (
        r"https?://(localhost|127\.0\.0\.1|\[::1\])(:\d+)?"
    )


class TraderSettings(Section):
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


class StrategySettings(Section):
    """One strategy's key; default: a file in data_dir, made at the first start. Those that report on chain are listed,
    as fetchers are: `[strategies.NAME]`, be it empty."""

    address: Address | None = Field(default=None, description="the reporter's address, for the deployer")
    chain_url: Url | None = Field(default=None, description="this strategy's own node; default: chain.url")
    key: Key | None = None
    key_file: Path | None = Field(default=None, description="holds the key in hex, or an encrypted keystore")
    key_password: SecretStr | None = None
    key_password_file: Path | None = None
