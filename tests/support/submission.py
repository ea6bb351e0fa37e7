"""A submitter over a real node whose mempool, blocks and history the test controls."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from prometheus_client import CollectorRegistry

from aggregator.attempts import AttemptRecord, Cause
from aggregator.edges import Flight
from aggregator.metrics import Metrics
from aggregator.recorder import Recorder
from aggregator.states import State
from aggregator.submitter import Submitter
from aggregator.tracker import Tracker
from contracts import LocalSigner, OracleClient
from contracts.deploy import deploy
from contracts.errors import RpcUnavailableError
from contracts.fees import FeePolicy
from contracts.readings import Receipt
from contracts.report import in_signer_order, median_hints, sign_report
from contracts.rpc import Rpc
from core.clock import SystemClock
from core.logs import get_logger
from core.ops import listen
from core.types import Feed, Group, Mode, Pair
from tests.conftest import anvil_binary
from tests.support.aggregator import MemoryStore

DEPLOYER = "0x" + "d1" * 32
RELAYERS = ("0x" + "d2" * 32, "0x" + "d3" * 32)
REPORTERS = [LocalSigner(f"0x{number:064x}") for number in range(1, 5)]
GROUP = Group(name="majors", feeds=(Feed(pair=Pair("BTC/USD")),), max_age_ms=60_000)
LOG = get_logger("aggregator", Mode.TEST)


@dataclass
class Anvil:
    """A node of its own, for a test that breaks it."""

    url: str
    process: asyncio.subprocess.Process
    rpc: Rpc = field(init=False)

    def __post_init__(self) -> None:
        self.rpc = Rpc(self.url)

    async def call(self, method: str, *params: object) -> object:
        return await self.rpc.call(method, *params)

    async def pool(self) -> int:
        """How many transactions wait for a block."""
        status = await self.rpc.call("txpool_status")
        return int(status["pending"], 16) + int(status["queued"], 16)

    async def stop_mining(self) -> None:
        await self.call("evm_setAutomine", False)

    async def mine(self, blocks: int = 1) -> None:
        for _ in range(blocks):
            await self.call("evm_mine")

    async def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        await self.process.wait()


@contextlib.asynccontextmanager
async def anvil(*arguments: str, port: int = 0) -> AsyncIterator[Anvil]:
    if not port:
        sock = listen("127.0.0.1", 0, "anvil")
        port = sock.getsockname()[1]
        sock.close()
    command = [anvil_binary() or "anvil", "--port", str(port), "--silent", "--accounts", "1", *arguments]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.DEVNULL)
    node = Anvil(f"http://127.0.0.1:{port}", process)
    try:
        async with asyncio.timeout(60):
            while True:
                with contextlib.suppress(RpcUnavailableError):
                    await node.call("eth_chainId")
                    break
                await asyncio.sleep(0.02)
        for key in (DEPLOYER, *RELAYERS):
            await node.call("anvil_setBalance", LocalSigner(key).address, hex(10**24))
        yield node
    finally:
        await node.rpc.close()
        await node.kill()


@dataclass
class Hand:
    """One aggregator's way to the chain: its client, its key, its records."""

    node: Anvil
    client: OracleClient
    submitter: Submitter
    store: MemoryStore
    recorder: Recorder
    tracker: Tracker
    metrics: Metrics
    count: int = 0

    async def flight(self, price: int, *, attempt: str = "", late_ms: int = 0, **changes: int) -> Flight:
        """A signed round on top of the standing one."""
        state = await self.client.group_state("majors")
        previous = changes.get("previous_moment", state.last_moment)
        now = GROUP.moment_at(SystemClock().now_ms() - late_ms)
        moment = changes.get("moment", max(now, previous + GROUP.grid_ms))
        reports = in_signer_order(
            {
                by.address: sign_report(
                    by,
                    self.client.domain,
                    group="majors",
                    group_hash=state.group_hash,
                    previous_moment=previous,
                    moment=moment,
                    prices=(price,),
                )
                for by in REPORTERS[:3]
            }
        )
        calldata = self.client.build_submission("majors", reports, median_hints(reports, state.feeds))
        self.count += 1
        return Flight(attempt or f"a{self.count}", "majors", previous, moment, calldata)

    def record(self, flight: Flight, state: State, round_: int) -> AttemptRecord:
        return AttemptRecord(
            id=flight.attempt,
            deployment=self.client.deployment.id,
            mode=Mode.TEST,
            group="majors",
            cause=Cause.REQUEST,
            state=state,
            started_ms=SystemClock().now_ms() + self.count,
            moment=flight.moment,
            previous_moment=flight.previous_moment,
            relayer=self.submitter.address,
            onto_round=round_ - 1,
            round=round_ if state is State.ACCEPTED else None,
            nonce=flight.nonce if flight.sent else None,
            transaction=flight.hashes[0] if flight.sent else None,
            transactions=flight.hashes,
        )

    async def note(self, flight: Flight) -> None:
        """What an engine's note does: the record is in the store before a node has the transaction."""
        standing = (await self.client.group_state("majors")).round
        await self.recorder.note(self.record(flight, State.SUBMITTING, standing + 1), flight.sent[0].raw)

    async def send(self, flight: Flight) -> None:
        await self.submitter.simulate(flight)
        await self.submitter.send(flight, self.note)

    async def round(self, price: int, timeout_s: float = 5) -> tuple[Flight, Receipt]:
        """A whole round, watched from then on."""
        flight = await self.flight(price)
        await self.send(flight)
        receipt = await self.submitter.receipt(flight, self.note, timeout_s)
        round_ = (await self.client.group_state("majors")).round
        record = self.record(flight, State.ACCEPTED, round_).in_block(receipt)
        self.recorder.keep(record)
        self.tracker.watch(record, flight)
        return flight, receipt

    async def attempt(self, flight: Flight) -> AttemptRecord:
        found = await self.recorder.get(flight.attempt)
        assert found is not None
        return found

    async def answer(self) -> int:
        return next(iter((await self.client.read_group("majors")).answers.values())).value


async def hand(
    stack: contextlib.AsyncExitStack,
    node: Anvil,
    folder: Path,
    key: str = RELAYERS[0],
    *,
    urls: Sequence[str] = (),
    store: MemoryStore | None = None,
    replace_after_s: float = 5,
    confirmations: int | str = 3,
    policy: FeePolicy | None = None,
    cancel_after_ms: int = 60_000,
) -> Hand:
    """A submitter with everything around it; the contract is deployed where it is not there yet."""
    record = await deploy(
        node.url,
        DEPLOYER,
        mode=Mode.TEST,
        groups=[GROUP],
        reporters={"majors": [one.address for one in REPORTERS]},
        deployments_dir=folder,
    )
    client = await OracleClient.connect(urls or node.url, record, Mode.TEST, timeout_s=2, fees=policy)
    stack.push_async_callback(client.close)
    metrics = Metrics(CollectorRegistry())
    store = store or MemoryStore()
    recorder = Recorder(store, client.deployment.id, metrics, LOG)
    submitter = Submitter(client, key, LOG, replace_after_s=replace_after_s)
    tracker = Tracker(
        client,
        submitter,
        recorder,
        confirmations=confirmations,
        poll_s=0.05,
        clock=SystemClock(),
        metrics=metrics,
        logger=LOG,
        cancel_after_ms=cancel_after_ms,
    )
    return Hand(node, client, submitter, store, recorder, tracker, metrics)
