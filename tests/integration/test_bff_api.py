"""The BFF's API between a chain and an aggregator: every document and every problem, by value."""

from __future__ import annotations

import asyncio
import time

import httpx
import pytest

from bff.documents import Attempt, AttemptSummary, Evidence, Feeds, Price, Prices, RefreshedPrice, Update
from tests.support.bff import (
    ATTEMPT,
    BTC,
    DEPLOYMENT,
    ETH,
    MAJORS,
    NOW_MS,
    TOKEN,
    TON,
    FakeAggregator,
    FakeChain,
    answer,
    bff_house,
    ended,
    problem,
    reading,
    transaction_of,
)
from tests.support.wait import until

BTC_NOW = {
    "pair": "BTC/USD",
    "price": "71234.56000000",
    "decimals": 8,
    "group": "majors",
    "round": 7,
    "observed_at": "2024-03-13T11:10:44.390Z",
    "updated_at": "2024-03-13T11:10:44.000Z",
    "age_seconds": 1.001,
    "contributors": 4,
    "spread_bps": 3,
    "mode": "test",
    "stale": False,
    "status": "ok",
    "confidence": 1.0,
    "troubles": [],
    "transaction": transaction_of(7),
}
EVERY_FEED = reading(7, answer(), answer(ETH, 400_001, decimals=2), answer(TON, 500_000_000, observed_ms=NOW_MS - 500))
"""A reading in which each of the group's feeds has an answer; TON/USD's is half a second younger."""
BTC_LAST = {**BTC_NOW, "stale": True, "status": "stale"}


def problem_document(response: httpx.Response) -> dict[str, object]:
    """The body of a problem, after the rules that hold for all of them."""
    body = response.json()
    assert response.headers["content-type"] == "application/problem+json"
    assert body["status"] == response.status_code
    assert body["type"] == f"urn:fairmark:problem:{body['code']}"
    assert body["instance"] == response.request.url.path
    assert body["title"]
    assert body["detail"]
    return body


async def with_transaction(house) -> None:
    await until(lambda: house.service.reader.view("majors").standing[BTC].document.transaction == transaction_of(7))


