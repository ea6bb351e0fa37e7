"""The aggregator's rules over a full round, beside its bare medians; and recorded quotes through a fetcher's rules.

256 feeds and 13 reporters are the most that a group is made for (f = 4). Signatures are recovered as reports come in,
one by one while others are awaited; what is measured here is what stands between the last report and the submission:
every rule over every report, the median of every feed, the rules over every feed.

Both work on one thread and wait for nothing, so that their time is the processor's: other programs on the machine,
which take their share of the wall clock, do not count.
"""

from __future__ import annotations

import csv
import gc
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from aggregator.edges import Known
from aggregator.validation import Expected, Received, identify, validate
from benchmarks.figures import figures, machine, ms, table
from broker.messages import Report
from contracts.evidence import Statement
from contracts.readings import FeedOnChain
from contracts.report import Domain, LocalSigner, sign_report
from core.currency import DOLLARS, ConversionGraph
from core.median import lower_median
from core.types import Feed, Group, Mode, Pair, Quote
from fairmark.replay.files import CsvSink
from fairmark.replay.rows import Market, rows
from fairmark.replay.run import Replay
from sources import load_catalogue

FEEDS, REPORTERS, F = 256, 13, 4
QUOTES_A_FEED = 5
ROUNDS = 60
TARGET_MS = 20.0
QUOTES = 200_000
TARGET_PER_S = 50_000
MOMENT = 1_710_328_245_000
HASH = "0x" + "c3" * 32
DOMAIN = Domain(Mode.TEST, 31337, "0x" + "a1" * 20)
VENUES = ("binance", "kraken", "coinbase", "okx", "bybit", "bitstamp", "gemini", "kucoin", "gate", "bitfinex")


def full_round(seed: int = 7) -> tuple[list[Received], Expected]:
    """Reports of 13 reporters on 256 feeds, with five quotes a feed; every fifth feed is called unchanged by some."""
    rng = random.Random(seed)
    names = [f"F{number:03d}" for number in range(FEEDS)]
    feeds = tuple(Feed(pair=Pair(f"{name}/USD"), min_contributors=2 * F + 1, wanted_contributors=13) for name in names)
    group = Group(name="full", feeds=feeds, f=F, threshold=2 * F + 1)
    truth = [rng.randrange(10**8, 10**13) for _ in feeds]
    signers = [LocalSigner(f"{number:064x}") for number in range(1, REPORTERS + 1)]
    known = Known(
        group_hash=HASH,
        last_moment=MOMENT - 60_000,
        round=4,
        paused=False,
        f=F,
        threshold=2 * F + 1,
        signers=frozenset(signer.address.lower() for signer in signers),
        feeds=tuple(FeedOnChain(feed.pair, 8, 2 * F + 1, 50, 60, 1_000, 1_000) for feed in feeds),
        standing=tuple(truth),
        observed_ms=(MOMENT - 60_000,) * FEEDS,
    )
    received = [
        identify(_report(signer, group, truth, random.Random(seed + at)), DOMAIN, at)
        for at, signer in enumerate(signers)
    ]
    return received, Expected("d", Mode.TEST, group, MOMENT, known)


def _report(signer: LocalSigner, group: Group, truth: Sequence[int], rng: random.Random) -> Report:
    prices, answers, quotes, observed, unchanged = [], {}, [], {}, 0
    for index, (feed, true) in enumerate(zip(group.feeds, truth, strict=True)):
        still = index % 5 == 0 and rng.random() < 0.5
        price = true if still else true + true * rng.randrange(-20, 21) // 10_000
        unchanged |= still << index
        prices.append(0 if still else price)
        answers[str(feed.pair)] = Decimal(price).scaleb(-8)
        observed[str(feed.pair)] = tuple(range(len(quotes), len(quotes) + QUOTES_A_FEED))
        quotes += [
            Quote(pair=feed.pair, source=VENUES[at], price=Decimal(price).scaleb(-8), received_ms=MOMENT)
            for at in range(QUOTES_A_FEED)
        ]
    said = Statement(
        deployment="d",
        mode=Mode.TEST,
        fetcher="f",
        instance="1",
        answers=answers,
        quotes=tuple(quotes),
        failures=(),
        observed=observed,
        elapsed_ms=5,
    )
    signed = sign_report(
        signer,
        DOMAIN,
        group=group.name,
        group_hash=HASH,
        previous_moment=MOMENT - 60_000,
        moment=MOMENT,
        prices=prices,
        unchanged=unchanged,
        evidence_root=said.tree().root,
    )
    members = {name: getattr(said, name) for name in Statement.__struct_fields__}
    return Report(id=signer.address, attempt="a", signed=signed, **members)


