"""The group hash, computed here from what it commits to, and everything that a report is bound to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from eth_abi.abi import encode
from eth_utils.crypto import keccak

from contracts.errors import CallRevertedError
from contracts.report import Domain, bytes32, in_signer_order, report_digest
from contracts.secp256k1 import HALF_ORDER
from core.types import Mode, SignedReport
from tests.support.oracle_kit import FEEDS, ORACLE, Lab, ascending, feed_config, signer

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
ROWS = [(1_000, 500, 10)] * 3
TYPES = ["bytes32", "uint32", "address[]", "uint8", "uint8", "uint32",
         "(bytes32,uint8,uint8,uint16,uint32,uint16,uint16)[]"]  # fmt: skip


def group_hash(
    group: str, version: int, signers: list[str], f: int, threshold: int, age: int, feeds: list[Any]
) -> bytes:
    return keccak(encode(TYPES, [bytes32(group), version, signers, f, threshold, age, feeds]))


@pytest.fixture(scope="module")
def shared() -> Lab:
    return Lab(n=7)


@pytest.fixture
def lab(shared: Lab) -> Iterator[Lab]:
    assert shared.chain is not None
    before, now = shared.chain.snapshot(), shared.clock.now_ms()
    yield shared
    shared.chain.revert(before)
    shared.clock.advance(now - shared.clock.now_ms())


SIGNERS = [one.address for one in ascending([signer(number) for number in range(1, 8)])]
BASE: dict[str, Any] = {
    "group": "gold",
    "signers": SIGNERS,
    "f": 1,
    "threshold": 3,
    "age": 60_000,
    "feeds": [feed_config("XAU/USD", limit_bps=700, max_spread_bps=800), feed_config("XAG/USD")],
}


def feeds_with(**change: int) -> list[Any]:
    return [feed_config("XAU/USD", **{"limit_bps": 700, "max_spread_bps": 800, **change}), feed_config("XAG/USD")]


CHANGES: dict[str, dict[str, Any]] = {
    "nothing": {},
    "group": {"group": "metals"},
    "one signer": {"signers": [one.address for one in ascending([signer(n) for n in (1, 2, 3, 4, 5, 6, 8)])]},
    "fewer signers": {"signers": SIGNERS[:4]},
    "f": {"f": 0},
    "threshold": {"threshold": 4},
    "age": {"age": 60_001},
    "feed": {"feeds": [feed_config("XPT/USD", limit_bps=700, max_spread_bps=800), feed_config("XAG/USD")]},
    "order of feeds": {"feeds": BASE["feeds"][::-1]},
    "fewer feeds": {"feeds": BASE["feeds"][:1]},
    "decimals": {"feeds": feeds_with(decimals=6)},
    "minimum": {"feeds": feeds_with(least=4)},
    "deviation": {"feeds": feeds_with(deviation_bps=51)},
    "heartbeat": {"feeds": feeds_with(heartbeat_s=61)},
    "limit": {"feeds": feeds_with(limit_bps=701)},
    "spread": {"feeds": feeds_with(max_spread_bps=801)},
}


def configured(lab: Lab, asked: dict[str, Any]) -> bytes:
    """The hash that the contract makes of a fresh group."""
    lab.configure(
        group=bytes32(asked["group"]), feeds=asked["feeds"], signers=asked["signers"], f=asked["f"],
        threshold=asked["threshold"], max_age_ms=asked["age"],
    )  # fmt: skip
    (info,) = lab.read("groupInfo", bytes32(asked["group"]))
    return bytes(info[2])


@pytest.mark.parametrize("what", CHANGES)
def test_the_hash_is_of_everything_that_reporters_rely_on(lab: Lab, what: str):
    asked = BASE | CHANGES[what]
    assert configured(lab, asked) == group_hash(
        asked["group"], 1, asked["signers"], asked["f"], asked["threshold"], asked["age"], asked["feeds"]
    )


def test_no_two_of_these_are_alike():
    def hashed(version: int, asked: dict[str, Any]) -> bytes:
        return group_hash(
            *(asked["group"], version, *(asked[name] for name in ("signers", "f", "threshold", "age", "feeds")))
        )

    hashes = {hashed(1, BASE | change) for change in CHANGES.values()} | {hashed(2, BASE)}
    assert len(hashes) == len(CHANGES) + 1


def test_the_version_counts_every_configuration(lab: Lab):
    first = configured(lab, BASE)
    second = configured(lab, BASE)
    assert second == group_hash("gold", 2, SIGNERS, 1, 3, 60_000, BASE["feeds"]) != first


# -------------------------------------------------------------------------------------------- what a report is bound to


def refused(name: str, *arguments: object):
    return pytest.raises(CallRevertedError, match=rf"^{name}\(" + ", ".join(map(str, arguments)))


def raw(lab: Lab, reports: list[SignedReport]) -> bytearray:
    return bytearray(lab.payload(reports))


@pytest.mark.parametrize("at", [0, 1, 2])
def test_the_other_signature_of_the_same_report_cannot_be_written(lab: Lab, at: int):
    """(r, n - s) with the other parity recovers to the same signer. Its s needs 256 bits, and the compact form has 255
    (EIP-2098); the few that would fit are refused by name (`MalleableSignature`).
    """
    payload = raw(lab, list(lab.reports(ROWS)))
    spot = 16 + at * (98 + 24) + 33
    vs = int.from_bytes(payload[spot : spot + 32], "big")
    parity, s = vs >> 255, vs & (2**255 - 1)
    twin = ORDER - s
    assert s <= HALF_ORDER < 2**255 <= twin
    payload[spot : spot + 32] = ((twin & (2**255 - 1)) | (1 - parity) << 255).to_bytes(32, "big")
    with refused("UnknownSigner", at):
        lab.run(ORACLE.call("submit", bytes(payload)))
    payload[spot : spot + 32] = (HALF_ORDER + 1 | (1 - parity) << 255).to_bytes(32, "big")
    with refused("MalleableSignature", at):
        lab.run(ORACLE.call("submit", bytes(payload)))


def test_one_signer_cannot_be_two(lab: Lab):
    first, second, third = lab.reports(ROWS)
    with refused("SignersNotAscending", 2, 1, 1):
        lab.run(lab.calldata([first, second, second]))
    payload = raw(lab, [first, second, third])
    payload[16 + 98 + 24] = 2  # the second's report in the third's place
    with refused("UnknownSigner", 1, second.reporter.lower()):
        lab.run(ORACLE.call("submit", bytes(payload)))


@pytest.mark.parametrize(
    "domain",
    [
        {"chain_id": 1},
        {"address": "0x" + "44" * 20},
        {"mode": Mode.LIVE},
    ],
    ids=["chain id", "contract", "mode"],
)
def test_a_report_of_another_domain_is_nobodys(lab: Lab, domain: dict[str, Any]):
    other = Domain(**{"mode": lab.mode, "chain_id": lab.chain_id, "address": lab.address, **domain})
    with refused("UnknownSigner", 0):
        lab.submit(lab.reports(ROWS, domain=other))


def test_the_same_contract_on_a_fork_takes_no_report_of_the_trunk(lab: Lab):
    """The chain id is read anew: a round signed for one side of a split is nobody's on the other."""
    assert lab.chain is not None
    reports = lab.reports(ROWS)
    data = lab.calldata(reports)
    chain = type(lab.chain._chain)
    lab.run(data)
    standing = chain.chain_id
    try:
        chain.chain_id = 31_338
        with refused("UnknownSigner", 0):
            lab.run(data)
        forked = Domain(lab.mode, 31_338, lab.address)
        lab.run(lab.calldata(lab.reports(ROWS, domain=forked)))
    finally:
        chain.chain_id = standing


