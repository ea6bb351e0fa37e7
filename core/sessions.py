"""Sessions with PostgreSQL that live as long as their process does, and their locks with them.

Apart from SQLAlchemy's pool: a lock of the session's own must not go back into one.
"""

from __future__ import annotations

from typing import Any

import asyncpg  # type: ignore[import-untyped]
from sqlalchemy.engine import URL

_SQLALCHEMYS = frozenset({"prepared_statement_cache_size", "prepared_statement_name_func", "async_creator_fn"})
"""Arguments that SQLAlchemy takes for itself."""
_PROBED = {
    "tcp_keepalives_idle": "1",
    "tcp_keepalives_interval": "1",
    "tcp_keepalives_count": "2",
    "tcp_user_timeout": "3000",  # no probe goes out while an answer of the server's is not acknowledged
}
"""The server gives up a client whose machine has vanished after some 3 s."""
FAULTS = (TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError)
"""What any use of a session may raise."""


def connect_arguments(url: URL) -> dict[str, Any]:
    """For `asyncpg.connect`: what SQLAlchemy gives it for the URL of a store, query options included."""
    _, arguments = url.get_dialect()().create_connect_args(url)
    return {name: value for name, value in arguments.items() if name not in _SQLALCHEMYS}


async def connected(url: URL, purpose: str) -> asyncpg.Connection:
    """A session of its own, which the server ends soon after its client cannot be reached. purpose: its name there.

    The caller bounds the time. Raises `FAULTS`.
    """
    arguments = connect_arguments(url)
    settings = {**_PROBED, **arguments.pop("server_settings", {}), "application_name": f"fairmark {purpose}"}
    return await asyncpg.connect(**arguments, server_settings=settings)
