"""The curve, by coincurve (libsecp256k1) where it is installed, else by eth_keys in Python: same results, slower."""

from __future__ import annotations

from typing import Any

try:
    import coincurve as _coincurve
except ImportError:  # pragma: no cover - coincurve has no wheel for every Python
    _coincurve = None  # type: ignore[assignment]
from eth_keys.datatypes import PrivateKey, Signature
from eth_keys.exceptions import BadSignature
from eth_utils.exceptions import ValidationError

coincurve: Any = _coincurve
ORDER = 0xFFFFFFFF_FFFFFFFF_FFFFFFFF_FFFFFFFE_BAAEDCE6_AF48A03B_BFD25E8C_D0364141
HALF_ORDER = ORDER // 2


class Key:
    """A private key. Raises `ValueError` unless `secret` is 32 bytes of a number in [1, order)."""

    def __init__(self, secret: bytes) -> None:
        if len(secret) != 32 or not 0 < int.from_bytes(secret, "big") < ORDER:
            raise ValueError("not a private key")
        self._fast = coincurve.PrivateKey(secret) if coincurve else None
        self._slow = PrivateKey(secret)
        self.public: bytes = self._slow.public_key.to_bytes()
        """x and y, 64 bytes."""

    def sign(self, digest: bytes) -> tuple[int, int, int]:
        """r, low s and parity of a 32-byte digest; deterministic (RFC 6979)."""
        if len(digest) != 32:
            raise ValueError("a digest has 32 bytes")
        if self._fast is not None:
            raw = self._fast.sign_recoverable(digest, hasher=None)
            return int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:64], "big"), raw[64]
        signature = self._slow.sign_msg_hash(digest)
        return signature.r, signature.s, signature.v


def recover(digest: bytes, r: int, s: int, parity: int) -> bytes:
    """The public key (x and y, 64 bytes) behind a signature. Raises `ValueError` when there is none."""
    if len(digest) != 32:
        raise ValueError("a digest has 32 bytes")
    if not (0 < r < ORDER and 0 < s < ORDER):
        raise ValueError("r or s is not in [1, order)")
    if coincurve is not None:
        raw = r.to_bytes(32, "big") + s.to_bytes(32, "big") + bytes([parity])
        try:
            key = coincurve.PublicKey.from_signature_and_message(raw, digest, hasher=None)
        except Exception as error:  # noqa: BLE001 - coincurve raises plain Exception when nothing is recovered
            raise ValueError(str(error)) from None
        return bytes(key.format(compressed=False)[1:])
    try:
        return bytes(Signature(vrs=(parity, r, s)).recover_public_key_from_msg_hash(digest).to_bytes())
    except (BadSignature, ValidationError) as error:
        raise ValueError(str(error)) from None
