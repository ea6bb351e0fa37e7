"""The window in Redis, for whoever else wants it, and for this service after a restart.

Keys, below `{prefix}:{mode}:`, mode `live` or `test`:

| key | what it holds |
| --- | --- |
| `ticks:{exchange}:{symbol}` | sorted set: every tick; score its time in ms, member `{number}:{price}` (`6500010e-2`) |
| `latest:{exchange}:{symbol}` | the newest tick: `{"exchange", "symbol", "price", "time_ms", "mode"}` |
| `latest:{symbol}` | the newest of all exchanges |
| `exchanges:{symbol}` | set: the exchanges that sent this symbol |
| `prices:{symbol}` | channel: the newest tick of each batch, as above, and `count`, how many the batch held |
| `writer:{id}` | who writes here: where it is gone, so is the rest, and it is written anew |

A member's number is 16 hexadecimal digits, rising: ticks of equal price and time are members of their own, in the order
of arrival, and a batch that is sent again after a lost answer counts once. Old entries are removed with each second's
first write; keys expire when nothing comes.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from decimal import Decimal
from typing import Any, cast
from uuid import uuid4

import msgspec
import redis.asyncio as redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from core.types import Mode
from market.errors import WindowUnavailableError
from market.ticks import Batch, Tick, scaled, unscaled
from market.totals import Totals
from market.window import Slot, Span

_SECOND_MS = 1_000
_MEMBERS = 500
"""Ticks of one command. The time of each answer is bounded, so a slow line must get so many through in that time."""

_LOST = "Redis: it has lost what it held"


class _Latest(msgspec.Struct, frozen=True, kw_only=True):
    exchange: str
    symbol: str
    price: str
    time_ms: int
    mode: str


class RedisWindow:
    """`Window` in Redis. One process writes a mode's ticks of an exchange; any number may read.

    The batches' arrival numbers must never repeat, not even after a restart (the wall clock's microseconds are a good
    beginning). timeout_s: bound of each answer.
    """

    def __init__(
        self,
        url: str,
        *,
        prefix: str,
        mode: Mode,
        retention_ms: int,
        timeout_s: float = 1.0,
    ) -> None:
        self._root = f"{prefix}:{mode}:"
        self._mode = mode
        self._retention_ms = retention_ms
        self._client: redis.Redis = redis.Redis.from_url(
            url,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            max_connections=8,
            retry=Retry(NoBackoff(), 0),  # who writes tries again, with what has come meanwhile
            decode_responses=False,
        )
        self._mark = ""
        self._newest: dict[tuple[str, str], tuple[int, int]] = {}
        self._trimmed: dict[tuple[str, str], int] = {}

    async def begin(self) -> None:
        """Leave a mark: from now on `add` and `confirm` raise where Redis has lost what it held, and answers again."""
        mark = f"{self._root}writer:{uuid4().hex}"
        async with self._guarded():
            await self._client.set(mark, 1, px=2 * self._retention_ms)
        self._mark = mark

    async def confirm(self) -> None:
        """Raises `WindowUnavailableError` where Redis is away, or was and has lost what it held."""
        async with self._guarded():
            kept = await self._client.set(self._mark, 1, px=2 * self._retention_ms, xx=True)
        if not kept:
            raise WindowUnavailableError(_LOST)

    async def add(self, batches: Sequence[Batch], now_ms: int, *, publish: bool = True) -> None:
        """publish: False for what was told before, or is old."""
        latest: dict[str, tuple[Batch, int, int]] = {}
        async with self._guarded():
            pipe = self._client.pipeline(transaction=False)
            for batch in batches:
                self._write(pipe, batch, now_ms, latest)
            for symbol, (batch, at, count) in latest.items():
                value = self._value(batch, at)
                if self._is_newest(symbol, "", batch, at):
                    pipe.set(f"{self._root}latest:{symbol}", msgspec.json.encode(value), px=self._retention_ms)
                if publish:
                    news = {**msgspec.to_builtins(value), "count": count}
                    pipe.publish(f"{self._root}prices:{symbol}", msgspec.json.encode(news))
            if self._mark:
                pipe.set(self._mark, 1, px=2 * self._retention_ms, xx=True)
            answers = await pipe.execute()
        if self._mark and not answers[-1]:
            raise WindowUnavailableError(_LOST)

    def _write(self, pipe: Any, batch: Batch, now_ms: int, latest: dict[str, tuple[Batch, int, int]]) -> None:
        key = f"{self._root}ticks:{batch.exchange}:{batch.symbol}"
        number = batch.number
        members: list[object] = []
        put = members.append
        digits = batch.digits
        for time_ms, price in zip(batch.times, batch.prices, strict=True):
            put(time_ms)
            put(b"%016x:%de-%d" % (number, price, digits))
            number += 1
        for start in range(0, len(members), 2 * _MEMBERS):
            pipe.execute_command("ZADD", key, *members[start : start + 2 * _MEMBERS])
        own = (batch.symbol, batch.exchange)
        second = now_ms // _SECOND_MS
        if self._trimmed.get(own) != second:
            self._trimmed[own] = second
            pipe.zremrangebyscore(key, "-inf", now_ms - self._retention_ms)
            pipe.pexpire(key, 2 * self._retention_ms)
            pipe.sadd(f"{self._root}exchanges:{batch.symbol}", batch.exchange)
            pipe.pexpire(f"{self._root}exchanges:{batch.symbol}", 2 * self._retention_ms)
        last = max(batch.times)
        at = len(batch.times) - 1
        while batch.times[at] != last:
            at -= 1
        if self._is_newest(batch.symbol, batch.exchange, batch, at):
            value = msgspec.json.encode(self._value(batch, at))
            pipe.set(f"{self._root}latest:{batch.exchange}:{batch.symbol}", value, px=self._retention_ms)
        before = latest.get(batch.symbol)
        count = len(batch.times) + (before[2] if before else 0)
        if before is None or batch.times[at] >= before[0].times[before[1]]:
            latest[batch.symbol] = (batch, at, count)
        else:
            latest[batch.symbol] = (before[0], before[1], count)

    def _is_newest(self, symbol: str, exchange: str, batch: Batch, at: int) -> bool:
        """Whether this tick is later than all that were written before; remembers it if so."""
        rank = (batch.times[at], batch.number + at)
        if rank < self._newest.get((symbol, exchange), (-1, -1)):
            return False
        self._newest[symbol, exchange] = rank
        return True

    def _value(self, batch: Batch, at: int) -> _Latest:
        price = format(unscaled(batch.prices[at], batch.digits), "f")
        return _Latest(
            exchange=batch.exchange,
            symbol=batch.symbol,
            price=price,
            time_ms=batch.times[at],
            mode=str(self._mode),
        )

    async def latest(self, symbol: str, exchange: str | None, now_ms: int) -> Tick | None:
        key = f"{self._root}latest:{symbol}" if exchange is None else f"{self._root}latest:{exchange}:{symbol}"
        async with self._guarded():
            raw = await self._client.get(key)
        if raw is None:
            return None
        value = msgspec.json.decode(cast(bytes, raw), type=_Latest)
        if value.time_ms <= now_ms - self._retention_ms:
            return None
        return Tick(exchange=value.exchange, symbol=symbol, price=Decimal(value.price), time_ms=value.time_ms)

    async def span(self, symbol: str, exchange: str | None, since_ms: int, now_ms: int) -> Span | None:
        """Reads every tick of the period: exact, and slow where there are many."""
        since_ms = max(since_ms, now_ms - self._retention_ms)
        names = await self.exchanges(symbol) if exchange is None else [exchange]
        totals = Totals()
        for name in names:
            prices = [tick.price for tick in await self.ticks(symbol, name, since_ms, now_ms)]
            if prices and (found := scaled(prices)) is not None:
                totals.add(*found)
        return Span(totals=totals, since_ms=since_ms) if totals.count else None

    async def exchanges(self, symbol: str) -> list[str]:
        """Those that sent this symbol lately."""
        async with self._guarded():
            names: Any = await cast(Any, self._client).smembers(f"{self._root}exchanges:{symbol}")
        return sorted(name.decode() for name in names)

    async def ticks(self, symbol: str, exchange: str, since_ms: int, now_ms: int) -> list[Tick]:
        key = f"{self._root}ticks:{exchange}:{symbol}"
        since_ms = max(since_ms, now_ms - self._retention_ms)
        async with self._guarded():
            found: Any = await self._client.zrange(
                key,
                f"({since_ms}",
                str(now_ms),
                byscore=True,
                withscores=True,
            )
        return [
            Tick(exchange=exchange, symbol=symbol, price=Decimal(member[17:].decode()), time_ms=int(score))
            for member, score in found
        ]

    async def forget(self, slots: Sequence[Slot]) -> None:
        """Drop what is kept of these seconds, to write them anew."""
        async with self._guarded():
            pipe = self._client.pipeline(transaction=False)
            for second, symbol, exchange in slots:
                first_ms = second * _SECOND_MS
                key = f"{self._root}ticks:{exchange}:{symbol}"
                pipe.zremrangebyscore(key, first_ms, first_ms + _SECOND_MS - 1)
            await pipe.execute()

    async def ping(self) -> str:
        async with self._guarded():
            await cast(Any, self._client).ping()
        return "answers"

    async def close(self) -> None:
        with contextlib.suppress(RedisError, OSError):
            await self._client.aclose()

    @contextlib.asynccontextmanager
    async def _guarded(self) -> AsyncIterator[None]:
        try:
            yield
        except (RedisError, OSError, TimeoutError) as error:
            reason = str(error).partition("\n")[0] or type(error).__name__
            raise WindowUnavailableError(f"Redis: {reason}") from error
