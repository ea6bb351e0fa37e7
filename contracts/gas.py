"""`python -m contracts.gas` measures what rounds and reads cost, on anvil, and writes `gas.json` and `docs/gas.md`.

Gas is exact and repeatable: hardfork osaka, steady state (every ring has gone round once, so that each slot written was
written before), the breaker on, EIP-712 signatures, evidence, one event a round. With `--check` it only compares.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from eth_utils.crypto import keccak

from contracts import artifacts
from contracts.errors import RpcUnavailableError
from contracts.readings import FeedOnChain
from contracts.report import Domain, LocalSigner, bytes32, in_signer_order, median_hints, sign_report
from contracts.rounds import SignerSet, pack_round
from contracts.rpc import Rpc
from core.types import Mode, Pair, SignedReport

ROOM = Path(__file__).parent
SNAPSHOT = ROOM / "gas.json"
PAGE = ROOM.parent / "docs" / "gas.md"
ANVIL = "@foundry-rs/anvil-*/bin/anvil"
TOLERANCE = 0.005
RING = 64
"""Answers that the contract keeps of a feed."""
ROUNDS = RING + 6
"""A few more than the ring has places, for a steady state."""
START = 1_800_000_000
QUORUMS = {3: (1, 4), 5: (2, 7), 13: (6, 19)}
"""k: f, n."""
SIZES = (1, 10, 100)
TX_GAS = 16_000_000
COLD_ACCOUNT = 2_600
METER = bytes.fromhex(
    "60238060095f395ff3"  # the code that follows
    "601436038060145f37"  # calldata from byte 20 on into memory; its size is left on the stack
    "5a5f5f835f5f3560601c5afa505a9003"  # gas; staticcall of the address in the first 20 bytes; gas; the difference
    "601a90035f5260205ff3"  # less what stands between the two, returned
)
"""Creates a contract that returns what a call costs its caller."""


def anvil() -> str | None:
    found = sorted((ROOM / "node_modules").glob(ANVIL))
    return str(found[0]) if found else None


@contextlib.asynccontextmanager
async def chain(binary: str) -> AsyncIterator[Rpc]:
    """A node of its own on a free port, at a fixed time."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    process = await asyncio.create_subprocess_exec(
        binary, "--port", str(port), "--silent", "--accounts", "1", "--hardfork", "osaka", "--timestamp", str(START),
        stdout=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    rpc = Rpc(f"http://127.0.0.1:{port}", timeout_s=30)
    try:
        async with asyncio.timeout(10):
            while True:
                with contextlib.suppress(RpcUnavailableError):
                    await rpc.call("eth_chainId")
                    break
                await asyncio.sleep(0.02)
        yield rpc
    finally:
        await rpc.close()
        if process.returncode is None:
            process.terminate()
        await process.wait()


