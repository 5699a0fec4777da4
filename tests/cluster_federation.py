"""The same federation, unchanged, on a clustered broker: `make test-cluster`.

The coordinator is on node 1; two devices are on node 2, two on node 3, and two behind a balancer
over nodes 2 and 3. Links are slow enough that a killed node is killed in mid-transfer. The workers
give known vectors of whole numbers, so the last version must be their exact sum.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from config.failures import ExitCode
from config.reporting import Reporting
from config.sections import Aggregation, TrainingPlan
from config.settings import AgentSettings, CoordinatorSettings, Link
from tests.bad_link import BadLink, LinkFaults
from tests.cluster_balancer import Balancer
from tests.cluster_nodes import Cluster, Kind, Node, a_cluster
from tests.cluster_root import CannotBeMadeError, cluster_root
from tests.processes import Role
from tests.stub_worker import a_stub_chunk, known_delta

ELEMENTS = 1_000_000  # 4 MB, 33 chunks
BYTES_PER_S = 1_000_000.0
UPDATES_EACH = 10
LONG_S = 180.0
KILLED = (2, 1, 3, 1)

# Each update makes a version and counts in full: versions add up to the sum of all updates.
EACH_COUNTS = Aggregation(trigger="immediate", staleness="constant", max_staleness=10_000)


@pytest.fixture(scope="module", params=["rabbitmq", "nats"])
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    kind: Kind = request.param
    try:
        root = cluster_root()
    except CannotBeMadeError as reason:
        pytest.skip(str(reason))
    with a_cluster(kind, root) as running:
        yield running


@dataclass(frozen=True, slots=True)
class Federation:
    """One coordinator and some agents that make known vectors, each on a link of its own."""

    name: str
    directory: Path
    closing: ExitStack

    @property
    def state(self) -> Path:
        return self.directory / "coordinator"

    def link(self, port: int, bytes_per_s: float | None = None) -> BadLink:
        return self.closing.enter_context(BadLink(port, faults=LinkFaults(bytes_per_s)))

    def coordinator(self, port: int, aggregation: Aggregation, **settings: Any) -> Role:
        whole = CoordinatorSettings(
            state_dir=self.state,
            training=TrainingPlan(model="stub", codec="float32"),
            reporting=Reporting(wandb="off"),
            aggregation=aggregation,
            **self._common(port),
            **settings,
        )
        role = Role("coordinator", "run", settings=whole, stub=True)
        return self.closing.enter_context(role)

    def agent(self, port: int, device: str, updates: int) -> Role:
        whole = AgentSettings(
            state_dir=self.directory / device,
            device=device,
            chunk=a_stub_chunk(self.directory / f"{device}.json", updates),
            **self._common(port),
        )
        return self.closing.enter_context(Role("agent", "run", settings=whole, stub=True))

    def _common(self, port: int) -> dict[str, Any]:
        return {
            "federation": {"name": self.name},
            "link": Link(port=port, backoff_base_s=0.2, backoff_cap_s=1),
            "log_format": "json",
            "insecure": True,
        }


@pytest.fixture
def federation(
    request: pytest.FixtureRequest,
    cluster: Cluster,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Federation]:
    cluster.complete()
    monkeypatch.setenv("STUB_ELEMENTS", str(ELEMENTS))
    name = request.node.originalname.removeprefix("test_").replace("_", "-")[:40]
    with ExitStack() as closing_all:
        yield Federation(name, tmp_path, closing_all)


@pytest.mark.timeout(900)
def test_killed_nodes_lose_nothing_and_double_nothing(
    cluster: Cluster, federation: Federation, capsys: pytest.CaptureFixture[str]
) -> None:
    began_s = time.monotonic()
    one, two, three = cluster.nodes
    balancer = federation.closing.enter_context(Balancer([two.port, three.port]))
    ports: dict[str, Node | Balancer] = {"two-a": two, "two-b": two}
    ports |= {"three-a": three, "three-b": three, "behind-a": balancer, "behind-b": balancer}
    links = {device: federation.link(way.port, BYTES_PER_S) for device, way in ports.items()}
    middle = federation.link(one.port)
    coordinator = federation.coordinator(middle.port, EACH_COUNTS)
    agents = {
        device: federation.agent(link.port, device, UPDATES_EACH) for device, link in links.items()
    }
    for device in agents:
        _wait_for_more(coordinator, device, 0)
    for number in KILLED:
        node = cluster.nodes[number - 1]
        on_it = [link for device, link in links.items() if ports[device] is node] or [middle]
        pause_s = _kill_and_bring_back(node, on_it, coordinator, balancer)
        cluster.wait()
        _tell(capsys, f"{cluster.title}, node {number}: {pause_s}")
    for device, agent in agents.items():
        _wait_for_receipts(device, agent)
        assert agent.stop() == ExitCode.OK, device
    coordinator.wait_for("version made", len(agents) * UPDATES_EACH)
    assert coordinator.stop() == ExitCode.OK, coordinator.raw[-12:]
    _check_that_each_counts_once(federation.state, tuple(agents))
    relinked = {device: link.connections for device, link in links.items()}
    _tell(capsys, f"{cluster.title}: {time.monotonic() - began_s:.0f} s, connections {relinked}")


@pytest.mark.timeout(300)
def test_a_late_device_gets_the_model_on_a_node_that_was_not_told_it(
    cluster: Cluster, federation: Federation, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two, _ = cluster.nodes
    coordinator = federation.coordinator(one.port, EACH_COUNTS, versions=2)
    federation.agent(one.port, "first", updates=1).wait_for("update accepted")
    link = federation.link(two.port)
    time.sleep(2)  # what the nodes tell each other they have told by now
    began_s = time.monotonic()
    agent = federation.agent(link.port, "late", updates=1)
    agent.wait_for("version fetched")
    came_bytes = link.bytes_down
    agent.wait_for("update accepted")
    took_s = time.monotonic() - began_s
    assert coordinator.end() == ExitCode.OK
    assert came_bytes >= 4 * ELEMENTS
    _check_that_each_counts_once(federation.state, ("first", "late"), updates_each=1)
    _tell(
        capsys,
        f"{cluster.title}: a late device delivered after {took_s:.1f} s, "
        f"{came_bytes / (4 * ELEMENTS):.2f} times the model came down",
    )


@pytest.mark.timeout(300)
def test_a_coordinator_that_comes_last_learns_who_is_there(
    cluster: Cluster, federation: Federation, capsys: pytest.CaptureFixture[str]
) -> None:
    devices = {f"early-{node.number}": node for node in cluster.nodes}
    agents = [federation.agent(node.port, device, 1) for device, node in devices.items()]
    for agent in agents:
        agent.wait_for("link up")
    time.sleep(6)  # their first words are over
    rule = EACH_COUNTS.model_copy(update={"wait_for": len(agents)})
    coordinator = federation.coordinator(cluster.nodes[0].port, rule, versions=len(agents))
    coordinator.wait_for("link up")
    linked_s = time.monotonic()
    while not coordinator.told("version published"):
        took_s = time.monotonic() - linked_s
        assert took_s < LONG_S, f"it does not know who is there: {coordinator.raw[-12:]}"
        time.sleep(0.05)
    assert coordinator.end() == ExitCode.OK
    _check_that_each_counts_once(federation.state, tuple(devices), updates_each=1)
    _tell(capsys, f"{cluster.title}: a coordinator knew all devices after {took_s:.1f} s")


def _kill_and_bring_back(
    node: Node, on_it: list[BadLink], coordinator: Role, balancer: Balancer
) -> str:
    """Kill a node while all its links carry; start it again once the others have gone on."""
    end_s = time.monotonic() + LONG_S
    while not all(_carries(link) for link in on_it):
        assert time.monotonic() < end_s, "nothing is under way there"
    moved = balancer.open[node.port]
    before = _accepted(coordinator)
    node.kill()
    killed_s = time.monotonic()
    if node.number == 1:
        time.sleep(3)  # the coordinator is on it: all wait
    else:
        # The devices behind the balancer go on without the node, and so do those on the other one.
        for device in ("behind-a", "behind-b"):
            _wait_for_more(coordinator, device, before.get(device, 0))
    went_on_s = time.monotonic() - killed_s
    node.start()
    on_node = {2: ("two-a", "two-b"), 3: ("three-a", "three-b"), 1: tuple(before)}[node.number]
    for device in on_node:
        _wait_for_more(coordinator, device, before.get(device, 0))
    back_s = time.monotonic() - killed_s
    return f"{moved} moved, started again after {went_on_s:.1f} s, all delivered by {back_s:.1f} s"


def _carries(link: BadLink) -> bool:
    """Whether at least a chunk's worth of bytes passes just now."""
    before = link.bytes_up + link.bytes_down
    time.sleep(0.05)
    return link.bytes_up + link.bytes_down - before > 10_000


