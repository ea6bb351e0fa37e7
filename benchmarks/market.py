"""Ticks over TCP into window and minutes, cryptofeed's back ends beside them on the same bytes; questions under load.

A sender in a process of its own sends lines of JSON over the loopback; a reader in another takes them in. Each number
is given by the wall and by the reader's own processor time: on a shared machine the second says what one core does.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
from collections import Counter
from typing import Any

import aiohttp
import asyncpg
import redis

from benchmarks.figures import CannotMeasureError, figures, machine, table
from benchmarks.market_reader import TRADES

REDIS_URL = os.environ.get("TEST_REDIS_URL", "redis://127.0.0.1:6379/15")
POSTGRES_URL = os.environ.get("TEST_POSTGRES_URL", "postgresql://postgres@127.0.0.1:5432/test")
PATHS = (
    "/prices/latest/BTCUSDT",
    "/prices/latest/exchange1/ETHUSDT",
    "/prices/average/BTCUSDT?period=10s",
    "/prices/average/exchange2/SOLUSDT?period=30s",
    "/prices/highest/TONUSDT?period=1m",
    "/prices/lowest/DOGEUSDT?period=5m",
)


def _port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


def _sender(count: int, rate: int = 0, seed: int = 1) -> tuple[subprocess.Popen[bytes], int]:
    port = _port()
    command = [sys.executable, "-m", "benchmarks.market_feed", *(str(each) for each in (port, count, rate, seed))]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    return process, port


def _read(kind: str, senders: list[subprocess.Popen[bytes]], given: dict[str, Any]) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.market_reader", kind, json.dumps(given)]
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, timeout=300, check=False)
    finally:
        for sender in senders:
            sender.kill()
            sender.wait()
            if sender.stdout is not None:
                sender.stdout.close()
    if done.returncode:
        raise CannotMeasureError(f"the reader {kind} ended with {done.returncode}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def into(kind: str, count: int) -> dict[str, Any]:
    """`count` ticks into `memory`, `redis`, or cryptofeed's `cryptofeed redis` and `cryptofeed postgres`."""
    sender, port = _sender(count)
    if kind in ("memory", "redis"):
        given = {"ports": [port], "count": count, "redis_url": REDIS_URL if kind == "redis" else None}
        found = _read("market", [sender], given)
    else:
        backend = kind.split()[1]
        where = REDIS_URL if backend == "redis" else POSTGRES_URL
        if backend == "postgres":
            asyncio.run(_table())
        found = _read("cryptofeed", [sender], {"port": port, "count": count, "backend": backend, "where": where})
    return {**found, "per_wall_s": found["ticks"] / found["wall_s"], "per_cpu_s": found["ticks"] / found["cpu_s"]}


async def _table() -> None:
    """The table of cryptofeed's documentation, empty."""
    connection = await asyncpg.connect(POSTGRES_URL)
    await connection.execute(
        f"DROP TABLE IF EXISTS {TRADES}; CREATE TABLE {TRADES} (id serial PRIMARY KEY, timestamp TIMESTAMP, "
        "receipt TIMESTAMP, exchange VARCHAR(32), symbol VARCHAR(32), side VARCHAR(8), amount NUMERIC, price NUMERIC, "
        "trade_id VARCHAR(64), type VARCHAR(32))"
    )
    await connection.close()


def overloaded(seconds: float, count: int) -> dict[str, Any]:
    """Three senders that send all that is read, for so long or until each has sent `count`."""
    started = [_sender(count, seed=number) for number in range(3)]
    given = {"ports": [port for _, port in started], "seconds": seconds}
    return _read("overload", [sender for sender, _ in started], given)


