"""What can be wrong with a replay's input."""

from __future__ import annotations

from core.errors import FairmarkError


class ReplayError(FairmarkError):
    """The file, or what was asked of it, cannot be replayed."""

    code = "replay_failed"


class BadRowError(ReplayError):
    """A row that cannot be read: it names the file, the line and the column."""

    code = "bad_row"

    def __init__(self, file: str, line: int, column: str, problem: str) -> None:
        where = f"{file}, line {line}" + (f", column {column}" if column else "")
        super().__init__(f"{where}: {problem}")
        self.line = line
        self.column = column
