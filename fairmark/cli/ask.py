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
LOOKED_AT = 50
"""A group's newest attempts that are looked at: as many as the BFF lists."""
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
    attempts: Annotated[bool, typer.Option("--attempts", help="List the group's newest 50 attempts instead.")] = False,
    url: BffUrl = None,
    config: Config = DEFAULT_CONFIG,
    json: AsJson = False,
) -> None:
    """The derivation of an answer: from sources through reporters to the median on chain.

    Without a round or an attempt it also says which of the group's attempts have failed since its last round.
    """
    if (round_ is not None) + (attempt is not None) + attempts > 1:
        raise typer.BadParameter("name one of --round, --attempt and --attempts: a round is one attempt")
    base = _base(url, config)
    published = _ask(f"{base}/v1/feeds")
    feeds = {feed["pair"]: feed for feed in published["feeds"]}
    wanted = _slug(pair).replace("-", "/", 1)
    if wanted not in feeds:
        raise AskError(f"{wanted} is no feed here; known: {', '.join(feeds)}")
    group = f"{base}/v1/groups/{feeds[wanted]['group']}"
    newest = f"{group}/attempts?limit={LOOKED_AT}"
    if attempts:
        _list_attempts(_ask(newest), json)
        return
    since = None
    if attempt is not None:
        record = _ask(f"{base}/v1/attempts/{attempt}")
        if record["group"] != feeds[wanted]["group"]:
            raise AskError(f"attempt {attempt} is of group {record['group']}; {wanted} is of {feeds[wanted]['group']}")
    elif round_ is not None:
        record = _ask(f"{group}/rounds/{round_}")
    else:
        record = _ask(f"{group}/rounds/{_standing_round(base, wanted)}")
        since = _ask(newest)
    _explain(record, since, published, Pair(wanted), json)


def _standing_round(base: str, pair: str) -> int:
    try:
        number: int = _ask(f"{base}/v1/prices/{_slug(pair)}")["round"]
    except AskError as error:
        raise AskError(f"{error}; `fairmark explain {pair} --attempts` lists what was tried") from error
    return number


def _list_attempts(newest: list[dict[str, Any]], as_json: bool) -> None:
    from fairmark.cli.attempts import attempt_line

    console = output()
    if as_json:
        console.print_json(data=newest)
        return
    for one in newest:
        console.print(attempt_line(one), highlight=False, markup=False, soft_wrap=True)


def _explain(
    record: dict[str, Any], newest: list[dict[str, Any]] | None, published: dict[str, Any], pair: Pair, as_json: bool
) -> None:
    """newest: the group's attempts, where it is to be told which have failed since `record`."""
    from contracts.report import Domain
    from core.types import Mode
    from fairmark.cli.attempts import failed_lines, failed_since
    from fairmark.cli.derivation import derivation, drawn

    failed = None if newest is None else failed_since(newest, record["round"], LOOKED_AT)
    console = output()
    if as_json:
        console.print_json(data=record if failed is None else {**record, "failed_since": failed.attempts})
        return
    index = next(feed["index"] for feed in published["feeds"] if feed["pair"] == pair)
    domain = Domain(Mode(published["mode"]), published["chain_id"], published["contract"])
    console.print(derivation(record, pair, domain, index, drawn(published["feeds"])), highlight=False)
    for line in [] if failed is None else failed_lines(failed, pair):
        console.print(line, highlight=False, soft_wrap=True)
