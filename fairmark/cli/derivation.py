"""The tree that `fairmark explain` prints: from sources, through reporters, to the median on chain.

It shows the steps that decided: what each quote became in the feed's currency, which of them is the fetcher's median,
whose price is the answer. The record holds quotes and signed prices, not these steps; they are derived here by the
fetchers' own rule (`core.currency`, `core.median`) and shown only where they lead to the very price that was signed.

And it says for each report whether the signature covers what is shown: it recovers the signer, and hashes the record's
quotes into the evidence root that is signed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import msgspec
from msgspec import Struct
from rich.markup import escape
from rich.tree import Tree

from contracts.errors import InvalidSignatureError, MalformedEvidenceError, MalformedReportError
from contracts.evidence import NO_EVIDENCE, Statement
from contracts.report import Domain, recover_reporter
from core import codec
from core.currency import DOLLARS, ConversionGraph, Rate
from core.errors import ConversionError
from core.median import lower_median, to_scaled, weighted_lower_median
from core.types import Aggregate, Feed, Pair, Quote, SignedReport
from fairmark.cli.verdicts import answer_rules, quote_rules, report_rules
from fetchers.averages import weights

_BAD = "[red]"
NO_FEEDS: Mapping[Pair, Feed] = {}
_COLOURS = {"included": "green", "left_out": "yellow", "rejected": "red"}


class Median(Struct, frozen=True, kw_only=True):
    """A lower median and what it was taken of. prices: in one currency, by the quote's index. chosen: whose it is.

    weights: by the quote's index, where it is a weighted one; by: what they go by.
    """

    prices: Mapping[int, Decimal]
    chosen: int
    weights: Mapping[int, Decimal] = {}
    by: Aggregate = Aggregate.MEDIAN

    @property
    def value(self) -> Decimal:
        return self.prices[self.chosen]


class Steps(Struct, frozen=True, kw_only=True):
    """How a report's quotes became its price. rates: by currency, what one unit of it was worth."""

    price: Median | None = None
    rates: Mapping[str, Median] = {}


def drawn(published: Sequence[Mapping[str, Any]]) -> dict[Pair, Feed]:
    """How each feed's answer is drawn, by what `GET /v1/feeds` says."""
    return {
        (pair := Pair(feed["pair"])): Feed(
            pair=pair,
            aggregate=Aggregate(feed["aggregate"]),
            trust={source: Decimal(weight) for source, weight in feed["trust"].items()},
        )
        for feed in published
    }


def steps(
    quotes: Sequence[Mapping[str, Any]],
    pair: Pair,
    answers: Mapping[str, str],
    observed: Mapping[str, Sequence[int]] | None = None,
    feeds: Mapping[Pair, Feed] = NO_FEEDS,
) -> Steps:
    """Derive them for `pair` from a report's quotes. observed: the indexes that counted for each feed or rate. feeds:
    those whose answers are drawn by a rule of their own.

    Whatever does not lead to the report's own signed answers, to their last decimal, is left out.
    """
    graph = ConversionGraph(DOLLARS)
    rates: dict[Pair, Rate] = {}
    medians: dict[Pair, Median] = {}
    by_feed = {leg: feeds.get(leg, Feed(pair=leg)) for leg in (pair, *graph.edges)}
    for currency in sorted(graph.convertible(pair.quote), key=graph.rank):
        leg = Pair.of(currency, pair.quote)
        if currency != pair.base and (median := _median(quotes, by_feed[leg], graph, rates, observed)):
            medians[leg] = median
            rates[leg] = Rate(pair=leg, value=median.value, as_of_ms=0)
    price = _median(quotes, by_feed[pair], graph, rates, observed)
    if price is not None and not _is(price.value, answers.get(pair)):
        price = None
    sure = {leg: rate for leg, rate in medians.items() if price is not None or _is(rate.value, answers.get(leg))}
    return Steps(price=price, rates={leg.base: rate for leg, rate in sure.items()})