class Bench:
    """One oracle with one group, on an unlocked account of the node."""

    def __init__(self, rpc: Rpc, k: int, feeds: int) -> None:
        self.rpc = rpc
        self.abi = artifacts.load("FairmarkOracle").abi
        self.k = k
        self.f, n = QUORUMS[k]
        signers = [LocalSigner(f"0x{number:064x}") for number in range(1, n + 1)]
        self.signers = sorted(signers, key=lambda one: int(one.address, 16))
        self.pairs = [f"F{number}/USD" for number in range(feeds)]
        self.now = START + 1_000
        self.last = 0
        self.rounds = 0

    @classmethod
    async def stand(cls, rpc: Rpc, k: int, feeds: int) -> Bench:
        """Deployed and configured."""
        bench = cls(rpc, k, feeds)
        await bench._deploy()
        return bench

    async def _deploy(self) -> None:
        self.me = (await self.rpc.call("eth_accounts"))[0]
        artifact = artifacts.load("FairmarkOracle")
        made = await self._transact(None, artifact.bytecode + artifact.abi.construct(False, self.me, self.me))
        self.address = made["contractAddress"]
        self.domain = Domain(Mode.LIVE, 31337, self.address)
        least = 2 * self.f + 1
        feeds = [(bytes32(pair), 8, least, 50, 60, 1_000, 1_000) for pair in self.pairs]
        addresses = [one.address for one in self.signers]
        await self.do("configureGroup", bytes32("bench"), feeds, addresses, self.f, self.k, 60_000)
        (info,) = await self.read("groupInfo", bytes32("bench"))
        self.group_hash, number = "0x" + info[2].hex(), info[-2]
        self.known = SignerSet(number, 0, tuple(addresses), len(feeds), least)

    async def _transact(self, to: str | None, data: bytes) -> Any:
        call = {"from": self.me, "data": "0x" + data.hex(), "gas": hex(TX_GAS)} | ({"to": to} if to else {})
        sent = await self.rpc.call("eth_sendTransaction", call)
        while (receipt := await self.rpc.call("eth_getTransactionReceipt", sent)) is None:  # noqa: ASYNC110
            await asyncio.sleep(0.001)  # it mines at once
        if int(receipt["status"], 16) != 1:
            raise RuntimeError(await self.rpc.call("eth_call", call, "latest"))
        return receipt

    async def do(self, function: str, *arguments: Any) -> int:
        return int((await self._transact(self.address, self.abi.call(function, *arguments)))["gasUsed"], 16)

    async def read(self, function: str, *arguments: Any) -> tuple[Any, ...]:
        call = {"to": self.address, "data": "0x" + self.abi.call(function, *arguments).hex()}
        return self.abi.result(function, bytes.fromhex((await self.rpc.call("eth_call", call, "latest"))[2:]))

    def reports(self, moment: int, unchanged: int) -> tuple[SignedReport, ...]:
        """Prices of six significant bytes, as BTC/USD's are with eight decimals, a few basis points apart."""
        signed = {}
        for number, signer in enumerate(self.signers[: self.k]):
            shift = 1_009_001 * number
            prices = [
                0 if unchanged >> index & 1 else 7_250_123_456_789 + 1_000_003 * index + 7_919 * self.rounds + shift
                for index in range(len(self.pairs))
            ]
            signed[signer.address] = sign_report(
                signer, self.domain, group="bench", group_hash=self.group_hash, previous_moment=self.last,
                moment=moment, prices=prices, unchanged=unchanged, evidence_root="0x" + keccak(b"%d" % number).hex(),
            )  # fmt: skip
        return in_signer_order(signed)

    async def round(self, unchanged: int = 0) -> int:
        """A round ten seconds after the last; its gas."""
        self.now += 10
        moment = self.now * 1000
        reports = self.reports(moment, unchanged)
        feeds = [FeedOnChain(Pair(pair), 8, 2 * self.f + 1, 50, 60) for pair in self.pairs]
        hints = bytes(len(feeds)) if unchanged else median_hints(reports, feeds)
        payload = pack_round(self.known, reports, [one.reporter for one in reports], hints)
        await self.rpc.call("evm_setNextBlockTimestamp", self.now)
        used = await self.do("submit", payload)
        self.last, self.rounds = moment, self.rounds + 1
        return used

    @property
    def every(self) -> int:
        """The bits of all feeds."""
        return (1 << len(self.pairs)) - 1

    async def reading(self, function: str, *arguments: Any) -> int:
        """What a call costs a contract that has not touched the oracle in this transaction; of a block mined now."""
        await self.read(function, *arguments)  # it does not revert
        meter = (await self._transact(None, METER))["contractAddress"]
        data = bytes.fromhex(self.address[2:]) + self.abi.call(function, *arguments)
        return int(
            await self.rpc.call("eth_call", {"from": self.me, "to": meter, "data": "0x" + data.hex()}, "latest"), 16
        )


