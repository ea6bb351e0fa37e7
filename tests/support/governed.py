"""A deployed contract on a node of its own, for tests that run commands on it: settings, rounds, the chain's time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from contracts import GroupState, LocalSigner, OracleClient, read_record
from contracts.governance import Rotation
from contracts.governor import rotation
from contracts.report import in_signer_order, median_hints, sign_report
from core.settings import Settings, load
from core.types import Mode
from tests.e2e.config import SOURCES, configuration
from tests.support.submission import DEPLOYER, RELAYERS, Anvil, anvil

Found = TypeVar("Found")
NAMES = ("fetcher-a", "fetcher-b", "fetcher-c", "fetcher-d", "fetcher-e")
KEYS = {name: LocalSigner("0x" + f"{number:02x}" * 32) for number, name in enumerate(NAMES, start=0x21)}
DAY_S, HOUR_S = 86_400, 3_600


@dataclass
class Governed:
    """signers: everybody whose key the tests know, by address in lower case."""

    node: Anvil
    folder: Path
    runner: asyncio.Runner
    signers: dict[str, LocalSigner]
    pairs: tuple[str, ...] = ("BTC/USD", "ETH/USD")
    names: tuple[str, ...] = NAMES
    key: str = DEPLOYER
    limits: str = ""

    def settings(self, **addresses: str) -> Settings:
        """As configured now. addresses: of fetchers with another key than their first, `fetcher_d=…`."""
        chain_id = int(self.run(lambda _: self.node.call("eth_chainId"), connect=False), 16)  # type: ignore[arg-type]
        sources = {name: SOURCES.get(name, SOURCES["fetcher-a"]) for name in self.names}
        config = self.folder / "fairmark.toml"
        config.write_text(configuration(pairs=self.pairs, sources=sources, feed_rules=self.limits))
        environ = {
            "FAIRMARK_CHAIN__URL": self.node.url,
            "FAIRMARK_CHAIN__CHAIN_ID": str(chain_id),
            "FAIRMARK_CHAIN__DEPLOYMENTS_DIR": str(self.folder / "deployments"),
            "FAIRMARK_CHAIN__DEPLOYER_KEY": self.key,
        }
        for name in self.names:
            address = addresses.get(name.replace("-", "_"), KEYS[name].address)
            environ[f"FAIRMARK_FETCHERS__{name.upper().replace('-', '_')}__ADDRESS"] = address
        return load(config, environ)

    def new_key(self, number: int) -> str:
        """The address of another key that can sign in rounds."""
        signer = LocalSigner("0x" + f"{number:02x}" * 32)
        self.signers[signer.address.lower()] = signer
        return signer.address

    def run(self, work: Callable[[OracleClient], Awaitable[Found]], *, connect: bool = True) -> Found:
        async def connected() -> Found:
            if not connect:
                return await work(None)  # type: ignore[arg-type]
            record = read_record(self.folder / "deployments", 31337)
            assert record is not None
            client = await OracleClient.connect(self.node.url, record, Mode.TEST)
            try:
                return await work(client)
            finally:
                await client.close()

        return self.runner.run(connected())

    def state(self) -> GroupState:
        return self.run(lambda client: client.group_state("majors"))

    def rotation(self) -> Rotation | None:
        return self.run(lambda client: rotation(client, "majors"))

    def answers(self) -> dict[str, int]:
        reading = self.run(lambda client: client.read_group("majors"))
        return {str.__str__(pair): answer.value for pair, answer in reading.answers.items()}

    def pass_time(self, seconds: int) -> None:
        async def work(_: OracleClient) -> None:
            await self.node.call("evm_increaseTime", seconds)
            await self.node.mine()

        self.run(work, connect=False)

    def round(self, *prices: int, by: Sequence[str] = ()) -> None:
        """A round by the first signers of the set that counts, or by those addresses."""

        async def work(client: OracleClient) -> None:
            await self.node.mine()
            state = await client.group_state("majors")
            chosen = [self.signers[address.lower()] for address in (by or state.signers[: state.threshold])]
            moment = max(state.block_timestamp * 1000, state.last_moment + 10)
            reports = in_signer_order(
                {
                    one.address: sign_report(
                        one,
                        client.domain,
                        group="majors",
                        group_hash=state.group_hash,
                        previous_moment=state.last_moment,
                        moment=moment,
                        prices=prices,
                    )
                    for one in chosen
                }
            )
            calldata = client.build_submission("majors", reports, median_hints(reports, state.feeds))
            sender = client.sender(RELAYERS[0])
            await client.simulate(calldata, sender.address)
            receipt = await client.wait_receipt(await client.submit(calldata, sender), 10)
            assert receipt.ok

        self.run(work)


@contextlib.contextmanager
def governed(folder: Path, *arguments: str) -> Iterator[Governed]:
    with asyncio.Runner() as runner:
        context = anvil(*arguments)
        node = runner.run(context.__aenter__())
        try:
            yield Governed(node, folder, runner, {one.address.lower(): one for one in KEYS.values()})
        finally:
            runner.run(context.__aexit__(None, None, None))
