"""Commands on who is registered with a running service: shown, taken off, put back. The chain is not touched.

Strategies are registered with the trader, reporters of strict groups with the aggregator. Not to be confused with
`fairmark.reporters`, which changes who may sign for a group on chain.
"""

from __future__ import annotations

from typing import Any

import httpx
import typer

from core.errors import FairmarkError
from core.problems import read_problem
from core.settings import Settings, secret
from core.types import Pair
from fairmark.signals import signal_settings, trader_token

TIMEOUT_S = 5.0


class NotAnsweredError(FairmarkError):
    """A service does not answer, or answers with a problem."""

    code = "request_failed"


def signals_listed(settings: Settings) -> None:
    """Every reporter of signals, and how it does. Raises `NotAnsweredError`.

    None where every configured signal is on chain: its strategies are reporters of prices.
    """
    if all(settings.group_of(name) for name in signal_settings(settings)):
        return
    for one in _trader(settings, "GET", "/v1/reporters"):
        typer.echo(line(one))


def prices_listed(settings: Settings) -> None:
    """Every reporter of strict price feeds. Raises `NotAnsweredError` or `ConfigurationError`."""
    for one in _aggregator(settings, "GET", "/v1/reporters"):
        typer.echo(line(one))


def change(settings: Settings, what: str, name: str, feed: str | None) -> None:
    """Take a reporter off (`deregister`) or put it back (`register`), at every feed that has it unless one is named.

    The name of a fetcher or of a strategy that reports on chain, or an address, means a price feed, anything else a
    signal. Raises `NotAnsweredError`.
    """
    on_chain = {*settings.fetchers, *settings.all_reporters()}
    if name in on_chain or name.startswith("0x"):
        query = "" if feed is None else f"?feed={_slug(feed)}"
        changed = _aggregator(settings, "POST", f"/v1/reporters/{name}/{what}{query}")
    else:
        try:
            feeds = [feed] if feed is not None else _signals_of(settings, name)
            changed = [_trader(settings, "POST", f"/v1/reporters/{each}/{name}/{what}") for each in feeds]
        except NotAnsweredError as error:
            known = ", ".join(sorted(on_chain))
            raise NotAnsweredError(f"{name} is no reporter of prices here ({known}); of signals: {error}") from error
    for one in changed:
        if feed is None or name not in on_chain or one["feed"] == _pair(feed):
            typer.echo(line(one))


def line(one: dict[str, Any]) -> str:
    """A reporter in one line, with what is wrong."""
    said = f"{one['feed']} {one['name']} {one['address']} {one['state']} since {one['since']}"
    trouble = one["trouble"]
    if trouble is None or (trouble["reporter"] == one["name"] and not trouble["detail"]):
        return said
    return f"{said}: {trouble['reporter']} {trouble['code']} ({trouble['detail']})"


def _pair(text: str) -> Pair:
    try:
        return Pair.from_slug(text.replace("/", "-"))
    except ValueError as error:
        raise NotAnsweredError(str(error)) from None


def _slug(text: str) -> str:
    return _pair(text).slug


def _signals_of(settings: Settings, name: str) -> list[str]:
    known = _trader(settings, "GET", "/v1/reporters")
    found = [one["feed"] for one in known if one["name"] == name]
    if not found:
        registered = ", ".join(sorted({one["name"] for one in known})) or "nobody"
        feeds = ", ".join(signal_settings(settings))
        raise NotAnsweredError(f"it is not registered for any ({feeds}); registered: {registered}")
    return found


def _trader(settings: Settings, method: str, path: str) -> Any:
    return _call(settings.trader.found_at, "the trader", method, path, trader_token(settings))


def _aggregator(settings: Settings, method: str, path: str) -> Any:
    own = settings.aggregator
    token = secret(own.token, own.token_file, "aggregator.token")
    return _call(settings.bff.aggregator_url, "the aggregator", method, path, token)


def _call(base: str, who: str, method: str, path: str, token: str) -> Any:
    url = base.rstrip("/") + path
    headers = {"authorization": f"Bearer {token}"}
    try:
        response = httpx.request(method, url, headers=headers, timeout=TIMEOUT_S, trust_env=False)
    except httpx.HTTPError as error:
        said = str(error) or type(error).__name__
        raise NotAnsweredError(f"no answer from {who} at {base}: {said}; does it run there?") from error
    if response.is_success:
        return response.json()
    problem = read_problem(response.content)
    said = f"{problem.detail} ({problem.code})" if problem else response.text[:200]
    raise NotAnsweredError(f"{url} answers {response.status_code}: {said}")
