"""Clustered brokers on this machine: three nodes, each a process with its own port and disk.

They run in the root of `tests.cluster_root`, listen on 127.0.0.1 only, and end with this process,
however it ends. A node can be killed and started again; its disk stays.
"""

from __future__ import annotations

import random
import shutil
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Literal, TypeAlias

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from broker import tether
from broker.address import Address, accepts_connect
from tests.cluster_root import package_version

Kind: TypeAlias = Literal["rabbitmq", "nats"]

SIZE = 3
LONG_S = 120.0

_RABBITMQ = """\
listeners.tcp = none
mqtt.listeners.tcp.1 = 127.0.0.1:{port}
mqtt.allow_anonymous = true
mqtt.max_packet_size_authenticated = 2097152
cluster_formation.peer_discovery_backend = classic_config
cluster_formation.classic_config.nodes.1 = flockwise1@localhost
cluster_formation.classic_config.nodes.2 = flockwise2@localhost
cluster_formation.classic_config.nodes.3 = flockwise3@localhost
log.console = true
log.console.level = info
# There is no /proc in the root.
vm_memory_calculation_strategy = allocated
total_memory_available_override_value = 1GB
vm_memory_high_watermark.absolute = 512MB
disk_free_limit.absolute = 50MB
"""

_NATS = """\
server_name: flockwise{number}
listen: "127.0.0.1:{client}"
jetstream {{ store_dir: "{disk}", max_memory_store: 64MB, max_file_store: 2GB }}
cluster {{
  name: flockwise
  listen: "127.0.0.1:{route}"
  routes: [{routes}]
}}
mqtt {{ listen: "127.0.0.1:{port}", stream_replicas: 3 }}
"""


