"""An oracle on a chain in this process, and reporters to sign for it: what the tests of the Solidity sources share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import rlp
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from contracts import artifacts
from contracts.devchain.chain import ChainError, DevChain, Mined
from contracts.errors import CallRevertedError
from contracts.report import (
    Domain,
    LocalSigner,
    bytes32,
    in_signer_order,
    median_hints,
    sign_report,
)
from contracts.rounds import SignerSet, pack_round
from core.clock import FixedClock
from core.types import Mode, SignedReport

START_MS = 1_710_328_245_391
FEEDS = ("BTC/USD", "ETH/USD", "DOGE/USD")
ORACLE = artifacts.load("FairmarkOracle").abi


def signer(number: int) -> LocalSigner:
    return LocalSigner(f"0x{number:064x}")


OWNER, GUARDIAN, STRANGER = signer(1_001), signer(1_002), signer(1_003)


def ascending(signers: Sequence[LocalSigner]) -> list[LocalSigner]:
    return sorted(signers, key=lambda one: int(one.address, 16))


def feed_config(
    pair: str,
    *,
    decimals: int = 8,
    least: int = 3,
    deviation_bps: int = 50,
    heartbeat_s: int = 60,
    limit_bps: int = 0,
    max_spread_bps: int = 0,
):
    return (bytes32(pair), decimals, least, deviation_bps, heartbeat_s, limit_bps, max_spread_bps)


@dataclass
class Lab:
    """One oracle with group `majors`: n reporters, f, threshold. Rounds are signed and submitted by hand."""

    clock: FixedClock = field(default_factory=lambda: FixedClock(START_MS))
    mode: Mode = Mode.TEST
    chain_id: int = 31337
    n: int = 4
    f: int = 1
    threshold: int = 3
    least: int = 3
    pairs: tuple[str, ...] = FEEDS
    max_age_ms: int = 60_000
    chain: DevChain | None = None

    def __post_init__(self) -> None:
        people = [OWNER, GUARDIAN, STRANGER]
        self.chain = self.chain or DevChain(self.clock, chain_id=self.chain_id, funded=[one.address for one in people])
        self.reporters = ascending([signer(number) for number in range(1, self.n + 1)])
        self.address = self.create("FairmarkOracle", self.mode is Mode.TEST, OWNER.address, GUARDIAN.address)
        self.domain = Domain(self.mode, self.chain_id, self.address)
        self.configure()

    def create(self, contract: str, *arguments: Any) -> str:
        artifact = artifacts.load(contract)
        mined = self.transact(b"", artifact.bytecode + artifact.abi.construct(*arguments), OWNER)
        assert mined.ok and mined.created
        return to_checksum_address(mined.created)

    def transact(self, to: bytes, data: bytes, by: LocalSigner, gas: int = 15_000_000) -> Mined:
        chain = self.chain
        assert chain is not None
        nonce = chain.nonce(bytes.fromhex(by.address[2:]))
        fields = [chain.chain_id, nonce, 10**9, 10**9 + 2 * chain.head.base_fee_per_gas, gas, to, 0, data, []]
        signature = by.sign(keccak(b"\x02" + rlp.encode(fields)))
        vs = int(signature[66:], 16)
        raw = b"\x02" + rlp.encode([*fields, vs >> 255, int(signature[2:66], 16), vs & (2**255 - 1)])
        mined = chain.find(chain.send_raw(raw))
        assert mined is not None
        return mined

    def do(self, function: str, *arguments: Any, by: LocalSigner = OWNER) -> Mined:
        """Send it; raises `CallRevertedError` as the chain would revert it."""
        data = ORACLE.call(function, *arguments)
        self.run(data, by)
        mined = self.transact(bytes.fromhex(self.address[2:]), data, by)
        assert mined.ok
        return mined

    def run(self, data: bytes, by: LocalSigner = STRANGER, to: str | None = None, abi: Any = ORACLE) -> bytes:
        """Run it in a block mined now, without keeping it."""
        assert self.chain is not None
        target = bytes.fromhex((to or self.address)[2:])
        try:
            return self.chain.call(target, data, sender=bytes.fromhex(by.address[2:]), pending=True)
        except ChainError as error:
            assert error.data is not None, error
            raise CallRevertedError(*abi.error(bytes.fromhex(error.data[2:]))) from None

    def read(self, function: str, *arguments: Any) -> tuple[Any, ...]:
        """What a contract would read in a block mined now."""
        return ORACLE.result(function, self.run(ORACLE.call(function, *arguments)))

    def configure(self, **changes: Any) -> None:
        asked: dict[str, Any] = {
            "group": bytes32("majors"),
            "feeds": [feed_config(pair, least=self.least) for pair in self.pairs],
            "signers": [one.address for one in self.reporters],
            "f": self.f,
            "threshold": self.threshold,
            "max_age_ms": self.max_age_ms,
            **changes,
        }
        self.do("configureGroup", *asked.values())

    @property
    def info(self) -> SimpleNamespace:
        text = (
            "group version hash round moment block threshold f max_age_ms paused timestamp signers feeds number place"
        )
        names = text.split()
        (values,) = self.read("groupInfo", bytes32("majors"))
        return SimpleNamespace(**dict(zip(names, values, strict=True)))

    def moment(self) -> int:
        return self.clock.now_ms() // 10 * 10

    def report(self, by: LocalSigner, prices: Sequence[int], **changes: Any) -> SignedReport:
        asked: dict[str, Any] = {
            "group": "majors",
            **({} if {"group_hash", "previous_moment"} <= changes.keys() else self.following()),
            "moment": self.moment(),
            "prices": prices,
            **changes,
        }
        return sign_report(by, asked.pop("domain", self.domain), **asked)

    def following(self) -> dict[str, Any]:
        """What a report says of the group as it stands; ask once where there are many reports."""
        info = self.info
        return {"group_hash": "0x" + info.hash.hex(), "previous_moment": info.moment}

    def reports(self, rows: Sequence[Sequence[int]], **changes: Any) -> tuple[SignedReport, ...]:
        """One report for each row of prices, by the first reporters, in the order of the submission."""
        changes = {**self.following(), **changes}
        signed = {by.address: self.report(by, row, **changes) for by, row in zip(self.reporters, rows, strict=False)}
        return in_signer_order(signed)

    def hints(self, reports: Sequence[SignedReport]) -> bytes:
        feeds = [SimpleNamespace(min_contributors=feed[2]) for feed in self.info.feeds]
        standing = [self.read("latestAnswer", feed[0])[1] for feed in self.info.feeds]
        return median_hints(reports, feeds, standing)

    def calldata(self, reports: Sequence[SignedReport], hints: bytes | None = None, **changes: Any) -> bytes:
        return ORACLE.call(changes.pop("function", "submit"), self.payload(reports, hints, **changes))

    def payload(
        self,
        reports: Sequence[SignedReport],
        hints: bytes | None = None,
        signers: Sequence[str] = (),
        number: int | None = None,
    ) -> bytes:
        """signers: in whose names, where it is not those who signed."""
        info = self.info
        hints = self.hints(reports) if hints is None else hints
        payload = pack_round(self.known(info), reports, signers or [one.reporter for one in reports], hints)
        return (number or info.number).to_bytes(2, "big") + payload[2:]

    def known(self, info: SimpleNamespace) -> SignerSet:
        least = max(feed[2] for feed in info.feeds)
        return SignerSet(info.number, info.place, tuple(info.signers), len(info.feeds), least)

    def submit(self, reports: Sequence[SignedReport], hints: bytes | None = None, **changes: Any) -> Mined:
        """Submit as a stranger. Raises `CallRevertedError` when the contract refuses."""
        data = self.calldata(reports, hints, **changes)
        self.run(data)
        mined = self.transact(bytes.fromhex(self.address[2:]), data, STRANGER, gas=9_000_000)
        assert mined.ok
        return mined

    def mixed(self, rows: Sequence[Sequence[int | None]]) -> tuple[SignedReport, ...]:
        """Reports in which None stands for "unchanged"."""
        signed = {}
        for by, row in zip(self.reporters, rows, strict=False):
            bits = sum(1 << index for index, price in enumerate(row) if price is None)
            signed[by.address] = self.report(by, [price or 0 for price in row], unchanged=bits)
        return in_signer_order(signed)

    def round(self, rows: Sequence[Sequence[int]]) -> Mined:
        """A whole round, ten milliseconds after the last."""
        self.clock.advance(10)
        return self.submit(self.reports(rows))
