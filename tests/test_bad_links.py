"""Over links that break again and again, real roles get everything across, once and hardly more."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, closing
from functools import partial
from pathlib import Path

import pytest

from broker.address import listening_address
from broker.start import start
from config.settings import BrokerSettings, Link
from tests.bad_link import BadLink, LinkFaults
from tests.bad_wire import Wire, netem_wire, relayed_wire
from tests.processes import a_broker, a_coordinator, an_agent, wait_until
from tests.stub_worker import a_stub_chunk

MOST_BYTES = 1.3
BYTES_PER_S = 1_000_000.0


@pytest.mark.parametrize(
    ("megabytes", "cut_every_s"),
    [
        pytest.param(5, 2.0, id="5 MB"),
        pytest.param(25, 5.0, id="25 MB", marks=[pytest.mark.long, pytest.mark.timeout(600)]),
    ],
)
def test_what_is_cut_again_and_again_arrives_and_is_hardly_sent_twice(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    megabytes: int,
    cut_every_s: float,
) -> None:
    size = megabytes * 1_000_000
    monkeypatch.setenv("STUB_ELEMENTS", str(size // 4))
    plan = {"model": "tutorial-cnn", "codec": "float32"}
    patience_s = 10.0 * megabytes + 60
    faults = LinkFaults(bytes_per_s=BYTES_PER_S, cut_every_s=(cut_every_s, cut_every_s))
    with (
        a_broker("mosquitto", tmp_path / "broker") as broker,
        a_coordinator(
            broker,
            tmp_path / "coordinator",
            stub=True,
            training=plan,
            aggregation={"buffer_size": 1},
        ),
        BadLink(broker.port) as link,
        an_agent(
            broker,
            tmp_path / "agent",
            a_stub_chunk(tmp_path / "one", updates=1),
            "one",
            stub=True,
            link=Link(port=link.port),
        ) as agent,
    ):
        agent.wait_for("version fetched")  # the first version is all zeros, like an empty file
        link.faults = faults
        before = link.bytes_up
        within(patience_s, lambda: bool(agent.told("update accepted") + agent.told("update known")))
        up, cuts_up = link.bytes_up - before, link.cuts
        before = link.bytes_down
        within(patience_s, lambda: len(agent.told("version fetched")) == 2)
        down, cuts_down = link.bytes_down - before, link.cuts - cuts_up
    with capsys.disabled():
        print(
            f"\n{megabytes} MB at 1 MB/s, cut every {cut_every_s:g} s: "
            f"up {up / size:.3f} times its size, {cuts_up} cuts; "
            f"down {down / size:.3f} times, {cuts_down} cuts"
        )
    assert cuts_up >= 2
    assert up <= MOST_BYTES * size
    assert down <= MOST_BYTES * size


@pytest.mark.parametrize("make_wire", [netem_wire, relayed_wire])
def test_over_a_wire_that_loses_packets_and_falls_silent_each_update_arrives_once(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    make_wire: Callable[[], AbstractContextManager[Wire]],
) -> None:
    count = 4
    monkeypatch.setenv("STUB_ELEMENTS", "15000")  # 60 kB, each way, for each update
    plan = {"model": "tutorial-cnn", "codec": "float32"}
    state = tmp_path / "coordinator"
    # The other end of the wire is a network of its own, which the product would not serve unasked.
    anywhere = partial(listening_address, loopback_only=False)
    monkeypatch.setattr(
        "broker.start.listening_address", lambda host, port, **_: anywhere(host, port)
    )
    with make_wire() as wire:
        listening = BrokerSettings(kind="mosquitto", host=wire.host, port=0, insecure=True)
        with (
            start(listening, tmp_path / "broker") as broker,
            a_coordinator(broker, state, stub=True, training=plan, aggregation={"buffer_size": 1}),
            an_agent(
                broker,
                tmp_path / "agent",
                a_stub_chunk(tmp_path / "one", updates=count),
                "one",
                stub=True,
                under=wire.under,
                link=Link(host=broker.host, port=broker.port, keepalive_s=5, backoff_base_s=1),
            ) as agent,
        ):

            def judged() -> int:
                return len(agent.told("update accepted") + agent.told("update known"))

            wait_until(lambda: judged() >= 1)
            wire.cut()
            assert "no byte came or left" in agent.wait_for("link down")["reason"]
            wire.mend()
            wait_until(lambda: judged() >= count)
        assert applied(state) == list(range(count))


def within(patience_s: float, done: Callable[[], bool]) -> None:
    give_up_s = time.monotonic() + patience_s
    while not done():
        assert time.monotonic() < give_up_s, "it did not come about"
        time.sleep(0.02)


def applied(state: Path) -> list[int]:
    """The numbers of the updates in all versions, as often as they are in one."""
    query = "SELECT u.sequence FROM contributions JOIN updates u USING (entry) ORDER BY 1"
    with closing(sqlite3.connect(state / "ledger.sqlite")) as ledger:
        return [row[0] for row in ledger.execute(query)]
