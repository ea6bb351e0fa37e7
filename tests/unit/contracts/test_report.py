"""Reports, hints and signatures: what any wallet would sign, and nothing that the contract would refuse."""

from __future__ import annotations

from decimal import Decimal
from types import SimpleNamespace

import pytest
from eth_account import Account
from eth_account.messages import encode_typed_data
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts import secp256k1
from contracts.errors import InvalidSignatureError, MalformedReportError
from contracts.report import (
    NO_MEDIAN,
    Domain,
    LocalSigner,
    bytes32,
    hint_digest,
    in_signer_order,
    median_hints,
    pack_prices,
    recover,
    recover_reporter,
    report_digest,
    sign_report,
    unpack_prices,
)
from core.median import lower_median
from core.types import Mode, SignedReport

KEY = "0x" + "11" * 32
ADDRESS = "0x5FbDB2315678afecb367f032d93F642f64180aa3"
DOMAIN = Domain(Mode.LIVE, 31337, ADDRESS)
DOMAIN_FIELDS = [("name", "string"), ("version", "string"), ("chainId", "uint256"), ("verifyingContract", "address")]
REPORT_FIELDS = [
    ("groupHash", "bytes32"),
    ("previousMoment", "uint48"),
    ("moment", "uint48"),
    ("unchanged", "uint256"),
    ("evidenceRoot", "bytes32"),
    ("prices", "bytes"),
]
HINT_FIELDS = [
    ("group", "bytes32"),
    ("feed", "bytes32"),
    ("price", "uint64"),
    ("moment", "uint48"),
    ("previousMoment", "uint48"),
]

moments = st.integers(0, 2**48 - 1)
prices = st.integers(0, 2**64 - 1)
words = st.binary(min_size=32, max_size=32)


def wallet_signature(domain: Domain, kind: str, fields: list[tuple[str, str]], message: dict[str, object]) -> str:
    """What a wallet makes of the same typed data."""
    typed = {
        "types": {
            "EIP712Domain": [{"name": name, "type": type_} for name, type_ in DOMAIN_FIELDS],
            kind: [{"name": name, "type": type_} for name, type_ in fields],
        },
        "primaryType": kind,
        "domain": {
            "name": {Mode.LIVE: "Fairmark", Mode.TEST: "Fairmark test"}[domain.mode],
            "version": "1",
            "chainId": domain.chain_id,
            "verifyingContract": domain.address,
        },
        "message": message,
    }
    signed = Account.sign_message(encode_typed_data(full_message=typed), KEY)
    return f"0x{signed.r:064x}{signed.s | (signed.v - 27) << 255:064x}"


def a_report(**changes: object) -> SignedReport:
    fields = {
        "group": "majors",
        "group_hash": "0x" + "ab" * 32,
        "previous_moment": 1,
        "moment": 2,
        "prices": (3, 0),
        **changes,
    }
    return sign_report(LocalSigner(KEY), DOMAIN, **fields)


@settings(max_examples=25, deadline=None)
@given(
    mode=st.sampled_from(Mode),
    chain_id=st.integers(1, 2**64),
    group_hash=words,
    previous_moment=moments,
    moment=moments,
    unchanged=st.integers(0, 2**256 - 1),
    root=words,
    row=st.lists(prices, max_size=9),
)
def test_a_report_is_signed_as_a_wallet_signs_typed_data(
    mode, chain_id, group_hash, previous_moment, moment, unchanged, root, row
):
    domain = Domain(mode, chain_id, ADDRESS)
    report = sign_report(
        LocalSigner(KEY),
        domain,
        group="majors",
        group_hash="0x" + group_hash.hex(),
        previous_moment=previous_moment,
        moment=moment,
        prices=row,
        unchanged=unchanged,
        evidence_root="0x" + root.hex(),
    )
    assert report.signature == wallet_signature(
        domain,
        "Report",
        REPORT_FIELDS,
        {
            "groupHash": group_hash,
            "previousMoment": previous_moment,
            "moment": moment,
            "unchanged": unchanged,
            "evidenceRoot": root,
            "prices": pack_prices(row),
        },
    )
    assert recover_reporter(domain, report) == report.reporter == Account.from_key(KEY).address


def test_a_hint_is_signed_as_a_wallet_signs_typed_data():
    digest = hint_digest(DOMAIN, "majors", "BTC/USD", 7_250_000_000_000, 20, 10)
    assert LocalSigner(KEY).sign(digest) == wallet_signature(
        DOMAIN,
        "Hint",
        HINT_FIELDS,
        {
            "group": bytes32("majors"),
            "feed": bytes32("BTC/USD"),
            "price": 7_250_000_000_000,
            "moment": 20,
            "previousMoment": 10,
        },
    )


@pytest.mark.parametrize(
    "change",
    [
        {"group_hash": "0x" + "ac" * 32},
        {"previous_moment": 0},
        {"moment": 3},
        {"prices": (3, 1)},
        {"prices": (3,)},
        {"unchanged": 1},
        {"evidence_root": "0x" + "01" * 32},
    ],
)
def test_every_field_that_the_contract_sees_is_in_the_digest(change):
    assert report_digest(DOMAIN, a_report(**change)) != report_digest(DOMAIN, a_report())


