"""Several nodes of one chain: one dies, hangs, falls behind, or tells another history; and nodes over other sockets."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from aggregator.states import State
from contracts.errors import DeploymentMismatchError, NodesDisagreeError, RpcRejectedError, RpcUnavailableError
from contracts.fees import GWEI, FeePolicy
from contracts.rpc import AGREED_FOR_S, Rpc
from contracts.stream import IN_FLIGHT
from tests.support.submission import Anvil, anvil, hand

pytestmark = pytest.mark.needs_anvil


class Proxy:
    """A second node of the same chain: passes requests on, or misbehaves as it is told."""

    def __init__(self, target: str) -> None:
        self.target = Rpc(target)
        self.asked: list[str] = []
        self.behind_s = 0
        self.ahead_blocks = 0
        self.hangs = False
        self.forks = False
        self.loses_answers = False
        self.refuses_writes = False
        self.swallows = False
        self.dies_at = 0
        self.url = ""

    async def handle(self, request: web.Request) -> web.Response:
        asked = await request.json()
        method, params = asked["method"], asked["params"]
        self.asked.append(method)
        if self.hangs:
            await asyncio.sleep(60)
        if method == "eth_sendRawTransaction" and self.refuses_writes:
            return web.Response(status=503, text="no")
        try:
            result = await self.target.call(method, *params)
        except RpcRejectedError as error:
            refusal = {"code": error.rpc_code, "message": error.rpc_message, "data": error.data}
            return web.json_response({"jsonrpc": "2.0", "id": asked["id"], "error": refusal})
        if method == "eth_getBlockByNumber" and params[0] == "latest":
            number, time_s = int(result["number"], 16), int(result["timestamp"], 16)
            number = number + self.ahead_blocks if self.ahead_blocks else max(0, number - self.behind_s // 12)
            result = {**result, "number": hex(number), "timestamp": hex(time_s - self.behind_s)}
        if method == "eth_getBlockByNumber" and self.forks:
            result = {**result, "hash": "0x" + "ee" * 32}
        if method == "eth_sendRawTransaction" and self.loses_answers:
            return web.Response(status=502, text="bad gateway")
        return web.json_response({"jsonrpc": "2.0", "id": asked["id"], "result": result})


@contextlib.asynccontextmanager
async def proxied(target: str) -> AsyncIterator[Proxy]:
    proxy = Proxy(target)
    app = web.Application()
    app.router.add_post("/", proxy.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    proxy.url = str(runner.addresses and f"http://127.0.0.1:{runner.addresses[0][1]}")
    try:
        yield proxy
    finally:
        await runner.cleanup()
        await proxy.target.close()


@pytest.fixture
async def node() -> AsyncIterator[Anvil]:
    async with anvil() as running:
        yield running


@pytest.fixture
async def first(node: Anvil) -> AsyncIterator[Proxy]:
    """The preferred node, in front of the other."""
    async with proxied(node.url) as proxy:
        yield proxy


@pytest.fixture
async def rpc(first: Proxy, node: Anvil) -> AsyncIterator[Rpc]:
    both = Rpc([first.url, node.url], timeout_s=0.5)
    yield both
    await both.close()


async def test_the_preferred_node_answers_while_it_is_well(rpc: Rpc, first: Proxy):
    assert await rpc.quantity("eth_chainId") == 31337
    assert "eth_chainId" in first.asked
    assert (rpc.url, set(rpc.health().values())) == (first.url, {"up"})


async def test_a_node_that_hangs_costs_one_timeout_and_is_left_alone_then(rpc: Rpc, first: Proxy, node: Anvil):
    await rpc.call("eth_chainId")
    first.hangs = True
    started = time.monotonic()
    assert await rpc.quantity("eth_chainId") == 31337
    assert time.monotonic() - started > 0.4
    before = len(first.asked)
    assert await rpc.quantity("eth_chainId") == 31337
    assert len(first.asked) == before
    assert rpc.url == node.url
    assert "within" in rpc.health()[first.url]


async def test_a_node_that_comes_back_is_preferred_again(rpc: Rpc, first: Proxy):
    first.hangs = True
    await rpc.call("eth_chainId")
    first.hangs = False
    await asyncio.sleep(1.1)
    await rpc.call("eth_chainId")
    assert (rpc.url, rpc.health()[first.url]) == (first.url, "up")


async def test_a_node_that_is_behind_takes_no_write(rpc: Rpc, first: Proxy, node: Anvil):
    await node.mine(5)
    first.behind_s = 48
    with pytest.raises(RpcRejectedError):
        await rpc.call("eth_sendRawTransaction", "0x00")
    assert "eth_sendRawTransaction" not in first.asked
    assert (rpc.url, rpc.health()[first.url]) == (node.url, "behind")
    first.behind_s = 12
    await asyncio.sleep(AGREED_FOR_S)
    with pytest.raises(RpcRejectedError):
        await rpc.call("eth_sendRawTransaction", "0x00")
    assert rpc.url == first.url


async def test_how_far_behind_a_node_may_be_is_the_operators_choice(first: Proxy, node: Anvil):
    await node.mine(5)
    first.behind_s = 12
    rpc = Rpc([first.url, node.url], timeout_s=0.5, max_lag_s=2)
    with pytest.raises(RpcRejectedError):
        await rpc.call("eth_sendRawTransaction", "0x00")
    assert rpc.health() == {first.url: "behind", node.url: "up"}
    await rpc.close()


@pytest.mark.parametrize(("blocks", "seconds"), [(10**15, 0), (10**15, 10**9), (1, 10**9)])
async def test_a_node_that_names_an_absurd_head_does_not_put_the_others_behind(
    blocks: int, seconds: int, node: Anvil, first: Proxy
):
    await node.mine(2)
    first.ahead_blocks, first.behind_s = blocks, -seconds
    rpc = Rpc([node.url, first.url], timeout_s=0.5)
    with pytest.raises(RpcRejectedError):
        await rpc.call("eth_sendRawTransaction", "0x00")
    assert rpc.health() == {node.url: "up", first.url: "up"}
    assert "eth_sendRawTransaction" not in first.asked
    await rpc.close()


async def test_nothing_is_written_while_two_nodes_tell_different_histories(rpc: Rpc, first: Proxy):
    first.forks = True
    with pytest.raises(NodesDisagreeError, match="differs between"):
        await rpc.call("eth_sendRawTransaction", "0x00")
    assert "eth_sendRawTransaction" not in first.asked
    assert await rpc.quantity("eth_chainId") == 31337


async def test_a_node_of_another_chain_among_them_is_found_at_once(node: Anvil, tmp_path: Path):
    async with contextlib.AsyncExitStack() as stack:
        other = await stack.enter_async_context(anvil("--chain-id", "1337"))
        with pytest.raises(DeploymentMismatchError, match=f"{other.url} is chain 1337, the record's is 31337"):
            await hand(stack, node, tmp_path, urls=[node.url, other.url])


async def test_with_no_node_left_every_one_is_named(rpc: Rpc, first: Proxy, node: Anvil):
    first.hangs = True
    await node.kill()
    with pytest.raises(RpcUnavailableError, match="no node answers eth_chainId") as caught:
        await rpc.call("eth_chainId")
    assert all(url in str(caught.value) for url in (first.url, node.url))


async def test_rounds_go_on_when_the_preferred_node_is_killed(node: Anvil, tmp_path: Path):
    async with contextlib.AsyncExitStack() as stack:
        async with proxied(node.url) as mortal:
            one = await hand(stack, node, tmp_path, urls=[mortal.url, node.url])
            await one.round(1000)
            assert "eth_sendRawTransaction" in mortal.asked
        _, receipt = await one.round(1010)
        assert (receipt.ok, await one.answer(), (await one.client.group_state("majors")).round) == (True, 1010, 2)


@pytest.mark.parametrize("fault", ["forks", "refuses_writes"])
async def test_sends_that_no_node_took_do_not_raise_the_fees_of_those_after_them(
    fault: str, node: Anvil, tmp_path: Path
):
    policy = FeePolicy(max_fee=8 * GWEI)
    async with contextlib.AsyncExitStack() as stack:
        gate = await stack.enter_async_context(proxied(node.url))
        urls = [gate.url, node.url] if fault == "forks" else [gate.url]
        one = await hand(stack, node, tmp_path, urls=urls, policy=policy)
        await one.round(1000)
        first = await one.flight(1010)
        await asyncio.sleep(AGREED_FOR_S)
        setattr(gate, fault, True)
        for _ in range(12):  # a tenth more each would be beyond the cap
            with pytest.raises(RpcUnavailableError):
                await one.send(await one.flight(1010))
        setattr(gate, fault, False)
        flight, receipt = await one.round(1020)
        assert (receipt.ok, await one.answer()) == (True, 1020)
        assert flight.sent[0].fees.cap < 4 * GWEI
        assert (await one.client.group_state("majors")).last_moment >= first.moment


async def test_a_send_whose_answer_is_lost_is_given_to_the_other_node_and_done_once(
    first: Proxy, node: Anvil, tmp_path: Path
):
    async with contextlib.AsyncExitStack() as stack:
        one = await hand(stack, node, tmp_path, urls=[first.url, node.url])
        first.loses_answers = True
        flight, receipt = await one.round(1000)
        assert (receipt.ok, len(flight.sent), await one.submitter.sender.used()) == (True, 1, 1)
        assert (await one.attempt(flight)).state is State.ACCEPTED


# ------------------------------------------------------------------------------------------------ other sockets


@pytest.mark.parametrize("kind", ["ws", "ipc"])
async def test_a_node_over_one_socket_answers_two_hundred_at_once_and_never_has_more_than_twenty(
    kind: str, tmp_path: Path
):
    path = tmp_path / "node.ipc"
    async with anvil("--ipc", str(path)) as node:
        rpc = Rpc(node.url.replace("http", "ws") if kind == "ws" else f"ipc://{path}", timeout_s=5)
        stream = rpc.provider._stream  # type: ignore[attr-defined]
        most = 0

        async def ask(number: int) -> int:
            nonlocal most
            answer = await rpc.quantity("eth_getBalance", f"0x{number:040x}", "latest")
            most = max(most, len(stream._waiting) + 1)
            return answer

        for number in range(0x1000, 0x1004):
            await node.call("anvil_setBalance", f"0x{number:040x}", hex(number))
        answers = await asyncio.gather(*(ask(0x1000 + number % 4) for number in range(200)))
        assert answers == [0x1000 + number % 4 for number in range(200)]
        assert most <= IN_FLIGHT
        with pytest.raises(RpcRejectedError):
            await rpc.call("eth_nonsense")
        await node.kill()
        with pytest.raises(RpcUnavailableError):
            await rpc.call("eth_chainId")
        await rpc.close()


@pytest.mark.parametrize("kind", ["ws", "ipc"])
async def test_rounds_over_one_socket(kind: str, tmp_path: Path):
    path = tmp_path / "node.ipc"
    async with contextlib.AsyncExitStack() as stack:
        node = await stack.enter_async_context(anvil("--ipc", str(path)))
        url = node.url.replace("http", "ws") if kind == "ws" else f"ipc://{path}"
        one = await hand(stack, node, tmp_path, urls=[url])
        assert (await one.round(1000))[1].ok
        assert await one.answer() == 1000
