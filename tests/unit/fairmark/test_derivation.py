"""`fairmark explain`: the steps that decided, derived by the fetchers' rule, shown only where true."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from rich.console import Console

from core.types import Pair
from fairmark.cli.derivation import Median, derivation, steps

BTC, USDT, USDC = Pair("BTC/USD"), Pair("USDT/USD"), Pair("USDC/USD")
MOMENT = 1_710_328_245_000
A, B, C, D = (f"0x{letter * 40}" for letter in "abcd")


def quote(
    source: str, pair: str, price: str, *, at: int | None = -500, received: int = 120, **sides: str
) -> dict[str, Any]:
    return {
        "source": source,
        "pair": pair,
        "price": price,
        "bid": None,
        "ask": None,
        "source_time_ms": None if at is None else MOMENT + at,
        "received_ms": MOMENT + received,
        **sides,
    }


QUOTES = [
    quote("coinbase", "BTC/USD", "60010"),
    quote("binance", "BTC/USDT", "60000"),
    quote("kraken", "BTC/USD", "59990", at=None),
    quote("gemini", "USDT/USD", "1.001"),
    quote("bitstamp", "USDT/USD", "1.0001", bid="1", ask="1.0002"),
]
ANSWERS = {"BTC/USD": "60006.00000000", "USDT/USD": "1.00010000"}


class TestSteps:
    def test_a_quote_is_converted_by_the_reporters_own_rate_and_the_lower_median_is_its_price(self) -> None:
        found = steps(QUOTES, BTC, ANSWERS)
        assert found.price == Median(prices={0: Decimal(60_010), 1: Decimal(60_006), 2: Decimal(59_990)}, chosen=1)
        assert found.rates == {"USDT": Median(prices={3: Decimal("1.001"), 4: Decimal("1.0001")}, chosen=4)}

    def test_a_rate_may_need_a_rate_itself(self) -> None:
        quotes = [
            quote("a", "BTC/USDC", "60000"),
            quote("b", "USDC/USDT", "0.999"),
            quote("c", "USDT/USD", "1.001"),
        ]
        found = steps(quotes, BTC, {"BTC/USD": "59999.94000000"})
        assert found.rates["USDC"].value == Decimal("0.999999")
        assert found.price == Median(prices={0: Decimal("59999.940000")}, chosen=0)

    def test_the_price_of_a_rate_is_not_converted_by_itself(self) -> None:
        found = steps(QUOTES, USDT, ANSWERS)
        assert found.price == Median(prices={3: Decimal("1.001"), 4: Decimal("1.0001")}, chosen=4)
        assert found.rates == {}

    @pytest.mark.parametrize("said", ["60006.00000001", "1", "NaN"])
    def test_what_does_not_lead_to_the_signed_price_is_not_shown(self, said: str) -> None:
        found = steps(QUOTES, BTC, {**ANSWERS, "BTC/USD": said})
        assert found.price is None
        assert found.rates["USDT"].value == Decimal("1.0001")  # is signed, too
        assert steps(QUOTES, BTC, {"BTC/USD": said}).rates == {}

    def test_the_signed_price_is_rounded_as_the_contract_has_it(self) -> None:
        quotes = [quote("a", "BTC/USDT", "3"), quote("b", "USDT/USD", "1.00000001")]
        found = steps(quotes, BTC, {"BTC/USD": "3.0"})
        assert found.price == Median(prices={0: Decimal("3.00000003")}, chosen=0)

    def test_without_quotes_there_are_no_steps(self) -> None:
        assert steps([], BTC, ANSWERS).price is None


def report(fetcher: str, signer: str, **changes: Any) -> dict[str, Any]:
    return {
        "fetcher": fetcher,
        "signer": signer,
        "verdict": "included",
        "code": None,
        "answers": ANSWERS,
        "quotes": QUOTES,
        "failures": [{"source": "okx", "pair": "BTC/USDT", "code": "timeout", "detail": "[read] after 600 ms"}],
        "warnings": {},
        **changes,
    }


def record(**changes: Any) -> dict[str, Any]:
    return {
        "id": "0" * 32,
        "group": "majors",
        "mode": "test",
        "cause": "request",
        "state": "accepted",
        "code": None,
        "detail": "",
        "moment": MOMENT,
        "round": 7,
        "transaction": "0x12",
        "block": 9,
        "gas_used": 210_000,
        "timings_ms": {"total": 120},
        "answers": {"BTC/USD": {"price": "60006.00000000", "contributors": 3, "spread_bps": 2, "reporter": B}},
        "feeds_without_answer": {},
        "reports": [report("fetcher-a", A), report("fetcher-b", B)],
        "refusals": [],
        "silent": [],
        **changes,
    }


def lines(document: dict[str, Any], pair: Pair = BTC) -> list[str]:
    console = Console(width=300, color_system=None)
    with console.capture() as caught:
        console.print(derivation(document, pair), highlight=False)
    return [line.strip("│├└─ ") for line in caught.get().splitlines()]


def test_the_answer_the_medians_the_conversions_and_the_ages_are_told() -> None:
    shown = lines(record())
    assert shown[:4] == [
        "BTC/USD 60006.00000000 — lower median of 3 reporters, spread 2 bps — attempt "
        "00000000000000000000000000000000 (request, mode test)",
        "chain: round 7 of majors, block 9, gas 210000, transaction 0x12",
        "reports (2)",
        f"fetcher-a 60006.00000000 (included) signed by {A}",
    ]
    assert shown[4:12] == [
        "coinbase BTC/USD 60010 0.50 s before the moment",
        "binance BTC/USDT 60000 0.50 s before the moment = 60006.0000 USD ← its median",
        "kraken BTC/USD 59990 received 0.12 s after the moment",
        "okx BTC/USDT timeout [read] after 600 ms",
        "converted by USDT/USD = 1.0001",
        "gemini USDT/USD 1.001 0.50 s before the moment",
        "bitstamp USDT/USD 1.0001 bid 1 ask 1.0002 0.50 s before the moment ← the rate",
        f"fetcher-b 60006.00000000 (included) ← the answer signed by {B}",
    ]


def test_a_report_left_out_is_no_answer_although_its_signer_is_the_answers() -> None:
    late = report("fetcher-b", B, verdict="left_out", code="late")
    assert f"fetcher-b 60006.00000000 (left_out: late) signed by {B}" in lines(record(reports=[late]))


def test_verdicts_have_colours() -> None:
    reports = [
        report("a", A),
        report("b", C, verdict="left_out", code="late"),
        report("c", D, verdict="rejected", code="expired"),
    ]
    branch = derivation(record(reports=reports), BTC).children[1]
    assert [str(child.label).partition("(")[2].partition(")")[0] for child in branch.children] == [
        "[green]included[/]", "[yellow]left_out: late[/]", "[red]rejected: expired[/]"
    ]  # fmt: skip


def test_the_silent_and_those_who_refused_are_listed() -> None:
    refusal = {"fetcher": "fetcher-c", "code": "no_prices", "detail": "none", "quotes": QUOTES[:1], "failures": []}
    shown = lines(record(reports=[], refusals=[refusal], silent=[D]))
    assert shown[2:6] == [
        "reports (0)",
        "fetcher-c did not sign: no_prices, none",
        "coinbase BTC/USD 60010 0.50 s before the moment",
        f"{D} was silent: registered, and sent neither report nor refusal",
    ]


def test_a_record_of_before_the_silent_were_kept_can_be_explained() -> None:
    old = record()
    del old["silent"]
    assert lines(old) == lines(record())
