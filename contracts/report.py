"""What a reporter signs, and who signed it: EIP-712 digests, EIP-2098 signatures, packed prices, median hints.

Pure and synchronous. The rules are `src/FairmarkOracle.sol`'s; the tests hold the two together.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from eth_utils.address import is_address, to_checksum_address
from eth_utils.crypto import keccak

from contracts import secp256k1
from contracts.errors import InvalidSignatureError, MalformedReportError
from core.types import Mode, Pair, SignedReport

DOMAIN_VERSION = "1"
DOMAIN_NAMES = {Mode.LIVE: "Fairmark", Mode.TEST: "Fairmark test"}

NO_MEDIAN = 255
"""The hint that leaves a feed alone."""
MAX_REPORTS = 255
"""Hints are one byte, and 255 is `NO_MEDIAN`."""
PRICE_BYTES = 8

_DOMAIN_TYPE = keccak(text="EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)")
_REPORT_TYPE = keccak(
    text="Report(bytes32 groupHash,uint48 previousMoment,uint48 moment,uint256 unchanged,"
    "bytes32 evidenceRoot,bytes prices)"
)
_HINT_TYPE = keccak(text="Hint(bytes32 group,bytes32 feed,uint64 price,uint48 moment,uint48 previousMoment)")
_LEAVE_TYPE = keccak(text="Leave(string instance,uint48 moment)")
_BYTES32 = re.compile(r"0x[0-9a-fA-F]{64}")
_SIGNATURE = re.compile(r"0x[0-9a-fA-F]{128}")


@dataclass(frozen=True)
class Domain:
    """The EIP-712 domain: which contract on which chain, and whether its prices are real.

    Raises `MalformedReportError` when `address` is no address or `chain_id` not positive.
    """

    mode: Mode
    chain_id: int
    address: str

    def __post_init__(self) -> None:
        if not is_address(self.address):
            raise MalformedReportError(f"{self.address!r} is no contract address")
        if not 0 < self.chain_id < 2**256:
            raise MalformedReportError(f"{self.chain_id} is no chain id")

    @property
    def name(self) -> str:
        return DOMAIN_NAMES[self.mode]

    @cached_property
    def separator(self) -> bytes:
        """The 32 bytes that every digest of this domain begins with."""
        return keccak(
            _DOMAIN_TYPE
            + keccak(text=self.name)
            + keccak(text=DOMAIN_VERSION)
            + self.chain_id.to_bytes(32, "big")
            + bytes(12)
            + bytes.fromhex(self.address[2:])
        )

    def digest(self, struct_hash: bytes) -> bytes:
        return keccak(b"\x19\x01" + self.separator + struct_hash)


class Signer(Protocol):
    """Whoever holds a key: in this process (`LocalSigner`), or elsewhere (a remote signer, a KMS)."""

    @property
    def address(self) -> str:
        """Checksummed."""
        ...

    def sign(self, digest: bytes) -> str:
        """r and vs of a 32-byte digest as 0x-hex, 64 bytes, low s (EIP-2098)."""
        ...


class LocalSigner:
    """A key in memory. Raises `MalformedReportError` when `key_hex` is no 32-byte private key."""

    def __init__(self, key_hex: str) -> None:
        try:
            self._key = secp256k1.Key(bytes.fromhex(key_hex.strip().removeprefix("0x")))
        except ValueError:
            raise MalformedReportError("not a private key: write its 32 bytes as hex") from None
        self._address = to_checksum_address(keccak(self._key.public)[-20:])

    @property
    def address(self) -> str:
        return self._address

    def sign(self, digest: bytes) -> str:
        r, s, parity = self._key.sign(digest)
        return "0x" + (r.to_bytes(32, "big") + (s | parity << 255).to_bytes(32, "big")).hex()

    def __repr__(self) -> str:
        return f"LocalSigner({self._address})"


def bytes32(name: str) -> bytes:
    """A group's or a feed's name as its on-chain id: ASCII, padded with zeros. Raises `MalformedReportError`."""
    try:
        raw = name.encode("ascii")
    except UnicodeEncodeError:
        raise MalformedReportError(f"{name!r} is not ASCII: it cannot be an on-chain id") from None
    if not 0 < len(raw) <= 32 or 0 in raw:
        raise MalformedReportError(f"{name!r} does not fit an on-chain id of 1 to 32 bytes")
    return raw.ljust(32, b"\0")


def pack_prices(prices: Sequence[int]) -> bytes:
    """Eight big-endian bytes a feed, 0 for none. Raises `MalformedReportError` beyond 64 bits."""
    try:
        return b"".join([price.to_bytes(PRICE_BYTES, "big") for price in prices])
    except OverflowError:
        worst = next(price for price in prices if not 0 <= price < 2**64)
        raise MalformedReportError(f"{worst} does not fit the report's 64 bits; lower the feed's decimals") from None


def unpack_prices(packed: bytes) -> tuple[int, ...]:
    """The reverse of `pack_prices`. Raises `MalformedReportError` when a price is cut short."""
    if len(packed) % PRICE_BYTES:
        raise MalformedReportError(f"{len(packed)} bytes of prices are not a multiple of {PRICE_BYTES}")
    return tuple(int.from_bytes(packed[at : at + PRICE_BYTES], "big") for at in range(0, len(packed), PRICE_BYTES))


def report_digest(domain: Domain, report: SignedReport) -> bytes:
    """The 32 bytes a reporter signs. `group`, `reporter`, `signature` do not enter. Raises `MalformedReportError`."""
    return _report_digest(
        domain,
        report.group_hash,
        report.previous_moment,
        report.moment,
        report.unchanged,
        report.evidence_root,
        report.prices,
    )


def hint_digest(domain: Domain, group: str, pair: Pair | str, price: int, moment: int, previous_moment: int) -> bytes:
    """The 32 bytes under a deviation hint: `pair` left its threshold at `moment`. Raises `MalformedReportError`."""
    return domain.digest(
        keccak(
            _HINT_TYPE
            + bytes32(group)
            + bytes32(pair)
            + _uint(price, 64, "price")
            + _uint(moment, 48, "moment")
            + _uint(previous_moment, 48, "previous_moment")
        )
    )


def leave_digest(domain: Domain, instance: str, moment: int) -> bytes:
    """The 32 bytes under a reporter's word that its instance stops at `moment`. Raises `MalformedReportError`."""
    return domain.digest(keccak(_LEAVE_TYPE + keccak(text=instance) + _uint(moment, 48, "moment")))


