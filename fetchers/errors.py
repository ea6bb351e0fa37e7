"""Errors of the fetchers, and the closed set of reasons for which one does not sign."""

from __future__ import annotations

from enum import StrEnum

from broker.messages import MOMENT_TOO_FAR
from core.errors import FairmarkError


class RefusalCode(StrEnum):
    """Why a fetcher answers a job with a `Refusal`. A closed set: metrics and records use these and no others."""

    WRONG_DEPLOYMENT = "wrong_deployment"  # the job speaks of another contract, or of another chain's history
    WRONG_MODE = "wrong_mode"  # a live job at a simulated fetcher, or the reverse
    UNKNOWN_GROUP = "unknown_group"  # this fetcher does not serve it
    BUDGET_TOO_SHORT = "budget_too_short"  # no time to ask anybody
    MOMENT_INVALID = "moment_invalid"  # not on the group's grid
    MOMENT_TOO_FAR = MOMENT_TOO_FAR  # too far behind this fetcher's own clock, or ahead of it
    MOMENT_PASSED = "moment_passed"  # not later than one already signed, or than the contract's last
    CLOCK_OFF = "clock_off"  # this fetcher's own clock is wrong: it does not know what it saw when
    TOO_MANY_JOBS = "too_many_jobs"  # more jobs a second for this group than a fetcher asks its sources for
    CONFIGURATION_MISMATCH = "configuration_mismatch"  # the contract's feeds are not the configured ones
    NOT_REGISTERED = "not_registered"  # the contract does not list this reporter
    NO_PRICES = "no_prices"  # no feed of the group got enough quotes
    CHAIN_UNAVAILABLE = "chain_unavailable"  # this fetcher's own node does not answer
    STORE_UNAVAILABLE = "store_unavailable"  # a report that cannot be remembered is not signed away
    INTERNAL = "internal"  # our own fault: a bug, logged with its cause


class FetcherError(FairmarkError):
    """Base of the fetchers' errors."""

    code = "fetcher"


class Refused(FetcherError):
    """The job will not be signed, for the reason given."""

    code = "refused"

    def __init__(self, reason: RefusalCode, detail: str) -> None:
        self.reason = reason
        self.detail = detail
        super().__init__(f"{reason}: {detail}")


class MomentPassedError(FetcherError):
    """A moment not later than one already signed, and not one whose report is kept. `last` is the latest signed."""

    code = "moment_passed"

    def __init__(self, moment: int, last: int) -> None:
        self.moment = moment
        self.last = last
        super().__init__(f"moment {moment} is not later than {last}, which is signed already")


class ReportStoreError(FetcherError):
    """The store of signed reports cannot be used: see the cause, and the store's URL in the configuration."""

    code = "store_unavailable"


class ClockOffError(FetcherError):
    """This host's clock is further off than a reporter may be: set it, and see that NTP keeps it."""

    code = "clock_off"


class StreamsDownError(FetcherError):
    """No stream is up: see each one's last loss. Prices are asked for over HTTP meanwhile."""

    code = "streams_down"


class SourcesDownError(FetcherError):
    """No source gave a price for the last job: see each one's code, and this host's way to the internet."""

    code = "sources_down"
