"""How who leads, and who listens, connect: as the store does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import asyncpg  # type: ignore[import-untyped]
import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy.engine import make_url

import aggregator.leadership as leadership_module
from aggregator.leadership import Leadership
from aggregator.metrics import Metrics
from core.clock import Clock, FixedClock, SystemClock
from core.logs import Logger, get_logger
from core.sessions import connect_arguments
from core.types import Mode
from tests.support.aggregator import metrics
from tests.support.wait import until

URL = "postgresql+asyncpg://ann:s%40cret@db:5433/prices"


def leading(url: str, log: Logger, clock: Clock | None = None, own: Metrics | None = None) -> Leadership:
    clock, own = clock or SystemClock(), own or metrics()
    return Leadership(url, deployment="d", groups=["majors"], clock=clock, metrics=own, logger=log)


@pytest.mark.parametrize(
    ("query", "more"),
    [
        ("", {}),
        ("?ssl=require", {"ssl": "require"}),
        ("?prepared_statement_cache_size=0", {}),
        (
            "?ssl=require&prepared_statement_cache_size=500&target_session_attrs=primary",
            {"ssl": "require", "target_session_attrs": "primary"},
        ),
    ],
)
def test_the_options_of_a_stores_url_are_arguments_and_none_is_sqlalchemys(query: str, more: dict[str, str]) -> None:
    plain = {"host": "db", "port": 5433, "user": "ann", "password": "s@cret", "database": "prices"}
    assert connect_arguments(make_url(URL + query)) == {**plain, **more}


async def test_who_cannot_connect_asks_with_these_arguments_and_says_so_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []
    said: list[tuple[str, dict[str, Any]]] = []

    async def refused(**arguments: Any) -> None:
        asked.append(arguments)
        raise asyncpg.InvalidPasswordError("no such user")

    log = get_logger("aggregator", Mode.TEST)
    monkeypatch.setattr(asyncpg, "connect", refused)
    monkeypatch.setattr(leadership_module, "LOOK_S", 0.01)
    monkeypatch.setattr(log, "warning", lambda event, **more: said.append((event, more)), raising=False)
    one = leading(URL + "?ssl=require", log)
    task = asyncio.create_task(one.run())
    try:
        await until(lambda: len(asked) >= 3)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert (asked[0]["ssl"], asked[0]["host"], "dsn" in asked[0]) == ("require", "db", False)
    assert asked[0]["server_settings"]["tcp_keepalives_idle"] == "1"
    assert said == [("cannot_lead", {"because": "no such user"})]
    assert not one.leads("majors")


class Session:
    """A session with a server that grants every lock, until it ends."""

    def __init__(self) -> None:
        self.ends = lambda _: None

    async def execute(self, _query: str) -> None: ...

    async def fetchval(self, _query: str, *_: object) -> bool:
        return True

    def add_termination_listener(self, told: Callable[[object], None]) -> None:
        self.ends = told

    def terminate(self) -> None: ...

    async def close(self, timeout: float) -> None: ...  # noqa: ASYNC109 - asyncpg's own


async def test_health_and_metrics_say_who_leads_and_since_when(monkeypatch: pytest.MonkeyPatch) -> None:
    session, clock, registry = Session(), FixedClock(1_795_000_000_000), CollectorRegistry()

    async def connect(**_: Any) -> Session:
        return session

    def said() -> tuple[dict[str, dict[str, object]], float | None]:
        return one.shown(), registry.get_sample_value("fairmark_aggregator_leads", {"group": "majors"})

    monkeypatch.setattr(asyncpg, "connect", connect)
    one = leading(URL, get_logger("aggregator", Mode.TEST), clock, Metrics(registry))
    assert said() == ({"majors": {"leads": False, "since": "2026-11-18T11:06:40.000Z"}}, 0)
    clock.advance(1_000)
    await one._look()
    assert said() == ({"majors": {"leads": True, "since": "2026-11-18T11:06:41.000Z"}}, 1)
    clock.advance(1_000)
    await one._look()
    assert said() == ({"majors": {"leads": True, "since": "2026-11-18T11:06:41.000Z"}}, 1)
    session.ends(session)
    assert said() == ({"majors": {"leads": False, "since": "2026-11-18T11:06:42.000Z"}}, 0)
    await one._look()
    one.step_down("majors")
    assert said()[1] == 0
    await one.release()
