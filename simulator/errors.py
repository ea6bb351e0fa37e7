"""What can go wrong in the simulator, drawn in one place."""

from __future__ import annotations

from core.errors import FairmarkError


class SimulatorError(FairmarkError):
    """Base of this room's errors."""

    code = "simulator"


class UnknownVenueError(SimulatorError):
    """No simulated venue has this name."""

    code = "unknown_venue"


class InvalidControlError(SimulatorError):
    """A fault or a pinned price that cannot be set. `problems` names each thing that is wrong, with its place."""

    code = "invalid_control"

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("; ".join(problems))


class RecordingError(SimulatorError):
    """A recorded body that cannot be replayed: not readable, or without the fields that say what it answers."""

    code = "invalid_recording"
