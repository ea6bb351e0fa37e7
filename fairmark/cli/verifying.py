"""Commands over a round's evidence: save it, and check it against the chain."""
# ruff: noqa: PLC0415 - commands import what they run when they run: see `fairmark.cli.app`

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from core.types import Pair
from fairmark.cli.app import DEFAULT_CONFIG, BffUrl, Config, app, output
from fairmark.cli.ask import AskError, PairArgument, _ask, _base, _slug

if TYPE_CHECKING:
    from fairmark.evidence_file import EvidenceFile
    from fairmark.verify import Verified

Round = Annotated[int | None, typer.Option("--round", help="A round of the feed's group; default: the latest.")]
_MARKS = {True: "[green]✓[/]", False: "[bold red]✗[/]", None: "[yellow]?[/]"}


def fetch(base: str, pair: Pair, number: int | None) -> EvidenceFile:
    """A round's evidence from a running service. Raises `AskError` or `EvidenceFileError`."""
    from fairmark.evidence_file import evidence_of

    published = _ask(f"{base}/v1/feeds")
    group = next((feed["group"] for feed in published["feeds"] if feed["pair"] == pair), None)
    if group is None:
        raise AskError(f"{pair} is no feed here; known: {', '.join(feed['pair'] for feed in published['feeds'])}")
    number = number if number is not None else _ask(f"{base}/v1/prices/{pair.slug}")["round"]
    return evidence_of(published, _ask(f"{base}/v1/groups/{group}/rounds/{number}"))


@app.command()
def evidence(
    pair: PairArgument,
    round_: Round = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Default: evidence-GROUP-ROUND.json.")] = None,
    url: BffUrl = None,
    config: Config = DEFAULT_CONFIG,
) -> None:
    """Save a round's evidence: every report received, with its quotes, for `fairmark verify`."""
    from fairmark.evidence_file import write

    found = fetch(_base(url, config), Pair.from_slug(_slug(pair)), round_)
    path = out or Path(f"evidence-{found.record.group}-{found.record.round}.json")
    write(path, found)
    reports = len(found.record.reports)
    output().print(f"{path}: round {found.record.round} of {found.record.group}, {reports} reports", highlight=False)


@app.command("verify")
def verify_(
    pair: PairArgument,
    round_: Round = None,
    file: Annotated[
        Path | None, typer.Option("--evidence", "-e", help="The evidence file; default: asked of the running service.")
    ] = None,
    contract: Annotated[
        str | None,
        typer.Option("--contract", help="The oracle's address as you know it; default: the file's own word."),
    ] = None,
    rpc: Annotated[str | None, typer.Option("--rpc", help="A node's URL; default: as configured.")] = None,
    url: BffUrl = None,
    config: Config = DEFAULT_CONFIG,
    json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Check a round's evidence against the chain: signatures, quotes, the transaction's bytes, the median with and
    without the reports that were left out. Exit code 1 where something does not hold.

    It takes nothing but a node's URL and the evidence file (`fairmark evidence` saves one).
    """
    from core import codec
    from fairmark.evidence_file import EvidenceFileError, read
    from fairmark.verify import verify

    wanted = Pair.from_slug(_slug(pair))
    if file is None:
        found = fetch(_base(url, config), wanted, round_)
    else:
        found = read(file)
        if round_ is not None and found.record.round != round_:
            raise EvidenceFileError(f"{file} is of round {found.record.round}, not of {round_}")
    if contract is not None and found.contract.lower() != contract.lower():
        raise EvidenceFileError(f"the evidence is of contract {found.contract}, not of {contract}")
    if rpc is None:
        from core.settings import ChainSettings, load

        chain = ChainSettings() if config == DEFAULT_CONFIG and not config.exists() else load(config).chain
        rpc = chain.rpc_url
    result = asyncio.run(verify(found, wanted, rpc))
    if json:
        typer.echo(codec.encode({**_document(result)}).decode())
    else:
        _show(result)
    if not result.ok:
        raise typer.Exit(1)


def _document(result: Verified) -> dict[str, object]:
    import msgspec

    return {**msgspec.structs.asdict(result), "ok": result.ok}


def _show(result: Verified) -> None:
    from rich.markup import escape

    from core.median import from_scaled

    console = output()

    def price(value: int | None) -> str:
        return "none" if value is None else f"{from_scaled(value, result.decimals):f}"

    for check in result.checks:
        detail = f" — [dim]{escape(check.detail)}[/]" if check.detail else ""
        console.print(f"{_MARKS[check.passed]} {escape(check.what)}{detail}", highlight=False, soft_wrap=True)
    medians = result.medians
    console.print(f"median of the {medians.reports} submitted: {price(medians.submitted)}", highlight=False)
    if medians.left_out and medians.with_all is not None:
        least, most = medians.with_all
        span = price(least) if least == most else f"{price(least)} to {price(most)}"
        console.print(f"median with the {medians.left_out} left out as well: {span}", highlight=False)
    else:
        console.print("no report was left out", highlight=False)
    verdict = "[bold green]verified[/]" if result.ok else "[bold red]NOT verified[/]"
    console.print(f"{result.pair} at round {result.round}: {verdict}", highlight=False)
