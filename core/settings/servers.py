"""What Fairmark stands on: the chain's nodes, the broker, the store; and the simulator and the logs."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, SecretStr

from core.settings.kinds import Address, Key, Name, Port, Section, Url, checked_node, checked_store


class SubmissionSettings(Section):
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


class ChainSettings(Section):
    """The EVM nodes. `embedded` starts an eth-tester chain in a process of its own, for this run only."""

    url: Annotated[str, AfterValidator(checked_node)] = Field(
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


class BrokerSettings(Section):
    """The message bus: `memory` inside one process, or RabbitMQ at one of `urls`, tried in turn."""

    kind: Literal["memory", "rabbitmq"] = "memory"
    urls: tuple[Url, ...] = ("amqp://guest:guest@127.0.0.1:5672/",)
    namespace: Name = "fairmark"
    publish_timeout_s: float = Field(default=2.0, gt=0, le=30)


class StoreSettings(Section):
    """Where attempts and signed reports are kept: an SQLAlchemy URL, SQLite by default."""

    url: Annotated[str, AfterValidator(checked_store)] = Field(
        default="sqlite", description="`sqlite` (a file in data_dir) or `postgresql://user@host/database`"
    )


class SimulatorSettings(Section):
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


class LogSettings(Section):
    """Logs go to standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "json", "console"] = Field(default="auto", description="auto: console on a terminal")