def sign_report(
    signer: Signer,
    domain: Domain,
    *,
    group: str,
    group_hash: str,
    previous_moment: int,
    moment: int,
    prices: Sequence[int],
    unchanged: int = 0,
    evidence_root: str = "0x" + "00" * 32,
) -> SignedReport:
    """One reporter's report, signed. Raises `MalformedReportError` for a field that does not fit its type."""
    digest = _report_digest(domain, group_hash, previous_moment, moment, unchanged, evidence_root, prices)
    return SignedReport(
        group=group,
        group_hash=group_hash,
        previous_moment=previous_moment,
        moment=moment,
        prices=tuple(prices),
        unchanged=unchanged,
        evidence_root=evidence_root,
        reporter=signer.address,
        signature=signer.sign(digest),
    )


def split_signature(signature: str) -> tuple[bytes, bytes]:
    """r and vs of an EIP-2098 signature in 0x-hex. Raises `InvalidSignatureError`: wrong shape, or a high s.

    A high s is refused although it recovers: whoever saw one valid signature could make the other.
    """
    if not _SIGNATURE.fullmatch(signature):
        raise InvalidSignatureError("a signature is r and vs: 64 bytes as 0x-hex")
    raw = bytes.fromhex(signature[2:])
    if int.from_bytes(raw[32:], "big") & (2**255 - 1) > secp256k1.HALF_ORDER:
        raise InvalidSignatureError("the signature's s is in the upper half: malleable, refused")
    return raw[:32], raw[32:]


