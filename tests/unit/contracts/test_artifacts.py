"""The committed artifacts are of the committed sources."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from contracts import artifacts
from contracts import compile as compiler
from contracts.errors import ArtifactError


@pytest.mark.parametrize("name", artifacts.CONTRACTS)
def test_an_artifact_is_built_from_the_sources_beside_it(name):
    assert artifacts.load(name).source_hash == compiler.source_hash()


@pytest.mark.parametrize("name", artifacts.CONTRACTS)
def test_a_contract_fits_what_chains_take(name):
    artifact = artifacts.load(name)
    assert 0 < len(artifact.deployed_bytecode) <= 24_576  # EIP-170
    assert len(artifact.bytecode) <= 49_152  # EIP-3860


@pytest.mark.needs_solc
@pytest.mark.parametrize("name", artifacts.CONTRACTS)
def test_the_libraries_are_those_that_were_compiled_in(name):
    recorded = json.loads((artifacts.ARTIFACTS / f"{name}.json").read_text())
    assert recorded["libraries"] == compiler.library_hashes(compiler.all_sources())


@pytest.mark.needs_solc
def test_compiling_again_gives_the_same_bytes():
    assert compiler.main(["--check"]) == 0


def test_a_missing_artifact_says_what_to_do(tmp_path: Path):
    with pytest.raises(ArtifactError, match=r"python -m contracts\.compile"):
        artifacts.load("FairmarkOracle", tmp_path)
