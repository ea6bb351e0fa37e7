"""What clients read: the JSON documents of the API, described once for OpenAPI and used to write the answers."""

from __future__ import annotations

from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from core.problems import ProblemDocument
from core.types import Aggregate, Mode

_PRICE: dict[str, JsonValue] = {
    "pair": "BTC/USD",
    "price": "71234.56000000",
    "decimals": 8,
    "group": "majors",
    "round": 1204,
    "observed_at": "2024-03-13T11:10:45.390Z",
    "updated_at": "2024-03-13T11:10:45.000Z",
    "age_seconds": 3.217,
    "contributors": 4,
    "spread_bps": 3,
    "mode": "live",
    "stale": False,
    "status": "ok",
    "confidence": 1.0,
    "troubles": [],
    "transaction": "0x5c504ed432cb51138bcf09aa5e8a410dd4a1e204ef84bfed1be16dfba1b22060",
}
_FEED: dict[str, JsonValue] = {
    "pair": "BTC/USD",
    "slug": "BTC-USD",
    "group": "majors",
    "index": 0,
    "decimals": 8,
    "heartbeat_seconds": 60,
    "stale_after_seconds": 120,
    "deviation_bps": 50,
    "min_contributors": 3,
    "aggregate": "median",
    "trust": {},
    "description": "",
}
_DEPLOYMENT: dict[str, JsonValue] = {"chain_id": 31337, "contract": "0x5FbDB2315678afecb367f032d93F642f64180aa3"}


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Trouble(BaseModel):
    """Why something has no value, where it began, and since when."""

    reporter: str = Field(description="where it began: a reporter, a signal, or the feed itself")
    code: str = Field(description="reporter_stopped, data_outdated, signal_unreachable, signal_invalid or no_quorum")
    since: str = Field(description="RFC 3339")
    via: list[str] = Field(description="through whom it reached the feed, the nearest first")
    detail: str


class PriceStatus(StrEnum):
    """ok; degraded: fewer reporters or sources stand behind it than are wanted, and no fewer than required; stale: too
    old to act on; halted: the contract is paused and answers nobody on chain; error: a strict feed misses a reporter,
    and nothing is published until that is resolved."""

    OK = "ok"
    DEGRADED = "degraded"
    STALE = "stale"
    HALTED = "halted"
    ERROR = "error"


class Price(_Document):
    """A feed's standing answer, as the contract holds it. Do not act on it where `stale` is true."""

    model_config = ConfigDict(extra="forbid", frozen=True, json_schema_extra={"examples": [_PRICE]})

    pair: str = Field(description="what is priced in what")
    price: str = Field(description="one unit of the base costs so many of the quote; exact, with all its decimals")
    decimals: int = Field(description="the contract holds price × 10^decimals")
    group: str = Field(description="feeds of a group share rounds")
    round: int = Field(description="the round that wrote this answer; later ones may have found it unchanged")
    observed_at: str = Field(
        description="the last moment for which the reporters signed this price, or called it unchanged (RFC 3339)"
    )
    updated_at: str = Field(description="the same as the contract tells it, in whole seconds (RFC 3339)")
    age_seconds: float = Field(description="since observed_at, by our wall clock when this was written")
    contributors: int = Field(description="reporters with a price in the round that wrote this answer")
    spread_bps: int = Field(description="from the lowest to the highest of their prices, in basis points")
    mode: Mode = Field(description="live: real exchanges; test: simulated ones, worth nothing")
    stale: bool = Field(
        description="older than heartbeat and grace together, or halted, or in error, or the chain is out of reach"
    )
    status: PriceStatus
    confidence: float = Field(
        description="the part of the wanted reporters, and of the sources they want, that stands behind it: 0 to 1, "
        "cut to two places; no probability"
    )
    troubles: tuple[Trouble, ...] = Field(default=(), description="in error: which reporters are missing, since when")
    transaction: str | None = Field(description="that brought the answer on chain; null where it is not known (yet)")


