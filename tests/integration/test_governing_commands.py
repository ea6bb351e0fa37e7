"""The commands that govern a contract, as their user runs them, on a real node whose time the test controls."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from contracts import LocalSigner, OracleClient, Receipt
from contracts.errors import (
    CallRevertedError,
    ChangeRefusedError,
    EarlierWaitsError,
    MalformedReportError,
    ReceiptTimeoutError,
    RoleMissingError,
    RotationUnderWayError,
    RoundRefusedError,
)
from contracts.fees import GWEI, FeePolicy
from contracts.governance import describe_feed, pause
from contracts.governor import Governor, paused
from contracts.report import bytes32
from core.errors import StartError
from fairmark import feeds, governing, reporters
from fairmark.chain_status import status
from fairmark.office import Manner
from tests.support.governed import DAY_S, HOUR_S, KEYS, NAMES, Governed, governed
from tests.support.submission import DEPLOYER, RELAYERS
from tests.support.wait import until

pytestmark = pytest.mark.needs_anvil

DO = Manner(yes=True)
BTC, ETH = 6_000_000_000_000, 300_000_000_000
D, E = KEYS["fetcher-d"].address, KEYS["fetcher-e"].address


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Governed]:
    """Five reporters, f = 1, threshold 3; no round yet."""
    with governed(tmp_path) as found:
        governing.deploy(found.settings(), yes=True)
        yield found


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]):
    """What commands have printed since the last look."""

    def look() -> str:
        return capsys.readouterr().out

    return look


# ------------------------------------------------------------------------------------------------ rotation


def test_before_the_first_round_a_reporters_key_changes_at_once(here: Governed, said):
    new = here.new_key(0x41)
    reporters.rotate(here.settings(fetcher_d=new), "fetcher-d", D, DO)
    assert new in here.state().signers
    assert D not in here.state().signers
    assert here.rotation() is None
    assert "configuring group majors: 0x" in said()
    reporters.rotate(here.settings(fetcher_d=new), "fetcher-d", D, DO)
    assert "majors: nothing to do, it stands on chain as configured" in said()


def test_after_it_a_key_is_rotated_announced_followed_and_concluded_by_the_same_command(here: Governed, said):
    here.round(BTC, ETH)
    new = here.new_key(0x41)
    changed = here.settings(fetcher_d=new)
    said()
    reporters.rotate(changed, "fetcher-d", D, DO)
    printed = said()
    assert "the new set counts 24 h 0 min after this is mined, the old one beside it for 1 h 0 min at least" in printed
    assert "rotating the signers of group majors (for the signers' manager or the owner)" in printed
    assert "rotating the signers of group majors: 0x" in printed
    assert "the new set counts from" in printed
    rotation = here.rotation()
    assert rotation is not None
    assert (new in rotation.signers, D in rotation.signers, D in here.state().signers) == (True, False, True)

    block = here.run(lambda client: client.block_number())
    reporters.rotate(changed, "fetcher-d", D, DO)  # run again: it shows how far it is, and sends nothing
    governing.deploy(changed, yes=True)
    assert here.run(lambda client: client.block_number()) == block
    assert re.search(r"in (24 h 0|23 h 59) min$", said(), re.MULTILINE)
    reporters.listed(changed)
    listed = said()
    assert f"majors {new} fetcher-d (comes with the rotation)" in listed
    assert f"majors {D} not configured (goes with the rotation)" in listed

    here.round(BTC, ETH)  # the old set goes on counting
    here.pass_time(DAY_S + 60)
    assert (here.state().set_place, new in here.state().signers) == (1, True)
    a, b = (KEYS[name].address for name in ("fetcher-a", "fetcher-b"))
    here.round(BTC, ETH, by=(a, b, new))
    reporters.rotate(changed, "fetcher-d", D, DO)
    assert "the old set counts beside it until" in said()
    with pytest.raises(StartError, match="not over yet"):
        reporters.conclude(changed, "majors", DO)
    here.pass_time(HOUR_S)
    said()
    reporters.rotate(changed, "fetcher-d", D, DO)
    assert "concluding the rotation of group majors: 0x" in said()
    assert (here.rotation(), here.state().set_place) == (None, 0)
    here.round(BTC, ETH, by=(a, b, new))
    assert here.state().round == 4
    reporters.conclude(changed, "majors", DO)
    assert "nothing to do, no rotation is under way" in said()


def test_the_new_sets_round_after_the_overlap_ends_a_rotation_by_itself(here: Governed, said):
    here.round(BTC, ETH)
    here.names = here.names[:4]
    changed = here.settings()
    reporters.remove(changed, E, DO)
    here.pass_time(DAY_S + HOUR_S + 60)
    here.round(BTC, ETH)
    assert (here.rotation(), E in here.state().signers) == (None, False)
    said()
    reporters.remove(changed, E, DO)
    assert "majors: nothing to do, it stands on chain as configured" in said()


def test_another_change_waits_until_a_rotation_is_over_or_cancelled(here: Governed, said):
    here.round(BTC, ETH)
    reporters.rotate(here.settings(fetcher_d=here.new_key(0x41)), "fetcher-d", D, DO)
    other = here.settings(fetcher_d=D, fetcher_e=here.new_key(0x42))
    with pytest.raises(StartError, match="more than that"):
        reporters.rotate(other, "fetcher-e", E, DO)
    with pytest.raises(RotationUnderWayError, match="fairmark reporters cancel majors"):
        governing.deploy(other, yes=True)
    reporters.cancel(other, "majors", DO)
    assert here.rotation() is None
    reporters.rotate(other, "fetcher-e", E, DO)
    rotation = here.rotation()
    assert rotation is not None
    assert (D in rotation.signers, E in rotation.signers) == (True, False)
    here.limits = "deviation_bps = 80"
    with pytest.raises(RotationUnderWayError):
        governing.deploy(here.settings(fetcher_e=rotation_key(rotation.signers)), yes=True)


def rotation_key(signers: tuple[str, ...]) -> str:
    """The one that is nobody's first key."""
    (found,) = set(signers) - {one.address for one in KEYS.values()}
    return found


