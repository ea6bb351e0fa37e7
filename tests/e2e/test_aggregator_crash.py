"""An aggregator killed between send and receipt: the next one finds out what happened, and sends nothing twice."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from contracts.report import LocalSigner
from tests.e2e.config import configuration
from tests.e2e.system import AGGREGATOR_KEY, System, wait_for

pytestmark = [pytest.mark.needs_rabbitmq, pytest.mark.needs_anvil]


@pytest.fixture
def system(tmp_path_factory: pytest.TempPathFactory, anvil_path: str, rabbitmq_url: str) -> Iterator[System]:
    running = System(
        tmp_path_factory.mktemp("crash"),
        anvil_path,
        rabbitmq_url,
        configuration(pairs=("BTC/USD", "USDT/USD", "USDC/USD")),
        FAIRMARK_AGGREGATOR__HEARTBEATS="false",
        FAIRMARK_AGGREGATOR__CONFIRM_TIMEOUT_MS="60000",
        FAIRMARK_CHAIN__SUBMISSION__REPLACE_AFTER_S="60",
        FAIRMARK_CHAIN__SUBMISSION__CONFIRMATIONS="1",
        FAIRMARK_CHAIN__SUBMISSION__WATCH_S="0.1",
    )
    try:
        running.start_chain()
        running.start_simulator()
        running.deploy()
        running.start_services()
        yield running
    finally:
        running.close()


def node(system: System, method: str, *params: object) -> Any:
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    return system.client.post(system.chain, json=body).json()["result"]


def asked(system: System, method: str, path: str) -> Any:
    headers = {"Authorization": f"Bearer {system.environ['FAIRMARK_AGGREGATOR__TOKEN']}"}
    return system.client.request(method, system.aggregator + path, headers=headers).json()


def waiting_for_a_block(system: System) -> dict[str, Any]:
    """A new attempt, whose transaction is sent and in no block."""
    attempt = asked(system, "POST", "/v1/groups/majors/refresh?wait_ms=0")["id"]
    return in_state(system, attempt, "confirming")


def in_state(system: System, attempt: str, state: str) -> dict[str, Any]:
    def found() -> Any:
        record = asked(system, "GET", f"/v1/attempts/{attempt}")
        return record if record["state"] == state else None

    record: dict[str, Any] = wait_for(f"the attempt is {state}", found)
    return record


def restart(system: System) -> None:
    system.fairmark("aggregator", "aggregator")
    system.ready("aggregator", system.aggregator)


def test_a_restart_finds_out_what_became_of_the_transaction(system: System) -> None:
    assert system.refresh("btc-usd").json()["round"] == 1
    node(system, "evm_setAutomine", False)
    before = waiting_for_a_block(system)
    system.kill("aggregator")
    node(system, "evm_mine")
    restart(system)
    after = asked(system, "GET", f"/v1/attempts/{before['id']}")
    assert (after["state"], after["round"], after["settled"]) == ("accepted", 2, True)
    assert after["transactions"] == [before["transaction"]] == [after["transaction"]]
    assert system.get("/v1/groups/majors/update").json()["moment"] == before["moment"]

    stuck = waiting_for_a_block(system)
    system.kill("aggregator")
    restart(system)
    given_up = asked(system, "GET", f"/v1/attempts/{stuck['id']}")
    assert (given_up["state"], given_up["code"]) == ("failed", "not_confirmed")
    following = waiting_for_a_block(system)
    node(system, "evm_mine")
    record = in_state(system, following["id"], "accepted")
    assert (record["round"], record["nonce"]) == (3, stuck["nonce"])  # it took the stuck one's place
    assert record["transaction"] != stuck["transaction"]

    lost = waiting_for_a_block(system)
    system.kill("aggregator")
    node(system, "anvil_dropTransaction", lost["transaction"])  # no node knows of it any more
    assert node(system, "eth_getTransactionByHash", lost["transaction"]) is None
    restart(system)
    assert (
        node(system, "eth_getTransactionByHash", lost["transaction"])["blockHash"] is None
    )  # the same bytes, sent again
    node(system, "evm_mine")
    found = in_state(system, lost["id"], "accepted")
    assert (found["round"], found["transactions"]) == (4, [lost["transaction"]])
    assert "raw" not in found  # a record is public
    sent = node(system, "eth_getTransactionCount", LocalSigner(AGGREGATOR_KEY).address, "latest")
    assert int(sent, 16) == 4