class TestReads:
    @pytest.mark.parametrize("slug", ["BTC-USD", "btc-usd"])
    async def test_a_price(self, slug):
        async with bff_house() as house:
            await with_transaction(house)
            response = await house.client.get(f"/v1/prices/{slug}?unknown=ignored")
        assert response.status_code == 200
        assert response.headers["content-type"] == "application/json"
        assert response.headers["cache-control"] == "no-cache"
        assert response.json() == BTC_NOW
        Price.model_validate_json(response.content)

    @pytest.mark.parametrize("path", ["/BTC-USD", "/XRP-USD", "/BTC", "/BTC/USD", ""])
    async def test_a_head_has_the_status_and_headers_of_the_get(self, path):
        async with bff_house() as house:
            await with_transaction(house)
            get, head = [await house.client.request(method, f"/v1/prices{path}") for method in ("GET", "HEAD")]
        assert head.status_code == get.status_code
        names = ("content-type", "content-length", "cache-control")
        assert [head.headers.get(name) for name in names] == [get.headers.get(name) for name in names]

    async def test_a_price_ages_by_our_clock_and_turns_stale(self):
        async with bff_house() as house:
            house.clock.advance(118_999)
            fresh = (await house.client.get("/v1/prices/BTC-USD")).json()
            house.clock.advance(1)
            stale = (await house.client.get("/v1/prices/BTC-USD")).json()
        assert (fresh["age_seconds"], fresh["stale"], fresh["status"]) == (120.0, False, "ok")
        assert (stale["age_seconds"], stale["stale"], stale["status"]) == (120.001, True, "stale")

    async def test_a_halted_contract_shows(self):
        async with bff_house(chain=FakeChain(reading(7, answer(), paused=True))) as house:
            body = (await house.client.get("/v1/prices/BTC-USD")).json()
        assert (body["stale"], body["status"], body["price"]) == (True, "halted", "71234.56000000")

    async def test_all_prices_stand_at_one_round(self):
        async with bff_house() as house:
            await with_transaction(house)
            response = await house.client.get("/v1/prices")
        eth = {**BTC_NOW, "pair": "ETH/USD", "price": "4000.01", "decimals": 2}
        assert response.json() == {
            "mode": "test",
            "groups": [
                {
                    "group": "majors",
                    "round": 7,
                    "observed_at": "2024-03-13T11:10:44.390Z",
                    "halted": False,
                    "read_at": "2024-03-13T11:10:45.391Z",
                }
            ],
            "prices": [BTC_NOW, eth],
            "missing": [{"pair": "TON/USD", "code": "price_unset"}],
        }
        Prices.model_validate_json(response.content)

    async def test_the_feeds(self):
        async with bff_house() as house:
            response = await house.client.get("/v1/feeds")
        body = response.json()
        assert (body["mode"], body["chain_id"], body["contract"]) == ("test", 31337, DEPLOYMENT.address)
        assert body["feeds"][1] == {
            "pair": "ETH/USD",
            "slug": "ETH-USD",
            "group": "majors",
            "index": 1,
            "decimals": 2,
            "heartbeat_seconds": 60.0,
            "stale_after_seconds": 120.0,
            "deviation_bps": 50,
            "min_contributors": 3,
            "aggregate": "median",
            "trust": {},
            "description": "",
        }
        assert [feed["pair"] for feed in body["feeds"]] == [feed.pair for feed in MAJORS.feeds]
        Feeds.model_validate_json(response.content)

    async def test_the_root_leads_to_the_documentation(self):
        async with bff_house() as house:
            response = await house.client.get("/")
            assert (response.status_code, response.headers["location"]) == (307, "/docs")
            assert (await house.client.get("/docs")).status_code == 200

    async def test_reads_go_on_while_the_chain_is_down(self):
        async with bff_house() as house:
            house.chain.down = True
            with pytest.raises(Exception, match="could not be read"):
                await house.service.reader.read("majors")
            response = await house.client.get("/v1/prices/BTC-USD")
            health = await house.client.get("/health")
        assert (response.status_code, response.json()["price"]) == (200, "71234.56000000")
        assert health.status_code == 503
        assert health.json()["dependencies"]["chain"]["status"] == "down"

    async def test_reads_go_on_while_the_aggregator_is_down(self):
        async with bff_house(aggregator=FakeAggregator(down=True)) as house:
            response = await house.client.get("/v1/prices/BTC-USD")
            health = await house.client.get("/health")
        assert response.status_code == 200
        assert (health.status_code, health.json()["status"]) == (200, "degraded")
        assert health.json()["dependencies"]["aggregator"]["detail"] == (
            "aggregator_unavailable: the aggregator at http://127.0.0.1:8001 cannot be reached: connection refused"
        )

    async def test_health_when_all_is_well(self):
        async with bff_house(chain=FakeChain(EVERY_FEED)) as house:
            health = await house.client.get("/health")
        assert (health.status_code, health.json()["status"], health.json()["mode"]) == (200, "up", "test")
        assert health.json()["dependencies"]["chain"]["detail"] == "majors: round 7, read 0 ms ago"
        assert health.json()["dependencies"]["prices"]["detail"] == "every price is fresh"

    async def test_stale_prices_degrade_the_health_and_are_named(self):
        async with bff_house(chain=FakeChain(EVERY_FEED)) as house:
            house.clock.advance(119_000)
            await house.service.reader.read("majors")
            health = await house.client.get("/health")
        assert (health.status_code, health.json()["status"]) == (200, "degraded")
        prices = health.json()["dependencies"]["prices"]
        assert (prices["status"], prices["required"]) == ("down", False)
        assert prices["detail"] == "stale_prices: stale or never set: BTC/USD, ETH/USD"

    async def test_a_feed_that_was_never_set_degrades_the_health_and_is_named(self):
        async with bff_house() as house:
            health = await house.client.get("/health")
        assert (health.status_code, health.json()["status"]) == (200, "degraded")
        assert health.json()["dependencies"]["prices"]["detail"] == "stale_prices: stale or never set: TON/USD"


