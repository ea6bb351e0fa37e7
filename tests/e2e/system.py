"""Fairmark as an operator runs it: every service a process of its own, over real servers, ended without a trace."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import pika

from broker import Topic
from contracts.report import LocalSigner

PROJECT = Path(__file__).resolve().parents[2]
START_TIMEOUT_S = 180.0
STOP_TIMEOUT_S = 45.0
DEADLINE_MS = 3_000

# The public development keys that anvil funds: account 0 deploys, 1 submits, 2 to 5 report.
DEPLOYER_KEY = "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"
AGGREGATOR_KEY = "0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d"
FETCHER_KEYS = {
    "fetcher-a": "0x5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a",
    "fetcher-b": "0x7c852118294e51e653712a81e05800f419141751be58f605c371e15141b007a6",
    "fetcher-c": "0x47e179ec197488593b187f80a00eb0da91f1b9d0b13f8733639f19c30a34926a",
    "fetcher-d": "0x8b3a350cf5c34c9194ca85829a2df0ec3153be0318b5e2d3348e872092edffba",
}


def free_port() -> int:
    """A port that nothing listens on, below the range from which the system gives ports to outgoing connections."""
    while True:
        port = secrets.choice(range(20_000, 32_000))
        with socket.socket() as sock, contextlib.suppress(OSError):
            sock.bind(("127.0.0.1", port))
            return port


def line_ports() -> dict[str, int]:
    """Three free ports in a row, by the names of the simulator's TCP sources."""
    while True:
        first = free_port()
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            for port in (first + 1, first + 2):
                stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
            return {f"exchange{number + 1}": first + number for number in range(3)}


def line_environ(ports: Mapping[str, int]) -> dict[str, str]:
    """What tells the simulator and the market data of these ports."""
    environ = {"FAIRMARK_SIMULATOR__TCP_PORT": str(ports["exchange1"])}
    for name in ("exchange1", "exchange2", "exchange3"):
        environ[f"FAIRMARK_MARKET__TCP__{name.upper()}__ADDRESS"] = f"127.0.0.1:{ports[name]}"
        environ[f"FAIRMARK_MARKET__TCP__{name.upper()}__MODE"] = "test"
    return environ


