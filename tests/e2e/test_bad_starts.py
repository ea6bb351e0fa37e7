"""What a user sees when something is wrong at the start: one message that says what to do, a code, no traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.config import configuration
from tests.e2e.system import AGGREGATOR_KEY, DEPLOYER_KEY, PROJECT, free_port

DEAD = "127.0.0.1:9"  # the discard port: nobody listens there


def fairmark(folder: Path, *arguments: str, config: str | None = None, **environ: str) -> tuple[int, str]:
    """Exit code and all that was printed."""
    path = folder / "fairmark.toml"
    path.write_text(configuration() if config is None else config, encoding="utf-8")
    clean = {name: value for name, value in os.environ.items() if not name.startswith("FAIRMARK_")}
    done = subprocess.run(
        [sys.executable, "-m", "fairmark", *arguments],
        cwd=PROJECT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        env={
            **clean,
            "COLUMNS": "200",
            "FAIRMARK_CONFIG": str(path),
            "FAIRMARK_DATA_DIR": str(folder / "data"),
            "FAIRMARK_CHAIN__DEPLOYMENTS_DIR": str(folder / "deployments"),
            **environ,
        },
    )
    assert "Traceback" not in done.stdout, done.stdout
    return done.returncode, done.stdout


def test_a_wrong_configuration_lists_every_problem_and_exits_with_2(tmp_path: Path) -> None:
    config = configuration().replace('mode = "test"', 'mode = "tets"\n[bff]\nprt = 1')
    code, printed = fairmark(tmp_path, "config", "check", config=config)
    assert code == 2
    assert "bff.prt: no such setting; check its spelling" in printed
    assert "mode: Input should be 'auto', 'live' or 'test' (got 'tets')" in printed


def test_an_unknown_source_is_named(tmp_path: Path) -> None:
    config = configuration().replace('"kraken"', '"krakken"')
    code, printed = fairmark(tmp_path, "config", "check", config=config)
    assert (code, "fetchers.fetcher-a.sources: krakken is not in sources/catalogue" in printed) == (2, True), printed


def test_a_valid_configuration_says_what_it_holds(tmp_path: Path) -> None:
    code, printed = fairmark(tmp_path, "config", "check")
    assert code == 0
    assert "valid; mode test, 4 fetchers, 7 feeds in 1 group(s)" in printed


def test_no_configuration_file(tmp_path: Path) -> None:
    code, printed = fairmark(tmp_path, "bff", "--config", str(tmp_path / "missing.toml"))
    assert (code, "no such file; name another with --config" in printed) == (2, True), printed


def test_a_service_of_its_own_needs_a_real_bus_key_node_and_deployment(tmp_path: Path) -> None:
    code, printed = fairmark(tmp_path, "fetcher", "--name", "fetcher-a", FAIRMARK_CHAIN__URL=f"http://{DEAD}")
    assert code == 2
    assert "set FAIRMARK_FETCHERS__FETCHER_A__KEY, or fetchers.fetcher-a.key_file" in printed
    code, printed = fairmark(
        tmp_path,
        "fetcher",
        "--name",
        "fetcher-a",
        FAIRMARK_FETCHERS__FETCHER_A__KEY=AGGREGATOR_KEY,
        FAIRMARK_CHAIN__URL=f"http://{DEAD}",
    )
    assert code == 1
    assert "no deployment for chain 31337" in printed
    assert "fairmark deploy" in printed


def test_a_deployment_lists_every_missing_key_at_once(tmp_path: Path) -> None:
    given = {"FAIRMARK_FETCHERS__FETCHER_B__ADDRESS": "0x" + "b" * 40}
    code, printed = fairmark(tmp_path, "deploy", FAIRMARK_CHAIN__URL=f"http://{DEAD}", **given)
    assert code == 2
    missing = ["chain.deployer_key", *(f"fetchers.fetcher-{x}.key" for x in "acd")]
    assert [line.split(": missing")[0].strip(" -") for line in printed.splitlines()[1:]] == missing, printed


def test_a_key_that_is_none_is_named_by_its_variable_and_not_shown(tmp_path: Path) -> None:
    code, printed = fairmark(tmp_path, "config", "check", FAIRMARK_AGGREGATOR__KEY=AGGREGATOR_KEY[:-1])
    assert (code, "FAIRMARK_AGGREGATOR__KEY: not a private key" in printed) == (2, True), printed
    assert AGGREGATOR_KEY[:-1] not in printed


def test_an_unreachable_node_is_named(tmp_path: Path) -> None:
    code, printed = fairmark(
        tmp_path, "deploy", FAIRMARK_CHAIN__URL=f"http://{DEAD}", FAIRMARK_CHAIN__DEPLOYER_KEY=DEPLOYER_KEY,
        **{f"FAIRMARK_FETCHERS__FETCHER_{x}__ADDRESS": "0x" + x.lower() * 40 for x in "ABCD"},
    )  # fmt: skip
    assert code == 1
    assert f"http://{DEAD}" in printed


def test_a_secret_in_the_file_is_refused(tmp_path: Path) -> None:
    config = configuration(extra=f'[aggregator]\nkey = "{AGGREGATOR_KEY}"')
    code, printed = fairmark(tmp_path, "config", "check", config=config)
    assert code == 2
    assert "aggregator.key: a secret does not belong in the file" in printed
    assert AGGREGATOR_KEY not in printed


def test_asking_where_nothing_runs(tmp_path: Path) -> None:
    code, printed = fairmark(tmp_path, "price", "BTC/USD", "--url", f"http://127.0.0.1:{free_port()}")
    assert code == 1
    assert "does the BFF run there?" in printed
    code, printed = fairmark(tmp_path, "price", "nonsense")
    assert (code, "is not a pair" in printed) == (1, True), printed


def test_stopping_a_fetcher_of_a_tree_that_does_not_run(tmp_path: Path) -> None:
    code, printed = fairmark(tmp_path, "stop", "fetcher-a")
    assert (code, "nothing runs here" in printed) == (1, True), printed


@pytest.mark.needs_anvil
def test_an_unreachable_broker_is_named_without_its_password(tmp_path: Path, anvil_path: str) -> None:
    port = free_port()
    node = subprocess.Popen([anvil_path, "--port", str(port), "--silent"], stdin=subprocess.DEVNULL)
    try:
        environ = {
            "FAIRMARK_CHAIN__URL": f"http://127.0.0.1:{port}",
            "FAIRMARK_CHAIN__DEPLOYER_KEY": DEPLOYER_KEY,
            "FAIRMARK_AGGREGATOR__KEY": AGGREGATOR_KEY,
            "FAIRMARK_AGGREGATOR__TOKEN": "token",
            "FAIRMARK_BROKER__KIND": "rabbitmq",
            "FAIRMARK_BROKER__URLS": f"amqp://fairmark:s3cret@{DEAD}/",
            **{f"FAIRMARK_FETCHERS__FETCHER_{x}__ADDRESS": "0x" + x.lower() * 40 for x in "ABCD"},
        }
        code, printed = fairmark(tmp_path, "deploy", **environ)
        assert code == 0, printed
        code, printed = fairmark(tmp_path, "aggregator", **environ)
        assert code == 1, printed
        assert DEAD in printed
        assert "s3cret" not in printed
    finally:
        node.terminate()
        node.wait()
