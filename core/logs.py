"""Structured logs: JSON lines for machines, readable ones on a terminal. Every line carries service and mode."""

from __future__ import annotations

import logging
import sys
from typing import Any

import structlog

from core.types import Mode

Logger = structlog.stdlib.BoundLogger

_SECRET_WORDS = ("key", "token", "secret", "password", "authorization")


def _redact(_logger: object, _name: str, event: dict[str, Any]) -> dict[str, Any]:
    for name in event:
        if any(name.lower() == word or name.lower().endswith("_" + word) for word in _SECRET_WORDS):
            event[name] = "***"
    return event


def configure_logging(level: str = "info", style: str = "auto", mode: str = "undecided") -> None:
    """Set up structlog and route the standard library's logs (uvicorn, pika, web3) through it, to standard error.

    level: debug, info, warning or error. style: `json`, `console`, or `auto` (console on a terminal). mode: stands in
    every line that does not name its own.
    """

    def with_mode(_logger: object, _name: str, event: dict[str, Any]) -> dict[str, Any]:
        event.setdefault("mode", mode)
        return event

    console = style == "console" or (style == "auto" and sys.stderr.isatty())
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        with_mode,
        _redact,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    final: list[Any] = (
        # plain: the pretty tracebacks show local variables, keys among them, and take a second to draw
        [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
        if console
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *final],
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for noisy in ("httpx", "httpcore", "aiosqlite", "alembic", "web3", "uvicorn.error", "asyncio"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, root.level))
    logging.getLogger("pika").setLevel(logging.CRITICAL)  # it logs one refused connection seven times; broker.link once


def get_logger(service: str, mode: Mode | str) -> Logger:
    """A logger bound to its service and mode."""
    logger: Logger = structlog.stdlib.get_logger(f"fairmark.{service}").bind(service=service, mode=str(mode))
    return logger
