"""A node that does not behave: every call ends in time, as one error with what to do next."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from contracts.errors import RpcRejectedError, RpcUnavailableError
from contracts.fees import fees_of
from contracts.rpc import Rpc
from contracts.transactions import find_receipt

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def answer(body: bytes, status: str = "200 OK") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


RESULT = answer(json.dumps({"jsonrpc": "2.0", "id": 0, "result": "0x7"}).encode())


async def take(reader: asyncio.StreamReader) -> None:
    """Read one request whole."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
    await reader.readexactly(int(length.split(b":")[1]))


@contextlib.asynccontextmanager
async def node(handler: Handler, timeout_s: float = 2.0) -> AsyncIterator[Rpc]:
    async def handled(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                await handler(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(handled, "127.0.0.1", 0)
    rpc = Rpc(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", timeout_s=timeout_s)
    async with server:
        yield rpc
        await rpc.close()


def says(data: bytes) -> Handler:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await take(reader)
        writer.write(data)
        await writer.drain()

    return handler


async def test_a_quantity():
    async with node(says(RESULT)) as rpc:
        assert await rpc.quantity("eth_blockNumber") == 7


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (answer(b"<html>"), "in JSON"),
        (answer(b"[]"), "in JSON-RPC"),
        (answer(b"{}"), "in JSON-RPC"),
        (answer(b'{"result":' + b"[" * 100_000), "nested more than 32 levels"),
        (answer(b"no such page", "404 Not Found"), "HTTP 404"),
        (answer(b"", "302 Found"), "HTTP 302"),
        (answer(b'{"jsonrpc":"2.0","id":0,"result":null}'), "not a quantity"),
        (answer(b'{"jsonrpc":"2.0","id":0,"error":"no"}'), "the error 'no'"),
        (answer(b'{"jsonrpc":"2.0","id":0,"error":{"code":"x"}}'), "the error {'code': 'x'}"),
        (answer(b'{"jsonrpc":"2.0","id":0,"error":[]}'), r"the error \[\]"),
        (answer(b'{"jsonrpc":"2.0","id":0,"error":null}'), "in JSON-RPC"),
        (answer(b'{"jsonrpc":"2.0","id":0,"result":' + b"1" * 5_000 + b"}"), "in JSON"),
        (b"nonsense\r\n\r\n", "cannot be reached"),
        (b"", "cannot be reached"),
    ],
)
async def test_what_is_no_answer_is_said_to_be_none(data: bytes, message: str):
    async with node(says(data)) as rpc:
        with pytest.raises(RpcUnavailableError, match=message):
            await rpc.quantity("eth_blockNumber")


@pytest.mark.parametrize("result", [b"7", b"[]", b'"0x"', b"{}", b'{"blockNumber":"0x1"}', b'{"blockNumber":7}'])
async def test_what_is_no_receipt_and_no_transaction_is_said_to_be_none(result: bytes):
    async with node(says(answer(b'{"jsonrpc":"2.0","id":0,"result":' + result + b"}"))) as rpc:
        with pytest.raises(RpcUnavailableError, match="receipt cannot be read"):
            await find_receipt(rpc, "0x" + "00" * 32)
        with pytest.raises(RpcUnavailableError, match="transaction cannot be read"):
            fees_of(await rpc.call("eth_getTransactionByHash", "0x" + "00" * 32))


async def test_a_nodes_own_error_keeps_its_code_and_data():
    body = {"jsonrpc": "2.0", "id": 0, "error": {"code": 3, "message": "execution reverted", "data": "0xabcd"}}
    for status in ("200 OK", "400 Bad Request"):
        async with node(says(answer(json.dumps(body).encode(), status))) as rpc:
            with pytest.raises(RpcRejectedError) as caught:
                await rpc.call("eth_call")
            assert (caught.value.rpc_code, caught.value.data) == (3, "0xabcd")


async def test_a_node_that_hangs_costs_the_timeout():
    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(-1)

    async with node(hang, timeout_s=0.2) as rpc:
        started = time.monotonic()
        with pytest.raises(RpcUnavailableError, match=r"within 0\.2 s"):
            await rpc.call("eth_chainId")
        assert time.monotonic() - started < 10


async def test_a_node_that_never_ends_its_answer_is_cut_off(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("contracts.endpoint.MAX_BODY_BYTES", 1 << 16)

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await take(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        while True:
            writer.write(b" " * 65_536)
            await writer.drain()

    async with node(flood) as rpc:
        with pytest.raises(RpcUnavailableError, match="more than 65536 bytes"):
            await rpc.call("eth_chainId")


async def test_a_connection_closed_while_idle_is_opened_again():
    connections = 0

    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await take(reader)
        writer.write(RESULT)
        await writer.drain()
        with contextlib.suppress(asyncio.IncompleteReadError):
            await take(reader)  # the next request arrives, and finds the connection closed on it

    async with node(once) as rpc:
        assert [await rpc.quantity("eth_blockNumber") for _ in range(3)] == [7, 7, 7]
    assert connections == 3


async def test_no_node_at_all():
    rpc = Rpc("http://127.0.0.1:9", timeout_s=1)
    with pytest.raises(RpcUnavailableError, match="is the node running"):
        await rpc.call("eth_chainId")
    await rpc.close()
