"""A device whose disk is full: it says so, loses nothing, and goes on by itself."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import paho.mqtt.subscribe
import pytest
from safetensors.numpy import load_file

from broker.start import RunningBroker
from device_agent.outbox import Outbox
from device_agent.vocabulary import TrainingEnded
from federation.compression import encode
from federation.files import is_storage_full
from federation.messages import DevicePresence, decode
from federation.topics import Topics
from tests.processes import Role, a_broker, a_coordinator, an_agent, wait_until
from tests.small_disk import SmallDisk, a_small_disk
from tests.specimens import a_header
from tests.stub_worker import a_stub_chunk, known_delta

ELEMENTS = 50_000
MODEL_KIB = -(-4 * ELEMENTS // 1024)
FULL = "storage full"
ROOM = "storage has room again"
EXACT_SUM = {
    "combine": "mean",
    "cooldown": 0,
    "reanchor": False,
    "step_size": 1.0,
    "staleness": "constant",
    "max_staleness": 10_000,
}


@dataclass
class Bench:
    """A broker, and a device whose state lies on a small disk of its own."""

    broker: RunningBroker
    disk: SmallDisk
    folder: Path
    updates: int = 4

    @property
    def state(self) -> Path:
        return self.disk.path / "state"

    @property
    def gateway(self) -> Path:
        return self.folder / "gateway"

    def agent(self, train_s: float = 0.05, **settings: Any) -> Role:
        chunk = a_stub_chunk(self.folder / "one.json", self.updates, train_s)
        return an_agent(self.broker, self.state, chunk, "one", stub=True, **settings)

    def coordinator(self) -> Role:
        return a_coordinator(
            self.broker,
            self.gateway,
            stub=True,
            strategy="fedasync",
            aggregation=EXACT_SUM,
            training={"codec": "float32"},
            keep_versions=1000,
        )

    def presence(self) -> DevicePresence:
        """What is retained on the device's topic."""
        topic = Topics("flockwise", "default").device("one")
        host, port = self.broker.host, self.broker.port
        simple: Any = paho.mqtt.subscribe.simple
        message = simple(topic, qos=1, hostname=host, port=port)
        presence = decode(message.payload)
        assert isinstance(presence, DevicePresence)
        return presence

    def wait_for_paused(self, why: str) -> None:
        wait_until(lambda: self.presence().paused == why)

    def check(self, agent: Role, coordinator: Role) -> None:
        """All updates arrived exactly once, from one process, and nothing is left behind."""
        coordinator.wait_for("version made", self.updates)
        wait_until(lambda: len(agent.told("update accepted")) >= self.updates)
        self.wait_for_paused("")
        assert [agent.stop(), coordinator.stop()] == [0, 0]
        assert not [line for line in agent.raw + coordinator.raw if "Traceback" in line]
        expected = np.zeros(ELEMENTS, np.float32)
        for sequence in range(self.updates):
            expected += known_delta("one", sequence, ELEMENTS)
        newest = self.gateway / "versions" / f"{self.updates:06}.safetensors"
        assert (load_file(newest)["w"] == expected).all()
        with closing(sqlite3.connect(self.gateway / "ledger.sqlite")) as ledger:
            entered = ledger.execute("SELECT sequence FROM updates ORDER BY sequence").fetchall()
        assert entered == [(sequence,) for sequence in range(self.updates)]
        with closing(sqlite3.connect(self.state / "outbox" / "outbox.sqlite")) as outbox:
            assert outbox.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            assert outbox.execute("SELECT count(*) FROM updates").fetchone() == (0,)
        assert list((self.state / "outbox").glob("*.part")) == []


@contextmanager
def a_bench(folder: Path, kib: int = 2048, options: str = "", **fields: Any) -> Iterator[Bench]:
    with (
        a_broker("auto", folder / "broker") as broker,
        a_small_disk(folder / "disk", kib, options) as disk,
    ):
        yield Bench(broker, disk, folder, **fields)


@pytest.fixture(autouse=True)
def _look_again_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STUB_STORAGE_RETRY_S", "0.3")
    monkeypatch.setenv("STUB_ELEMENTS", str(ELEMENTS))


