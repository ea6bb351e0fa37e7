"""`fairmark explain`: the steps that decided, derived by the fetchers' rule, shown only where true."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

import pytest
from rich.console import Console
from rich.text import Text

from aggregator.validation import Fault
from contracts.evidence import NO_EVIDENCE, Statement
from contracts.report import Domain, LocalSigner, sign_report
from core import codec
from core.types import QUOTE_RULES, REPORT_RULES, Mode, Pair
from fairmark.cli import verdicts
from fairmark.cli.derivation import Median, derivation, drawn, proven, steps

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


OBSERVED = {"BTC/USD": [0, 1, 2], "USDT/USD": [3, 4]}
SIGNER = LocalSigner("11" * 32)
DOMAIN = Domain(Mode.TEST, 31337, "0x" + "a1" * 20)


def report(fetcher: str, signer: str, **changes: Any) -> dict[str, Any]:
    members = _members(fetcher, signer, **changes)
    said = {name: members[name] for name in Statement.__struct_fields__ if name in members}
    root = codec.convert({**said, "deployment": "here", "mode": "test"}, Statement).tree().root
    unchanged = changes.get("unchanged", 0)
    signed = sign_report(
        SIGNER,
        DOMAIN,
        group="majors",
        group_hash="0x" + "c3" * 32,
        previous_moment=MOMENT - 1_000,
        moment=MOMENT,
        prices=(0 if unchanged & 1 else 6_000_600_000_000, 100_010_000),
        unchanged=unchanged,
        evidence_root=root,
    )
    return {**members, "signed": codec.to_builtins(signed)}


def _members(fetcher: str, signer: str, **changes: Any) -> dict[str, Any]:
    return {
        "fetcher": fetcher,
        "instance": "one",
        "elapsed_ms": 40,
        "observed": OBSERVED,
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
        "deployment": "here",
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


def lines(document: dict[str, Any], pair: Pair = BTC, *known: Any) -> list[str]:
    console = Console(width=300, color_system=None)
    with console.capture() as caught:
        console.print(derivation(document, pair, *known), highlight=False)
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
    root = record()["reports"][0]["signed"]["evidence_root"]
    assert shown[4:14] == [
        f"its evidence root covers 5 quotes evidence root {root}",
        "rules over quotes: time ✓, trade ✓, book ✓, age ✓, range ✓, dependent ✓, fresh ✓, deviation ✓, outlier ✓",
        "coinbase BTC/USD 60010 0.50 s before the moment",
        "binance BTC/USDT 60000 0.50 s before the moment = 60006.0000 USD ← its median",
        "kraken BTC/USD 59990 received 0.12 s after the moment",
        "okx BTC/USDT timeout [read] after 600 ms",
        "converted by USDT/USD = 1.0001",
        "gemini USDT/USD 1.001 0.50 s before the moment",
        "bitstamp USDT/USD 1.0001 bid 1 ask 1.0002 0.50 s before the moment ← the rate",
        f"fetcher-b 60006.00000000 (included) ← the answer signed by {B}",
    ]


def test_what_the_signature_covers_is_worked_out_here() -> None:
    ours = SIGNER.address.lower()
    good = report("fetcher-a", ours)
    root = good["signed"]["evidence_root"]
    forged = {**good, "quotes": [{**QUOTES[0], "price": "60011"}, *QUOTES[1:]]}
    relabelled = {**good, "fetcher": "fetcher-b"}
    unnamed = {**good, "observed": {}}
    dropped = {**good, "quotes": [], "answers": {}, "failures": [], "observed": {}}
    unsigned = {**good, "signed": {**good["signed"], "moment": MOMENT + 1}}
    bare = {**good, "signed": {**good["signed"], "evidence_root": NO_EVIDENCE}}

    def says(one: dict[str, Any]) -> str:
        return Text.from_markup(proven(record(), one, DOMAIN)).plain

    assert says(good) == f"its signature covers 5 quotes evidence root {root}"
    for bad in (forged, relabelled, unnamed):
        assert says(bad) == f"the quotes shown are not those that it signed evidence root {root}"
    assert says(dropped) == f"what it said is not kept evidence root {root}"
    assert re.fullmatch(r"signed by 0x\w{40}, not by whom the record names", says(unsigned))
    assert Text.from_markup(proven(record(), bare, None)).plain.startswith("its signature covers no evidence")
    assert says({**good, "signed": {**good["signed"], "signature": "0x00"}}).startswith("not signed: ")


def test_an_unchanged_price_is_called_so() -> None:
    one = report("fetcher-a", SIGNER.address.lower(), unchanged=1)
    answers = {"BTC/USD": {**record()["answers"]["BTC/USD"], "attested": True}}
    shown = lines(record(reports=[one], answers=answers), BTC, DOMAIN, 0)
    assert "spread 2 bps, unchanged since an earlier round — attempt" in shown[0]
    assert shown[3].startswith("fetcher-a 60006.00000000 (unchanged) (included)")
    assert not any("unchanged)" in line for line in lines(record(reports=[one]), USDT, DOMAIN, 1))


def test_a_quote_that_counted_for_another_feed_only_is_no_step_of_this_one() -> None:
    observed = {"BTC/USD": [0, 1], "USDT/USD": [3, 4]}
    found = steps(QUOTES, BTC, ANSWERS, observed)
    assert found.price == Median(prices={0: Decimal(60_010), 1: Decimal(60_006)}, chosen=1)


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


def test_who_sent_the_transaction_is_told() -> None:
    assert lines(record(relayer=D))[1] == (
        f"chain: round 7 of majors, block 9, gas 210000, transaction 0x12 sent by {D}"
    )


def test_a_record_of_before_the_silent_were_kept_can_be_explained() -> None:
    old = record()
    del old["silent"]
    assert lines(old) == lines(record())


def test_what_stands_behind_an_answer_and_what_the_breaker_holds_is_told() -> None:
    whole = {**record()["answers"]["BTC/USD"], "state": "ok", "confidence": "1", "sources": 9, "held": ""}
    assert "ok: confidence 1, 9 sources" in lines(record(answers={"BTC/USD": whole}), BTC, DOMAIN, 0)
    poor = {
        **whole,
        "state": "degraded",
        "confidence": "0.75",
        "held": "deviation",
        "why_held": "+1200 bps, 1000 at most",
    }
    shown = lines(record(answers={"BTC/USD": poor}), BTC, DOMAIN, 0)
    assert "degraded: confidence 0.75, 9 sources, held by the breaker (deviation): +1200 bps, 1000 at most" in shown


def test_an_answer_that_confirmed_the_one_that_waited_is_not_called_held() -> None:
    whole = {**record()["answers"]["BTC/USD"], "state": "ok", "confidence": "1", "sources": 9, "held": ""}
    confirmed = {**whole, "confirmed": True, "why_held": "+1200 bps, 1000 at most"}
    shown = lines(record(answers={"BTC/USD": confirmed}), BTC, DOMAIN, 0)
    assert "ok: confidence 1, 9 sources, confirms the answer that waited: +1200 bps, 1000 at most" in shown


WEIGHED = [
    quote("coinbase", "BTC/USD", "60010", volume="30"),
    quote("binance", "BTC/USDT", "60000", volume="10"),
    quote("kraken", "BTC/USD", "59990", volume="1000"),
    quote("gemini", "USDT/USD", "1.001"),
    quote("bitstamp", "USDT/USD", "1.0001"),
    quote("gate", "BTC/USD", "60020", volume=None),
]


@pytest.mark.parametrize(
    ("rule", "price", "its", "told"),
    [
        (
            {"aggregate": "volume", "trust": {}},
            "60006.00000000",
            "binance BTC/USDT 60000 0.50 s before the moment = 60006.0000 USD ← its median",
            [
                "weighted by volume, from the least on, half of 90 is 45",
                "kraken 59990 USD weighs 40 (capped; tells 1000), with those before 40",
                "binance 60006.0000 USD weighs 10, with those before 50 ← half",
                "coinbase 60010 USD weighs 30, with those before 80",
                "gate 60020 USD weighs 10 (tells no volume), with those before 90",
            ],
        ),
        (
            {"aggregate": "trust", "trust": {"gate": "2.5", "coinbase": "2"}},
            "60010.00000000",
            "coinbase BTC/USD 60010 0.50 s before the moment ← its median",
            [
                "weighted by trust, from the least on, half of 6.5 is 3.25",
                "kraken 59990 USD weighs 1, with those before 1",
                "binance 60006.0000 USD weighs 1, with those before 2",
                "coinbase 60010 USD weighs 2, with those before 4 ← half",
                "gate 60020 USD weighs 2.5, with those before 6.5",
            ],
        ),
    ],
)
def test_a_weighted_answers_weights_are_shown_and_where_half_of_them_is_reached(
    rule: dict[str, Any], price: str, its: str, told: list[str]
) -> None:
    feeds = drawn([{"pair": "BTC/USD", **rule}])
    one = report(
        "fetcher-a",
        A,
        quotes=WEIGHED,
        failures=[],
        observed={"BTC/USD": [0, 1, 2, 5], "USDT/USD": [3, 4]},
        answers={"BTC/USD": price, "USDT/USD": "1.00010000"},
    )
    shown = lines(record(reports=[one]), BTC, None, 0, feeds)
    at = shown.index(told[0])
    assert shown[at : at + 5] == told
    assert [line for line in shown if line.endswith("← its median")] == [its]
    plain = lines(record(reports=[one]), BTC, None, 0)
    assert not any("weigh" in line for line in plain)


def test_whoever_signed_two_reports_for_the_moment_is_named_once() -> None:
    both = [report("fetcher-a", A, verdict="rejected", code="equivocation") for _ in range(2)]
    shown = lines(record(reports=[*both, report("fetcher-b", B)]), BTC, DOMAIN, 0)
    assert [line for line in shown if line.startswith("equivocation")] == [
        f"equivocation: {A} signed two different reports for this moment, both kept"
    ]


def test_each_rules_verdict_is_told_on_quotes_and_on_reports() -> None:
    failures = [
        {"source": "okx", "pair": "BTC/USDT", "code": "outlier", "detail": "far"},
        {"source": "gate", "pair": "BTC/USDT", "code": "aging", "detail": "old"},
        {"source": "luno", "pair": "BTC/USD", "code": "not_traded", "detail": "none"},
        {"source": "bybit", "pair": "BTC/USDT", "code": "timeout", "detail": "no answer"},
        {"source": "mexc", "pair": "ETH/USDT", "code": "outlier", "detail": "of another feed"},
    ]
    late = report("fetcher-c", C, verdict="rejected", code="stale_previous", detail="follows 5; the last is 6")
    shown = lines(record(reports=[report("fetcher-a", A, failures=failures), late]))
    assert (
        "rules over quotes: time ✓, trade ✗ luno, book ✓, age ✓, range ✓, dependent ✓, fresh ✗ gate, deviation ✓, "
        "outlier ✗ okx"
    ) in shown
    assert "follows 5; the last is 6" in shown
    assert (
        "rules over reports: equivocation ✓, envelope ✓, moment ✓, shape ✓, signature ✓, member ✓, group_hash ✓, "
        "evidence ✓, previous ✗ fetcher-c, age ✓, range ✓"
    ) in shown


def test_the_verdict_of_each_rule_over_the_answer_is_told() -> None:
    def told(**changes: Any) -> list[str]:
        return [line for line in lines(record(**changes)) if line.startswith("rules over the answer")]

    whole = {**record()["answers"]["BTC/USD"], "state": "ok", "confidence": "1", "sources": 9, "held": ""}
    assert told() == told(answers={"BTC/USD": whole})
    assert told() == ["rules over the answer: contributors ✓, dispersion ✓, deviation ✓"]
    far = {**whole, "held": "deviation", "why_held": "+1200 bps, 1000 at most"}
    assert told(answers={"BTC/USD": far}) == [
        "rules over the answer: contributors ✓, dispersion ✓, deviation ✗ +1200 bps, 1000 at most"
    ]
    apart = {**whole, "held": "dispersion", "why_held": "200 bps apart"}
    assert told(answers={"BTC/USD": apart}) == ["rules over the answer: contributors ✓, dispersion ✗ 200 bps apart"]
    confirmed = {**whole, "confirmed": True, "why_held": "+1200 bps, 1000 at most"}
    assert told(answers={"BTC/USD": confirmed}) == [
        "rules over the answer: contributors ✓, beyond a limit and confirmed: +1200 bps, 1000 at most"
    ]
    alone = {"answers": {}, "feeds_without_answer": {"BTC/USD": "2 contributors, 3 are needed"}}
    assert told(**alone) == ["rules over the answer: contributors ✗ 2 contributors, 3 are needed"]


def test_of_an_attempt_that_got_no_report_no_rule_is_said_to_have_passed() -> None:
    none = record(reports=[], answers={}, code="unroutable", state="failed", transaction=None)
    assert [line for line in lines(none) if line.startswith("rules")] == ["rules over reports: none came"]


def test_every_code_of_a_rule_has_its_rule() -> None:
    assert set(verdicts._REPORT_CODES) == {str(fault) for fault in Fault if fault is not Fault.LATE}
    assert set(verdicts._REPORT_CODES.values()) == set(REPORT_RULES)
    assert set(verdicts._QUOTE_CODES.values()) == {*verdicts.BY_SOURCE, *QUOTE_RULES}