async def measure(binary: str) -> dict[str, Any]:
    """All figures, each on a chain of its own, so that they do not depend on one another."""
    figures: dict[str, Any] = {}
    for k in QUORUMS:
        figures[f"k{k}"] = {f"n{size}": await _written(binary, k, size) for size in SIZES}
    for k in QUORUMS:
        async with chain(binary) as rpc:
            bench = await Bench.stand(rpc, k, 256)
            await bench.round()
            figures[f"attest256_k{k}"] = [await bench.round(bench.every) for _ in range(ROUNDS)][-1]
    async with chain(binary) as rpc:
        bench = await Bench.stand(rpc, 3, 10)
        await bench.round()
        id_, ids = bytes32(bench.pairs[4]), [bytes32(pair) for pair in bench.pairs]
        fresh = await bench.reading("getPrice", id_)
        checked = await bench.reading("getPriceChecked", id_, 60, 1_000, 3)
        several = await bench.reading("getPrices", ids)
        for _ in range(15):  # 150 s: the answer alone would be stale
            await bench.round(bench.every)
        attested = await bench.reading("getPrice", id_)
    async with chain(binary) as rpc:
        bench = await Bench.stand(rpc, 3, 1)
        for _ in range(ROUNDS):
            await bench.round()
        id_ = bytes32(bench.pairs[0])
        # rounds are ten seconds apart: from the newest answer to the oldest that the ring has
        price_at = [await bench.reading("priceAt", id_, bench.now - 10 * back) for back in range(RING)]
        twap = [await bench.reading("twap", id_, 10 * back) for back in range(1, RING)]
    history = {"price_at": max(price_at) - COLD_ACCOUNT, "twap": max(twap) - COLD_ACCOUNT}
    own = {"fresh": fresh - COLD_ACCOUNT, "attested": attested - COLD_ACCOUNT}
    called = {"fresh": fresh, "attested": attested, "checked": checked, "ten_at_one_round": several}
    return figures | {"get_price": own, "get_price_with_cold_account": called, "history_at_worst": history}


async def _written(binary: str, k: int, size: int) -> int:
    async with chain(binary) as rpc:
        bench = await Bench.stand(rpc, k, size)
        return [await bench.round() for _ in range(ROUNDS)][-1]


def page(figures: dict[str, Any]) -> str:
    """`docs/gas.md`: our figures, what was asked for, and the peers'."""
    lines = [PAGE_HEAD, "| k | N = 1 | N = 10 | N = 100 | a feed at N = 100 |", "| --- | --- | --- | --- | --- |"]
    for k in QUORUMS:
        one, ten, hundred = (figures[f"k{k}"][f"n{size}"] for size in SIZES)
        lines.append(f"| {k} | {one:,} | {ten:,} | {hundred:,} | {hundred // 100:,} |")
    lines += ["", "256 feeds attested as unchanged, in all:", "", "| k = 3 | k = 5 | k = 13 |", "| --- | --- | --- |"]
    lines += ["| " + " | ".join(f"{figures[f'attest256_k{k}']:,}" for k in QUORUMS) + " |", "", READS, ""]
    own, called = figures["get_price"], figures["get_price_with_cold_account"]
    lines += ["| | in the oracle | with the account's 2,600 |", "| --- | --- | --- |"]
    lines += [f"| `getPrice`, {which} | {own[which]:,} | {called[which]:,} |" for which in own]
    lines += [f"| `getPriceChecked` | {called['checked'] - COLD_ACCOUNT:,} | {called['checked']:,} |"]
    several = called["ten_at_one_round"]
    lines += [f"| `getPrices`, ten feeds | {several - COLD_ACCOUNT:,} | {several:,} |"]
    history = figures["history_at_worst"]
    for name, shown in (("price_at", "priceAt"), ("twap", "twap")):
        lines += [f"| `{shown}`, ring full, at worst | {history[name]:,} | {history[name] + COLD_ACCOUNT:,} |"]
    return "\n".join(lines) + "\n" + PEERS


