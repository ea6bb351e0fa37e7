"""Domain types that every room shares. All are immutable; every one can cross a wire (see `core.codec`).

Prices are `Decimal` off chain and integers scaled by a feed's `decimals` on chain. Times are integers: milliseconds
since the Unix epoch, named `…_ms`.
"""

from __future__ import annotations

import re
from decimal import Decimal
from enum import StrEnum

from msgspec import Struct

from core.errors import InvalidPriceError
from core.reporting import Policy

MAX_PRICE = Decimal(10) ** 15
"""Above this a number read from a source is absurd, whatever it prices."""
MIN_PRICE = Decimal(10) ** -15
"""Below this a number read from a source is dust, whatever it prices."""

_CURRENCY = re.compile(r"[A-Z0-9]{2,10}")


class Mode(StrEnum):
    """Where prices come from: the real exchanges, or the simulator."""

    LIVE = "live"
    TEST = "test"


class Pair(str):
    """What is priced in what, as `"BTC/USD"`: one unit of `base` costs so many of `quote`."""

    __slots__ = ()

    def __new__(cls, text: str) -> Pair:
        """Raises `ValueError` unless `text` is `BASE/QUOTE` in capitals and digits."""
        base, slash, quote = text.partition("/")
        if not (slash and _CURRENCY.fullmatch(base) and _CURRENCY.fullmatch(quote) and base != quote):
            raise ValueError(f"{text!r} is not a pair: write it like 'BTC/USD'")
        return super().__new__(cls, text)

    @classmethod
    def of(cls, base: str, quote: str) -> Pair:
        return cls(f"{base}/{quote}")

    @classmethod
    def from_slug(cls, slug: str) -> Pair:
        """Read the form used in URLs, `BTC-USD` (case-insensitive). Raises `ValueError`."""
        return cls(slug.upper().replace("-", "/", 1))

    @property
    def base(self) -> str:
        return self.partition("/")[0]

    @property
    def quote(self) -> str:
        return self.partition("/")[2]

    @property
    def slug(self) -> str:
        return self.replace("/", "-")


class FailureCode(StrEnum):
    """Why an asked source gave no usable quote. A closed set: metrics and records use these and no others."""

    TIMEOUT = "timeout"
    CONNECTION = "connection"  # refused, reset, DNS, TLS
    RATE_LIMITED = "rate_limited"  # HTTP 429 (or 418)
    SERVER_ERROR = "server_error"  # HTTP 5xx
    HTTP_STATUS = "http_status"  # any other status that is not 200
    REDIRECTED = "redirected"
    TOO_LARGE = "too_large"
    MALFORMED = "malformed"  # not JSON, or not of the declared shape
    EMPTY = "empty"
    INVALID_PRICE = "invalid_price"  # zero, negative, NaN, absurd
    EXPIRED = "expired"  # the source's own time, or the receipt, is too old
    AGING = "aging"  # not expired, but enough other sources are fresh
    FUTURE = "future"  # the source's own time lies ahead of our clock
    FROZEN = "frozen"  # fresh times, and a price that never changes
    NOT_TRADED = "not_traded"  # no volume: nobody trades at this price
    WIDE_SPREAD = "wide_spread"  # bid and ask too far apart to mean a price
    CROSSED = "crossed"  # bid above ask
    OUT_OF_RANGE = "out_of_range"  # outside the feed's declared magnitude
    MIX_UP = "mix_up"  # the price of something else: the pair inverted, or another unit
    OUTLIER = "outlier"  # too far from the median of the other quotes
    JUMP = "jump"  # too far from the feed's last answer, and most other quotes are not
    DEPENDENT = "dependent"  # another source that it relays, or is built like, counts already
    NO_CONVERSION = "no_conversion"  # no live rate from its currency to the feed's
    UNSUPPORTED = "unsupported"  # the source does not serve this pair
    QUARANTINED = "quarantined"  # not asked: it failed too often of late
    CANCELLED = "cancelled"  # the budget ended before it was needed
    INTERNAL = "internal"  # our own fault: a bug, logged with its cause


class Aggregate(StrEnum):
    """How a fetcher draws its answer from the quotes that count: see `fetchers.averages`."""

    MEDIAN = "median"  # the lower middle one
    VOLUME = "volume"  # weighted by what each source says was traded there
    TRUST = "trust"  # weighted by what the feed declares for each source


QUOTE_RULES = ("age", "range", "dependent", "fresh", "deviation", "outlier")
"""The rules that choose among a fetcher's quotes (`fetchers.rules`), in their default order."""
REPORT_RULES = (
    "equivocation",
    "envelope",
    "moment",
    "shape",
    "signature",
    "member",
    "group_hash",
    "evidence",
    "previous",
    "age",
    "range",
)
"""The rules that choose among an attempt's reports (`aggregator.validation`), in their default order."""


class Quote(Struct, frozen=True, kw_only=True, gc=False):
    """One price read from one source.

    price: in units of `pair.quote`, chosen from the body by the written rule in `sources.quoting`.
    source_time_ms: the source's own time, or None where its body carries none.
    received_ms: our clock when the body was complete.
    changed_ms: our clock when this price was first seen, unchanged ever since (see `sources.freshness`); None: not
    watched. volume: what the source says was traded lately, in the base currency; None: it does not say.
    """

    pair: Pair
    source: str
    price: Decimal
    received_ms: int
    source_time_ms: int | None = None
    changed_ms: int | None = None
    bid: Decimal | None = None
    ask: Decimal | None = None
    last: Decimal | None = None
    volume: Decimal | None = None

    def as_of_ms(self) -> int:
        """The time this quote speaks for: the source's where it gives one, else when we received it."""
        said = self.source_time_ms
        return self.received_ms if said is None or said > self.received_ms else said


