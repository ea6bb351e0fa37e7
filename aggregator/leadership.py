"""Which of several aggregators starts a group's attempts by itself: who holds the group's advisory lock in PostgreSQL.

The lock lives as long as the session that took it. A leader that dies gives it up with its connection, at once; one
whose machine vanishes, when the server's keep-alive probes go unanswered; one that is frozen, when the server ends the
session that has not been heard of for `SILENCE_MS`. Whoever is next has it within a look of that. For a moment two may
believe that they lead, one of them no longer being heard: that costs nothing, for a group has one open attempt at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import asyncpg  # type: ignore[import-untyped]
from sqlalchemy.engine import make_url

from aggregator.metrics import Metrics
from core.clock import Clock, rfc3339
from core.logs import Logger
from core.sessions import FAULTS, connected

LOOK_S = 1.0
REST_S = 3.0
"""For so long, who has stepped down does not try to lead again."""
SILENCE_MS = 3_000
"""A session that says nothing for so long is ended by the server, and its locks are free."""


class Leadership:
    """url: of the store of attempts, as SQLAlchemy has it. With SQLite there are no others: this process leads.

    deployment: of the contract; groups: those that this process serves. clock: dates what `/health` shows. timeout_s:
    bounds each question.
    """

    def __init__(
        self,
        url: str,
        *,
        deployment: str,
        groups: Sequence[str],
        clock: Clock,
        metrics: Metrics,
        logger: Logger,
        timeout_s: float = 2.0,
    ) -> None:
        self._url = make_url(url)
        self._alone = self._url.get_backend_name() == "sqlite"
        self._deployment = deployment
        self._groups = groups
        self._clock = clock
        self._metrics = metrics
        self._log = logger
        self._timeout_s = timeout_s
        self._connection: asyncpg.Connection | None = None
        self._leads: set[str] = set()
        self._since_ms: dict[str, int] = {}  # for each group, since when it leads, or does not
        self._resting: dict[str, float] = {}  # until when, on the event loop's clock
        self._looks_fail = False
        self._given_up: set[str] = set()  # of these, the locks are still to be given back
        for group in groups:
            self._turn(group, leads=self._alone)

    def leads(self, group: str) -> bool:
        """Whether this process starts the group's attempts, as far as it knows."""
        return group in self._leads

    def shown(self) -> dict[str, dict[str, object]]:
        """For `/health`: of each group, whether this process leads it, and since when it is so."""
        return {
            group: {"leads": group in self._leads, "since": rfc3339(since_ms)}
            for group, since_ms in self._since_ms.items()
        }

    def step_down(self, group: str) -> None:
        """Let another lead for a while: this process cannot make the group's attempts now."""
        if self._alone or group not in self._leads:
            return
        self._turn(group, leads=False)
        self._given_up.add(group)
        self._resting[group] = asyncio.get_running_loop().time() + REST_S
        self._log.warning("steps_down", group=group)

    async def run(self) -> None:
        """Take every lock that is free, and see every `LOOK_S` that those we have are still ours, for ever."""
        while True:
            if not self._alone:
                try:
                    async with asyncio.timeout(self._timeout_s):
                        await self._look()
                    self._looks_fail = False
                except FAULTS as error:
                    why = str(error) or f"no answer within {self._timeout_s:g} s"
                    if not self._looks_fail:  # said once: who cannot connect looks every second, and never leads
                        self._log.warning("cannot_lead", because=why)
                    self._looks_fail = True
                    self._lost(why)
            await asyncio.sleep(LOOK_S)

    async def _look(self) -> None:
        if self._connection is None:
            self._connection = await self._connected()
        connection = self._connection
        await connection.fetchval("SELECT 1")
        for group in list(self._given_up):
            await connection.fetchval("SELECT pg_advisory_unlock(hashtextextended($1, 0))", self._named(group))
            self._given_up.discard(group)
        now = asyncio.get_running_loop().time()
        for group in self._groups:
            if group in self._leads or self._resting.get(group, 0.0) > now:
                continue
            lock = "SELECT pg_try_advisory_lock(hashtextextended($1, 0))"
            if await connection.fetchval(lock, self._named(group)) and connection is self._connection:
                self._turn(group, leads=True)
                self._log.info("leads", group=group)

    def _named(self, group: str) -> str:
        return f"fairmark:lead:{self._deployment}:{group}"

    async def _connected(self) -> asyncpg.Connection:
        connection = await connected(self._url, "leadership")
        try:
            await connection.execute(f"SET idle_session_timeout = {SILENCE_MS}")
        except asyncpg.UndefinedObjectError:
            self._log.warning(
                "no_idle_session_timeout", because="PostgreSQL is older than 14: a frozen leader stays one"
            )
        except BaseException:
            connection.terminate()
            raise
        connection.add_termination_listener(self._ended)
        return connection

    def _ended(self, connection: asyncpg.Connection) -> None:
        if connection is self._connection:
            self._lost("the server ended the session")

    def _turn(self, group: str, *, leads: bool) -> None:
        (self._leads.add if leads else self._leads.discard)(group)
        self._since_ms[group] = self._clock.now_ms()
        self._metrics.leads.labels(group).set(leads)

    def _lost(self, why: str) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()
        if self._leads:
            self._log.warning("leads_no_more", groups=sorted(self._leads), because=why)
        for group in list(self._leads):
            self._turn(group, leads=False)
        self._given_up.clear()  # with the session

    async def release(self) -> None:
        """Let others lead."""
        connection, self._connection = self._connection, None
        for group in list(self._leads):
            self._turn(group, leads=False)
        if connection is not None:
            try:
                await connection.close(timeout=self._timeout_s)
            except FAULTS:
                connection.terminate()
