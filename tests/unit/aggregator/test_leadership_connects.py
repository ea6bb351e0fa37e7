"""How who leads, and who listens, connect: as the store does."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg  # type: ignore[import-untyped]
import pytest
from sqlalchemy.engine import make_url

import aggregator.leadership as leadership_module
from aggregator.leadership import Leadership
from core.logs import get_logger
from core.sessions import connect_arguments
from core.types import Mode
from tests.support.aggregator import metrics
from tests.support.wait import until

URL = "postgresql+asyncpg://ann:s%40cret@db:5433/prices"


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
    one = Leadership(URL + "?ssl=require", deployment="d", groups=["majors"], metrics=metrics(), logger=log)
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