@pytest.mark.parametrize("field", ["group_hash", "previous_moment", "moment", "unchanged", "evidence_root", "prices"])
def test_every_field_of_a_report_is_signed(lab: Lab, field: str):
    report = lab.reports(ROWS)[0]
    values = {name: getattr(report, name) for name in report.__struct_fields__}
    other = {
        "group_hash": "0x" + "12" * 32,
        "previous_moment": 7,
        "moment": report.moment + 10,
        "unchanged": 1,
        "evidence_root": "0x" + "01" + "00" * 31,
        "prices": (1_001, *report.prices[1:]),
    }[field]
    assert report_digest(lab.domain, SignedReport(**values | {field: other})) != report_digest(lab.domain, report)
    change: dict[str, Any] = {"prices": report.prices} | {field: other}
    signed_otherwise = in_signer_order({by.address: lab.report(by, **change) for by in lab.reporters[:3]})
    with_those = [
        SignedReport(**values | {"reporter": one.reporter, "signature": one.signature}) for one in signed_otherwise
    ]
    with refused("UnknownSigner", 0):
        lab.run(lab.calldata(with_those))


def test_a_report_of_a_former_set_is_nobodys_in_the_new_one(lab: Lab):
    """Same signers, same feeds, another version: what was signed for the old one counts in neither place."""
    old = lab.reports(ROWS)
    lab.configure(threshold=4)
    lab.configure()
    with refused("UnknownSigner", 0):
        lab.run(lab.calldata(old))
    assert FEEDS[0] == "BTC/USD"
    lab.run(lab.calldata(lab.reports(ROWS)))
