"""The development chain: real time, real errors, and a process that ends when it should."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from contracts.devchain.chain import ChainError, DevChain
from contracts.devchain.methods import Methods
from contracts.report import LocalSigner, bytes32
from core.clock import FixedClock
from core.ops import listen
from tests.support.oracle_kit import ORACLE, START_MS, Lab

PROJECT = Path(__file__).resolve().parents[2]
ROW = (1, 2, 3)
GROUP_INFO = ORACLE.call("groupInfo", bytes32("majors"))


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextlib.asynccontextmanager
async def started(*options: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "contracts.devchain", "--port", str(port), "--log-format", "json", *options,
        cwd=PROJECT, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(60), httpx.AsyncClient() as client:
            while True:
                with contextlib.suppress(httpx.TransportError):
                    if (await client.get(f"http://127.0.0.1:{port}/ready")).status_code == 200:
                        break
                await asyncio.sleep(0.05)
        yield process, f"http://127.0.0.1:{port}"
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def ask(client: httpx.AsyncClient, url: str, content: object) -> object:
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    return (await client.post(url, content=raw, headers={"Content-Type": "application/json"})).json()


def request(method: str, *params: object) -> dict[str, object]:
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)}


async def test_the_process_serves_and_ends_on_sigterm():
    whom = "0x" + "ab" * 20
    async with started("--chain-id", "4242", "--fund", whom, "--clock-offset-ms", "-86400000") as (process, url):
        async with httpx.AsyncClient() as client:
            assert await ask(client, url, request("eth_chainId")) == {"jsonrpc": "2.0", "id": 1, "result": "0x1092"}
            assert (await ask(client, url, request("eth_getBalance", whom)))["result"] == hex(10**24)
            batch = await ask(client, url, [request("net_version"), request("eth_blockNumber")])
            assert [one["result"] for one in batch] == ["4242", "0x0"]
            block = (await ask(client, url, request("eth_getBlockByNumber", "latest", False)))["result"]
            assert abs(int(block["timestamp"], 16) + 86_400 - time.time()) < 20
            assert (await ask(client, url, b"nonsense"))["error"]["code"] == -32700
            assert (await ask(client, url, b"[" * 1_000_000))["error"]["code"] == -32700
            # what a foreign web page may send without asking first is not heard
            simple = await client.post(url, content=json.dumps(request("eth_chainId")))
            assert simple.json()["error"]["message"] == "send it as application/json"
            assert (await ask(client, url, []))["error"]["code"] == -32600
            assert (await ask(client, url, [5]))[0]["error"]["code"] == -32600
            assert (await ask(client, url, request("eth_mystery")))["error"]["code"] == -32601
            assert (await ask(client, url, request("eth_getBalance", "0x12")))["error"]["code"] == -32602
            assert (await ask(client, url, b" " * (5 << 20)))["error"]["code"] == -32600
            health = (await client.get(url + "/health")).json()
            assert (health["service"], health["status"], health["mode"]) == ("devchain", "up", "test")
            assert health["dependencies"]["chain"]["detail"] == "block 0"
            assert (await client.get(url + "/live")).status_code == 200
            assert b"fairmark_build_info" in (await client.get(url + "/metrics")).content
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(30):
            assert await process.wait() == 0


async def test_the_process_ends_with_its_parent():
    script = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-m', 'contracts.devchain', '--port', '0', '--die-with-parent'])\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, cwd=PROJECT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None and parent.stderr is not None
    child = int(await parent.stdout.readline())
    async with asyncio.timeout(60):
        while b"serving" not in await parent.stderr.readline():
            pass
    parent.kill()
    await parent.wait()
    async with asyncio.timeout(30):
        while alive(child):  # noqa: ASYNC110 - nothing else tells of a grandchild's end
            await asyncio.sleep(0.05)
    await parent.communicate()


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # a process that ended and was not waited for is dead too
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


async def test_a_port_in_use_is_named():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "contracts.devchain", "--port", str(port), cwd=PROJECT, stderr=asyncio.subprocess.PIPE
        )
        _, errors = await process.communicate()
    assert process.returncode == 1
    assert f"port {port} on 127.0.0.1 is in use".encode() in errors
    assert b"Traceback" not in errors


# ------------------------------------------------------------------------------------------------ the chain itself


def test_a_hundred_quick_rounds_do_not_outrun_the_clock():
    lab = Lab()
    assert lab.chain is not None
    for _ in range(100):
        lab.round([ROW] * 3)  # ten milliseconds apart: one second in all
    assert lab.info.round == 100
    assert lab.chain.head.timestamp == lab.clock.now_ms() // 1000 == (START_MS + 1_000) // 1000


def test_after_idle_time_a_block_has_the_clocks_time_and_latest_has_not():
    lab = Lab()
    assert lab.chain is not None
    before = lab.chain.head.timestamp
    lab.clock.advance(60_000)
    (info,) = ORACLE.result("groupInfo", lab.chain.call(bytes.fromhex(lab.address[2:]), GROUP_INFO))
    assert info[10] == before  # `latest` is the last block, with its time
    assert lab.info.timestamp == before + 60  # `pending` is a block mined now
    assert lab.chain.head.timestamp == before
    assert lab.round([ROW] * 3).header.timestamp == before + 60


def test_each_chain_has_a_history_of_its_own():
    clock = FixedClock(START_MS)
    assert DevChain(clock).head.hash != DevChain(clock).head.hash


def test_a_revert_looks_like_geths():
    lab = Lab()
    assert lab.chain is not None
    methods = Methods(lab.chain)
    data = "0x" + lab.calldata(lab.reports([ROW] * 2), hints=bytes(3)).hex()
    for method in ("eth_call", "eth_estimateGas"):
        response = methods.handle(request(method, {"to": lab.address, "data": data}, "latest"))
        error = response["error"]
        assert (error["code"], error["message"]) == (3, "execution reverted")
        assert len(bytes.fromhex(error["data"][2:])) == 4 + 64


def test_an_estimate_is_enough_and_not_twice_too_much():
    lab = Lab()
    assert lab.chain is not None
    data = lab.calldata(lab.reports([ROW] * 3))
    to, by = bytes.fromhex(lab.address[2:]), LocalSigner("0x" + "77" * 32)
    estimate = lab.chain.estimate(to, data, bytes.fromhex(by.address[2:]))
    used = lab.submit(lab.reports([ROW] * 3)).gas_used
    assert used <= estimate < 2 * used


def test_logs_are_found_by_address_topic_and_block():
    lab = Lab()
    assert lab.chain is not None
    first = lab.round([ROW] * 3)
    second = lab.round([ROW] * 3)
    methods = Methods(lab.chain)

    def found(**wanted: object) -> list[str]:
        response = methods.handle(request("eth_getLogs", {"address": lab.address, **wanted}))
        return [log["transactionHash"] for log in response["result"]]

    hashes = ["0x" + mined.transaction.hash.hex() for mined in (first, second)]
    accepted = "0x" + first.logs[0].topics[0].hex()
    everywhere = {"fromBlock": "earliest", "toBlock": "latest"}
    assert found(topics=[accepted], **everywhere) == hashes
    assert found(topics=[[accepted, "0x" + "00" * 32]], **everywhere) == hashes
    assert found(topics=[accepted, None, f"0x{2:064x}"], **everywhere) == hashes[1:]
    assert found(topics=["0x" + "00" * 32], **everywhere) == []
    assert found() == hashes[1:]
    assert found(blockHash="0x" + first.header.hash.hex()) == hashes[:1]
    assert found(fromBlock="0x0", toBlock=hex(2**40), topics=[accepted]) == hashes


def test_what_cannot_be_mined_is_refused_by_name():
    lab = Lab()
    chain = lab.chain
    assert chain is not None
    with pytest.raises(ChainError, match="not a signed transaction"):
        chain.send_raw(b"\x02nonsense")
    with pytest.raises(ChainError, match="block 999"):
        chain.balance(bytes(20), 999)
    response = Methods(chain).handle(request("eth_sendRawTransaction", "0x00"))
    assert response["error"]["code"] == -32000


def test_a_small_answer_does_not_wait_for_the_clients_acknowledgement():
    """asyncio sets TCP_NODELAY only on sockets that name their protocol; without it a ping took 22 ms, not one."""
    with listen("127.0.0.1", 0, "test") as sock:
        assert sock.proto == socket.IPPROTO_TCP
