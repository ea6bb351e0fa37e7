"""The benchmark's senders: lines of JSON over TCP, as fast as they are read or at a given rate, in a process each."""

from __future__ import annotations

import contextlib
import random
import socket
import sys
import time

SYMBOLS = ("BTCUSDT", "DOGEUSDT", "TONUSDT", "SOLUSDT", "ETHUSDT")
_STEPS = {
    "BTCUSDT": (6_500_000, 2),
    "DOGEUSDT": (15_000, 5),
    "TONUSDT": (55_000, 4),
    "SOLUSDT": (15_000, 2),
    "ETHUSDT": (350_000, 2),
}


def lines(count: int, seed: int, now_ms: int, spread_ms: int = 1_000) -> bytes:
    """`count` lines of the five pairs, whose times lie in the `spread_ms` before now."""
    rng = random.Random(seed)
    made = []
    steps = {symbol: first for symbol, (first, _) in _STEPS.items()}
    for number in range(count):
        symbol = SYMBOLS[number % len(SYMBOLS)]
        digits = _STEPS[symbol][1]
        steps[symbol] += rng.randrange(-5, 6)
        whole, rest = divmod(steps[symbol], 10**digits)
        time_ms = now_ms - spread_ms + number * spread_ms // count
        made.append(f'{{"symbol":"{symbol}","price":{whole}.{rest:0{digits}d},"timestamp":{time_ms}}}\n')
    return "".join(made).encode()


def send(port: int, count: int, rate: int, seed: int) -> None:
    """Listen on `port`, and send to the first who connects. rate: lines a second; 0: as fast as they are read."""
    with socket.create_server(("127.0.0.1", port)) as server:
        print("listening", flush=True)
        connection, _ = server.accept()
        with connection:
            if not rate:
                connection.sendall(lines(count, seed, time.time_ns() // 1_000_000))
            else:
                _paced(connection, count, rate, seed)
            connection.recv(1)  # until the reader goes


def _paced(connection: socket.socket, count: int, rate: int, seed: int) -> None:
    started, sent = time.monotonic(), 0
    while sent < count:
        due = min(count, int((time.monotonic() - started) * rate))
        if due > sent:
            connection.sendall(lines(due - sent, seed + sent, time.time_ns() // 1_000_000, 10))
            sent = due
        time.sleep(0.01)


if __name__ == "__main__":
    with contextlib.suppress(OSError):  # the reader went
        send(*(int(argument) for argument in sys.argv[1:5]))
