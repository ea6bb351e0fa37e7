"""Commands of the reporter network: generators, strategies, the trader. See docs/reporters.md."""
# ruff: noqa: PLC0415 - commands import what they run when they run: see `fairmark.cli.app`

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from core.reporting import FeedRule, Policy
from fairmark.cli.app import DEFAULT_CONFIG, Config, app, settings_from
from fairmark.runtime import run_until_stopped

if TYPE_CHECKING:
    from core.settings import Settings, SignalSettings


class Rules(StrEnum):
    """As `signals.strategy.Rule`; repeated here so that naming a command does not load them all."""

    MEAN = "mean"
    MEDIAN = "median"
    SUM = "sum"
    SIGN = "sign"


Host = Annotated[str, typer.Option("--host", help="The address to listen on.")]
Period = Annotated[
    float | None, typer.Option("--period", help="Seconds, aligned to UTC; default: the feed's.", show_default=False)
]
FeedName = Annotated[str | None, typer.Option("--feed", help="The feed, where several are configured.")]


def chosen(settings: Settings, feed: str | None, **changes: Any) -> tuple[str, SignalSettings]:
    """A configured feed, changed by a command's options. Raises `StartError`."""
    from core.errors import StartError
    from core.settings import SignalSettings
    from fairmark.signals import signal_settings

    known = signal_settings(settings)
    name = feed or next(iter(known))
    if name not in known:
        raise StartError(f"there is no feed {name}; known: {', '.join(sorted(known))}")
    if feed is None and len(known) > 1:
        raise StartError(f"name one with --feed; known: {', '.join(sorted(known))}")
    wanted = {**known[name].model_dump(), **{key: value for key, value in changes.items() if value is not None}}
    try:
        return name, SignalSettings.model_validate(wanted)
    except ValueError as error:
        raise StartError(f"the options do not describe a signal: {error}") from None


def _seconds(period: float | None) -> Decimal | None:
    return None if period is None else Decimal(str(period))


@app.command()
def signal(
    port: Annotated[int, typer.Option("--port", "-p", help="Where to listen.", min=0, max=65_535)],
    name: Annotated[str | None, typer.Option("--name", "-n", help="Default: signal-PORT.", show_default=False)] = None,
    host: Host = "127.0.0.1",
    period: Period = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Of its numbers; default: the port.")] = None,
    minimum: Annotated[str | None, typer.Option("--min", help="The least number; default: the feed's.")] = None,
    maximum: Annotated[str | None, typer.Option("--max", help="The greatest number; default: the feed's.")] = None,
    decimals: Annotated[int | None, typer.Option("--decimals", help="Default: the feed's.")] = None,
    feed: FeedName = None,
    config: Config = DEFAULT_CONFIG,
) -> None:
    """Run a generator: a JSON-RPC server whose number is made anew in each period."""
    from fairmark import signals

    settings = settings_from(config)
    changes = {"period_s": _seconds(period), "minimum": minimum, "maximum": maximum, "decimals": decimals}
    _, own = chosen(settings, feed, **changes)
    work = signals.run_signal(
        settings, name or f"signal-{port}", host=host, port=port, seed=port if seed is None else seed, own=own
    )
    run_until_stopped(work)


@app.command()
def strategy(
    name: Annotated[str, typer.Option("--name", "-n", help="What the trader knows this reporter by.")],
    signals: Annotated[
        list[str], typer.Option("--signals", "-s", help="host:port of each signal, with commas or repeated.")
    ],
    trader: Annotated[
        str | None, typer.Option("--trader", help="The trader's URL; default: as configured.", show_default=False)
    ] = None,
    feed: FeedName = None,
    rule: Annotated[Rules, typer.Option("--rule", help="How a decision is made of the signals.")] = Rules.MEAN,
    policy: Annotated[Policy, typer.Option("--policy", help="What one signal's failure does.")] = Policy.STRICT,
    needed: Annotated[int, typer.Option("--needed", help="Signals that must be well, at the least.", min=1)] = 1,
    period: Period = None,
    host: Host = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", "-p", help="Of its /health and /metrics; 0: any.")] = 0,
    config: Config = DEFAULT_CONFIG,
) -> None:
    """Run a strategy: pulls signals, submits one decision in each period. SIGTERM deregisters it, a crash does not.

    Where its feed is on chain, it signs its decisions for the contract, and the aggregator collects them.
    """
    from fairmark import signals as network
    from signals.strategy import Rule

    settings = settings_from(config)
    feed_name, own = chosen(settings, feed, period_s=_seconds(period))
    work = network.run_strategy(
        settings,
        name,
        signals=[one.strip() for each in signals for one in each.split(",") if one.strip()],
        feed=feed_name,
        trader_url=trader,
        host=host,
        port=port,
        rule=Rule(rule.value),
        policy=FeedRule(policy=policy, needed=needed),
        own=own,
    )
    run_until_stopped(work)


@app.command()
def trader(
    period: Period = None,
    policy: Annotated[
        Policy | None, typer.Option("--policy", help="What one reporter's silence does; default: as configured.")
    ] = None,
    host: Annotated[str | None, typer.Option("--host", help="Default: as configured.", show_default=False)] = None,
    port: Annotated[
        int | None, typer.Option("--port", "-p", help="Default: as configured.", show_default=False)
    ] = None,
    config: Config = DEFAULT_CONFIG,
) -> None:
    """Run the trader: the register of strategies, and the median of their decisions. The options hold for each feed.

    Feeds that are on chain need none.
    """
    from fairmark import signals

    settings = settings_from(config)
    feeds = {
        name: chosen(settings, name, period_s=_seconds(period), policy=policy)[1]
        for name in signals.signal_settings(settings)
    }
    own = settings.trader
    run_until_stopped(
        signals.run_trader(settings, feeds, host=host or own.host, port=own.port if port is None else port)
    )
