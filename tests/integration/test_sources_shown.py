"""`fairmark sources`: what running fetchers tell of theirs, and the catalogue alone where none runs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry
from typer.testing import CliRunner

from core.clock import FixedClock
from core.ops import Ops, ops_app, serve
from core.settings import load
from core.types import Mode, Pair, SourceFailure
from fairmark.ask_sources import ask_fetchers
from fairmark.cli import check
from fairmark.probe import ask_every_pair
from fairmark.source_states import show_sources
from sources import RetryPolicy, SourcePool, State, load_catalogue
from sources.streams import StreamState
from tests.support.exchange import Exchange, exchanging, status
from tests.support.fetchers import QUIET

CATALOGUE = load_catalogue()
NOW = 1_710_328_245_391
CONFIG = """
mode = "test"
data_dir = "{folder}/data"
[groups.majors]
feeds = ["BTC/USD"]
f = 0
threshold = 1
reporters = ["fetcher-a", "fetcher-b"]
[[feeds]]
pair = "BTC/USD"
[fetchers.fetcher-a]
port = {port}
sources = ["binance", "kraken"]
[fetchers.fetcher-b]
sources = ["kraken"]
"""


@pytest.fixture
async def exchange() -> AsyncIterator[Exchange]:
    async with exchanging() as there:
        yield there


def config(folder: Path, port: int) -> Path:
    path = folder / "fairmark.toml"
    path.write_text(CONFIG.format(folder=folder, port=port), encoding="utf-8")
    return path


def run(path: Path, *arguments: str) -> str:
    result = CliRunner().invoke(check.app, ["sources", "--config", str(path), *arguments])
    assert result.exit_code == 0, result.output
    return result.output


async def test_a_running_fetchers_sources_are_shown_as_they_are(exchange: Exchange, tmp_path: Path) -> None:
    urls = {"binance": exchange.url, "kraken": exchange.url}
    pool = SourcePool(
        CATALOGUE,
        urls,
        base_urls=urls,
        clock=FixedClock(NOW),
        registry=CollectorRegistry(),
        policy=RetryPolicy(max_tries=1),
        logger=QUIET,
    )
    fetcher = ops_app(Ops("fetcher-a", Mode.TEST))
    stream = StreamState(source="binance", up=1, connections=1, pairs=3, age_s=0.25, last_loss="")
    show_sources(fetcher, "fetcher-a", "test", pool.status, lambda: [stream])
    loop = asyncio.get_running_loop()
    async with pool, serve(fetcher, "127.0.0.1", 0, "fetcher-a") as port:
        for _ in range(12):
            await pool.fetch("binance", Pair("BTC/USDT"), deadline=loop.time() + 2)
        exchange.script = [status(500)]
        for _ in range(5):
            await pool.fetch("kraken", Pair("BTC/USD"), deadline=loop.time() + 2)
        path = config(tmp_path, port)
        told, other = await ask_fetchers(load(path))
        shown = await asyncio.to_thread(run, path)
        as_json = json.loads(await asyncio.to_thread(run, path, "--json"))
    assert told.told is not None
    well, ill = told.told.sources
    assert (well.source, well.state, well.health, well.error_rate) == ("binance", State.OK, 1.0, 0.0)
    assert well.p50_ms is not None
    assert well.p95_ms is not None
    assert 0 < well.p50_ms <= well.p95_ms
    assert (ill.source, ill.error_rate, ill.last_failure) == ("kraken", 1.0, "server_error: HTTP 500")
    assert ill.state in {State.QUARANTINED, State.PROBING}
    assert ill.health < 0.4
    assert ill.last_failure_ms is not None
    assert 0 <= NOW - ill.last_failure_ms < 10_000
    assert (well.stream, ill.stream) == ("1 of 1 up, 0.2 s ago", "")
    assert (other.fetcher, other.told) == ("fetcher-b", None)
    assert other.problem.startswith("it has no port of its own")
    lines = {line.split()[0]: line for line in shown.splitlines() if line.strip()}
    assert "100%" in lines["kraken"]
    assert "server_error: HTTP 500" in lines["kraken"]
    assert " ok " in lines["binance"]
    assert "fetcher-b: it has no port" in shown
    assert [each["source"] for each in as_json["fetchers"][0]["told"]["sources"]] == ["binance", "kraken"]
    assert {each["source"] for each in as_json["catalogue"]} == set(CATALOGUE)


async def test_a_check_asks_for_every_pair_however_many_have_failed(exchange: Exchange, tmp_path: Path) -> None:
    async def failing(request: web.Request) -> web.StreamResponse:
        return web.json_response({"binance": exchange.url}) if request.path == "/venues" else web.Response(status=500)

    exchange.script = [failing]
    settings = load(config(tmp_path, 1))
    settings = settings.model_copy(update={"simulator": settings.simulator.model_copy(update={"url": exchange.url})})
    answered = await ask_every_pair(settings, {"binance": CATALOGUE["binance"]}, Mode.TEST)
    assert [each.outcome.pair for each in answered] == list(CATALOGUE["binance"].pairs)
    assert {each.outcome.code for each in answered if isinstance(each.outcome, SourceFailure)} == {"server_error"}


def test_where_no_fetcher_runs_the_catalogue_is_shown_and_said_to_be_all(tmp_path: Path) -> None:
    shown = run(config(tmp_path, 1))
    assert "no fetcher answers, so this is the catalogue alone" in shown
    assert "fetcher-a: no answer at http://127.0.0.1:1/sources" in shown
    lines = {line.split()[0]: line.split() for line in shown.splitlines() if line.strip()}
    assert lines["kraken"][-2:] == ["fetcher-a,", "fetcher-b"]
    assert lines["upbit"][-1] == "-"
    assert set(CATALOGUE) <= set(lines)