def bare_medians(received: Sequence[Received], expected: Expected) -> list[int]:
    """What nobody can do without: each feed's observations, and the middle one."""
    return [
        lower_median([expected.observed(one, index) for one in received]) for index in range(len(expected.group.feeds))
    ]


def _timed(work: Callable[[], object], rounds: int) -> list[float]:
    samples = []
    for _ in range(rounds):
        started = time.process_time()
        work()
        samples.append(time.process_time() - started)
    return samples


def recording(path: Path, quotes: int = QUOTES, every_ms: int = 100, seed: int = 3) -> None:
    """A file of `quotes` rows: ten venues in turn, each at ten times `every_ms`, six in dollars, four in a coin."""
    rng = random.Random(seed)
    price, at = 70_000.0, MOMENT
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("time", "source", "pair", "price", "volume"))
        for number in range(quotes):
            venue = number % len(VENUES)
            price *= 1 + rng.gauss(0, 0.00001)
            shown = price * (1 + rng.gauss(0, 0.0001))
            if venue in (1, 5):
                pair, shown = "USDT/USD", 1 + rng.gauss(0, 0.0001)
            else:
                pair = "BTC/USDT" if venue in (0, 3) else "BTC/USD"
            writer.writerow((f"{at / 1000:.3f}", VENUES[venue], pair, f"{shown:.6f}", "1.5"))
            at += every_ms


def replayed(path: Path, out: Path) -> tuple[int, float]:
    """Rows and processor seconds of a replay as the command runs it, files and reference included."""
    pair = Pair("BTC/USD")
    with out.open("w", encoding="utf-8") as answers, out.with_suffix(".rejected").open("w") as rejected:
        run = Replay(
            [Feed(pair=pair, wanted_sources=5)],
            load_catalogue(),
            ConversionGraph(DOLLARS),
            CsvSink(answers, rejected),
            references=[Market("coinbase", pair)],
        )
        started = time.process_time()
        for row in rows(path):
            run.take(row)
        run.finish()
        return run.rows, time.process_time() - started


def run(*, rounds: int | None = None, quotes: int = QUOTES) -> tuple[str, dict[str, Any]]:
    """Measure; the report as Markdown, and the figures."""
    rounds = rounds or ROUNDS
    line = machine()
    received, expected = full_round()
    outcome = validate(received, expected, MOMENT + 500)
    assert outcome.reason is None and len(outcome.answers) == FEEDS, outcome.detail
    assert [int(each.price.scaleb(8)) for each in outcome.answers.values()] == bare_medians(received, expected)
    gc.collect()
    whole = figures(_timed(lambda: validate(received, expected, MOMENT + 500), rounds))
    bare = figures(_timed(lambda: bare_medians(received, expected), rounds))
    with tempfile.TemporaryDirectory() as folder:
        replays = {}
        for name, every_ms in (("100", 10), ("10", 100), ("3", 333)):
            path = Path(folder) / f"{name}.csv"
            recording(path, quotes, every_ms=every_ms)
            replays[name] = replayed(path, path.with_suffix(".out"))
    rates = {name: count / seconds for name, (count, seconds) in replays.items()}
    text = [
        line,
        f"{FEEDS} feeds × {REPORTERS} reporters, {rounds} times each.",
        "",
        table(
            ("", "p50 ÷ target", "p50 ms", "p90 ms", "p99 ms"),
            [
                (name, f"{each.p50 / TARGET_MS:.2f}", ms(each.p50), ms(each.p90), ms(each.p99))
                for name, each in (("every rule and median", whole), ("the bare medians", bare))
            ],
        ),
        "",
        f"{quotes} recorded quotes of ten venues, an answer each second of quote time.",
        "",
        table(
            ("quotes a second of quote time", "÷ target", "quotes/s"),
            [(name, f"{rate / TARGET_PER_S:.2f}", f"{rate:,.0f}") for name, rate in rates.items()],
        ),
    ]
    shown = {"machine": line, "rounds": rounds, "validation": whole, "bare": bare, "replay_quotes_per_s": rates}
    return "\n".join(text), shown
