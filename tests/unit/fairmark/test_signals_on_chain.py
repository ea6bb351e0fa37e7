"""Commands where a signal is on chain: who signs, whose key is made when, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from contracts.report import LocalSigner
from core.errors import ConfigurationError, StartError
from core.settings import Settings, load
from fairmark import access, embedded, signals
from fairmark.signals import signal_settings
from signals.strategy import Rule

CONFIG = """
mode = "test"
[signals.risk]
minimum = "0.5"
maximum = "90"
[strategies.alpha]
[strategies.beta]
address = "0x9f364fdb7f7717aa850be0b15ad720a8f7f04463"
[groups.risk]
feeds = ["RISK/INDEX"]
f = 0
[[feeds]]
pair = "RISK/INDEX"
signal = "risk"
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    path = tmp_path / "fairmark.toml"
    path.write_text(CONFIG)
    return load(path, {"FAIRMARK_DATA_DIR": str(tmp_path / "data")})


async def start(settings: Settings, name: str, trader_url: str | None = None) -> None:
    own = signal_settings(settings)["risk"]
    await signals.run_strategy(
        settings,
        name,
        signals=["127.0.0.1:1"],
        feed="risk",
        trader_url=trader_url,
        host="127.0.0.1",
        port=0,
        rule=Rule.MEAN,
        policy=signals.FeedRule(),
        own=own,
    )


def test_a_strategys_key_is_made_once_by_who_starts_and_never_by_who_looks(settings: Settings) -> None:
    kept = settings.data_dir / "strategies" / "alpha.key"
    with pytest.raises(ConfigurationError, match=r"strategies\.alpha\.address: missing, and its key is not here"):
        access.reporter_address(settings, "alpha")
    assert not kept.exists()
    key = access.strategy_key(settings, "alpha")
    assert key == kept.read_text() == access.strategy_key(settings, "alpha")
    assert kept.stat().st_mode & 0o777 == 0o600
    assert access.reporter_address(settings, "alpha") == LocalSigner(key).address
    assert access.reporter_address(settings, "beta") == "0x9f364fdb7f7717aa850be0b15ad720a8f7f04463"


async def test_a_strategy_signs_with_the_key_of_its_configured_address_or_not_at_all(settings: Settings) -> None:
    with pytest.raises(ConfigurationError, match=r"strategies\.beta\.address: 0x9f36.* is not the address of its key"):
        await start(settings, "beta")


async def test_only_a_reporter_of_the_group_may_report(settings: Settings) -> None:
    with pytest.raises(ConfigurationError, match=r"groups\.risk\.reporters: gamma is none of them: alpha, beta"):
        await start(settings, "gamma")


async def test_a_signal_on_chain_has_no_trader(settings: Settings) -> None:
    with pytest.raises(StartError, match="risk is on chain in group risk"):
        await start(settings, "alpha", trader_url="http://127.0.0.1:1")
    with pytest.raises(StartError, match="every configured signal is on chain"):
        await signals.run_trader(settings, signal_settings(settings), host="127.0.0.1", port=0)


async def test_the_embedded_tree_has_no_strategies(settings: Settings) -> None:
    with pytest.raises(StartError, match="strategies report for it"):
        await embedded.up(settings, None, lambda _: None, lambda _: None)
