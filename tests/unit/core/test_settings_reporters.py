"""Configuration of reporters: signals that follow one another, and feeds whose policy is strict."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from core.errors import ConfigurationError
from core.reporting import Policy
from core.settings import Settings, load
from core.signals import SignalRange

MINIMAL = """
mode = "test"
[fetchers.a]
sources = ["binance"]
[groups.majors]
feeds = ["BTC/USD", "ETH/USD"]
f = 0
[[feeds]]
pair = "BTC/USD"
[[feeds]]
pair = "ETH/USD"
"""


def read(folder: Path, text: str, **environ: str) -> Settings:
    path = folder / "fairmark.toml"
    path.write_text(text, encoding="utf-8")
    return load(path, environ)


def problems(folder: Path, text: str) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        read(folder, text)
    return caught.value.problems


def test_a_signal_has_its_defaults_and_the_environment_is_laid_over_it(tmp_path: Path) -> None:
    settings = read(tmp_path, MINIMAL + "[signals.decision]\n", FAIRMARK_SIGNALS__DECISION__PERIOD_S="0.5")
    own = settings.signals["decision"]
    assert (own.period_ms, own.max_age_ms, own.policy, own.needed) == (500, 1_500, Policy.STRICT, 1)
    assert own.declared == SignalRange(decimals=8, minimum=Decimal(-1), maximum=Decimal(1))
    assert read(tmp_path, MINIMAL + "[signals.decision]\n").signals["decision"].period_ms == 60_000


def test_signals_in_a_circle_are_refused_and_named(tmp_path: Path) -> None:
    (found,) = problems(tmp_path, MINIMAL + '[signals.a]\nfeeds = ["b"]\n[signals.b]\nfeeds = ["a"]\n')
    assert found.startswith("signals: feeds depend on one another in a circle: ")


def test_a_signal_follows_signals_of_its_own_period_only(tmp_path: Path) -> None:
    text = MINIMAL + '[signals.a]\nfeeds = ["b", "c"]\n[signals.b]\nperiod_s = 5\n'
    assert problems(tmp_path, text) == ["signals.a.feeds: b has another period", "signals.a.feeds: c is no signal"]


def test_a_range_that_is_none_is_named_at_its_place(tmp_path: Path) -> None:
    (found,) = problems(tmp_path, MINIMAL + '[signals.a]\nminimum = "2"\n')
    assert found == "signals.a: minimum: 2 is not below the maximum, 1"


def test_feeds_go_on_with_a_quorum_unless_they_are_strict(tmp_path: Path) -> None:
    assert not read(tmp_path, MINIMAL).group("majors").strict
    strict = read(tmp_path, MINIMAL.replace('USD"\n[[', 'USD"\npolicy = "strict"\n[[') + 'policy = "strict"\n')
    assert [feed.policy for feed in strict.group("majors").feeds] == [Policy.STRICT, Policy.STRICT]
    assert strict.group("majors").strict


def test_strict_feeds_have_groups_of_their_own(tmp_path: Path) -> None:
    (found,) = problems(tmp_path, MINIMAL + 'policy = "strict"\n')
    assert found.startswith("groups.majors.feeds: some are strict, some are not")


RISK = """
mode = "test"
[signals.risk]
decimals = 2
minimum = "0.01"
maximum = "100"
period_s = 5
[strategies.alpha]
[strategies.beta]
[fetchers.a]
sources = ["binance"]
[groups.majors]
feeds = ["BTC/USD"]
f = 0
[groups.risk]
feeds = ["RISK/INDEX"]
f = 0
threshold = 2
[[feeds]]
pair = "BTC/USD"
[[feeds]]
pair = "RISK/INDEX"
signal = "risk"
"""


def test_a_signal_on_chain_has_its_own_range_scale_age_and_policy_and_all_strategies_report_it(tmp_path: Path) -> None:
    settings = read(tmp_path, RISK)
    (feed,) = settings.group("risk").feeds
    assert (feed.decimals, feed.min_price, feed.max_price) == (2, Decimal("0.01"), Decimal(100))
    assert (feed.max_quote_age_ms, feed.max_receipt_age_ms, feed.policy) == (15_000, 15_000, Policy.STRICT)
    assert (feed.min_sources, feed.wanted_sources, feed.signal) == (1, 1, True)
    assert settings.reporters("risk") == ("alpha", "beta")
    assert settings.reporters("majors") == ("a",)
    assert (settings.group_of("risk"), settings.signal_of("majors")) == ("risk", None)
    assert not settings.group("majors").feeds[0].signal


@pytest.mark.parametrize("minimum", ["0", "-0.01"])
def test_a_signal_that_reaches_zero_stays_off_chain(tmp_path: Path, minimum: str) -> None:
    (found,) = problems(tmp_path, RISK.replace('minimum = "0.01"', f'minimum = "{minimum}"'))
    assert found == (
        f"feeds.RISK/INDEX.signal: signals.risk.minimum is {minimum}, and what is on chain is above zero: "
        "raise it, or leave the signal off chain"
    )


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('maximum = "100"', 'maximum = "1000000000000000"\n#', None),
        ("decimals = 2", "decimals = 18", "feeds.RISK/INDEX.signal: signals.risk.maximum at 18 decimals does not fit"),
        ('signal = "risk"', 'signal = "rusk"', "feeds.RISK/INDEX.signal: rusk is no signal"),
        ('signal = "risk"', 'signal = "risk"\nmax_price = "9"', "feeds.RISK/INDEX.max_price: signals.risk says it"),
        ("period_s = 5", "period_s = 5\nneeded = 2", "signals.risk.needed: on chain its group's threshold says"),
        ("period_s = 5", "period_s = 5\nmax_age_s = 7.4", "signals.risk: max_age_s is below a period and a half"),
        ("period_s = 5", "period_s = 5\nmax_age_s = 7.5", None),
        ("[strategies.beta]", "[strategies.a]", "strategies.a: a fetcher has that name"),
        ("threshold = 2", 'reporters = ["a"]\nthreshold = 1', "groups.risk.reporters: a is no strategy"),
        ('pair = "BTC/USD"', 'pair = "BTC/USD"\nsignal = "risk"', "groups.risk.feeds: the signal risk is on chain in"),
        ("[groups.majors]", "[groups.majors]\nreporters = ['alpha']", "groups.majors.reporters: alpha is no fetcher"),
        (
            "[strategies.alpha]",
            "[signals.mood]\nperiod_s = 5\nfeeds = ['risk']\n[strategies.alpha]",
            "signals.mood.feeds",
        ),
    ],
)
def test_what_does_not_fit_a_signal_on_chain_is_named_at_its_place(
    tmp_path: Path, old: str, new: str, problem: str | None
) -> None:
    text = RISK.replace(old, new, 1)
    if problem is None:
        read(tmp_path, text)
    else:
        assert any(each.startswith(problem) for each in problems(tmp_path, text)), problems(tmp_path, text)


def test_a_strategy_decides_one_thing_in_a_group_of_its_own(tmp_path: Path) -> None:
    text = RISK.replace('feeds = ["RISK/INDEX"]', 'feeds = ["RISK/INDEX", "ETH/USD"]') + '[[feeds]]\npair = "ETH/USD"\n'
    found = problems(tmp_path, text)
    assert "groups.risk.feeds: a strategy decides one thing; give the signal risk a group of its own" in found


def test_a_strategy_at_fault_is_still_one(tmp_path: Path) -> None:
    (found,) = problems(tmp_path, RISK.replace("[strategies.beta]", '[strategies.beta]\naddress = "0x12"'))
    assert found.startswith("strategies.beta.address: ")
