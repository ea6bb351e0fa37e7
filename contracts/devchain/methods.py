"""JSON-RPC's methods over a `DevChain`: arguments out of hex, results into hex, errors as geth gives them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from contracts.devchain.chain import TIP, ChainError, DevChain, Mined

INVALID_REQUEST, METHOD_NOT_FOUND, INVALID_PARAMS, INTERNAL = -32600, -32601, -32602, -32603
CLIENT = "fairmark-devchain/0.1.0/eth-tester"
_NO_UNCLES = "0x1dcc4de8dec75d7aab85b567b6ccd41ad312451b948a7413f0a142fd40d49347"


class Methods:
    """What the chain answers. `handle` takes one decoded request and returns one response; it never raises."""

    def __init__(self, chain: DevChain) -> None:
        self._chain = chain
        self._methods: dict[str, Callable[..., Any]] = {
            "web3_clientVersion": lambda: CLIENT,
            "net_version": lambda: str(chain.chain_id),
            "net_listening": lambda: True,
            "eth_syncing": lambda: False,
            "eth_accounts": list,
            "eth_chainId": lambda: hex(chain.chain_id),
            "eth_blockNumber": lambda: hex(chain.head.block_number),
            "eth_gasPrice": lambda: hex(chain.head.base_fee_per_gas + TIP),
            "eth_maxPriorityFeePerGas": lambda: hex(TIP),
            "eth_feeHistory": self._fee_history,
            "eth_getBalance": lambda who, block="latest": hex(chain.balance(_address(who), self._number(block))),
            "eth_getTransactionCount": lambda who, block="latest": hex(chain.nonce(_address(who), self._number(block))),
            "eth_getCode": lambda who, block="latest": _hex(chain.code(_address(who), self._number(block))),
            "eth_getStorageAt": lambda who, slot, block="latest": _word(
                chain.storage(_address(who), int(slot, 16), self._number(block))
            ),
            "eth_call": self._call,
            "eth_estimateGas": self._estimate,
            "eth_sendRawTransaction": lambda raw: _hex(chain.send_raw(_bytes(raw))),
            "eth_getTransactionByHash": self._transaction,
            "eth_getTransactionReceipt": self._receipt,
            "eth_getBlockByNumber": lambda block, full=False: self._block(self._number(block), full),
            "eth_getBlockByHash": lambda block, full=False: self._block(chain.number_of(_bytes(block)), full, None),
            "eth_getLogs": self._logs,
            "evm_mine": self._mine,
            "evm_snapshot": lambda: hex(chain.snapshot()),
            "evm_revert": self._revert,
        }

    def handle(self, request: Any) -> dict[str, Any]:
        if not isinstance(request, dict) or not isinstance(request.get("method"), str):
            return error_response(None, INVALID_REQUEST, "not a JSON-RPC request")
        id_, name, params = request.get("id"), request["method"], request.get("params") or []
        method = self._methods.get(name)
        if method is None:
            return error_response(id_, METHOD_NOT_FOUND, f"the method {name} does not exist on this development chain")
        try:
            return {"jsonrpc": "2.0", "id": id_, "result": method(*params)}
        except ChainError as error:
            return error_response(id_, error.rpc_code, str(error), error.data)
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            return error_response(id_, INVALID_PARAMS, f"{name}: invalid params: {error}")
        except Exception as error:  # noqa: BLE001 - one bad request must not end the chain
            return error_response(id_, INTERNAL, f"{name}: {type(error).__name__}: {error}")

    def _number(self, block: Any) -> int | None:
        """A block's number; None is the newest, which is also what `pending` means wherever nothing runs."""
        if isinstance(block, dict):  # EIP-1898
            if "blockHash" in block:
                return self._known(self._chain.number_of(_bytes(block["blockHash"])))
            block = block["blockNumber"]
        if block in {"latest", "pending", "safe", "finalized"}:
            return None
        return 0 if block == "earliest" else int(block, 16)

    @staticmethod
    def _known(number: int | None) -> int:
        if number is None:
            raise ChainError("block not found")
        return number

    def _call(self, call: dict[str, Any], block: Any = "latest", *_overrides: Any) -> str:
        if not call.get("to"):
            raise ChainError("a call needs a contract to go to", INVALID_PARAMS)
        return _hex(
            self._chain.call(
                _address(call["to"]),
                _calldata(call),
                sender=_address(call["from"]) if call.get("from") else bytes(20),
                value=_quantity(call.get("value")) or 0,
                gas=_quantity(call.get("gas")) or 2**63,
                number=self._number(block),
                pending=block == "pending",
            )
        )

    def _estimate(self, call: dict[str, Any], *_block: Any) -> str:
        to = _address(call["to"]) if call.get("to") else b""
        sender = _address(call["from"]) if call.get("from") else bytes(20)
        return hex(self._chain.estimate(to, _calldata(call), sender, _quantity(call.get("value")) or 0))

    def _fee_history(self, count: Any, newest: Any, percentiles: Sequence[Any] | None = None) -> dict[str, Any]:
        number = self._number(newest)
        last = self._chain.head.block_number if number is None else number
        wanted = min(_quantity(count) or 0, 1024)
        headers = [
            header
            for number in range(max(0, last - wanted + 1), last + 1)
            if (header := self._chain.header(number)) is not None
        ]
        following = self._chain.header(last + 1) or self._chain.head
        return {
            "oldestBlock": hex(headers[0].block_number if headers else last),
            "baseFeePerGas": [hex(header.base_fee_per_gas) for header in [*headers, following]],
            "gasUsedRatio": [header.gas_used / header.gas_limit for header in headers],
            "reward": [[hex(TIP) for _ in percentiles or ()] for _ in headers],
        }

    def _transaction(self, transaction: str) -> dict[str, Any] | None:
        mined = self._chain.find(_bytes(transaction))
        return None if mined is None else _transaction_json(mined)

    def _receipt(self, transaction: str) -> dict[str, Any] | None:
        mined = self._chain.find(_bytes(transaction))
        if mined is None:
            return None
        return {
            **_place(mined),
            "type": hex(getattr(mined.transaction, "type_id", None) or 0),
            "from": _hex(mined.sender),
            "to": _hex(mined.transaction.to) if mined.transaction.to else None,
            "contractAddress": _hex(mined.created) if mined.created and mined.ok else None,
            "status": hex(mined.ok),
            "gasUsed": hex(mined.gas_used),
            "cumulativeGasUsed": hex(mined.gas_used),
            "effectiveGasPrice": hex(_price(mined)),
            "logs": [_log_json(mined, index) for index in range(len(mined.logs))],
            "logsBloom": f"0x{mined.logs_bloom:0512x}",
        }

    def _block(self, number: int | None, full: bool, default: str | None = "latest") -> dict[str, Any] | None:
        if number is None and default is None:
            return None
        header = self._chain.head if number is None else self._chain.header(number)
        if header is None:
            return None
        mined = self._chain.mined(header.block_number)
        return {
            "number": hex(header.block_number),
            "hash": _hex(header.hash),
            "parentHash": _hex(header.parent_hash),
            "timestamp": hex(header.timestamp),
            "baseFeePerGas": hex(header.base_fee_per_gas),
            "gasLimit": hex(header.gas_limit),
            "gasUsed": hex(header.gas_used),
            "stateRoot": _hex(header.state_root),
            "transactionsRoot": _hex(header.transaction_root),
            "receiptsRoot": _hex(header.receipt_root),
            "logsBloom": f"0x{header.bloom:0512x}",
            "miner": _hex(header.coinbase),
            "mixHash": _hex(header.mix_hash),
            "nonce": _hex(header.nonce),
            "difficulty": hex(header.difficulty),
            "extraData": _hex(header.extra_data),
            "sha3Uncles": _NO_UNCLES,
            "uncles": [],
            "size": hex(600 + (mined.size if mined else 0)),
            "transactions": []
            if mined is None
            else [_transaction_json(mined) if full else _hex(mined.transaction.hash)],
        }

    def _logs(self, wanted: dict[str, Any]) -> list[dict[str, Any]]:
        newest = self._chain.head.block_number
        if "blockHash" in wanted:
            first = last = self._known(self._chain.number_of(_bytes(wanted["blockHash"])))
        else:
            ends = [self._number(wanted.get(name) or "latest") for name in ("fromBlock", "toBlock")]
            first, last = (newest if number is None else number for number in ends)
        addresses = wanted.get("address") or []
        found = self._chain.logs(
            first,
            last,
            [_address(one) for one in ([addresses] if isinstance(addresses, str) else addresses)],
            [
                None if topic is None else [_bytes(one) for one in ([topic] if isinstance(topic, str) else topic)]
                for topic in wanted.get("topics") or ()
            ],
        )
        return [_log_json(mined, index) for mined, index, _ in found]

    def _mine(self, *_timestamp: Any) -> str:
        self._chain.mine()
        return "0x0"

    def _revert(self, snapshot: str) -> bool:
        self._chain.revert(int(snapshot, 16))
        return True


