"""The trader's median on chain: three generators, three strategies whose keys sign for the contract, each a process.

docs/reporters.md shows these commands. The group is strict only where a test says so.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import httpx
import pytest

from contracts.client import OracleClient
from contracts.deployments import read_record
from contracts.report import LocalSigner
from core.median import lower_median
from core.signals import SignalRange
from core.types import Mode
from signals.generator import number
from tests.e2e.config import configuration
from tests.e2e.system import System, free_port, wait_for

pytestmark = [pytest.mark.needs_rabbitmq, pytest.mark.needs_anvil]

PERIOD_S = 2
RANGE = SignalRange(decimals=4, minimum=Decimal("0.5"), maximum=Decimal(90))
SEEDS = {"gen-1": 11, "gen-2": 22, "gen-3": 33}
USES = {"alpha": ("gen-1", "gen-2"), "beta": ("gen-2", "gen-3"), "gamma": ("gen-1", "gen-3")}
RISK = f"""
[signals.risk]
decimals = 4
minimum = "0.5"
maximum = "90"
period_s = {PERIOD_S}
policy = "quorum"
[strategies.alpha]
[strategies.beta]
[strategies.gamma]
[groups.risk]
feeds = ["RISK/INDEX"]
f = 0
threshold = 2
"""
FEED = '[[feeds]]\npair = "RISK/INDEX"\nsignal = "risk"\n'


class Network(System):
    """A system whose only reporters that run are strategies."""

    def start_generator(self, name: str) -> None:
        port = str(self.ports.setdefault(name, free_port()))
        self.fairmark(name, "signal", "--port", port, "--name", name, "--seed", str(SEEDS[name]))

    def start_strategy(self, name: str) -> None:
        port = str(self.ports.setdefault(name, free_port()))
        signals = ",".join(f"127.0.0.1:{self.ports[each]}" for each in USES[name])
        self.fairmark(name, "strategy", "--name", name, "--signals", signals, "--port", port)

    def start_front(self) -> None:
        self.fairmark("aggregator", "aggregator")
        self.fairmark("bff", "bff")
        self.ready("aggregator", self.aggregator)
        self.ready("bff", self.bff)

    def refreshed(self, contributors: int) -> dict[str, Any]:
        """A new answer of so many strategies whose data is of one slot: on a busy machine one may be late."""

        def found() -> dict[str, Any] | None:
            with contextlib.suppress(httpx.HTTPError):
                response = self.refresh("RISK-INDEX")
                if response.status_code == 200 and response.json()["contributors"] == contributors:
                    price: dict[str, Any] = response.json()
                    record = self.get(f"/v1/attempts/{price['attempt']}").json()
                    times = {quote["source_time_ms"] for _, quote in included(record)}
                    return {**price, "record": record} if len(times) == 1 else None
            return None

        try:
            whole: dict[str, Any] = wait_for(f"an answer of {contributors}", found, pause_s=0.3)
        except AssertionError as error:
            logs = "\n".join(f"{name}: {self.log(name)[-1500:]}" for name in (*USES, "aggregator"))
            raise AssertionError(f"{error}: {self.refresh('RISK-INDEX').text}\n{logs}") from None
        return whole

    def on_chain(self) -> tuple[Decimal, int]:
        """The contract's answer and round."""

        async def read() -> tuple[Decimal, int]:
            record = read_record(self.folder / "deployments", 31337)
            assert record is not None
            client = await OracleClient.connect(self.chain, record, Mode.TEST)
            try:
                (answer,) = (await client.read_group("risk")).answers.values()
            finally:
                await client.close()
            return answer.price, answer.round

        return asyncio.run(read())