class TestReadProblems:
    async def test_an_unknown_pair_names_the_known_ones(self):
        async with bff_house() as house:
            response = await house.client.get("/v1/prices/xrp-usd")
        body = problem_document(response)
        assert (response.status_code, body["code"]) == (404, "unknown_pair")
        assert body["known"] == ["BTC/USD", "ETH/USD", "TON/USD"]
        assert body["detail"] == "XRP/USD is not published here; known: BTC/USD, ETH/USD, TON/USD"

    @pytest.mark.parametrize("name", ["BTC/USD", "btc%2Fusd"])
    @pytest.mark.parametrize("method", ["GET", "POST"])
    async def test_a_pair_with_a_slash_is_told_how_to_write_it(self, method, name):
        async with bff_house() as house:
            path = f"/v1/prices/{name}" + ("/refresh" if method == "POST" else "")
            response = await house.client.request(method, path)
        body = response.json()
        assert (response.status_code, body["code"]) == (404, "unknown_pair")
        assert body["known"] == ["BTC/USD", "ETH/USD", "TON/USD"]
        assert body["detail"] == (
            "in a URL a pair is written with a dash, like BTC-USD; known: BTC/USD, ETH/USD, TON/USD"
        )
        assert house.aggregator.asked == []

    async def test_a_refresh_is_no_get(self):
        async with bff_house() as house:
            response = await house.client.get("/v1/prices/BTC-USD/refresh")
        assert (response.status_code, problem_document(response)["code"]) == (405, "method_not_allowed")
        assert response.headers["allow"] == "POST"

    @pytest.mark.parametrize("slug", ["BTC", "BTC-USD-EUR", "BTC-BTC", "-", "%00-USD", "x" * 2_000])
    @pytest.mark.parametrize("method", ["GET", "POST"])
    async def test_what_is_no_pair_is_422(self, method, slug):
        async with bff_house() as house:
            path = f"/v1/prices/{slug}" + ("/refresh" if method == "POST" else "")
            response = await house.client.request(method, path)
        body = problem_document(response)
        assert (response.status_code, body["code"]) == (422, "invalid_request")
        assert body["errors"][0]["where"] == "path.pair"
        assert len(body["detail"]) < 200
        assert house.aggregator.asked == []

    async def test_before_the_chain_was_ever_read(self):
        chain = FakeChain()
        chain.down = True
        async with bff_house(chain=chain, first_readings=False) as house:
            one = await house.client.get("/v1/prices/BTC-USD")
            every = await house.client.get("/v1/prices")
            ready = await house.client.get("/ready")
        for response in (one, every):
            assert (response.status_code, problem_document(response)["code"]) == (503, "no_reading")
            assert response.headers["retry-after"] == "1"
        assert (ready.status_code, ready.json()["because"]) == (503, "the chain was not read yet")

    async def test_before_a_pairs_first_round(self):
        async with bff_house() as house:
            response = await house.client.get("/v1/prices/TON-USD")
        assert (response.status_code, problem_document(response)["code"]) == (503, "price_unset")
        assert response.headers["retry-after"] == "5"

    async def test_nothing_is_served_elsewhere(self):
        async with bff_house() as house:
            missing = await house.client.get("/v2/prices")
            wrong = await house.client.delete("/v1/prices/BTC-USD")
        assert (missing.status_code, problem_document(missing)["code"]) == (404, "not_found")
        assert (wrong.status_code, problem_document(wrong)["code"]) == (405, "method_not_allowed")

    async def test_a_bug_is_a_problem_that_tells_nothing_and_names_the_request(self):
        async with bff_house() as house:
            house.service.reader._groups.clear()
            response = await house.client.get("/v1/prices/BTC-USD", headers={"X-Request-Id": "r-1"})
        body = problem_document(response)
        assert (response.status_code, body["code"]) == (500, "internal")
        assert "majors" not in response.text
        assert response.headers["x-request-id"] == "r-1"


def accepting(chain: FakeChain, *, updated: bool = True, **told: object):
    """An aggregator whose refresh puts round 8 on the chain; BTC/USD is in it if `updated`."""

    def on_refresh(_request: httpx.Request) -> httpx.Response:
        btc = answer(value=7_200_000_000_001, round_=8, observed_ms=NOW_MS) if updated else answer()
        eth = answer(ETH, 400_002, decimals=2, round_=8, observed_ms=NOW_MS)
        chain.reading = reading(8, btc, eth)
        return ended("accepted", round=8, moment=NOW_MS, transaction=transaction_of(8), detail="", code=None, **told)

    return on_refresh


async def settled():
    """Let everything run that waits for nothing outside."""
    for _ in range(500):
        await asyncio.sleep(0)


class Gated(FakeAggregator):
    """Answers refreshes once `gate` is set; `reached` tells that one waits. fails_first: the first is refused then."""

    def __init__(self, on_refresh, *, fails_first=False):
        super().__init__(on_refresh)
        self.gate, self.reached, self.fails_first = asyncio.Event(), asyncio.Event(), fails_first

    async def __call__(self, request):
        if request.method == "POST":
            self.reached.set()
            first = not any(each.method == "POST" for each in self.asked)
            self.asked.append(request)
            await self.gate.wait()
            if self.fails_first and first:
                raise httpx.ConnectError("connection refused")
            assert self.on_refresh is not None
            return self.on_refresh(request)
        return await super().__call__(request)