def test_a_device_that_cannot_fetch_says_so_and_fetches_when_there_is_room(tmp_path: Path) -> None:
    with a_bench(tmp_path) as bench, bench.agent() as agent:
        agent.wait_for("link up")
        bench.disk.fill(leave_bytes=100 * 1024)
        with bench.coordinator() as coordinator:
            line = agent.wait_for(FULL)
            assert line["level"] == "warning"
            assert line["unwritten"] == "version 0"
            assert line["hint"] == f"free space in {bench.state}"
            bench.wait_for_paused(FULL)
            assert agent.told("version fetched") == []
            bench.disk.free()
            agent.wait_for(ROOM)
            bench.check(agent, coordinator)
        assert len(agent.told(FULL)) == len(agent.told(ROOM)) == 1


def test_what_was_trained_waits_for_room_and_is_not_trained_again(tmp_path: Path) -> None:
    with (
        a_bench(tmp_path, updates=2) as bench,
        bench.coordinator() as coordinator,
    ):
        with bench.agent(train_s=1.0) as agent:
            wait_for_the_worker(agent)
            bench.disk.fill()
            assert agent.wait_for(FULL)["unwritten"] == "the update on version 0"
            bench.wait_for_paused(FULL)
            assert agent.told("update in outbox") == []
            bench.disk.free()
            agent.wait_for("update in outbox")
            bench.check(agent, coordinator)
        first = [line for line in agent.told("version fetched") if line["version"] == 0]
        assert len(first) == 1