def _accepted(coordinator: Role) -> dict[str, int]:
    """How many updates of each device were accepted."""
    counts: dict[str, int] = {}
    for line in coordinator.told("update accepted"):
        counts[line["device"]] = counts.get(line["device"], 0) + 1
    return counts


def _wait_for_more(coordinator: Role, device: str, than: int) -> None:
    """Wait until more updates of this device were accepted."""
    end_s = time.monotonic() + LONG_S
    while _accepted(coordinator).get(device, 0) <= min(than, UPDATES_EACH - 1):
        assert time.monotonic() < end_s, f"{device} is stuck: {coordinator.raw[-12:]}"
        assert coordinator.process.poll() in (None, ExitCode.OK), coordinator.raw[-12:]
        time.sleep(0.05)


def _wait_for_receipts(device: str, agent: Role) -> None:
    """Wait until a device knows of all its updates that they were judged."""
    end_s = time.monotonic() + LONG_S
    while len(agent.told("update accepted")) + len(agent.told("update known")) < UPDATES_EACH:
        assert time.monotonic() < end_s, f"{device} is stuck: {agent.raw[-12:]}"
        time.sleep(0.05)


def _check_that_each_counts_once(
    state: Path, devices: tuple[str, ...], updates_each: int = UPDATES_EACH
) -> None:
    """The ledger has every update in one version, and the last version is their exact sum."""
    made = {(device, number) for device in devices for number in range(updates_each)}
    with closing(sqlite3.connect(state / "ledger.sqlite")) as ledger:
        counted = ledger.execute(
            "SELECT device, sequence FROM contributions JOIN updates USING (entry)"
        ).fetchall()
        (last,) = ledger.execute("SELECT max(version) FROM versions").fetchone()
    assert len(counted) == len(made), "an update counts twice, or not at all"
    assert set(counted) == made
    tensors = load_file(state / "versions" / f"{last:06}.safetensors")
    total = np.zeros(ELEMENTS, np.float32)
    for device, number in made:
        total += known_delta(device, number, ELEMENTS)
    assert np.array_equal(tensors["w"], total)


def _tell(capsys: pytest.CaptureFixture[str], line: str) -> None:
    with capsys.disabled():
        print(f"\n{line}", end="", flush=True)
