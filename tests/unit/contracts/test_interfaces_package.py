"""The interfaces that consumers install are the very ones that the contract is compiled from."""

from pathlib import Path

CONTRACTS = Path(__file__).resolve().parents[3] / "contracts"
PUBLISHED = {"AggregatorV3Interface.sol", "FairmarkErrors.sol", "FairmarkTypes.sol", "IFairmarkOracle.sol"}


def test_each_published_file_is_its_source_to_the_byte() -> None:
    assert {path.name for path in (CONTRACTS / "npm").glob("*.sol")} == PUBLISHED
    for name in PUBLISHED:
        assert (CONTRACTS / "npm" / name).read_bytes() == (CONTRACTS / "src" / name).read_bytes(), name
