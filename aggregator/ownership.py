"""One process for each key: two that count one key's nonces take each other's transactions' places.

Who has the key holds a lock for as long as it lives: an advisory lock of the PostgreSQL that attempts are kept in, or a
lock on a file beside the SQLite one. Both are given back when the process ends, however it does. Aggregators that share
neither are told apart by nobody: give each a key of its own.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from pathlib import Path

import asyncpg  # type: ignore[import-untyped]
from eth_utils.crypto import keccak
from sqlalchemy.engine import make_url

from aggregator.errors import KeyInUseError, StoreUnavailableError
from aggregator.sessions import FAULTS, connected
from core.logs import Logger

LOOK_S = 1.0


class Ownership:
    """The lock on one key.

    url: of the store of attempts, as SQLAlchemy has it. timeout_s: bounds each question to the database.
    """

    def __init__(self, url: str, *, chain_id: int, address: str, logger: Logger, timeout_s: float = 2.0) -> None:
        self._url = make_url(url)
        self._address = address
        self._chain_id = chain_id
        self._log = logger
        self._timeout_s = timeout_s
        self._file: int | None = None
        self._connection: asyncpg.Connection | None = None
        self._failure: str | None = None

    async def hold(self) -> None:
        """Take the lock, where it is not held. Raises `KeyInUseError` or `StoreUnavailableError`."""
        if self._url.get_backend_name() == "sqlite":
            self._hold_file()
        else:
            await self._hold_row()
        self._failure = None

    def _hold_file(self) -> None:
        if self._file is not None or not self._url.database or self._url.database == ":memory:":
            return
        path = self._path(self._address)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreUnavailableError(f"{path} cannot be made: {error.strerror}") from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(file)
            raise self._in_use(f"{path} is locked") from None
        self._file = file

    async def _hold_row(self) -> None:
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
            raise self._in_use(f"{self._where} has its lock")

    async def _take(self) -> bool:
        connection = await connected(self._url, "key")
        try:
            taken = bool(await connection.fetchval("SELECT pg_try_advisory_lock($1)", self._number(self._address)))
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

    @property
    def _where(self) -> str:
        return self._url.render_as_string(hide_password=True)

    def _named(self, address: str) -> str:
        return f"{self._chain_id}-{address.lower()}"

    def _number(self, address: str) -> int:
        """Of the advisory lock, signed."""
        return int.from_bytes(keccak(text=f"fairmark:{self._named(address)}")[:8], "big", signed=True)

    def _path(self, address: str) -> Path:
        return Path(self._url.database or ".").parent / f"{self._named(address)}.lock"

    def _unusable(self, error: Exception) -> StoreUnavailableError:
        reason = str(error).partition("\n")[0] or f"no answer within {self._timeout_s:g} s"
        return StoreUnavailableError(f"{self._where} cannot be used: {reason}")

    def _in_use(self, why: str) -> KeyInUseError:
        return KeyInUseError(
            f"another aggregator sends with the key of {self._address} ({why}): two would take each other's nonces; "
            "give each a key of its own, or wait until the other has ended"
        )

    async def held(self, address: str) -> bool:
        """Whether any process sends with the key of `address`. Raises `StoreUnavailableError`."""
        if self._url.get_backend_name() == "sqlite":
            return address.lower() == self._address.lower() or await asyncio.to_thread(self._file_locked, address)
        number = self._number(address)
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

    def _file_locked(self, address: str) -> bool:
        path = self._path(address)
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

    def owned(self) -> None:
        """See, before each send, that nobody else may own the nonce. Raises `KeyInUseError`.

        A lock that went with its connection is known to be gone as soon as the connection is, and else within
        `LOOK_S` and the question's own bound.
        """
        in_file = self._url.get_backend_name() == "sqlite"
        if self._failure is None and not in_file and (self._connection is None or self._connection.is_closed()):
            raise self._in_use(f"the lock went with the connection to {self._where}, and another may have taken it")
        if self._failure is not None:
            raise KeyInUseError(self._failure)

    async def check(self) -> str:
        """For `/health`. Raises `KeyInUseError`."""
        if self._failure is not None:
            raise KeyInUseError(self._failure)
        return self._address

    async def run(self) -> None:
        """See every `LOOK_S` that the lock is still ours, for ever: it goes where the database is started anew."""
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                await self.hold()
            except (KeyInUseError, StoreUnavailableError) as error:
                self._failure = str(error)
                self._log.error("key_not_held", code=error.code, error=str(error))

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
