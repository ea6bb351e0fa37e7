"""The largest groups that the contract takes, and groups beside one another."""

from __future__ import annotations

from typing import Any

import pytest

from contracts.errors import CallRevertedError
from contracts.report import bytes32, in_signer_order
from tests.support.oracle_kit import Lab, ascending, feed_config, signer

FEW = [0, 31, 32, 63, 200, 255]
"""Feeds at the edges of the words that bits and positions are packed in."""


def test_256_feeds_with_prices_and_unchanged_bits_mixed():
    pairs = tuple(f"F{number}/USD" for number in range(256))
    lab = Lab(pairs=pairs)
    first = [1_000_000 + 1_000 * index for index in range(256)]
    lab.submit(lab.reports([first] * 3), bytes(256))
    lab.clock.advance(10_000)
    # every report has prices of its own for a few feeds; one calls some of those unchanged, too
    rows: list[list[int | None]] = [[None] * 256 for _ in range(3)]
    for who, row in enumerate(rows):
        for index in FEW:
            row[index] = first[index] + 10 * (who + 1)
    rows[0][31] = rows[0][255] = None
    lab.submit(lab.mixed(rows), bytes(1 if index in FEW else 0 for index in range(256)))
    _, prices, updated = lab.read("tryGetPrices", [bytes32(pair) for pair in pairs])
    moved = dict.fromkeys(FEW, 20)
    assert list(prices) == [price + moved.get(index, 0) for index, price in enumerate(first)]
    assert set(updated) == {lab.clock.now_ms() // 1000}
    rounds = [lab.read("latestAnswer", bytes32(pairs[index]))[4] for index in (0, 1, 31, 32, 254, 255)]
    assert rounds == [2, 1, 2, 2, 1, 2]


@pytest.mark.parametrize(("f", "n", "k"), [(5, 16, 11), (5, 17, 11), (13, 40, 40), (84, 255, 255)])
def test_sets_larger_than_what_is_read_at_once(f: int, n: int, k: int):
    lab = Lab(n=n, f=f, threshold=2 * f + 1, least=2 * f + 1, pairs=("BTC/USD",))
    rows = [(1_000_000 + number,) for number in range(k)]
    hint = bytes([(k - 1) // 2])
    lab.submit(lab.reports(rows), hint)
    assert lab.read("tryGetPrice", bytes32("BTC/USD"))[1::3] == (1_000_000 + (k - 1) // 2, k)
    # the last of the set is one of them: it signs again, and one that is not does not count
    lab.clock.advance(10_000)
    last = lab.reporters[n - k :]
    now = lab.following()
    lab.submit(in_signer_order({by.address: lab.report(by, (1_000_500,), **now) for by in last}), bytes(1))
    assert lab.read("getPrice", bytes32("BTC/USD"))[0] == 1_000_500
    lab.clock.advance(10_000)
    stranger = ascending([*lab.reporters[1:], signer(4_000)])
    now = lab.following()
    mixed = in_signer_order({by.address: lab.report(by, (1_000_501,), **now) for by in stranger[:k]})
    names = [one.address for one in lab.reporters[: len(mixed)]]
    with pytest.raises(CallRevertedError, match=r"^UnknownSigner"):
        lab.submit(mixed, bytes([0]), signers=names)


def test_groups_beside_one_another_keep_their_own_rounds_and_times():
    lab = Lab(pairs=("BTC/USD", "ETH/USD"))
    lab.submit(lab.reports([(1_000, 500)] * 3))
    at = lab.clock.now_ms() // 1000
    minors = bytes32("minors")
    lab.configure(group=minors, feeds=[feed_config("A1/USD", decimals=6)])
    lab.clock.advance(20_000)
    (info,) = lab.read("groupInfo", minors)
    number, group_hash = info[-2], "0x" + info[2].hex()

    def report(by: Any, moment: int) -> Any:
        return lab.report(by, (77,), group="minors", group_hash=group_hash, previous_moment=info[4], moment=moment)

    moment = lab.moment()
    signed = in_signer_order({by.address: report(by, moment) for by in lab.reporters[:3]})
    header = number.to_bytes(2, "big") + bytes(1) + (0).to_bytes(6, "big") + moment.to_bytes(6, "big") + bytes([3])
    places = {one.address: index for index, one in enumerate(lab.reporters)}
    body = b"".join(
        bytes([places[one.reporter]]) + bytes.fromhex(one.signature[2:]) + bytes.fromhex(one.evidence_root[2:])
        + bytes(1) + (77).to_bytes(8, "big")
        for one in signed
    )  # fmt: skip
    lab.do("submit", header + body + bytes(1))
    assert lab.read("getPrice", bytes32("A1/USD")) == (77, moment // 1000)
    assert lab.read("getPrice", bytes32("BTC/USD")) == (1_000, at)
    assert (lab.info.round, lab.read("groupInfo", minors)[0][3]) == (1, 1)
    across = [bytes32("BTC/USD"), bytes32("A1/USD")]
    for reader in (("getPrices", across), ("crossRate", *across, 8)):
        with pytest.raises(CallRevertedError, match=r"^NotOneRound"):
            lab.read(*reader)
    lab.do("revoke", minors, lab.reporters[0].address)
    assert (lab.read("groupInfo", minors)[0][9], lab.info.paused) == (True, False)
    assert lab.read("tryGetPrice", bytes32("BTC/USD"))[0] == 1
