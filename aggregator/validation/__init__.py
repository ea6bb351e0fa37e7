"""From the reports of one attempt to a round, or to the coded reason why there is none. Pure.

`received`: who signed a report, and whether its evidence is what was signed. `reports`: the rules over reports, in the
configured order. `feeds`: the rules over each feed's prices. `outcome`: all of it together.
"""

from aggregator.validation.feeds import Held, Warn
from aggregator.validation.outcome import Judged, Validation, misconfigured, validate
from aggregator.validation.received import Expected, Received, identify, statement_of
from aggregator.validation.reports import PIPELINE, Fault, equivocators, judge

__all__ = [
    "PIPELINE",
    "Expected",
    "Fault",
    "Held",
    "Judged",
    "Received",
    "Validation",
    "Warn",
    "equivocators",
    "identify",
    "judge",
    "misconfigured",
    "statement_of",
    "validate",
]
