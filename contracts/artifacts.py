"""Compiled contracts, loaded at run time from `artifacts/*.json`. Nothing here compiles."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from contracts.abi import Abi
from contracts.errors import ArtifactError

ARTIFACTS = Path(__file__).parent / "artifacts"
CONTRACTS = (
    "FairmarkOracle",
    "FairmarkFeedAdapter",
    "FairmarkGatedFeedAdapter",
    "FairmarkQuoteAdapter",
    "FairmarkDirectory",
    "ExampleConsumers",
)
INTERFACES = ("IFairmarkOracle",)
"""Sources without code: for their ABI."""


@dataclass(frozen=True)
class Artifact:
    """One contract. bytecode: what a deployment sends, before the constructor's arguments."""

    name: str
    entries: tuple[dict[str, Any], ...]
    bytecode: bytes
    deployed_bytecode: bytes
    compiler: str
    source_hash: str

    @cached_property
    def abi(self) -> Abi:
        return Abi(self.entries)


def load(name: str, folder: Path = ARTIFACTS) -> Artifact:
    """Raises `ArtifactError` when the artifact is missing or broken."""
    path = folder / f"{name}.json"
    try:
        raw = json.loads(path.read_bytes())
        return Artifact(
            name=raw["contractName"],
            entries=tuple(raw["abi"]),
            bytecode=bytes.fromhex(raw["bytecode"][2:]),
            deployed_bytecode=bytes.fromhex(raw["deployedBytecode"][2:]),
            compiler=raw["compiler"],
            source_hash=raw["sourceHash"],
        )
    except (OSError, ValueError, KeyError) as error:
        raise ArtifactError(f"{path} cannot be read ({error!r}): run `python -m contracts.compile`") from error
