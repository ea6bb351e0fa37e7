"""`fairmark up`, as a newcomer meets it: one command, a banner, prices, and nothing left behind."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.e2e.config import PAIRS, configuration
from tests.e2e.system import PROJECT, free_port, line_environ, line_ports, wait_for

IDLE_S = 61
STALE_AFTER_S = 8


class Embedded:
    """A running `fairmark up` on ports of its own."""

    def __init__(self, folder: Path, config: str, **environ: str) -> None:
        self.folder = folder
        self.output = folder / "stdout.txt"
        self.errors = folder / "stderr.txt"
        self.config = folder / "fairmark.toml"
        self.config.write_text(config, encoding="utf-8")
        self.ports = {name: free_port() for name in ("bff", "aggregator", "market", "chain", "simulator")}
        self.environ = {
            **os.environ,
            "FAIRMARK_DATA_DIR": str(folder / "data"),
            "FAIRMARK_CHAIN__DEPLOYMENTS_DIR": str(folder / "deployments"),
            "COLUMNS": "160",
            **{f"FAIRMARK_{name.upper()}__PORT": str(port) for name, port in self.ports.items()},
            **line_environ(line_ports()),
            **environ,
        }
        with self.output.open("wb") as out, self.errors.open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "fairmark", "up", "--config", str(self.config)],
                cwd=PROJECT,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=self.environ,
            )
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.ports['bff']}", timeout=15, trust_env=False)

    def banner(self) -> str:
        def shown() -> str:
            assert self.process.poll() is None, self.errors.read_text()
            text = self.output.read_text()
            return text if "up in" in text else ""

        return str(wait_for("banner", shown))

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "fairmark", *arguments, "--config", str(self.config)],
            cwd=PROJECT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            env=self.environ,
        )

    def price(self, slug: str = "BTC-USD") -> dict[str, Any]:
        response = self.client.get(f"/v1/prices/{slug}")
        assert response.status_code == 200, response.text
        return dict(response.json())

    def refresh(self, slug: str = "BTC-USD") -> httpx.Response:
        return self.client.post(f"/v1/prices/{slug}/refresh")

    def family(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.client.close()
        family = self.family() if self.process.poll() is None else []
        self.process.send_signal(number)
        try:
            code = self.process.wait(20)
        finally:
            self.process.kill()
            self.process.wait()
        _, alive = psutil.wait_procs(family, timeout=5)
        assert alive == [], f"left behind: {alive}"
        return code


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Any]:
    running: list[Embedded] = []

    def begin(config: str, **environ: str) -> Embedded:
        running.append(Embedded(tmp_path, config, **environ))
        return running[-1]

    yield begin
    for each in running:
        if each.process.poll() is None:
            each.stop()


def test_a_newcomer_gets_every_price_loses_a_fetcher_and_stops_without_a_trace(start: Any) -> None:
    tree = start(configuration(), FAIRMARK_MODE="test")
    banner = tree.banner()
    assert "mode TEST" in banner
    assert "SIMULATED" in banner
    for pair in PAIRS:
        assert re.search(rf"{pair}\s+[\d.]+", banner), banner
    assert f"http://127.0.0.1:{tree.ports['bff']}/docs" in banner
    where = f"http://127.0.0.1:{tree.ports['bff']}/prices/latest/BTCUSDT"
    assert where in banner
    newest = tree.client.get(where).json()
    assert (newest["symbol"], newest["mode"]) == ("BTCUSDT", "test")
    assert Decimal(newest["price"]) > 0
    price = tree.price()
    assert (price["mode"], price["stale"]) == ("test", False)
    assert price["contributors"] >= 3  # on a loaded machine the first round may end before the fourth report
    told = {each["fetcher"]: each["told"] for each in json.loads(tree.command("sources", "--json").stdout)["fetchers"]}
    assert {fetcher: each["mode"] for fetcher, each in told.items()} == dict.fromkeys(told, "test")
    asked = [each for fetcher in told.values() for each in fetcher["sources"] if each["p50_ms"] or each["stream"]]
    assert len({each["source"] for each in asked}) >= 4
    assert "ok" in {each["state"] for each in asked}
    second = tree.command("up")
    assert (second.returncode, "another Fairmark runs on" in second.stderr) == (1, True), second.stderr
    running = json.loads((tree.folder / "data" / "running.json").read_text())

    def streams() -> Any:
        health = tree.client.get(f"http://127.0.0.1:{running['ports']['fetcher-a']}/health").json()
        return health["dependencies"]["streams"]["detail"] == "7 of 7 up"

    wait_for("fetcher-a's seven sources all stream", streams)
    refused = tree.client.post(f"http://127.0.0.1:{running['ports']['fetcher-b']}/stop")
    assert (refused.status_code, refused.json()["code"]) == (401, "unauthorized")
    stopped = tree.command("stop", "fetcher-b")
    assert stopped.returncode == 0, stopped.stderr
    response = tree.refresh()
    assert response.status_code == 200, response.text
    fresh = response.json()
    assert fresh["contributors"] == 3
    assert fresh["round"] > price["round"]
    assert Decimal(fresh["price"]) > 0
    assert tree.stop(signal.SIGINT) == 0
    assert "Traceback" not in tree.errors.read_text()


def test_a_price_that_moves_starts_a_round_by_itself(start: Any) -> None:
    tree = start(configuration(heartbeat_s=600), FAIRMARK_MODE="test", FAIRMARK_SIMULATOR__VOLATILITY_BPS="0")
    tree.banner()
    before = tree.price()
    target = (Decimal(before["price"]) * Decimal("1.02")).quantize(Decimal("0.01"))
    simulator = f"http://127.0.0.1:{tree.ports['simulator']}"
    tree.client.put(f"{simulator}/prices", json={"BTC/USD": str(target)}).raise_for_status()

    def moved() -> Any:
        price = tree.price()
        return price if price["round"] > before["round"] else None

    price = wait_for("a round on deviation", moved)
    assert abs(Decimal(price["price"]) / target - 1) < Decimal("0.002")
    record = tree.client.get(f"/v1/groups/majors/rounds/{price['round']}").json()
    assert record["cause"] == "deviation"
    assert tree.stop() == 0


def test_after_a_minute_of_idleness_a_refresh_succeeds_on_the_same_chain(start: Any) -> None:
    tree = start(configuration(heartbeat_s=600), FAIRMARK_MODE="test", FAIRMARK_SIMULATOR__VOLATILITY_BPS="0")
    tree.banner()
    before = tree.price()
    time.sleep(IDLE_S)  # no request, no heartbeat due, no price that moves: the chain makes no block
    assert tree.price()["round"] == before["round"]
    response = tree.refresh()
    assert response.status_code == 200, response.text
    assert response.json()["round"] > before["round"]
    assert response.json()["age_seconds"] < 30
    assert tree.stop() == 0


def test_with_all_fetchers_stopped_the_price_turns_stale_by_the_wall_clock(start: Any) -> None:
    tree = start(configuration(heartbeat_s=STALE_AFTER_S // 2, max_age_s=STALE_AFTER_S // 2), FAIRMARK_MODE="test")
    tree.banner()
    for name in ("fetcher-a", "fetcher-b", "fetcher-c", "fetcher-d"):
        assert tree.command("stop", name).returncode == 0
    last = tree.price()

    def stale() -> Any:
        price = tree.price()
        return price if price["stale"] else None

    price = wait_for("stale", stale, STALE_AFTER_S + 120)
    assert price["price"] == last["price"] or price["round"] >= last["round"]
    assert price["age_seconds"] > STALE_AFTER_S / 2
    response = tree.refresh()
    assert (response.status_code, response.json()["code"]) == (503, "no_quorum"), response.text
    assert tree.stop() == 0


def test_without_exchanges_auto_takes_the_simulator_and_says_so(start: Any) -> None:
    tree = start(configuration().replace('mode = "test"', 'mode = "auto"'))
    banner = tree.banner()
    if "mode LIVE" in banner:
        pytest.skip("the real exchanges answer here")
    assert "the simulator stands in for them" in tree.errors.read_text().replace("\n", " ")
    assert tree.price()["mode"] == "test"
    assert tree.stop() == 0


def test_the_death_of_the_front_process_takes_the_whole_tree_along(start: Any) -> None:
    tree = start(configuration(), FAIRMARK_MODE="test")
    tree.banner()
    family = tree.family()
    assert len(family) == 2  # the chain and the simulator
    tree.process.kill()
    tree.process.wait()
    _, alive = psutil.wait_procs(family, timeout=10)
    tree.client.close()
    assert alive == []


@pytest.mark.parametrize("name", ["chain", "simulator"])
def test_the_tree_ends_with_a_child_that_dies_and_says_which(start: Any, name: str) -> None:
    tree = start(configuration(), FAIRMARK_MODE="test")
    tree.banner()
    (child,) = [p for p in tree.family() if ("devchain" if name == "chain" else "simulator") in " ".join(p.cmdline())]
    child.kill()
    assert tree.process.wait(20) == 1
    tree.client.close()
    assert f"{name}: its process was ended by signal 9" in tree.errors.read_text()
    assert "Traceback" not in tree.errors.read_text()


def test_a_store_that_does_not_answer_is_one_clear_message(start: Any) -> None:
    tree = start(configuration(), FAIRMARK_MODE="test", FAIRMARK_STORE__URL="postgresql://nobody@127.0.0.1:9/none")
    assert tree.process.wait(60) == 1
    tree.client.close()
    errors = tree.errors.read_text()
    assert "127.0.0.1:9" in errors or "cannot be reached" in errors, errors
    assert "Traceback" not in errors


def test_a_port_in_use_is_one_clear_message(tmp_path: Path, start: Any) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        tree = start(configuration(), FAIRMARK_MODE="test", FAIRMARK_BFF__PORT=str(port))
        code = tree.process.wait(60)
    errors = tree.errors.read_text()
    tree.client.close()
    assert code == 1
    assert f"port {port} on 127.0.0.1 is in use" in errors
    assert "(bff.port, or FAIRMARK_BFF__PORT=" in errors
    assert "Traceback" not in errors
