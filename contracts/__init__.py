"""The contract's side of the house: Solidity sources, artifacts, what reporters sign, deployment, one client.

report   digests, signatures, packed prices, median hints (pure)
client   `OracleClient`: group state, readings, submission
deploy   `deploy(...)`, and its records in `deployments/<chainId>.json`
devchain an EVM chain in a process of its own, for development and tests

The names below are looked up when they are asked for: the client takes a second to import, and signing needs no chain.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from contracts.client import OracleClient
    from contracts.deployments import DeploymentRecord, read_record
    from contracts.readings import Answer, AnswerStatus, FeedOnChain, GroupReading, GroupState, Receipt
    from contracts.report import Domain, LocalSigner, Signer
    from contracts.transactions import TransactionSender

_HOME = {
    "Answer": "readings",
    "AnswerStatus": "readings",
    "DeploymentRecord": "deployments",
    "Domain": "report",
    "FeedOnChain": "readings",
    "GroupReading": "readings",
    "GroupState": "readings",
    "LocalSigner": "report",
    "OracleClient": "client",
    "Receipt": "readings",
    "Signer": "report",
    "TransactionSender": "transactions",
    "read_record": "deployments",
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"contracts.{_HOME[name]}"), name)


__all__ = [
    "Answer",
    "AnswerStatus",
    "DeploymentRecord",
    "Domain",
    "FeedOnChain",
    "GroupReading",
    "GroupState",
    "LocalSigner",
    "OracleClient",
    "Receipt",
    "Signer",
    "TransactionSender",
    "read_record",
]
