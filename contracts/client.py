"""The one Python client of `FairmarkOracle`: state before a round, submission, and every answer in one call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from eth_utils.address import to_checksum_address

from contracts import artifacts
from contracts.abi import Abi
from contracts.deployments import DeploymentRecord
from contracts.errors import (
    CallRevertedError,
    ContractError,
    DeploymentMismatchError,
    MalformedReportError,
    RoundRefusedError,
    RpcRejectedError,
)
from contracts.fees import FeePolicy, Fees, fees_of
from contracts.readings import Answer, AnswerStatus, FeedOnChain, GroupReading, GroupState, Receipt
from contracts.report import DOMAIN_VERSION, Domain, LocalSigner, Signer, bytes32, recover_reporter
from contracts.rounds import SignerSet, gas_bound, pack_round
from contracts.rpc import MAX_LAG_S, Rpc
from contracts.transactions import Before, Sent, TransactionSender, find_receipt, wait_any, wait_receipt
from core.median import from_scaled
from core.types import Deployment, Mode, Pair, SignedReport

SIMULATE_AT = "pending"
"""A simulation sees the time of the block it would be mined in. At `latest` it would see the last block's, and on a
chain that was idle for more than 30 s every moment would lie in the future."""
LATEST = "latest"
KNOWN_SETS = 256
"""Versions of groups that a client remembers."""


class OracleClient:
    """One deployment of the oracle. Build it with `connect`."""

    def __init__(self, rpc: Rpc, record: DeploymentRecord, mode: Mode, fees: FeePolicy | None = None) -> None:
        self.rpc = rpc
        self.fees = fees or FeePolicy()
        self.record = record
        self.mode = mode
        self.deployment = Deployment(chain_id=record.chain_id, address=record.address, block_hash=record.block_hash)
        self.domain = Domain(mode, record.chain_id, record.address)
        self._sets: dict[str, SignerSet] = {}
        self.abi: Abi = artifacts.load("FairmarkOracle").abi

    @classmethod
    async def connect(
        cls,
        url: str | Sequence[str],
        record: DeploymentRecord,
        mode: Mode,
        *,
        timeout_s: float = 5.0,
        max_lag_s: float = MAX_LAG_S,
        fees: FeePolicy | None = None,
    ) -> OracleClient:
        """A client that has seen the contract: right chain, right history, right mode.

        url: of its node, or of several, the preferred first. timeout_s bounds each call made later, too. max_lag_s: as
        `Rpc`. fees: what its transactions may cost. Raises `DeploymentMismatchError` or `RpcUnavailableError`.
        """
        client = cls(Rpc(url, timeout_s=timeout_s, max_lag_s=max_lag_s), record, mode, fees)
        try:
            await client._verify()
        except BaseException:
            await client.close()
            raise
        return client

    async def _verify(self) -> None:
        record = self.record
        if record.mode != self.mode:
            raise DeploymentMismatchError(f"the record is of a {record.mode} deployment, not of a {self.mode} one")
        for url, chain_id in (await self.rpc.chain_ids()).items():
            if chain_id != record.chain_id:
                raise DeploymentMismatchError(
                    f"{url} is chain {chain_id}, the record's is {record.chain_id}: set chain.chain_id, or name "
                    "another node with chain.url"
                )
        block = await self.rpc.call("eth_getBlockByNumber", hex(record.block_number), False)
        if block is None or block["hash"] != record.block_hash:
            raise DeploymentMismatchError(
                f"block {record.block_number} is not the record's {record.block_hash}: this chain has another history; "
                "deploy again, or name the node that the record was made with"
            )
        if len(await self.rpc.call("eth_getCode", record.address, "latest")) <= 2:
            raise DeploymentMismatchError(f"no contract stands at {record.address}")
        _, name, version, domain_chain, contract, _, _ = await self.read("eip712Domain")
        wanted = (self.domain.name, DOMAIN_VERSION, record.chain_id, record.address.lower())
        if (name, version, domain_chain, contract.lower()) != wanted:
            raise DeploymentMismatchError(
                f"{record.address} signs as {name!r} version {version}, not as {self.domain.name!r}: "
                "wrong mode, or another contract"
            )

    async def group_state(self, group: str, at: str = LATEST) -> GroupState:
        """One call. at: a block, 0x-hex, for as long as the node keeps its state. Raises `CallRevertedError` named
        `UnknownGroup`, or `RpcUnavailableError`."""
        (info,) = await self.read("groupInfo", bytes32(group), at=at)
        state = _state(group, info)
        self._sets[state.group_hash] = signer_set(state)
        while len(self._sets) > KNOWN_SETS:
            self._sets.pop(next(iter(self._sets)))
        return state

    async def read_group(self, group: str, at: str = LATEST) -> GroupReading:
        """Every answer of the group, in one call. at, and what it raises: as `group_state`."""
        (reading,) = await self.read("readGroup", bytes32(group), at=at)
        group_hash, version, round_, moment, block, paused, timestamp, feeds = reading
        answers = [_answer(feed) for feed in feeds]
        return GroupReading(
            group=group,
            mode=self.mode,
            group_hash="0x" + group_hash.hex(),
            version=version,
            round=round_,
            moment=moment,
            accepted_block=block,
            block_timestamp=timestamp,
            paused=paused,
            pairs=tuple(answer.pair for answer in answers),
            answers={answer.pair: answer for answer in answers if answer.value},
        )

    async def owner(self) -> str:
        """Who configures the oracle. Raises `RpcUnavailableError`."""
        (owner,) = await self.read("owner")
        return to_checksum_address(owner)

    async def pending_owner(self) -> str:
        """Who is offered ownership and has not accepted it; the zero address: nobody. Raises `RpcUnavailableError`."""
        (owner,) = await self.read("pendingOwner")
        return to_checksum_address(owner)

    async def round_transaction(self, group: str, round_: int, block: int) -> str | None:
        """The transaction that made a round, looked for in `block` (its `accepted_block`) only; None when not there."""
        topics = [self.abi.topic("RoundAccepted"), "0x" + bytes32(group).hex(), f"0x{round_:064x}"]
        wanted = {"address": self.record.address, "fromBlock": hex(block), "toBlock": hex(block), "topics": topics}
        logs = await self.rpc.call("eth_getLogs", wanted)
        return str(logs[0]["transactionHash"]) if logs else None

    def build_submission(self, group: str, reports: Sequence[SignedReport], hints: bytes) -> bytes:
        """The calldata of `submit`. `reports` ascending by signer (`report.in_signer_order`), hints by `median_hints`.

        All reports must be of one moment, one previous moment, and a version that `group_state` has read. Raises
        `MalformedReportError` or `InvalidSignatureError`.
        """
        known = self._sets.get(reports[0].group_hash.lower()) if reports else None
        if known is None:
            raise MalformedReportError(
                f"no reports of a version of {group} that `group_state` has shown: read it again"
            )
        return self.abi.call("submit", self.payload(known, reports, hints))

    def payload(self, known: SignerSet, reports: Sequence[SignedReport], hints: bytes) -> bytes:
        """The argument of `submit`, for a version's signer set. Raises as `build_submission` does."""
        return pack_round(known, reports, [recover_reporter(self.domain, report) for report in reports], hints)

    async def simulate(self, calldata: bytes, sender: str) -> None:
        """Run a submission without sending it. Raises `RoundRefusedError` with the custom error's name."""
        try:
            await self.run(calldata, sender)
        except CallRevertedError as error:
            raise RoundRefusedError(error.name, error.arguments) from None

    async def run(self, calldata: bytes, sender: str, to: str | None = None) -> None:
        """Run any call in the block to come, without sending it; of the oracle, or `to`. Raises `CallRevertedError`."""
        await self._eth_call(calldata, SIMULATE_AT, sender, to)

    def sender(self, key: str | Signer) -> TransactionSender:
        """Who sends this client's transactions: a private key in hex, or a signer. Make one for each key; keep it.

        Raises `DevelopmentKeyError` where a development key is to be used on a chain that is none.
        """
        signer = LocalSigner(key) if isinstance(key, str) else key
        return TransactionSender(self.rpc, signer, self.record.chain_id, self.fees)

    async def submit(self, calldata: bytes, sender: TransactionSender, *, gas: int | None = None) -> str:
        """Send a submission; the transaction's hash. gas: the limit; default: a bound by the reports and feeds in it.

        Raises `TransactionFailedError` or `RpcUnavailableError`.
        """
        return (await self.place(calldata, sender, gas=gas)).transaction

    async def place(
        self,
        calldata: bytes,
        sender: TransactionSender,
        *,
        gas: int | None = None,
        over: Sent | None = None,
        before: Before | None = None,
    ) -> Sent:
        """`submit`, for who tracks transactions: see `TransactionSender.place`."""
        return await sender.place(
            self.record.address, calldata, gas=gas or gas_limit(calldata), over=over, before=before
        )

    async def wait_receipt(self, transaction: str, timeout_s: float) -> Receipt:
        """Raises `ReceiptTimeoutError` or `RpcUnavailableError`. A reverted transaction's receipt has `ok` False."""
        return await wait_receipt(self.rpc, transaction, timeout_s)

    async def wait_any(self, transactions: Sequence[str], timeout_s: float) -> Receipt:
        """The receipt of the one that is mined, of several with one nonce. Raises as `wait_receipt` does."""
        return await wait_any(self.rpc, transactions, timeout_s)

    async def find_receipt(self, transaction: str) -> Receipt | None:
        """None while no block has it. Raises `RpcUnavailableError`."""
        return await find_receipt(self.rpc, transaction)

    async def find_fees(self, transaction: str) -> Fees | None:
        """What a transaction that the node has, mined or not, offers; None where it has none such."""
        found = await self.rpc.call("eth_getTransactionByHash", transaction)
        return None if found is None else fees_of(found)

    async def settled_block(self, confirmations: int | str) -> int:
        """The newest block that counts as settled: with `confirmations` blocks, its own among them, or `safe` or
        `finalized` by the chain's own word. -1 where there is none yet. Raises `RpcUnavailableError`."""
        if isinstance(confirmations, int):
            return await self.block_number() - confirmations + 1
        block = await self.rpc.call("eth_getBlockByNumber", confirmations, False)
        return -1 if block is None else int(block["number"], 16)

    async def block_number(self) -> int:
        return await self.rpc.quantity("eth_blockNumber")

    async def ping(self) -> str:
        """A short detail for `/health`. Raises `RpcUnavailableError`."""
        return f"chain {self.record.chain_id} at block {await self.block_number()}"

    async def close(self) -> None:
        await self.rpc.close()

    async def read(self, function: str, *arguments: Any, at: str = LATEST) -> tuple[Any, ...]:
        """What a view function returns at a block. Raises `CallRevertedError` or `RpcUnavailableError`."""
        return self.abi.result(function, await self._eth_call(self.abi.call(function, *arguments), at))

    async def _eth_call(self, calldata: bytes, block: str, sender: str | None = None, to: str | None = None) -> bytes:
        call = {"to": to or self.record.address, "data": "0x" + calldata.hex()} | ({"from": sender} if sender else {})
        try:
            result = await self.rpc.call("eth_call", call, block)
        except RpcRejectedError as error:
            if (data := revert_data(error)) is None:
                raise
            raise CallRevertedError(*self.abi.error(data)) from None
        return bytes.fromhex(result[2:])