def tenfold(seconds: float, taken_per_s: int) -> dict[str, Any]:
    """Three senders that together send ten times what a window takes that was made so slow, for so long.

    All of it is read: it is in the queues that nine of ten end, not in the senders' sockets."""
    rate = -(-taken_per_s * 10 // 3)
    started = [_sender(int(rate * (seconds + 30)), rate, seed=number) for number in range(3)]
    given = {"ports": [port for _, port in started], "seconds": seconds, "taken_per_s": taken_per_s}
    found = _read("overload", [sender for sender, _ in started], given)
    return {**found, "times": (found["ticks"] + found["dropped"] + found["waiting"]) / found["ticks"]}


def asked(seconds: float, ticks: int, requests: int) -> dict[str, Any]:
    """Questions at `requests` a second, each at its own time, while `ticks` a second come in."""
    rate = ticks // 3
    started = [_sender(int(rate * (seconds + 30)), rate, seed=number) for number in range(3)]
    api = _port()
    given = {"ports": [port for _, port in started], "api_port": api}
    command = [sys.executable, "-m", "benchmarks.market_reader", "serve", json.dumps(given)]
    reader = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        latencies, late = asyncio.run(_ask(api, seconds, requests))
        out, _ = reader.communicate(b"", timeout=60)
    finally:
        reader.kill()
        for sender, _ in started:
            sender.kill()
            sender.wait()
            if sender.stdout is not None:
                sender.stdout.close()
    served = json.loads(out.splitlines()[-1])
    return {"latency": figures(latencies), "late": late, **served}


async def _ask(port: int, seconds: float, requests: int) -> tuple[list[float], int]:
    base = f"http://127.0.0.1:{port}"
    latencies: list[float] = []
    answered: Counter[int] = Counter()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=100)) as session:
        while True:
            try:
                async with session.get(f"{base}/prices/average/BTCUSDT?period=3s") as response:
                    if response.status == 200:
                        break
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.1)
        await asyncio.sleep(1)

        async def one(path: str, due: float) -> None:
            async with session.get(base + path) as response:
                await response.read()
                answered[response.status] += 1
            latencies.append(time.perf_counter() - due)

        tasks = []
        begun = time.perf_counter()
        for number in range(int(seconds * requests)):
            due = begun + number / requests
            if (wait := due - time.perf_counter()) > 0:
                await asyncio.sleep(wait)
            tasks.append(asyncio.create_task(one(PATHS[number % len(PATHS)], due)))
        await asyncio.gather(*tasks)
    if set(answered) - {200}:
        raise CannotMeasureError(f"not every question was answered: {dict(answered)}; is the sender starved?")
    return latencies, sum(latency > 0.025 for latency in latencies)


def run(*, rounds: int | None = None) -> tuple[str, dict[str, Any]]:
    """rounds: thousands of ticks of each reader (1,000)."""
    ticks = (rounds or 1_000) * 1_000
    results: dict[str, Any] = {}
    kinds = {"memory": ticks, "redis": ticks // 2, "cryptofeed redis": ticks // 10, "cryptofeed postgres": ticks // 10}
    for kind, count in kinds.items():
        try:
            results[kind] = into(kind, count)
        except CannotMeasureError as error:
            if not kind.startswith("cryptofeed"):
                raise
            results[kind] = {"missing": str(error)}
    _clear()
    results["overload"] = overloaded(min(30.0, ticks / 20_000), 3 * ticks)
    results["tenfold"] = tenfold(min(30.0, ticks / 20_000), 20_000)
    results["questions"] = asked(min(10.0, ticks / 50_000), 20_000, 500)
    return _text(results), results


def _clear() -> None:
    """Leave nothing behind at the servers."""
    with redis.Redis.from_url(REDIS_URL) as client:
        for pattern in ("bench:*", "bench-cryptofeed*"):
            if keys := list(client.scan_iter(pattern)):
                client.unlink(*keys)
    asyncio.run(_drop())


async def _drop() -> None:
    connection = await asyncpg.connect(POSTGRES_URL)
    await connection.execute(f"DROP TABLE IF EXISTS {TRADES}")
    await connection.close()


def _text(results: dict[str, Any]) -> str:
    rows = []
    for kind, found in results.items():
        if "per_cpu_s" in found:
            name = kind if kind.startswith("cryptofeed") else f"fairmark, {kind}"
            rows.append([name, *(f"{found[key]:,.0f}" for key in ("ticks", "per_wall_s", "per_cpu_s", "rss_mib"))])
        elif "missing" in found:
            rows.append([kind, "not measured", "", "", ""])
    over, ten, asked_ = results["overload"], results["tenfold"], results["questions"]
    latency = asked_["latency"]
    return "\n\n".join(
        [
            machine("cryptofeed", "redis", "uvloop", "msgspec"),
            table(["ticks into", "ticks", "a second", "a second of processor", "MiB"], rows),
            f"Overload, three senders without a pause for {over['wall_s']:.0f} s: "
            f"{over['ticks'] / over['wall_s']:,.0f} ticks/s taken, {over['dropped']:,} dropped, "
            f"{over['rss_mib']:.0f} MiB at most.",
            f"Ten times what is taken, for {ten['wall_s']:.0f} s: {ten['times']:.1f} times {ten['ticks']:,} ticks "
            f"came, {ten['dropped']:,} were dropped, {ten['rss_mib']:.0f} MiB at most.",
            f"500 questions a second under 20,000 ticks/s: p50 {latency.p50:.1f} ms, p99 {latency.p99:.1f} ms, "
            f"max {latency.max:.1f} ms; {asked_['rss_mib']:.0f} MiB.",
        ]
    )