class TestRefresh:
    async def test_the_new_price_is_what_the_chain_says(self):
        chain = FakeChain()
        async with bff_house(chain=chain, aggregator=FakeAggregator(accepting(chain))) as house:
            response = await house.client.post("/v1/prices/btc-usd/refresh")
            read = await house.client.get("/v1/prices/BTC-USD")
        assert (response.status_code, response.headers["cache-control"]) == (200, "no-store")
        price = {
            **BTC_NOW,
            "price": "72000.00000001",
            "round": 8,
            "observed_at": "2024-03-13T11:10:45.391Z",
            "updated_at": "2024-03-13T11:10:45.000Z",
            "age_seconds": 0.0,
            "transaction": transaction_of(8),
        }
        assert response.json() == {**price, "attempt": ATTEMPT}
        assert read.json() == price
        RefreshedPrice.model_validate_json(response.content)
        (asked,) = house.aggregator.asked
        assert (asked.method, asked.url.path) == ("POST", "/v1/groups/majors/refresh")
        assert dict(asked.url.params) == {"wait_ms": "9500", "arrived_ms": str(NOW_MS)}
        assert asked.headers["authorization"] == f"Bearer {TOKEN}"

    async def test_after_a_reorganisation_the_answer_is_the_round_that_was_made_and_not_the_one_that_is_gone(self):
        chain = FakeChain(reading(9, answer(round_=9, observed_ms=NOW_MS - 5_000)))
        async with bff_house(chain=chain, aggregator=FakeAggregator(accepting(chain))) as house:
            response = await house.client.post("/v1/prices/BTC-USD/refresh")
        body = response.json()
        assert (response.status_code, body["round"], body["price"]) == (200, 8, "72000.00000001")

    async def test_many_refreshes_read_the_chain_once(self):
        chain = FakeChain()
        async with bff_house(chain=chain, aggregator=FakeAggregator(accepting(chain))) as house:
            before = chain.reads
            answers = await asyncio.gather(*(house.client.post("/v1/prices/BTC-USD/refresh") for _ in range(100)))
        assert {response.json()["price"] for response in answers} == {"72000.00000001"}
        assert (chain.reads, len(house.aggregator.asked)) == (before + 1, 1)

    @pytest.mark.parametrize(("late_ms", "calls"), [(1_000, 1), (1_001, 2)])
    async def test_a_refresh_waits_for_the_call_under_way_unless_its_moment_is_a_second_older(self, late_ms, calls):
        chain = FakeChain()
        aggregator = Gated(accepting(chain))
        async with bff_house(chain=chain, aggregator=aggregator) as house:
            first = asyncio.create_task(house.client.post("/v1/prices/BTC-USD/refresh"))
            await aggregator.reached.wait()
            house.clock.advance(late_ms)
            second = asyncio.create_task(house.client.post("/v1/prices/ETH-USD/refresh"))
            await settled()  # a second call, were there one at once, would be seen
            assert len(aggregator.asked) == 1
            aggregator.gate.set()
            answers = await asyncio.gather(first, second)
        arrived = [int(request.url.params["arrived_ms"]) for request in aggregator.asked]
        assert [answer.status_code for answer in answers] == [200, 200]
        assert arrived == [NOW_MS, NOW_MS + late_ms][:calls]

    async def test_a_call_that_fails_is_the_failure_of_those_alone_who_were_there_when_it_began(self):
        chain = FakeChain()
        aggregator = Gated(accepting(chain), fails_first=True)
        async with bff_house(chain=chain, aggregator=aggregator) as house:
            first = asyncio.create_task(house.client.post("/v1/prices/BTC-USD/refresh"))
            await aggregator.reached.wait()
            house.clock.advance(10)
            second = asyncio.create_task(house.client.post("/v1/prices/BTC-USD/refresh"))
            await settled()
            aggregator.gate.set()
            failed, answered = await asyncio.gather(first, second)
        assert (failed.status_code, answered.status_code) == (503, 200)
        assert problem_document(failed)["code"] == "aggregator_unavailable"
        assert len(aggregator.asked) == 2

    async def test_a_failed_attempt_gives_its_code_and_the_last_good_answer(self):
        def on_refresh(_request):
            return ended("failed", code="no_quorum", detail="2 of 3 reports", moment=NOW_MS, round=None)

        async with bff_house(aggregator=FakeAggregator(on_refresh)) as house:
            await with_transaction(house)
            response = await house.client.post("/v1/prices/BTC-USD/refresh")
            unset = await house.client.post("/v1/prices/TON-USD/refresh")
        assert problem_document(response) == {
            "type": "urn:fairmark:problem:no_quorum",
            "title": "The refresh brought no new price",
            "status": 503,
            "detail": "2 of 3 reports",
            "code": "no_quorum",
            "instance": "/v1/prices/BTC-USD/refresh",
            "attempt": ATTEMPT,
            "last": BTC_LAST,
        }
        assert response.headers["retry-after"] == "1"
        assert problem_document(unset)["last"] is None

    async def test_a_feed_left_alone_in_an_accepted_round(self):
        chain = FakeChain()
        async with bff_house(chain=chain, aggregator=FakeAggregator(accepting(chain, updated=False))) as house:
            await with_transaction(house)
            response = await house.client.post("/v1/prices/BTC-USD/refresh")
            other = await house.client.post("/v1/prices/ETH-USD/refresh")
        body = problem_document(response)
        assert (response.status_code, body["code"], body["attempt"]) == (503, "feed_not_updated", ATTEMPT)
        assert body["last"] == BTC_LAST
        assert body["detail"] == "round 8 was accepted, but left BTC/USD alone: too few reporters had a price for it"
        assert (other.status_code, other.json()["price"]) == (200, "4000.02")

    @pytest.mark.parametrize(
        ("told", "code", "detail"),
        [
            (
                {"feeds_without_answer": {"BTC/USD": "2 contributors, 3 are needed"}},
                "feed_not_updated",
                "round 8 was accepted, but left BTC/USD alone: 2 contributors, 3 are needed",
            ),
            (
                {"held": {"BTC/USD": "+3854 bps from the standing 71234.56, 1000 at most"}},
                "answer_held",
                "round 8 was accepted, but the breaker holds the answer for BTC/USD: +3854 bps from the standing "
                "71234.56, 1000 at most",
            ),
        ],
    )
    async def test_an_accepted_round_without_a_new_answer_says_why(self, told, code, detail):
        chain = FakeChain()
        async with bff_house(chain=chain, aggregator=FakeAggregator(accepting(chain, updated=False, **told))) as house:
            await with_transaction(house)
            body = problem_document(await house.client.post("/v1/prices/BTC-USD/refresh"))
        assert (body["status"], body["code"], body["detail"]) == (503, code, detail)
        assert body["last"] == BTC_LAST

    async def test_an_attempt_that_takes_too_long(self):
        def on_refresh(_request):
            return ended("collecting", status=202, moment=NOW_MS)

        async with bff_house(aggregator=FakeAggregator(on_refresh)) as house:
            await with_transaction(house)
            response = await house.client.post("/v1/prices/BTC-USD/refresh")
        body = problem_document(response)
        assert (response.status_code, body["code"], body["attempt"]) == (504, "refresh_timeout", ATTEMPT)
        assert body["last"] == BTC_LAST
        assert body["detail"] == (
            f"attempt {ATTEMPT} has not ended within 10000 ms; it goes on: see /v1/attempts/{ATTEMPT}"
        )

    async def test_a_node_that_never_shows_the_round(self):
        def on_refresh(_request):
            return ended("accepted", round=8, moment=NOW_MS)

        async with bff_house(aggregator=FakeAggregator(on_refresh), refresh_timeout_ms=200) as house:
            started = time.perf_counter()
            response = await house.client.post("/v1/prices/BTC-USD/refresh")
            took = time.perf_counter() - started
        body = problem_document(response)
        assert (response.status_code, body["code"], body["attempt"]) == (504, "refresh_timeout", ATTEMPT)
        assert body["detail"] == "round 8 was accepted, but our node does not show it within 200 ms"
        assert 0.15 < took < 5

    async def test_a_node_that_fails_after_the_round(self):
        chain = FakeChain()

        def on_refresh(_request):
            chain.down = True
            return ended("accepted", round=8, moment=NOW_MS)

        async with bff_house(chain=chain, aggregator=FakeAggregator(on_refresh)) as house:
            response = await house.client.post("/v1/prices/BTC-USD/refresh")
        body = problem_document(response)
        assert (response.status_code, body["code"], body["attempt"]) == (503, "chain_unavailable", ATTEMPT)
        assert body["last"]["price"] == "71234.56000000"

    async def test_the_aggregator_is_down(self):
        async with bff_house(aggregator=FakeAggregator(down=True)) as house:
            await with_transaction(house)
            response = await house.client.post("/v1/prices/BTC-USD/refresh")
        body = problem_document(response)
        assert (response.status_code, body["code"], body["attempt"]) == (503, "aggregator_unavailable", None)
        assert body["last"] == BTC_LAST

    async def test_the_aggregator_hangs(self):
        async with bff_house(aggregator=FakeAggregator(hangs=True), refresh_timeout_ms=100) as house:
            started = time.perf_counter()
            response = await house.client.post("/v1/prices/BTC-USD/refresh")
            took = time.perf_counter() - started
        assert (response.status_code, problem_document(response)["code"]) == (503, "aggregator_unavailable")
        assert took < 5

    @pytest.mark.parametrize(
        ("reply", "says"),
        [
            (problem(500, "internal", "a bug"), "answered 500 (internal: a bug)"),
            (problem(404, "unknown_group", "no such group"), "answered 404 (unknown_group: no such group)"),
            (httpx.Response(200, text="<html>"), "the aggregator's answer cannot be read"),
            (httpx.Response(200, json={"state": "accepted"}), "missing required field `id`"),
            (httpx.Response(307, headers={"location": "http://elsewhere/"}), "answered 307 (no problem document)"),
        ],
    )
    async def test_an_aggregator_that_answers_nonsense_is_as_good_as_down(self, reply, says):
        async with bff_house(aggregator=FakeAggregator(lambda _request: reply)) as house:
            response = await house.client.post("/v1/prices/BTC-USD/refresh")
        body = problem_document(response)
        assert (response.status_code, body["code"]) == (503, "aggregator_unavailable")
        assert says in body["detail"]

    async def test_a_wrong_token_says_what_to_do(self):
        async with bff_house(token="another") as house:
            response = await house.client.post("/v1/prices/BTC-USD/refresh")
        assert problem_document(response)["detail"] == (
            "the aggregator at http://127.0.0.1:8001 refuses our token: give both services the same one"
        )

    async def test_an_unknown_pair_never_reaches_the_aggregator(self):
        async with bff_house() as house:
            response = await house.client.post("/v1/prices/XRP-USD/refresh")
        assert (response.status_code, problem_document(response)["code"]) == (404, "unknown_pair")
        assert house.aggregator.asked == []