class SourceFailure(Struct, frozen=True, kw_only=True):
    """A source that was asked and gave no usable quote: every source asked ends as a `Quote` or as one of these."""

    pair: Pair
    source: str
    code: FailureCode
    detail: str = ""
    elapsed_ms: int = 0


class Feed(Struct, frozen=True, kw_only=True):
    """One published pair and its rules. Times in milliseconds, fractions in basis points.

    decimals: on-chain scale; a price p is stored as the integer p * 10**decimals.
    heartbeat_ms: a new answer is due at least this often; older than it, the answer is stale.
    deviation_bps: movement from the standing answer that calls for a round before the heartbeat.
    min_contributors: fewest reporters with a price for the contract to accept one (at least 2f + 1).
    min_sources / wanted_sources: quotes a fetcher needs, and tries for, before it reports a price.
    min_price / max_price: the declared magnitude; outside it a quote is refused.
    policy: what the silence of one registered reporter does: see `core.reporting`. The same for all feeds of a group.
    signal: strategies decide it, and it may jump within its range: the contract's breaker has no limits for it.
    unchanged_bps: a reporter calls a price that is within this of the standing answer "unchanged"; 0: only the same.
    outlier_floor_bps: the median-absolute-deviation rule never rejects a quote nearer than this.
    aggregate: how a fetcher draws its answer from the quotes that count. trust: by source, what it weighs where the
    aggregate is by trust; one that is not named weighs 1.
    wanted_contributors: reporters wanted behind an answer: with fewer it is degraded. 0: no more than required.
    max_jump_bps: a quote further than this from the last answer, grown with the square root of the time since (see
    `fetchers.jumps`), is refused unless most others agree with it.

    Three clocks judge a quote, each with a limit up to which it is fresh, and one after which it has expired:
    …_quote_age_ms: from the time it speaks for (the source's own, where it gives one) to the moment;
    …_receipt_age_ms: from its receipt to the moment; …_unchanged_ms: since its price last changed.
    """

    pair: Pair
    decimals: int = 8
    heartbeat_ms: int = 60_000
    deviation_bps: int = 50
    min_contributors: int = 3
    min_sources: int = 2
    wanted_sources: int = 3
    min_price: Decimal = Decimal("0.00000001")
    max_price: Decimal = Decimal("100000000")
    outlier_floor_bps: int = 50
    unchanged_bps: int = 0
    max_spread_bps: int = 150
    fresh_quote_age_ms: int = 15_000
    max_quote_age_ms: int = 60_000
    fresh_receipt_age_ms: int = 10_000
    max_receipt_age_ms: int = 60_000
    fresh_unchanged_ms: int = 600_000
    max_unchanged_ms: int = 3_600_000
    max_jump_bps: int = 500
    aggregate: Aggregate = Aggregate.MEDIAN
    trust: dict[str, Decimal] = {}
    wanted_contributors: int = 0
    policy: Policy = Policy.QUORUM
    signal: bool = False
    description: str = ""


class Group(Struct, frozen=True, kw_only=True):
    """Feeds that share rounds, so that one transaction and one set of signatures serve them all.

    grid_ms: moments are multiples of this. max_age_ms: the contract refuses a moment older than this.
    f: how many reporters may lie or be silent; threshold: signatures a round needs (at least 2f + 1).
    """

    name: str
    feeds: tuple[Feed, ...]
    f: int = 1
    threshold: int = 3
    grid_ms: int = 10
    max_age_ms: int = 60_000

    @property
    def strict(self) -> bool:
        """Whether one silent reporter stops the group's rounds."""
        return any(feed.policy is Policy.STRICT for feed in self.feeds)

    def feed(self, pair: str) -> Feed | None:
        return next((feed for feed in self.feeds if feed.pair == pair), None)

    def moment_at(self, now_ms: int) -> int:
        """The moment on this group's grid at or just before `now_ms`."""
        return now_ms - now_ms % self.grid_ms


class Deployment(Struct, frozen=True, kw_only=True):
    """Which contract, on which chain, in which history. Records are keyed by it, so that an old database never speaks
    for a new chain that happens to reuse a chain id and an address."""

    chain_id: int
    address: str
    block_hash: str

    @property
    def id(self) -> str:
        return f"{self.chain_id}:{self.address.lower()}:{self.block_hash[:18]}"


def checked_price(value: Decimal) -> Decimal:
    """`value`, if it can be a price. Raises `InvalidPriceError`: zero, negative, NaN, infinite or absurd."""
    if not value.is_finite():
        raise InvalidPriceError(f"{value} is not a finite number")
    if value <= 0:
        raise InvalidPriceError(f"{value} is not positive")
    if not MIN_PRICE <= value <= MAX_PRICE:
        raise InvalidPriceError(f"{value:.6E} is absurd: prices lie between {MIN_PRICE:E} and {MAX_PRICE:E}")
    return value


class SignedReport(Struct, frozen=True, kw_only=True):
    """One reporter's signed observations for one moment of one group. `contracts.report` hashes, signs and recovers it.

    prices: one integer a feed in the group's order, scaled by the feed's decimals; 0 means "none".
    unchanged: bit i set means "feed i equals the answer that stands since previous_moment"; its price is 0 then.
    group_hash, evidence_root: 32 bytes as 0x-hex. signature: r (32) and vs (32) as 0x-hex (EIP-2098).
    reporter: the address the sender says it signed with; receivers recover it and never believe this field.
    """

    group: str
    group_hash: str
    previous_moment: int
    moment: int
    prices: tuple[int, ...]
    reporter: str
    signature: str
    unchanged: int = 0
    evidence_root: str = "0x" + "00" * 32
