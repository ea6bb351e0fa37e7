"""The contract's side of the house: Solidity sources, artifacts, what reporters sign, deployment, one client.

report   digests, signatures, packed prices, median hints (pure)
client   `OracleClient`: group state, readings, submission
deploy   `deploy(...)`, and its records in `deployments/<chainId>.json`
devchain an EVM chain in a process of its own, for development and tests
"""

from contracts.client import OracleClient
from contracts.deployments import DeploymentRecord, read_record
from contracts.readings import Answer, AnswerStatus, FeedOnChain, GroupReading, GroupState, Receipt
from contracts.report import Domain, LocalSigner, Signer
from contracts.transactions import TransactionSender

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
