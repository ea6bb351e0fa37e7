"""eth-tester's chain with three differences: its blocks keep the clock's time, what was mined is found by key instead
of by walking the chain, and its history is bounded. Synchronous, and not for several threads at once.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from eth.exceptions import VMError
from eth.vm.forks.prague import PragueVM
from eth.vm.spoof import SpoofTransaction
from eth_tester.backends.pyevm.main import PyEVMBackend, get_default_genesis_params
from eth_utils.exceptions import ValidationError

from contracts.errors import ContractError
from core.clock import Clock

GAS_LIMIT = 30_000_000
MAX_TOLD = 64
"""Calls at the newest block whose results are kept while it is that."""
FUNDS = 1_000_000 * 10**18
TIP = 10**9
"""What `eth_maxPriorityFeePerGas` advises, in wei."""
KEPT_BLOCKS = 20_000
"""Blocks whose transactions and logs can be looked up: two weeks of a round a minute."""
GAS_MARGIN = 1.2


class ChainError(ContractError):
    """The chain refuses, as a node would: `rpc_code` and `data` go into the JSON-RPC error."""

    code = "dev_chain"

    def __init__(self, message: str, rpc_code: int = -32000, data: str | None = None) -> None:
        self.rpc_code = rpc_code
        self.data = data
        super().__init__(message)


class _DevVM(PragueVM):
    """Prague, but a block may have its parent's time: else a hundred quick blocks are a hundred seconds ahead."""

    @classmethod
    def validate_header(cls, header: Any, parent_header: Any) -> None:
        if parent_header is not None and header.timestamp == parent_header.timestamp:
            parent_header = parent_header.copy(timestamp=parent_header.timestamp - 1)
        super().validate_header(header, parent_header)


@dataclass(frozen=True)
class Log:
    address: bytes
    topics: tuple[bytes, ...]
    data: bytes


@dataclass(frozen=True)
class Mined:
    """A block with the one transaction that it was mined for. `header`, `transaction`: py-evm's."""

    header: Any
    transaction: Any
    sender: bytes
    gas_used: int
    ok: bool
    created: bytes | None
    logs: tuple[Log, ...]
    logs_bloom: int
    size: int

    @property
    def number(self) -> int:
        return int(self.header.block_number)


