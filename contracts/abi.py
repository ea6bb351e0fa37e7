"""A contract's ABI, ready to use: calldata, results, events and errors by name. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from eth_abi.abi import decode, encode
from eth_abi.exceptions import DecodingError
from eth_utils.crypto import keccak

from contracts.errors import ContractError
from contracts.words import NotThatShapeError, reader

ERROR_STRING = keccak(text="Error(string)")[:4]
PANIC = keccak(text="Panic(uint256)")[:4]


@dataclass(frozen=True)
class _Entry:
    name: str
    selector: bytes
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    @cached_property
    def reader(self) -> Callable[[bytes], tuple[Any, ...]]:
        """Reads a result."""
        return reader(self.outputs) or (lambda data: tuple(decode(self.outputs, data)))


class Abi:
    """The functions, errors and events of a JSON ABI. Overloads are not supported: none of ours has any."""

    def __init__(self, entries: Sequence[dict[str, Any]]) -> None:
        self._functions: dict[str, _Entry] = {}
        self._errors: dict[bytes, _Entry] = {}
        self._topics: dict[str, str] = {}
        self._constructor: tuple[str, ...] = ()
        for entry in entries:
            inputs = tuple(_type(item) for item in entry.get("inputs", ()))
            signature = f"{entry.get('name', '')}({','.join(inputs)})"
            if entry["type"] == "constructor":
                self._constructor = inputs
            elif entry["type"] == "event":
                self._topics[entry["name"]] = "0x" + keccak(text=signature).hex()
            elif entry["type"] in {"function", "error"}:
                outputs = tuple(_type(item) for item in entry.get("outputs", ()))
                made = _Entry(entry["name"], keccak(text=signature)[:4], inputs, outputs)
                if entry["type"] == "function":
                    self._functions[made.name] = made
                else:
                    self._errors[made.selector] = made

    def call(self, function: str, *arguments: Any) -> bytes:
        """Calldata. Raises `KeyError` for an unknown function, `eth_abi` errors for arguments that do not fit."""
        entry = self._functions[function]
        return entry.selector + encode(entry.inputs, arguments)

    def construct(self, *arguments: Any) -> bytes:
        """What follows the bytecode in a deployment."""
        return encode(self._constructor, arguments)

    def result(self, function: str, data: bytes) -> tuple[Any, ...]:
        """What the function returned, in order. Raises `ContractError` when the bytes are something else."""
        try:
            return self._functions[function].reader(data)
        except (DecodingError, NotThatShapeError, OverflowError) as error:
            raise ContractError(
                f"{function} returned {len(data)} bytes that are not its result: another contract stands there"
            ) from error

    def error(self, data: bytes) -> tuple[str, tuple[Any, ...]]:
        """Name and arguments of the error in revert data; `Reverted` with the raw data when it is not one of ours."""
        selector, rest = data[:4], data[4:]
        try:
            if selector == ERROR_STRING:
                return "Error", tuple(decode(["string"], rest))
            if selector == PANIC:
                return "Panic", tuple(decode(["uint256"], rest))
            if entry := self._errors.get(selector):
                return entry.name, tuple(decode(entry.inputs, rest))
        except (DecodingError, OverflowError):
            pass
        return "Reverted", (data,) if data else ()

    def topic(self, event: str) -> str:
        """The event's first topic, 0x-hex."""
        return self._topics[event]


def _type(item: dict[str, Any]) -> str:
    kind: str = item["type"]
    if kind.startswith("tuple"):
        return "(" + ",".join(_type(part) for part in item["components"]) + ")" + kind.removeprefix("tuple")
    return kind