def included(record: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Each strategy that counted, and the one quote behind its report."""
    reports = [one for one in record["reports"] if one["verdict"] == "included"]
    assert all(len(one["quotes"]) == 1 for one in reports)
    return [(one["fetcher"], one["quotes"][0]) for one in reports]


def decisions(strategy: str, slot: int) -> set[Decimal]:
    """By hand: the mean of the generators' numbers. One of them may have begun the next slot already when it was asked:
    a decision is as old as its oldest number."""
    period = PERIOD_S * 1000
    first, second = ({at: number(SEEDS[each], at, RANGE) for at in (slot, slot + period)} for each in USES[strategy])
    pairs = [(slot, slot), (slot, slot + period), (slot + period, slot)]
    return {RANGE.checked((first[one] + second[other]) / 2) for one, other in pairs}


def check(network: Network, price: dict[str, Any]) -> None:
    """Each report is its strategy's decision, and the contract's answer their lower median, to the digit."""
    quotes = dict(included(price["record"]))
    assert all(quote["source_time_ms"] % (PERIOD_S * 1000) == 0 for quote in quotes.values())
    for name, quote in quotes.items():
        assert Decimal(quote["price"]) in decisions(name, quote["source_time_ms"])
    assert Decimal(price["price"]) == lower_median([Decimal(quote["price"]) for quote in quotes.values()])


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory, anvil_path: str) -> Iterator[Network]:
    from tests.conftest import RABBITMQ_URL

    running = Network(
        tmp_path_factory.mktemp("signal"),
        anvil_path,
        RABBITMQ_URL,
        configuration(pairs=("BTC/USD",), extra=RISK) + FEED,
        FAIRMARK_AGGREGATOR__HEARTBEATS="false",
    )
    running.reporters += USES
    try:
        running.start_chain()
        running.deploy()
        for name in SEEDS:
            running.start_generator(name)
        for name in USES:
            running.start_strategy(name)
        running.start_front()
        for name in USES:
            running.ready(name, f"http://127.0.0.1:{running.ports[name]}")
        yield running
    finally:
        running.close()


def test_the_contracts_answer_is_the_lower_median_of_the_strategies_decisions(network: Network) -> None:
    price = network.refreshed(3)
    check(network, price)
    assert network.on_chain() == (Decimal(price["price"]), price["round"])
    shown = network.get("/v1/prices/RISK-INDEX").json()
    assert (shown["price"], shown["status"], shown["troubles"]) == (price["price"], "ok", [])
    kept = network.folder / "data" / "strategies"
    keys = {name: LocalSigner((kept / f"{name}.key").read_text()).address for name in USES}
    assert {one["fetcher"]: one["signed"]["reporter"] for one in price["record"]["reports"]} == keys


def test_what_explains_and_verifies_prices_does_so_for_a_signal(network: Network) -> None:
    round_ = network.refreshed(3)["round"]
    tree = network.run("explain", "RISK/INDEX", "--round", str(round_), "--url", network.bff)
    assert tree.returncode == 0, tree.stderr
    for word in ("alpha RISK/INDEX", "lower median of", "signed by 0x", "transaction 0x"):
        assert word in tree.stdout, tree.stdout
    verified = network.run("verify", "RISK/INDEX", "--round", str(round_), "--url", network.bff)
    assert verified.returncode == 0, verified.stdout + verified.stderr


def test_the_strategies_of_a_killed_generator_give_no_price_until_its_return(network: Network) -> None:
    network.refreshed(3)
    before = network.on_chain()
    network.kill("gen-1")

    def refused() -> dict[str, Any] | None:
        response = network.refresh("RISK-INDEX")
        return response.json() if response.status_code == 503 else None

    problem = wait_for("no quorum", refused)
    assert problem["code"] == "no_quorum", problem
    record = network.get(f"/v1/attempts/{problem['attempt']}").json()
    failures = {one["fetcher"]: one["failures"] for one in record["refusals"]}
    assert set(failures) == {"alpha", "gamma"}
    for found in failures.values():
        assert [(one["code"], one["detail"].split()[0]) for one in found] == [("connection", "gen-1")]
    assert network.on_chain()[1] >= before[1]
    standing = network.on_chain()
    assert network.refresh("RISK-INDEX").status_code == 503
    assert network.on_chain() == standing
    health = network.client.get(f"http://127.0.0.1:{network.ports['alpha']}/health")
    assert health.status_code == 503
    assert "gen-1" in health.json()["dependencies"]["signals"]["detail"]
    network.start_generator("gen-1")
    check(network, network.refreshed(3))


def test_under_quorum_a_killed_strategy_leaves_it_to_the_others(network: Network) -> None:
    network.refreshed(3)
    network.kill("beta")
    price = network.refreshed(2)
    check(network, price)
    assert {name for name, _ in included(price["record"])} == {"alpha", "gamma"}
    network.start_strategy("beta")
    check(network, network.refreshed(3))


def test_under_strict_a_killed_strategy_stops_the_feed_until_its_return(network: Network) -> None:
    for name in ("bff", "aggregator", *USES):
        network.stop(name)
    network.environ["FAIRMARK_SIGNALS__RISK__POLICY"] = "strict"
    network.start_front()
    for name in USES:
        network.start_strategy(name)
    network.refreshed(3)
    network.kill("beta")
    response = network.refresh("RISK-INDEX")
    problem = response.json()
    assert (response.status_code, problem["code"]) == (503, "reporter_stopped"), response.text
    assert "beta reporter_stopped since" in problem["detail"]
    listed = network.run("reporters", "list", "--where", "prices")
    assert any(line.startswith("RISK/INDEX beta ") for line in listed.stdout.splitlines()), listed.stdout
    done = network.run("reporters", "deregister", "beta")
    assert done.returncode == 0, done.stderr
    check(network, network.refreshed(2))
    network.start_strategy("beta")
    check(network, network.refreshed(3))


def test_under_strict_a_strategy_without_a_decision_stops_the_feed_and_says_why(network: Network) -> None:
    network.refreshed(3)
    network.kill("gen-1")

    def in_error() -> dict[str, Any] | None:
        network.refresh("RISK-INDEX")
        price: dict[str, Any] = network.get("/v1/prices/RISK-INDEX").json()
        return price if price["status"] == "error" else None

    price = wait_for("the feed in error", in_error, timeout_s=60)
    said = {one["reporter"]: (one["code"], one["detail"]) for one in price["troubles"] if one["reporter"] in USES}
    assert set(said) == {"alpha", "gamma"}
    for code, detail in said.values():
        assert code == "no_price"
        assert f"connection: gen-1 (127.0.0.1:{network.ports['gen-1']})" in detail, detail
    network.start_generator("gen-1")
    check(network, network.refreshed(3))


def test_under_strict_a_strategy_that_is_stopped_is_missed_by_nobody(network: Network) -> None:
    network.refreshed(3)
    assert network.stop("gamma") == 0, network.log("gamma")
    check(network, network.refreshed(2))