class DevChain:
    """A chain of its own history (its genesis block is random), where every transaction is mined at once.

    funded: addresses that start with 1,000,000 ether.
    """

    def __init__(self, clock: Clock, *, chain_id: int = 31337, funded: Iterable[str] = ()) -> None:
        self.chain_id = chain_id
        self._clock = clock
        accounts: dict[bytes, dict[str, Any]] = {
            bytes.fromhex(address[2:]): {"balance": FUNDS, "storage": {}, "code": b"", "nonce": 0} for address in funded
        } or {bytes(19) + b"\x01": {"balance": 0, "storage": {}, "code": b"", "nonce": 0}}
        genesis = {"gas_limit": GAS_LIMIT, "timestamp": self._now_s(), "extra_data": os.urandom(16)}
        backend = PyEVMBackend(
            genesis_parameters=get_default_genesis_params(overrides=genesis),
            genesis_state=accounts,
            vm_configuration=((0, _DevVM),),
        )
        self._chain = backend.chain
        type(self._chain).chain_id = chain_id  # the class was made for this chain alone
        self._blocks: OrderedDict[int, Any] = OrderedDict()
        self._mined: dict[int, Mined] = {}
        self._by_block_hash: dict[bytes, int] = {}
        self._by_transaction: dict[bytes, int] = {}
        self._told: dict[tuple[object, ...], bytes] = {}  # what calls at the newest block returned
        self._told_at = b""
        self._remember(self._chain.get_canonical_block_header_by_number(0), None)

    # -------------------------------------------------------------------------------------------- reading

    @property
    def head(self) -> Any:
        """The newest block's header."""
        return self._blocks[next(reversed(self._blocks))]

    def header(self, number: int) -> Any | None:
        return self._blocks.get(number)

    def number_of(self, block_hash: bytes) -> int | None:
        return self._by_block_hash.get(block_hash)

    def mined(self, number: int) -> Mined | None:
        """What block `number` was mined for; None for the genesis block and for blocks mined empty."""
        return self._mined.get(number)

    def find(self, transaction: bytes) -> Mined | None:
        number = self._by_transaction.get(transaction)
        return None if number is None else self._mined.get(number)

    def logs(
        self, first: int, last: int, addresses: Sequence[bytes], topics: Sequence[Sequence[bytes] | None]
    ) -> list[tuple[Mined, int, Log]]:
        """Matching logs of blocks first to last, each with its index in its block. No addresses: any."""
        numbers: Iterable[int] = range(max(first, 0), min(last, self.head.block_number) + 1)
        if last - first > len(self._mined):
            numbers = [number for number in self._mined if first <= number <= last]
        return [
            (mined, index, log)
            for number in numbers
            if (mined := self._mined.get(number))
            for index, log in enumerate(mined.logs)
            if (not addresses or log.address in addresses) and _fits(log.topics, topics)
        ]

    def nonce(self, address: bytes, number: int | None = None) -> int:
        return int(self._vm(number).state.get_nonce(address))

    def balance(self, address: bytes, number: int | None = None) -> int:
        return int(self._vm(number).state.get_balance(address))

    def code(self, address: bytes, number: int | None = None) -> bytes:
        return bytes(self._vm(number).state.get_code(address))

    def storage(self, address: bytes, slot: int, number: int | None = None) -> int:
        return int(self._vm(number).state.get_storage(address, slot))

    # -------------------------------------------------------------------------------------------- running

    def call(
        self,
        to: bytes,
        data: bytes,
        *,
        sender: bytes = bytes(20),
        value: int = 0,
        gas: int = GAS_LIMIT,
        number: int | None = None,
        pending: bool = False,
    ) -> bytes:
        """What the contract returns, at the newest block, at block `number`, or in a block mined now (`pending`).

        Raises `ChainError`, as geth would: code 3 and the revert's data, or -32000 for any other failure.
        """
        asked = (to, data, sender, value, gas)
        newest = number is None and not pending
        if newest:
            # every fetcher and the aggregator ask the same of one block: only the first has it worked out
            if self._told_at != self.head.hash:
                self._told_at = self.head.hash
                self._told.clear()
            if asked in self._told:
                return self._told[asked]
        vm = self._pending_vm() if pending else self._vm(number)
        computation = vm.execute_bytecode(
            origin=sender,
            gas_price=0,
            gas=min(gas, GAS_LIMIT),
            to=to,
            sender=sender,
            value=value,
            data=data,
            code=vm.state.get_code(to),
            code_address=to,
        )
        if computation.is_error:
            raise _reverted(computation)
        output = bytes(computation.output)
        if newest and len(self._told) < MAX_TOLD:
            self._told[asked] = output
        return output

    def estimate(self, to: bytes, data: bytes, sender: bytes, value: int = 0) -> int:
        """Gas that the transaction needs if mined now, and a margin. Raises `ChainError`."""
        vm = self._pending_vm()
        state = vm.state
        state.set_balance(sender, FUNDS * FUNDS)  # this state is thrown away: an estimate needs no funds
        fee = 2 * vm.get_header().base_fee_per_gas
        unsigned = vm.get_transaction_builder().new_unsigned_dynamic_fee_transaction(
            chain_id=self.chain_id,
            nonce=state.get_nonce(sender),
            max_priority_fee_per_gas=0,
            max_fee_per_gas=fee,
            gas=GAS_LIMIT,
            to=to,
            value=value,
            data=data,
            access_list=(),
        )
        computation = state.apply_transaction(SpoofTransaction(unsigned, from_=sender))
        if computation.is_error:
            raise _reverted(computation)
        # refunds come after the limit was kept, and a 64th stays behind at each call: the margin is for both
        used = computation.get_gas_used() + unsigned.intrinsic_gas
        return min(GAS_LIMIT, int(used * GAS_MARGIN) + int(computation.get_gas_refund()))

    def send_raw(self, raw: bytes) -> bytes:
        """Mine a signed transaction in a block of its own; its hash. Raises `ChainError` when it cannot be mined."""
        chain = self._chain
        try:
            transaction = chain.get_vm().get_transaction_builder().decode(raw)
            transaction.validate()
            sender = transaction.sender
        except Exception as error:  # whatever a decoder makes of arbitrary bytes
            raise ChainError(f"not a signed transaction: {error}") from error
        if transaction.hash in self._by_transaction:
            raise ChainError("already known")
        expected = self.nonce(sender)
        if transaction.nonce != expected:
            word = "low" if transaction.nonce < expected else "high"
            raise ChainError(f"nonce too {word}: address 0x{sender.hex()}, tx: {transaction.nonce} state: {expected}")
        before = chain.header
        try:
            chain.set_header_timestamp(self._block_time())
            _, receipt, computation = chain.apply_transaction(transaction)
            block = chain.mine_block(mix_hash=os.urandom(32), coinbase=bytes(20))
        except (ValidationError, VMError) as error:
            chain.header = before
            raise ChainError(str(error)) from error
        created = None if transaction.to else bytes(computation.msg.storage_address)
        self._remember(
            block.header,
            Mined(
                header=block.header,
                transaction=transaction,
                sender=sender,
                gas_used=int(receipt.gas_used),
                ok=not computation.is_error,
                created=created,
                logs=tuple(
                    Log(log.address, tuple(topic.to_bytes(32, "big") for topic in log.topics), log.data)
                    for log in receipt.logs
                ),
                logs_bloom=int(receipt.bloom),
                size=len(raw),
            ),
        )
        return bytes(transaction.hash)

    def mine(self) -> None:
        """An empty block, now."""
        self._chain.set_header_timestamp(self._block_time())
        block = self._chain.mine_block(mix_hash=os.urandom(32), coinbase=bytes(20))
        self._remember(block.header, None)

    def snapshot(self) -> int:
        """The newest block's number: `revert` to it."""
        return int(self.head.block_number)

    def revert(self, number: int) -> None:
        """Forget every block after `number`. Raises `ChainError` when that block is not there."""
        if number not in self._blocks:
            raise ChainError(f"no block {number} to go back to")
        while self.head.block_number > number:
            self._forget(self._blocks.popitem(last=True))
        chaindb = self._chain.chaindb
        chaindb._set_as_canonical_chain_head(chaindb.db, self.head, b"\0" * 32)
        self._chain.header = self._chain.create_header_from_parent(self.head)

    # -------------------------------------------------------------------------------------------- inside

    def _now_s(self) -> int:
        return self._clock.now_ms() // 1000

    def _block_time(self) -> int:
        return max(self._now_s(), int(self.head.timestamp))

    def _vm(self, number: int | None) -> Any:
        header = self.head if number is None else self._blocks.get(number)
        if header is None:
            raise ChainError(f"block {number} is not there")
        return self._chain.get_vm(header)

    def _pending_vm(self) -> Any:
        return self._chain.get_vm(self._chain.header.copy(timestamp=self._block_time()))

    def _remember(self, header: Any, mined: Mined | None) -> None:
        number = int(header.block_number)
        self._by_block_hash[header.hash] = number
        if mined is not None:
            self._mined[number] = mined
            self._by_transaction[mined.transaction.hash] = number
        self._blocks[number] = header
        while len(self._blocks) > KEPT_BLOCKS:
            self._forget(self._blocks.popitem(last=False))

    def _forget(self, block: tuple[int, Any]) -> None:
        number, header = block
        self._by_block_hash.pop(header.hash, None)
        mined = self._mined.pop(number, None)
        if mined is not None:
            self._by_transaction.pop(mined.transaction.hash, None)


def _fits(topics: Sequence[bytes], wanted: Sequence[Sequence[bytes] | None]) -> bool:
    return len(topics) >= len(wanted) and all(
        any_of is None or topic in any_of for topic, any_of in zip(topics, wanted, strict=False)
    )


def _reverted(computation: Any) -> ChainError:
    if computation.output or "Revert" in type(computation.error).__name__:
        return ChainError("execution reverted", 3, "0x" + bytes(computation.output).hex())
    return ChainError(f"{type(computation.error).__name__}: {computation.error}")
