"""Jobs in, signed reports out: which sources to ask, fallback, currency conversion, the fetcher's own median.

A job's way: `candidates` (whom to ask) → `fetch` (ask, fall back, stop in time) → `evaluate` (convert, judge, median) →
`reporter` (check, sign) → `report_store` (once for each moment) → the bus. `hints` looks between rounds.
"""

from fetchers.report_store import ReportStore, SqlReportStore
from fetchers.service import FetcherService

__all__ = ["FetcherService", "ReportStore", "SqlReportStore"]
