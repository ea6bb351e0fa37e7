"""Two aggregators as processes of their own, and kill -9 for the one that leads: nobody who asks notices."""

from __future__ import annotations

import re
import sys
import threading
import time
from collections.abc import Iterator

import httpx
import pytest

from tests.e2e.config import configuration
from tests.e2e.system import System, free_port, wait_for
from tests.support.databases import own_database_sync

pytestmark = [pytest.mark.needs_rabbitmq, pytest.mark.needs_anvil, pytest.mark.needs_postgres]

SECOND_KEY = "0x92db14e403b83dfe3df233f83dfa3a0d7096f21ca9b0d6d6b8d88b2b4ec1564e"  # anvil's account 6
HEARTBEAT_S = 4


class Pair(System):
    """A system with two aggregators, and a BFF that knows both."""

    second = ""

    def start(self, name: str) -> None:
        environ = self.own if name == "aggregator-2" else {}
        command = [sys.executable, "-m", "fairmark", "aggregator", "--config", str(self.config)]
        self.spawn(name, command, environ)
        self.ready(name, self.second if environ else self.aggregator)

    def start_second(self) -> None:
        port = free_port()
        self.second = f"http://127.0.0.1:{port}"
        self.environ["FAIRMARK_BFF__AGGREGATOR_URLS"] = self.second
        self.own = {
            "FAIRMARK_AGGREGATOR__NAME": "aggregator-2",
            "FAIRMARK_AGGREGATOR__PORT": str(port),
            "FAIRMARK_AGGREGATOR__KEY": SECOND_KEY,
        }
        self.start("aggregator-2")

    def leader(self) -> str | None:
        for name, url in (("aggregator", self.aggregator), ("aggregator-2", self.second)):
            if name not in self.processes:
                continue
            try:
                text = self.client.get(f"{url}/metrics").text
            except httpx.HTTPError:
                continue
            if re.search(r'^fairmark_aggregator_leads\{group="majors"\} 1\.0$', text, re.MULTILINE):
                return name
        return None


@pytest.fixture
def system(
    tmp_path_factory: pytest.TempPathFactory,
    anvil_path: str,
    rabbitmq_url: str,
    postgres_url: str,
    require_services: None,
) -> Iterator[Pair]:
    with own_database_sync(postgres_url) as store:
        running = Pair(
            tmp_path_factory.mktemp("leader"),
            anvil_path,
            rabbitmq_url,
            configuration(pairs=("BTC/USD", "USDT/USD", "USDC/USD"), heartbeat_s=HEARTBEAT_S),
            FAIRMARK_STORE__URL=store,
        )
        try:
            running.start_chain()
            running.start_simulator()
            running.deploy()
            running.start_second()
            running.start_services()
            yield running
        finally:
            running.close()


def observed(system: Pair) -> str:
    return str(system.get("/v1/prices/btc-usd").json()["observed_at"])


def test_the_leader_is_killed_and_neither_a_request_nor_a_heartbeat_is_lost(system: Pair) -> None:
    first = wait_for("one leads", system.leader)
    no_request_is_lost(system, first)
    # the one that was killed comes back, and the other is killed in the pause between two heartbeats
    system.start(first)
    standing = observed(system)
    wait_for("a heartbeat", lambda: observed(system) != standing)
    standing = observed(system)
    second = system.leader()
    assert second not in (None, first)
    system.kill(second)
    killed = time.monotonic()
    wait_for("the next heartbeat", lambda: observed(system) != standing)
    assert time.monotonic() - killed < HEARTBEAT_S + 5


def no_request_is_lost(system: Pair, leader: str) -> None:
    assert system.refresh("btc-usd").status_code == 200
    answers: list[tuple[int, str]] = []
    stop = threading.Event()

    def keep_asking() -> None:
        with httpx.Client(timeout=20, trust_env=False) as client:
            while not stop.is_set():
                answer = client.post(f"{system.bff}/v1/prices/btc-usd/refresh")
                answers.append((answer.status_code, answer.text))
                time.sleep(0.05)

    asking = [threading.Thread(target=keep_asking) for _ in range(4)]
    for each in asking:
        each.start()
    time.sleep(1)
    asked = len(answers)
    system.kill(leader)
    killed = time.monotonic()
    other = wait_for("the other leads", lambda: (found := system.leader()) != leader and found, timeout_s=5)
    led_s = time.monotonic() - killed
    time.sleep(2)
    stop.set()
    for each in asking:
        each.join()
    assert len(answers) > asked + 4
    assert [text for status, text in answers if status != 200] == []
    assert other != leader
    assert led_s < 5