UPDATE = (
    '{"group":"majors","mode":"test","chain_id":31337,"to":"0x5FbDB2315678afecb367f032d93F642f64180aa3",'
    '"function":"submitIfNewer","calldata":"0x01","previous_moment":0,"moment":10,"feeds":["BTC/USD"],'
    '"answers":{"BTC/USD":"1.10"},"reports":[],"hints":"0x00"}'
)


PROOFS = (
    '{"group":"majors","round":7,"moment":1,"mode":"test","chain_id":31337,"contract":"0x5F",'
    '"leaf_types":["bytes32"],"roots":[{"reporter":"0x01","root":"0x02"}],"quotes":[{"reporter":"0x01",'
    '"fetcher":"f","feed":"BTC/USD","source":"kraken","pair":"BTC/USD","price":"1.5","scaled_price":"15",'
    '"source_time_ms":null,"received_ms":3,"leaf":"0x04","proof":["0x05"]}],"not_kept":[]}'
)


FAILED = (
    f'{{"id":"{ATTEMPT}","group":"majors","mode":"test","cause":"request","state":"failed","code":"no_quorum",'
    '"detail":"2 of 3 reports","moment":1,"started_ms":2,"ended_ms":3,"round":null,"transaction":null,"block":null,'
    '"answers":{"BTC/USD":"1.10"},"confidence":{},"feeds_without_answer":{"ETH/USD":"no_reports"},"total_ms":1.5}'
)


