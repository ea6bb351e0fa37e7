"""The benchmark's readers, a process each: the market service, and cryptofeed's back ends on the same bytes.

Prints one JSON object: how many ticks, in how many seconds of the wall and of this process's processor, its memory.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

TRADES = "bench_cryptofeed_trades"


def _ours(ports: list[int], redis_url: str | None, **changes: Any) -> Any:
    from core.clock import SystemClock  # noqa: PLC0415
    from core.logs import configure_logging, get_logger  # noqa: PLC0415
    from core.ops import Ops  # noqa: PLC0415
    from core.settings import LinesSettings, MarketSettings  # noqa: PLC0415
    from core.types import Mode  # noqa: PLC0415
    from market.service import MarketService  # noqa: PLC0415
    from market.store import SqlMinuteStore  # noqa: PLC0415

    configure_logging("error", "json", "test")
    folder = Path(tempfile.mkdtemp())
    clock = SystemClock()
    ops = Ops("market", Mode.TEST, clock)
    settings = MarketSettings(
        tcp={f"exchange{n}": LinesSettings(address=f"127.0.0.1:{port}") for n, port in enumerate(ports, 1)},
        exchanges=(),
        redis_url=redis_url,
        redis_prefix="bench",
        **changes,
    )
    service = MarketService(
        settings=settings,
        mode=Mode.TEST,
        store=SqlMinuteStore(f"sqlite+aiosqlite:///{folder / 'market.sqlite'}"),
        spool=folder / "spool.jsonl",
        catalogue={},
        simulator="http://127.0.0.1:1",
        clock=clock,
        ops=ops,
        logger=get_logger("market", Mode.TEST),
    )
    return service


async def market(ports: list[int], count: int, redis_url: str | None) -> dict[str, Any]:
    """`count` ticks through the service; with Redis until it has them all."""
    service = _ours(ports, redis_url)
    task = asyncio.create_task(service.run())
    try:
        while not sum(service.metrics.taken.values()):  # noqa: ASYNC110 - counts tell nobody
            await asyncio.sleep(0.001)
        started, spent = time.monotonic(), time.process_time()
        begun = sum(service.metrics.taken.values())
        side = service._side
        while True:
            done = sum(service.metrics.taken.values()) + sum(service.metrics.refused.values())
            mirror = side.mirror
            if done >= count and (mirror is None or (mirror.level and mirror.written >= count)):
                break
            await asyncio.sleep(0.002)
        wall, cpu = time.monotonic() - started, time.process_time() - spent
        rows = service._side.book.rows("BTCUSDT", None, 0, 1 << 60)
        return {
            "ticks": done - begun,
            "wall_s": wall,
            "cpu_s": cpu,
            "dropped": sum(service.metrics.refused.values()),
            "rss_mib": _rss(),
            "counted": sum(row.count for row in rows),
            "left_out": 0 if side.mirror is None else side.mirror.left_out,
        }
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


class _Slow:
    """The way into a window that takes at most so many ticks a second, as one with less of a processor would."""

    def __init__(self, window: Any, ticks_per_s: int) -> None:
        self._window = window
        self._seconds = 1 / ticks_per_s
        self._due = time.monotonic()

    async def add(self, batches: Any, now_ms: int) -> None:
        await self._window.add(batches, now_ms)
        count = sum(len(batch.times) for batch in batches)
        self._due = max(self._due, time.monotonic() - 0.1) + count * self._seconds
        await asyncio.sleep(max(0.0, self._due - time.monotonic()))


async def overload(ports: list[int], seconds: float, taken_per_s: int | None = None) -> dict[str, Any]:
    """Senders that send more than is taken, for so long. taken_per_s: no more is taken; None: all that can be."""
    service = _ours(ports, None)
    collector = service._side.collector
    if taken_per_s is not None:
        collector._window = _Slow(collector._window, taken_per_s)
    task = asyncio.create_task(service.run())
    try:
        while not sum(service.metrics.taken.values()):  # noqa: ASYNC110 - counts tell nobody
            await asyncio.sleep(0.001)
        started, spent = time.monotonic(), time.process_time()
        await asyncio.sleep(seconds)
        wall, cpu = time.monotonic() - started, time.process_time() - spent
        return {
            "ticks": sum(service.metrics.taken.values()),
            "wall_s": wall,
            "cpu_s": cpu,
            "dropped": sum(service.metrics.refused.values()),
            "waiting": sum(queue.size for queue in service._intake.queues.values()) + collector.waiting,
            "thinned": service._side.memory.thinned,
            "rss_mib": _rss(),
        }
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def serve(ports: list[int], api_port: int) -> dict[str, Any]:
    """The service with its API, until standard input ends."""
    from core.ops import serve as listen  # noqa: PLC0415

    service = _ours(ports, None)
    async with listen(service.app, "127.0.0.1", api_port, "market"):
        task = asyncio.create_task(service.run())
        spent = time.process_time()
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        found = {"ticks": sum(service.metrics.taken.values()), "cpu_s": time.process_time() - spent, "rss_mib": _rss()}
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    return found


async def cryptofeed(port: int, count: int, backend: str, where: str) -> dict[str, Any]:
    """The same lines, read by the line, into cryptofeed's own back end: a record for each tick."""
    from cryptofeed.backends.postgres import TradePostgres  # noqa: PLC0415
    from cryptofeed.backends.redis import TradeRedis  # noqa: PLC0415
    from cryptofeed.types import Trade  # noqa: PLC0415
    from yapic import json as yapic  # noqa: PLC0415

    written = 0
    if backend == "redis":
        from urllib.parse import urlsplit  # noqa: PLC0415

        callback: Any = TradeRedis(host=urlsplit(where).hostname, port=urlsplit(where).port, key="bench-cryptofeed")
    else:
        from urllib.parse import urlsplit  # noqa: PLC0415

        parts = urlsplit(where)
        callback = TradePostgres(
            host=parts.hostname,
            port=parts.port,
            user=parts.username,
            pw=parts.password,
            db=parts.path[1:],
            table=TRADES,
        )
    callback.start(asyncio.get_running_loop())
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
    started = spent = 0.0
    put: Callable[[Any, float], Awaitable[None]] = callback
    for number in range(count):
        tick = yapic.loads(await reader.readline(), parse_float=Decimal)
        if not number:
            started, spent = time.monotonic(), time.process_time()
        trade = Trade(
            "exchange1", tick["symbol"], "buy", Decimal(1), tick["price"], tick["timestamp"] / 1000, id=str(number)
        )
        await put(trade, time.time())
        written += 1
    joined = asyncio.create_task(callback.queue.join())  # its own stop() would leave what waits
    done, _ = await asyncio.wait([joined, callback.worker], return_when=asyncio.FIRST_COMPLETED)
    if callback.worker in done:
        callback.worker.result()
    callback.worker.cancel()
    writer.close()
    return {
        "ticks": written,
        "wall_s": time.monotonic() - started,
        "cpu_s": time.process_time() - spent,
        "rss_mib": _rss(),
    }


def _rss() -> float:
    """The most this process has held, in MiB; not what its parent held, which getrusage counts in."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    peak = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))
    return round(int(peak) / 1024, 1)


def main() -> None:
    kind, given = sys.argv[1], json.loads(sys.argv[2])
    run = {"market": market, "overload": overload, "serve": serve, "cryptofeed": cryptofeed}[kind]
    import uvloop  # noqa: PLC0415

    print(json.dumps(uvloop.run(run(**given))), flush=True)


if __name__ == "__main__":
    main()
