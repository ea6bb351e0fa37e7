"""Reporters, an aggregator and a BFF in this process, over servers that a test breaks: what a client sees of that."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx

from aggregator.attempts import AttemptRecord
from aggregator.service import AggregatorService
from aggregator.store import SqlAttemptStore
from bff import BffService
from broker.bus import Bus
from contracts import LocalSigner, OracleClient
from contracts.deploy import deploy
from core.clock import SystemClock
from core.logs import get_logger
from core.ops import Ops
from core.settings import AggregatorSettings, BffSettings
from core.types import Mode, Pair
from tests.support.aggregator import Reporter, group
from tests.support.submission import Anvil
from tests.support.wait import until

SIGNERS = [LocalSigner(f"{number:064x}") for number in range(1, 5)]
PRICES = {Pair("BTC/USD"): "60000.5", Pair("ETH/USD"): "3000"}
GROUP = group(*PRICES, min_price=Decimal("0.001"))
LOG = get_logger("aggregator", Mode.TEST)
PLAIN = {"heartbeats": False, "min_interval_ms": 0, "deadline_ms": 1_000}
REFRESH_TIMEOUT_S = 5.0
BOUND_S = REFRESH_TIMEOUT_S + 1.0
"""Longest time until a client has an answer: `bff.refresh_timeout_ms`, and what a loaded machine adds."""
RECOVERY_S = 5.0
"""Longest time from a server's own return until a client has a new price."""


@dataclass
class Front:
    node: Anvil
    client: OracleClient
    reporters: list[Reporter]
    service: AggregatorService
    http: httpx.AsyncClient
    aggregator: httpx.AsyncClient
    relayer: str

    async def refresh(self) -> httpx.Response:
        """Its answer: a price, or a problem document with 503; nothing else, and never late."""
        started = time.monotonic()
        answer = await self.http.post("/v1/prices/btc-usd/refresh")
        assert time.monotonic() - started < BOUND_S
        assert answer.status_code in (200, 503), answer.text
        if answer.status_code == 503:
            assert answer.headers["content-type"] == "application/problem+json"
        return answer

    async def refused(self, asking: Awaitable[httpx.Response] | None = None) -> str:
        """The code of the refusal of a refresh: the one under way, or one asked now. It tells the last price."""
        answer = await (asking or self.refresh())
        assert answer.status_code == 503, answer.text
        problem = answer.json()
        standing = await self.client.group_state("majors")
        assert (problem["last"]["round"], problem["last"]["stale"]) == (standing.round, True)
        return str(problem["code"])

    async def recovers(self) -> None:
        """From now on, a client has a new price within `RECOVERY_S`."""
        started = time.monotonic()
        while (answer := await self.refresh()).status_code != 200:
            assert time.monotonic() - started < RECOVERY_S, answer.text
            await asyncio.sleep(0.1)
        assert time.monotonic() - started < RECOVERY_S
        assert answer.json()["round"] == (await self.client.group_state("majors")).round

    async def read(self) -> dict[str, Any]:
        """The price as it is read, without a refresh."""
        answer = await self.http.get("/v1/prices/btc-usd")
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def sent(self) -> int:
        return int(str(await self.node.call("eth_getTransactionCount", self.relayer, "pending")), 16)


@contextlib.asynccontextmanager
async def front(
    node: Anvil,
    bus: Bus,
    reporters_bus: Bus,
    store: str,
    folder: Path,
    *,
    url: str = "",
    on_state: Callable[[AttemptRecord], None] = lambda _: None,
    **settings: object,
) -> AsyncIterator[Front]:
    """bus, reporters_bus: started, and closed by the caller. url: how aggregator and BFF reach the node."""
    async with contextlib.AsyncExitStack() as stack:
        deployer, relayer = ("0x" + secrets.token_hex(32) for _ in range(2))
        for key in (deployer, relayer):
            await node.call("anvil_setBalance", LocalSigner(key).address, hex(10**24))
        record = await deploy(
            node.url,
            deployer,
            mode=Mode.TEST,
            groups=[GROUP],
            reporters={"majors": [signer.address for signer in SIGNERS]},
            deployments_dir=folder / "deployments",
        )
        direct = await OracleClient.connect(node.url, record, Mode.TEST)
        stack.push_async_callback(direct.close)
        client = await OracleClient.connect(url or node.url, record, Mode.TEST, timeout_s=1)
        stack.push_async_callback(client.close)
        reporters = [Reporter(f"fetcher-{i}", signer, direct, PRICES) for i, signer in enumerate(SIGNERS)]
        for reporter in reporters:
            subscription = await reporter.listen(reporters_bus, GROUP)
            stack.push_async_callback(subscription.cancel)  # before the client that it asks is closed
        ops = Ops("aggregator", Mode.TEST)
        service = AggregatorService(
            settings=AggregatorSettings(**{**PLAIN, **settings}),  # type: ignore[arg-type]
            name="aggregator",
            instance="1",
            groups=[GROUP],
            bus=bus,
            chain=client,
            submit_key=relayer,
            store=SqlAttemptStore(store),
            token="word",
            clock=SystemClock(),
            mode=Mode.TEST,
            ops=ops,
            logger=LOG,
            on_state=on_state,
        )
        bff_ops = Ops("bff", Mode.TEST)
        bff = BffService(
            settings=BffSettings(
                aggregator_url="http://aggregator", refresh_timeout_ms=round(REFRESH_TIMEOUT_S * 1000), poll_ms=200
            ),
            groups=[GROUP],
            chain=client,
            mode=Mode.TEST,
            clock=SystemClock(),
            ops=bff_ops,
            token="word",
            transport=httpx.ASGITransport(service.app),
        )
        tasks = [asyncio.create_task(service.run()), asyncio.create_task(bff.run())]

        async def stop() -> None:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        stack.push_async_callback(stop)
        await until(lambda: ops.ready and bff_ops.ready, within_s=30)
        http = await stack.enter_async_context(local(bff.app, "http://bff"))
        aggregator = await stack.enter_async_context(local(service.app, "http://aggregator"))
        yield Front(node, direct, reporters, service, http, aggregator, LocalSigner(relayer).address)


def local(app: Any, base: str) -> httpx.AsyncClient:
    headers = {"authorization": "Bearer word"}
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=base, headers=headers, timeout=30)