class TestEvidence:
    RECORD = (
        '{"id":"0193f6a0c1b74e0f9d3c5a7b1e2d4f60","group":"majors","moment":1,"mode":"test",'
        '"state":"accepted","answers":{"BTC/USD":{"price":"1.10"}}}'
    )

    @pytest.mark.parametrize("path", [f"/v1/attempts/{ATTEMPT}", "/v1/groups/majors/rounds/7"])
    async def test_a_record_passes_byte_for_byte(self, path):
        records = {path: httpx.Response(200, text=self.RECORD)}
        async with bff_house(aggregator=FakeAggregator(records=records)) as house:
            response = await house.client.get(path.replace("majors", "Majors").replace("0193f6a0", "0193F6A0"))
        assert (response.status_code, response.text) == (200, self.RECORD)
        assert response.headers["content-type"] == "application/json"
        Attempt.model_validate_json(response.content)

    @pytest.mark.parametrize(
        ("path", "code"),
        [
            ("/v1/attempts/" + "9" * 32, "unknown_attempt"),
            ("/v1/groups/majors/rounds/9", "unknown_round"),
            ("/v1/groups/majors/rounds/9/evidence?feed=BTC-USD", "unknown_round"),
            ("/v1/groups/majors/update", "no_update"),
            ("/v1/groups/majors/attempts", "unknown_group"),
        ],
    )
    async def test_a_record_that_is_not_kept(self, path, code):
        async with bff_house() as house:
            response = await house.client.get(path)
        body = problem_document(response)
        assert (response.status_code, body["code"], body["detail"]) == (404, code, "no such record is kept")

    async def test_a_groups_newest_attempts_pass_byte_for_byte(self):
        body = f"[{FAILED}]".encode()
        house_with = FakeAggregator(records={"/v1/groups/majors/attempts": httpx.Response(200, content=body)})
        async with bff_house(aggregator=house_with) as house:
            response = await house.client.get("/v1/groups/Majors/attempts?limit=3")
            unasked = await house.client.get("/v1/groups/majors/attempts")
        assert (response.status_code, response.content) == (200, body)
        assert response.headers["cache-control"] == unasked.headers["cache-control"] == "no-cache"
        assert [request.url.params["limit"] for request in house_with.asked[-2:]] == ["3", "20"]
        AttemptSummary.model_validate_json(FAILED)

    async def test_proofs_of_equivocation_pass_byte_for_byte(self):
        body = b'[{"signer":"0xaa","first":{},"second":{}}]'
        house_with = FakeAggregator(records={"/v1/equivocations": httpx.Response(200, content=body)})
        async with bff_house(aggregator=house_with) as house:
            response = await house.client.get("/v1/equivocations?limit=5")
            too_many = await house.client.get("/v1/equivocations?limit=5000")
        assert (response.status_code, response.content) == (200, body)
        assert house_with.asked[-1].url.params["limit"] == "5"
        assert too_many.status_code == 422

    async def test_proofs_pass_byte_for_byte_for_the_feed_that_was_asked_for(self):
        path = "/v1/groups/majors/rounds/7/evidence"
        records = {path: httpx.Response(200, text=PROOFS)}
        async with bff_house(aggregator=FakeAggregator(records=records)) as house:
            response = await house.client.get(f"{path}?feed=btc-usd")
        assert (response.status_code, response.text) == (200, PROOFS)
        assert dict(house.aggregator.asked[-1].url.params) == {"feed": "btc-usd"}
        Evidence.model_validate_json(response.content)

    async def test_a_signed_update_passes_byte_for_byte_and_is_not_cached(self):
        path = "/v1/groups/majors/update"
        records = {path: httpx.Response(200, text=UPDATE)}
        async with bff_house(aggregator=FakeAggregator(records=records)) as house:
            response = await house.client.get(path)
        assert (response.status_code, response.text) == (200, UPDATE)
        assert response.headers["cache-control"] == "no-store"
        Update.model_validate_json(response.content)

    @pytest.mark.parametrize(
        "path",
        [
            f"/v1/attempts/{ATTEMPT}",
            "/v1/groups/majors/attempts",
            "/v1/groups/majors/rounds/7",
            "/v1/groups/majors/update",
        ],
    )
    async def test_the_aggregator_is_down(self, path):
        async with bff_house(aggregator=FakeAggregator(down=True)) as house:
            response = await house.client.get(path)
        assert (response.status_code, problem_document(response)["code"]) == (503, "aggregator_unavailable")

    @pytest.mark.parametrize("path", ["/v1/groups/minors/rounds/7", "/v1/groups/minors/attempts"])
    async def test_an_unknown_group_names_the_known_ones(self, path):
        async with bff_house() as house:
            response = await house.client.get(path)
        body = problem_document(response)
        assert (response.status_code, body["code"], body["known"]) == (404, "unknown_group", ["majors"])
        assert house.aggregator.asked == []

    @pytest.mark.parametrize(
        "path",
        [
            "/v1/attempts/a1",
            "/v1/attempts/" + "g" * 32,
            "/v1/attempts/" + "a" * 33,
            "/v1/groups/majors/attempts?limit=0",
            "/v1/groups/majors/attempts?limit=51",
            "/v1/groups/majors/attempts?limit=all",
            "/v1/groups/majors/rounds/0",
            "/v1/groups/majors/rounds/x",
            "/v1/groups/majors/rounds/-1",
            f"/v1/groups/majors/rounds/{2**64}",
            "/v1/groups/majors/rounds/7/evidence",
            "/v1/groups/majors/rounds/7/evidence?feed=BTC/USD",
            "/v1/groups/majors/rounds/7/evidence?feed=..",
        ],
    )
    async def test_bad_input_is_422_and_never_reaches_the_aggregator(self, path):
        async with bff_house() as house:
            response = await house.client.get(path)
        assert (response.status_code, problem_document(response)["code"]) == (422, "invalid_request")
        assert house.aggregator.asked == []


