"""A trader in this process, and reporters that speak to it as real ones do: signed, over its interface."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import httpx

from contracts.report import LocalSigner
from core.clock import FixedClock
from core.documents import Documents
from core.locks import ProcessLock
from core.logs import get_logger
from core.ops import Ops
from core.reporting import FeedRule, Policy, Schedule, Trouble
from core.signals import SignalRange
from core.types import Mode
from signals.messages import Leave, Message, Production, Registration, signed
from signals.registry import SignalFeed
from signals.service import TraderService

TOKEN = "to-be-admitted"
START_MS = 1_795_000_000_000
PERIOD_MS = 1_000


class InMemory:
    """`Documents` that live as long as the test."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str], str] = {}

    async def open(self) -> None: ...
    async def close(self) -> None: ...

    async def put(self, scope: str, name: str, body: str) -> None:
        self.kept[scope, name] = body

    async def replace(self, scope: str, name: str, body: str, was: str | None) -> bool:
        if self.kept.get((scope, name)) != was:
            return False
        self.kept[scope, name] = body
        return True

    async def all(self, scope: str) -> dict[str, str]:
        return {name: body for (of, name), body in self.kept.items() if of == scope}

    async def ping(self) -> str:
        return "memory"


def feed(name: str = "decision", **changes: Any) -> SignalFeed:
    policy = changes.pop("policy", Policy.STRICT)
    rule = FeedRule(policy=policy, needed=changes.pop("needed", 1), feeds=changes.pop("feeds", ()))
    plain: dict[str, Any] = {
        "name": name,
        "range": SignalRange(decimals=4, minimum=Decimal(-1), maximum=Decimal(1)),
        "schedule": Schedule(PERIOD_MS),
        "max_age_ms": 3 * PERIOD_MS,
        "rule": rule,
    }
    return SignalFeed(**{**plain, **changes})


class Desk:
    """A trader of some feeds, its clock, and a client of its interface."""

    def __init__(
        self,
        *feeds: SignalFeed,
        documents: Documents | None = None,
        clock: FixedClock | None = None,
        lock: ProcessLock | None = None,
    ) -> None:
        self.clock = clock or FixedClock(START_MS)
        self.documents = documents or InMemory()
        self.service = TraderService(
            name="trader",
            feeds={one.name: one for one in feeds or (feed(),)},
            documents=self.documents,
            lock=lock or ProcessLock("sqlite://", "trader", purpose="trader"),
            clock=self.clock,
            ops=Ops("trader", Mode.TEST, self.clock),
            logger=get_logger("trader", Mode.TEST),
            token=TOKEN,
        )
        self.service.registry.loaded = documents is None
        transport = httpx.ASGITransport(app=self.service.app, raise_app_exceptions=False)
        self.http = httpx.AsyncClient(transport=transport, base_url="http://trader")

    def pass_ms(self, ms: int) -> None:
        """Let time pass, and the trader look."""
        for _ in range(ms // 50):
            self.clock.advance(50)
            self.service.trader.settle()
        self.clock.advance(ms % 50)
        self.service.trader.settle()

    async def signal(self, name: str = "decision") -> dict[str, Any]:
        found: dict[str, Any] = (await self.http.get(f"/v1/signals/{name}")).json()
        return found

    async def states(self) -> dict[str, str]:
        return {one["name"]: one["state"] for one in (await self.http.get("/v1/reporters")).json()}

    async def by_hand(self, what: str, name: str, token: str = TOKEN) -> httpx.Response:
        url = f"/v1/reporters/decision/{name}/{what}"
        return await self.http.post(url, headers={"authorization": f"Bearer {token}"})


class Speaker:
    """A reporter's voice. Every message is a millisecond later than the last one, as a real clock would have it."""

    def __init__(self, desk: Desk, name: str, key: str, feed: str = "decision") -> None:
        self.desk, self.name, self.feed = desk, name, feed
        self.signer = LocalSigner(key)
        self.instance = "first"
        self._said_ms = 0

    async def send(self, message: Message, *, token: str = TOKEN, signature: str | None = None) -> httpx.Response:
        body, good = signed(message, self.signer)
        headers = {"x-fairmark-signature": signature or good, "authorization": f"Bearer {token}"}
        return await self.desk.http.post("/v1/reporters", content=body, headers=headers)

    def envelope(self) -> dict[str, Any]:
        self._said_ms = max(self._said_ms + 1, self.desk.clock.now_ms())
        return {"to": "trader", "feed": self.feed, "name": self.name, "at_ms": self._said_ms}

    def registration(self, **changes: Any) -> Registration:
        plain = {**self.envelope(), "period_ms": PERIOD_MS, "instance": self.instance}
        return Registration(**{**plain, **changes})

    def production(self, value: str | None = None, trouble: Trouble | None = None, **changes: Any) -> Production:
        now = self.desk.clock.now_ms()
        said = None if value is None else Decimal(value)
        data_ms = None if value is None else now
        plain = {**self.envelope(), "slot_ms": now - now % PERIOD_MS, "value": said, "data_ms": data_ms}
        return Production(**{**plain, "trouble": trouble, **changes})

    async def register(self, **changes: Any) -> httpx.Response:
        return await self.send(self.registration(**changes))

    async def produce(self, value: str | None = None, trouble: Trouble | None = None, **changes: Any) -> httpx.Response:
        return await self.send(self.production(value, trouble, **changes))

    async def leave(self) -> httpx.Response:
        return await self.send(Leave(**self.envelope(), instance=self.instance))
