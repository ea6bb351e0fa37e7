"""A real EVM node for a test: eth-tester's chain, served from this process, or anvil in one of its own."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

from contracts.devchain.chain import DevChain
from contracts.devchain.service import ChainService
from contracts.errors import RpcUnavailableError
from contracts.rpc import Rpc
from core.clock import SystemClock
from core.ops import Ops, listen, serve
from core.types import Mode
from tests.conftest import anvil_binary


@contextlib.asynccontextmanager
async def node(kind: str, funded: Sequence[str]) -> AsyncIterator[str]:
    """The URL of a node (`devchain` or `anvil`) on which `funded` have ether."""
    async with _anvil(funded) if kind == "anvil" else _devchain(funded) as url:
        yield url


@contextlib.asynccontextmanager
async def _devchain(funded: Sequence[str]) -> AsyncIterator[str]:
    service = ChainService(DevChain(SystemClock(), chain_id=31337, funded=list(funded)), Ops("devchain", Mode.TEST))
    try:
        async with serve(service.app, "127.0.0.1", 0, "chain") as port:
            yield f"http://127.0.0.1:{port}"
    finally:
        service.close()


@contextlib.asynccontextmanager
async def _anvil(funded: Sequence[str]) -> AsyncIterator[str]:
    sock = listen("127.0.0.1", 0, "anvil")
    port = sock.getsockname()[1]
    sock.close()
    process = await asyncio.create_subprocess_exec(
        anvil_binary() or "anvil", "--port", str(port), "--silent", "--accounts", "1", stdout=asyncio.subprocess.DEVNULL
    )
    rpc = Rpc(f"http://127.0.0.1:{port}")
    try:
        async with asyncio.timeout(60):
            while True:
                with contextlib.suppress(RpcUnavailableError):
                    await rpc.call("eth_chainId")
                    break
                await asyncio.sleep(0.02)
        for address in funded:
            await rpc.call("anvil_setBalance", address, hex(10**24))
        yield rpc.url
    finally:
        await rpc.close()
        if process.returncode is None:
            process.terminate()
        async with asyncio.timeout(60):
            await process.wait()