class TestEdge:
    async def test_a_large_body_is_refused_before_anything_happens(self):
        async def dripping():
            for _ in range(17):
                yield b"x" * 1_024

        async with bff_house() as house:
            declared = await house.client.post("/v1/prices/BTC-USD/refresh", content=b"x" * 16_385)
            chunked = await house.client.post("/v1/prices/BTC-USD/refresh", content=dripping())
        for response in (declared, chunked):
            assert (response.status_code, problem_document(response)["code"]) == (413, "body_too_large")
        assert house.aggregator.asked == []

    async def test_a_small_body_is_ignored(self):
        chain = FakeChain()
        async with bff_house(chain=chain, aggregator=FakeAggregator(accepting(chain))) as house:
            response = await house.client.post("/v1/prices/BTC-USD/refresh", content=b"x" * 16_384)
        assert response.status_code == 200

    async def test_a_long_url_is_refused(self):
        async with bff_house() as house:
            response = await house.client.get("/v1/prices?q=" + "x" * 5_000)
        assert (response.status_code, problem_document(response)["code"]) == (414, "url_too_long")

    async def test_a_request_keeps_its_id_or_gets_one(self):
        async with bff_house() as house:
            kept = await house.client.get("/v1/feeds", headers={"X-Request-Id": "abc.DEF-1_2"})
            replaced = await house.client.get("/v1/feeds", headers={"X-Request-Id": "a b\t{}"})
        assert kept.headers["x-request-id"] == "abc.DEF-1_2"
        assert len(replaced.headers["x-request-id"]) == 32

    @pytest.mark.parametrize("origin", ["http://localhost:3000", "https://127.0.0.1", "http://[::1]:5173"])
    async def test_pages_on_this_machine_may_ask(self, origin):
        async with bff_house() as house:
            response = await house.client.get("/v1/prices/XRP-USD", headers={"Origin": origin})
            preflight = await house.client.options(
                "/v1/prices/BTC-USD/refresh", headers={"Origin": origin, "Access-Control-Request-Method": "POST"}
            )
        assert response.headers["access-control-allow-origin"] == origin
        assert (preflight.status_code, preflight.headers["access-control-allow-origin"]) == (200, origin)

    @pytest.mark.parametrize("origin", ["https://example.com", "http://localhost.example.com", "null"])
    async def test_pages_elsewhere_may_not(self, origin):
        async with bff_house() as house:
            response = await house.client.get("/v1/feeds", headers={"Origin": origin})
        assert "access-control-allow-origin" not in response.headers

    async def test_requests_are_counted_by_route_and_never_by_path(self):
        async with bff_house() as house:
            for path in ("/v1/prices/BTC-USD", "/v1/prices/XRP-USD", "/nowhere/1", "/nowhere/2"):
                await house.client.get(path)
            metrics = (await house.client.get("/metrics")).text
        assert 'fairmark_bff_requests_total{route="/v1/prices/{pair}",status="200"} 1.0' in metrics
        assert 'fairmark_bff_requests_total{route="/v1/prices/{pair}",status="404"} 1.0' in metrics
        assert 'fairmark_bff_requests_total{route="unmatched",status="404"} 2.0' in metrics
        assert "nowhere" not in metrics
        assert 'fairmark_bff_chain_reads_total{group="majors",outcome="taken"} 1.0' in metrics