def wait_for(what: str, condition: Callable[[], Any], timeout_s: float = START_TIMEOUT_S, pause_s: float = 0.05) -> Any:
    """Poll until `condition` is truthy, and return it; fail naming `what` after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while True:
        if found := condition():
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {timeout_s:g} s")
        time.sleep(pause_s)


class System:
    """The processes of one Fairmark over RabbitMQ and anvil, on ports of its own, in a folder of its own."""

    def __init__(self, folder: Path, anvil: str, rabbitmq_url: str, config: str, **environ: str) -> None:
        self.folder = folder
        self.anvil = anvil
        self.config = folder / "fairmark.toml"
        self.config.write_text(config, encoding="utf-8")
        self.namespace = f"e2e-{secrets.token_hex(4)}"
        self.rabbitmq_url = rabbitmq_url
        names = ("chain", "simulator", "aggregator", "market", "bff", *FETCHER_KEYS)
        self.ports = {**{name: free_port() for name in names}, **line_ports()}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.reporters = list(FETCHER_KEYS)
        self.client = httpx.Client(timeout=15.0, trust_env=False)
        token = secrets.token_hex(8)
        at = {name: f"http://127.0.0.1:{port}" for name, port in self.ports.items()}
        self.bff, self.aggregator, self.simulator = at["bff"], at["aggregator"], at["simulator"]
        self.chain = at["chain"]
        self.environ = {
            "FAIRMARK_MODE": "test",
            "FAIRMARK_DATA_DIR": str(folder / "data"),
            "FAIRMARK_LOG__FORMAT": "json",
            "FAIRMARK_CHAIN__URL": self.chain,
            "FAIRMARK_CHAIN__DEPLOYMENTS_DIR": str(folder / "deployments"),
            "FAIRMARK_CHAIN__DEPLOYER_KEY": DEPLOYER_KEY,
            "FAIRMARK_BROKER__KIND": "rabbitmq",
            "FAIRMARK_BROKER__URLS": rabbitmq_url,
            "FAIRMARK_BROKER__NAMESPACE": self.namespace,
            "FAIRMARK_SIMULATOR__PORT": str(self.ports["simulator"]),
            "FAIRMARK_AGGREGATOR__DEADLINE_MS": str(
                DEADLINE_MS
            ),  # these tests are about what comes out, on any machine
            "FAIRMARK_AGGREGATOR__MIN_INTERVAL_MS": "0",
            "FAIRMARK_AGGREGATOR__PORT": str(self.ports["aggregator"]),
            "FAIRMARK_AGGREGATOR__KEY": AGGREGATOR_KEY,
            "FAIRMARK_AGGREGATOR__TOKEN": token,
            "FAIRMARK_BFF__PORT": str(self.ports["bff"]),
            "FAIRMARK_BFF__AGGREGATOR_URL": self.aggregator,
            "FAIRMARK_BFF__MARKET_URL": at["market"],
            "FAIRMARK_MARKET__PORT": str(self.ports["market"]),
            **line_environ(self.ports),
            "FAIRMARK_BFF__TOKEN": token,
            **environ,
        }
        for name, key in FETCHER_KEYS.items():
            prefix = f"FAIRMARK_FETCHERS__{name.upper().replace('-', '_')}__"
            self.environ[prefix + "ADDRESS"] = LocalSigner(key).address
            self.environ[prefix + "KEY"] = key
            self.environ[prefix + "PORT"] = str(self.ports[name])

    def spawn(self, name: str, command: Sequence[str], environ: Mapping[str, str] | None = None) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                command,
                cwd=PROJECT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **self.environ, **(environ or {})},
            )

    def fairmark(self, name: str, *arguments: str) -> None:
        self.spawn(name, [sys.executable, "-m", "fairmark", *arguments, "--config", str(self.config)])

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the command line to its end."""
        return subprocess.run(
            [sys.executable, "-m", "fairmark", *arguments, "--config", str(self.config)],
            cwd=PROJECT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=180,
            env={**os.environ, **self.environ, "COLUMNS": "200"},
        )

    def log(self, name: str) -> str:
        path = self.folder / f"{name}.log"
        return path.read_text(errors="replace")[-4000:] if path.exists() else ""

    def ready(self, name: str, url: str) -> None:
        def answers() -> bool:
            process = self.processes[name]
            assert process.poll() is None, f"{name} ended with {process.returncode}"
            with contextlib.suppress(httpx.HTTPError):
                return self.client.get(f"{url}/ready").is_success
            return False

        try:
            wait_for(f"{name} ready", answers)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log(name)}") from None

    def start_chain(self, *arguments: str) -> None:
        self.spawn("chain", [self.anvil, "--port", str(self.ports["chain"]), "--silent", *arguments])

        def answers() -> bool:
            with contextlib.suppress(httpx.HTTPError):
                body = {"jsonrpc": "2.0", "id": 1, "method": "eth_chainId", "params": []}
                return bool(self.client.post(self.chain, json=body).json()["result"] == "0x7a69")
            return False

        wait_for("anvil", answers)

    def start_simulator(self, *arguments: str) -> None:
        self.fairmark("simulator", "simulator", *arguments)
        self.ready("simulator", self.simulator)

    def deploy(self) -> dict[str, Any]:
        done = self.run("deploy")
        assert done.returncode == 0, done.stdout + done.stderr
        record: dict[str, Any] = json.loads((self.folder / "deployments" / "31337.json").read_text())
        return record

    def start_services(self) -> None:
        for name in FETCHER_KEYS:
            self.fairmark(name, "fetcher", "--name", name)
        for name in FETCHER_KEYS:
            self.ready(name, f"http://127.0.0.1:{self.ports[name]}")
        self.fairmark("aggregator", "aggregator")
        self.fairmark("bff", "bff")
        self.ready("aggregator", self.aggregator)
        self.ready("bff", self.bff)

    def get(self, path: str) -> httpx.Response:
        return self.client.get(self.bff + path)

    def refresh(self, slug: str) -> httpx.Response:
        return self.client.post(f"{self.bff}/v1/prices/{slug}/refresh")

    def kill(self, name: str) -> None:
        """End a process without a chance to clean up, as a crash does."""
        process = self.processes.pop(name)
        process.kill()
        process.wait()

    def stop(self, name: str) -> int:
        """SIGTERM; the exit code."""
        process = self.processes.pop(name)
        process.send_signal(signal.SIGTERM)
        try:
            return process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError(f"{name} did not stop within {STOP_TIMEOUT_S:g} s\n{self.log(name)}") from None

    def close(self) -> None:
        """Stop everything that still runs, the servers that others need last, and remove what is left at the broker."""
        try:
            for name in sorted(self.processes, key=lambda each: each == "chain"):
                process = self.processes[name]
                process.send_signal(signal.SIGTERM)
            for name in list(self.processes):
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.processes[name].wait(STOP_TIMEOUT_S)
        finally:
            for process in self.processes.values():
                process.kill()
                process.wait()
            self.client.close()
            self._clean_broker()

    def _clean_broker(self) -> None:
        connection = pika.BlockingConnection(pika.URLParameters(self.rabbitmq_url))
        with contextlib.closing(connection):
            channel = connection.channel()
            for name in (*(f"jobs.{reporter}" for reporter in self.reporters), "dead"):
                channel.queue_delete(f"{self.namespace}.{name}")
            for name in (*Topic, "dead"):
                channel.exchange_delete(f"{self.namespace}.{name}")