def _is(derived: Decimal, said: str | None) -> bool:
    exponent = None if said is None else Decimal(said).as_tuple().exponent
    if said is None or not isinstance(exponent, int):
        return False
    return to_scaled(derived, -exponent) == to_scaled(Decimal(said), -exponent)


def _median(
    quotes: Sequence[Mapping[str, Any]],
    feed: Feed,
    graph: ConversionGraph,
    rates: Mapping[Pair, Rate],
    observed: Mapping[str, Sequence[int]] | None,
) -> Median | None:
    prices = _converted(quotes, feed.pair, graph, rates)
    if observed:
        prices = {index: price for index, price in prices.items() if index in observed.get(feed.pair, ())}
    if not prices:
        return None
    values, weighed = list(prices.values()), {}
    if feed.aggregate is Aggregate.MEDIAN:
        value = lower_median(values)
    else:
        found = weights([codec.convert(quotes[index], Quote) for index in prices], feed)
        value, weighed = weighted_lower_median(values, found), dict(zip(prices, found, strict=True))
    chosen = next(index for index, price in prices.items() if price == value)
    return Median(prices=prices, chosen=chosen, weights=weighed, by=feed.aggregate)


def _converted(
    quotes: Sequence[Mapping[str, Any]], pair: Pair, graph: ConversionGraph, rates: Mapping[Pair, Rate]
) -> dict[int, Decimal]:
    """By index, the quotes for `pair`'s base in `pair`'s currency; those that no rate brings there are left out."""
    found = {}
    for index, quote in enumerate(quotes):
        market = Pair(quote["pair"])
        if market.base != pair.base:
            continue
        try:
            found[index] = graph.convert(Decimal(quote["price"]), 0, market.quote, pair.quote, rates).price
        except ConversionError:
            continue
    return found


def derivation(
    record: dict[str, Any],
    pair: Pair,
    domain: Domain | None = None,
    index: int | None = None,
    feeds: Mapping[Pair, Feed] = NO_FEEDS,
) -> Tree:
    """The attempt `record` (as the BFF serves it) as a tree, for one feed and the conversion rates it used.

    domain: of the contract, so that signatures can be checked. index: the feed's place in the group's reports. feeds:
    how the answers of each are drawn; by the lower median where it is not there.
    """
    root = Tree(_head(record, pair))
    root.add(_chain(record))
    answer = record["answers"].get(pair)
    if answer is not None and "confidence" in answer:  # records of before say nothing of it
        root.add(_standing(answer))
    for line in _equivocations(record):
        root.add(line)
    reports = root.add(f"reports ({len(record['reports'])})")
    for report in record["reports"]:
        _report(reports, report, pair, record, domain, index, feeds)
    for refusal in record["refusals"]:
        branch = reports.add(
            f"{_BAD}{escape(refusal['fetcher'])} did not sign[/]: {refusal['code']}, {escape(refusal['detail'])}"
        )
        _sources(branch, refusal, pair, record["moment"], Steps())
    for address in record.get("silent", ()):
        reports.add(f"[yellow]{escape(address)} was silent[/]: registered, and sent neither report nor refusal")
    root.add(report_rules(record))
    if (told := answer_rules(record, pair)) is not None:
        root.add(told)
    timings = ", ".join(f"{step} {float(ms):.1f}" for step, ms in record["timings_ms"].items())
    root.add(f"[dim]timings in ms: {timings}[/]")
    return root


def _head(record: dict[str, Any], pair: Pair) -> str:
    answer = record["answers"].get(pair)
    what = f"attempt {record['id']} ({record['cause']}, mode {record['mode']})"
    if answer is None:
        why = record["feeds_without_answer"].get(pair) or record["detail"] or record["code"] or record["state"]
        return f"[bold]{pair}[/] {_BAD}no answer[/]: {escape(str(why))} — {what}"
    same = ", unchanged since an earlier round" if answer.get("attested") else ""
    return (
        f"[bold]{pair} {answer['price']}[/] — lower median of {answer['contributors']} reporters, "
        f"spread {answer['spread_bps']} bps{same} — {what}"
    )


