"""The whole path as separate processes, over RabbitMQ and an EVM node, in test mode."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from decimal import Decimal
from statistics import median_low
from typing import Any

import pytest

from contracts.client import OracleClient
from contracts.deployments import read_record
from core.types import Mode, Pair
from tests.e2e.config import PAIRS, configuration
from tests.e2e.system import DEADLINE_MS, FETCHER_KEYS, System, wait_for

pytestmark = [pytest.mark.needs_rabbitmq, pytest.mark.needs_anvil]

STALE_AFTER_S = 8


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory, anvil_path: str) -> Iterator[System]:
    from tests.conftest import RABBITMQ_URL

    running = System(
        tmp_path_factory.mktemp("processes"),
        anvil_path,
        RABBITMQ_URL,
        configuration(heartbeat_s=STALE_AFTER_S // 2, max_age_s=STALE_AFTER_S // 2),
        FAIRMARK_AGGREGATOR__HEARTBEATS="false",
        FAIRMARK_SIMULATOR__VOLATILITY_BPS="0",
        FAIRMARK_STREAMS__ENABLED="false",  # faults of requests: see tests/chaos for those of streams
    )
    try:
        running.start_chain()
        running.start_simulator()
        running.deploy()
        running.start_services()
        yield running
    finally:
        running.close()


def on_chain(system: System) -> dict[str, tuple[int, int, int]]:
    """(value, round, contributors) by pair, read from the contract by a client of our own."""

    async def read() -> dict[str, tuple[int, int, int]]:
        record = read_record(system.folder / "deployments", 31337)
        assert record is not None
        client = await OracleClient.connect(system.chain, record, Mode.TEST)
        try:
            reading = await client.read_group("majors")
        finally:
            await client.close()
        return {str(pair): (a.value, a.round, a.contributors) for pair, a in reading.answers.items()}

    return asyncio.run(read())


def derived(system: System, record: dict[str, Any], pair: str) -> int:
    """The group's median of `pair`, from what the simulator says it served, by plain arithmetic of this test's own.

    Which sources each reporter used comes from the record; every price must be one that the simulator served.
    """
    served = {
        (tick["venue"], tick["pair"], Decimal(tick["last"]))
        for tick in system.client.get(f"{system.simulator}/served").json()["served"]
        if tick["last"] is not None
    }
    base = Pair(pair).base
    reported = []
    for report in record["reports"]:
        if report["verdict"] != "included":
            continue
        used = [(quote["source"], quote["pair"], Decimal(quote["last"])) for quote in report["quotes"]]
        assert set(used) <= served
        usdt = median_low([last for _, market, last in used if market == "USDT/USD"])
        usdc_quotes = [
            last if market == "USDC/USD" else last * usdt
            for _, market, last in used
            if market in ("USDC/USD", "USDC/USDT")
        ]
        rates = {"USD": Decimal(1), "USDT": usdt, "USDC": median_low(usdc_quotes)}
        prices = [last * rates[market.split("/")[1]] for _, market, last in used if market.split("/")[0] == base]
        reported.append(int((median_low(prices) * 10**8).to_integral_value()))
    return median_low(reported)


def test_the_price_is_the_median_of_what_was_served_on_chain_and_in_the_bff(system: System) -> None:
    response = system.refresh("BTC-USD")
    assert response.status_code == 200, response.text
    price = response.json()
    record = system.get(f"/v1/attempts/{price['attempt']}").json()
    assert record["state"] == "accepted"
    assert record["transaction"] == price["transaction"]
    chain = on_chain(system)
    everything = {each["pair"]: each for each in system.get("/v1/prices").json()["prices"]}
    assert set(everything) == set(PAIRS)
    for pair in PAIRS:
        value, round_, contributors = chain[pair]
        assert value == derived(system, record, pair), pair
        shown = everything[pair]
        assert Decimal(shown["price"]) * 10**8 == value
        assert (shown["round"], shown["contributors"]) == (round_, contributors)
        assert (shown["mode"], shown["stale"]) == ("test", False)
    assert everything["BTC/USD"]["price"] == price["price"]
    by_round = system.get(f"/v1/groups/majors/rounds/{price['round']}").json()
    assert by_round["id"] == price["attempt"]
    listed = system.get("/v1/groups/majors/attempts?limit=50").json()
    assert price["attempt"] in [each["id"] for each in listed]
    assert [each["started_ms"] for each in listed] == sorted((each["started_ms"] for each in listed), reverse=True)
    assert all(len(report["signed"]["signature"]) == 130 for report in by_round["reports"])


def test_every_process_shows_its_health_and_metrics(system: System) -> None:
    for name in (*FETCHER_KEYS, "aggregator", "bff", "simulator"):
        url = f"http://127.0.0.1:{system.ports[name]}"
        assert system.client.get(f"{url}/live").json()["mode"] == "test"
        health = system.client.get(f"{url}/health")
        assert (health.status_code, health.json()["status"]) == (200, "up"), health.text
        assert "fairmark_build_info" in system.client.get(f"{url}/metrics").text


def test_the_command_line_tells_the_price_and_its_derivation(system: System) -> None:
    shown = system.run("price", "BTC/USD", "--url", system.bff)
    assert shown.returncode == 0
    assert "BTC/USD" in shown.stdout
    tree = system.run("explain", "ETH/USD", "--url", system.bff)
    assert tree.returncode == 0, tree.stderr
    for word in ("lower median of", "fetcher-a", "kraken ETH/USD", "transaction 0x", "signed by 0x"):
        assert word in tree.stdout, tree.stdout
    assert "since round" not in tree.stdout, tree.stdout
    checked = system.run("sources", "check", "kraken")

    assert "kraken" in checked.stdout
    assert checked.returncode == 0, checked.stdout


def test_a_fault_of_a_source_is_a_coded_failure_and_the_answer_still_comes(system: System) -> None:
    system.client.put(f"{system.simulator}/faults/kraken", json={"kind": "outlier", "factor": "10"}).raise_for_status()
    system.client.put(f"{system.simulator}/faults/bitstamp", json={"kind": "refused"}).raise_for_status()
    try:
        response = system.refresh("BTC-USD")
        assert response.status_code == 200, response.text
        record = system.get(f"/v1/attempts/{response.json()['attempt']}").json()
        failures = {
            (failure["source"], failure["pair"]): failure["code"]
            for report in record["reports"]
            for failure in report["failures"]
        }
        assert failures["kraken", "BTC/USD"] in ("out_of_range", "outlier", "jump")
        assert failures["bitstamp", "BTC/USD"] == "connection"
        assert Decimal(response.json()["price"]) * 10**8 == derived(system, record, "BTC/USD")
    finally:
        system.client.delete(f"{system.simulator}/faults").raise_for_status()


def test_a_hanging_source_never_delays_an_answer_past_the_deadline(system: System) -> None:
    system.client.put(f"{system.simulator}/faults/coinbase", json={"kind": "hang"}).raise_for_status()
    try:
        response = system.refresh("BTC-USD")
        assert response.status_code == 200, response.text
        record = system.get(f"/v1/attempts/{response.json()['attempt']}").json()
        assert record["timings_ms"]["collect"] <= DEADLINE_MS
    finally:
        system.client.delete(f"{system.simulator}/faults").raise_for_status()


def test_any_one_fetcher_can_be_killed_and_rounds_go_on(system: System) -> None:
    system.kill("fetcher-b")
    time.sleep(1.2)  # a refresh joins an attempt whose moment is up to a second older: one with all four
    response = system.refresh("ETH-USD")
    assert response.status_code == 200, response.text
    assert response.json()["contributors"] == 3
    record = system.get(f"/v1/attempts/{response.json()['attempt']}").json()
    assert {report["fetcher"] for report in record["reports"]} == {"fetcher-a", "fetcher-c", "fetcher-d"}


def test_unknown_pairs_and_bad_input_are_problem_documents(system: System) -> None:
    unknown = system.get("/v1/prices/XRP-USD")
    assert (unknown.status_code, unknown.headers["content-type"]) == (404, "application/problem+json")
    assert "BTC/USD" in unknown.text
    assert system.get("/v1/prices/BTC-").status_code in (404, 422)
    assert system.get("/v1/attempts/ffffffffffffffffffffffffffffffff").status_code == 404


def test_with_all_fetchers_stopped_the_refresh_is_refused_and_the_price_turns_stale(system: System) -> None:
    before = system.get("/v1/prices/BTC-USD").json()
    for name in ("fetcher-a", "fetcher-c", "fetcher-d"):
        assert system.stop(name) == 0, system.log(name)
    response = system.refresh("BTC-USD")
    problem = response.json()
    assert (response.status_code, problem["code"]) == (503, "no_quorum"), response.text
    assert problem["last"]["price"] == before["price"]
    shown = system.run("explain", "BTC/USD", "--url", system.bff)
    assert shown.returncode == 0, shown.stderr
    said, command = shown.stdout.splitlines()[-2:]
    assert said.startswith("since round ") and f": no_quorum, {problem['detail']}" in said, shown.stdout
    assert command == f"  fairmark explain BTC/USD --attempt {problem['attempt']}"
    tree = system.run(*command.split()[1:], "--url", system.bff)
    assert tree.stdout.startswith("BTC/USD no answer: "), tree.stdout + tree.stderr
    listed = system.run("explain", "BTC/USD", "--attempts", "--url", system.bff).stdout.splitlines()
    assert listed[0].split()[0] == problem["attempt"]
    assert listed[0].endswith("  request    failed no_quorum")
    assert any(line.endswith(f" accepted round {before['round']}") for line in listed)

    def stale() -> Any:
        price = system.get("/v1/prices/BTC-USD").json()
        return price if price["stale"] else None

    price = wait_for("stale", stale, STALE_AFTER_S + 120)
    assert price["price"] == before["price"]
    assert price["age_seconds"] >= STALE_AFTER_S / 2


def test_with_the_aggregator_down_reads_go_on_and_refreshes_say_so(system: System) -> None:
    assert system.stop("aggregator") == 0, system.log("aggregator")
    assert system.get("/v1/prices/BTC-USD").status_code == 200
    response = system.refresh("BTC-USD")
    assert (response.status_code, response.json()["code"]) == (503, "aggregator_unavailable")


def test_every_service_stops_cleanly(system: System) -> None:
    assert system.stop("bff") == 0, system.log("bff")
    assert system.stop("simulator") == 0, system.log("simulator")
