"""RabbitMQ nodes that a test starts, breaks and ends itself: own ports, own folders, own cookie, own epmd."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import socket
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pika

from tests.e2e.system import free_port

BIN = Path("/usr/lib/rabbitmq/bin")
START_S = 90.0  # some ten seconds where nothing else runs


class RabbitNode:
    """One node. `peers`: the names of all nodes of its cluster, its own among them."""

    def __init__(self, folder: Path, name: str, epmd_port: int, cookie: str, peers: Sequence[str] = ()) -> None:
        self.name = f"{name}@localhost"
        self.port = free_port()
        self.folder = folder / name
        self.folder.mkdir(parents=True)
        (self.folder / ".erlang.cookie").write_text(cookie)
        (self.folder / ".erlang.cookie").chmod(0o400)
        (self.folder / "plugins").write_text("[].")
        lines = ["loopback_users = none", f"listeners.tcp.default = 127.0.0.1:{self.port}", "log.console = false"]
        if peers:
            lines.append("cluster_formation.peer_discovery_backend = classic_config")
            lines += [f"cluster_formation.classic_config.nodes.{n} = {peer}" for n, peer in enumerate(peers, 1)]
            lines.append("cluster_formation.randomized_startup_delay_range.min = 0")
            lines.append("cluster_formation.randomized_startup_delay_range.max = 1")
        (self.folder / "rabbitmq.conf").write_text("\n".join(lines) + "\n")
        self.environ = {
            **os.environ,
            "HOME": str(self.folder),
            "RABBITMQ_NODENAME": self.name,
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "plugins"),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "data"),
            "RABBITMQ_LOG_BASE": str(self.folder / "log"),
            "RABBITMQ_PID_FILE": str(self.folder / "pid"),
            "RABBITMQ_CONF_ENV_FILE": str(self.folder / "none"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 +sbwt none",
            "ERL_EPMD_PORT": str(epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_FLAGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            "LANG": "C.UTF-8",
        }
        self._process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}/"

    async def launch(self) -> None:
        """Start it, without waiting for it."""
        with (self.folder / "output").open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                BIN / "rabbitmq-server", env=self.environ, stdout=output, stderr=output, start_new_session=True
            )

    async def started(self) -> None:
        """Return when it takes connections."""
        try:
            async with asyncio.timeout(START_S):
                while not await asyncio.to_thread(self._answers):
                    assert self._process is not None
                    assert self._process.returncode is None, (self.folder / "output").read_text()[-3000:]
                    await asyncio.sleep(0.1)
        except TimeoutError:
            raise AssertionError((self.folder / "output").read_text()[-3000:]) from None

    async def start(self) -> None:
        await self.launch()
        await self.started()

    def _answers(self) -> bool:
        with socket.socket() as sock:  # it is not yet up: pika would write about that at length
            sock.settimeout(1)
            if sock.connect_ex(("127.0.0.1", self.port)) != 0:
                return False
        parameters = pika.ConnectionParameters("127.0.0.1", self.port, socket_timeout=2, blocked_connection_timeout=2)
        try:
            pika.BlockingConnection(parameters).close()
        except (pika.exceptions.AMQPError, OSError):
            return False
        return True

    def signal(self, number: int) -> None:
        """To the whole node: script and virtual machine."""
        if self._process is not None and self._process.returncode is None:
            os.killpg(self._process.pid, number)

    async def kill(self) -> None:
        """As a power cut ends it."""
        self.signal(signal.SIGKILL)
        if self._process is not None:
            await self._process.wait()
        self._process = None

    async def keeps_its_queues(self) -> None:
        """Return when a kill no longer costs the queues made so far their leader.

        RabbitMQ writes down half a second late which Raft members it has; one that it does not know at its next start
        begins anew, and on a single node calls no election (docs/architecture.md, "When a server goes away").
        """
        await self.ctl("eval", "[ok = dets:sync(Table) || Table <- dets:all()].")

    async def ctl(self, *arguments: str) -> str:
        """Run `rabbitmqctl`."""
        process = await asyncio.create_subprocess_exec(
            BIN / "rabbitmqctl", "--node", self.name, "--quiet", *arguments,
            env=self.environ, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        output, _ = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode == 0, output.decode()
        return output.decode()


@contextlib.asynccontextmanager
async def rabbit_nodes(folder: Path, count: int = 1) -> AsyncIterator[list[RabbitNode]]:
    """So many nodes, running; of several, one cluster."""
    epmd_port, cookie, mark = free_port(), secrets.token_hex(10).upper(), secrets.token_hex(3)
    names = [f"t{mark}{n}" for n in range(count)]
    peers = [f"{name}@localhost" for name in names] if count > 1 else []
    nodes = [RabbitNode(folder, name, epmd_port, cookie, peers) for name in names]
    epmd = await asyncio.create_subprocess_exec("epmd", "-port", str(epmd_port), "-address", "127.0.0.1")
    try:
        for node in nodes:
            await node.launch()
        await asyncio.gather(*(node.started() for node in nodes))
        yield nodes
    finally:
        for node in nodes:
            await node.kill()
        epmd.kill()
        await epmd.wait()