# ------------------------------------------------------------------------------------------------ revocation


def test_a_revoked_key_counts_no_more_at_once_and_the_group_goes_on_while_enough_are_left(here: Governed, said):
    here.round(BTC, ETH)
    said()
    reporters.revoked(here.settings(), E, DO)
    printed = said()
    assert f"revoking {E} in group majors: 0x" in printed
    assert "WARNING" not in printed
    state = here.state()
    assert (E in state.signers, state.paused) == (False, False)
    with pytest.raises(MalformedReportError, match="is not of the group's signers"):
        here.round(BTC, ETH, by=(E, *state.signers[:2]))
    here.round(BTC, ETH)
    reporters.revoked(here.settings(), E, DO)
    assert f"nothing to do: {E} signs for no group" in said()


def test_a_group_left_with_too_few_is_warned_of_halts_and_is_mended_at_once_with_another_key(here: Governed, said):
    here.round(BTC, ETH)
    for gone in (E, D):
        said()
        reporters.revoked(here.settings(), gone, DO)
    printed = said()
    assert "WARNING: 3 signers are left to majors, too few for f = 1 and threshold 3: it HALTS" in printed
    assert here.state().paused
    with pytest.raises(RoundRefusedError, match="OraclePaused"):
        here.round(BTC, ETH)
    reporters.listed(here.settings())
    assert "majors: HALTED, too few signers are left" in said()
    new = here.new_key(0x41)
    here.names = here.names[:4]
    reporters.add(here.settings(fetcher_d=new), "fetcher-d", DO)
    assert here.rotation() is None
    assert (new in here.state().signers, here.state().paused) == (True, False)
    here.round(BTC, ETH)
    assert here.state().round == 2


def test_revoking_drops_a_rotation_and_says_so(here: Governed, said):
    here.round(BTC, ETH)
    new = here.new_key(0x41)
    changed = here.settings(fetcher_d=new)
    reporters.rotate(changed, "fetcher-d", D, DO)
    with pytest.raises(ChangeRefusedError, match="reporters cancel majors"):
        reporters.revoked(changed, new, DO)
    said()
    reporters.revoked(changed, D, DO)
    assert "WARNING: the rotation of majors, which would end this key's time by itself, is dropped" in said()
    assert (here.rotation(), len(here.state().signers)) == (None, 4)