class Node(ABC):
    """One node: where clients connect to, and a process that can be killed and started again."""

    host = "127.0.0.1"

    def __init__(self, root: Path, home: Path, number: int, port: int) -> None:
        self.number = number
        self.port = port
        self._root = root
        self._home = home
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log_file(self) -> Path:
        """What all its starts have written."""
        return self._home / f"{self.number}.log"

    @property
    def pid(self) -> int:
        """Its process."""
        assert self._process is not None
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether its process runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def serves(self) -> bool:
        """Whether it accepts clients."""
        return accepts_connect(Address(self.host, self.port))

    def start(self) -> None:
        """Start it, for the first time or with what is on its disk."""
        with self.log_file.open("ab") as log:
            self._process = launch(self._root, self._command(), log)

    def kill(self) -> None:
        """Kill it at once."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        tether.release(self._process)

    def close(self) -> None:
        """Kill it if it runs."""
        if self._process is not None and self._process.returncode is None:
            self.kill()

    @abstractmethod
    def _command(self) -> tuple[str, ...]:
        """The command, as seen in the root."""

    def _inside(self, name: str) -> str:
        return "/" + str((self._home / name).relative_to(self._root))


class RabbitMqNode(Node):
    """A node of RabbitMQ; all nodes of a cluster share an epmd and a cookie."""

    def __init__(self, root: Path, home: Path, number: int, ports: list[int]) -> None:
        super().__init__(root, home, number, ports[number - 1])
        self._distribution_port = ports[SIZE + number - 1]
        self._epmd_port = ports[-1]

    def _command(self) -> tuple[str, ...]:
        config = self._home / f"{self.number}.conf"
        config.write_text(_RABBITMQ.format(port=self.port))
        plugins = self._home / "plugins"
        plugins.write_text("[rabbitmq_mqtt].\n")
        disk = self._inside(f"{self.number}.disk")
        return (
            "env",
            f"HOME={self._inside('')}",
            f"ERL_EPMD_PORT={self._epmd_port}",
            "RUNNING_UNDER_SYSTEMD=1",  # the node itself, without a shell around it
            "RABBITMQ_CONF_ENV_FILE=/dev/null",
            f"RABBITMQ_NODENAME=flockwise{self.number}@localhost",
            f"RABBITMQ_DIST_PORT={self._distribution_port}",
            f"RABBITMQ_CONFIG_FILE={self._inside(config.name)}",
            f"RABBITMQ_ENABLED_PLUGINS_FILE={self._inside(plugins.name)}",
            f"RABBITMQ_MNESIA_BASE={disk}",
            f"RABBITMQ_PLUGINS_EXPAND_DIR={disk}/plugins",
            "RABBITMQ_LOGS=-",
            # One scheduler that does not spin: three nodes share a small machine.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=+S 1:1 +A 4 +sbwt none +sbwtdcpu none +sbwtdio "
            "none -kernel inet_dist_use_interface {127,0,0,1}",
            "/usr/lib/rabbitmq/bin/rabbitmq-server",
        )


class NatsNode(Node):
    """A server of NATS with JetStream, which its MQTT needs."""

    def __init__(self, root: Path, home: Path, number: int, ports: list[int]) -> None:
        super().__init__(root, home, number, ports[number - 1])
        self._client_port = ports[SIZE + number - 1]
        self._route_ports = ports[2 * SIZE : 3 * SIZE]

    def _command(self) -> tuple[str, ...]:
        routes = ", ".join(f'"nats://127.0.0.1:{port}"' for port in self._route_ports)
        config = self._home / f"{self.number}.conf"
        config.write_text(
            _NATS.format(
                number=self.number,
                port=self.port,
                client=self._client_port,
                route=self._route_ports[self.number - 1],
                routes=routes,
                disk=self._inside(f"{self.number}.disk"),
            )
        )
        return ("env", "GOMAXPROCS=1", "nats-server", "-c", self._inside(config.name))


class Cluster:
    """Three nodes that know each other."""

    def __init__(self, kind: Kind, title: str, nodes: tuple[Node, ...]) -> None:
        self.kind = kind
        self.title = title
        self.nodes = nodes

    def complete(self) -> None:
        """Start what was killed, and wait for it."""
        missing = [node for node in self.nodes if not node.alive]
        for node in missing:
            node.start()
        if missing:
            self.wait()

    def wait(self) -> None:
        """Wait until what is said on any node is heard on every node.

        Raises:
            AssertionError: that did not come about, with the last words of the nodes.
        """
        end_s = time.monotonic() + LONG_S
        while not all(node.serves for node in self.nodes) or not self._is_one():
            if time.monotonic() > end_s or not all(node.alive for node in self.nodes):
                said = [n.log_file.read_text(errors="replace")[-500:] for n in self.nodes]
                raise AssertionError(f"{self.title} did not come up: {said}")
            time.sleep(0.2)

    def _is_one(self) -> bool:
        heard: set[tuple[int, bytes]] = set()
        wanted = {(to.number, b"%d" % of.number) for to in self.nodes for of in self.nodes}
        with ExitStack() as closing:
            clients = [closing.enter_context(_probe(node, heard)) for node in self.nodes]
            end_s = time.monotonic() + 5
            while heard != wanted and time.monotonic() < end_s:
                for node, client in zip(self.nodes, clients, strict=True):
                    client.publish("probe/all", b"%d" % node.number)
                time.sleep(0.2)
        return heard == wanted


@contextmanager
def _probe(node: Node, heard: set[tuple[int, bytes]]) -> Iterator[mqtt.Client]:
    client = mqtt.Client(
        CallbackAPIVersion.VERSION2, f"probe-{node.number}", reconnect_on_failure=False
    )
    client.on_message = lambda _c, _u, message: heard.add((node.number, bytes(message.payload)))
    client.connect(node.host, node.port)
    client.loop_start()
    try:
        client.subscribe("probe/all")
        yield client
    finally:
        client.disconnect()
        client.loop_stop()


@contextmanager
def a_cluster(kind: Kind, root: Path) -> Iterator[Cluster]:
    """Three nodes of this kind that have found each other; stopped and cleared away at the end."""
    home = Path(tempfile.mkdtemp(prefix=f"{kind}-", dir=root / "srv"))
    ports = _quiet_ports(3 * SIZE + 1)
    with ExitStack() as closing:
        closing.callback(shutil.rmtree, home, ignore_errors=True)
        cookie = home / ".erlang.cookie"
        cookie.write_text(home.name)
        cookie.chmod(0o400)
        inside = "/" + str(home.relative_to(root))
        owner = ("chroot", str(root), "chown", "-R", "rabbitmq:rabbitmq", inside)
        subprocess.run(owner, check=True)
        nodes: tuple[Node, ...]
        if kind == "rabbitmq":
            title = f"RabbitMQ {package_version(root, 'rabbitmq-server')}"
            nodes = tuple(RabbitMqNode(root, home, n, ports) for n in range(1, SIZE + 1))
            epmd = ("epmd", "-address", "127.0.0.1", "-port", str(ports[-1]))
            closing.callback(tether.end, launch(root, epmd, None))
        else:
            title = f"NATS {package_version(root, 'nats-server')}"
            nodes = tuple(NatsNode(root, home, n, ports) for n in range(1, SIZE + 1))
        cluster = Cluster(kind, title, nodes)
        for node in nodes:
            closing.callback(node.close)
            node.start()
        cluster.wait()
        yield cluster


def launch(root: Path, command: tuple[str, ...], log: IO[bytes] | None) -> subprocess.Popen[bytes]:
    """Start a command in the root, as a user without rights."""
    clean = ("env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8")
    inside = ("chroot", "--userspec=rabbitmq:rabbitmq", str(root), *clean, *command)
    return tether.launch(inside, output=log, directory=root)


def _quiet_ports(count: int) -> list[int]:
    """Free ports that no outgoing connection is given while a node is away."""
    with ExitStack() as closing:
        found: list[int] = []
        while len(found) < count:
            probe = closing.enter_context(socket.socket())
            with suppress(OSError):
                probe.bind(("127.0.0.1", random.randint(15_000, 29_000)))
                found.append(int(probe.getsockname()[1]))
        return found
