"""What each rule said of a recorded report's quotes, and of an attempt's reports, on one line each.

A record keeps for everything rejected the code of the rule that did it; a rule that rejected nothing passed all it saw.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.markup import escape

from aggregator.validation import Held
from core.types import QUOTE_RULES, REPORT_RULES, Pair

BY_SOURCE = ("time", "trade", "book")
"""What `sources.quoting` judges before the rules of the feed do."""
_QUOTE_CODES = {
    "future": "time",
    "frozen": "time",
    "expired": "age",
    "not_traded": "trade",
    "crossed": "book",
    "wide_spread": "book",
    "out_of_range": "range",
    "mix_up": "range",
    "dependent": "dependent",
    "aging": "fresh",
    "jump": "deviation",
    "outlier": "outlier",
}
_REPORT_CODES = {
    "equivocation": "equivocation",
    "wrong_deployment": "envelope",
    "wrong_mode": "envelope",
    "wrong_group": "envelope",
    "wrong_moment": "moment",
    "malformed": "shape",
    "bad_signature": "signature",
    "not_a_member": "member",
    "wrong_group_hash": "group_hash",
    "evidence_mismatch": "evidence",
    "stale_previous": "previous",
    "expired": "age",
    "out_of_range": "range",
}


def quote_rules(report: Mapping[str, Any], pair: Pair) -> str:
    """What the rules said of the quotes for `pair`, those that were asked for and gave none left out."""
    failures = [each for each in report["failures"] if Pair(each["pair"]).base == pair.base]
    return _line(
        "quotes", (*BY_SOURCE, *QUOTE_RULES), ((_QUOTE_CODES.get(each["code"]), each["source"]) for each in failures)
    )


def report_rules(record: Mapping[str, Any]) -> str:
    """What the rules said of the attempt's reports, if there are any."""
    if not record["reports"]:
        return "[dim]rules over reports: none came[/]"
    found = ((_REPORT_CODES.get(one["code"] or ""), one["fetcher"]) for one in record["reports"])
    return _line("reports", REPORT_RULES, found)


def answer_rules(record: Mapping[str, Any], pair: Pair) -> str | None:
    """What the rules over the reports' prices said of the answer; None where no report got so far.

    The first rule that holds an answer names it: those after it were not asked.
    """
    answer = record["answers"].get(pair)
    if answer is None:
        why = record["feeds_without_answer"].get(pair)
        return None if why is None else f"[dim]rules over the answer: contributors [red]✗ {escape(why)}[/][/]"
    told = ["contributors ✓"]
    if answer.get("confirmed"):
        told.append(f"[yellow]beyond a limit and confirmed[/]: {escape(answer['why_held'])}")
    for rule in () if answer.get("confirmed") else Held:
        if answer.get("held") == rule:
            told.append(f"{rule} [red]✗ {escape(answer['why_held'])}[/]")
            break
        told.append(f"{rule} ✓")
    return f"[dim]rules over the answer: {', '.join(told)}[/]"


def _line(of: str, rules: Sequence[str], rejected: Iterable[tuple[str | None, str]]) -> str:
    out: dict[str, list[str]] = {}
    for rule, who in rejected:
        if rule is not None:
            out.setdefault(rule, []).append(who)
    told = [f"{rule} [red]✗ {escape(', '.join(out[rule]))}[/]" if rule in out else f"{rule} ✓" for rule in rules]
    return f"[dim]rules over {of}: {', '.join(told)}[/]"
