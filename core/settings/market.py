"""The market data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, SecretStr, model_validator

from core.settings.kinds import Name, Port, Section, Url, checked_address, checked_store
from core.types import Pair


class LinesSettings(Section):
    """A TCP source of newline-delimited JSON: `{"symbol", "price", "timestamp"}`, milliseconds."""

    address: Annotated[str, AfterValidator(checked_address)] = Field(description="`host:port`")
    mode: Literal["live", "test", "both"] = Field(
        default="both", description="the market's mode in which it is read; its ticks count as of that mode"
    )


class MarketSettings(Section):
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
    database: Annotated[str, AfterValidator(checked_store)] | None = Field(
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