def _standing(answer: dict[str, Any]) -> str:
    """What stands behind the answer, and whether the contract lets it stand."""
    colour = "green" if answer["state"] == "ok" else "yellow"
    held = ""
    if answer["held"]:
        held = f", {_BAD}held by the breaker ({answer['held']})[/]: {escape(answer['why_held'])}"
    elif answer.get("confirmed"):
        held = f", [yellow]confirms the answer that waited[/]: {escape(answer['why_held'])}"
    return f"[{colour}]{answer['state']}[/]: confidence {answer['confidence']}, {answer['sources']} sources{held}"


def _equivocations(record: dict[str, Any]) -> list[str]:
    """Who signed two different reports for this moment."""
    guilty = dict.fromkeys(one["signer"] for one in record["reports"] if one["code"] == "equivocation")
    return [
        f"{_BAD}equivocation[/]: {escape(str(signer))} signed two different reports for this moment, both kept"
        for signer in guilty
    ]


def _chain(record: dict[str, Any]) -> str:
    if record["transaction"] is None:
        return f"chain: {_BAD}nothing was submitted[/] ({record['code']}: {escape(record['detail'])})"
    by = f" [dim]sent by {record['relayer']}[/]" if record.get("relayer") else ""
    return (
        f"chain: round {record['round']} of {record['group']}, block {record['block']}, gas {record['gas_used']}, "
        f"transaction {record['transaction']}{by}"
    )


def _report(
    parent: Tree,
    report: dict[str, Any],
    pair: Pair,
    record: dict[str, Any],
    domain: Domain | None,
    index: int | None,
    feeds: Mapping[Pair, Feed],
) -> None:
    said = report["answers"].get(pair)
    answer = None if said is None else Decimal(said)
    colour = _COLOURS.get(report["verdict"], "red")
    verdict = report["verdict"] + (f": {report['code']}" if report["code"] else "")
    price = "no price" if answer is None else f"[bold]{answer:f}[/]"
    if index is not None and report["signed"]["unchanged"] >> index & 1:
        price += " (unchanged)"
    chosen = record["answers"].get(pair)
    included = report["verdict"] == "included"
    mark = " [bold green]← the answer[/]" if included and chosen and chosen["reporter"] == report["signer"] else ""
    branch = parent.add(
        f"{escape(report['fetcher'])} {price} ([{colour}]{verdict}[/]){mark} [dim]signed by {report['signer']}[/]"
    )
    if report["verdict"] == "rejected" and report.get("detail"):
        branch.add(f"{_BAD}{escape(report['detail'])}[/]")
    if warning := report["warnings"].get(pair):
        branch.add(f"[yellow]{escape(warning)}[/]")
    branch.add(proven(record, report, domain))
    if report["quotes"] or report["failures"]:
        branch.add(quote_rules(report, pair))
    derived = steps(report["quotes"], pair, report["answers"], report.get("observed"), feeds)
    _sources(branch, report, pair, record["moment"], derived)


def proven(record: Mapping[str, Any], report: Mapping[str, Any], domain: Domain | None) -> str:
    """Whether the signature covers what the record shows of a report, worked out here."""
    signed = codec.convert(report["signed"], SignedReport)
    if domain is not None:
        try:
            signer = recover_reporter(domain, signed)
        except (InvalidSignatureError, MalformedReportError) as error:
            return f"{_BAD}not signed[/]: {escape(str(error))}"
        if signer.lower() != str(report["signer"]).lower():
            return f"{_BAD}signed by {signer}[/], not by whom the record names"
    root = signed.evidence_root
    if root == NO_EVIDENCE:
        return "[yellow]its signature covers no evidence[/]: the quotes are its sender's word"
    members = {**report, "deployment": record["deployment"], "mode": record["mode"]}
    said = {name: members[name] for name in Statement.__struct_fields__ if name in members}
    try:
        its = codec.convert(said, Statement).tree().root
    except (MalformedEvidenceError, msgspec.ValidationError) as error:
        its = str(error)
    if its == root.lower():
        who = "its signature covers" if domain is not None else "its evidence root covers"
        count = len(report["quotes"])
        return f"[green]{who} {count} quotes[/] [dim]evidence root {root}[/]"
    if not report["quotes"] and not report["answers"]:
        return f"[yellow]what it said is not kept[/] [dim]evidence root {root}[/]"
    return f"{_BAD}the quotes shown are not those that it signed[/] [dim]evidence root {root}[/]"