def test_while_a_due_rotation_waits_it_is_the_old_sets_numbers_that_are_warned_of(here: Governed, said):
    """Reporters sign for the new set by then, but what is revoked, and left, is of the old one."""
    here.names = NAMES[:4]
    governing.deploy(here.settings(), yes=True)
    here.round(BTC, ETH)
    new = here.new_key(0x41)
    changed = here.settings(fetcher_d=new)
    reporters.rotate(changed, "fetcher-d", D, DO)
    here.pass_time(DAY_S + 1)
    assert D not in here.state().signers  # the due set's, which the standing one is not
    said()
    reporters.revoked(changed, D, DO)
    printed = said()
    assert "WARNING: the rotation of majors, which would end this key's time by itself, is dropped" in printed
    assert "WARNING: 3 signers are left to majors, too few for f = 1 and threshold 3: it HALTS" in printed
    assert here.state().paused


def test_a_feed_is_described_on_chain(here: Governed, said):
    feeds.describe(here.settings(), "BTC/USD", "Bitcoin in dollars", DO)
    assert "BTC/USD: it is described as 'Bitcoin in dollars'" in said()
    told = here.run(lambda client: client.read("feedDescription", bytes32("BTC/USD")))
    assert told == ("Bitcoin in dollars",)
    feeds.describe(here.settings(), "BTC/USD", "Bitcoin in dollars", DO)
    assert "nothing to do" in said()
    feeds.describe(here.settings(), "BTC/USD", "", DO)
    assert here.run(lambda client: client.read("feedDescription", bytes32("BTC/USD"))) == ("",)


# ------------------------------------------------------------------------------------------------ the breaker


def test_feeds_are_added_and_set_after_the_first_round(here: Governed, said):
    here.round(BTC, ETH)
    here.pairs = ("BTC/USD", "ETH/USD", "SOL/USD")
    feeds.add(here.settings(), "SOL/USD", DO)
    assert "deploying SOL/USD: 0x" in said()
    assert [str.__str__(feed.pair) for feed in here.state().feeds] == list(here.pairs)
    here.limits = "deviation_bps = 80"
    with pytest.raises(StartError, match="differs from the chain in more than that"):
        feeds.set_rules(here.settings(), "BTC/USD", DO)
    governing.deploy(here.settings(), yes=True)
    assert {feed.deviation_bps for feed in here.state().feeds} == {80}
    here.round(BTC, ETH, 15_000_000_000)
    assert here.state().round == 2


@pytest.mark.parametrize(("command", "becomes"), [("confirm", BTC * 2), ("discard", BTC)])
def test_the_owner_decides_on_a_candidate(command: str, becomes: int, here: Governed, said):
    here.round(BTC, ETH)
    here.round(BTC * 2, ETH)
    settings, confirm = here.settings(), command == "confirm"
    assert here.answers()["BTC/USD"] == BTC
    said()
    feeds.listed(settings)
    assert "candidate 120000.00000000 of round 2 (3 contributors, spread 0 bps) waits; 60000.00000000 stands" in said()
    with pytest.raises(StartError, match="another candidate waits: 120000"):
        feeds.resolve(settings, "BTC/USD", "120001", DO, confirm=confirm)
    feeds.resolve(settings, "BTC/USD", "120000", DO, confirm=confirm)
    assert here.answers()["BTC/USD"] == becomes
    feeds.resolve(settings, "BTC/USD", None, DO, confirm=confirm)
    assert "BTC/USD: nothing to do, no candidate waits" in said()


