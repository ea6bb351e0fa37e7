"""How much a source lets one address ask: the `[limit]` table of its catalogue file, from its documentation.

[limit]
weight = 6000     # in any `window_s` seconds
window_s = 60
ticker = 2        # what one request for a ticker weighs (1)
batch = 4         # optional: what one for a batch weighs; as much as a ticker where nothing is said
"""

from __future__ import annotations

import math

from pydantic import BaseModel, ConfigDict, Field, model_validator


class LimitFormat(BaseModel):
    """Weights as the exchange counts them: plain requests where it counts those."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    weight: int = Field(ge=1, le=1_000_000)
    window_s: int = Field(ge=1, le=3_600)
    ticker: int = Field(default=1, ge=1)
    batch: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _check(self) -> LimitFormat:
        if max(self.ticker, self.batch or 0) > self.weight:
            raise ValueError("a single request weighs more than a whole window")
        return self

    @property
    def batch_weight(self) -> int:
        return self.ticker if self.batch is None else self.batch

    def shared_by(self, processes: int) -> LimitFormat:
        """The part that each of so many (>= 1) may ask from one address, so that together they keep to the whole.

        Where a window's part is less than the heaviest request, its time is lengthened instead: then the whole is kept
        on average, and not by each window when all of them ask at once.
        """
        weight = max(self.weight // processes, self.ticker, self.batch_weight)
        window_s = max(self.window_s, math.ceil(self.window_s * weight * processes / self.weight))
        return self.model_copy(update={"weight": weight, "window_s": window_s})


UNDECLARED = LimitFormat(weight=100, window_s=10)
"""Ten requests a second: what a source is asked at most where its documentation says nothing."""
UNLIMITED = LimitFormat(weight=1_000_000, window_s=1)
"""What simulated venues allow."""
