"""Configuration: validated whole, every problem at once with its place, environment over file, secrets never in it."""

from decimal import Decimal
from pathlib import Path

import pytest

from core.errors import ConfigurationError
from core.settings import load, secret, secrets_of
from core.types import Mode

PROJECT = Path(__file__).resolve().parents[3]
KEY = "ab" * 32

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
        "FAIRMARK_BFF__AGGREGATOR_URLS": "http://two:8001",
        "FAIRMARK_AGGREGATOR__GROUPS": "majors",
        "FAIRMARK_AGGREGATOR__TOKEN": "s3cret",
        "FAIRMARK_REQUIRE_SERVICES": "1",
    }
    settings = load(write(tmp_path, MINIMAL), environ)
    assert settings.bff.port == 9000
    assert settings.named_mode() is Mode.LIVE
    assert settings.fetchers["fetcher-d"].sources == ("kraken", "okx")
    assert settings.broker.urls == ("amqp://one:5672/", "amqp://two:5672/")
    assert settings.bff.aggregator_urls == ("http://two:8001",)
    assert settings.aggregator.groups == ("majors",)
    assert secret(settings.aggregator.token, None, "aggregator.token") == "s3cret"
    assert "s3cret" not in repr(settings)


def test_a_misspelt_variable_is_a_problem_and_shows_no_secret(tmp_path: Path) -> None:
    found = problems(tmp_path, MINIMAL, {"FAIRMARK_AGGREGATOR__TOKN": "s3cret"})
    assert found == ["FAIRMARK_AGGREGATOR__TOKN: no such setting; check its spelling"]


def test_a_missing_secret_says_how_to_give_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"set FAIRMARK_AGGREGATOR__KEY, or aggregator\.key_file"):
        secret(None, None, "aggregator.key")
    with pytest.raises(ConfigurationError, match=r"aggregator\.key_file: .*missing cannot be read"):
        secret(None, tmp_path / "missing", "aggregator.key")
    (tmp_path / "key").write_text(f"0x{KEY}\n")
    assert secret(None, tmp_path / "key", "aggregator.key") == f"0x{KEY}"
    (tmp_path / "token").write_text("word\n")
    assert secret(None, tmp_path / "token", "aggregator.token") == "word"


@pytest.mark.parametrize("content", [b"0xabc", b"00" * 32, b"ff" * 32, b"\xff\xfe"])
def test_a_file_that_holds_no_private_key_is_named_and_not_shown(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "key").write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"aggregator\.key_file: .*/key holds no ") as caught:
        secret(None, tmp_path / "key", "aggregator.key")
    assert content.decode("latin1") not in str(caught.value)


def test_the_secrets_of_a_command_are_given_or_listed_as_missing_together(tmp_path: Path) -> None:
    path = write(tmp_path, MINIMAL)
    places = ["aggregator.key", "aggregator.token", "fetchers.fetcher-d.key"]
    with pytest.raises(ConfigurationError) as caught:
        secrets_of(load(path, {"FAIRMARK_AGGREGATOR__TOKEN": ""}), places)
    assert caught.value.problems == [
        "aggregator.key: missing; set FAIRMARK_AGGREGATOR__KEY, or aggregator.key_file to a file that holds it",
        "aggregator.token: missing; set FAIRMARK_AGGREGATOR__TOKEN, or aggregator.token_file to a file that holds it",
        "fetchers.fetcher-d.key: missing; set FAIRMARK_FETCHERS__FETCHER_D__KEY, or fetchers.fetcher-d.key_file to a "
        "file that holds it",
    ]
    (tmp_path / "token").write_text("word\n")
    environ = {
        "FAIRMARK_AGGREGATOR__KEY": KEY,
        "FAIRMARK_AGGREGATOR__TOKEN_FILE": str(tmp_path / "token"),
        "FAIRMARK_FETCHERS__FETCHER_D__KEY": f"0x{KEY}",
    }
    assert secrets_of(load(path, environ), places) == (KEY, "word", f"0x{KEY}")


@pytest.mark.parametrize("key", ["s3cret", "0x" + "ab" * 31, "zz" * 32, "00" * 32, "ff" * 32])
def test_a_key_from_the_environment_is_32_bytes_of_hex_and_never_shown(tmp_path: Path, key: str) -> None:
    found = problems(tmp_path, MINIMAL, {"FAIRMARK_AGGREGATOR__KEY": key})
    assert found == ["FAIRMARK_AGGREGATOR__KEY: not a private key: write its 32 bytes as hex"]


