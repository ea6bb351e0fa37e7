"""The classic arrangement as its users run it: three generators, two strategies, a trader, each a process of its own.

docs/reporters.md shows these commands. Processes are started in the least helpful order.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from core.median import lower_median
from core.signals import SignalRange
from signals.generator import number
from tests.e2e.system import PROJECT, free_port, wait_for

PERIOD_S = 2
RANGE = SignalRange(decimals=4, minimum=Decimal(-2), maximum=Decimal(2))
CONFIG = f"""
[signals.decision]
decimals = 4
minimum = "-2"
maximum = "2"
period_s = {PERIOD_S}
policy = "strict"

[groups.majors]
feeds = ["BTC/USD"]
f = 0
[fetchers.fetcher-a]
sources = ["kraken"]
[[feeds]]
pair = "BTC/USD"
"""
SEEDS = {"gen-1": 1, "gen-2": 2, "gen-3": 3}
USES = {"alpha": ("gen-1", "gen-2"), "beta": ("gen-2", "gen-3")}


class Network:
    """The processes, on ports of their own, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "fairmark.toml").write_text(CONFIG, encoding="utf-8")
        self.ports = {name: free_port() for name in (*SEEDS, *USES, "trader")}
        self.trader = f"http://127.0.0.1:{self.ports['trader']}"
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.client = httpx.Client(timeout=5, trust_env=False)
        self.environ = {
            **os.environ,
            "PYTHONPATH": str(PROJECT),
            "COLUMNS": "200",
            "FAIRMARK_CONFIG": str(folder / "fairmark.toml"),
            "FAIRMARK_DATA_DIR": str(folder / "data"),
            "FAIRMARK_LOG__FORMAT": "json",
            "FAIRMARK_TRADER__PORT": str(self.ports["trader"]),
        }

    def start(self, name: str) -> None:
        port = str(self.ports[name])
        if name in SEEDS:
            arguments = ["signal", "--port", port, "--name", name, "--seed", str(SEEDS[name])]
        elif name in USES:
            signals = ",".join(f"127.0.0.1:{self.ports[each]}" for each in USES[name])
            arguments = ["strategy", "--name", name, "--signals", signals, "--port", port]
        else:
            arguments = ["trader"]
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", "fairmark", *arguments], env=self.environ, stdout=log, stderr=log, cwd=PROJECT
            )

    def kill(self, name: str) -> float:
        """End a process as a crash does; the time."""
        process = self.processes.pop(name)
        process.kill()
        process.wait()
        return time.time()

    def stop(self, name: str) -> int:
        process = self.processes.pop(name)
        process.send_signal(signal.SIGTERM)
        return process.wait(15)

    def command(self, *arguments: str) -> str:
        """A command of the command line, run to its end; what it printed."""
        done = subprocess.run(
            [sys.executable, "-m", "fairmark", *arguments],
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=60,
            cwd=PROJECT,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def decision(self) -> dict[str, Any]:
        with contextlib.suppress(httpx.HTTPError):
            found: dict[str, Any] = self.client.get(f"{self.trader}/v1/signals/decision").json()
            return found
        return {"state": "down"}

    def reporters(self) -> dict[str, dict[str, Any]]:
        return {one["name"]: one for one in self.client.get(f"{self.trader}/v1/reporters").json()}

    def published(self) -> int:
        text = self.client.get(f"{self.trader}/metrics").text
        (line,) = [each for each in text.splitlines() if each.startswith("fairmark_signal_answers_total{")]
        return int(float(line.split()[1]))

    def health(self, name: str) -> httpx.Response:
        return self.client.get(f"http://127.0.0.1:{self.ports[name]}/health")

    def until(self, state: str, **found: Any) -> dict[str, Any]:
        """Wait for the feed's state, and for what else it must say; return the whole."""

        def there() -> dict[str, Any] | None:
            said = self.decision()
            return said if all(said.get(name) == each for name, each in {"state": state, **found}.items()) else None

        try:
            whole: dict[str, Any] = wait_for(f"decision {state} {found}", there)
        except AssertionError as error:
            logs = "\n".join(path.read_text()[-1500:] for path in sorted(self.folder.glob("*.log")))
            raise AssertionError(f"{error}: {self.decision()}\n{logs}") from None
        return whole

    def close(self) -> None:
        for process in self.processes.values():
            process.kill()
        for process in self.processes.values():
            process.wait()
        self.client.close()


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    running = Network(tmp_path_factory.mktemp("reporters"))
    try:
        for name in ("alpha", "trader", "gen-3", "gen-2", "beta", "gen-1"):
            running.start(name)
        yield running
    finally:
        running.close()


def seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def test_the_answer_is_the_median_of_decisions_made_of_the_generators_numbers(network: Network) -> None:
    def fresh() -> dict[str, Any] | None:
        """An answer whose data is of its own slot: on a busy machine a number may be made after it was pulled."""
        said = network.decision()
        made = [one["data_of"] for one in network.reporters().values()] if said.get("state") == "ok" else []
        return said if made and all(each == said["of"] for each in made) else None

    network.until("ok", contributors=["alpha", "beta"])
    said = wait_for("an answer of one slot", fresh)
    slot = int(seconds(said["of"]) * 1000)
    drawn = {name: number(seed, slot, RANGE) for name, seed in SEEDS.items()}
    decisions = [RANGE.checked((drawn[one] + drawn[two]) / 2) for one, two in USES.values()]
    assert said["value"] == str(lower_median(decisions))
    assert slot % (PERIOD_S * 1000) == 0


def test_a_killed_generator_is_an_error_everywhere_within_two_periods_and_ends_with_its_return(
    network: Network,
) -> None:
    died = network.kill("gen-1")
    said = network.until("error", value=None)
    assert seconds(said["since"]) - died <= 2 * PERIOD_S
    first = said["troubles"][0]
    assert (first["reporter"], first["via"]) == (f"gen-1 (127.0.0.1:{network.ports['gen-1']})", ["alpha"])
    assert abs(seconds(first["since"]) - died) <= 2 * PERIOD_S
    health = network.health("alpha")
    assert health.status_code == 503
    assert "gen-1" in health.json()["dependencies"]["signals"]["detail"]
    assert network.health("beta").status_code == 200
    before = network.published()
    time.sleep(PERIOD_S + 0.5)
    assert (network.decision()["state"], network.published()) == ("error", before)
    network.start("gen-1")
    network.until("ok", contributors=["alpha", "beta"])
    assert network.published() > before


def test_a_killed_strategy_is_an_error_until_it_is_deregistered_or_returns(network: Network) -> None:
    died = network.kill("beta")
    said = network.until("error", value=None)
    assert seconds(said["since"]) - died <= 2 * PERIOD_S
    assert (said["troubles"][0]["reporter"], said["troubles"][0]["code"]) == ("beta", "reporter_stopped")
    assert seconds(said["troubles"][0]["since"]) <= died
    assert "decision beta" in network.command("reporters", "list", "--where", "signals")
    assert "beta" in network.command("reporters", "deregister", "beta")
    network.until("ok", contributors=["alpha"])
    network.start("beta")
    network.until("ok", contributors=["alpha", "beta"])


def test_a_stopped_strategy_deregisters_itself_and_is_no_error(network: Network) -> None:
    assert network.stop("beta") == 0
    assert network.reporters()["beta"]["state"] == "deregistered"
    network.until("ok", contributors=["alpha"])
    log = (network.folder / "trader.log").read_text()
    assert '"who": "beta"' not in log.split('"event": "feed_recovered"')[-1]


def test_a_restarted_trader_remembers_who_is_missing(network: Network) -> None:
    network.kill("trader")
    network.kill("alpha")
    network.start("trader")
    said = network.until("error", value=None)
    assert said["troubles"][0]["reporter"] == "alpha"
    assert network.reporters()["beta"]["state"] == "deregistered"
