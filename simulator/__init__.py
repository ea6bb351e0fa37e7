"""Test mode: simulated exchanges that speak the real ones' formats, with faults to switch on while they run."""

from simulator.recorded import RecordedBody
from simulator.service import Simulator

__all__ = ["RecordedBody", "Simulator"]
