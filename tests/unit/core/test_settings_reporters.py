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
