"""The BFF's client of the aggregator over real sockets: what it makes of a server that is gone, slow, or restarted."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time

import pytest
from fastapi import FastAPI, Request, Response

from bff.errors import AggregatorUnavailableError, RecordNotFoundError
from bff.upstream import HttpAggregator
from core.ops import serve
from core.problems import install_problem_handlers

OUTCOME = {"id": "a1", "state": "accepted", "round": 8, "moment": 5, "transaction": "0xaa", "further": ["members"]}


def aggregator_app(asked: list[str]) -> FastAPI:
    app = FastAPI()
    install_problem_handlers(app)

    @app.post("/v1/groups/{group}/refresh")
    async def refresh(group: str, wait_ms: int, arrived_ms: int, request: Request) -> dict[str, object]:
        asked.append(f"{group} {wait_ms} {arrived_ms} {request.headers['authorization']}")
        return OUTCOME

    @app.get("/v1/attempts/{name}")
    async def attempt(name: str) -> Response:
        if name == "slow":
            await asyncio.sleep(1)
        return Response(b"x" * (17 * 1024 * 1024) if name == "huge" else name.encode(), media_type="application/json")

    @app.get("/live")
    async def live() -> dict[str, str]:
        return {"status": "live"}

    return app


@contextlib.asynccontextmanager
async def connected(port: int):
    aggregator = HttpAggregator(f"http://127.0.0.1:{port}/", "t")
    try:
        yield aggregator
    finally:
        await aggregator.close()


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


async def test_a_refresh_carries_the_token_and_reads_the_outcome():
    asked: list[str] = []
    async with serve(aggregator_app(asked), "127.0.0.1", 0, "aggregator") as port, connected(port) as aggregator:
        outcome = await aggregator.refresh("majors", arrived_ms=5, wait_ms=700, timeout_s=2)
        assert (await aggregator.ping()).startswith(f"http://127.0.0.1:{port} answers in ")
    assert asked == ["majors 700 5 Bearer t"]
    assert (outcome.id, outcome.accepted, outcome.round, outcome.moment) == ("a1", True, 8, 5)
    assert outcome.transaction == "0xaa"


async def test_records_pass_as_they_are_and_are_bounded():
    async with serve(aggregator_app([]), "127.0.0.1", 0, "aggregator") as port, connected(port) as aggregator:
        assert await aggregator.attempt("a1") == b"a1"
        with pytest.raises(RecordNotFoundError, match="nothing is served at /v1/groups/majors/rounds/8"):
            await aggregator.round("majors", 8)
        with pytest.raises(AggregatorUnavailableError, match="larger than 16777216 bytes"):
            await aggregator.attempt("huge")


async def test_nobody_listens():
    async with connected(free_port()) as aggregator:
        with pytest.raises(AggregatorUnavailableError, match="cannot be reached"):
            await aggregator.refresh("majors", arrived_ms=5, wait_ms=100, timeout_s=2)


async def test_a_stopping_service_asks_nobody():
    async with connected(free_port()) as aggregator:
        await aggregator.close()
        with pytest.raises(AggregatorUnavailableError, match="stopping"):
            await aggregator.attempt("a1")


async def test_somebody_listens_and_never_answers():
    with socket.create_server(("127.0.0.1", 0)) as server:
        async with connected(server.getsockname()[1]) as aggregator:
            started = time.perf_counter()
            with pytest.raises(AggregatorUnavailableError, match=r"within 0\.1 s"):
                await aggregator.refresh("majors", arrived_ms=5, wait_ms=50, timeout_s=0.1)
            assert time.perf_counter() - started < 5


async def test_a_restarted_aggregator_is_found_again_by_the_same_client():
    asked: list[str] = []
    port = free_port()
    async with connected(port) as aggregator:
        for _ in range(2):
            async with serve(aggregator_app(asked), "127.0.0.1", port, "aggregator"):
                assert (await aggregator.refresh("majors", arrived_ms=5, wait_ms=100, timeout_s=2)).accepted
        with pytest.raises(AggregatorUnavailableError, match="cannot be reached"):
            await aggregator.refresh("majors", arrived_ms=5, wait_ms=100, timeout_s=2)
    assert len(asked) == 2


async def test_a_kept_connection_that_the_server_closed_is_opened_anew():
    """The server answers once on each connection and closes it on the second request, as one does whose patience ended
    just as the request was sent."""

    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 29\r\n\r\n" + b'{"id":"a1","state":"failed"}\n')
        await writer.drain()
        with contextlib.suppress(asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(once, "127.0.0.1", 0)
    async with server, connected(server.sockets[0].getsockname()[1]) as aggregator:
        for _ in range(3):
            assert (await aggregator.refresh("majors", arrived_ms=5, wait_ms=100, timeout_s=2)).failed