@pytest.mark.parametrize(
    "url", ["foo", "mysql://u:s3cret@h/db", "postgresql:db", "://", "redis://h", "postgresql+asyncpg://h/db", ""]
)
def test_a_store_is_sqlite_or_postgresql(tmp_path: Path, url: str) -> None:
    found = problems(tmp_path, MINIMAL, {"FAIRMARK_STORE__URL": url})
    assert found == ["FAIRMARK_STORE__URL: neither `sqlite` nor a URL, such as postgresql://user@host/database"]
    assert problems(tmp_path, f'{MINIMAL}[store]\nurl = "{url}"') == [
        found[0].replace("FAIRMARK_STORE__URL", "store.url")
    ]


def test_a_stores_port_is_a_number_and_its_password_never_shown(tmp_path: Path) -> None:
    found = problems(tmp_path, MINIMAL, {"FAIRMARK_STORE__URL": "postgresql://u:s3/cret@h/db"})
    assert found == ["FAIRMARK_STORE__URL: its port is none; special characters of a password are percent-encoded"]


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("FAIRMARK_CHAIN__URL", "localhost", "neither `embedded` nor a URL, such as http://host:8545"),
        ("FAIRMARK_BFF__AGGREGATOR_URL", "u:s3cret@h", "not a URL, such as http://host:port"),
        ("FAIRMARK_BROKER__URLS", "amqp://h/,u:s3cret@h", "not a URL, such as http://host:port"),
        ("FAIRMARK_CHAIN__ADMIN", "0xabc", "not an address: 0x and 40 hex digits (got '0xabc')"),
        ("FAIRMARK_BFF__CORS_ORIGIN_REGEX", "(", "not a regular expression: missing ), unterminated subpattern at "
         "position 0 (got '(')"),
        ("FAIRMARK_MODE", "foo", "Input should be 'auto', 'live' or 'test' (got 'foo')"),
        ("FAIRMARK_BFF", "s3cret", "is a table of settings, not one value"),
        ("FAIRMARK_MODE__X", "s3cret", "mode is no table"),
        ("FAIRMARK_CHAIN__PORT", "0", "0 is for services that announce their port; name a fixed one here"),
        ("FAIRMARK_SIMULATOR__PORT", "0", "0 is for services that announce their port; name a fixed one here"),
    ],
)  # fmt: skip
def test_a_problem_of_a_variable_is_one_line_that_names_it(
    tmp_path: Path, variable: str, value: str, message: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(write(tmp_path, MINIMAL), {variable: value})
    assert (caught.value.where, caught.value.problems) == ("environment", [f"{variable}: {message}"])


def test_a_problem_of_the_file_names_its_place_even_beside_one_of_a_variable(tmp_path: Path) -> None:
    path = write(tmp_path, MINIMAL + "[bff]\nprt = 1\n")
    with pytest.raises(ConfigurationError) as caught:
        load(path, {"FAIRMARK_BFF__PORT": "x"})
    assert caught.value.where == str(path)
    assert sorted(caught.value.problems) == [
        "FAIRMARK_BFF__PORT: Input should be a valid integer, unable to parse string as an integer (got 'x')",
        "bff.prt: no such setting; check its spelling",
    ]


class TestContradictionsBesideFaults:
    """What does not fit together is told in the same run as what is faulty by itself."""

    def test_a_faulty_setting_hides_no_contradiction_elsewhere(self, tmp_path: Path) -> None:
        text = MINIMAL.replace('feeds = ["BTC/USD"]', 'feeds = ["BTC/USD", "ETH/USD"]\nf = 2') + "[bff]\nport = -1\n"
        assert problems(tmp_path, text) == [
            "bff.port: Input should be greater than or equal to 0 (got -1)",
            "groups.majors: f = 2 needs at least 7 reporters, not 4",
            "groups.majors.threshold: 5 is not between 2f + 1 and the 4 reporters",
            "feeds.BTC/USD.min_contributors: 5 is not between 2f + 1 and n",
            "groups.majors.feeds: ETH/USD has no [[feeds]] entry",
        ]

    @pytest.mark.parametrize(
        ("old", "new", "message"),
        [
            ('"test"', '"tset"', "mode: Input should be 'auto', 'live' or 'test' (got 'tset')"),
            ('sources = ["okx"]', "", "fetchers.c.sources: missing"),
            ("fetchers.c]", "fetchers.C]", "fetchers.C: not a name: lower-case letters, digits and dashes, 31 at most, "
             "a letter first (got 'C')"),
            ('pair = "BTC/USD"', 'pair = "BTC/USD"\ndecimals = 99', "feeds.0.decimals: Input should be less than or "
             "equal to 18 (got 99)"),
            ('pair = "BTC/USD"', 'pair = "BTCUSD"', "feeds.0: 'BTCUSD' is not a pair: write it like 'BTC/USD'"),
            ('feeds = ["BTC/USD"]', 'feeds = "BTC/USD"', "groups.majors.feeds: Input should be a valid tuple "
             "(got 'BTC/USD')"),
        ],
    )  # fmt: skip
    def test_nothing_is_concluded_from_what_is_faulty(self, tmp_path: Path, old: str, new: str, message: str) -> None:
        assert problems(tmp_path, MINIMAL.replace(old, new), {"FAIRMARK_CHAIN__URL": "http://127.0.0.1:1"}) == [message]


def test_a_section_that_is_none(tmp_path: Path) -> None:
    assert sorted(problems(tmp_path, "groups = 1\nfeeds = 2\n")) == [
        "feeds: Input should be a valid tuple (got 2)",
        "groups: Input should be a valid dictionary (got 1)",
    ]


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
    assert problems(tmp_path, text, {"FAIRMARK_CLOCK_OFFSET_MS": "5"}) == [
        "FAIRMARK_CLOCK_OFFSET_MS: only in mode 'test'"
    ]


def test_store_urls_name_their_async_drivers(tmp_path: Path) -> None:
    path = write(tmp_path, MINIMAL)
    assert load(path, {}).store_url("fetcher-a") == "sqlite+aiosqlite:///.fairmark/fetcher-a.sqlite"
    settings = load(path, {"FAIRMARK_STORE__URL": "postgresql://fm@db/fairmark"})
    assert settings.store_url("fetcher-a") == "postgresql+asyncpg://fm@db/fairmark"
    settings = load(path, {"FAIRMARK_STORE__URL": "sqlite:///all.sqlite"})
    assert settings.store_url("fetcher-a") == "sqlite+aiosqlite:///all.sqlite"


def test_each_clock_has_a_fresh_limit_within_its_last_one(tmp_path: Path) -> None:
    text = MINIMAL.replace('pair = "BTC/USD"', 'pair = "BTC/USD"\nmax_quote_age_s = 8\nmax_unchanged_s = 7200')
    path = tmp_path / "fairmark.toml"
    path.write_text(text)
    [feed] = load(path, {}).group("majors").feeds
    assert (feed.fresh_quote_age_ms, feed.max_quote_age_ms) == (8_000, 8_000)  # a default gives way
    assert (feed.fresh_receipt_age_ms, feed.max_receipt_age_ms) == (10_000, 60_000)
    assert (feed.fresh_unchanged_ms, feed.max_unchanged_ms) == (600_000, 7_200_000)
    text = text.replace("max_quote_age_s = 8", "max_quote_age_s = 8\nfresh_quote_age_s = 9")
    assert problems(tmp_path, text) == ["feeds.0: fresh_quote_age_s is above max_quote_age_s"]


def test_the_rules_stand_in_the_configured_order_each_of_them_once(tmp_path: Path) -> None:
    turned = '[validation]\nquotes = ["range", "age", "dependent", "fresh", "deviation", "outlier"]\n'
    assert load(write(tmp_path, MINIMAL + turned), {}).validation.quotes[:2] == ("range", "age")
    given = {"FAIRMARK_VALIDATION__QUOTES": "outlier, age, range, dependent, fresh, deviation"}
    assert load(write(tmp_path, MINIMAL), given).validation.quotes[0] == "outlier"
    [missing] = problems(tmp_path, MINIMAL + turned.replace('"age", ', ""))
    assert missing == "validation.quotes: age is missing: every rule stands, where is yours to say"


def test_a_feed_may_weigh_its_sources_and_want_fewer_reporters_than_all(tmp_path: Path) -> None:
    feed = 'pair = "BTC/USD"\n'
    plain = load(write(tmp_path, MINIMAL), {}).group("majors").feeds[0]
    assert (plain.aggregate, plain.trust, plain.wanted_contributors) == ("median", {}, 4)
    weighed = MINIMAL.replace(
        feed, feed + 'aggregate = "trust"\nwanted_contributors = 3\n[feeds.trust]\nkraken = "2.5"\n'
    )
    found = load(write(tmp_path, weighed), {}).group("majors").feeds[0]
    assert (found.aggregate, found.trust, found.wanted_contributors) == ("trust", {"kraken": Decimal("2.5")}, 3)
    [nobodys] = problems(tmp_path, weighed.replace("kraken = ", "krakken = "))
    assert nobodys == "feeds.BTC/USD.trust.krakken: no fetcher of the group asks krakken"
    [unused] = problems(tmp_path, weighed.replace('"trust"', '"volume"'))
    assert unused == "feeds.0: trust weighs nothing unless aggregate is 'trust'"
    [few] = problems(tmp_path, weighed.replace("contributors = 3", "contributors = 2"))
    assert few == "feeds.BTC/USD.wanted_contributors: 2 is not between 3 and n"
