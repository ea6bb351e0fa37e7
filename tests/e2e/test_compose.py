"""docker-compose.yml: it names the whole system, and every command it names runs with its own environment.

No container engine is needed: the commands run here, with the compose file's environment, against local servers; only
the servers' addresses are put in place of the service names.
"""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest
import yaml

from contracts.report import LocalSigner
from tests.e2e.system import PROJECT, System, free_port, wait_for

COMPOSE = PROJECT / "docker-compose.yml"
FETCHERS = ("fetcher-a", "fetcher-b", "fetcher-c", "fetcher-d")
AGGREGATORS = ("aggregator", "aggregator-b")
OURS = ("simulator", "deployer", *FETCHERS, "market", *AGGREGATORS, "bff")
SERVERS = {"rabbitmq": 5672, "redis": 6379, "postgres": 5432, "anvil": 8545}


def compose() -> dict[str, Any]:
    """The file as compose reads it: anchors resolved, `${NAME:-default}` replaced by its default."""
    text = re.sub(r"\$\{(\w+):-([^}]*)\}", r"\2", COMPOSE.read_text(encoding="utf-8"))
    assert "${" not in text, "every variable has a default"
    loaded: dict[str, Any] = yaml.safe_load(text)
    return loaded


def test_it_names_the_whole_system() -> None:
    services = compose()["services"]
    assert set(services) == {*OURS, *SERVERS}
    for name, service in services.items():
        assert ("image" in service) or ("build" in service), name
        for needed, condition in service.get("depends_on", {}).items():
            assert needed in services, f"{name} depends on {needed}"
            assert condition["condition"] in ("service_healthy", "service_started", "service_completed_successfully")
            if condition["condition"] == "service_healthy":
                assert "healthcheck" in services[needed], f"{name} waits for the health of {needed}"
        assert all(str(port).startswith("127.0.0.1:") for port in service.get("ports", [])), f"{name} listens at large"


def test_the_image_holds_every_room_and_only_pinned_packages() -> None:
    dockerfile = (PROJECT / "deploy" / "Dockerfile").read_text()
    rooms = {path.parent.name for path in PROJECT.glob("*/__init__.py")} - {"tests", "benchmarks"}
    assert set(re.findall(r"^COPY (\w+) \1$", dockerfile, re.M)) == rooms
    assert "--require-hashes -r requirements.txt" in dockerfile
    assert 'ENTRYPOINT ["python", "-m", "fairmark"]' in dockerfile


def test_the_development_keys_are_the_ones_of_the_named_addresses() -> None:
    services = compose()["services"]
    for name in ("fetcher-a", "fetcher-b", "fetcher-c", "fetcher-d"):
        variable = f"FAIRMARK_FETCHERS__{name.upper().replace('-', '_')}__"
        environment = services[name]["environment"]
        assert LocalSigner(environment[variable + "KEY"]).address == environment[variable + "ADDRESS"]


def test_every_service_gets_secrets_of_its_own_and_nobody_elses() -> None:
    services = compose()["services"]
    for name in OURS:
        keys = {variable for variable in services[name]["environment"] if variable.endswith("_KEY")}
        wanted = {
            "deployer": {"FAIRMARK_CHAIN__DEPLOYER_KEY"},
            **{each: {"FAIRMARK_AGGREGATOR__KEY"} for each in AGGREGATORS},
            "simulator": set(),
            "market": set(),
            "bff": set(),
        }.get(name, {f"FAIRMARK_FETCHERS__{name.upper().replace('-', '_')}__KEY"})
        assert keys == wanted, name
    payers = {services[name]["environment"]["FAIRMARK_AGGREGATOR__KEY"] for name in AGGREGATORS}
    assert len(payers) == len(AGGREGATORS)


