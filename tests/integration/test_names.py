"""Looking names up must not stand in the way of connections whose address is known."""

from __future__ import annotations

import asyncio
import time

import aiohttp
import uvloop
from aiohttp.resolver import DefaultResolver

LOOKUPS = 100
BOUND_S = 2.0


def test_hanging_lookups_do_not_delay_a_connection_to_a_known_address() -> None:
    """uvloop's own resolver has four threads, which its connects wait for too: a hundred look-ups that fail slowly
    once held a connection to 127.0.0.1 back for half a minute."""

    async def measure() -> float:
        server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=BOUND_S)) as session:

            async def ask(number: int) -> None:
                async with session.get(f"http://source-{number}.invalid/"):
                    pass

            lookups = [asyncio.create_task(ask(number)) for number in range(LOOKUPS)]
            await asyncio.sleep(0.05)
            started = time.perf_counter()
            async with asyncio.timeout(BOUND_S):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            took = time.perf_counter() - started
            writer.close()
            await writer.wait_closed()
            outcomes = await asyncio.gather(*lookups, return_exceptions=True)
            assert all(isinstance(each, aiohttp.ClientError | TimeoutError) for each in outcomes)
        server.close()
        await server.wait_closed()
        return took

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(measure()) < BOUND_S


def test_names_are_looked_up_without_threads() -> None:
    assert DefaultResolver is aiohttp.AsyncResolver
