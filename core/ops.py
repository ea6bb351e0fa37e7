"""What every process shows its operators: `/live`, `/ready`, `/health`, `/metrics`.

`/live`    200 while the event loop turns: restart the process when it does not.
`/ready`   200 when the service can do its work, else 503: send it no traffic meanwhile.
`/health`  each dependency with its state and latency; 200 when all are up or degraded, 503 when one that the service
           cannot do without is down. The same JSON shape for all; what a service adds stands beside it.
`/metrics` Prometheus text, from this service's own registry.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field

import uvicorn
from fastapi import FastAPI, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Info, generate_latest

from core.clock import Clock, SystemClock, rfc3339
from core.errors import FairmarkError, StartError
from core.problems import install_problem_handlers
from core.types import Mode

VERSION = "0.1.0"

Check = Callable[[], Awaitable[str]]
"""Returns a short detail when the dependency is well; raises when it is not."""


@dataclass(frozen=True)
class _Dependency:
    check: Check
    required: bool
    timeout_s: float


@dataclass
class Ops:
    """One service's health and metrics. Built by the composition, filled by the service, served by `serve`."""

    service: str
    mode: Mode | str
    clock: Clock = field(default_factory=SystemClock)
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    ready: bool = False
    was_ready: bool = False
    not_ready_because: str = "starting"
    _dependencies: dict[str, _Dependency] = field(default_factory=dict)
    _shown: dict[str, Callable[[], object]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        Info("fairmark_build", "version, service and mode", registry=self.registry).info(
            {"version": VERSION, "service": self.service, "mode": str(self.mode)}
        )

    def depend(self, name: str, check: Check, *, required: bool = True, timeout_s: float = 2.0) -> None:
        """Show `name` in `/health`. required: the service cannot do its work without it."""
        self._dependencies[name] = _Dependency(check, required, timeout_s)

    def show(self, name: str, value: Callable[[], object]) -> None:
        """Show a member of `/health` of this service's own, as JSON of what `value` returns."""
        self._shown[name] = value

    def set_ready(self) -> None:
        self.ready = self.was_ready = True

    def set_not_ready(self, because: str) -> None:
        self.ready, self.not_ready_because = False, because

    async def health(self) -> tuple[bool, dict[str, object]]:
        """Whether the service can work, and the JSON shape of `/health`."""
        names = list(self._dependencies)
        results = await asyncio.gather(*(self._probe(self._dependencies[name]) for name in names))
        dependencies = dict(zip(names, results, strict=True))
        down = [name for name in names if dependencies[name]["status"] != "up"]
        fatal = [name for name in down if self._dependencies[name].required]
        status = "down" if fatal else "degraded" if down or not self.ready else "up"
        return not fatal, {
            "service": self.service,
            "mode": str(self.mode),
            "status": status,
            "ready": self.ready,
            "version": VERSION,
            "time": rfc3339(self.clock.now_ms()),
            "dependencies": dependencies,
            **{name: value() for name, value in self._shown.items()},
        }

    @staticmethod
    async def _probe(dependency: _Dependency) -> dict[str, object]:
        started = time.perf_counter()
        try:
            async with asyncio.timeout(dependency.timeout_s):
                status, detail = "up", await dependency.check()
        except TimeoutError:
            status, detail = "down", f"no answer within {dependency.timeout_s:g} s"
        except FairmarkError as error:
            status, detail = "down", f"{error.code}: {error}"
        except Exception as error:  # noqa: BLE001 - a check may fail in any way, and health must still answer
            status, detail = "down", f"{type(error).__name__}: {error}"
        latency = round((time.perf_counter() - started) * 1000, 2)
        return {"status": status, "required": dependency.required, "latency_ms": latency, "detail": detail}


def add_ops_routes(app: FastAPI, ops: Ops) -> None:
    """Serve `ops` on `app`."""

    @app.get("/live", tags=["operations"], summary="The event loop turns")
    async def live() -> dict[str, str]:
        return {"status": "live", "service": ops.service, "mode": str(ops.mode)}

    @app.get("/ready", tags=["operations"], summary="The service can do its work")
    async def ready() -> JSONResponse:
        body = {"ready": ops.ready, "service": ops.service, "mode": str(ops.mode)}
        if not ops.ready:
            body["because"] = ops.not_ready_because
        return JSONResponse(body, status_code=200 if ops.ready else 503)

    @app.get("/health", tags=["operations"], summary="Each dependency, its latency, the mode")
    async def health() -> JSONResponse:
        healthy, body = await ops.health()
        return JSONResponse(body, status_code=200 if healthy else 503)

    @app.get("/metrics", tags=["operations"], summary="Prometheus metrics")
    async def metrics() -> Response:
        return Response(generate_latest(ops.registry), media_type=CONTENT_TYPE_LATEST)


def ops_app(ops: Ops) -> FastAPI:
    """An application with nothing but the operators' endpoints: for services that clients do not call."""
    app = FastAPI(title=f"Fairmark {ops.service}", version=VERSION, docs_url=None, redoc_url=None, openapi_url=None)
    add_ops_routes(app, ops)
    install_problem_handlers(app)
    return app


def listen(host: str, port: int, what: str) -> socket.socket:
    """A bound TCP socket (port 0: any free one). Raises `StartError` naming the service and the setting to change."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # the protocol is named, because asyncio sets TCP_NODELAY only where it is: else small answers wait 40 ms
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRINUSE:
            raise StartError(
                f"{what}: port {port} on {host} is in use; stop what listens there or set another port"
            ) from None
        raise StartError(f"{what}: cannot listen on {host}:{port}: {error.strerror}") from error
    return sock


class _Server(uvicorn.Server):
    """Signals belong to the process, not to one of the servers in it."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.asynccontextmanager
async def serve(app: FastAPI, host: str, port: int, what: str) -> AsyncIterator[int]:
    """Serve `app` while the block runs; yields the port it listens on. Raises `StartError`."""
    sock = listen(host, port, what)
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=2,
        server_header=False,
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve(sockets=[sock]), name=f"http:{what}")
    try:
        while not server.started:
            if task.done():
                await task
                raise StartError(f"{what}: the HTTP server ended while it started")
            await asyncio.sleep(0.005)
        yield sock.getsockname()[1]
    finally:
        server.should_exit = True
        await asyncio.wait([task], timeout=4)
        if not task.done():
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        sock.close()