class Composed(System):
    """The compose file's own commands and environments, with local servers in place of its services."""

    def __init__(self, folder: Path, anvil: str, rabbitmq_url: str, database: str, redis_url: str) -> None:
        super().__init__(folder, anvil, rabbitmq_url, "")
        self.services = compose()["services"]
        self.environ = {}
        self.ports["aggregator-b"] = free_port()
        self.local = {
            "FAIRMARK_MARKET__REDIS_URL": redis_url,
            "FAIRMARK_MARKET__REDIS_PREFIX": self.namespace,
            "FAIRMARK_BROKER__URLS": rabbitmq_url,
            "FAIRMARK_STORE__URL": database,
            "FAIRMARK_BROKER__NAMESPACE": self.namespace,
        }

    def environment(self, name: str) -> dict[str, str]:
        """A service's environment, its hosts and ports replaced by those of this machine."""
        given = {key: str(value) for key, value in self.services[name]["environment"].items()}
        places = {
            "anvil:8545": "chain",
            "simulator:8010": "simulator",
            "aggregator:8001": "aggregator",
            "aggregator-b:8001": "aggregator-b",
            "market:8002": "market",
            "simulator:40101": "exchange1",
            "simulator:40102": "exchange2",
            "simulator:40103": "exchange3",
        }
        for variable, value in given.items():
            for place, port_of in places.items():
                if place in value:
                    given[variable] = value.replace(place, f"127.0.0.1:{self.ports[port_of]}")
            if value == "0.0.0.0":
                given[variable] = "127.0.0.1"
        data = self.folder / "state"
        given["FAIRMARK_DATA_DIR"] = str(data)
        given["FAIRMARK_CHAIN__DEPLOYMENTS_DIR"] = str(data / "deployments")
        ports = {
            "FAIRMARK_SIMULATOR__PORT": "simulator",
            "FAIRMARK_SIMULATOR__TCP_PORT": "exchange1",
            "FAIRMARK_MARKET__PORT": "market",
            "FAIRMARK_AGGREGATOR__PORT": name if name in AGGREGATORS else "aggregator",
            "FAIRMARK_BFF__PORT": "bff",
            **{f"FAIRMARK_FETCHERS__{f.upper().replace('-', '_')}__PORT": f for f in OURS if f.startswith("fetcher")},
        }
        assert set(self.local) - set(given) <= {"FAIRMARK_BROKER__NAMESPACE", "FAIRMARK_MARKET__REDIS_PREFIX"}
        return {**given, **self.local, **{variable: str(self.ports[port_of]) for variable, port_of in ports.items()}}

    def command(self, name: str) -> list[str]:
        return [sys.executable, "-m", "fairmark", *self.services[name]["command"]]

    def leads(self, name: str) -> bool:
        """Whether this aggregator starts the group's attempts by itself, by its own word."""
        health = self.client.get(f"http://127.0.0.1:{self.ports[name]}/health").json()
        return bool(health["leadership"]["majors"]["leads"])

    def up(self, name: str) -> None:
        self.spawn(name, self.command(name), self.environment(name))


@pytest.fixture
def database(postgres_url: str) -> Iterator[str]:
    """A database of its own, gone afterwards."""
    name = f"fairmark_{secrets.token_hex(4)}"
    asyncio.run(execute(postgres_url, f"create database {name}"))
    yield urlsplit(postgres_url)._replace(path=f"/{name}").geturl()
    asyncio.run(execute(postgres_url, f"drop database if exists {name} with (force)"))


async def execute(url: str, statement: str, *arguments: object) -> list[Any]:
    connection = await asyncpg.connect(url)
    try:
        return list(await connection.fetch(statement, *arguments))
    finally:
        await connection.close()


@pytest.mark.needs_rabbitmq
@pytest.mark.needs_postgres
@pytest.mark.needs_redis
@pytest.mark.needs_anvil
def test_every_command_it_names_runs_with_its_environment(
    tmp_path: Path, anvil_path: str, rabbitmq_url: str, database: str, redis_url: str
) -> None:
    system = Composed(tmp_path, anvil_path, rabbitmq_url, database, redis_url)
    try:
        anvil = list(system.services["anvil"]["command"])
        assert system.services["anvil"]["entrypoint"] == ["anvil"]
        anvil[anvil.index("--host") + 1] = "127.0.0.1"
        anvil[anvil.index("--port") + 1] = str(system.ports["chain"])
        system.spawn("chain", [anvil_path, *anvil, "--silent"])
        system.up("simulator")
        system.ready("simulator", system.simulator)
        system.up("deployer")
        assert system.processes.pop("deployer").wait(60) == 0, system.log("deployer")
        for name in OURS[2:]:
            system.up(name)
        for name in OURS[2:]:
            system.ready(name, f"http://127.0.0.1:{system.ports[name]}")
        wait_for("one leader", lambda: sorted(system.leads(each) for each in AGGREGATORS) == [False, True])
        wait_for("a first round by itself", lambda: system.get("/v1/prices/BTC-USD").is_success)
        response = wait_for("a refresh", lambda: next((r for r in [system.refresh("BTC-USD")] if r.is_success), None))
        price = response.json()
        assert (price["mode"], price["contributors"], price["stale"]) == ("test", 4, False)
        newest = wait_for(
            "a tick", lambda: next((r for r in [system.get("/prices/latest/exchange1/BTCUSDT")] if r.is_success), None)
        )
        assert newest.json()["mode"] == "test"
        market = system.client.get(f"http://127.0.0.1:{system.ports['market']}/health").json()
        assert market["dependencies"]["redis"]["status"] == market["dependencies"]["database"]["status"] == "up"
        healthcheck = system.services["bff"]["healthcheck"]["test"]
        probe = [sys.executable, *healthcheck[2:3], healthcheck[3].replace("8000", str(system.ports["bff"]))]
        assert subprocess.run(probe, check=False, env=os.environ).returncode == 0
        kept = asyncio.run(execute(database, "select id from fairmark_attempts where id = $1", price["attempt"]))
        assert [row["id"] for row in kept] == [price["attempt"]]
    finally:
        system.close()
