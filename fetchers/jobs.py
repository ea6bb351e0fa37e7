"""One job to one answer: a signed report, or a coded refusal, in time for its budget. Never an exception.

Jobs are not signed, and whoever may publish them can make a fetcher ask its sources. `MAX_JOBS_PER_S` bounds how often,
so that a flood of jobs is no flood of requests to the exchanges; see `fetchers.reporter` for what else remains.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from typing import Any, Protocol, TypeVar

import msgspec

from broker import Job, Refusal, Report
from broker.messages import decode, encode
from contracts import Domain, GroupReading, GroupState, LocalSigner, Signer
from contracts.errors import CallRevertedError, ContractError, RpcUnavailableError
from contracts.evidence import Statement
from core.clock import Clock
from core.logs import Logger
from core.types import Deployment, Group, Mode, SignedReport
from fetchers.candidates import Plan
from fetchers.clocks import ClockWatch
from fetchers.errors import MomentPassedError, RefusalCode, Refused, ReportStoreError
from fetchers.fetch import Fetcher, Observation
from fetchers.jumps import standing as held_against
from fetchers.report_store import ReportKey, ReportStore
from fetchers.reporter import Observations, check_chain, check_job, counted, observations, sign

T = TypeVar("T")

MAX_BUDGET_MS = 30_000
"""No aggregator waits longer, and a job that says so must not hold its place here."""
PUBLISH_MS = 150
"""A report is published this long before its job's budget ends at the latest."""
SIGNING_MS = 80
"""What the checks, the signature and the store are given of the budget, after the sources' time is over."""
ROW_MS = 0.1
"""And for each quote that is wanted: every one is hashed into the evidence root."""
MAX_JOBS_PER_S = 50
"""Jobs of one group for which the sources are asked within any second; more are refused. A moment already signed does
not count: it takes no source."""


class Chain(Protocol):
    """What a fetcher needs of its own node: `contracts.OracleClient` has it. Raises `ContractError`s."""

    @property
    def deployment(self) -> Deployment: ...
    @property
    def domain(self) -> Domain: ...

    async def group_state(self, group: str) -> GroupState: ...
    async def read_group(self, group: str) -> GroupReading: ...
    async def ping(self) -> str: ...


