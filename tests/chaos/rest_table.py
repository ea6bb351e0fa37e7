"""What must happen when a venue fails over REST: one row a fault. `python -m tests.chaos.rest_table` prints it.

One venue has the fault, four are sound; every fetcher wants all five, so that none is called off because others were
quicker. In every row the round completes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from core.types import FailureCode as Code
from tests.chaos.stream_table import stream_page

HEADER = """# What happens when a venue fails

Generated from `tests/chaos/rest_table.py`, which holds every row against the real simulator, fetchers, aggregator and
chain: one venue has the fault, four others are sound, and every fetcher wants all five. In every row the round
completes, with an answer made of the others' quotes (and of this one's, where the outcome is a quote). Where fewer are
wanted, a slow or failing venue is replaced by the next, and may end as `cancelled`: others answered first.

- outcome: what the round's record says of the venue, and `outcome` in `fairmark_fetchers_quotes_total`;
- request: `outcome` in `fairmark_sources_requests_total`, for each try.

| fault | what the venue does | outcome | request |
| --- | --- | --- | --- |
"""


@dataclass(frozen=True)
class Row:
    """outcome: the codes one of which the record must show; none: a quote. request: the outcomes of single requests."""

    name: str
    does: str
    outcome: tuple[Code, ...]
    request: tuple[str, ...] = ("ok",)
    fault: Mapping[str, object] = field(default_factory=dict)


def fault(does: str, outcome: Code | tuple[Code, ...] | None, *request: str, **what: object) -> Row:
    """A row whose fault is the simulator's. what: the fault, as its control port takes it."""
    codes = () if outcome is None else outcome if isinstance(outcome, tuple) else (outcome,)
    name = str(what["kind"])
    shown = ", ".join(f"{key} {value}" for key, value in what.items() if key != "kind")
    return Row(f"{name} ({shown})" if shown else name, does, codes, request or ("ok",), what)


ROWS = (
    fault("answers 50 ms late", None, kind="delay", ms=50),
    fault("never answers", Code.TIMEOUT, "timeout", kind="hang"),
    fault("sends one byte a second", Code.TIMEOUT, "timeout", kind="drip", ms=1000),
    fault("resets the connection within the body", Code.CONNECTION, "connection", kind="reset"),
    fault("refuses connections", Code.CONNECTION, "connection", kind="refused"),
    fault("is out of patience", Code.RATE_LIMITED, "rate_limited", kind="429", retry_after_s=60),
    fault("has an error of its own", Code.SERVER_ERROR, "server_error", kind="500"),
    fault("sends us to a private address", Code.REDIRECTED, "redirected", kind="redirect"),
    fault("cuts its JSON in half", Code.MALFORMED, kind="malformed"),
    fault("sends nothing", Code.EMPTY, kind="empty"),
    fault("sends a web page", Code.MALFORMED, kind="html"),
    fault("calls its JSON plain text: the bytes decide", None, kind="plain_text"),
    fault("names a key twice", Code.MALFORMED, kind="duplicate_keys"),
    fault("sends bytes that are no UTF-8", Code.MALFORMED, kind="not_utf8"),
    fault("sends a list of a million elements", Code.TOO_LARGE, "too_large", kind="million"),
    fault("sends a body that unpacks to 64 MiB", Code.MALFORMED, "malformed", kind="gzip_bomb"),
    fault("nests 50,000 lists", Code.MALFORMED, kind="deep"),
    fault("shows the market of five minutes ago", Code.EXPIRED, kind="stale", seconds=300),
    fault("shows a time a minute ahead", Code.FUTURE, kind="ahead", seconds=60),
    fault("shows zeros", Code.INVALID_PRICE, kind="zero"),
    fault("shows numbers with twenty digits too many", Code.INVALID_PRICE, kind="huge"),
    fault("shows the pair turned over", Code.OUT_OF_RANGE, kind="inverse"),
    fault("shows a bid above its ask", Code.CROSSED, kind="crossed"),
    fault("shows a book 4 % wide", Code.WIDE_SPREAD, kind="wide", bps=400),
    fault("says that nothing was traded", Code.NOT_TRADED, kind="untraded"),
    fault("is wrong by a tenth", (Code.OUTLIER, Code.JUMP), kind="outlier", factor="1.1"),
    fault("quotes hundredths of the unit", Code.MIX_UP, kind="outlier", factor="100"),
    Row("dns", "its name does not resolve", (Code.CONNECTION, Code.TIMEOUT), ("connection", "timeout")),
    Row("tls", "speaks no TLS where it must", (Code.CONNECTION,), ("connection",)),
    Row("certificate", "shows a certificate that nobody vouches for", (Code.CONNECTION,), ("connection",)),
)


def document() -> str:
    """The table as a page, with that of the streams."""
    lines = []
    for row in ROWS:
        outcome = " or ".join(f"`{code}`" for code in row.outcome) or "a quote"
        request = " or ".join(f"`{each}`" for each in dict.fromkeys(row.request))
        lines.append(f"| `{row.name}` | {row.does} | {outcome} | {request} |")
    return HEADER + "\n".join(lines) + "\n" + stream_page()


if __name__ == "__main__":
    print(document(), end="")  # noqa: T201 - this is what it is run for