@pytest.mark.parametrize(
    "domain",
    [
        Domain(Mode.TEST, 31337, ADDRESS),
        Domain(Mode.LIVE, 1, ADDRESS),
        Domain(Mode.LIVE, 31337, "0x" + "22" * 20),
    ],
)
def test_a_report_for_one_deployment_is_nobodys_for_another(domain):
    assert recover_reporter(domain, a_report()) != LocalSigner(KEY).address


@pytest.mark.parametrize("s", [secp256k1.HALF_ORDER + 1, 2**255 - 1])
def test_an_s_in_the_upper_half_is_refused(s):
    with pytest.raises(InvalidSignatureError, match="upper half"):
        recover(report_digest(DOMAIN, a_report()), f"0x{1:064x}{s:064x}")


def test_the_mirrored_signature_has_no_place_for_its_s():
    """Who mirrors a signature gets an s beyond 255 bits, and with it somebody else's address, or none."""
    report = a_report()
    r, vs = int(report.signature[2:66], 16), int(report.signature[66:], 16)
    mirrored = secp256k1.ORDER - (vs & (2**255 - 1))
    assert mirrored >= 2**255
    for parity in (0, 1):
        forged = f"0x{r:064x}{mirrored | parity << 255:064x}"
        try:
            assert recover(report_digest(DOMAIN, report), forged) != report.reporter
        except InvalidSignatureError:
            continue


@pytest.mark.parametrize(
    "signature",
    ["", "0x", "0x" + "00" * 64, "0x" + "11" * 65, "0x" + "11" * 63, "11" * 64, "0x" + "gg" * 64, "0x" + "ff" * 64],
)
def test_what_is_no_signature_is_refused(signature):
    with pytest.raises(InvalidSignatureError):
        recover(bytes(32), signature)


@given(digest=words, secret=st.integers(1, secp256k1.ORDER - 1))
@settings(max_examples=10, deadline=None)
def test_both_curve_libraries_agree(digest, secret):
    key = secp256k1.Key(secret.to_bytes(32, "big"))
    fast = key.sign(digest)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(secp256k1, "coincurve", None)
        slow_key = secp256k1.Key(secret.to_bytes(32, "big"))
        slow_key._fast = None
        assert slow_key.sign(digest) == fast
        assert secp256k1.recover(digest, *fast) == key.public
    assert secp256k1.recover(digest, *fast) == key.public


@pytest.mark.parametrize("key", ["", "0x12", "zz" * 32, "00" * 32, f"{secp256k1.ORDER:064x}"])
def test_what_is_no_key_is_refused_without_being_shown(key):
    with pytest.raises(MalformedReportError) as caught:
        LocalSigner(key)
    assert not key or key not in str(caught.value)


def test_a_signer_does_not_show_its_key():
    assert "11" * 32 not in repr(LocalSigner(KEY))


@pytest.mark.parametrize(
    "change",
    [
        {"prices": (2**64,)},
        {"prices": (-1,)},
        {"moment": 2**48},
        {"moment": -1},
        {"previous_moment": 2**48},
        {"unchanged": 2**256},
        {"group_hash": "0xab"},
        {"evidence_root": "ab" * 32},
    ],
)
def test_a_field_out_of_its_range_is_refused(change):
    with pytest.raises(MalformedReportError):
        a_report(**change)


@pytest.mark.parametrize("name", ["", "x" * 33, "Ä/USD", "a\0b"])
def test_a_name_that_does_not_fit_an_id_is_refused(name):
    with pytest.raises(MalformedReportError):
        bytes32(name)


def test_an_id_is_the_name_as_solidity_writes_it():
    assert bytes32("BTC/USD") == b"BTC/USD" + bytes(25)


@given(st.lists(prices, max_size=300))
def test_packed_prices_come_back(row):
    assert unpack_prices(pack_prices(row)) == tuple(row)


def test_a_cut_price_is_refused():
    with pytest.raises(MalformedReportError):
        unpack_prices(bytes(9))


def test_reports_are_ordered_by_the_number_that_an_address_is():
    low, high = "0x" + "0a" * 20, "0x" + "B1" * 20
    first, second = a_report(moment=3), a_report(moment=4)
    assert in_signer_order({high: second, low: first}) == (first, second)


@given(
    rows=st.lists(st.tuples(*[st.one_of(st.just(0), st.integers(1, 6))] * 3), min_size=1, max_size=9),
    least=st.integers(1, 6),
)
def test_a_hint_names_a_report_with_the_lower_median_of_those_that_have_a_price(rows, least):
    reports = [a_report(prices=row) for row in rows]
    feeds = [SimpleNamespace(min_contributors=least)] * 3
    for index, hint in enumerate(median_hints(reports, feeds)):
        present = [Decimal(row[index]) for row in rows if row[index]]
        if len(present) < least:
            assert hint == NO_MEDIAN
        else:
            assert rows[hint][index] == lower_median(present)


def test_hints_need_reports_of_the_groups_length():
    with pytest.raises(MalformedReportError):
        median_hints([a_report(prices=(1, 2))], [SimpleNamespace(min_contributors=1)])


@pytest.mark.parametrize(("chain_id", "address"), [(0, ADDRESS), (1, "0x12"), (1, "nonsense")])
def test_a_domain_needs_a_chain_and_an_address(chain_id, address):
    with pytest.raises(MalformedReportError):
        Domain(Mode.LIVE, chain_id, address)