class RefreshedPrice(Price):
    """The new price, and the attempt that brought it."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{**_PRICE, "attempt": "0193f6a0c1b74e0f9d3c5a7b1e2d4f60"}]}
    )

    attempt: str = Field(description="see GET /v1/attempts/{id} for its whole evidence")


class GroupRound(_Document):
    """One group as of its last round: every price of the group in the same document was read with it, at once."""

    group: str
    round: int
    observed_at: str | None = Field(description="the moment of the last round; null before the first")
    halted: bool
    read_at: str = Field(description="when the chain was read (RFC 3339)")


class Missing(_Document):
    """A published feed without a price, and why."""

    pair: str
    code: str = Field(description="no_reading: the chain was not read yet; price_unset: never priced yet")


class Prices(_Document):
    """All prices; those of a group at one round."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "mode": "live",
                    "groups": [
                        {
                            "group": "majors",
                            "round": 1204,
                            "observed_at": "2024-03-13T11:10:45.390Z",
                            "halted": False,
                            "read_at": "2024-03-13T11:10:48.101Z",
                        }
                    ],
                    "prices": [_PRICE],
                    "missing": [],
                }
            ]
        }
    )

    mode: Mode
    groups: list[GroupRound]
    prices: list[Price]
    missing: list[Missing]


class FeedDocument(_Document):
    """A published pair and its rules."""

    pair: str
    slug: str = Field(description="as URLs name it")
    group: str
    index: int = Field(description="position in the group's signed reports")
    decimals: int
    heartbeat_seconds: float = Field(description="a new answer is due at least this often")
    stale_after_seconds: float = Field(description="an answer older than this is stale")
    deviation_bps: int = Field(description="movement that calls for a round before the heartbeat")
    min_contributors: int = Field(description="fewest reporters with a price")
    aggregate: Aggregate = Field(description="how a reporter draws its price from its sources' quotes")
    trust: dict[str, str] = Field(description="by source, what it weighs where the aggregate is trust; others weigh 1")
    description: str


class Feeds(_Document):
    """What is published here, and the contract that holds it."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"mode": "live", **_DEPLOYMENT, "feeds": [_FEED]}]},
    )

    mode: Mode
    chain_id: int
    contract: str
    feeds: list[FeedDocument]


class Attempt(BaseModel):
    """An attempt with its whole evidence: raw signed reports, quotes, failures, timings. Further members are the
    aggregator's record as it stands."""

    model_config = ConfigDict(extra="allow")

    id: str
    group: str
    moment: int = Field(description="milliseconds since the Unix epoch")
    mode: Mode
    state: str
    code: str | None = Field(default=None, description="why it failed")
    round: int | None = Field(default=None, description="where it was accepted")
    transaction: str | None = None


class AttemptSummary(BaseModel):
    """An attempt in short, as the aggregator tells it: `GET /v1/attempts/{id}` has the whole."""

    model_config = ConfigDict(extra="allow")

    id: str
    group: str
    mode: Mode
    cause: str = Field(description="what started it: a request, a heartbeat, a deviation")
    state: str = Field(description="`accepted` and `failed` are its ends")
    code: str | None = Field(description="why it failed")
    detail: str
    moment: int = Field(description="milliseconds since the Unix epoch, as the other times")
    started_ms: int
    ended_ms: int | None = Field(description="null while it runs")
    round: int | None = Field(description="where it was accepted")
    transaction: str | None
    answers: dict[str, str] = Field(description="by pair")
    feeds_without_answer: dict[str, str] = Field(description="by pair, why")


class ReporterRoot(BaseModel):
    """A reporter's evidence root in a round."""

    reporter: str
    root: str


class ProvenQuote(BaseModel):
    """A quote that a reporter counted, and the proof that it signed so."""

    reporter: str
    fetcher: str
    feed: str = Field(description="or the conversion rate that the quote was counted for")
    source: str
    pair: str = Field(description="the market that was read")
    price: str = Field(description="as read, in units of the market's quote currency")
    scaled_price: str = Field(description="the same as the leaf has it: an integer at 36 decimals")
    source_time_ms: int | None = Field(description="the source's own time; null, and 0 in the leaf, where it gave none")
    received_ms: int
    leaf: str
    proof: list[str]