def test_an_update_that_the_outbox_cannot_take_is_taken_later(tmp_path: Path) -> None:
    with (
        a_bench(tmp_path, updates=2) as bench,
        bench.coordinator() as coordinator,
        bench.agent(train_s=1.0) as agent,
    ):
        agent.wait_for("version fetched")
        # Room for the worker's file, to the block, and none for the transaction.
        blocks = -(-4 * ELEMENTS // 4096)
        bench.disk.fill(leave_bytes=blocks * 4096)
        agent.wait_for(FULL)
        bench.wait_for_paused(FULL)
        assert (bench.state / "outbox" / "0.update").stat().st_size == 4 * ELEMENTS
        bench.disk.free()
        agent.wait_for(ROOM)
        bench.check(agent, coordinator)


def wait_for_the_worker(agent: Role) -> None:
    """Wait until it trains."""
    pid = agent.process.pid
    wait_until(lambda: Path(f"/proc/{pid}/task/{pid}/children").read_text() != "")


def a_full_outbox(bench: Bench, ledger: bytes) -> None:
    """Lay down all updates of the device, on version 0, as an earlier start would have."""
    outbox = Outbox(bench.state / "outbox")
    plan = {"codec": "float32"}
    for sequence in range(bench.updates):
        payload, _ = outbox.next_paths()
        payload.write_bytes(encode("float32", known_delta("one", sequence, ELEMENTS)))
        header = a_header(ledger=ledger, version=0)
        header = header.model_copy(update={"plan": header.plan.model_copy(update=plan)})
        outbox.commit(header, TrainingEnded(0, 1, 1, 0.0, {}), 64 * 1024)
    outbox.close()


def test_a_full_disk_does_not_stop_delivery_which_makes_room(tmp_path: Path) -> None:
    with a_bench(tmp_path) as bench:
        with bench.coordinator() as first:
            first.wait_for("link up")
        with closing(sqlite3.connect(bench.gateway / "ledger.sqlite")) as db:
            (ledger,) = db.execute("SELECT ledger FROM identity").fetchone()
        (bench.state / "outbox").mkdir(parents=True)
        a_full_outbox(bench, ledger)
        with bench.agent() as agent:
            agent.wait_for("link up")
            bench.disk.fill()
            with bench.coordinator() as coordinator:
                # Nobody frees anything: the room is that of the updates that were delivered.
                bench.check(agent, coordinator)


def test_a_start_on_a_full_disk_waits_for_room(tmp_path: Path) -> None:
    with a_bench(tmp_path, updates=1) as bench, bench.coordinator() as coordinator:
        bench.disk.fill()
        with bench.agent() as agent:
            line = agent.wait_for("storage full: the start waits for room")
            assert line["hint"] == f"free space in {bench.state}"
            bench.disk.free()
            bench.check(agent, coordinator)
        assert len(agent.told("storage full: the start waits for room")) == 1


def test_a_disk_without_room_for_another_file_is_full_too(tmp_path: Path) -> None:
    with (
        a_bench(tmp_path, options="nr_inodes=24") as bench,
        bench.coordinator() as coordinator,
        bench.agent(train_s=0.5) as agent,
    ):
        agent.wait_for("version fetched")
        names = (bench.disk.path / f"file-{n}" for n in range(100))
        taken = take_all(names)
        agent.wait_for(FULL)
        bench.wait_for_paused(FULL)
        for path in taken:
            path.unlink()
        agent.wait_for(ROOM)
        bench.check(agent, coordinator)


def test_a_start_without_room_for_another_file_waits(tmp_path: Path) -> None:
    with (
        a_bench(tmp_path, options="nr_inodes=24", updates=1) as bench,
        bench.coordinator() as coordinator,
    ):
        (bench.state / "outbox").mkdir(parents=True)
        Outbox(bench.state / "outbox").close()
        taken = take_all(bench.disk.path / f"file-{n}" for n in range(100))
        taken.pop().unlink()  # for the lock
        with bench.agent() as agent:
            agent.wait_for("storage full: the start waits for room")
            for path in taken:
                path.unlink()
            bench.check(agent, coordinator)


def take_all(names: Iterator[Path]) -> list[Path]:
    """Make files until there is no room for another one."""
    taken = []
    try:
        for path in names:
            path.touch()
            taken.append(path)
    except OSError as error:
        if not is_storage_full(error):
            raise
    return taken


def test_a_disk_that_fills_and_empties_again_and_again_loses_nothing(tmp_path: Path) -> None:
    sizes_kib = [4 * n for n in range(16)] + [MODEL_KIB * n // 8 for n in range(3, 27)]
    assert len(sizes_kib) == 40
    with (
        a_bench(tmp_path, updates=120) as bench,
        bench.coordinator() as coordinator,
    ):
        with bench.agent(train_s=0.05) as agent:
            agent.wait_for("update accepted")
            for size_kib in sizes_kib:
                accepted = len(agent.told("update accepted"))
                bench.disk.fill(size_kib * 1024)
                # Where all fits it goes on; else it says so.
                while len(agent.told("update accepted")) < accepted + 2:
                    if len(agent.told(FULL)) > len(agent.told(ROOM)):
                        break  # it says so now, or still
                    time.sleep(0.01)
                bench.disk.free()
                agent.wait_for("update accepted", accepted + 1)
            told = len(agent.told(FULL))
            bench.check(agent, coordinator)
        assert told >= 10
        assert len(agent.told(FULL)) == len(agent.told(ROOM))


@pytest.mark.parametrize("free_kib", range(0, 164, 4))
def test_an_outbox_of_any_room_keeps_what_it_committed(tmp_path: Path, free_kib: int) -> None:
    history = _History()
    with a_small_disk(tmp_path / "disk", 512) as disk:
        disk.fill(free_kib * 1024)
        history.work_in(disk.path)
        history.work_in(disk.path)
        disk.free()
        outbox = Outbox(disk.path)
        assert [offer.sequence for offer in outbox.offers()] == history.waiting
        history.work_on(outbox)
        outbox.close()
        with closing(sqlite3.connect(disk.path / "outbox.sqlite")) as file:
            assert file.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert history.committed == list(range(len(history.committed))), "no number twice"
        assert len(history.committed) >= 12, "with room again it works"


class _History:
    """What an outbox was told to do, until its disk was full."""

    def __init__(self) -> None:
        self.committed: list[int] = []
        self.waiting: list[int] = []

    def work_in(self, folder: Path) -> None:
        with _a_full_disk_is_no_fault(), closing(Outbox(folder)) as outbox:
            self.work_on(outbox)

    def work_on(self, outbox: Outbox) -> None:
        for _ in range(12):
            with _a_full_disk_is_no_fault():
                payload, _ = outbox.next_paths()
                payload.write_bytes(bytes(5000))
                offer = outbox.commit(a_header(version=1), TrainingEnded(1, 1, 1, 0.0, {}), 1024)
                self.committed.append(offer.sequence)
                self.waiting.append(offer.sequence)
                if offer.sequence % 2:
                    self.waiting.remove(offer.sequence)
                    outbox.forget(offer.sequence)


@contextmanager
def _a_full_disk_is_no_fault() -> Iterator[None]:
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        if not is_storage_full(error):
            raise
