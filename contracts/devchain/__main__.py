"""`python -m contracts.devchain`: see the package."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import re
import signal
import sys

from contracts.devchain.chain import DevChain
from contracts.devchain.service import ChainService
from core.clock import SystemClock
from core.errors import StartError
from core.logs import configure_logging, get_logger
from core.ops import Ops, serve

PARENT_POLL_S = 0.5


def _address(text: str) -> str:
    if not re.fullmatch(r"0x[0-9a-fA-F]{40}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no address")
    return text


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m contracts.devchain", description="A chain for development.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8545, help="0: any free one; the log names it")
    parser.add_argument("--chain-id", type=int, default=31337)
    parser.add_argument("--fund", type=_address, action="append", default=[], help="starts with 1,000,000 ether")
    parser.add_argument("--clock-offset-ms", type=int, default=0, help="shifts the blocks' time: replays")
    parser.add_argument("--mode", default="test", help="which mode's prices are kept here: for logs and health")
    parser.add_argument("--log-level", default="info", choices=["debug", "info", "warning", "error"])
    parser.add_argument("--log-format", default="auto", choices=["auto", "json", "console"])
    parser.add_argument("--die-with-parent", action="store_true", help="end when the starting process ends")
    return parser


async def _watch_parent(parent: int, stop: asyncio.Event) -> None:
    while os.getppid() == parent:  # noqa: ASYNC110 - the system tells of a parent's end in no other portable way
        await asyncio.sleep(PARENT_POLL_S)
    stop.set()


async def run(options: argparse.Namespace) -> None:
    """Serve until SIGINT or SIGTERM, or until the parent is gone. Raises `StartError`."""
    parent = os.getppid()
    log = get_logger("devchain", options.mode)
    clock = SystemClock(options.clock_offset_ms)
    ops = Ops("devchain", options.mode, clock)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):  # Windows
            loop.add_signal_handler(number, stop.set)
    service = ChainService(DevChain(clock, chain_id=options.chain_id, funded=options.fund), ops)
    watcher = asyncio.create_task(_watch_parent(parent, stop)) if options.die_with_parent else None
    try:
        async with serve(service.app, options.host, options.port, "development chain") as port:
            ops.set_ready()
            log.info("serving", host=options.host, port=port, chain_id=options.chain_id)
            await stop.wait()
    finally:
        service.close()
        if watcher is not None:
            watcher.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watcher
    log.info("stopped")


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    configure_logging(options.log_level, options.log_format)
    try:
        asyncio.run(run(options))
    except StartError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
