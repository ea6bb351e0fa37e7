"""What clients see: prices off the chain, refreshes through the aggregator, evidence, and the description of it all."""

from bff.service import BffService

__all__ = ["BffService"]
