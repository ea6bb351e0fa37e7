"""One TOML file, validated whole at start: every problem is listed at once with its place.

Environment variables override the file: `FAIRMARK_` and the path with `__` between its parts, as in
`FAIRMARK_BFF__PORT=9000` or `FAIRMARK_FETCHERS__A__KEY_FILE=/run/secrets/a`. Secrets come from the environment or from
files (`…_file`), never from the TOML file itself.
"""

from core.settings.feeds import FeedSettings, GroupSettings, SignalSettings, ValidationSettings, feed_of
from core.settings.loading import NOT_SETTINGS, load
from core.settings.market import LinesSettings, MarketSettings
from core.settings.secrets import PREFIX, SECRETS, secret, secrets_of
from core.settings.servers import (
    BrokerSettings,
    ChainSettings,
    LogSettings,
    SimulatorSettings,
    StoreSettings,
    SubmissionSettings,
)
from core.settings.services import (
    AggregatorSettings,
    BffSettings,
    FetcherSettings,
    SourcesSettings,
    StrategySettings,
    StreamsSettings,
    TraderSettings,
)
from core.settings.whole import Settings

__all__ = [
    "NOT_SETTINGS",
    "PREFIX",
    "SECRETS",
    "AggregatorSettings",
    "BffSettings",
    "BrokerSettings",
    "ChainSettings",
    "FeedSettings",
    "FetcherSettings",
    "GroupSettings",
    "LinesSettings",
    "LogSettings",
    "MarketSettings",
    "Settings",
    "SignalSettings",
    "SimulatorSettings",
    "SourcesSettings",
    "StoreSettings",
    "StrategySettings",
    "StreamsSettings",
    "SubmissionSettings",
    "TraderSettings",
    "ValidationSettings",
    "feed_of",
    "load",
    "secret",
    "secrets_of",
]
