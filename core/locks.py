"""A name that one process has at a time, over a store that several may use.

Who has it holds a lock for as long as it lives: an advisory lock of the store's PostgreSQL, or a lock on a file beside
its SQLite one. Both are given back when the process ends, however it does.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from pathlib import Path

import asyncpg  # type: ignore[import-untyped]
from eth_utils.crypto import keccak
from sqlalchemy.engine import make_url

from core.errors import LockTakenError, StoreUnavailableError
from core.sessions import FAULTS, connected


class ProcessLock:
    """The lock on `name`.

    url: of the store, as SQLAlchemy has it. purpose: what the session is called at the server. timeout_s: bounds each
    question to it.
    """

    def __init__(self, url: str, name: str, *, purpose: str, timeout_s: float = 2.0) -> None:
        self._url = make_url(url)
        self._name = name
        self._purpose = purpose
        self._timeout_s = timeout_s
        self._in_file = self._url.get_backend_name() == "sqlite"
        self._file: int | None = None
        self._connection: asyncpg.Connection | None = None

    @property
    def where(self) -> str:
        """The store, without its password."""
        return self._url.render_as_string(hide_password=True)

    @property
    def gone(self) -> bool:
        """Whether the lock is known not to be ours: it goes with the session, where the database ends that."""
        return not self._in_file and (self._connection is None or self._connection.is_closed())

    async def hold(self) -> None:
        """Take the lock, or see that it is still ours. Raises `LockTakenError` or `StoreUnavailableError`."""
        if self._in_file:
            self._hold_file()
            return
        try:
            async with asyncio.timeout(self._timeout_s):
                if self._connection is not None:
                    try:
                        await self._connection.fetchval("SELECT 1")
                    except FAULTS:
                        self._drop()  # the lock went with the connection
                    else:
                        return
                taken = await self._take()
        except FAULTS as error:
            self._drop()  # whether it still has the lock, nobody can tell
            raise self._unusable(error) from error
        if not taken:
            raise LockTakenError(f"{self.where} has its lock")

    def _hold_file(self) -> None:
        if self._file is not None or not self._url.database or self._url.database == ":memory:":
            return
        path = self._path(self._name)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreUnavailableError(f"{path} cannot be made: {error.strerror}") from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(file)
            raise LockTakenError(f"{path} is locked") from None
        self._file = file

    async def _take(self) -> bool:
        connection = await connected(self._url, self._purpose)
        try:
            taken = bool(await connection.fetchval("SELECT pg_try_advisory_lock($1)", _number(self._name)))
        except BaseException:
            connection.terminate()  # it may have the lock by now, and nobody would give it back
            raise
        if taken:
            self._connection = connection
        else:
            connection.terminate()
        return taken

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()

    async def held(self, name: str) -> bool:
        """Whether any process has `name`, over the same store. Raises `StoreUnavailableError`."""
        if self._in_file:
            return name == self._name or await asyncio.to_thread(self._file_locked, name)
        number = _number(name)
        query = (
            "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1 AND classid = $1 "
            "AND objid = $2 AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        )
        try:
            async with asyncio.timeout(self._timeout_s):
                connection = await connected(self._url, "peers")
                try:
                    found = await connection.fetchval(query, (number >> 32) & 0xFFFFFFFF, number & 0xFFFFFFFF)
                finally:
                    connection.terminate()
        except FAULTS as error:
            raise self._unusable(error) from error
        return found is not None

    def _file_locked(self, name: str) -> bool:
        path = self._path(name)
        try:
            file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise StoreUnavailableError(f"{path} cannot be opened: {error.strerror}") from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
        finally:
            os.close(file)
        return False

    async def release(self) -> None:
        """Give the lock back."""
        connection, self._connection = self._connection, None
        file, self._file = self._file, None
        if file is not None:
            os.close(file)
        if connection is not None:
            try:
                await connection.close(timeout=self._timeout_s)
            except FAULTS:
                connection.terminate()  # it was gone already

    def _path(self, name: str) -> Path:
        return Path(self._url.database or ".").parent / f"{name}.lock"

    def _unusable(self, error: Exception) -> StoreUnavailableError:
        reason = str(error).partition("\n")[0] or f"no answer within {self._timeout_s:g} s"
        return StoreUnavailableError(f"{self.where} cannot be used: {reason}")


def _number(name: str) -> int:
    """Of an advisory lock, signed."""
    return int.from_bytes(keccak(text=f"fairmark:{name}")[:8], "big", signed=True)