def recover(digest: bytes, signature: str) -> str:
    """The checksummed address that signed `digest`. Raises `InvalidSignatureError`.

    A signature over something else recovers to some other address: compare with those that are registered.
    """
    r, vs = split_signature(signature)
    s = int.from_bytes(vs, "big")
    try:
        public = secp256k1.recover(digest, int.from_bytes(r, "big"), s & (2**255 - 1), s >> 255)
    except ValueError as error:
        raise InvalidSignatureError(f"no key made this signature: {error}") from None
    return to_checksum_address(keccak(public)[-20:])


def recover_reporter(domain: Domain, report: SignedReport) -> str:
    """Who signed `report`. Raises `InvalidSignatureError` or `MalformedReportError`."""
    return recover(report_digest(domain, report), report.signature)


def in_signer_order(reports: Mapping[str, SignedReport]) -> tuple[SignedReport, ...]:
    """Reports by recovered signer's address, in the order in which the contract takes them: ascending by address."""
    return tuple(reports[address] for address in sorted(reports, key=lambda address: int(address, 16)))


class HasMinimum(Protocol):
    """What a median hint needs to know of a feed: `core.types.Feed` and `contracts.client.FeedOnChain` both have it."""

    @property
    def min_contributors(self) -> int: ...


def median_hints(
    reports: Sequence[SignedReport], feeds: Sequence[HasMinimum], standing: Sequence[int] | None = None
) -> bytes:
    """For each feed, the index in `reports` of the one that observed the lower median; 255 below the feed's minimum.

    `reports` in the order of the submission (see `in_signer_order`). Reports without a price for a feed do not count
    for it. Of several that observed the median, one that calls it unchanged is named: it need not be written then.
    standing: each feed's standing answer, scaled, which is what an unchanged bit observes; 0 where there is
    none, and then such a bit says nothing. Raises `MalformedReportError` when there are too many reports, when one's
    prices do not match the feeds, or when one has unchanged bits and `standing` is not given.
    """
    if len(reports) > MAX_REPORTS:
        raise MalformedReportError(f"{len(reports)} reports: a round takes at most {MAX_REPORTS}")
    for report in reports:
        if len(report.prices) != len(feeds):
            raise MalformedReportError(f"{report.reporter} reports {len(report.prices)} prices for {len(feeds)} feeds")
        if report.unchanged and standing is None:
            raise MalformedReportError(f"{report.reporter} calls feeds unchanged: the standing answers are needed")
    hints = bytearray()
    for index, feed in enumerate(feeds):
        stands = standing[index] if standing is not None else 0
        observed = [stands if report.unchanged >> index & 1 else report.prices[index] for report in reports]
        present = sorted(price for price in observed if price)
        if len(present) < max(1, feed.min_contributors):
            hints.append(NO_MEDIAN)
            continue
        median = present[(len(present) - 1) // 2]
        those = [at for at, price in enumerate(observed) if price == median]
        hints.append(next((at for at in those if reports[at].unchanged >> index & 1), those[0]))
    return bytes(hints)


def _report_digest(
    domain: Domain,
    group_hash: str,
    previous_moment: int,
    moment: int,
    unchanged: int,
    evidence_root: str,
    prices: Sequence[int],
) -> bytes:
    return domain.digest(
        keccak(
            _REPORT_TYPE
            + _word(group_hash, "group_hash")
            + _uint(previous_moment, 48, "previous_moment")
            + _uint(moment, 48, "moment")
            + _uint(unchanged, 256, "unchanged")
            + _word(evidence_root, "evidence_root")
            + keccak(pack_prices(prices))
        )
    )


def _uint(value: int, bits: int, name: str) -> bytes:
    if not 0 <= value < 1 << bits:
        raise MalformedReportError(f"{name}: {value} is no uint{bits}")
    return value.to_bytes(32, "big")


def _word(value: str, name: str) -> bytes:
    if not _BYTES32.fullmatch(value):
        raise MalformedReportError(f"{name}: {value!r} is not 32 bytes as 0x-hex")
    return bytes.fromhex(value[2:])