def test_one_feed_is_halted_and_resumed(here: Governed, said):
    here.round(BTC, ETH)
    settings = here.settings()

    def price(pair: str) -> int:
        async def read(client):
            return (await client.read("getPrice", pair.encode().ljust(32, b"\0")))[0]

        return here.run(read)

    feeds.halt(settings, "BTC/USD", DO, halted=True)
    with pytest.raises(CallRevertedError, match="FeedHalted"):
        price("BTC/USD")
    assert price("ETH/USD") == ETH
    feeds.listed(settings)
    assert "HALTED; `fairmark feeds resume BTC/USD` ends it" in said()
    feeds.halt(settings, "BTC/USD", DO, halted=True)
    assert "BTC/USD: nothing to do, it is halted already" in said()
    feeds.halt(settings, "BTC/USD", DO, halted=False)
    assert price("BTC/USD") == BTC


def test_a_feed_that_is_halted_before_its_first_answer_or_while_all_is_paused_is_shown_so(here: Governed, said):
    here.pairs = ("BTC/USD", "ETH/USD", *(f"C{number}/USD" for number in range(10, 44)))
    settings = here.settings()
    governing.deploy(settings, yes=True)
    said()
    for pair in ("ETH/USD", "C40/USD"):
        feeds.halt(settings, pair, DO, halted=True)
        feeds.halt(settings, pair, DO, halted=True)
        assert f"{pair}: nothing to do, it is halted already" in said()
    governing.paused(settings, DO, wanted=True)
    for show in (lambda: feeds.listed(settings), lambda: asyncio.run(status(settings))):
        show()
        assert re.findall(r"`fairmark feeds resume (\S+)` ends it", said()) == ["ETH/USD", "C40/USD"]
    feeds.halt(settings, "ETH/USD", DO, halted=False)
    feeds.listed(settings)
    assert re.findall(r"`fairmark feeds resume (\S+)` ends it", said()) == ["C40/USD"]


# ------------------------------------------------------------------------------------------------ roles


def test_each_role_may_do_its_part_and_a_refusal_names_who_may(here: Governed, said):
    here.round(BTC, ETH)
    settings = here.settings()
    manager = LocalSigner(RELAYERS[1]).address
    governing.roles_set(settings, DO, owner=None, guardian=None, feeds_manager=None, signers_manager=manager)
    governing.roles_set(settings, DO, owner=None, guardian=None, feeds_manager=None, signers_manager=manager)
    assert "nothing to do: they have these roles" in said()
    here.key = RELAYERS[1]
    new = here.new_key(0x41)
    theirs = here.settings(fetcher_d=new)
    with pytest.raises(
        RoleMissingError, match=rf"pausing is for the guardian \(0x.* or the owner \(0x.*not for {manager}"
    ):
        governing.paused(theirs, DO, wanted=True)
    reporters.rotate(theirs, "fetcher-d", D, DO)
    assert here.rotation() is not None
    governing.roles_listed(theirs)
    assert f"signers' manager {manager}" in said()


def test_ownership_is_offered_and_accepted(here: Governed, said):
    heir = LocalSigner(RELAYERS[1]).address
    governing.roles_set(here.settings(), DO, owner=heir, guardian=None, feeds_manager=None, signers_manager=None)
    with pytest.raises(StartError, match=f"offered to {heir}"):
        governing.roles_accept(here.settings(), DO)
    here.key = RELAYERS[1]
    governing.roles_accept(here.settings(), DO)
    assert here.run(lambda client: client.owner()) == heir


def test_for_a_multisig_the_commands_print_what_it_sends_and_send_nothing(here: Governed, said):
    here.round(BTC, ETH)
    changed = here.settings(fetcher_d=here.new_key(0x41))
    block = here.run(lambda client: client.block_number())
    said()
    reporters.rotate(changed, "fetcher-d", D, Manner(calldata=True))
    lines = said().splitlines()
    assert here.run(lambda client: client.block_number()) == block
    assert "rotating the signers of group majors, by the signers' manager or the owner" in lines
    to = next(line.split()[1] for line in lines if line.startswith("  to "))
    data = bytes.fromhex(next(line.split()[1] for line in lines if line.startswith("  data "))[2:])

    async def send(client):
        assert to == client.record.address
        sender = client.sender(here.key)
        return await client.wait_receipt(await sender.send(to, data, gas=2_000_000), 10)

    assert here.run(send).ok
    assert here.rotation() is not None