class TestOpenApi:
    async def description(self):
        async with bff_house() as house:
            return (await house.client.get("/openapi.json")).json()

    async def test_every_problem_is_described_as_a_problem_document(self):
        paths = (await self.description())["paths"]
        described = {
            (method, path): sorted(status for status in operation["responses"] if status != "200")
            for path, operations in paths.items()
            for method, operation in operations.items()
            if path.startswith("/v1/")
        }
        assert described == {
            ("get", "/v1/prices/{pair}"): ["404", "422", "503"],
            ("get", "/v1/prices"): ["503"],
            ("post", "/v1/prices/{pair}/refresh"): ["404", "413", "422", "503", "504"],
            ("get", "/v1/feeds"): [],
            ("get", "/v1/attempts/{id}"): ["404", "422", "503"],
            ("get", "/v1/groups/{group}/attempts"): ["404", "422", "503"],
            ("get", "/v1/groups/{group}/rounds/{number}"): ["404", "422", "503"],
            ("get", "/v1/groups/{group}/rounds/{number}/evidence"): ["404", "422", "503"],
            ("get", "/v1/equivocations"): ["422", "503"],
            ("get", "/v1/groups/{group}/update"): ["404", "422", "503"],
            ("get", "/v1/signals"): ["503"],
            ("get", "/v1/signals/{signal}"): ["404", "422", "503"],
            ("get", "/v1/reporters"): ["503"],
        }
        for path, operations in paths.items():
            for operation in operations.values():
                assert operation["summary"]
                assert operation["tags"]
                for status, response in operation["responses"].items():
                    if path.startswith("/v1/"):
                        kind = "application/json" if status == "200" else "application/problem+json"
                        assert list(response["content"]) == [kind]

    async def test_every_reference_leads_somewhere_and_examples_fit_their_models(self):
        description = await self.description()
        assert description["openapi"].startswith("3.1")
        schemas = description["components"]["schemas"]

        def references(node):
            if isinstance(node, dict):
                if "$ref" in node:
                    yield node["$ref"]
                for value in node.values():
                    yield from references(value)
            elif isinstance(node, list):
                for value in node:
                    yield from references(value)

        for reference in references(description):
            assert reference.removeprefix("#/components/schemas/") in schemas
        for model in (Price, RefreshedPrice, Prices, Feeds):
            for example in schemas[model.__name__]["examples"]:
                model.model_validate(example)
