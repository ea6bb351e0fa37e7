"""The tree that `fairmark explain` prints: from sources, through reporters, to the median on chain."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from rich.markup import escape
from rich.tree import Tree

from core.types import Pair

_BAD = "[red]"


def derivation(record: dict[str, Any], pair: Pair) -> Tree:
    """The attempt `record` (as the BFF serves it) as a tree, for one feed and the conversion rates it used."""
    root = Tree(_head(record, pair))
    root.add(_chain(record))
    reports = root.add(f"reports ({len(record['reports'])})")
    for report in record["reports"]:
        _report(reports, report, pair)
    for refusal in record["refusals"]:
        branch = reports.add(
            f"{_BAD}{refusal['fetcher']} did not sign[/]: {refusal['code']}, {escape(refusal['detail'])}"
        )
        _sources(branch, refusal, pair)
    timings = ", ".join(f"{step} {float(ms):.1f}" for step, ms in record["timings_ms"].items())
    root.add(f"[dim]timings in ms: {timings}[/]")
    return root


def _head(record: dict[str, Any], pair: Pair) -> str:
    answer = record["answers"].get(pair)
    what = f"attempt {record['id']} ({record['cause']}, mode {record['mode']})"
    if answer is None:
        why = record["feeds_without_answer"].get(pair) or record["detail"] or record["code"] or record["state"]
        return f"[bold]{pair}[/] {_BAD}no answer[/]: {escape(str(why))} — {what}"
    return (
        f"[bold]{pair} {answer['price']}[/] — lower median of {answer['contributors']} reporters, "
        f"spread {answer['spread_bps']} bps — {what}"
    )


def _chain(record: dict[str, Any]) -> str:
    if record["transaction"] is None:
        return f"chain: {_BAD}nothing was submitted[/] ({record['code']}: {escape(record['detail'])})"
    return (
        f"chain: round {record['round']} of {record['group']}, block {record['block']}, gas {record['gas_used']}, "
        f"transaction {record['transaction']}"
    )


def _report(parent: Tree, report: dict[str, Any], pair: Pair) -> None:
    answer = report["answers"].get(pair)
    verdict = report["verdict"] if not report["code"] else f"{_BAD}{report['verdict']}: {report['code']}[/]"
    price = "no price" if answer is None else f"[bold]{Decimal(answer):f}[/]"
    branch = parent.add(f"{report['fetcher']} {price} ({verdict}) [dim]signed by {report['signer']}[/]")
    if warning := report["warnings"].get(pair):
        branch.add(f"[yellow]{escape(warning)}[/]")
    _sources(branch, report, pair)


def _sources(parent: Tree, report: dict[str, Any], pair: Pair) -> None:
    """The quotes and failures for the feed itself, then those of the rates that converted them."""
    own = [each for each in (*report["quotes"], *report["failures"]) if Pair(each["pair"]).base == pair.base]
    currencies = {Pair(each["pair"]).quote for each in own} - {pair.quote}
    for each in own:
        parent.add(_line(each))
    for currency in sorted(currencies):
        legs = [each for each in (*report["quotes"], *report["failures"]) if Pair(each["pair"]).base == currency]
        if currency == pair.base or not legs:
            continue
        branch = parent.add(f"converted by {currency}/{pair.quote}")
        for each in legs:
            branch.add(_line(each))


def _line(each: dict[str, Any]) -> str:
    if "price" not in each:
        return f"{each['source']} {each['pair']} {_BAD}{each['code']}[/] [dim]{escape(each['detail'])}[/]"
    book = "" if each["bid"] is None else f" [dim]bid {each['bid']} ask {each['ask']}[/]"
    return f"{each['source']} {each['pair']} {each['price']}{book}"
