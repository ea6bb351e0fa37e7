"""An aggregator that is killed at a chosen point of an attempt: run as a program, for tests.

It imports everything once and then forks for each case that it reads from its input, so that a case costs the attempt
and not the interpreter. For each it writes one line: how the child ended, and the ids of the attempts it had.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import asdict, dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx

from aggregator.attempts import AttemptRecord
from aggregator.ownership import Ownership
from aggregator.service import AggregatorService
from aggregator.states import State
from aggregator.store import SqlAttemptStore
from broker.memory import MemoryBus
from contracts import LocalSigner, OracleClient
from contracts.deploy import deploy
from contracts.transactions import Before, Sent, TransactionSender
from core.clock import SystemClock
from core.logs import get_logger
from core.ops import Ops
from core.settings import AggregatorSettings, SubmissionSettings
from core.types import Mode, Pair
from tests.support.aggregator import Reporter, group
from tests.support.wait import until

SIGNERS = [LocalSigner(f"{number:064x}") for number in range(1, 5)]
PRICES = {Pair("BTC/USD"): "60000.5", Pair("ETH/USD"): "3000"}
GROUP = group(*PRICES, min_price=Decimal("0.001"))
LOG = get_logger("aggregator", Mode.TEST)


@dataclass(frozen=True)
class Case:
    """Where one aggregator lives, and where it dies: at a state, or `noted` (its transaction is in the store, and no
    node has it) or `sent` (a node has it, and nobody was told)."""

    node: str
    store: str
    folder: str
    deployer: str
    relayer: str
    at: str = ""


class Edge:
    """A client of the chain that dies around the sending of a transaction."""

    def __init__(self, client: OracleClient, at: str) -> None:
        self._client = client
        self._at = at

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    async def place(
        self, calldata: bytes, sender: TransactionSender, *, over: Sent | None = None, before: Before | None = None
    ) -> Sent:
        async def noted(sent: Sent) -> None:
            if before is not None:
                await before(sent)
            if self._at == "noted":
                die()

        sent = await self._client.place(calldata, sender, over=over, before=noted)
        if self._at == "sent":
            die()
        return sent


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@dataclass
class Life:
    """One life of the aggregator of a case."""

    service: AggregatorService
    client: OracleClient
    reporters: Sequence[Reporter]
    http: httpx.AsyncClient


@contextlib.asynccontextmanager
async def life(case: Case, on_state: Callable[[AttemptRecord], None] = lambda _: None) -> AsyncIterator[Life]:
    async with contextlib.AsyncExitStack() as stack:
        record = await deploy(
            case.node,
            case.deployer,
            mode=Mode.TEST,
            groups=[GROUP],
            reporters={"majors": [signer.address for signer in SIGNERS]},
            deployments_dir=Path(case.folder),
        )
        client = await OracleClient.connect(case.node, record, Mode.TEST)
        stack.push_async_callback(client.close)
        bus = MemoryBus()
        await bus.start()
        stack.push_async_callback(bus.close)
        reporters = [Reporter(f"fetcher-{i}", signer, client, PRICES) for i, signer in enumerate(SIGNERS)]
        for reporter in reporters:
            await reporter.listen(bus, GROUP)
        address = LocalSigner(case.relayer).address
        ops = Ops("aggregator", Mode.TEST)
        service = AggregatorService(
            settings=AggregatorSettings(
                heartbeats=False, min_interval_ms=60_000 if case.at == State.QUEUED else 0, deadline_ms=3_000
            ),
            name="aggregator",
            instance="1",
            groups=[GROUP],
            bus=bus,
            chain=Edge(client, case.at),
            submit_key=case.relayer,
            store=SqlAttemptStore(case.store),
            token="word",
            clock=SystemClock(),
            mode=Mode.TEST,
            ops=ops,
            logger=LOG,
            submission=SubmissionSettings(confirmations=1, watch_s=0.05),
            ownership=Ownership(case.store, chain_id=31337, address=address, logger=LOG),
            on_state=on_state,
        )
        task = asyncio.create_task(service.run())
        try:
            await until(lambda: ops.ready, within_s=60)
            http = httpx.AsyncClient(
                transport=httpx.ASGITransport(service.app),
                base_url="http://aggregator",
                headers={"authorization": "Bearer word"},
                timeout=60,
            )
            await stack.enter_async_context(http)
            yield Life(service, client, reporters, http)
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


async def _live_and_die(case: Case, said: int) -> None:
    def on_state(record: AttemptRecord) -> None:
        os.write(said, f"{record.id} ".encode())
        if record.state == case.at and case.at != State.QUEUED:
            die()

    async with life(case, on_state) as one:
        if case.at == State.QUEUED:  # the next attempt of a request waits for its interval, and a client knows of it
            await one.http.post("/v1/groups/majors/refresh")
            waiting = {"wait_ms": 0, "arrived_ms": SystemClock().now_ms()}
            answer = await one.http.post("/v1/groups/majors/refresh", params=waiting)
            assert (answer.status_code, answer.json()["state"]) == (202, "queued")
            die()
        for reporter in one.reporters:
            reporter.silent = case.at == State.FAILED
        await one.http.post("/v1/groups/majors/refresh")
        raise AssertionError(f"it outlived {case.at}")


class Mortals:
    """The program, as a test uses it."""

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.support.killed", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )

    async def kill(self, case: Case) -> list[str]:
        """Let one live until its point; the ids of its attempts, in the order in which they were made."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(asdict(case)).encode() + b"\n")
        line = await asyncio.wait_for(self._process.stdout.readline(), 60)
        told = json.loads(line)
        assert told["ended"] == -signal.SIGKILL, told
        return list(dict.fromkeys(told["attempts"].split()))

    async def stop(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.wait()


def main() -> None:
    for line in sys.stdin:
        case = Case(**json.loads(line))
        reading, said = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            os.dup2(2, 1)  # the lines on the output are the parent's
            try:
                asyncio.run(_live_and_die(case, said))
            finally:
                os._exit(1)
        os.close(said)
        with os.fdopen(reading) as heard:
            attempts = heard.read()
        _, status = os.waitpid(child, 0)
        sys.stdout.write(json.dumps({"ended": os.waitstatus_to_exitcode(status), "attempts": attempts}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
