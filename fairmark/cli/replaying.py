"""The command that runs history through the rules: replay."""
# ruff: noqa: PLC0415 - commands import what they run when they run: see `fairmark.cli.app`

from __future__ import annotations

import gc
import re
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from core.errors import ConfigurationError
from core.types import QUOTE_RULES, Feed, Pair
from fairmark.cli.app import DEFAULT_CONFIG, Config, app

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fairmark.replay.rows import Market

_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,3})?)(ms|s|m|h)?")
_UNITS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000}


class Rules(NamedTuple):
    """legs: of the rates in the feeds' groups. unknown: pairs that are no configured feed. order: the quote rules'."""

    feeds: list[Feed]
    legs: list[Feed]
    unknown: list[str]
    order: Sequence[str]


def _duration_ms(text: str) -> int:
    """`1`, `0.5s`, `250ms`, `5m`, `1h` in milliseconds. Raises `typer.BadParameter`."""
    from decimal import Decimal

    found = _DURATION.fullmatch(text.strip())
    ms = Decimal(found[1]) * _UNITS[found[2] or "s"] if found else Decimal(0)
    if ms < 1 or ms != int(ms):
        raise typer.BadParameter(f"{text!r} is no duration: write 1s, 250ms, 5m or 1h", param_hint="--every")
    return int(ms)


def _reference(text: str) -> Market:
    from fairmark.replay.rows import Market

    source, _, pair = text.partition(":")
    refusal = typer.BadParameter(
        f"{text!r} is no reference: write SOURCE:PAIR, as kraken:BTC/USD", param_hint="--reference"
    )
    if not source:
        raise refusal
    try:
        return Market(source, Pair(pair.upper().replace("-", "/", 1)))
    except ValueError:
        raise refusal from None


def _feeds(config: Path, pairs: Sequence[str], changes: Sequence[str]) -> Rules:
    """What the replay goes by. changes: `NAME=VALUE`, laid over each feed's rules.

    Raises `ConfigurationError`.
    """
    from pydantic import ValidationError

    from core.settings import FeedSettings, Settings, feed_of, load

    settings = None if config == DEFAULT_CONFIG and not config.exists() else load(config)
    configured = () if not isinstance(settings, Settings) else settings.all_groups()
    changed = dict(change.partition("=")[::2] for change in changes)
    feeds: list[Feed] = []
    legs: dict[Pair, Feed] = {}
    unknown: list[str] = []
    try:
        wanted = dict.fromkeys(Pair.from_slug(text.replace("/", "-")) for text in pairs)
    except ValueError as error:
        raise ConfigurationError([str(error)], "--feed") from error
    for pair in wanted:
        group = next((group for group in configured if group.feed(pair)), None)
        given: dict[str, object] = {"pair": str(pair)}
        if group is None:
            unknown.append(pair)
        elif settings is not None:
            legs |= {feed.pair: feed for feed in group.feeds}
            own = next(each for each in settings.feeds if each.pair == pair)
            given = {name: getattr(own, name) for name in own.model_fields_set}
        try:
            rules = FeedSettings.model_validate(given | changed)
        except ValidationError as error:
            problems = [
                f"{'.'.join(map(str, each['loc'])) or pair}: {each['msg'].removeprefix('Value error, ')}"
                for each in error.errors(include_url=False)
            ]
            raise ConfigurationError(problems, "--set") from error
        feeds.append(feed_of(rules, group.threshold if group else 3, 0))
    others = [feed for pair, feed in legs.items() if pair not in {each.pair for each in feeds}]
    return Rules(feeds, others, unknown, QUOTE_RULES if settings is None else settings.validation.quotes)


def _refuse_overwriting(file: Path, written: Sequence[Path]) -> None:
    """Raises `typer.BadParameter` where the history itself, or one finding by the other, would be written over."""
    for index, path in enumerate(written):
        for other in (file, *written[:index]):
            same = path.samefile(other) and path.is_file() if path.exists() and other.exists() else path == other
            if same:
                raise typer.BadParameter(f"{path} is also {'read' if other is file else 'written'}: name another")


