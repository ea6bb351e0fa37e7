"""A strict price feed as separate processes: a fetcher that crashes stops its rounds, one that is stopped does not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.config import configuration
from tests.e2e.system import System, wait_for

pytestmark = [pytest.mark.needs_rabbitmq, pytest.mark.needs_anvil]


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory, anvil_path: str) -> Iterator[System]:
    from tests.conftest import RABBITMQ_URL

    running = System(
        tmp_path_factory.mktemp("strict"),
        anvil_path,
        RABBITMQ_URL,
        configuration(pairs=("BTC/USD", "USDT/USD", "USDC/USD"), feed_rules='policy = "strict"'),
        FAIRMARK_AGGREGATOR__HEARTBEATS="false",
        FAIRMARK_SIMULATOR__VOLATILITY_BPS="0",
    )
    try:
        running.start_chain()
        running.start_simulator()
        running.deploy()
        running.start_services()
        yield running
    finally:
        running.close()


def refreshed(system: System) -> Any:
    response = system.refresh("BTC-USD")
    return response.json() if response.status_code == 200 else None


def test_a_crash_stops_the_rounds_and_names_the_fetcher_until_an_operator_or_its_return_ends_that(
    system: System,
) -> None:
    wait_for("a first round of all four", lambda: (refreshed(system) or {}).get("contributors") == 4)
    system.kill("fetcher-b")
    response = system.refresh("BTC-USD")
    problem = response.json()
    assert (response.status_code, problem["code"]) == (503, "reporter_stopped"), response.text
    assert "fetcher-b reporter_stopped since" in problem["detail"]
    price = wait_for("the error beside the price", lambda: _in_error(system))
    assert [(one["reporter"], one["code"]) for one in price["troubles"]] == [("fetcher-b", "reporter_stopped")]
    assert price["stale"] is True
    listed = system.run("reporters", "list", "--where", "prices")
    assert listed.returncode == 0, listed.stderr
    assert any(
        line.startswith("BTC/USD fetcher-b ") and " stopped since " in line for line in listed.stdout.splitlines()
    )

    done = system.run("reporters", "deregister", "fetcher-b")
    assert done.returncode == 0, done.stderr
    assert "BTC/USD fetcher-b " in done.stdout
    assert refreshed(system)["contributors"] == 3

    system.fairmark("fetcher-b", "fetcher", "--name", "fetcher-b")
    system.ready("fetcher-b", f"http://127.0.0.1:{system.ports['fetcher-b']}")
    wait_for("its return", lambda: (refreshed(system) or {}).get("contributors") == 4)


def test_a_stop_on_purpose_is_no_error(system: System) -> None:
    assert system.stop("fetcher-c") == 0, system.log("fetcher-c")
    assert wait_for("rounds of three", lambda: refreshed(system))["contributors"] == 3
    price = system.get("/v1/prices/BTC-USD").json()
    assert (price["stale"], price["troubles"]) == (False, [])
    assert price["status"] in ("ok", "degraded")  # three of four stand behind it


def _in_error(system: System) -> Any:
    price = system.get("/v1/prices/BTC-USD").json()
    return price if price["status"] == "error" else None
