"""A federation of real processes, with an enemy on the wire who alters what is published."""

from __future__ import annotations

import sqlite3
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from config.failures import ExitCode
from config.settings import Link
from federation.topics import Topics
from tests.hostile_wire import HostileWire, packet_size, payload_start
from tests.members import Authority
from tests.processes import Role, a_broker, a_coordinator, an_agent
from tests.stub_worker import ELEMENTS, a_stub_chunk, known_delta

TOPICS = Topics("flockwise", "default")
DEVICES, VERSIONS, MANY = ("one", "two", "three"), 8, 1000
CONTRIBUTIONS = "SELECT device, sequence FROM contributions JOIN updates USING (entry)"
RULE = {
    "trigger": "immediate",
    "cooldown": 0,
    "max_staleness": 100,
    "combine": "mean",
    "staleness": "constant",
}
TRANSFER = {"chunk_bytes": 4096, "silence_s": 0.4, "patience_s": 0.2}


def a_packet(topic: bytes, payload: bytes, qos: int) -> bytes:
    body = len(topic).to_bytes(2, "big") + topic + (b"\0\1" if qos else b"") + payload
    head = bytes([0x30 | qos << 1])
    return head + bytes([len(body) & 127 | 128, len(body) >> 7]) + body


@pytest.mark.parametrize("qos", [0, 1])
def test_the_payload_of_a_publication_is_found(qos: int) -> None:
    packet = a_packet(b"a/topic", b"x" * 300, qos)
    assert packet_size(packet + b"more") == len(packet)
    assert packet[payload_start(packet) :] == b"x" * 300
    assert all(packet_size(packet[:n]) is None for n in range(len(packet)))


def test_what_is_altered_on_the_wire_is_not_believed_and_the_sum_is_exact(tmp_path: Path) -> None:
    authority = Authority(TOPICS)
    state = tmp_path / "coordinator"
    roles: dict[str, Role] = {}
    wires: dict[str, HostileWire] = {}
    with ExitStack() as stack:
        broker = stack.enter_context(a_broker("auto", tmp_path))

        def settings(name: str, seed: int) -> dict[str, Any]:
            wires[name] = stack.enter_context(HostileWire(broker.port, seed))
            folder = tmp_path / f"membership-{name}"
            port = wires[name].port
            authority.membership(folder, "" if name == "coordinator" else name, port)
            link = Link(port=port, backoff_base_s=0.2, backoff_cap_s=1)
            return {"membership": folder, "link": link, "transfer": TRANSFER, "stub": True}

        plan = {"model": "stub", "codec": "float32"}
        roles["coordinator"] = stack.enter_context(
            a_coordinator(
                broker,
                state,
                training=plan,
                aggregation=RULE,
                versions=VERSIONS,
                standing={"quarantine": "manual"},
                **settings("coordinator", 0),
            )
        )
        for seed, device in enumerate(DEVICES, 1):
            chunk = a_stub_chunk(tmp_path / f"{device}.json", MANY)
            words = settings(device, seed)
            agent = an_agent(broker, tmp_path / device, chunk, device, **words)
            roles[device] = stack.enter_context(agent)
        assert roles["coordinator"].end() == ExitCode.OK
    with closing(sqlite3.connect(state / "ledger.sqlite")) as ledger:
        used = ledger.execute(CONTRIBUTIONS).fetchall()
        refused = ledger.execute("SELECT device, refusal FROM updates WHERE refusal NOT NULL")
        assert refused.fetchall() == []
    assert len(used) == len(set(used)) == VERSIONS
    total = np.zeros(ELEMENTS, np.int64)
    for device, sequence in used:
        total += known_delta(device, sequence).astype(np.int64)
    model = load_file(state / "versions" / f"{VERSIONS:06}.safetensors")["w"]
    assert model.tobytes() == total.astype(np.float32).tobytes()
    told = [role.told("message not believed") for role in roles.values()]
    assert any(told)
    altered = sum(wire.altered for wire in wires.values())
    carried = sum(wire.carried for wire in wires.values())
    print(f"{altered} of {carried} publications were altered")
    assert altered > 10
    devices = [wire for name, wire in wires.items() if name in DEVICES]
    for device, sequence in used:
        plain = known_delta(device, sequence).astype("<f4").tobytes()
        assert not any(plain[:64] in said for wire in devices for said in wire.read)