@app.command()
def replay(
    file: Annotated[Path, typer.Argument(metavar="FILE.csv", help="Recorded quotes; gzip is read as it is.")],
    feed: Annotated[list[str], typer.Option("--feed", help="The pair to answer for; repeatable.")],
    every: Annotated[str, typer.Option("--every", help="One answer at each multiple of this, in quote time.")] = "1s",
    reference: Annotated[
        list[str] | None, typer.Option("--reference", help="SOURCE:PAIR to compare with; of several, their median.")
    ] = None,
    exclude_reference: Annotated[
        bool, typer.Option("--exclude-reference", help="Keep the references out of the answer.")
    ] = False,
    out: Annotated[str, typer.Option("--out", "-o", help="Where the answers go; `-`: standard output.")] = "-",
    rejected: Annotated[
        Path | None, typer.Option("--rejected", help="Where rejected quotes go; default: NAME.rejected.csv, here.")
    ] = None,
    change: Annotated[
        list[str] | None, typer.Option("--set", help="A rule to try, as max_jump_bps=300 (docs/settings.md: feeds).")
    ] = None,
    config: Config = DEFAULT_CONFIG,
) -> None:
    """Recorded quotes through conversion and validation as if live: what would have been answered, and how well.

    The file's header is `time,source,pair,price,volume`: time in ISO 8601 or Unix seconds, in the file's order; a
    volume of zero means that nothing was traded; an empty one, that nobody said. Answers go to standard output, the
    summary to standard error.
    """
    from core.currency import DOLLARS, ConversionGraph
    from fairmark.replay.errors import ReplayError
    from fairmark.replay.files import CsvSink, summary_lines
    from fairmark.replay.rows import rows
    from fairmark.replay.run import Replay
    from fetchers.rules import PIPELINE
    from sources import load_catalogue

    every_ms = _duration_ms(every)
    references = list(dict.fromkeys(_reference(text) for text in reference or ()))
    if bad := [text for text in change or () if "=" not in text]:
        raise typer.BadParameter(f"{bad[0]!r}: write NAME=VALUE", param_hint="--set")
    rules = _feeds(config, feed, change or ())
    for pair in rules.unknown:
        typer.echo(f"{pair} is no feed of {config}: a feed's default rules apply", err=True)
    stem = file.name.removesuffix(".gz").removesuffix(".csv")
    aside = Path(f"{stem}.rejected.csv") if rejected is None else rejected
    _refuse_overwriting(file, [aside] if out == "-" else [Path(out), aside])
    started = time.perf_counter()
    try:
        with ExitStack() as stack:
            answers = sys.stdout if out == "-" else stack.enter_context(Path(out).open("w", encoding="utf-8"))
            refused = stack.enter_context(aside.open("w", encoding="utf-8"))
            run = Replay(
                rules.feeds,
                load_catalogue(),
                ConversionGraph(DOLLARS),
                CsvSink(answers, refused),
                legs=rules.legs,
                rules=PIPELINE.ordered(rules.order),
                every_ms=every_ms,
                references=references,
                exclude_references=exclude_reference,
            )
            gc.freeze()  # nothing made so far goes away, and nothing made from here on hangs together in circles
            for row in rows(file):
                run.take(row)
            run.finish()
            answers.flush()
    except BrokenPipeError:
        raise
    except OSError as error:  # that the file cannot be read is a `ReplayError` already
        what = error.filename or "what was found"
        raise ReplayError(f"{what}: cannot be written: {error.strerror}") from error
    took = time.perf_counter() - started
    for line in summary_lines(run.summaries, compared=bool(references)):
        typer.echo(line, err=True)
    for market in run.unseen:
        typer.echo(f"no quote of {file} is of the reference {market.source}:{market.pair}", err=True)
    for pair in run.unpriced:
        typer.echo(f"no quote of {file} prices {pair.base}: {pair} has no answers", err=True)
    typer.echo(
        f"{run.rows} quotes in {took:.2f} s ({run.rows / took:,.0f}/s), {run.unused} of them for none of these feeds, "
        f"{run.late} behind later ones; rejected quotes with their reasons: {aside}",
        err=True,
    )