class Evidence(BaseModel):
    """The quotes behind a feed's answer in a round, each with what `verifyObservation` needs."""

    group: str
    round: int
    moment: int = Field(description="milliseconds since the Unix epoch")
    mode: Mode
    chain_id: int
    contract: str
    leaf_types: list[str] = Field(
        description="a leaf is keccak256(keccak256(abi.encode(feed, source, pair, scaled price, source time, receipt)))"
    )
    roots: list[ReporterRoot] = Field(description="all of the round's, in the order that the contract wants")
    quotes: list[ProvenQuote]
    not_kept: list[str] = Field(description="reporters whose quotes the bounded record does not hold")


class Equivocation(BaseModel):
    """Two different reports that one reporter signed for one group and moment."""

    model_config = ConfigDict(extra="allow")

    deployment: str
    mode: Mode
    group: str
    moment: int = Field(description="milliseconds since the Unix epoch")
    signer: str = Field(description="recovered from both signatures, in lower case")
    attempt: str = Field(description="where they came in: see GET /v1/attempts/{id}")
    seen_ms: int
    first: dict[str, JsonValue] = Field(description="as signed (EIP-712), in the order in which they came")
    second: dict[str, JsonValue]
    round: int | None = Field(default=None, description="that the attempt brought without them")


class Update(BaseModel):
    """The newest round that a quorum signed, whether a block has it or not, and the transaction that carries it.

    `submitIfNewer` returns false, and does nothing, where the contract has moved on already."""

    model_config = ConfigDict(extra="allow")

    group: str
    mode: Mode
    chain_id: int
    to: str = Field(description="the contract")
    function: str
    calldata: str = Field(description="0x-hex, selector included")
    previous_moment: int = Field(description="of the round that it follows, in milliseconds; 0: the first")
    moment: int = Field(description="milliseconds since the Unix epoch")
    feeds: list[str] = Field(description="in the order of the reports' prices")
    answers: dict[str, str] = Field(description="the median of each feed that has one")
    reports: list[JsonValue] = Field(description="as signed: prices are integers scaled by the feed's decimals")
    hints: str = Field(description="0x-hex: for each feed, which report has the median; ff: none")


class Signal(BaseModel):
    """A number that is no price, made of its reporters' productions for one period. It may be zero or negative."""

    signal: str
    state: str = Field(description="ok; waiting: no value yet; error: nothing is published, see `troubles`")
    since: str = Field(description="when it entered this state (RFC 3339)")
    value: str | None = Field(description="with all its decimals; null unless the state is ok")
    decimals: int
    minimum: str
    maximum: str
    policy: str = Field(description="strict: one reporter's silence is an error; quorum: enough must remain")
    period_ms: int
    of: str | None = Field(description="the start of the period that the last value is of (RFC 3339)")
    age_seconds: float | None
    contributors: list[str] = Field(description="the reporters in the last value")
    troubles: list[Trouble]


class Reporter(BaseModel):
    """A registered reporter of a signal."""

    feed: str
    name: str
    address: str = Field(description="of the key that it signs with")
    state: str = Field(description="waiting, running, late, stopped, failing, outdated or deregistered")
    since: str
    period_ms: int
    depends: list[str] = Field(description="every signal that its productions are made of")
    registered: str
    produced: str | None = Field(description="the start of the period that it produced for last (RFC 3339)")
    data_of: str | None = Field(description="the time of the oldest datum in that (RFC 3339)")
    value: str | None
    trouble: Trouble | None


class SignalProblem(ProblemDocument):
    """No value now: the members of a signal stand beside those of the problem."""

    signal: str | None = None
    state: str | None = None
    troubles: list[Trouble] = Field(default_factory=list)


class FeedStanding(BaseModel):
    """A strict feed, as the aggregator sees it."""

    feed: str
    error: bool
    troubles: list[Trouble]


class UnknownPairProblem(ProblemDocument):
    """The pair is not published here; `known` names those that are."""

    known: list[str]


class RefreshProblem(ProblemDocument):
    """No new price. `last` is the standing answer, marked stale because it is not what was asked for."""

    attempt: str | None = Field(default=None, description="the attempt's id, where one was begun")
    last: Price | None = Field(default=None, description="the last good answer, if there is one")
