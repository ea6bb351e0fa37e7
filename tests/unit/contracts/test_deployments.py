"""Deployment records: one file a chain, replaced whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from contracts.deployments import DeploymentRecord, read_record, record_path, write_record
from contracts.errors import DeploymentMismatchError
from core.types import Mode

RECORD = DeploymentRecord(
    chain_id=31337,
    address="0x5FbDB2315678afecb367f032d93F642f64180aa3",
    block_hash="0x" + "ab" * 32,
    block_number=1,
    transaction="0x" + "cd" * 32,
    mode=Mode.TEST,
    source_hash="0x" + "ef" * 32,
    deployed_at="2026-11-20T12:00:00Z",
    adapters={"BTC/USD": "0x" + "22" * 20},
)


def test_a_record_comes_back(tmp_path: Path):
    assert write_record(tmp_path / "new", RECORD) == tmp_path / "new" / "31337.json"
    assert read_record(tmp_path / "new", 31337) == RECORD
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["31337.json"]


def test_no_record_is_none(tmp_path: Path):
    assert read_record(tmp_path, 1) is None


@pytest.mark.parametrize("content", [b"", b"{", b"{}", b'{"chain_id": "x"}'])
def test_a_broken_record_is_named(tmp_path: Path, content: bytes):
    path = record_path(tmp_path, 1)
    path.write_bytes(content)
    with pytest.raises(DeploymentMismatchError, match=str(path)):
        read_record(tmp_path, 1)
