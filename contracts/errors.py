"""The contracts room's exception tree.

ContractError
├── RpcUnavailableError        the node does not answer, or answers nonsense
│   ├── NodeBehindError        it answers, and does not know what others know
│   └── NodesDisagreeError     several answer, and tell different histories
├── RpcRejectedError           the node answers with an error of its own
├── CallRevertedError          the chain would revert the call
│   ├── RoundRefusedError      … and it is a round that the contract refuses
│   └── ChangeRefusedError     … and it is a governor's change that the contract refuses
│       ├── RoleMissingError
│       ├── RotationUnderWayError
│       ├── NoRotationDueError
│       └── NoCandidateError
├── TransactionFailedError     a transaction was mined and failed, or was not mined in time
│   ├── ReceiptTimeoutError
│   ├── TransactionRevertedError
│   ├── OutOfFundsError
│   ├── FeeCapError            the chain asks more for gas than the operator allows
│   ├── EarlierWaitsError      an earlier one of this key is in no block: this one would wait behind it
│   ├── UnderpricedError       the node wants more for it than was offered
│   └── NonceUsedError         another transaction of this key was mined in its place
├── KeyRefusedError            a key that cannot be read, or must not be used here
│   └── DevelopmentKeyError
├── DeploymentMismatchError    what stands on the chain is not what the record, or the mode, says
├── InvalidUpdateError         a signed update that is not what it says, or not for this contract
├── MalformedReportError       fields that cannot be hashed into a report
├── MalformedEvidenceError     quotes that cannot be hashed into an evidence root, or count for nothing
├── InvalidSignatureError      no signature, or one that the contract would refuse
└── ArtifactError              an artifact is missing, or is not built from the sources beside it
"""

from __future__ import annotations

from typing import Any

from core.errors import FairmarkError


class ContractError(FairmarkError):
    """Base of what goes wrong between this process and the chain."""

    code = "contract"


class RpcUnavailableError(ContractError):
    """The node cannot be reached, did not answer in time, or did not answer in JSON-RPC. Trying again may help."""

    code = "chain_unavailable"


class NodeBehindError(RpcUnavailableError):
    """A node that answers without knowing what others know, or what it knew itself. Another one, or waiting, helps."""

    code = "node_behind"


class NodesDisagreeError(RpcUnavailableError):
    """The configured nodes tell different histories: nothing is written until they agree."""

    code = "nodes_disagree"


class RpcRejectedError(ContractError):
    """The node answered with an error. `rpc_code`, `data`: as the node gave them."""

    code = "chain_rejected"

    def __init__(self, method: str, message: str, rpc_code: int, data: Any = None) -> None:
        self.method = method
        self.rpc_message = message
        self.rpc_code = rpc_code
        self.data = data
        super().__init__(f"{method}: the node answered {rpc_code}: {message}")


class CallRevertedError(ContractError):
    """The chain would revert this call. `name`: the custom error, `arguments`: its values in order."""

    code = "call_reverted"

    def __init__(self, name: str, arguments: tuple[Any, ...] = ()) -> None:
        self.name = name
        self.arguments = arguments
        listed = ", ".join(f"0x{value.hex()}" if isinstance(value, bytes) else str(value) for value in arguments)
        super().__init__(f"{name}({listed})")


class RoundRefusedError(CallRevertedError):
    """The contract would refuse this round; `name` says why (`StaleMoment`, `UnexpectedPreviousMoment`, …)."""

    code = "round_refused"


class ChangeRefusedError(CallRevertedError):
    """The contract would refuse what a governor asks of it. `hint`: what to do about it."""

    code = "change_refused"

    def __init__(self, name: str, arguments: tuple[Any, ...] = (), hint: str = "") -> None:
        super().__init__(name, arguments)
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.hint} ({super().__str__()})" if self.hint else super().__str__()


class RoleMissingError(ChangeRefusedError):
    """The key has none of the roles that the change needs."""

    code = "role_missing"


class RotationUnderWayError(ChangeRefusedError):
    """A rotation of the group's signers must be concluded or cancelled first."""

    code = "rotation_under_way"


class NoRotationDueError(ChangeRefusedError):
    """There is no rotation, or its overlap is not over."""

    code = "no_rotation_due"


class NoCandidateError(ChangeRefusedError):
    """No candidate waits for the feed, or another value than the one that was seen."""

    code = "no_candidate"


class TransactionFailedError(ContractError):
    """A transaction was mined and reverted, or could not be sent."""

    code = "transaction_failed"


class ReceiptTimeoutError(TransactionFailedError):
    """A transaction was sent, and no block had it within the wait. It may still be mined."""

    code = "receipt_timeout"

    def __init__(self, transaction: str, timeout_s: float) -> None:
        self.transaction = transaction
        super().__init__(f"{transaction} is in no block after {timeout_s:g} s")


class TransactionRevertedError(TransactionFailedError):
    """A transaction was mined and reverted, or the node saw that it would."""

    code = "transaction_reverted"


class OutOfFundsError(TransactionFailedError):
    """The sender's balance does not cover the transaction's gas at its fees."""

    code = "out_of_funds"


class FeeCapError(TransactionFailedError):
    """The chain asks more than the operator allows. `wanted`, `cap`: wei per gas."""

    code = "fee_cap"

    def __init__(self, wanted: int, cap: int) -> None:
        self.wanted, self.cap = wanted, cap
        allowed = f"chain.submission.max_fee_gwei allows {cap / 10**9:g}"
        super().__init__(f"{wanted / 10**9:g} gwei are asked, and {allowed}")


class EarlierWaitsError(TransactionFailedError):
    """Nothing was sent: an earlier transaction of the key is in no block. `nonce`: its."""

    code = "earlier_waits"

    def __init__(self, address: str, nonce: int) -> None:
        self.nonce = nonce
        super().__init__(
            f"nothing was sent: the transaction of {address} with nonce {nonce} is in no block, and this one would "
            "wait behind it. It may be mined yet; `fairmark chain cancel` puts nothing in its place"
        )


class UnderpricedError(TransactionFailedError):
    """The node wants more for the transaction than was offered, after every bump that was tried."""

    code = "underpriced"


class NonceUsedError(TransactionFailedError):
    """A block has another transaction of this key with this nonce."""

    code = "nonce_used"


class KeyRefusedError(ContractError):
    """A key, or a keystore, that cannot be read or must not be used here."""

    code = "key_refused"


class DevelopmentKeyError(KeyRefusedError):
    """A key that everybody knows, on a chain that is not for development."""

    code = "development_key"


class DeploymentMismatchError(ContractError):
    """What stands at the address is not what the record, the mode or the configuration says."""

    code = "deployment_mismatch"


class InvalidUpdateError(ContractError):
    """A signed update that is not what it says, or not for this contract: do not submit it."""

    code = "invalid_update"


class MalformedReportError(ContractError):
    """A report, a hint or a key with a field out of its range."""

    code = "malformed_report"


class MalformedEvidenceError(ContractError):
    """Evidence that no honest reporter sends: it has no root."""

    code = "malformed_evidence"


class InvalidSignatureError(ContractError):
    """Not a signature that the contract would accept: wrong length, high s, or no key to recover."""

    code = "invalid_signature"


class ArtifactError(ContractError):
    """A contract's artifact is missing or out of date: run `python -m contracts.compile`."""

    code = "artifact"
