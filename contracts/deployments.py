"""What was deployed where: `<deployments_dir>/<chainId>.json`."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
from msgspec import Struct

from contracts.errors import DeploymentMismatchError
from core import codec
from core.types import Mode


class DeploymentRecord(Struct, frozen=True, kw_only=True):
    """One deployment of the oracle.

    block_hash, block_number, transaction: of the contract's creation. adapters: AggregatorV3 adapters by pair.
    source_hash: of the sources it was compiled from. deployed_at: RFC 3339. beside: other contracts, by what they are
    (see `contracts.beside`).
    """

    chain_id: int
    address: str
    block_hash: str
    block_number: int
    transaction: str
    mode: Mode
    source_hash: str
    deployed_at: str
    adapters: dict[str, str] = {}
    beside: dict[str, str] = {}


def record_path(deployments_dir: Path, chain_id: int) -> Path:
    return deployments_dir / f"{chain_id}.json"


def read_record(deployments_dir: Path, chain_id: int) -> DeploymentRecord | None:
    """The record of `chain_id`, or None when there is none. Raises `DeploymentMismatchError` when it cannot be read."""
    path = record_path(deployments_dir, chain_id)
    try:
        return codec.decode(path.read_bytes(), DeploymentRecord)
    except FileNotFoundError:
        return None
    except (msgspec.MsgspecError, OSError) as error:
        raise DeploymentMismatchError(f"{path} cannot be read ({error}); mend it, or move it away") from error


def write_record(deployments_dir: Path, record: DeploymentRecord) -> Path:
    """Replace the chain's record in one step, so that no reader ever sees half of one."""
    path = record_path(deployments_dir, record.chain_id)
    replace_file(path, msgspec.json.format(codec.encode(record), indent=2) + b"\n")
    return path


def replace_file(path: Path, content: bytes) -> None:
    """Write a file in one step, on the disk when this returns; folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_name(f"{path.name}.{os.getpid()}")
    with half.open("wb") as out:
        out.write(content)
        out.flush()
        os.fsync(out.fileno())
    half.replace(path)
