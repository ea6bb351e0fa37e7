"""A PostgreSQL server that a test starts, stops and ends itself, on a port and a folder of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import psutil

from tests.conftest import postgres_programs
from tests.e2e.system import free_port

START_S = 90.0


class PostgresServer:
    """One server: its data stay from life to life."""

    def __init__(self, folder: Path, user: str | None) -> None:
        self.port = free_port()
        self._folder = folder
        self._user = user
        self._process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        return f"postgresql+asyncpg://postgres@127.0.0.1:{self.port}/postgres"

    async def create(self) -> None:
        await self._run(self._program("initdb"), "-D", self._data, "-U", "postgres", "-A", "trust", "--no-sync")

    async def start(self) -> None:
        self._process = await self._spawn(
            self._program("postgres"),
            "-D",
            self._data,
            "-p",
            str(self.port),
            "-k",
            str(self._folder),
            "-h",
            "127.0.0.1",
            "-F",
        )
        async with asyncio.timeout(START_S):
            while not await self._answers():  # noqa: ASYNC110 - the server has no other way to say it
                await asyncio.sleep(0.05)

    async def stop(self) -> None:
        """As a crash of the server ends it: every connection is cut."""
        await self._end(signal.SIGQUIT)

    def pause(self) -> None:
        """Nothing answers any more, and nothing is closed."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        """To the server and each of its backends, which are in groups of their own."""
        assert self._process is not None
        whole = psutil.Process(self._process.pid)
        for process in (whole, *whole.children(recursive=True)):
            process.send_signal(number)

    async def _end(self, number: int) -> None:
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            process.send_signal(number)
            await process.wait()

    @property
    def _data(self) -> str:
        return str(self._folder / "data")

    @staticmethod
    def _program(name: str) -> str:
        folder = postgres_programs()
        assert folder is not None
        return str(folder / name)

    async def _answers(self) -> bool:
        ready = await self._spawn(self._program("pg_isready"), "-h", "127.0.0.1", "-p", str(self.port), "-t", "1")
        return await ready.wait() == 0

    async def _run(self, *command: str) -> None:
        process = await self._spawn(*command)
        assert await process.wait() == 0, command

    async def _spawn(self, *command: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *command,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            user=self._user,
            cwd=self._folder,
            start_new_session=True,
        )


@contextlib.asynccontextmanager
async def postgres_server() -> AsyncIterator[PostgresServer]:
    """Running. The server refuses to be root: then it is `postgres`."""
    folder = Path(tempfile.mkdtemp(prefix="fairmark-pg-"))
    user = "postgres" if os.geteuid() == 0 else None
    if user is not None:
        shutil.chown(folder, user)
    server = PostgresServer(folder, user)
    try:
        await server.create()
        await server.start()
        yield server
    finally:
        await server._end(signal.SIGKILL if server._process is None else signal.SIGQUIT)
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
