"""docs/going-live.md is a script: run whole, on a chain that is not for development, with keys made on the way."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from tests.conftest import PROJECT
from tests.e2e.system import free_port
from tests.support.forked_commands import CLIENT, serving

pytestmark = pytest.mark.needs_anvil
CHAIN_ID = 424242


def script() -> str:
    """Every `sh` block of the page, in its order."""
    page = (PROJECT / "docs" / "going-live.md").read_text(encoding="utf-8")
    return "\n".join(re.findall(r"^```sh\n(.*?)^```$", page, re.MULTILINE | re.DOTALL))


def test_the_page_takes_a_fresh_chain_to_a_standing_contract(anvil_path: str, tmp_path: Path) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    node = subprocess.Popen(
        [anvil_path, "--port", str(port), "--chain-id", str(CHAIN_ID), "--silent"], stdout=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 20
        while True:
            try:
                httpx.post(
                    url, json={"jsonrpc": "2.0", "id": 1, "method": "eth_chainId", "params": []}, trust_env=False
                )
                break
            except httpx.HTTPError:
                assert time.monotonic() < deadline
                time.sleep(0.05)
        (tmp_path / "fairmark.toml").write_bytes((PROJECT / "fairmark.toml").read_bytes())
        python = shlex.quote(sys.executable)
        fund = (
            f"import sys, httpx; r = httpx.post({url!r}, trust_env=False, json=dict(jsonrpc='2.0', id=1, "
            "method='anvil_setBalance', params=[sys.argv[1], hex(int(sys.argv[2]) * 10**18)])); "
            "assert 'error' not in r.text"
        )
        later = (
            f"import sys, httpx; [httpx.post({url!r}, trust_env=False, json=dict(jsonrpc='2.0', id=1, "
            "method=m, params=p)) for m, p in (('evm_increaseTime', [int(sys.argv[1])]), ('evm_mine', []))]"
        )
        round_ = f"{python} -m tests.support.first_round {url} deployments/{CHAIN_ID}.json secrets"
        commands = tmp_path / "commands"
        prelude = f'set -eu\nfairmark() {{ {python} -I -S -c {shlex.quote(CLIENT)} {commands} "$@"; }}\n'
        prelude += f'fund() {{ {python} -c {shlex.quote(fund)} "$@"; }}\n'
        prelude += f"first_round() {{ {round_}; }}\n"
        prelude += f'later() {{ {python} -c {shlex.quote(later)} "$@"; }}\n'
        kept = {name: value for name, value in os.environ.items() if not name.startswith("FAIRMARK_")}
        environ = {**kept, "RPC_URL": url, "CHAIN_ID": str(CHAIN_ID), "PYTHONPATH": str(PROJECT)}
        with serving(commands, environ):
            done = subprocess.run(
                ["sh", "-c", prelude + script()],
                cwd=tmp_path,
                env=environ,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=240,
            )
    finally:
        node.terminate()
        node.wait(10)
    printed = done.stdout
    assert done.returncode == 0, printed + done.stderr
    record = json.loads((tmp_path / "deployments" / f"{CHAIN_ID}.json").read_text())
    assert (record["mode"], record["chain_id"], len(record["adapters"])) == ("live", CHAIN_ID, 7)
    assert printed.count(f"FairmarkOracle (live) at {record['address']} on chain {CHAIN_ID}") == 2
    assert printed.count("deploying the oracle: 0x") == 1  # the second run sent nothing
    # once new, once with another key in the place of a revoked one
    assert printed.count("configuring group majors: 0x") == 2
    assert printed.count("rotating the signers of group majors: 0x") == 1  # announced once, and shown once more
    assert printed.count("concluding the rotation of group majors: 0x") == 1
    assert re.search(r"in (24 h 0|23 h 59) min$", printed, re.MULTILINE)
    assert "majors: HALTED, too few signers are left" in printed
    assert "WARNING: 3 signers are left to majors" in printed
    assert "stands as configured" in printed
    assert re.search(r"^group majors: .*PAUSED$", printed, re.MULTILINE)
    names = json.loads((tmp_path / "secrets" / "guardian.json").read_text())
    assert f"guardian {names['address']}" in printed
    assert "majors BTC/USD: decimals 8, heartbeat_s 60, deviation_bps 50, min_contributors 3" in printed
    assert (printed.count("reporter removed"), printed.count("reporter added")) == (1, 2)
    for keystore in (tmp_path / "secrets").iterdir():
        assert keystore.stat().st_mode & 0o077 == 0
        assert not re.search(r"\b(0x)?[0-9a-f]{64}\s*$", keystore.read_text()), "a key in the clear"
