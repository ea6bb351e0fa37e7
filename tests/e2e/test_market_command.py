"""`fairmark market` and `fairmark simulator --tcp`: help, a start that fails, ticks, and an end that keeps them."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.config import configuration
from tests.e2e.system import PROJECT, free_port, line_environ, line_ports, wait_for


def fairmark(*arguments: str, environ: dict[str, str] | None = None, **options: Any) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "fairmark", *arguments]
    return subprocess.Popen(command, cwd=PROJECT, env={**os.environ, **(environ or {})}, **options)


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    config = tmp_path / "fairmark.toml"
    config.write_text(configuration(extra="[market]\nexchanges = []"), encoding="utf-8")
    return {
        "FAIRMARK_CONFIG": str(config),
        "FAIRMARK_DATA_DIR": str(tmp_path / "data"),
        "FAIRMARK_LOG__FORMAT": "json",
        "FAIRMARK_SIMULATOR__PORT": str(free_port()),
        **line_environ(line_ports()),
    }


def got(url: str) -> dict[str, Any] | None:
    """What is answered there; None where nothing is, or a problem."""
    try:
        response = httpx.get(url, trust_env=False, timeout=10)
    except httpx.HTTPError:
        return None
    return dict(response.json()) if response.is_success else None


def test_help_says_what_it_does_and_where_it_is_configured() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "fairmark", "market", "--help"],
        cwd=PROJECT,
        env={**os.environ, "COLUMNS": "120"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0
    assert "--port" in done.stdout
    assert "docs/market.md" in done.stdout


def test_a_port_in_use_ends_it_with_what_to_do(environ: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = fairmark("market", "--port", str(port), environ=environ, stderr=subprocess.PIPE)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert f"market: port {port} on 127.0.0.1 is in use; stop what listens there or set another port" in errors.decode()


def test_ticks_of_the_generator_are_answered_and_the_minute_under_way_is_kept_at_the_end(
    environ: dict[str, str], tmp_path: Path
) -> None:
    port = free_port()
    simulator = fairmark("simulator", "--tcp", environ=environ)
    control = f"http://127.0.0.1:{environ['FAIRMARK_SIMULATOR__PORT']}/ready"
    processes = [simulator]
    try:
        wait_for("the simulator", lambda: got(control) is not None)
        with (tmp_path / "market.log").open("wb") as log:
            market = fairmark("market", "--port", str(port), environ=environ, stderr=log)
        processes.append(market)
        base = f"http://127.0.0.1:{port}"
        found = wait_for("a price", lambda: got(f"{base}/prices/average/exchange3/DOGEUSDT?period=1m"))
        assert (found["mode"], found["symbol"], found["exchange"]) == ("test", "DOGEUSDT", "exchange3")
        wait_for("all three", lambda: all(state["up"] for state in (got(f"{base}/health") or {})["sources"].values()))
        market.send_signal(signal.SIGTERM)
        assert market.wait(20) == 0
    finally:
        for process in processes:
            process.kill()
            process.wait()
    connection = sqlite3.connect(tmp_path / "data" / "market.sqlite")
    (count,) = connection.execute(
        "SELECT sum(count) FROM market_minutes WHERE pair_name = 'DOGEUSDT' AND exchange = 'exchange3'"
    ).fetchone()
    connection.close()
    assert count >= found["count"]
