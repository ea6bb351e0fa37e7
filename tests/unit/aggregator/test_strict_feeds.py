"""Price feeds under the policy `strict`: no round while a registered reporter has no price, and who ends that."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from aggregator.attempts import AttemptRecord, Cause
from aggregator.enrolment import Enrolled
from aggregator.service import AggregatorService
from aggregator.states import State
from broker.bus import Topic
from broker.memory import MemoryBus
from broker.messages import Leave
from contracts.report import LocalSigner, leave_digest
from core import codec
from core.clock import SystemClock
from core.errors import StoreUnavailableError
from core.logs import get_logger
from core.ops import Ops
from core.reporting import Policy
from core.settings import AggregatorSettings
from core.types import Mode
from tests.support.aggregator import BTC, DEPLOYMENT, DOMAIN, ETH, SIGNERS, FakeChain, MemoryStore, Reporter, group
from tests.support.signals import InMemory
from tests.support.wait import until

GROUP = group(policy=Policy.STRICT)
PRICES = {BTC: "60000", ETH: "3000"}


@dataclass
class World:
    service: AggregatorService
    bus: MemoryBus
    reporters: list[Reporter]
    http: httpx.AsyncClient

    async def attempt(self) -> AttemptRecord:
        desk = self.service.desks["majors"]
        return await desk.wait(desk.request(SystemClock().now_ms(), Cause.REQUEST), 5)

    async def outcome(self) -> str:
        record = await self.attempt()
        return "accepted" if record.state is State.ACCEPTED else f"{record.code}"

    async def listed(self, feed: str = BTC) -> dict[str, str]:
        said: list[dict[str, Any]] = (await self.http.get("/v1/reporters")).json()
        return {one["name"]: one["state"] for one in said if one["feed"] == feed}

    async def standings(self) -> dict[str, dict[str, Any]]:
        return {one["feed"]: one for one in (await self.http.get("/v1/feeds/standings")).json()}

    async def by_hand(self, what: str, name: str, **query: str) -> int:
        return (await self.http.post(f"/v1/reporters/{name}/{what}", params=query)).status_code

    async def leave(self, at: int, instance: str = "1", *, signer: LocalSigner | None = None) -> None:
        moment = SystemClock().now_ms()
        who = self.reporters[at]
        leave = Leave(
            id=f"leave-{at}-{moment}",
            deployment=DEPLOYMENT.id,
            mode=Mode.TEST,
            fetcher=who.name,
            instance=instance,
            reporter=who.signer.address,
            moment=moment,
            signature=(signer or who.signer).sign(leave_digest(DOMAIN, instance, moment)),
        )
        await self.bus.publish(Topic.HINTS, leave)


@asynccontextmanager
async def world(register: InMemory | None = None) -> AsyncIterator[World]:
    chain, bus, ops = FakeChain(GROUP), MemoryBus(), Ops("aggregator", Mode.TEST)
    await bus.start()
    reporters = [Reporter(f"fetcher-{i}", SIGNERS[i], chain, PRICES) for i in range(4)]
    service = AggregatorService(
        settings=AggregatorSettings(deadline_ms=300, grace_ms=0, heartbeats=False, min_interval_ms=0),
        name="aggregator",
        instance="1",
        groups=[GROUP],
        bus=bus,
        chain=chain,
        submit_key="77" * 32,
        store=MemoryStore(),
        token="word",
        clock=SystemClock(),
        mode=Mode.TEST,
        ops=ops,
        logger=get_logger("aggregator", Mode.TEST),
        register=register or InMemory(),
    )
    for reporter in reporters:
        await reporter.listen(bus, GROUP)
    task = asyncio.create_task(service.run())
    try:
        await until(lambda: ops.ready)
        http = httpx.AsyncClient(
            transport=httpx.ASGITransport(service.app),
            base_url="http://aggregator",
            headers={"authorization": "Bearer word"},
        )
        yield World(service, bus, reporters, http)
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await bus.close()


async def test_a_silent_reporter_stops_the_rounds_and_is_named_until_it_returns() -> None:
    async with world() as w:
        assert await w.outcome() == "accepted"
        assert await w.listed() == {f"fetcher-{i}": "running" for i in range(4)}
        w.reporters[1].silent = True
        record = await w.attempt()
        assert (record.code, record.round) == ("reporter_stopped", None)
        assert record.transaction is None
        assert record.detail.startswith("BTC/USD: fetcher-1 reporter_stopped since 20")
        assert (await w.listed())["fetcher-1"] == "stopped"
        health = (await w.http.get("/health")).json()["dependencies"]["reporters"]
        assert "fetcher-1" in health["detail"]
        w.reporters[1].silent = False
        assert await w.outcome() == "accepted"
        assert (await w.listed())["fetcher-1"] == "running"


async def test_a_reporter_that_refuses_is_in_error_too_and_says_why() -> None:
    async with world() as w:
        assert await w.outcome() == "accepted"
        w.reporters[1].refuses = "no_prices"
        record = await w.attempt()
        assert record.code == "reporter_stopped"
        assert record.detail.startswith("BTC/USD: fetcher-1 no_price since 20")
        assert record.detail.count("(it refuses, no_prices: as told)") == 2
        assert (await w.listed())["fetcher-1"] == "failing"
        w.reporters[1].refuses = None
        assert await w.outcome() == "accepted"


async def test_a_reporter_without_a_price_for_one_feed_is_missing_there() -> None:
    async with world() as w:
        await w.attempt()
        w.reporters[2].prices = {BTC: "60000"}
        record = await w.attempt()
        assert record.code == "reporter_stopped"
        assert record.detail.startswith("ETH/USD: fetcher-2 no_price since")
        assert "BTC/USD" not in record.detail
        assert (await w.listed(BTC))["fetcher-2"] == "running"
        assert (await w.listed(ETH))["fetcher-2"] == "failing"
        # no round of the group comes, and so none of this feed: it says by which one
        found = await w.standings()
        assert [(feed, one["error"]) for feed, one in found.items()] == [(BTC, True), (ETH, True)]
        for feed, via in ((BTC, [ETH]), (ETH, [])):
            (trouble,) = found[feed]["troubles"]
            assert (trouble["reporter"], trouble["code"], trouble["via"]) == ("fetcher-2", "no_price", via)
        assert await w.by_hand("deregister", "fetcher-2", feed="eth-usd") == 200
        assert not any(one["error"] for one in (await w.standings()).values())
        assert await w.by_hand("register", "fetcher-2", feed="eth-usd") == 200
        assert await w.outcome() == "reporter_stopped"
        w.reporters[2].prices = PRICES
        assert await w.outcome() == "accepted"
        assert not any(one["error"] for one in (await w.standings()).values())


async def test_two_aggregators_date_a_silence_alike_by_the_last_price_that_either_saw() -> None:
    register = InMemory()
    async with world(register) as w, world(register) as other:
        assert await other.outcome() == "accepted"
        assert await w.outcome() == "accepted"
        await asyncio.sleep(0.01)
        assert await w.outcome() == "accepted"  # too soon to be kept: the other one knows nothing of it
        for each in (w, other):
            each.reporters[1].silent = True
        assert await w.outcome() == "reporter_stopped"
        (said,) = (await w.standings())[BTC]["troubles"]
        assert await other.outcome() == "reporter_stopped"
        assert (await other.standings())[BTC]["troubles"] == [said]


async def test_who_never_had_a_price_is_not_waited_for() -> None:
    async with world() as w:
        w.reporters[3].prices = {BTC: "60000"}
        assert await w.outcome() == "accepted"
        assert await w.outcome() == "accepted"
        assert "fetcher-3" not in await w.listed(ETH)


async def test_an_operator_takes_a_reporter_off_and_puts_it_back() -> None:
    async with world() as w:
        await w.attempt()
        w.reporters[1].silent = True
        assert await w.outcome() == "reporter_stopped"
        assert await w.by_hand("deregister", "fetcher-9") == 404
        assert await w.by_hand("deregister", "fetcher-1") == 200
        assert (await w.http.get("/health")).json()["dependencies"]["reporters"]["status"] == "up"
        assert await w.outcome() == "accepted"
        assert (await w.listed())["fetcher-1"] == "deregistered"
        assert await w.by_hand("register", "fetcher-1") == 200
        assert await w.outcome() == "reporter_stopped"


async def test_an_operator_takes_a_reporter_off_one_feed() -> None:
    async with world() as w:
        await w.attempt()
        w.reporters[2].prices = {BTC: "60000"}
        assert await w.by_hand("deregister", SIGNERS[2].address, feed="eth-usd") == 200
        assert await w.outcome() == "accepted"
        w.reporters[2].silent = True
        record = await w.attempt()
        assert (record.code, "ETH/USD" in record.detail) == ("reporter_stopped", False)


async def test_one_feeds_error_is_not_anothers() -> None:
    async with world() as w:
        await w.attempt()
        w.reporters[1].silent = True
        assert await w.outcome() == "reporter_stopped"
        assert await w.by_hand("deregister", "fetcher-1", feed="btc-usd") == 200
        standings = (await w.http.get("/v1/feeds/standings")).json()
        assert [(one["feed"], one["error"]) for one in standings] == [(BTC, False), (ETH, True)]
        assert ETH in (await w.attempt()).detail


@pytest.mark.parametrize("feeds", [{}, {"feed": "btc-usd"}])
async def test_who_was_taken_off_stays_off_whichever_instance_reports_until_it_is_started_again(
    feeds: dict[str, str],
) -> None:
    async with world() as w:
        two = w.reporters[1]
        for two.instance in ("1", "2"):
            assert await w.outcome() == "accepted"
        assert await w.by_hand("deregister", "fetcher-1", **feeds) == 200
        for two.instance in ("1", "2", "1"):
            assert await w.outcome() == "accepted"
            assert (await w.listed())["fetcher-1"] == "deregistered"
        two.silent = True
        await w.attempt()
        two.silent, two.instance = False, "2"
        assert await w.outcome() == "accepted"
        assert (await w.listed())["fetcher-1"] == "deregistered"  # it was late, and is known
        two.prices, two.instance = {ETH: "3000"}, "3"
        await w.attempt()
        assert (await w.listed())["fetcher-1"] == "deregistered"  # it is back, without this price as yet
        two.prices = PRICES
        assert await w.outcome() == "accepted"
        assert (await w.listed())["fetcher-1"] == "running"
        two.silent = True
        assert await w.outcome() == "reporter_stopped"
        assert await w.by_hand("deregister", "fetcher-1") == 200
        two.silent = False  # and "3" is one of those that were taken off now
        assert await w.outcome() == "accepted"
        assert (await w.listed())["fetcher-1"] == "deregistered"


async def test_who_was_taken_off_and_is_started_again_before_anybody_missed_it_is_back() -> None:
    async with world() as w:
        assert await w.outcome() == "accepted"
        assert await w.by_hand("deregister", "fetcher-1") == 200
        w.reporters[1].instance = "2"
        assert await w.outcome() == "accepted"
        assert (await w.listed())["fetcher-1"] == "running"
        w.reporters[1].silent = True
        assert await w.outcome() == "reporter_stopped"


async def test_a_stop_on_purpose_deregisters_and_the_next_instance_registers() -> None:
    async with world() as w:
        await w.attempt()
        w.reporters[1].silent = True
        await w.leave(1)
        await until(lambda: any(one.left_ms for one in w.service.enrolment.reporters()))  # type: ignore[union-attr]
        assert await w.outcome() == "accepted"
        w.reporters[1].silent = False
        w.reporters[1].instance = "2"
        assert await w.outcome() == "accepted"
        assert (await w.listed())["fetcher-1"] == "running"


async def test_nobody_can_take_another_off_nor_an_instance_that_is_gone() -> None:
    async with world() as w:
        await w.attempt()
        w.reporters[1].silent = True
        await w.leave(1, signer=LocalSigner("ab" * 32))
        await w.leave(1, instance="of last week")
        await asyncio.sleep(0.05)
        assert await w.outcome() == "reporter_stopped"


async def test_a_restart_and_a_second_aggregator_know_who_is_missing() -> None:
    register = InMemory()
    async with world(register) as w:
        await w.attempt()
    async with world(register) as w:
        w.reporters[1].silent = True
        assert await w.outcome() == "reporter_stopped"
        async with world(register) as other:
            standings = (await other.http.get("/v1/feeds/standings")).json()
            assert [one["error"] for one in standings] == [True, True]
            assert await other.by_hand("deregister", "fetcher-1") == 200
        assert await w.outcome() == "accepted"


async def test_what_an_operator_says_at_another_aggregator_is_not_lost_to_a_report_at_the_same_time() -> None:
    """Between this one's look at the register and its writing, the other takes the reporter off."""

    class Interrupted(InMemory):
        between: Callable[[], Awaitable[object]] | None = None

        async def replace(self, scope: str, name: str, body: str, was: str | None) -> bool:
            between, self.between = self.between, None
            if between is not None:
                await between()
            return await super().replace(scope, name, body, was)

    register = Interrupted()
    async with world(register) as w, world(register) as other:
        assert await w.outcome() == "accepted"
        w.reporters[1].instance = "2"  # which is worth writing down
        register.between = lambda: other.by_hand("deregister", "fetcher-1", feed="btc-usd")
        assert await w.outcome() == "accepted"
        found = {one.fetcher: one for one in w.service.enrolment.reporters()}["fetcher-1"]  # type: ignore[union-attr]
        assert found.seen == ("1", "2")
        assert found.barred == ("1",)
        kept = [codec.decode(text, Enrolled) for (scope, _), text in register.kept.items() if scope == DEPLOYMENT.id]
        assert found in kept


async def test_a_register_that_cannot_be_read_submits_nothing() -> None:
    class Broken(InMemory):
        broken = False

        async def all(self, scope: str) -> dict[str, str]:
            if self.broken:
                raise StoreUnavailableError("gone")
            return await super().all(scope)

    register = Broken()
    async with world(register) as w:
        register.broken = True
        assert await w.outcome() == "store_unavailable"
