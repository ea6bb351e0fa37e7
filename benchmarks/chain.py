"""The chain's part on anvil with instant mining: reading a whole group, and a round from its validated median on.

Reading is `OracleClient.read_group`, every answer in one `eth_call`, decoded. A round is what `aggregator.engine` does
once it has validated: pack, encode, simulate, write the transaction down in SQLite, sign, send, await the receipt.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from aggregator.attempts import AttemptRecord, Cause
from aggregator.edges import Flight
from aggregator.metrics import Metrics
from aggregator.recorder import Recorder
from aggregator.states import State
from aggregator.store import SqlAttemptStore
from aggregator.submitter import Submitter
from benchmarks.figures import CannotMeasureError, Figures, figures, machine, ms, table
from benchmarks.mock import new_event_loop
from contracts import LocalSigner, OracleClient
from contracts.deploy import deploy
from contracts.report import in_signer_order, median_hints, sign_report
from core.clock import SystemClock
from core.logs import get_logger
from core.types import Feed, Group, Mode, Pair, SignedReport
from tests.conftest import anvil_binary
from tests.support.submission import DEPLOYER, RELAYERS, REPORTERS, Anvil, anvil

ROUNDS = 200
WARM_UP = 20
PACKAGES = ("uvloop", "web3", "aiohttp", "msgspec", "coincurve", "sqlalchemy")
READ_P50_MS, ROUND_P50_MS = 10, 15
"""Targets: reading a group of 100 feeds, and a round of one feed."""
SIZES = (1, 100)


@dataclass(frozen=True)
class Outcome:
    """Of one group over one kind of socket. steps: the p50 of each step of a round, in milliseconds."""

    read: Figures
    round: Figures
    steps: dict[str, float]


def run(*, rounds: int | None = None) -> tuple[str, dict[str, Any]]:
    """Measure; the report as Markdown, and the figures. Raises `CannotMeasureError` where there is no anvil."""
    if anvil_binary() is None:
        raise CannotMeasureError("no anvil: run `npm install` in contracts/")
    line = machine(*PACKAGES)
    with tempfile.TemporaryDirectory() as folder, asyncio.Runner(loop_factory=new_event_loop) as runner:
        results = runner.run(_measure(Path(folder), rounds or ROUNDS))
    head = ("", "p50 ms", "p99 ms", "max ms", "target p50 ms")
    rows = []
    for name, one in results.items():
        for what, found, target in (
            (f"read, {name}", one.read, READ_P50_MS if name.startswith("100") else None),
            (f"round, {name}", one.round, ROUND_P50_MS if name.startswith("1 ") else None),
        ):
            rows.append((what, ms(found.p50), ms(found.p99), ms(found.max), "" if target is None else str(target)))
    names = list(next(iter(results.values())).steps)
    steps = table(("", *names), [(name, *(ms(one.steps[step]) for step in names)) for name, one in results.items()])
    text = [
        line,
        f"{rounds or ROUNDS} rounds of three reports each, one after the other.",
        "",
        table(head, rows),
        "",
        "Where a round spends its time: p50 in milliseconds.",
        "",
        steps,
    ]
    return "\n".join(text), {"machine": line, "groups": results}


async def _measure(folder: Path, rounds: int) -> dict[str, Outcome]:
    results = {}
    for feeds in SIZES:
        for kind in ("http", "ipc"):
            async with AsyncExitStack() as stack:
                socket = folder / f"{feeds}.ipc"
                node = await stack.enter_async_context(anvil("--ipc", str(socket), "--order", "fifo"))
                url = node.url if kind == "http" else f"ipc://{socket}"
                bench = await _bench(stack, node, url, feeds, folder / f"{feeds}-{kind}")
                results[f"{feeds} feed{'s' if feeds > 1 else ''}, {kind}"] = await bench.measure(rounds)
    return results


@dataclass
class _Bench:
    client: OracleClient
    group: Group
    submitter: Submitter
    recorder: Recorder
    store: SqlAttemptStore
    count: int = 0
    noted: AttemptRecord | None = None

    async def measure(self, rounds: int) -> Outcome:
        reads: list[float] = []
        whole: list[float] = []
        steps: dict[str, list[float]] = {}
        warm_up = min(WARM_UP, rounds)
        for number in range(warm_up + rounds):
            timed: dict[str, float] = {}
            reports, hints = await self._reports()
            started = time.perf_counter()
            await self._round(reports, hints, timed)
            spent = time.perf_counter() - started
            began = time.perf_counter()
            reading = await self.client.read_group(self.group.name)
            read = time.perf_counter() - began
            await self._end()
            assert (reading.round, len(reading.answers)) == (number + 1, len(self.group.feeds))
            if number >= warm_up:
                whole.append(spent)
                reads.append(read)
                for step, seconds in timed.items():
                    steps.setdefault(step, []).append(seconds)
        return Outcome(figures(reads), figures(whole), {step: figures(each).p50 for step, each in steps.items()})

    async def _reports(self) -> tuple[Sequence[SignedReport], bytes]:
        """A quorum's reports on top of the standing round; every price moves a little."""
        state = await self.client.group_state(self.group.name)
        moment = max(self.group.moment_at(SystemClock().now_ms()), state.last_moment + self.group.grid_ms)
        self.count += 1
        prices = tuple(6_000_000_000_000 + 1_000_000 * (self.count % 50) + place for place in range(len(state.feeds)))
        reports = in_signer_order(
            {
                by.address: sign_report(
                    by,
                    self.client.domain,
                    group=self.group.name,
                    group_hash=state.group_hash,
                    previous_moment=state.last_moment,
                    moment=moment,
                    prices=prices,
                )
                for by in REPORTERS[:3]
            }
        )
        return reports, median_hints(reports, state.feeds)

    async def _round(self, reports: Sequence[SignedReport], hints: bytes, timed: dict[str, float]) -> None:
        """`Engine._submit`, step by step."""
        first = reports[0]
        began = time.perf_counter()

        def done(step: str) -> None:
            nonlocal began
            now = time.perf_counter()
            timed[step] = timed.get(step, 0.0) + now - began
            began = now

        calldata = self.client.build_submission(self.group.name, reports, hints)
        flight = Flight(f"bench{self.count}", self.group.name, first.previous_moment, first.moment, calldata)
        done("build")

        async def note(sending: Flight) -> None:
            done("sign")
            self.noted = self._record(sending)
            await self.recorder.note(self.noted, sending.sent[0].raw)
            done("note")

        await self.submitter.simulate(flight)
        done("simulate")
        await self.submitter.send(flight, note)
        done("send")
        receipt = await self.submitter.receipt(flight, note, 10)
        done("receipt")
        assert receipt.ok

    async def _end(self) -> None:
        """Write down that the round stands, as the engine does after it: a group has one open attempt at a time."""
        assert self.noted is not None
        sent = self.noted.moved(State.CONFIRMING)
        await self.store.save(sent.moved(State.ACCEPTED, ended_ms=sent.moment))

    def _record(self, flight: Flight) -> AttemptRecord:
        return AttemptRecord(
            id=flight.attempt,
            deployment=self.client.deployment.id,
            mode=Mode.TEST,
            group=self.group.name,
            cause=Cause.REQUEST,
            state=State.SUBMITTING,
            started_ms=flight.moment,
            moment=flight.moment,
            relayer=self.submitter.address,
            nonce=flight.nonce,
            transaction=flight.hashes[0],
            transactions=flight.hashes,
        )


async def _bench(stack: AsyncExitStack, node: Anvil, url: str, feeds: int, folder: Path) -> _Bench:
    pairs = [Pair("BTC/USD"), *(Pair(f"COIN{number}/USD") for number in range(1, feeds))]
    group = Group(name="majors", feeds=tuple(Feed(pair=pair) for pair in pairs))
    record = await deploy(
        url,
        DEPLOYER,
        mode=Mode.TEST,
        groups=[group],
        reporters={"majors": [one.address for one in REPORTERS]},
        deployments_dir=folder,
    )
    client = await OracleClient.connect(url, record, Mode.TEST)
    stack.push_async_callback(client.close)
    store = SqlAttemptStore(f"sqlite+aiosqlite:///{folder / 'attempts.sqlite'}")
    await store.open()
    stack.push_async_callback(store.close)
    logger = get_logger("benchmark", Mode.TEST)
    recorder = Recorder(store, client.deployment.id, Metrics(CollectorRegistry()), logger)
    submitter = Submitter(client, LocalSigner(RELAYERS[0]), logger, replace_after_s=15)
    return _Bench(client, group, submitter, recorder, store)
