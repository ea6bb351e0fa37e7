"""Configuration: validated whole, every problem at once with its place, environment over file, secrets never in it."""

from pathlib import Path

import pytest

from core.errors import ConfigurationError
from core.settings import load, secret
from core.types import Mode

PROJECT = Path(__file__).resolve().parents[3]

MINIMAL = """
mode = "test"
[fetchers.a]
sources = ["binance"]
[fetchers.b]
sources = ["kraken"]
[fetchers.c]
sources = ["okx"]
[fetchers.fetcher-d]
sources = ["gate"]
[[feeds]]
pair = "BTC/USD"
[groups.majors]
feeds = ["BTC/USD"]
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "fairmark.toml"
    path.write_text(text, encoding="utf-8")
    return path


def problems(folder: Path, text: str, environ: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        load(write(folder, text), environ or {})
    return caught.value.problems


def test_the_projects_own_file_names_seven_feeds_and_four_fetchers() -> None:
    settings = load(PROJECT / "fairmark.toml", {})
    group = settings.group("majors")
    assert [feed.pair for feed in group.feeds] == [
        "BTC/USD", "ETH/USD", "SOL/USD", "DOGE/USD", "TON/USD", "USDT/USD", "USDC/USD"
    ]  # fmt: skip
    assert (group.f, group.threshold) == (1, 3)
    assert settings.reporters("majors") == ("fetcher-a", "fetcher-b", "fetcher-c", "fetcher-d")
    assert len({fetcher.sources for fetcher in settings.fetchers.values()}) == 4
    assert all(feed.min_contributors == 3 for feed in group.feeds)


def test_every_problem_is_listed_at_once_with_its_place(tmp_path: Path) -> None:
    text = MINIMAL.replace('mode = "test"', 'mode = "foo"\nmod = 1\n[bff]\nport = 99999\n[aggregator]\ntoken = "s"')
    assert sorted(problems(tmp_path, text)) == [
        "aggregator.token: a secret does not belong in the file; use the environment or token_file",
        "bff.port: Input should be less than or equal to 65535 (got 99999)",
        "mod: no such setting; check its spelling",
        "mode: Input should be 'auto', 'live' or 'test' (got 'foo')",
    ]


def test_numbers_of_people_are_checked(tmp_path: Path) -> None:
    text = MINIMAL.replace('[fetchers.fetcher-d]\nsources = ["gate"]\n', "") + "threshold = 2\n"
    assert problems(tmp_path, text) == [
        "groups.majors: f = 1 needs at least 4 reporters, not 3",
        "groups.majors.threshold: 2 is not between 2f + 1 and the 3 reporters",
        "feeds.BTC/USD.min_contributors: 2 is not between 2f + 1 and n",
    ]


def test_feeds_and_groups_must_name_each_other(tmp_path: Path) -> None:
    text = MINIMAL.replace('feeds = ["BTC/USD"]', 'feeds = ["ETH/USD"]')
    assert problems(tmp_path, text) == [
        "groups.majors.feeds: ETH/USD has no [[feeds]] entry",
        "feeds: BTC/USD is in no group",
    ]


def test_mode_must_be_named_on_any_chain_but_the_embedded_one(tmp_path: Path) -> None:
    text = MINIMAL.replace('mode = "test"', "")
    assert problems(tmp_path, text, {"FAIRMARK_CHAIN__URL": "http://127.0.0.1:8545"}) == [
        "mode: 'auto' is for the embedded chain only; with chain.url set, name 'live' or 'test'"
    ]


def test_a_price_limit_that_the_report_cannot_carry_is_refused(tmp_path: Path) -> None:
    text = MINIMAL.replace('pair = "BTC/USD"', 'pair = "BTC/USD"\ndecimals = 18', 1)
    assert problems(tmp_path, text) == [
        "feeds.0: max_price at 18 decimals does not fit the report's 64 bits; lower one of them"
    ]


def test_the_environment_overrides_the_file(tmp_path: Path) -> None:
    environ = {
        "FAIRMARK_BFF__PORT": "9000",
        "FAIRMARK_MODE": "live",
        "FAIRMARK_FETCHERS__FETCHER_D__SOURCES": "kraken, okx",
        "FAIRMARK_BROKER__URLS": "amqp://one:5672/,amqp://two:5672/",
        "FAIRMARK_AGGREGATOR__TOKEN": "s3cret",
        "FAIRMARK_REQUIRE_SERVICES": "1",
    }
    settings = load(write(tmp_path, MINIMAL), environ)
    assert settings.bff.port == 9000
    assert settings.named_mode() is Mode.LIVE
    assert settings.fetchers["fetcher-d"].sources == ("kraken", "okx")
    assert settings.broker.urls == ("amqp://one:5672/", "amqp://two:5672/")
    assert secret(settings.aggregator.token, None, "aggregator.token") == "s3cret"
    assert "s3cret" not in repr(settings)


def test_a_misspelt_variable_is_a_problem_and_shows_no_secret(tmp_path: Path) -> None:
    found = problems(tmp_path, MINIMAL, {"FAIRMARK_AGGREGATOR__TOKN": "s3cret"})
    assert found == ["aggregator.tokn: no such setting; check its spelling"]


def test_a_missing_secret_says_how_to_give_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"set FAIRMARK_AGGREGATOR__KEY, or aggregator\.key_file"):
        secret(None, None, "aggregator.key")
    with pytest.raises(ConfigurationError, match=r"aggregator\.key_file: .*missing cannot be read"):
        secret(None, tmp_path / "missing", "aggregator.key")
    (tmp_path / "key").write_text("0xabc\n")
    assert secret(None, tmp_path / "key", "aggregator.key") == "0xabc"


@pytest.mark.parametrize(
    ("content", "message"),
    [("mode = ", "not TOML"), (None, "no such file")],
)
def test_an_unreadable_file_is_one_clear_problem(tmp_path: Path, content: str | None, message: str) -> None:
    path = tmp_path / "fairmark.toml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigurationError, match=message):
        load(path, {})


def test_the_clock_may_be_shifted_in_test_mode_only(tmp_path: Path) -> None:
    text = MINIMAL.replace('mode = "test"', 'mode = "live"')
    assert problems(tmp_path, text, {"FAIRMARK_CLOCK_OFFSET_MS": "5"}) == ["clock_offset_ms: only in mode 'test'"]


def test_store_urls_name_their_async_drivers(tmp_path: Path) -> None:
    path = write(tmp_path, MINIMAL)
    assert load(path, {}).store_url("fetcher-a") == "sqlite+aiosqlite:///.fairmark/fetcher-a.sqlite"
    settings = load(path, {"FAIRMARK_STORE__URL": "postgresql://fm@db/fairmark"})
    assert settings.store_url("fetcher-a") == "postgresql+asyncpg://fm@db/fairmark"