def _sources(parent: Tree, report: dict[str, Any], pair: Pair, moment: int, derived: Steps) -> None:
    """The quotes and failures for the feed itself, then those of the rates that converted them."""
    everything: list[tuple[int, dict[str, Any]]] = list(enumerate([*report["quotes"], *report["failures"]]))

    def of(base: str) -> list[tuple[int, dict[str, Any]]]:
        return [(index, each) for index, each in everything if Pair(each["pair"]).base == base]

    def show(branch: Tree, base: str, median: Median | None, mark: str) -> list[str]:
        """Returns the currencies that its quotes are in, the feed's own left out."""
        currencies: dict[str, None] = {}
        for index, each in of(base):
            market, line = Pair(each["pair"]), _line(each, moment)
            if market.quote != pair.quote:
                currencies[market.quote] = None
                if median is not None and index in median.prices:
                    line += f" = [bold]{_short(median.prices[index])}[/] {pair.quote}"
            if median is not None and index == median.chosen:
                line += f" [green]← {mark}[/]"
            branch.add(line)
        if median is not None and median.weights:
            _weighed(branch, everything, median, pair.quote)
        return list(currencies)

    pending = show(parent, pair.base, derived.price, "its median")
    shown = {pair.base}
    while pending:
        currency = pending.pop(0)
        if currency in shown or not of(currency):
            continue
        shown.add(currency)
        rate = derived.rates.get(currency)
        value = "" if rate is None else f" = [bold]{_short(rate.value)}[/]"
        branch = parent.add(f"converted by {currency}/{pair.quote}{value}")
        pending += show(branch, currency, rate, "the rate")


def _weighed(parent: Tree, everything: Sequence[tuple[int, Mapping[str, Any]]], median: Median, currency: str) -> None:
    """The quotes from the least price on, and where half of all weight is reached."""
    whole, passed = sum(median.weights.values()), Decimal(0)
    branch = parent.add(f"weighted by {median.by}, from the least on, half of {whole:f} is {whole / 2:f}")
    for index in sorted(median.prices, key=lambda one: (median.prices[one], median.weights[one])):
        weight = median.weights[index]
        reached = " [green]← half[/]" if passed * 2 < whole <= (passed + weight) * 2 else ""
        passed += weight
        told, note = Decimal(everything[index][1].get("volume") or 0), ""
        if median.by is Aggregate.VOLUME and not told:
            note = " [dim](tells no volume)[/]"
        elif median.by is Aggregate.VOLUME and told > weight:
            note = f" [dim](capped; tells {told:f})[/]"
        name, price = escape(everything[index][1]["source"]), f"{_short(median.prices[index])} {currency}"
        branch.add(f"{name} {price} weighs {weight:f}{note}, with those before {passed:f}{reached}")


def _short(price: Decimal) -> str:
    """At most 12 significant digits, whatever a conversion did to its length."""
    return f"{price:.12g}"


def _line(each: dict[str, Any], moment: int) -> str:
    source = escape(each["source"])
    if "price" not in each:
        return f"{source} {each['pair']} {_BAD}{each['code']}[/] [dim]{escape(each['detail'])}[/]"
    book = "" if each["bid"] is None else f" [dim]bid {each['bid']} ask {each['ask']}[/]"
    return f"{source} {each['pair']} {each['price']}{book} [dim]{_age(each, moment)}[/]"


def _age(quote: dict[str, Any], moment: int) -> str:
    """Of which time the quote speaks, relative to the moment; the rule of `core.types.Quote.as_of_ms`."""
    given, received = quote["source_time_ms"], quote["received_ms"]
    ahead = (received if given is None else min(given, received)) - moment
    when = f"{abs(ahead) / 1000:.2f} s {'before' if ahead < 0 else 'after'} the moment"
    return f"received {when}" if given is None else when
