"""Fetchers that are killed, stopped or mistaken about the time in the middle of a round, as processes of their own."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.config import configuration
from tests.e2e.system import DEADLINE_MS, System, free_port, wait_for

pytestmark = [pytest.mark.needs_rabbitmq, pytest.mark.needs_anvil]


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory, anvil_path: str) -> Iterator[System]:
    from tests.conftest import RABBITMQ_URL

    running = System(
        tmp_path_factory.mktemp("killed"),
        anvil_path,
        RABBITMQ_URL,
        configuration(pairs=("BTC/USD", "USDT/USD", "USDC/USD")),
        FAIRMARK_AGGREGATOR__HEARTBEATS="false",
        FAIRMARK_STREAMS__ENABLED="false",  # a job that asks nobody is over before anything can be killed in it
    )
    try:
        running.start_chain()
        running.start_simulator()
        running.deploy()
        running.start_services()
        yield running
    finally:
        running.close()


class Refresh:
    """A refresh under way."""

    def __init__(self, system: System) -> None:
        self._system = system
        self.answer: Any = None
        self._thread = threading.Thread(target=self._ask)
        self._thread.start()

    def _ask(self) -> None:
        self.answer = self._system.refresh("btc-usd")

    def record(self) -> dict[str, Any]:
        self._thread.join(20)
        assert self.answer is not None
        body = self.answer.json()
        assert self.answer.status_code == 200, (body, self._system.log("aggregator"))
        record: dict[str, Any] = self._system.get(f"/v1/attempts/{body['attempt']}").json()
        return record

    def answered_within(self, seconds: float) -> bool:
        self._thread.join(seconds)
        return not self._thread.is_alive()


def included(record: dict[str, Any]) -> dict[str, str]:
    """By fetcher, the instance whose report counted."""
    return {one["fetcher"]: one["instance"] for one in record["reports"] if one["verdict"] == "included"}


def start(system: System, process: str, fetcher: str, **environ: str) -> str:
    """Another process for a fetcher; the address of its endpoints."""
    port = free_port()
    prefix = f"FAIRMARK_FETCHERS__{fetcher.upper().replace('-', '_')}__"
    command = [sys.executable, "-m", "fairmark", "fetcher", "--name", fetcher, "--config", str(system.config)]
    system.spawn(process, command, {prefix + "PORT": str(port), **environ})
    return f"http://127.0.0.1:{port}"


def test_an_instance_killed_in_the_middle_of_a_job_costs_nothing_where_another_runs(system: System) -> None:
    system.kill("fetcher-d")  # so that every one of the other three is needed
    system.ready("twin", start(system, "twin", "fetcher-a"))
    twin = system.processes["twin"]
    twin.send_signal(signal.SIGSTOP)  # it takes jobs, and does nothing with them
    for _ in range(4):
        refresh = Refresh(system)
        if not refresh.answered_within(0.3 * DEADLINE_MS / 1000):
            break  # the twin has this one
        assert set(included(refresh.record())) == {"fetcher-a", "fetcher-b", "fetcher-c"}
    else:
        pytest.fail("no job came to the second instance")
    system.kill("twin")
    record = refresh.record()
    assert set(included(record)) == {"fetcher-a", "fetcher-b", "fetcher-c"}
    assert record["timings_ms"]["collect"] <= DEADLINE_MS


def test_an_instance_that_is_stopped_finishes_the_job_in_hand(system: System) -> None:
    fault = {"kind": "delay", "ms": 700}
    for venue in ("kraken", "okx", "bitstamp", "kucoin", "gate", "gemini", "binance"):
        system.client.put(f"{system.simulator}/faults/{venue}", json=fault).raise_for_status()
    try:
        refresh = Refresh(system)
        time.sleep(0.35)
        assert system.stop("fetcher-b") == 0, system.log("fetcher-b")
        assert "fetcher-b" in included(refresh.record())
    finally:
        system.client.delete(f"{system.simulator}/faults").raise_for_status()
    system.ready("fetcher-b", start(system, "fetcher-b", "fetcher-b"))


def test_a_fetcher_with_a_wrong_clock_says_so_and_does_not_sign(system: System) -> None:
    url = start(system, "fetcher-d", "fetcher-d", FAIRMARK_CLOCK_OFFSET_MS="2700")

    def unwell() -> Any:
        clock = system.client.get(f"{url}/health").json()["dependencies"].get("clock", {})
        return clock if clock.get("status") == "down" else None

    system.ready("fetcher-d", url)
    clock = wait_for("the clock shows in /health", unwell)
    assert "ahead by the median of" in clock["detail"], clock
    record = Refresh(system).record()
    assert set(included(record)) == {"fetcher-a", "fetcher-b", "fetcher-c"}
    refusals = {one["fetcher"]: one["code"] for one in record["refusals"]}
    assert refusals == {"fetcher-d": "clock_off"}
    metrics = system.client.get(f"{url}/metrics").text
    (offset,) = [line for line in metrics.splitlines() if line.startswith("fairmark_fetchers_clock_offset_ms ")]
    assert -4_000 < float(offset.split()[1]) < -2_000
    assert '"event": "clock_off"' in system.log("fetcher-d")
