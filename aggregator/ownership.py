"""One process for each key: two that count one key's nonces take each other's transactions' places.

Who has the key holds a lock (`core.locks`) over the store that attempts are kept in. Aggregators that share none are
told apart by nobody: give each a key of its own.
"""

from __future__ import annotations

import asyncio

from aggregator.errors import KeyInUseError
from core.errors import LockTakenError, StoreUnavailableError
from core.locks import ProcessLock
from core.logs import Logger

LOOK_S = 1.0


class Ownership:
    """The lock on one key.

    url: of the store of attempts, as SQLAlchemy has it. timeout_s: bounds each question to the database.
    """

    def __init__(self, url: str, *, chain_id: int, address: str, logger: Logger, timeout_s: float = 2.0) -> None:
        self._address = address
        self._chain_id = chain_id
        self._log = logger
        self._lock = ProcessLock(url, self._named(address), purpose="key", timeout_s=timeout_s)
        self._failure: str | None = None

    async def hold(self) -> None:
        """Take the lock, where it is not held. Raises `KeyInUseError` or `StoreUnavailableError`."""
        try:
            await self._lock.hold()
        except LockTakenError as error:
            raise self._in_use(str(error)) from None
        self._failure = None

    async def held(self, address: str) -> bool:
        """Whether any process sends with the key of `address`. Raises `StoreUnavailableError`."""
        return await self._lock.held(self._named(address))

    def _named(self, address: str) -> str:
        return f"{self._chain_id}-{address.lower()}"

    def _in_use(self, why: str) -> KeyInUseError:
        return KeyInUseError(
            f"another aggregator sends with the key of {self._address} ({why}): two would take each other's nonces; "
            "give each a key of its own, or wait until the other has ended"
        )

    def owned(self) -> None:
        """See, before each send, that nobody else may own the nonce. Raises `KeyInUseError`.

        A lock that went with its connection is known to be gone as soon as the connection is, and else within
        `LOOK_S` and the question's own bound.
        """
        if self._failure is not None:
            raise KeyInUseError(self._failure)
        if self._lock.gone:
            where = self._lock.where
            raise self._in_use(f"the lock went with the connection to {where}, and another may have taken it")

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
        await self._lock.release()