def signer_set(state: GroupState) -> SignerSet:
    """Who signs, as a round's payload needs it."""
    return SignerSet(
        number=state.number,
        place=state.set_place,
        signers=state.signers,
        feeds=len(state.feeds),
        least=max(feed.min_contributors for feed in state.feeds),
    )


def revert_data(error: RpcRejectedError) -> bytes | None:
    """What a call reverted with, or None when the node refused for a reason of its own."""
    data = error.data.get("data") if isinstance(error.data, dict) else error.data
    if isinstance(data, str) and data.startswith("0x"):
        return bytes.fromhex(data[2:])
    return b"" if "revert" in error.rpc_message.lower() else None


def gas_limit(calldata: bytes) -> int:
    """A bound on what a submission costs, by its calldata. In gas."""
    return gas_bound(calldata[4 + 64 :])


def _state(group: str, info: tuple[Any, ...]) -> GroupState:
    (_, version, group_hash, round_, moment, block, threshold, f, max_age_ms, paused, timestamp, *rest) = info
    signers, feeds, number, set_place = rest
    return GroupState(
        group=group,
        group_hash="0x" + group_hash.hex(),
        version=version,
        last_moment=moment,
        round=round_,
        accepted_block=block,
        paused=paused,
        threshold=threshold,
        f=f,
        max_age_ms=max_age_ms,
        signers=tuple(to_checksum_address(signer) for signer in signers),
        feeds=tuple(FeedOnChain(_pair(id_), *parameters) for id_, *parameters in feeds),
        block_timestamp=timestamp,
        number=number,
        set_place=set_place,
    )


def _answer(feed: tuple[Any, ...]) -> Answer:
    id_, decimals, status, heartbeat, stale_after, value, round_, moment, updated_at, spread, contributors = feed
    return Answer(
        pair=_pair(id_),
        value=value,
        decimals=decimals,
        price=from_scaled(value, decimals),
        round=round_,
        observed_ms=moment,
        updated_at=updated_at,
        spread_bps=spread,
        contributors=contributors,
        status=AnswerStatus(status),
        heartbeat_s=heartbeat,
        stale_after_s=stale_after,
    )


def _pair(id_: bytes) -> Pair:
    try:
        return Pair(id_.rstrip(b"\0").decode("ascii"))
    except ValueError as error:
        raise ContractError(f"feed 0x{id_.hex()} is not named like a pair: was it configured by hand?") from error