def error_response(id_: Any, code: int, message: str, data: str | None = None) -> dict[str, Any]:
    error: dict[str, Any] = {"code": code, "message": message}
    if data is not None:
        error["data"] = data
    return {"jsonrpc": "2.0", "id": id_, "error": error}


def _place(mined: Mined) -> dict[str, Any]:
    return {
        "transactionHash": _hex(mined.transaction.hash),
        "transactionIndex": "0x0",
        "blockHash": _hex(mined.header.hash),
        "blockNumber": hex(mined.number),
    }


def _log_json(mined: Mined, index: int) -> dict[str, Any]:
    log = mined.logs[index]
    return {
        **_place(mined),
        "logIndex": hex(index),
        "address": _hex(log.address),
        "topics": [_hex(topic) for topic in log.topics],
        "data": _hex(log.data),
        "blockTimestamp": hex(mined.header.timestamp),
        "removed": False,
    }


def _price(mined: Mined) -> int:
    transaction, base = mined.transaction, mined.header.base_fee_per_gas
    return int(base + min(transaction.max_priority_fee_per_gas, transaction.max_fee_per_gas - base))


def _transaction_json(mined: Mined) -> dict[str, Any]:
    transaction = mined.transaction
    kind = getattr(transaction, "type_id", None) or 0
    place = _place(mined)
    result = {
        "hash": place.pop("transactionHash"),
        **place,
        "type": hex(kind),
        "chainId": hex(transaction.chain_id) if transaction.chain_id is not None else None,
        "from": _hex(mined.sender),
        "to": _hex(transaction.to) if transaction.to else None,
        "nonce": hex(transaction.nonce),
        "gas": hex(transaction.gas),
        "gasPrice": hex(_price(mined)),
        "value": hex(transaction.value),
        "input": _hex(transaction.data),
        "r": hex(transaction.r),
        "s": hex(transaction.s),
        "v": hex(transaction.y_parity if kind else transaction.v),
    }
    if kind >= 1:
        result["accessList"] = [
            {"address": _hex(address), "storageKeys": [_word(slot) for slot in slots]}
            for address, slots in transaction.access_list
        ]
        result["yParity"] = hex(transaction.y_parity)
    if kind >= 2:
        result["maxFeePerGas"] = hex(transaction.max_fee_per_gas)
        result["maxPriorityFeePerGas"] = hex(transaction.max_priority_fee_per_gas)
    return result


def _hex(data: bytes) -> str:
    return "0x" + bytes(data).hex()


def _word(value: int) -> str:
    return f"0x{value:064x}"


def _bytes(text: str) -> bytes:
    if not text.startswith("0x"):
        raise ValueError(f"{text[:80]!r} is not 0x-hex")
    return bytes.fromhex(text[2:])


def _address(text: str) -> bytes:
    raw = _bytes(text)
    if len(raw) != 20:
        raise ValueError(f"{text!r} is no address")
    return raw


def _calldata(call: dict[str, Any]) -> bytes:
    return _bytes(call.get("input") or call.get("data") or "0x")


def _quantity(value: Any) -> int | None:
    return int(value, 16) if isinstance(value, str) else value
