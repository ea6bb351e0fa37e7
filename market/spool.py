"""Minutes that wait for the database: in memory, and in a local file, so that a restart does not lose them.

The file holds one JSON line for each row, as it was put; of rows of one minute the one that counts the most is kept. It
is bounded: beyond `max_rows` minutes the oldest are dropped, and counted. It is written anew, in one step, when it
holds twice as many lines as there are rows, and removed when nothing waits.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import msgspec

from core import codec
from market.errors import SpoolError
from market.minutes import MinuteRow

_SLACK = 1_000


class Spool:
    """The rows that wait. Calls block on the disk: they are few, and small."""

    def __init__(self, path: Path, *, max_rows: int) -> None:
        self._path = path
        self._max_rows = max_rows
        self._rows: dict[tuple[str, str, str, int], MinuteRow] = {}
        self._lines = 0
        self.dropped = 0
        """Rows that were lost to the bound, so far."""
        self.torn = 0
        """Lines of the file that could not be read: the last one, where a crash cut it."""

    def __len__(self) -> int:
        return len(self._rows)

    def load(self) -> None:
        """Read what an earlier run left. Raises `SpoolError`."""
        try:
            raw = self._path.read_bytes()
        except FileNotFoundError:
            return
        except OSError as error:
            raise SpoolError(f"{self._path} cannot be read: {error.strerror}") from error
        for line in raw.splitlines():
            try:
                self._keep(codec.decode(line, MinuteRow))
            except msgspec.MsgspecError:
                self.torn += 1
            self._lines += 1
        self._bound()
        if self.torn:
            self._rewrite()  # what is put next must not be written behind half a line

    def put(self, rows: Sequence[MinuteRow]) -> None:
        """Keep rows until they are taken. Raises `SpoolError` where the file cannot be written: they are kept in
        memory all the same."""
        if not rows:
            return
        for row in rows:
            self._keep(row)
        self._bound()
        if self._lines + len(rows) > 2 * len(self._rows) + _SLACK:
            self._rewrite()
            return
        self._write(b"".join(codec.encode(row) + b"\n" for row in rows), "ab")
        self._lines += len(rows)

    def first(self, most: int) -> list[MinuteRow]:
        """The oldest rows, at most so many. They stay until `done`."""
        return sorted(self._rows.values(), key=lambda row: row.minute_ms)[:most]

    def done(self, rows: Sequence[MinuteRow]) -> None:
        """These are in the database. Raises `SpoolError`."""
        for row in rows:
            if self._rows.get(row.key) is row:
                del self._rows[row.key]
        try:
            if not self._rows:
                self._path.unlink(missing_ok=True)
                self._lines = 0
        except OSError as error:
            raise SpoolError(f"{self._path} cannot be removed: {error.strerror}") from error

    def _keep(self, row: MinuteRow) -> None:
        known = self._rows.get(row.key)
        if known is None or row.count >= known.count:
            self._rows[row.key] = row

    def _bound(self) -> None:
        if (excess := len(self._rows) - self._max_rows) > 0:
            for row in self.first(excess):
                del self._rows[row.key]
            self.dropped += excess

    def _rewrite(self) -> None:
        whole = b"".join(codec.encode(row) + b"\n" for row in self._rows.values())
        beside = self._path.with_suffix(".new")
        self._write(whole, "wb", beside)
        try:
            beside.replace(self._path)
        except OSError as error:
            raise SpoolError(f"{self._path} cannot be written: {error.strerror}") from error
        self._lines = len(self._rows)

    def _write(self, raw: bytes, how: str, path: Path | None = None) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with (path or self._path).open(how) as file:
                file.write(raw)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise SpoolError(f"{self._path} cannot be written: {error.strerror}") from error
