"""Fixtures that every test may use: which servers are there, and where the recorded data lies."""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from hypothesis import HealthCheck, settings

# A loaded machine must not turn a property into a flake: how long an example takes is never a test's verdict.
settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", parent=settings.get_profile("default"), derandomize=True, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

PROJECT = Path(__file__).resolve().parents[1]
RECORDINGS = PROJECT.parent / "shared" / "data"
NODE_MODULES = PROJECT / "contracts" / "node_modules"

RABBITMQ_URL = os.environ.get("TEST_RABBITMQ_URL", "amqp://guest:guest@127.0.0.1:5672/")
POSTGRES_URL = os.environ.get("TEST_POSTGRES_URL", "postgresql://postgres@127.0.0.1:5432/test")
REDIS_URL = os.environ.get("TEST_REDIS_URL", "redis://127.0.0.1:6379/15")


def _answers(url: str) -> bool:
    parts = urlsplit(url)
    try:
        with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=1):
            return True
    except OSError:
        return False


def anvil_binary() -> str | None:
    """The EVM node that tests start: on PATH, or from contracts/package.json."""
    if found := shutil.which("anvil"):
        return found
    built = sorted(NODE_MODULES.glob("@foundry-rs/anvil-*/bin/anvil"))
    return str(built[0]) if built else None


def postgres_programs() -> Path | None:
    """The folder of PostgreSQL's server programs: where Debian has them, or on PATH."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: folder.parent.name.zfill(4))
    on_path = shutil.which("initdb")
    return folders[-1] if folders else Path(on_path).resolve().parent if on_path else None


def solc_available() -> bool:
    return (NODE_MODULES / "solc").is_dir() and shutil.which("node") is not None


def _missing(marker: str) -> str | None:
    """Why a test with this marker cannot run here, or None."""
    if marker == "needs_rabbitmq" and not _answers(RABBITMQ_URL):
        return f"no RabbitMQ at {RABBITMQ_URL}"
    if marker == "needs_postgres" and not _answers(POSTGRES_URL):
        return f"no PostgreSQL at {POSTGRES_URL}"
    if marker == "needs_own_rabbitmq" and not Path("/usr/lib/rabbitmq/bin/rabbitmq-server").exists():
        return "no RabbitMQ server's programs in /usr/lib/rabbitmq/bin"
    if marker == "needs_own_postgres" and postgres_programs() is None:
        return "no PostgreSQL server's programs on PATH or in /usr/lib/postgresql"
    if marker == "needs_redis" and not _answers(REDIS_URL):
        return f"no Redis at {REDIS_URL}"
    if marker == "needs_anvil" and anvil_binary() is None:
        return "no anvil: run `npm install` in contracts/"
    if marker == "needs_solc" and not solc_available():
        return "no Solidity compiler: run `npm install` in contracts/"
    return None


SERVICES = (
    "needs_rabbitmq",
    "needs_own_rabbitmq",
    "needs_postgres",
    "needs_own_postgres",
    "needs_redis",
    "needs_anvil",
    "needs_solc",
)


@pytest.fixture(autouse=True)
def require_services(request: pytest.FixtureRequest) -> None:
    """Skip a test whose server is missing; fail it where FAIRMARK_REQUIRE_SERVICES=1 says it must be there."""
    for marker in SERVICES:
        if request.node.get_closest_marker(marker) and (reason := _missing(marker)):
            if os.environ.get("FAIRMARK_REQUIRE_SERVICES") == "1":
                pytest.fail(reason)
            pytest.skip(reason)
    if request.node.get_closest_marker("needs_recordings") and not RECORDINGS.is_dir():
        pytest.skip("the recorded exchange data (../shared/data) is not here")


@pytest.fixture
def recordings() -> Path:
    """The folder of recorded exchange data. Mark the test `needs_recordings`."""
    return RECORDINGS


@pytest.fixture
def rabbitmq_url() -> str:
    return RABBITMQ_URL


@pytest.fixture
def postgres_url() -> str:
    return POSTGRES_URL


@pytest.fixture
def redis_url() -> str:
    return REDIS_URL


@pytest.fixture(scope="session")
def anvil_path() -> str:
    """Path of the anvil binary. Mark the test `needs_anvil`."""
    found = anvil_binary()
    assert found is not None
    return found
