"""Commands that ask a running Fairmark: price, refresh, explain."""
# ruff: noqa: PLC0415 - commands import what they run when they run: see `fairmark.cli.app`

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from core.errors import FairmarkError
from core.types import Pair
from fairmark.cli.app import DEFAULT_CONFIG, BffUrl, Config, app, output

PairArgument = Annotated[str, typer.Argument(metavar="PAIR", help="A feed, as BTC/USD or btc-usd.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the service's JSON.")]


class AskError(FairmarkError):
    """The service did not answer, or answered with a problem."""

    code = "request_failed"


def _slug(text: str) -> str:
    try:
        return Pair.from_slug(text.replace("/", "-")).slug
    except ValueError as error:
        raise AskError(str(error)) from error


def _ask(url: str, method: str = "GET") -> Any:
    import httpx

    from core.problems import read_problem

    try:
        response = httpx.request(method, url, timeout=15.0, trust_env=False)
    except httpx.HTTPError as error:
        raise AskError(f"no answer from {url}: {error or type(error).__name__}; does the BFF run there?") from error
    if response.is_success:
        return response.json()
    problem = read_problem(response.content)
    said = f"{problem.title}: {problem.detail} ({problem.code})" if problem else response.text[:200]
    raise AskError(f"{response.status_code} from {url}: {said}")


def _base(url: str | None, config: Path) -> str:
    """Where to ask: as told, else as configured, else, where there is no configuration, where Fairmark is by default.

    Raises `ConfigurationError`.
    """
    if url is not None:
        return url.rstrip("/")
    from core.settings import BffSettings, load

    bff = BffSettings() if config == DEFAULT_CONFIG and not config.exists() else load(config).bff
    return f"http://{bff.host}:{bff.port}"


def _show_price(price: dict[str, Any], as_json: bool) -> None:
    console = output()
    if as_json:
        console.print_json(data=price)
        return
    age = f"{price['age_seconds']:.1f} s old"
    state = "[red]STALE[/]" if price["stale"] else "fresh"
    if price["status"] == "degraded":
        state = f"[yellow]degraded[/] (confidence {price['confidence']:.2f})"
    console.print(
        f"{price['pair']}  [bold]{price['price']}[/]  {state}, {age}, round {price['round']}, "
        f"{price['contributors']} reporters, spread {price['spread_bps']} bps, mode {price['mode']}",
        highlight=False,
        soft_wrap=True,
    )


@app.command()
def price(pair: PairArgument, url: BffUrl = None, config: Config = DEFAULT_CONFIG, json: AsJson = False) -> None:
    """The standing answer of a feed, as read from the chain."""
    _show_price(_ask(f"{_base(url, config)}/v1/prices/{_slug(pair)}"), json)


@app.command()
def refresh(pair: PairArgument, url: BffUrl = None, config: Config = DEFAULT_CONFIG, json: AsJson = False) -> None:
    """Ask for a new round and show its answer."""
    _show_price(_ask(f"{_base(url, config)}/v1/prices/{_slug(pair)}/refresh", "POST"), json)


@app.command()
def explain(
    pair: PairArgument,
    round_: Annotated[int | None, typer.Option("--round", help="A round of the feed's group; default: latest.")] = None,
    attempt: Annotated[str | None, typer.Option("--attempt", help="An attempt's id, also a failed one's.")] = None,
    url: BffUrl = None,
    config: Config = DEFAULT_CONFIG,
    json: AsJson = False,
) -> None:
    """The derivation of an answer: from sources through reporters to the median on chain."""
    if round_ is not None and attempt is not None:
        raise typer.BadParameter("a round is one attempt: name --round or --attempt")
    base = _base(url, config)
    published = _ask(f"{base}/v1/feeds")
    feeds = {feed["pair"]: feed for feed in published["feeds"]}
    wanted = _slug(pair).replace("-", "/", 1)
    if wanted not in feeds:
        raise AskError(f"{wanted} is no feed here; known: {', '.join(feeds)}")
    if attempt is None:
        number = round_ if round_ is not None else _ask(f"{base}/v1/prices/{_slug(pair)}")["round"]
        record = _ask(f"{base}/v1/groups/{feeds[wanted]['group']}/rounds/{number}")
    else:
        record = _ask(f"{base}/v1/attempts/{attempt}")
        if record["group"] != feeds[wanted]["group"]:
            raise AskError(f"attempt {attempt} is of group {record['group']}; {wanted} is of {feeds[wanted]['group']}")
    console = output()
    if json:
        console.print_json(data=record)
    else:
        from contracts.report import Domain
        from core.types import Mode
        from fairmark.cli.derivation import derivation, drawn

        domain = Domain(Mode(published["mode"]), published["chain_id"], published["contract"])
        tree = derivation(record, Pair(wanted), domain, feeds[wanted]["index"], drawn(published["feeds"]))
        console.print(tree, highlight=False)