def test_where_money_is_nothing_is_sent_without_a_yes(tmp_path: Path, said):
    with governed(tmp_path, "--chain-id", "424242") as there:
        with pytest.raises(StartError, match="give --yes"):
            governing.deploy(there.settings(), yes=False)
        assert not (tmp_path / "deployments").exists()


# ------------------------------------------------------------------------------------------------ stuck


def test_a_change_that_no_block_takes_is_sent_again_for_more_at_its_nonce(here: Governed):
    announced: list[tuple[str, str]] = []

    async def work(client: OracleClient) -> tuple[Receipt, list[dict[str, str]]]:
        await here.node.stop_mining()
        governor = Governor(
            client, client.sender(DEPLOYER), replace_after_s=0.2, announce=lambda *said: announced.append(said)
        )
        doing = asyncio.create_task(governor.do(pause(client.abi)))
        await until(lambda: len(announced) >= 3)
        assert await here.node.pool() == 1
        sent = await here.node.call("eth_getTransactionByHash", announced[-1][1])
        await here.node.mine()
        return await doing, [sent]

    receipt, (last,) = here.run(work)
    assert receipt.ok
    assert receipt.transaction in {transaction for _, transaction in announced}
    assert [what for what, _ in announced[:2]] == ["pausing", "pausing, again for more"]
    assert int(last["maxFeePerGas"], 16) <= FeePolicy().max_fee
    assert here.run(paused)


def test_what_the_cap_forbids_to_push_is_waited_for_and_given_up_by_name(here: Governed):
    async def work(client: OracleClient) -> int:
        await here.node.stop_mining()
        client.fees = FeePolicy(max_fee=4 * GWEI)
        found: list[str] = []
        governor = Governor(
            client, client.sender(DEPLOYER), timeout_s=1.5, replace_after_s=0.2,
            announce=lambda _, transaction: found.append(transaction),
        )  # fmt: skip
        with pytest.raises(ReceiptTimeoutError, match=r"0x"):
            await governor.do(pause(client.abi))
        (waiting,) = [one for one in [await client.find_fees(each) for each in found] if one is not None]
        return waiting.cap

    assert here.run(work) <= 4 * GWEI


def test_behind_a_transaction_that_the_cap_holds_up_nothing_is_sent_until_it_is_cancelled(here: Governed, said):
    stuck: list[str] = []

    async def get_stuck(client: OracleClient) -> None:
        await here.node.stop_mining()
        client.fees = FeePolicy(max_fee=4 * GWEI)
        governor = Governor(
            client, client.sender(DEPLOYER), timeout_s=0.5, announce=lambda _, transaction: stuck.append(transaction)
        )
        with pytest.raises(ReceiptTimeoutError):
            await governor.do(pause(client.abi))

    async def change(client: OracleClient) -> Receipt:
        return await Governor(client, client.sender(DEPLOYER), turn_s=0.5).do(describe_feed(client.abi, "BTC/USD", "x"))

    async def nonces(client: OracleClient) -> tuple[int, int]:
        sender = client.sender(DEPLOYER)
        return await sender.used(), await sender.expected()

    here.run(get_stuck)
    used, expected = here.run(nonces)
    assert expected == used + 1
    with pytest.raises(EarlierWaitsError, match="`fairmark chain cancel`") as raised:
        here.run(change)
    assert (raised.value.nonce, here.run(nonces)) == (used, (used, expected))

    async def mine_once_it_is_replaced(client: OracleClient) -> None:
        async with asyncio.timeout(30):
            while await client.find_fees(stuck[0]) is not None:  # noqa: ASYNC110 - the pool tells nobody
                await asyncio.sleep(0.05)
        await here.node.mine()
        await here.node.call("evm_setAutomine", True)

    with ThreadPoolExecutor(1) as elsewhere:
        command = elsewhere.submit(governing.cancelled, here.settings(), DO)
        here.run(mine_once_it_is_replaced)
        command.result(30)
    assert re.search(rf"nonce {used}\n(.|\n)*done in block", said())
    governing.cancelled(here.settings(), DO)
    assert "nothing to do: blocks have every transaction" in said()
    assert here.run(change).ok
    assert not here.run(paused)
