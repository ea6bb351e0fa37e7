"""What must happen when a stream fails: one row a fault. It stands in docs/faults.md too.

One venue's stream has the fault, its HTTP is sound, and two other venues stream soundly; each fetcher wants all three.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from core.types import FailureCode as Code

HEADER = """
# What happens when a stream fails

Generated from `tests/chaos/stream_table.py`, which holds every row against the same whole: one venue's stream has the
fault while its HTTP is sound, two others stream soundly, and every fetcher wants all three. In every row the round
completes, and of the sound venues nothing is requested.

- stream: the reason in `fairmark_streams_reconnects_total` where the connection is lost, the outcome in
  `fairmark_streams_reads_total` where it stays but its price is not used;
- price: `requested` where the source is asked over HTTP in the same round, `streamed` where the stream's price is used
  all the same (over a new connection, where the old one is lost), a failure code where the stream's price is taken for
  the source's word and refused, or where its HTTP fails as well.

| fault | what the stream does | stream | price |
| --- | --- | --- | --- |
"""
REQUESTED, STREAMED = "requested", "streamed"


@dataclass(frozen=True)
class StreamRow:
    """lost: reasons, one of which the connection is lost for. unused: why its price is not used. price: as in the page.

    open_first: the fault begins only when the stream is up.
    """

    name: str
    does: str
    fault: Mapping[str, object]
    lost: tuple[str, ...] = ()
    unused: str = ""
    price: tuple[str, ...] = (REQUESTED,)
    open_first: bool = False

    @property
    def stream(self) -> str:
        told = [f"`{each}`" for each in (*self.lost, self.unused) if each]
        return " or ".join(told) or "up"


def row(
    does: str,
    *lost: str,
    unused: str = "",
    price: str | tuple[Code, ...] = REQUESTED,
    open_first: bool = False,
    **fault: object,
) -> StreamRow:
    codes = (price,) if isinstance(price, str) else tuple(str(code) for code in price)
    shown = ", ".join(f"{key} {value}" for key, value in fault.items() if key != "kind")
    name = f"{fault['kind']} ({shown})" if shown else str(fault["kind"])
    if open_first:
        name += ", once open"
    over = {} if fault["kind"] == "refused" else {"over": "stream"}  # nobody listens to the one or to the other
    return StreamRow(name, does, over | fault, lost, unused, codes, open_first)


STREAM_ROWS = (
    row("never answers the handshake", "timeout", kind="hang"),
    row("falls silent: not even pings are answered", "silent", kind="hang", open_first=True),
    row("sends one byte a second, and between them no pong", "silent", kind="drip", ms=1000),
    row("is gone, and its HTTP with it", "refused", "closed", price=(Code.CONNECTION,), kind="refused"),
    row("is out of patience", "rate_limited", kind="429", retry_after_s=60),
    row("has an error of its own", "refused", kind="500"),
    row("sends us to a private address, where we do not go", "refused", kind="redirect"),
    row("answers with a web page", "refused", kind="html"),
    row("swallows subscriptions", "not_subscribed", kind="no_ack"),
    row("refuses subscriptions", "not_subscribed", kind="rejected"),
    row("closes the connection", "closed", kind="close"),
    row("resets the connection", "closed", kind="reset"),
    row("asks us to leave", "told_to_leave", "closed", kind="leave"),
    row("cuts its JSON in half", "garbage", kind="malformed"),
    row("sends empty messages", "garbage", kind="empty"),
    row("sends what would unpack to 64 MiB: it is not unpacked", "garbage", kind="gzip_bomb"),
    row("nests 50,000 lists", "garbage", kind="deep"),
    row("sends a list of a million elements", "too_large", kind="million"),
    row("shows zeros", "garbage", kind="zero"),
    row("shows numbers with twenty digits too many", "garbage", kind="huge"),
    row("shows the market of five minutes ago", unused="expired", kind="stale", seconds=300),
    row("shows a time a minute ahead", unused="future", kind="ahead", seconds=60),
    row("shows a bid above its ask", unused="crossed", kind="crossed"),
    row("shows that nothing was traded", unused="not_traded", kind="untraded"),
    row("is 50 ms late", price=STREAMED, kind="delay", ms=50),
    row("tells everything twice", price=STREAMED, kind="repeat"),
    row("loses messages", price=STREAMED, kind="gap", missing=3),
    row("begins its numbers anew", "renumbered", price=STREAMED, kind="renumber", open_first=True),
    row("calls it plain text: messages have no such name", price=STREAMED, kind="plain_text"),
    row("names a key twice in a field that nobody reads", price=STREAMED, kind="duplicate_keys"),
    row("has bytes that are no UTF-8 in a field that nobody reads", price=STREAMED, kind="not_utf8"),
    row("shows a book 4 % wide", price=(Code.WIDE_SPREAD,), kind="wide", bps=400),
    row("shows the pair turned over", price=(Code.OUT_OF_RANGE,), kind="inverse"),
    row("is wrong by a tenth", price=(Code.OUTLIER, Code.JUMP), kind="outlier", factor="1.1"),
)


def stream_page() -> str:
    """The table as a part of the page."""
    lines = []
    for each in STREAM_ROWS:
        price = " or ".join(word if word in {REQUESTED, STREAMED} else f"`{word}`" for word in each.price)
        lines.append(f"| `{each.name}` | {each.does} | {each.stream} | {price} |")
    return HEADER + "\n".join(lines) + "\n"
