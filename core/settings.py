"""One TOML file, validated whole at start: every problem is listed at once with its place.

Environment variables override the file: `FAIRMARK_` and the path with `__` between its parts, as in
`FAIRMARK_BFF__PORT=9000` or `FAIRMARK_FETCHERS__A__KEY_FILE=/run/secrets/a`. Secrets come from the environment or from
files (`…_file`), never from the TOML file itself.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator

from core.errors import ConfigurationError
from core.types import Feed, Group, Mode, Pair

PREFIX = "FAIRMARK_"
NOT_SETTINGS = {"FAIRMARK_CONFIG", "FAIRMARK_REQUIRE_SERVICES"}
"""Variables that name the file itself, or steer the tests."""
Port = Annotated[int, Field(ge=0, le=65_535)]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,30}$")]
Address = Annotated[str, Field(pattern=r"^0x[0-9a-fA-F]{40}$")]
Url = Annotated[str, Field(pattern=r"^[a-z][a-z0-9+]*://\S+$")]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ChainSettings(_Section):
    """The EVM node. `embedded` starts an eth-tester chain in a process of its own, for this run only."""

    url: Literal["embedded"] | Url = "embedded"
    host: str = "127.0.0.1"
    port: Port = 8545
    chain_id: int = Field(default=31337, ge=1)
    deployments_dir: Path = Path("deployments")
    request_timeout_s: float = Field(default=5.0, gt=0, le=60)
    admin: Address | None = Field(default=None, description="owner of the contract after deployment; default: deployer")
    guardian: Address | None = Field(default=None, description="may pause, and nothing else; default: the owner")
    deployer_key: SecretStr | None = None
    deployer_key_file: Path | None = None

    @property
    def embedded(self) -> bool:
        return self.url == "embedded"

    @property
    def rpc_url(self) -> str:
        return f"http://{self.host}:{self.port}" if self.url == "embedded" else self.url


class BrokerSettings(_Section):
    """The message bus: `memory` inside one process, or RabbitMQ at one of `urls`, tried in turn."""

    kind: Literal["memory", "rabbitmq"] = "memory"
    urls: tuple[Url, ...] = ("amqp://guest:guest@127.0.0.1:5672/",)
    namespace: Name = "fairmark"
    publish_timeout_s: float = Field(default=2.0, gt=0, le=30)


class StoreSettings(_Section):
    """Where attempts and signed reports are kept: an SQLAlchemy URL, SQLite by default."""

    url: str = Field(default="sqlite", description="`sqlite` (a file in data_dir) or `postgresql://user@host/database`")


class SimulatorSettings(_Section):
    """Test mode's exchanges. Each simulated venue listens on a port of its own; the control port tells which."""

    host: str = "127.0.0.1"
    port: Port = 8010
    url: Url | None = Field(default=None, description="where fetchers find the control port; default: host and port")
    base_port: int = Field(default=0, ge=0, le=65_000, description="the first venue listens here; 0: any free ports")
    seed: int = 1
    volatility_bps: int = Field(default=2, ge=0, le=1000, description="one price step, each tick of tick_ms")
    tick_ms: int = Field(default=500, ge=10)

    @property
    def control_url(self) -> str:
        return self.url or f"http://{self.host}:{self.port}"


class AggregatorSettings(_Section):
    """Rounds. Times in milliseconds."""

    host: str = "127.0.0.1"
    port: Port = 8001
    name: Name = "aggregator"
    deadline_ms: int = Field(default=800, ge=300, le=30_000)
    grace_ms: int = Field(default=50, ge=0, le=5_000, description="after a quorum, how long to wait for the rest")
    confirm_timeout_ms: int = Field(default=5_000, ge=100, le=60_000)
    heartbeats: bool = Field(default=True, description="start attempts on heartbeat and on deviation hints")
    key: SecretStr | None = None
    key_file: Path | None = None
    token: SecretStr | None = None
    token_file: Path | None = None


class BffSettings(_Section):
    """What clients see."""

    host: str = "127.0.0.1"
    port: Port = 8000
    aggregator_url: Url = "http://127.0.0.1:8001"
    token: SecretStr | None = None
    token_file: Path | None = None
    refresh_timeout_ms: int = Field(default=10_000, ge=100, le=60_000)
    poll_ms: int = Field(default=1_000, ge=50, le=60_000, description="how often the chain is read for all prices")
    cors_origin_regex: str = r"https?://(localhost|127\.0\.0\.1|\[::1\])(:\d+)?"