def differences(found: Any, standing: Any, path: str = "") -> list[str]:
    """Where two sets of figures are more than `TOLERANCE` apart."""
    if isinstance(found, dict) and isinstance(standing, dict):
        names = sorted({*found, *standing})
        return [one for name in names for one in differences(found.get(name), standing.get(name), f"{path}.{name}")]
    if isinstance(found, int) and isinstance(standing, int) and abs(found - standing) <= TOLERANCE * standing:
        return []
    return [f"{path[1:]}: {found}, and {standing} stands"]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m contracts.gas", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail when a figure moved")
    check = parser.parse_args(arguments).check
    binary = anvil()
    if binary is None:
        sys.stderr.write("no anvil: run `npm install` in contracts/\n")
        return 1
    figures = asyncio.run(measure(binary))
    if check:
        moved = differences(figures, json.loads(SNAPSHOT.read_bytes()))
        sys.stderr.write("\n".join(moved or ["the figures stand"]) + "\n")
        return 1 if moved else 0
    SNAPSHOT.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    PAGE.write_text(page(figures), encoding="utf-8")
    sys.stderr.write(f"{json.dumps(figures)}\n")
    return 0


PAGE_HEAD = """# Gas

Made by `make gas` (anvil 1.7.1, hardfork osaka); a test holds the tree to it within half a percent. Steady state: every
slot that is written was written before. Switched on: EIP-712 digests, ranks checked, ring of 64 with cumulative price
and spread, breaker, evidence, minimum of contributors, roles, one event a round.

A round that writes N feeds, k signatures checked, in gas for the whole transaction:
"""
READS = "Reading, called by a contract that has not touched the oracle in its transaction:"
PEERS = """
`priceAt` and `twap` halve the ring: 7 of its 64 places are read where all of them would cost 134,400.

Of a feed's share at N = 100 and k = 3, storage is 7,100: the standing answer is read (2,100), which its cumulative
price and its breaker need, and the next place of the ring is written (5,000). Calldata is 380, the round's fixed cost
some 600, and what is left, some 1,700, is the rank, the spread, the limits and the packing. With one slot for a feed's
answer, storage and calldata alone are 7,480.

## The second of two

Two submitters may send the same round into one block. The second reverts after one storage read; what it pays is 21,000
and its calldata, which by EIP-7623 costs 40 gas a byte (10 a zero byte) where little else is done. With k = 3 that is
about 31,800 in all for one feed. Each feed more adds its prices in k reports and a hint, some 800 gas: from about five
feeds on the calldata alone takes it beyond 35,000, whatever the contract does. So a submitter simulates first, and the
rounds of a group with many feeds are best sent by one.

## Peers

Measured the same way, November 2026; the feature that the cheap ones lack stands in the last column.

| contract | N = 1 | N = 10 | N = 100 | |
| --- | --- | --- | --- | --- |
| MakerDAO Median, k = 5 / 13 | 73,278 / 138,387 | – | – | one feed, no history |
| Chronicle Scribe (Schnorr), bar 5 / 13 | 79,641 / 123,325 | – | – | one feed, no history |
| Chainlink OCR2, k = 2 / 11 | 95,173 / 178,094 | – | – | one feed |
| Chainlink Keystone to DataFeedsCache, k = 2 | 126,917 | 509,520 | 4,338,451 | |
| RedStone multi-feed, k = 3 | 58,053 | 202,961 | 3,236,506 | no history |
| Pyth, k = 13 | 202,442 | 425,808 | 2,712,743 | no history |
| Orakl, k = 3 | 133,964 | 946,304 | 9,093,215 | |
| Api3, 3 beacons with on-chain median | 91,649 | 718,256 | about 7,100,000 | no history |
| Band StdReference | 32,645 | 98,518 | 758,200 | one trusted relayer, no signature checked |
"""


if __name__ == "__main__":
    raise SystemExit(main())