class JobDesk:
    """Answers jobs for one fetcher. saw: told of every observation, with its group."""

    def __init__(
        self,
        *,
        name: str,
        instance: str,
        mode: Mode,
        groups: Sequence[Group],
        plans: Mapping[str, Sequence[Plan]],
        fetcher: Fetcher,
        chain: Chain,
        signer: Signer,
        store: ReportStore,
        clock: Clock,
        logger: Logger,
        new_id: Callable[[], str],
        saw: Callable[[str, Observation], None],
        watch: ClockWatch,
    ) -> None:
        self._name = name
        self._instance = instance
        self._mode = mode
        self._groups = {group.name: group for group in groups}
        self._plans = plans
        self._fetcher = fetcher
        self._chain = chain
        self._signer = signer
        self._store = store
        self._clock = clock
        self._log = logger
        self._new_id = new_id
        self._saw = saw
        self._watch = watch
        # by group: the time kept for signing, in seconds
        self._signing_s = {
            group: (SIGNING_MS + ROW_MS * sum(plan.feed.wanted_sources for plan in plans[group])) / 1000
            for group in self._groups
        }
        self._last: dict[str, int] = {}  # by group: the latest moment this instance knows to be signed
        # by group: when the latest jobs were taken, on the event loop's clock
        self._taken: dict[str, deque[float]] = {group: deque(maxlen=MAX_JOBS_PER_S) for group in self._groups}

    async def start(self) -> None:
        """Learn what has been signed before. Raises `ReportStoreError`."""
        for group in self._groups:
            last = await self._store.last_moment(self._chain.deployment.id, group, self._signer.address)
            self._last[group] = last or 0

    async def answer(self, job: Job) -> Report | Refusal:
        """The answer to `job`, by `PUBLISH_MS` before its budget ends. Asked again for a moment: the same report."""
        loop = asyncio.get_running_loop()
        received = loop.time()
        seen: list[Observation] = []

        def refusal(code: RefusalCode, detail: str) -> Refusal:
            return Refusal(
                id=self._new_id(),
                attempt=job.attempt,
                deployment=self._chain.deployment.id,
                mode=self._mode,
                fetcher=self._name,
                instance=self._instance,
                reporter=self._signer.address,
                moment=job.moment,
                code=code,
                detail=detail[:500],
                quotes=seen[0].quotes if seen else (),
                failures=seen[0].failures if seen else (),
                elapsed_ms=round((loop.time() - received) * 1000),
            )

        try:
            return await self._report(job, received, seen)
        except Refused as error:
            return refusal(error.reason, error.detail)
        except MomentPassedError as error:
            self._last[job.group] = max(self._last.get(job.group, 0), error.last)
            return refusal(RefusalCode.MOMENT_PASSED, str(error))
        except ContractError as error:
            return refusal(RefusalCode.CHAIN_UNAVAILABLE, f"{error.code}: {error}")
        except ReportStoreError as error:
            return refusal(RefusalCode.STORE_UNAVAILABLE, str(error))
        except Exception as error:  # noqa: BLE001 - whatever it is, the aggregator need not wait for us
            self._log.exception("job_failed", job=job.id, attempt=job.attempt)
            return refusal(RefusalCode.INTERNAL, f"{type(error).__name__}: {error}")

    async def _report(self, job: Job, received: float, seen: list[Observation]) -> Report:
        loop = asyncio.get_running_loop()
        deployment = self._chain.deployment.id
        now_ms = self._clock.now_ms()
        until = received + (min(job.budget_ms, MAX_BUDGET_MS) - PUBLISH_MS) / 1000
        try:
            group = check_job(job, self._groups, deployment=deployment, mode=self._mode, now_ms=now_ms)
        except Refused as error:
            if error.reason is RefusalCode.MOMENT_TOO_FAR:
                await self._blame_clock(job, now_ms, until)
            raise
        deadline = until - self._signing_s[group.name]
        key = ReportKey(deployment=deployment, group=group.name, reporter=self._signer.address, moment=job.moment)
        if job.moment <= self._last.get(group.name, 0):
            return self._again(await self._kept(key, until), job)
        if deadline <= loop.time():
            least = PUBLISH_MS + round(self._signing_s[group.name] * 1000)
            raise Refused(
                RefusalCode.BUDGET_TOO_SHORT, f"{job.budget_ms} ms leave no time to ask: {least} go elsewhere"
            )
        self._take(group.name)

        fetch = self._fetcher.begin(self._plans[group.name], job.moment, deadline)
        fetching = asyncio.create_task(fetch.run())
        reading = asyncio.create_task(self._read_group(group.name))
        try:
            state = await self._state(group.name, deadline)
            check_chain(state, group, self._signer.address, job.moment)
            observation = await fetching
            standing = await _standing(reading, state, deadline)
        except Refused:
            await _stop(fetching)
            seen.append(fetch.so_far("the job was refused first"))  # whoever was asked belongs to the record
            raise
        except ContractError:
            seen.append(await fetching)  # what the sources said still belongs to the record
            raise
        finally:
            await _stop(fetching)
            await _stop(reading)
        seen.append(observation)
        self._saw(group.name, observation)
        if (wrong := self._watch.wrong()) is not None:  # only now: the sources that were just asked told the time, too
            raise Refused(RefusalCode.CLOCK_OFF, wrong)
        said = observations(group.feeds, observation.answers, standing)
        evidence = Statement(
            deployment=deployment,
            mode=self._mode,
            fetcher=self._name,
            instance=self._instance,
            answers=said.answers,
            quotes=observation.quotes,
            failures=observation.failures,
            observed=counted(observation.verdicts, observation.quotes),
            elapsed_ms=round((loop.time() - received) * 1000),
        )
        report = Report(
            id=self._new_id(),
            attempt=job.attempt,
            signed=await self._signed(state, job.moment, said, evidence),
            **msgspec.structs.asdict(evidence),
        )
        # Signed, but not out of this process: it leaves only if the store says that this one is the one.
        mine = encode(report)
        kept = await self._in_time(self._store.put(key, mine), until)
        self._last[group.name] = max(self._last.get(group.name, 0), job.moment)
        return report if kept == mine else self._again(kept, job)

    async def _signed(self, state: GroupState, moment: int, said: Observations, evidence: Statement) -> SignedReport:
        """Off the event loop where it takes more than a millisecond or two: many quotes, or a key that is elsewhere."""
        if evidence.small and isinstance(self._signer, LocalSigner):
            return sign(self._signer, self._chain.domain, state, moment, said, evidence)
        return await asyncio.to_thread(sign, self._signer, self._chain.domain, state, moment, said, evidence)

    async def _blame_clock(self, job: Job, now_ms: int, until: float) -> None:
        """Raises `Refused` (`CLOCK_OFF`) where it is this clock that makes a job's moment look too far away."""
        wrong = self._watch.wrong()
        if wrong is None and job.moment > now_ms and job.group in self._groups:
            with suppress(ContractError):
                state = await self._state(job.group, until)
                wrong = self._watch.wrong(job.moment - now_ms, state.block_timestamp * 1000 - now_ms)
        if wrong is not None:
            raise Refused(RefusalCode.CLOCK_OFF, wrong)

    def _take(self, group: str) -> None:
        """Count a job that is about to cost requests. Raises `Refused` when there were too many within a second."""
        now, taken = asyncio.get_running_loop().time(), self._taken[group]
        if len(taken) == MAX_JOBS_PER_S and now - taken[0] < 1:
            raise Refused(
                RefusalCode.TOO_MANY_JOBS,
                f"{MAX_JOBS_PER_S} jobs for {group!r} within a second are all it takes; see who publishes them",
            )
        taken.append(now)

    async def _state(self, group: str, deadline: float) -> GroupState:
        try:
            async with asyncio.timeout_at(deadline):
                return await self._chain.group_state(group)
        except CallRevertedError as error:
            raise Refused(
                RefusalCode.CONFIGURATION_MISMATCH, f"the contract refuses to tell of {group}: {error}"
            ) from error
        except TimeoutError:
            raise RpcUnavailableError("this fetcher's node did not answer within the job's budget") from None

    async def _read_group(self, group: str) -> GroupReading:
        """The answers that stand. Quotes are held against them: this job's, where they are still under way."""
        reading = await self._chain.read_group(group)
        self._fetcher.learn(held_against(reading.answers))
        return reading

    async def _kept(self, key: ReportKey, until: float) -> bytes:
        kept = await self._in_time(self._store.get(key), until)
        if kept is None:
            raise MomentPassedError(key.moment, self._last[key.group])
        return kept

    @staticmethod
    async def _in_time(storing: Coroutine[object, object, T], until: float) -> T:
        try:
            async with asyncio.timeout_at(until):
                return await storing
        except TimeoutError:
            raise ReportStoreError("the store did not answer within the job's budget") from None

    def _again(self, kept: bytes, job: Job) -> Report:
        """The report as it was signed, addressed to whoever asks now."""
        report = decode(kept)
        if not isinstance(report, Report):
            raise ReportStoreError(f"the store holds a {type(report).__name__} where a report belongs")
        return report if report.attempt == job.attempt else msgspec.structs.replace(report, attempt=job.attempt)


async def _standing(reading: asyncio.Task[GroupReading], state: GroupState, deadline: float) -> GroupReading | None:
    """The answers that stand after the very round that `state` shows as the last; None where they are not known in
    time. A report does without them: it has prices only."""
    try:
        async with asyncio.timeout_at(deadline):
            found = await asyncio.shield(reading)
    except (ContractError, TimeoutError):
        return None
    return found if found.moment == state.last_moment and found.group_hash == state.group_hash else None


async def _stop(task: asyncio.Task[Any]) -> None:
    if not task.done():
        task.cancel()
    await asyncio.gather(task, return_exceptions=True)