class FetcherSettings(_Section):
    """One fetcher: its sources in order of priority, and the key it signs with."""

    sources: tuple[Name, ...] = Field(min_length=1)
    host: str = "127.0.0.1"
    port: Port = 0
    address: Address | None = Field(default=None, description="the reporter's address, for the deployer")
    chain_url: Url | None = Field(default=None, description="this fetcher's own node; default: chain.url")
    key: SecretStr | None = None
    key_file: Path | None = None
    sample_s: float = Field(default=5.0, ge=0, description="between rounds, seconds between samples for hints; 0: none")


class FeedSettings(_Section):
    """One published pair. See `core.types.Feed` for the meaning of each rule."""

    pair: str
    decimals: int = Field(default=8, ge=0, le=18)
    heartbeat_s: int = Field(default=60, ge=1)
    deviation_bps: int = Field(default=50, ge=1, le=10_000)
    min_contributors: int | None = Field(default=None, ge=1, description="default: the group's threshold")
    min_sources: int = Field(default=2, ge=1)
    wanted_sources: int = Field(default=3, ge=1)
    min_price: Decimal = Field(default=Decimal("0.00000001"), gt=0)
    max_price: Decimal = Field(default=Decimal(100_000_000), gt=0)
    outlier_floor_bps: int = Field(default=50, ge=0)
    max_spread_bps: int = Field(default=150, ge=1)
    max_quote_age_s: float = Field(default=60, gt=0)
    description: str = ""

    @model_validator(mode="after")
    def _check(self) -> FeedSettings:
        Pair(self.pair)
        if self.wanted_sources < self.min_sources:
            raise ValueError("wanted_sources is below min_sources")
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
    reporters: tuple[Name, ...] | None = Field(default=None, description="fetchers that report; default: all")
    f: int = Field(default=1, ge=0, le=40)
    threshold: int | None = Field(default=None, ge=1, description="default: 2f + 1")
    grid_ms: int = Field(default=10, ge=1, le=1_000)
    max_age_s: float = Field(default=60, gt=0, le=3_600)


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
    simulator: SimulatorSettings = SimulatorSettings()
    aggregator: AggregatorSettings = AggregatorSettings()
    bff: BffSettings = BffSettings()
    fetchers: dict[Name, FetcherSettings] = {}
    feeds: tuple[FeedSettings, ...] = ()
    groups: dict[Name, GroupSettings] = {}

    @model_validator(mode="after")
    def _check(self) -> Settings:
        problems: list[str] = []
        if self.mode == "auto" and not self.chain.embedded:
            problems.append("mode: 'auto' is for the embedded chain only; with chain.url set, name 'live' or 'test'")
        if self.clock_offset_ms and self.mode != "test":
            problems.append("clock_offset_ms: only in mode 'test'")
        if self.broker.kind == "rabbitmq" and not self.broker.urls:
            problems.append("broker.urls: name at least one")
        if not self.groups:
            problems.append("groups: name at least one, with its feeds")
        known = {feed.pair for feed in self.feeds}
        if len(known) < len(self.feeds):
            problems.append("feeds: a pair appears twice")
        seen: dict[str, str] = {}
        for name, group in self.groups.items():
            problems += self._group_problems(name)
            problems += [
                f"groups.{name}.feeds: {pair} has no [[feeds]] entry" for pair in group.feeds if pair not in known
            ]
            for pair in group.feeds:
                if pair in seen:
                    problems.append(f"groups.{name}.feeds: {pair} is in group {seen[pair]} already")
                seen.setdefault(pair, name)
        problems += [f"feeds: {pair} is in no group" for pair in sorted(known - set(seen))]
        if problems:
            raise ConfigurationError(problems)
        return self

    def _group_problems(self, name: str) -> list[str]:
        """What is wrong with a group's numbers of people."""
        group, where = self.groups[name], f"groups.{name}"
        reporters = self.reporters(name)
        problems = [f"{where}.reporters: {r} is no fetcher" for r in reporters if r not in self.fetchers]
        threshold = group.threshold or 2 * group.f + 1
        if len(reporters) < 3 * group.f + 1:
            problems.append(f"{where}: f = {group.f} needs at least {3 * group.f + 1} reporters, not {len(reporters)}")
        if not 2 * group.f + 1 <= threshold <= len(reporters):
            problems.append(f"{where}.threshold: {threshold} is not between 2f + 1 and the {len(reporters)} reporters")
        for feed in self.feeds:
            least = feed.min_contributors or threshold
            if feed.pair in group.feeds and not 2 * group.f + 1 <= least <= len(reporters):
                problems.append(f"feeds.{feed.pair}.min_contributors: {least} is not between 2f + 1 and n")
        return problems

    def reporters(self, group: str) -> tuple[str, ...]:
        """The fetchers that report for `group`, in the order in which the contract lists their keys."""
        listed = self.groups[group].reporters
        return tuple(sorted(self.fetchers)) if listed is None else listed

    def group(self, name: str) -> Group:
        """The domain's view of a configured group. Raises `KeyError`."""
        settings = self.groups[name]
        threshold = settings.threshold or 2 * settings.f + 1
        by_pair = {feed.pair: feed for feed in self.feeds}
        return Group(
            name=name,
            feeds=tuple(_feed(by_pair[pair], threshold) for pair in settings.feeds),
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
        return re.sub(r"^postgres(ql)?://", "postgresql+asyncpg://", self.store.url)


def _feed(settings: FeedSettings, threshold: int) -> Feed:
    return Feed(
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
        max_spread_bps=settings.max_spread_bps,
        max_quote_age_ms=int(settings.max_quote_age_s * 1000),
        description=settings.description,
    )


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
    problems = _secrets_in_file(tree)
    _overlay(tree, os.environ if environ is None else environ)
    try:
        settings = Settings.model_validate(tree)
    except ValidationError as error:
        problems += [_problem(detail) for detail in error.errors()]
    except ConfigurationError as error:
        problems += error.problems
    if problems:
        raise ConfigurationError(problems, where)
    return settings


def secret(value: SecretStr | None, file: Path | None, what: str) -> str:
    """A secret from the environment or from its file. Raises `ConfigurationError` saying how to give it."""
    if value is not None:
        return value.get_secret_value()
    if file is None:
        variable = PREFIX + what.upper().replace(".", "__").replace("-", "_")
        raise ConfigurationError([f"{what}: missing; set {variable}, or {what}_file to a file that holds it"])
    try:
        return file.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ConfigurationError([f"{what}_file: {file} cannot be read: {error.strerror}"]) from error


def _secrets_in_file(tree: Mapping[str, Any], path: str = "") -> list[str]:
    problems = []
    for name, value in tree.items():
        if isinstance(value, Mapping):
            problems += _secrets_in_file(value, f"{path}{name}.")
        elif name in {"key", "token", "deployer_key"}:
            problems.append(f"{path}{name}: a secret does not belong in the file; use the environment or {name}_file")
    return problems


def _overlay(tree: dict[str, Any], environ: Mapping[str, str]) -> None:
    for variable, value in environ.items():
        if not variable.startswith(PREFIX) or variable in NOT_SETTINGS:
            continue
        *parents, leaf = variable[len(PREFIX) :].lower().split("__")
        node = tree
        for part in parents:
            # names of groups and fetchers may hold dashes, which an environment variable cannot
            key = next((name for name in node if name.replace("-", "_") == part), part)
            node = node.setdefault(key, {})
            if not isinstance(node, dict):
                raise ConfigurationError([f"{variable}: {part} is no table"], "environment")
        node[leaf] = [item.strip() for item in value.split(",")] if leaf in {"urls", "sources"} else value


def _problem(detail: Any) -> str:
    place = ".".join(str(part) for part in detail["loc"]) or "the whole"
    message = detail["msg"].removeprefix("Value error, ")
    if detail["type"] == "extra_forbidden":
        message = "no such setting; check its spelling"
    elif detail["type"] == "missing":
        message = "missing"
    elif not isinstance(detail.get("input"), dict | list) and "key" not in place and "token" not in place:
        message += f" (got {detail.get('input')!r})"
    return f"{place}: {message}"
