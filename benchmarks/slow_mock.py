"""The mock's exchanges, with manners: each answers after its own delay, slowly now and then, or never.

A process of its own: `python -m benchmarks.slow_mock '{"okx": {"ms": 20}}'` prints its URL and ends when its standard
input does. A source's requests go to `URL/SOURCE/…`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.mock import answers, new_event_loop
from core.clock import SystemClock
from sources import load_catalogue

REWRITE_S = 10.0


class Manners(msgspec.Struct, frozen=True, kw_only=True):
    """ms: how long an answer takes. every, slow_ms: one in `every` takes so long instead. hang: none ever comes."""

    ms: float
    every: int = 0
    slow_ms: float = 0.0
    hang: bool = False


class _Connection(asyncio.Protocol):
    def __init__(self, canned: dict[bytes, bytes], manners: Mapping[str, Manners], counts: dict[str, int]) -> None:
        self._canned = canned
        self._manners = manners
        self._counts = counts
        self._rest = b""
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        *requests, self._rest = (self._rest + data).split(b"\r\n\r\n")
        for request in requests:
            _, source, path = request.split(b" ", 2)[1].split(b"/", 2)
            self._answer(source.decode(), b"/" + path)

    def _answer(self, source: str, path: bytes) -> None:
        manners = self._manners[source]
        self._counts[source] = number = self._counts.get(source, 0) + 1
        if manners.hang:
            return
        slow = manners.every and number % manners.every == 0
        asyncio.get_running_loop().call_later(
            (manners.slow_ms if slow else manners.ms) / 1000, self._transport.write, self._canned[path]
        )


async def serve(manners: Mapping[str, Manners]) -> None:
    loop = asyncio.get_running_loop()
    clock, catalogue, counts = SystemClock(), load_catalogue(), dict[str, int]()
    canned = answers(catalogue, clock.now_ms())
    stopped = asyncio.Event()

    def rewrite() -> None:
        canned.update(answers(catalogue, clock.now_ms()))
        loop.call_later(REWRITE_S, rewrite)

    loop.call_later(REWRITE_S, rewrite)
    loop.add_reader(sys.stdin.fileno(), stopped.set)
    server = await loop.create_server(lambda: _Connection(canned, manners, counts), "127.0.0.1", 0)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await stopped.wait()
    server.close()


@contextlib.contextmanager
def running(manners: Mapping[str, Manners]) -> Iterator[dict[str, str]]:
    """Where each source is found, in a process that ends with the context."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.slow_mock", json.dumps(msgspec.to_builtins(manners))],
        cwd=Path(__file__).resolve().parents[1],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            url = process.stdout.readline().strip()
            if not url:
                raise RuntimeError("the mock did not start; its message is above")
            yield {source: f"{url}/{source}" for source in manners}
        finally:
            process.stdin.close()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(serve(msgspec.json.decode(sys.argv[1], type=dict[str, Manners])))
