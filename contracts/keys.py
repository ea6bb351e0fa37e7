"""Keys at rest: hexadecimal, or an encrypted keystore (Web3 Secret Storage); and those that everybody knows."""

from __future__ import annotations

import json
import secrets
from typing import Any

from contracts.errors import DevelopmentKeyError, KeyRefusedError
from contracts.report import LocalSigner

DEVELOPMENT_CHAINS = frozenset({31337, 1337})
DEVELOPMENT_ADDRESSES = frozenset(
    {
        "0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266",
        "0x70997970c51812dc3a010c7d01b50e0d17dc79c8",
        "0x3c44cdddb6a900fa2b585dd299e03d12fa4293bc",
        "0x90f79bf6eb2c4f870365e785982e1f101e93b906",
        "0x15d34aaf54267db7d7c367839aaf71a00a2c6a65",
        "0x9965507d1a55bcc2695c58ba16fb37d819b0a4dc",
        "0x976ea74026e726554db657fa54763abd0c3a0aa9",
        "0x14dc79964da2c08b23698b3d3cc7ca32193d9955",
        "0x23618e81e3f5cdf7f54c3d65f7fbc0abf5b21e8f",
        "0xa0ee7a142d267c1f36714e4a8f75612f20a79720",
        "0xbcd4042de499d14e55001ccbb24a551f3b954096",
        "0x71be63f3384f5fb98995898a86b02fb2426c5788",
        "0xfabb0ac9d68b0b445fb7357272ff202c5651694a",
        "0x1cbd3b2770909d4e10f157cabc84c7264073c9ec",
        "0xdf3e18d64bc6a983f673ab319ccae4f1a57c7097",
        "0xcd3b766ccdd6ae721141f452c550ca635964ce71",
        "0x2546bcd3c84621e976d8185a91a922ae77ecec30",
        "0xbda5747bfd65f08deb54cb465eb87d40e51b197e",
        "0xdd2fd4581271e230360230f9337d5c0430bf44c0",
        "0x8626f6940e2eb28930efb4cef49b2d1f2c9c1199",
        "0x90f8bf6a479f320ead074411a4b0e7944ea8c9c1",
        "0xffcf8fdee72ac11b5c542428b35eef5769c409f0",
        "0x22d491bde2303f2f43325b2108d26f1eaba1e32b",
        "0xe11ba2b4d45eaed5996cd0823791e0c93114882d",
        "0xd03ea8624c8c5987235048901fb614fdca89b117",
        "0x95ced938f7991cd0dfcb48f0a06a40fa1af46ebc",
        "0x3e5e9111ae8eb78fe1cc3bb8915d5d461f3ef9a9",
        "0x28a8746e75304c0780e011bed21c72cd78cd535e",
        "0xaca94ef8bd5ffee41947b4585a84bda5a3d3da6e",
        "0x1df62f291b2e969fb0849d99d9ce41e2f137006e",
        "0x610bb1573d1046fcb8a70bbbd395754cd57c2b60",
        "0x855fa758c77d68a04990e992aa4dcdef899f654a",
        "0xfa2435eacf10ca62ae6787ba2fb044f8733ee843",
        "0x64e078a8aa15a41b85890265648e965de686bae6",
        "0x2f560290fef1b3ada194b6aa9c40aa71f8e95598",
        "0xf408f04f9b7691f7174fa2bb73ad6d45fd5d3cbe",
        "0x66fc63c2572bf3add0fe5d44b97c2e614e35e9a3",
        "0xf0d5bc18421fa04d0a2a2ef540ba5a9f04014be3",
        "0x325a621dea613bcfb5b1a69a7aced0ea4afbd73a",
        "0x3fd652c93dfa333979ad762cf581df89baba6795",
    }
)
"""The first twenty accounts of the two phrases that anvil, Hardhat and Ganache make theirs from."""

_SCRYPT_N = 2**14
"""Rounds of scrypt: a tenth of a second, and 16 MiB."""


def refuse_development_key(address: str, chain_id: int) -> None:
    """Raises `DevelopmentKeyError` when everybody has the address's key and the chain is not for development."""
    if chain_id not in DEVELOPMENT_CHAINS and address.lower() in DEVELOPMENT_ADDRESSES:
        raise DevelopmentKeyError(
            f"{address} is a development account whose key everybody knows, and chain {chain_id} is not a development "
            "chain: make another with `fairmark keys new`"
        )


def new_key() -> str:
    """A fresh private key, in hex."""
    return "0x" + secrets.token_hex(32)


def encrypt(key: str, password: str) -> str:
    """The key as an encrypted keystore, JSON that wallets and geth read. Raises `KeyRefusedError`: empty password."""
    from eth_account import Account  # noqa: PLC0415 - half a second that only commands on keys need

    if not password:
        raise KeyRefusedError("a keystore needs a password")
    keystore: dict[str, Any] = Account.encrypt(
        bytes.fromhex(key.removeprefix("0x")), password, kdf="scrypt", iterations=_SCRYPT_N
    )
    keystore["address"] = LocalSigner(key).address
    return json.dumps(keystore, indent=2) + "\n"


def is_keystore(text: str) -> bool:
    return text.lstrip().startswith("{")


def keystore_address(text: str) -> str:
    """The address that a keystore says it holds the key of, without its password. Raises `KeyRefusedError`."""
    try:
        address = str(json.loads(text)["address"])
    except (ValueError, KeyError, TypeError):
        raise KeyRefusedError("not a keystore that names its address") from None
    return address if address.startswith("0x") else "0x" + address


def read_key(text: str, password: str | None) -> str:
    """The private key, in hex, out of what a key file holds: hex, or a keystore.

    Raises `KeyRefusedError` when it is a keystore and the password is missing or wrong.
    """
    if not is_keystore(text):
        return text.strip()
    from eth_account import Account  # noqa: PLC0415

    if password is None:
        raise KeyRefusedError(f"the keystore of {keystore_address(text)} needs its password")
    try:
        return "0x" + bytes(Account.decrypt(json.loads(text), password)).hex()
    except (ValueError, KeyError, TypeError) as error:
        raise KeyRefusedError(f"the keystore cannot be opened: {error}; is the password right?") from None
